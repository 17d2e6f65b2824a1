//! How many connections each address holds, so that one machine cannot take the room of all.

use hashbrown::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// That an address has too many connections is logged this often.
const LOGGED: Duration = Duration::from_secs(60);

/// The connections of each address.
#[derive(Debug)]
pub struct Sources {
    /// For addresses of private networks, and for all others.
    most: (usize, usize),
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    counts: HashMap<IpAddr, usize>,
    logged: Option<Instant>,
}

/// A connection that is counted until this is dropped.
#[derive(Debug)]
pub struct Counted {
    sources: Arc<Sources>,
    source: IpAddr,
}

impl Sources {
    /// An address of a private network may hold `private` connections, any other one `public`.
    pub fn new(private: usize, public: usize) -> Arc<Sources> {
        Arc::new(Sources { most: (private, public), state: Mutex::default() })
    }

    /// Counts a connection of `address`. `None`: it has too many.
    pub fn begin(self: &Arc<Self>, address: IpAddr) -> Option<Counted> {
        let (address, source) = (address.to_canonical(), source_of(address));
        let most = if is_private(address) { self.most.0 } else { self.most.1 };
        let mut state = self.lock();
        let count = state.counts.get(&source).copied().unwrap_or_default();
        if count >= most {
            if state.logged.is_none_or(|at| at.elapsed() >= LOGGED) {
                state.logged = Some(Instant::now());
                tracing::warn!(%address, connections = count, "an address has too many connections; see `limits`");
            }
            return None;
        }
        state.counts.insert(source, count.saturating_add(1));
        Some(Counted { sources: Arc::clone(self), source })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let mut state = self.sources.lock();
        match state.counts.get_mut(&self.source) {
            Some(count) if *count > 1 => *count = count.saturating_sub(1),
            _ => _ = state.counts.remove(&self.source),
        }
    }
}

/// What a machine is told from others by, whichever of its addresses it uses: a private address by itself, and of a public
/// one of IPv6 its /64.
pub fn source_of(address: IpAddr) -> IpAddr {
    let address = address.to_canonical();
    if is_private(address) { address } else { network(address) }
}

/// Loopback, link-local and private addresses (RFC 1918, RFC 4193), and those of carriers (RFC 6598), which clouds use for
/// pods.
fn is_private(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            let [first, second, ..] = v4.octets();
            v4.is_loopback() || v4.is_private() || v4.is_link_local() || (first == 100 && second & 0xC0 == 64)
        }
        IpAddr::V6(v6) => v6.is_loopback() || v6.is_unique_local() || v6.is_unicast_link_local(),
    }
}

/// Whoever has one public IPv6 address has all of its /64.
fn network(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX)).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn begin(sources: &Arc<Sources>, address: &str) -> Option<Counted> {
        sources.begin(address.parse().unwrap())
    }

    #[test]
    fn each_address_has_so_many_connections() {
        let sources = Sources::new(2, 1);
        let held = [begin(&sources, "10.0.0.1"), begin(&sources, "::ffff:10.0.0.1")];
        assert!(held.iter().all(Option::is_some));
        assert!(begin(&sources, "10.0.0.1").is_none());
        assert!(begin(&sources, "10.0.0.2").is_some(), "another one");
        let _public = begin(&sources, "203.0.113.7");
        assert!(begin(&sources, "203.0.113.7").is_none());
        drop(held);
        assert!(begin(&sources, "10.0.0.1").is_some(), "they have ended");
        assert_eq!(sources.lock().counts.len(), 1, "what is not there is not remembered");
    }

    #[test]
    fn a_network_of_ipv6_is_one_machine() {
        let sources = Sources::new(2, 1);
        let _one = begin(&sources, "2001:db8::1");
        assert!(begin(&sources, "2001:db8::2").is_none());
        assert!(begin(&sources, "2001:db8:0:1::1").is_some());
        for private in ["127.0.0.1", "::1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "100.64.0.1", "fd00::1", "fe80::1"]
        {
            assert!(is_private(private.parse().unwrap()), "{private}");
        }
        for public in ["203.0.113.7", "100.128.0.1", "172.32.0.1", "2001:db8::1"] {
            assert!(!is_private(public.parse().unwrap()), "{public}");
        }
    }
}

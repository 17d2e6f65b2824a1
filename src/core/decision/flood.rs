//! Limits floods of bad signatures: after this many, new tokens of a source are refused without a check.

use crate::policy::limits::Limit;
use crate::time::Timestamp;
use lru::LruCache;
use std::net::IpAddr;
use std::num::NonZeroUsize;

/// The number of sources that a worker remembers: those that sent a bad signature most recently.
const SOURCES: NonZeroUsize = NonZeroUsize::new(4096).unwrap();

/// The sources that sent bad signatures recently.
#[derive(Debug)]
pub(crate) struct Flood {
    limit: Limit,
    sources: LruCache<Option<Source>, Allowance>,
}

/// An IPv4 address, or a /64 of IPv6, in which a host can choose its addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Source {
    V4([u8; 4]),
    V6([u8; 8]),
}

/// The number of failures that a source had left when it last failed.
#[derive(Debug, Clone, Copy)]
struct Allowance {
    left: u32,
    at: Timestamp,
}

impl Flood {
    /// No source has failed yet.
    pub(crate) fn new(limit: Limit) -> Flood {
        Flood { limit, sources: LruCache::new(SOURCES) }
    }

    /// Whether no source has failed recently, so that the source of a request need not be read.
    pub(crate) fn is_calm(&self) -> bool {
        self.sources.is_empty()
    }

    /// Whether `source` has no failure left. All requests of unknown source count as one source.
    pub(crate) fn is_exhausted(&mut self, source: Option<IpAddr>, now: Timestamp) -> bool {
        let source = source.map(Source::from);
        let Some(allowance) = self.sources.peek(&source).map(|allowance| allowance.at_time(now, self.limit)) else {
            return false;
        };
        if allowance.left >= self.limit.burst {
            self.sources.pop(&source);
        }
        allowance.left == 0
    }

    /// Records that a signature from `source` was checked and is bad.
    pub(crate) fn failed(&mut self, source: Option<IpAddr>, now: Timestamp) {
        let source = source.map(Source::from);
        let fresh = Allowance { left: self.limit.burst, at: now };
        let before = self.sources.get(&source).map_or(fresh, |allowance| allowance.at_time(now, self.limit));
        self.sources.put(source, Allowance { left: before.left.saturating_sub(1), ..before });
    }
}

impl Allowance {
    /// The failures left at `now`. If the clock was set back, none are added.
    fn at_time(self, now: Timestamp, limit: Limit) -> Allowance {
        let seconds = u32::try_from(now.since(self.at).0).unwrap_or(u32::MAX);
        let left = self.left.saturating_add(limit.per_second.saturating_mul(seconds)).min(limit.burst);
        Allowance { left, at: self.at.max(now) }
    }
}

impl From<IpAddr> for Source {
    fn from(address: IpAddr) -> Source {
        match address.to_canonical() {
            IpAddr::V4(address) => Source::V4(address.octets()),
            IpAddr::V6(address) => Source::V6(address.octets().first_chunk().copied().unwrap_or_default()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Limit = Limit { per_second: 2, burst: 5 };

    fn address(text: &str) -> Option<IpAddr> {
        Some(text.parse().unwrap())
    }

    #[test]
    fn a_source_may_fail_so_often_and_then_at_a_rate() {
        let mut flood = Flood::new(LIMIT);
        let (bad, good) = (address("10.0.0.1"), address("10.0.0.2"));
        assert!(flood.is_calm());
        for _ in 0..5 {
            assert!(!flood.is_exhausted(bad, Timestamp(0)));
            flood.failed(bad, Timestamp(0));
        }
        assert!(flood.is_exhausted(bad, Timestamp(0)));
        assert!(!flood.is_exhausted(good, Timestamp(0)));
        assert!(!flood.is_exhausted(None, Timestamp(0)));
        for _ in 0..2 {
            assert!(!flood.is_exhausted(bad, Timestamp(1)));
            flood.failed(bad, Timestamp(1));
        }
        assert!(flood.is_exhausted(bad, Timestamp(1)));
        assert!(flood.is_exhausted(bad, Timestamp(0)), "a clock that goes back gives nothing");
        assert!(!flood.is_exhausted(bad, Timestamp(10)) && flood.is_calm(), "who was quiet is forgotten");
    }

    #[test]
    fn a_network_of_one_host_is_one_source() {
        let mut flood = Flood::new(Limit { per_second: 1, burst: 1 });
        flood.failed(address("2001:db8::1"), Timestamp(0));
        assert!(flood.is_exhausted(address("2001:db8::2"), Timestamp(0)));
        assert!(!flood.is_exhausted(address("2001:db8:0:1::1"), Timestamp(0)));
        flood.failed(address("::ffff:10.0.0.1"), Timestamp(0));
        assert!(flood.is_exhausted(address("10.0.0.1"), Timestamp(0)));
    }

    #[test]
    fn the_number_of_sources_is_bounded() {
        let mut flood = Flood::new(LIMIT);
        for n in 0..10_000u32 {
            flood.failed(Some(IpAddr::from(n.to_be_bytes())), Timestamp(0));
        }
        assert_eq!(flood.sources.len(), SOURCES.get());
    }
}

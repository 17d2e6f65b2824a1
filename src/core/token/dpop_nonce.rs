//! Nonces for DPoP proofs (RFC 9449 §9) that need no storage: a time interval, and a MAC over it with a secret that all
//! workers of a proxy share.

use crate::encoding::bytes::constant_time_eq;
use crate::encoding::digest::sha256_of;
use crate::state::store::{Slot, Store, StoreError};
use crate::time::{Span, Timestamp};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// The block size of SHA-256 in bytes.
const BLOCK: usize = 64;

/// The length of the MAC in a nonce, in bytes.
const MAC: usize = 16;

/// Creates nonces, and recognises the ones that it created.
pub struct Nonces {
    secret: [u8; 32],
}

/// Stores the secret if there is none yet. Like [`crate::state::revocations::set_up`] it must run while nobody else
/// writes.
pub fn set_up(store: &mut impl Store, secret: [u8; 32]) -> Result<(), StoreError> {
    match store.read(Slot::NonceSecret)? {
        Some(_) => Ok(()),
        None => store.seed(Slot::NonceSecret, &secret),
    }
}

impl Nonces {
    /// Reads the secret of this proxy.
    pub fn read(store: &mut impl Store) -> Result<Nonces, StoreError> {
        let stored = store.read(Slot::NonceSecret)?.ok_or(StoreError::Absent)?;
        Ok(Nonces { secret: stored.bytes.try_into().map_err(|_| StoreError::Corrupt)? })
    }

    /// The nonce to send at `now`; valid for at least `lifetime`, at most twice as long.
    pub fn current(&self, lifetime: Span, now: Timestamp) -> String {
        self.of(stretch(lifetime, now), lifetime)
    }

    /// Whether `nonce` was created for `lifetime` in the current interval or the one before.
    pub(crate) fn is_good(&self, nonce: &str, lifetime: Span, now: Timestamp) -> bool {
        let stretch = stretch(lifetime, now);
        let is = |stretch: u64| constant_time_eq(nonce.as_bytes(), self.of(stretch, lifetime).as_bytes());
        // Always compare both, so that the time taken reveals nothing.
        is(stretch) | stretch.checked_sub(1).is_some_and(is)
    }

    fn of(&self, stretch: u64, lifetime: Span) -> String {
        let message = [&b"dpop nonce"[..], &stretch.to_le_bytes(), &lifetime.0.to_le_bytes()].concat();
        let mac = hmac(&self.secret, &message);
        URL_SAFE_NO_PAD.encode(mac.get(..MAC).unwrap_or_default())
    }
}

impl std::fmt::Debug for Nonces {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Nonces")
    }
}

fn stretch(lifetime: Span, now: Timestamp) -> u64 {
    now.0.checked_div(lifetime.0).unwrap_or(0)
}

/// HMAC-SHA-256 (RFC 2104) with a key that is shorter than a block.
fn hmac(key: &[u8; 32], message: &[u8]) -> [u8; 32] {
    let pad = |with: u8| {
        let mut block = [with; BLOCK];
        block.iter_mut().zip(key).for_each(|(byte, key)| *byte ^= key);
        block
    };
    sha256_of(&[&pad(0x5c), &sha256_of(&[&pad(0x36), message])])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::store::MemoryStore;

    const LIFETIME: Span = Span(100);

    #[test]
    fn a_nonce_lives_at_least_once_and_at_most_twice_its_time() {
        let nonces = Nonces { secret: [7; 32] };
        let nonce = nonces.current(LIFETIME, Timestamp(1099));
        assert_eq!(nonce, nonces.current(LIFETIME, Timestamp(1000)));
        for (now, good) in [(999, false), (1000, true), (1100, true), (1199, true), (1200, false)] {
            assert_eq!(nonces.is_good(&nonce, LIFETIME, Timestamp(now)), good, "{now}");
        }
    }

    #[test]
    fn only_its_own() {
        let nonces = Nonces { secret: [7; 32] };
        let now = Timestamp(1000);
        let nonce = nonces.current(LIFETIME, now);
        assert!(!Nonces { secret: [8; 32] }.is_good(&nonce, LIFETIME, now));
        assert!(!nonces.is_good(&nonce, Span(101), now), "of another setting");
        for other in
            ["", "x", nonce.trim_end_matches(char::is_alphanumeric), &format!("{nonce}A"), &nonce.to_lowercase()]
        {
            assert!(!nonces.is_good(other, LIFETIME, now), "{other}");
        }
        assert_eq!(nonce.len(), 22);
    }

    #[test]
    fn every_worker_has_the_same_secret() {
        let mut store = MemoryStore::default();
        assert_eq!(Nonces::read(&mut store).err(), Some(StoreError::Absent));
        set_up(&mut store, [1; 32]).unwrap();
        set_up(&mut store, [2; 32]).unwrap();
        assert_eq!(Nonces::read(&mut store).unwrap().secret, [1; 32]);
    }

    /// RFC 4231, test case 2 has a short key, test case 1 one of 20 bytes; ours has 32, so zeros fill them up.
    #[test]
    fn the_mac_is_hmac() {
        let mut key = [0; 32];
        key[..4].copy_from_slice(b"Jefe");
        let mac = hmac(&key, b"what do ya want for nothing?");
        let hex: String = mac.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
    }
}

//! Remembers tokens with a bad signature, so that the signature of one bad token is checked only once, however often it
//! is sent.

use crate::jose::key::KeyId;
use lru::LruCache;
use sha2::{Digest, Sha256};
use std::num::NonZeroUsize;

/// The number of tokens that a worker remembers: 16 bytes each, and an entry of the map.
const CAPACITY: NonZeroUsize = NonZeroUsize::new(4096).unwrap();

/// A digest of a token and a secret seed: without the seed, a client cannot choose tokens whose digests collide.
type Fingerprint = [u8; 16];

/// The latest tokens with a bad signature that this worker has seen.
#[derive(Debug)]
pub(crate) struct Refused {
    seed: u64,
    tokens: LruCache<Fingerprint, ()>,
}

impl Refused {
    /// An empty memory. `seed` must be random.
    pub(crate) fn new(seed: u64) -> Refused {
        Refused { seed, tokens: LruCache::new(CAPACITY) }
    }

    /// Whether the signature of `token` is known not to be by `key`.
    pub(crate) fn contains(&mut self, token: &[u8], key: KeyId) -> bool {
        // Usually the memory is empty: then no digest is computed.
        !self.tokens.is_empty() && self.tokens.get(&self.fingerprint(token, key)).is_some()
    }

    /// Remembers that the signature of `token` is not by `key`.
    pub(crate) fn insert(&mut self, token: &[u8], key: KeyId) {
        self.tokens.put(self.fingerprint(token, key), ());
    }

    fn fingerprint(&self, token: &[u8], key: KeyId) -> Fingerprint {
        let seeded = Sha256::new().chain_update(self.seed.to_le_bytes()).chain_update(key.as_bytes());
        let digest = seeded.chain_update(token).finalize();
        digest.first_chunk().copied().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remembers_a_bounded_number() {
        let mut refused = Refused::new(7);
        let key = |kid| KeyId::new(&[7; 32], kid, crate::jose::algorithm::Algorithm::ES256);
        let (key, other) = (key("a"), key("b"));
        assert!(!refused.contains(b"0", key));
        for n in 0..10_000 {
            refused.insert(n.to_string().as_bytes(), key);
            assert!(refused.contains(b"0", key), "one that comes all the time stays");
        }
        assert_eq!(refused.tokens.len(), CAPACITY.get());
        assert!(refused.contains(b"9999", key) && !refused.contains(b"1", key));
        assert!(!refused.contains(b"9999", other), "another key may say otherwise");
    }
}

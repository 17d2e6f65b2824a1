//! Tokens whose signature was checked and is bad, so that one bad token buys one check however often it is sent.

use crate::jose::key::KeyId;
use lru::LruCache;
use sha2::{Digest, Sha256};
use std::num::NonZeroUsize;

/// A worker remembers this many; 16 bytes each, and their place in the map.
const CAPACITY: NonZeroUsize = NonZeroUsize::new(4096).unwrap();

/// A digest of a token that nobody outside can choose, since nobody knows the seed in it.
type Fingerprint = [u8; 16];

/// The tokens with a bad signature that this worker saw last.
#[derive(Debug)]
pub(crate) struct Refused {
    seed: u64,
    tokens: LruCache<Fingerprint, ()>,
}

impl Refused {
    /// Remembers nothing yet. `seed` is random.
    pub(crate) fn new(seed: u64) -> Refused {
        Refused { seed, tokens: LruCache::new(CAPACITY) }
    }

    /// Whether the signature of `token` is known not to be by `key`.
    pub(crate) fn contains(&mut self, token: &[u8], key: KeyId) -> bool {
        // On a quiet day there is nothing to look for, and no digest to pay.
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

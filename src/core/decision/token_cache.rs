//! A cache of verified tokens, so that a request with a known token needs no check of its signature.
//!
//! The key is the whole token: a token with one other bit is not found. Conditions that depend on time or on the pushed
//! state are not cached; they are checked at every request.

use crate::decision::session::PER_VALUE;
use crate::decision::session::Session;
use crate::encoding::bytes::fast_eq;
use foldhash::SharedSeed;
use foldhash::quality::SeedableRandomState;
use lru::LruCache;
use std::hash::BuildHasher;
use std::rc::Rc;

/// The approximate bytes of a session in addition to its token: the grant, keys, an entry of the map.
const OVERHEAD: usize = 1024;

/// Verified tokens of one worker under one configuration; the least recently used are removed first.
#[derive(Debug)]
pub(crate) struct Cache {
    /// By a hash of the token. Of two tokens with the same hash, only the later one is kept.
    known: LruCache<u64, Rc<Session>, SeedableRandomState>,
    /// Its seed is secret, so that no client can choose tokens whose hashes collide.
    hasher: SeedableRandomState,
    bytes: usize,
    max_bytes: usize,
}

impl Cache {
    /// An empty cache of tokens that take about `max_bytes` together. `seed` is random.
    pub(crate) fn new(max_bytes: usize, seed: u64) -> Cache {
        let hasher = SeedableRandomState::with_seed(seed, SharedSeed::global_fixed());
        Cache { known: LruCache::unbounded_with_hasher(hasher.clone()), hasher, bytes: 0, max_bytes }
    }

    /// The hash of the end of the token, which is its signature: valid tokens differ there. A token with the same end
    /// is found, but then does not equal the known one.
    fn hash(&self, token: &[u8]) -> u64 {
        self.hasher.hash_one(token.last_chunk::<64>().map_or(token, <[u8; 64]>::as_slice))
    }

    /// The session of `token`, if it was verified before.
    pub(crate) fn find(&mut self, token: &[u8]) -> Option<Rc<Session>> {
        let hash = self.hash(token);
        let known = self.known.get(&hash)?;
        fast_eq(known.token(), token).then(|| Rc::clone(known))
    }

    /// Remembers that the token of `session` was verified.
    pub(crate) fn insert(&mut self, session: Rc<Session>) {
        self.bytes = self.bytes.saturating_add(cost(&session));
        let hash = self.hash(session.token());
        if let Some((_, replaced)) = self.known.push(hash, session) {
            self.bytes = self.bytes.saturating_sub(cost(&replaced));
        }
        while self.bytes > self.max_bytes
            && let Some((_, oldest)) = self.known.pop_lru()
        {
            self.bytes = self.bytes.saturating_sub(cost(&oldest));
        }
    }

    /// How many tokens it remembers.
    pub(crate) fn len(&self) -> usize {
        self.known.len()
    }

    /// The approximate bytes that they take.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Forgets `token`, which [`Cache::find`] has found.
    pub(crate) fn remove(&mut self, token: &[u8]) {
        let hash = self.hash(token);
        if let Some(known) = self.known.pop(&hash) {
            self.bytes = self.bytes.saturating_sub(cost(&known));
        }
    }
}

/// The approximate bytes of an entry: the token, the strings of its grant, and the values of claims that are held, which
/// are the largest part if there are many small ones.
fn cost(session: &Session) -> usize {
    let strings = session.token().len().saturating_mul(2);
    session.values.saturating_mul(PER_VALUE).saturating_add(strings).saturating_add(OVERHEAD)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jose::signature::PureRust;
    use crate::testing::fixture::{self, NOW, token_with};
    use serde_json::json;

    #[test]
    fn holds_a_bounded_number_and_lets_the_least_used_go() {
        let token = token_with(json!({}), json!({}));
        let verified =
            crate::token::verify::verify(token.as_bytes(), &[fixture::issuer()], &mut PureRust, NOW).unwrap();
        let session = |n: usize| Rc::new(Session::new(verified.clone(), &n.to_le_bytes(), false, None));
        const MAX_BYTES: usize = 16 * 1024 * 1024;
        let mut cache = Cache::new(MAX_BYTES, 7);
        let name = |n: usize| n.to_le_bytes();
        for n in 0..20_000 {
            cache.insert(session(n));
            assert!(cache.find(&name(0)).is_some(), "the first is used all the time");
        }
        assert!(cache.bytes <= MAX_BYTES);
        assert!(cache.find(&name(1)).is_none());
        assert!(cache.find(&name(19_999)).is_some());
        let bytes = cache.bytes;
        cache.insert(session(0));
        assert_eq!(cache.bytes, bytes, "the same token twice counts once");
        cache.remove(&name(0));
        assert!(cache.find(&name(0)).is_none() && cache.bytes < bytes);
    }

    #[test]
    fn one_hash_is_not_one_token() {
        let token = token_with(json!({}), json!({}));
        let verified =
            crate::token::verify::verify(token.as_bytes(), &[fixture::issuer()], &mut PureRust, NOW).unwrap();
        let mut cache = Cache::new(1 << 20, 7);
        let session = |token: &[u8]| Rc::new(Session::new(verified.clone(), token, false, None));
        cache.insert(session(b"known"));
        let known = cache.known.pop(&cache.hash(b"known")).unwrap();
        let other = cache.hash(b"other");
        cache.known.push(other, known);
        assert!(cache.find(b"other").is_none(), "what has the hash of a known token is not known by it");
        let (mut first, mut second) = ([b'a'; 200], [b'a'; 200]);
        (first[0], second[0]) = (b'b', b'c');
        cache.insert(session(&first));
        assert_eq!(cache.hash(&first), cache.hash(&second));
        assert!(cache.find(&first).is_some() && cache.find(&second).is_none(), "it ends like a known one");
    }
}

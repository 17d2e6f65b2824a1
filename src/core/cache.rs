//! Tokens that were verified, so that a warm request pays for no signature.
//!
//! The whole token is the key: one flipped bit misses. What passes with time and what is pushed is not part of what is
//! remembered; it is checked at every hit.

use crate::standing::Standing;
use crate::statekey::StateKey;
use crate::token::Verified;
use lru::LruCache;
use std::cell::Cell;
use std::rc::Rc;

/// A worker remembers tokens of about this many bytes together.
const MAX_BYTES: usize = 16 * 1024 * 1024;

/// What a token costs beside its own length: its claims as values, its keys, its place in the map.
const OVERHEAD: usize = 1024;

/// A verified token, and what this worker last read about it in the state.
#[derive(Debug)]
pub struct Session {
    verified: Verified,
    keys: Vec<StateKey>,
    buckets: Vec<u16>,
    /// The clock of the worker's view at which `Standing` was read.
    standing: Cell<Option<(u64, Standing)>>,
}

impl Session {
    /// A session of `verified`.
    pub fn new(verified: Verified) -> Session {
        let keys = verified.grant().state_keys();
        let buckets = keys.iter().map(StateKey::bucket).collect();
        Session { verified, keys, buckets, standing: Cell::new(None) }
    }

    /// The verified token.
    pub fn verified(&self) -> &Verified {
        &self.verified
    }

    /// The keys under which state about it is kept.
    pub fn keys(&self) -> &[StateKey] {
        &self.keys
    }

    /// The buckets of those keys.
    pub fn buckets(&self) -> &[u16] {
        &self.buckets
    }

    /// What was last read, and at which clock.
    pub fn last_standing(&self) -> Option<(u64, Standing)> {
        self.standing.get()
    }

    /// Remembers what was read at `clock`.
    pub fn remember(&self, clock: u64, standing: Standing) {
        self.standing.set(Some((clock, standing)));
    }
}

/// Verified tokens of one worker under one configuration; the least recently used go first.
#[derive(Debug)]
pub struct Cache {
    sessions: LruCache<Box<[u8]>, Rc<Session>>,
    bytes: usize,
}

impl Default for Cache {
    fn default() -> Cache {
        Cache { sessions: LruCache::unbounded(), bytes: 0 }
    }
}

impl Cache {
    /// The session of `token`, if it was verified before.
    pub fn find(&mut self, token: &[u8]) -> Option<Rc<Session>> {
        self.sessions.get(token).cloned()
    }

    /// Remembers that `token` was verified.
    pub fn insert(&mut self, token: &[u8], session: Rc<Session>) {
        self.bytes = self.bytes.saturating_add(cost(token));
        if let Some((replaced, _)) = self.sessions.push(token.into(), session) {
            self.bytes = self.bytes.saturating_sub(cost(&replaced));
        }
        while self.bytes > MAX_BYTES
            && let Some((oldest, _)) = self.sessions.pop_lru()
        {
            self.bytes = self.bytes.saturating_sub(cost(&oldest));
        }
    }

    /// Forgets `token`.
    pub fn remove(&mut self, token: &[u8]) {
        if self.sessions.pop(token).is_some() {
            self.bytes = self.bytes.saturating_sub(cost(token));
        }
    }
}

/// The token stands here once as the key and about once more, decoded, as claims.
fn cost(token: &[u8]) -> usize {
    token.len().saturating_mul(3).saturating_add(OVERHEAD)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{self, NOW, token_with};
    use crate::signature::PureRust;
    use serde_json::json;

    #[test]
    fn holds_a_bounded_number_and_lets_the_least_used_go() {
        let token = token_with(json!({}), json!({}));
        let verified = crate::token::verify(token.as_bytes(), &[fixture::issuer()], &mut PureRust, NOW).unwrap();
        let session = Rc::new(Session::new(verified));
        let mut cache = Cache::default();
        let name = |n: usize| n.to_le_bytes();
        for n in 0..20_000 {
            cache.insert(&name(n), Rc::clone(&session));
            assert!(cache.find(&name(0)).is_some(), "the first is used all the time");
        }
        assert!(cache.bytes <= MAX_BYTES);
        assert!(cache.find(&name(1)).is_none());
        assert!(cache.find(&name(19_999)).is_some());
        let bytes = cache.bytes;
        cache.insert(&name(0), session);
        assert_eq!(cache.bytes, bytes, "the same token twice counts once");
        cache.remove(&name(0));
        assert!(cache.find(&name(0)).is_none() && cache.bytes < bytes);
    }
}

//! The tokens that are valid now, read from the store once a second, and who used which when.

use crate::access::bearer;
use crate::access::principal::Principal;
use crate::access::tokens;
use crate::config::role::Role;
use crate::store::Store;
use crate::store::model::StoreError;
use hashbrown::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, RwLock};
use taskfence_core::encoding::bytes::constant_time_eq;

/// A list that could not be read again for so long (milliseconds) authenticates nobody: a token may have been revoked.
const MAX_AGE: u64 = 15_000;

/// The valid tokens.
pub struct KnownTokens {
    store: Arc<dyn Store>,
    known: RwLock<Known>,
    used: Mutex<HashMap<Vec<u8>, u64>>,
}

#[derive(Default)]
struct Known {
    tokens: Vec<(Vec<u8>, Principal)>,
    /// When it was read, in milliseconds.
    at: u64,
}

/// Why a token authenticates nobody.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotKnown {
    /// No valid token.
    Invalid,
    /// The store has not answered for too long.
    Unavailable,
}

impl KnownTokens {
    /// Reads the tokens from `store` at `now` (milliseconds).
    pub fn open(store: Arc<dyn Store>, now: u64) -> Result<KnownTokens, StoreError> {
        let this = KnownTokens { store, known: RwLock::default(), used: Mutex::default() };
        this.refresh(now)?;
        Ok(this)
    }

    /// Reads the tokens again. Blocks: call it once a second on a thread where that is allowed.
    pub fn refresh(&self, now: u64) -> Result<(), StoreError> {
        let mut tokens = Vec::new();
        for record in self.store.principals()? {
            // A role of a newer version is no role here.
            let Some(role) = Role::from_name(&record.role) else { continue };
            let principal = Principal { name: record.name, role, feeds: record.feeds };
            tokens.extend(record.tokens.into_iter().map(|(hash, ..)| (hash, principal.clone())));
        }
        *self.known.write().unwrap_or_else(|poisoned| poisoned.into_inner()) = Known { tokens, at: now };
        Ok(())
    }

    /// Notes in the store when tokens were last used. What is not stored is noted the next time. Blocks, as
    /// [`KnownTokens::refresh`].
    pub fn note_uses(&self) -> Result<(), StoreError> {
        let mut used = std::mem::take(&mut *self.used());
        let mut noted = Ok(());
        used.retain(|hash, at| {
            if noted.is_ok() {
                noted = tokens::note_use(&*self.store, hash, *at);
            }
            noted.is_err()
        });
        let mut newer = self.used();
        for (hash, at) in used {
            newer.entry(hash).or_insert(at);
        }
        noted
    }

    /// Who has `token`. Every stored hash is compared, each in constant time.
    pub fn principal(&self, token: &str, now: u64) -> Result<Principal, NotKnown> {
        let hash = bearer::hash(token);
        let known = self.known.read().unwrap_or_else(|poisoned| poisoned.into_inner());
        if now.saturating_sub(known.at) > MAX_AGE {
            return Err(NotKnown::Unavailable);
        }
        let mut found = None;
        for (stored, principal) in &known.tokens {
            if constant_time_eq(stored, &hash) {
                found = Some(principal);
            }
        }
        let principal = found.ok_or(NotKnown::Invalid)?.clone();
        self.used().insert(hash, now);
        Ok(principal)
    }

    /// Whether a principal has a valid token, and may use `feed` in `role`.
    pub fn may(&self, name: &str, role: Role, feed: &str) -> bool {
        let known = self.known.read().unwrap_or_else(|poisoned| poisoned.into_inner());
        known.tokens.iter().any(|(_, principal)| principal.name == name && principal.may(&[role], feed))
    }

    fn used(&self) -> MutexGuard<'_, HashMap<Vec<u8>, u64>> {
        self.used.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    #[test]
    fn a_token_is_known_until_it_is_revoked() {
        let (_folder, store) = testing::store();
        let token = tokens::create(&*store, "ops", Role::Operator, &[], 1).unwrap();
        let known = KnownTokens::open(store.clone(), 1000).unwrap();
        let principal = known.principal(&token, 1000).unwrap();
        assert_eq!((principal.name.as_str(), principal.role), ("ops", Role::Operator));
        assert_eq!(known.principal("tfhub_x", 1000), Err(NotKnown::Invalid));
        known.refresh(2000).unwrap();
        known.note_uses().unwrap();
        assert_eq!(tokens::list(&*store).unwrap()[0].tokens, [(1, 1000)]);
        tokens::revoke(&*store, "ops", false).unwrap();
        known.refresh(3000).unwrap();
        assert_eq!(known.principal(&token, 3000), Err(NotKnown::Invalid));
    }

    #[test]
    fn an_old_list_authenticates_nobody() {
        let (_folder, store) = testing::store();
        let token = tokens::create(&*store, "ops", Role::Operator, &[], 1).unwrap();
        let known = KnownTokens::open(store, 1000).unwrap();
        assert!(known.principal(&token, 1000 + MAX_AGE).is_ok());
        assert_eq!(known.principal(&token, 1001 + MAX_AGE), Err(NotKnown::Unavailable));
    }
}

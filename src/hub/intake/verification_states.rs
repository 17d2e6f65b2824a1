//! The `state`s of verifications that the hub has asked for (SSF 1.0 §8.1.4). They stand in the store: the replica that
//! gets the event need not be the one that asked.

use crate::store::Store;
use crate::store::model::StoreError;
use serde::{Deserialize, Serialize};
use taskfence_core::encoding::bytes::constant_time_eq;

/// So many are kept of one stream, the newest.
const KEPT: usize = 8;

/// How often a change is tried again that another replica came before.
const TRIES: usize = 10;

/// One `state`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Asked {
    state: String,
    /// When it was asked for, in milliseconds since 1970.
    asked: u64,
    /// When the event with it came.
    heard: Option<u64>,
}

/// What is known of the verifications of one stream.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Verifications {
    /// When the last one was asked for, in milliseconds since 1970; 0: never.
    pub asked: u64,
    /// When the last event came that had a state that was asked for; 0: never.
    pub heard: u64,
    /// When the one was asked for that the last event answered; 0: never.
    pub answered: u64,
}

/// Notes that a verification with `state` is asked for at `now`, in milliseconds since 1970. `key` is that of the stream.
/// Blocks.
pub fn ask(store: &dyn Store, key: &str, state: &str, now: u64) -> Result<(), StoreError> {
    change(store, key, |all| {
        all.push(Asked { state: state.to_owned(), asked: now, heard: None });
        let surplus = all.len().saturating_sub(KEPT);
        all.drain(..surplus);
        true
    })
    .map(drop)
}

/// Notes that a verification with `state` came at `now`. Returns whether it was asked for. Blocks.
pub(super) fn hear(store: &dyn Store, key: &str, state: &str, now: u64) -> Result<bool, StoreError> {
    change(store, key, |all| {
        let mut found = None;
        // All are compared, so that the time says nothing.
        for one in all.iter_mut() {
            if constant_time_eq(one.state.as_bytes(), state.as_bytes()) {
                found = Some(one);
            }
        }
        found.is_some_and(|one| {
            one.heard = one.heard.or(Some(now));
            true
        })
    })
}

/// What is known. Blocks.
pub fn known(store: &dyn Store, key: &str) -> Result<Verifications, StoreError> {
    let all = read(store.get(&name(key))?.as_deref());
    let last = all.iter().filter(|one| one.heard.is_some()).max_by_key(|one| one.asked);
    Ok(Verifications {
        asked: all.iter().map(|one| one.asked).max().unwrap_or_default(),
        heard: last.and_then(|one| one.heard).unwrap_or_default(),
        answered: last.map(|one| one.asked).unwrap_or_default(),
    })
}

/// Forgets all of a stream. Blocks.
pub fn forget(store: &dyn Store, key: &str) -> Result<(), StoreError> {
    change(store, key, |all| {
        all.clear();
        true
    })
    .map(drop)
}

fn change(store: &dyn Store, key: &str, change: impl Fn(&mut Vec<Asked>) -> bool) -> Result<bool, StoreError> {
    let name = name(key);
    for _ in 0..TRIES {
        let stored = store.get(&name)?;
        let mut all = read(stored.as_deref());
        if !change(&mut all) {
            return Ok(false);
        }
        let new = serde_json::to_string(&all).map_err(|error| StoreError::Failed(error.to_string()))?;
        if stored.as_deref() == Some(&new) || store.swap(&name, stored.as_deref(), Some(&new))? {
            return Ok(true);
        }
    }
    Err(StoreError::Failed(format!("`{name}` is changed by others all the time")))
}

/// What cannot be read was never asked for: such a verification is refused, and the next one is asked for.
fn read(stored: Option<&str>) -> Vec<Asked> {
    stored.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default()
}

fn name(key: &str) -> String {
    format!("verifications/{key}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    #[test]
    fn a_state_is_good_when_it_was_asked_for_and_a_repeat_changes_nothing() {
        let (_folder, store) = testing::store();
        assert_eq!(hear(&*store, "ssf/main/idp", "guess", 5), Ok(false));
        ask(&*store, "ssf/main/idp", "one", 10).unwrap();
        ask(&*store, "ssf/main/idp", "two", 20).unwrap();
        assert_eq!(hear(&*store, "ssf/main/idp", "tw", 25), Ok(false));
        assert_eq!(hear(&*store, "ssf/other/idp", "two", 25), Ok(false), "that is another stream");
        assert_eq!(known(&*store, "ssf/main/idp"), Ok(Verifications { asked: 20, heard: 0, answered: 0 }));
        // In any order.
        assert_eq!(hear(&*store, "ssf/main/idp", "two", 30), Ok(true));
        assert_eq!(hear(&*store, "ssf/main/idp", "one", 40), Ok(true));
        assert_eq!(hear(&*store, "ssf/main/idp", "two", 50), Ok(true), "it was sent again");
        assert_eq!(known(&*store, "ssf/main/idp"), Ok(Verifications { asked: 20, heard: 30, answered: 20 }));
    }

    #[test]
    fn old_ones_are_forgotten() {
        let (_folder, store) = testing::store();
        for n in 0..100 {
            ask(&*store, "k", &n.to_string(), n).unwrap();
        }
        assert_eq!((hear(&*store, "k", "91", 200), hear(&*store, "k", "92", 200)), (Ok(false), Ok(true)));
        forget(&*store, "k").unwrap();
        assert_eq!(hear(&*store, "k", "99", 200), Ok(false));
    }
}

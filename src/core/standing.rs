//! How a grant stands: where what signals left behind meets what a token says. The one place for it.

use crate::grant::Grant;
use crate::reason::Reason;
use crate::state::{Slot, Store, StoreError};
use crate::statekey::{Kind, StateKey};
use crate::table::{Entry, Mark, Table};
use crate::time::Timestamp;

/// What the pushed state says about one grant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Nothing against it.
    Good,
    /// Ended, and why.
    Ended(Reason),
    /// A bucket that could hold something against it was full; refused until that time.
    Unknown(Timestamp),
}

/// Reads the standing of `grant`, whose keys are `keys`.
pub fn standing(store: &mut impl Store, grant: &Grant, keys: &[StateKey]) -> Result<Standing, StoreError> {
    let mut standing = Standing::Good;
    for key in keys {
        let stored = store.read(Slot::Bucket(key.bucket()))?.ok_or(StoreError::Absent)?;
        let table = Table::decode(&stored.bytes)?;
        if let Some(entry) = table.about(*key).find(|entry| hits(entry, grant, keys)) {
            return Ok(Standing::Ended(reason(entry, *key)));
        }
        if let Some(until) = table.saturated_until() {
            standing = match standing {
                Standing::Unknown(other) => Standing::Unknown(until.max(other)),
                Standing::Good | Standing::Ended(_) => Standing::Unknown(until),
            };
        }
    }
    Ok(standing)
}

/// Whether `entry`, which is about a key of the grant, hits the grant.
fn hits(entry: &Entry, grant: &Grant, keys: &[StateKey]) -> bool {
    let in_time = match entry.mark {
        Mark::Revoked | Mark::Completed => true,
        // Equality refuses: the session may have begun just before within the same second.
        Mark::CutOff => grant.session_start() <= entry.at,
    };
    in_time && entry.conditions.iter().all(|condition| fits(*condition, keys))
}

/// SSF 1.0 §8.1.3.1: a member undefined on either side matches. For what ends grants that is the safe side.
fn fits(condition: StateKey, keys: &[StateKey]) -> bool {
    keys.contains(&condition) || keys.iter().all(|key| key.kind() != condition.kind())
}

fn reason(entry: &Entry, key: StateKey) -> Reason {
    match entry.mark {
        Mark::Completed => Reason::TaskCompleted,
        Mark::Revoked | Mark::CutOff => match key.kind() {
            Kind::User => Reason::UserRevoked,
            Kind::Session => Reason::SessionRevoked,
            Kind::Token | Kind::Task => Reason::TokenRevoked,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{self, NOW, token_with};
    use crate::signature::PureRust;
    use crate::state::{MemoryStore, apply, set_up};
    use serde_json::json;

    const ISSUER: &str = "https://jit.example";

    fn grant(claims: serde_json::Value) -> Grant {
        let token = token_with(json!({}), claims);
        crate::token::verify(token.as_bytes(), &[fixture::issuer()], &mut PureRust, NOW).unwrap().grant().clone()
    }

    type Said<'a> = (Kind, &'a str, Mark, u64, &'a [(Kind, &'a str)]);

    fn after(entries: &[Said<'_>], grant: &Grant) -> Standing {
        let mut store = MemoryStore::default();
        set_up(&mut store, 1).unwrap();
        for (kind, name, mark, at, conditions) in entries {
            let entry = Entry {
                key: StateKey::new(*kind, ISSUER, name),
                mark: *mark,
                at: Timestamp(*at),
                until: Timestamp::MAX,
                conditions: conditions.iter().map(|(kind, name)| StateKey::new(*kind, ISSUER, name)).collect(),
            };
            apply(&mut store, &[entry], NOW).unwrap();
        }
        standing(&mut store, grant, &grant.state_keys()).unwrap()
    }

    #[test]
    fn each_key_of_a_grant_can_end_it() {
        let grant = grant(json!({}));
        let ended = |kind, name, mark| after(&[(kind, name, mark, NOW.0, &[])], &grant);
        assert_eq!(ended(Kind::Token, "tok-1", Mark::Revoked), Standing::Ended(Reason::TokenRevoked));
        assert_eq!(ended(Kind::Session, "sess-9", Mark::Revoked), Standing::Ended(Reason::SessionRevoked));
        assert_eq!(ended(Kind::User, "alice", Mark::CutOff), Standing::Ended(Reason::UserRevoked));
        assert_eq!(ended(Kind::Task, "task-42", Mark::Completed), Standing::Ended(Reason::TaskCompleted));
        assert_eq!(ended(Kind::Token, "tok-2", Mark::Revoked), Standing::Good);
        assert_eq!(ended(Kind::Session, "tok-1", Mark::Revoked), Standing::Good);
    }

    #[test]
    fn a_cut_off_hits_sessions_that_began_at_or_before_it() {
        let start = NOW.0 - 200;
        let grant = grant(json!({ "auth_time": start }));
        let cut = |at| after(&[(Kind::User, "alice", Mark::CutOff, at, &[])], &grant);
        assert_eq!(cut(start - 1), Standing::Good);
        assert_eq!(cut(start), Standing::Ended(Reason::UserRevoked));
        assert_eq!(cut(start + 1), Standing::Ended(Reason::UserRevoked));
    }

    #[test]
    fn a_token_minted_anew_in_the_old_session_is_hit() {
        let grant = grant(json!({"auth_time": NOW.0 - 200, "iat": NOW.0}));
        let cut = after(&[(Kind::User, "alice", Mark::CutOff, NOW.0 - 100, &[])], &grant);
        assert_eq!(cut, Standing::Ended(Reason::UserRevoked));
    }

    #[test]
    fn every_member_that_a_signal_names_must_fit() {
        let grant = grant(json!({}));
        let with = |condition| after(&[(Kind::User, "alice", Mark::CutOff, NOW.0, &[condition])], &grant);
        assert_eq!(with((Kind::Session, "other")), Standing::Good);
        assert_eq!(with((Kind::Session, "sess-9")), Standing::Ended(Reason::UserRevoked));
        let no_session = self::grant(json!({"sid": fixture::ABSENT}));
        let entries: [Said<'_>; 1] = [(Kind::User, "alice", Mark::CutOff, NOW.0, &[(Kind::Session, "other")])];
        assert_eq!(after(&entries, &no_session), Standing::Ended(Reason::UserRevoked));
    }
}

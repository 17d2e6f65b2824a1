//! The status of a grant: applies the entries and marks that signals left in the state to the grant of a token.

use crate::reason::Reason;
use crate::rules::grant_changes::Changes;
use crate::state::bucket::{self, Entry};
use crate::state::fact::{Compliance, Fact, Risk};
use crate::state::key::{Kind, StateKey};
use crate::state::room::{Mark, Topic};
use crate::state::store::{Slot, Store, StoreError};
use crate::state::view::View;
use crate::time::Timestamp;
use crate::token::grant::Grant;
use std::sync::Arc;

/// The status of one grant, as signals left it.
#[derive(Debug, Clone, Default)]
pub struct GrantStatus {
    /// Why the grant has ended, if it has.
    pub ended: Option<Reason>,
    /// Until when the status is unknown: the state had no room for an entry that could end or change the grant.
    pub unknown_until: Option<Timestamp>,
    /// Until when the compliance is unknown: the state had no room for an entry that could be about its device.
    pub device_unknown_until: Option<Timestamp>,
    /// Until when the risk is unknown: the state had no room for an entry that could be about the risk of a principal.
    pub risk_unknown_until: Option<Timestamp>,
    /// The compliance of its device, if a signal reported it.
    pub device: Option<Compliance>,
    /// The highest risk that a signal reported about its user, device, session, client, actor or tenant.
    pub risk: Option<Risk>,
    /// What signals narrowed or changed; `None` if nothing.
    pub changes: Option<Arc<Changes>>,
    /// Whether some restriction applies only because the grant lacks a subject member that the signal names.
    pub indeterminate: bool,
}

impl GrantStatus {
    /// The scope values of `grant` that no narrowing removed. `self` is the status of `grant`.
    pub(crate) fn scopes<'g>(&'g self, grant: &'g Grant) -> impl Iterator<Item = &'g str> {
        let left = |scope: &&str| self.changes.as_ref().is_none_or(|changes| changes.leave_scope(scope));
        grant.scopes.iter().map(String::as_str).filter(left)
    }

    /// Applies `mark`, which is about the grant. `start` is raised to the time until which the start of the session is
    /// unknown.
    fn add_mark(&mut self, mark: &Mark, start: &mut Option<Timestamp>) {
        let unknown = match mark.class.topic {
            // A claim can affect more than the rule: the upstream sees it too.
            Topic::End | Topic::Claim => &mut self.unknown_until,
            Topic::Device => &mut self.device_unknown_until,
            Topic::Risk => &mut self.risk_unknown_until,
            Topic::Beginning => start,
        };
        *unknown = (*unknown).max(Some(mark.until));
    }
}

/// Reads the status of `grant` from `store`. `keys` are the state keys of the grant; `view` must be fresh.
pub(crate) fn grant_status(
    store: &mut impl Store,
    view: &View,
    grant: &Grant,
    keys: &[StateKey],
) -> Result<GrantStatus, StoreError> {
    let mut grant_status = GrantStatus::default();
    let mut hits = Vec::new();
    let mut start_unknown_until = None;
    for key in keys.iter().filter(|key| view.may_hold(key.bucket())) {
        let stored = store.read(Slot::Bucket(key.bucket()))?.ok_or(StoreError::Absent)?;
        let about = bucket::about(&stored.bytes, *key)?;
        about.marks.iter().for_each(|mark| grant_status.add_mark(mark, &mut start_unknown_until));
        let standing = about.entries.into_iter().filter(|entry| !entry.lifted);
        hits.extend(standing.filter_map(|entry| fit(&entry, keys).map(|certain| (entry, certain))));
    }
    let start = session_start(grant, &hits);
    let mut changes = Changes::default();
    for (entry, certain) in &hits {
        // Equality refuses: the session may have begun just before within the same second.
        if entry.fact.only_for_earlier_sessions() && !entry.key.kind().is_singular() && start > entry.at {
            // A signal may have said that the session began earlier, and the state had no room for it.
            if grant.authenticated_at.is_none() {
                grant_status.unknown_until = grant_status.unknown_until.max(start_unknown_until);
            }
            continue;
        }
        grant_status.indeterminate |= !certain && entry.fact.restricts();
        match entry.fact {
            Fact::Revoked | Fact::Completed | Fact::CutOff | Fact::Blocked => {
                grant_status.ended = grant_status.ended.or(Some(reason(entry)));
            }
            Fact::Device(_) | Fact::Risk(_) if !certain && !entry.fact.restricts() => {}
            // A signal `compliant` about a user or a session cancels an earlier one about the same subject. It does not
            // prove that the device of this grant is compliant.
            Fact::Device(Compliance::Compliant) if entry.key.kind() != Kind::Device => {}
            Fact::Device(status) => grant_status.device = grant_status.device.max(Some(status)),
            Fact::Risk(risk) => grant_status.risk = grant_status.risk.max(Some(risk)),
            Fact::Narrowed | Fact::Claim(_) | Fact::Assurance(_) => changes.add(entry, *certain)?,
            Fact::Began => {}
        }
    }
    grant_status.changes = (!changes.is_empty()).then(|| Arc::new(changes));
    Ok(grant_status)
}

/// When the session of the grant began: `auth_time`, else the time that a signal reported, else `iat` of the token.
/// With `iat` alone, a new token would undo the cut-off of its session. If a signal reports a start that is later than
/// `iat` of the token, the session began at `iat`.
fn session_start(grant: &Grant, hits: &[(Entry, bool)]) -> Timestamp {
    let began = hits.iter().filter(|(entry, certain)| entry.fact == Fact::Began && *certain).map(|(entry, _)| entry.at);
    match grant.authenticated_at {
        Some(at) => at,
        None => began.fold(grant.issued_at, Timestamp::min),
    }
}

/// Whether `entry`, which is stored under a key of the grant, applies to the grant. `None`: it does not. `Some(true)`:
/// the grant has every member of the subject. `Some(false)`: it lacks a member, which counts as a match (SSF 1.0
/// §8.1.3.1).
fn fit(entry: &Entry, keys: &[StateKey]) -> Option<bool> {
    let mut certain = true;
    for condition in &entry.conditions {
        let has_no_such_member = keys.iter().all(|key| key.kind() != condition.kind());
        match (condition.is_absent() || !keys.contains(condition), has_no_such_member) {
            (false, _) => {}
            (true, true) => certain = false,
            (true, false) => return None,
        }
    }
    Some(certain)
}

fn reason(entry: &Entry) -> Reason {
    if entry.fact == Fact::Completed {
        return Reason::TaskCompleted;
    }
    match entry.key.kind() {
        Kind::Token | Kind::Task => Reason::TokenRevoked,
        Kind::Session => Reason::SessionRevoked,
        Kind::User | Kind::Email | Kind::Phone | Kind::Account | Kind::Did | Kind::Uri | Kind::ForeignUser => {
            Reason::UserRevoked
        }
        Kind::Client | Kind::Actor | Kind::Device | Kind::Tenant | Kind::Group | Kind::Issuer => {
            Reason::PrincipalRevoked
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jose::signature::PureRust;
    use crate::state::bucket::SourceTag;
    use crate::state::fact::Claim;
    use crate::state::fact::Fact::{Completed, CutOff, Revoked};
    use crate::state::freshness::TransmitterId;
    use crate::state::revocations::{apply, set_up};
    use crate::state::store::MemoryStore;
    use crate::testing::fixture::{self, NOW, token_with};
    use crate::time::Span;
    use serde_json::json;

    const ISSUER: &str = "https://jit.example";

    fn grant(claims: serde_json::Value) -> Grant {
        let token = token_with(json!({}), claims);
        crate::token::verify::verify(token.as_bytes(), &[fixture::issuer()], &mut PureRust, NOW)
            .unwrap()
            .grant()
            .clone()
    }

    type Stored<'a> = (Kind, &'a str, Fact, u64, &'a [(Kind, &'a str)]);

    fn after(entries: &[Stored<'_>], grant: &Grant) -> GrantStatus {
        let mut store = MemoryStore::default();
        set_up(&mut store, 1).unwrap();
        for (kind, name, fact, at, conditions) in entries {
            let entry = Entry {
                key: match kind {
                    Kind::Device => StateKey::foreign(*kind, ISSUER, ISSUER, name),
                    _ => StateKey::new(*kind, ISSUER, name),
                },
                fact: *fact,
                at: Timestamp(*at),
                until: Timestamp::MAX,
                conditions: conditions.iter().map(|(kind, name)| StateKey::new(*kind, ISSUER, name)).collect(),
                data: Vec::new(),
                source: SourceTag::NONE,
                lifted: false,
            };
            apply(&mut store, TransmitterId::UNKNOWN, &[entry], NOW).unwrap();
        }
        let mut view = View::default();
        view.refresh(&mut store).unwrap();
        grant_status(&mut store, &view, grant, &grant.state_keys()).unwrap()
    }

    #[test]
    fn each_key_of_a_grant_can_end_it() {
        let grant = grant(json!({}));
        let ended = |kind, name, fact| after(&[(kind, name, fact, NOW.0, &[])], &grant).ended;
        assert_eq!(ended(Kind::Token, "tok-1", Revoked), Some(Reason::TokenRevoked));
        assert_eq!(ended(Kind::Session, "sess-9", Revoked), Some(Reason::SessionRevoked));
        assert_eq!(ended(Kind::User, "alice", CutOff), Some(Reason::UserRevoked));
        assert_eq!(ended(Kind::Task, "task-42", Completed), Some(Reason::TaskCompleted));
        assert_eq!(ended(Kind::Token, "tok-2", Revoked), None);
        assert_eq!(ended(Kind::Session, "tok-1", Revoked), None);
    }

    /// The status of `grant` after `entries`, each (key, fact, when, stream, lifted).
    fn after_signals(entries: &[(StateKey, Fact, u64, &str, bool)], grant: &Grant) -> GrantStatus {
        let mut store = MemoryStore::default();
        set_up(&mut store, 1).unwrap();
        for (key, fact, at, stream, lifted) in entries {
            let entry = Entry {
                key: *key,
                fact: *fact,
                at: Timestamp(*at),
                until: Timestamp::MAX,
                conditions: Vec::new(),
                data: Vec::new(),
                source: SourceTag::new("main", stream, 1),
                lifted: *lifted,
            };
            apply(&mut store, TransmitterId::UNKNOWN, &[entry], NOW).unwrap();
        }
        let mut view = View::default();
        view.refresh(&mut store).unwrap();
        grant_status(&mut store, &view, grant, &grant.state_keys()).unwrap()
    }

    #[test]
    fn a_block_refuses_whatever_began_when() {
        // The session and the token are newer than the block.
        let grant = grant(json!({"auth_time": NOW.0 - 10, "iat": NOW.0 - 5, "device_id": "d7"}));
        let keys = [
            (StateKey::of_issuer(ISSUER), Reason::PrincipalRevoked),
            (StateKey::new(Kind::Client, ISSUER, "agent-a7"), Reason::PrincipalRevoked),
            (StateKey::foreign(Kind::Device, ISSUER, ISSUER, "d7"), Reason::PrincipalRevoked),
            (StateKey::new(Kind::User, ISSUER, "alice"), Reason::UserRevoked),
            (StateKey::new(Kind::Session, ISSUER, "sess-9"), Reason::SessionRevoked),
            (StateKey::new(Kind::Task, ISSUER, "task-42"), Reason::TokenRevoked),
            (StateKey::new(Kind::Token, ISSUER, "tok-1"), Reason::TokenRevoked),
        ];
        for (key, reason) in keys {
            let ended = |said: &[(Fact, bool)]| {
                let said: Vec<_> =
                    said.iter().map(|(fact, lifted)| (key, *fact, NOW.0 - 1_000, "stop", *lifted)).collect();
                after_signals(&said, &grant).ended
            };
            assert_eq!(ended(&[(Fact::Blocked, false)]), Some(reason), "{key:?}");
            assert_eq!(ended(&[(Fact::Blocked, false), (Fact::Blocked, true)]), None, "{key:?} lifted");
            assert_eq!(ended(&[(Fact::Blocked, true), (Fact::Blocked, false)]), None, "{key:?} lifted before it came");
            if !key.kind().is_singular() {
                assert_eq!(ended(&[(CutOff, false)]), None, "{key:?}: a cut-off lets the next session in");
            }
        }
        for other in [StateKey::of_issuer("https://other.example"), StateKey::new(Kind::Task, ISSUER, "task-43")] {
            assert_eq!(after_signals(&[(other, Fact::Blocked, NOW.0, "stop", false)], &grant).ended, None);
        }
    }

    #[test]
    fn a_lift_takes_back_what_one_stream_said_and_leaves_the_others() {
        let grant = grant(json!({}));
        let task = StateKey::new(Kind::Task, ISSUER, "task-42");
        let ended = |said: &[(&str, bool)]| {
            let said: Vec<_> = said.iter().map(|(source, lifted)| (task, Completed, NOW.0, *source, *lifted)).collect();
            after_signals(&said, &grant).ended
        };
        assert_eq!(ended(&[("idp", false), ("operator", false)]), Some(Reason::TaskCompleted));
        let one_lifted = [("idp", false), ("operator", false), ("operator", true)];
        assert_eq!(ended(&one_lifted), Some(Reason::TaskCompleted), "what the transmitter said stays");
        assert_eq!(ended(&one_lifted[1..]), None);
        let both = [("operator", true), ("idp", true), ("idp", false), ("operator", false)];
        assert_eq!(ended(&both), None);
    }

    #[test]
    fn the_last_word_about_a_device_or_a_risk_counts_whichever_signal_said_it() {
        let grant = grant(json!({"device_id": "d7"}));
        let device = StateKey::foreign(Kind::Device, ISSUER, ISSUER, "d7");
        let (good, bad) = (Fact::Device(Compliance::Compliant), Fact::Device(Compliance::NotCompliant));
        let said = [(device, bad, 1, "set-1", false), (device, good, 2, "set-2", false)];
        assert_eq!(after_signals(&said, &grant).device, Some(Compliance::Compliant));
        let said =
            [(device, Fact::Risk(Risk::High), 1, "set-3", false), (device, Fact::Risk(Risk::Low), 2, "set-4", false)];
        assert_eq!(after_signals(&said, &grant).risk, Some(Risk::Low));
    }

    #[test]
    fn a_cut_off_hits_sessions_that_began_at_or_before_it() {
        let start = NOW.0 - 200;
        let grant = grant(json!({ "auth_time": start }));
        let cut = |at| after(&[(Kind::User, "alice", CutOff, at, &[])], &grant).ended;
        assert_eq!(cut(start - 1), None);
        assert_eq!(cut(start), Some(Reason::UserRevoked));
        assert_eq!(cut(start + 1), Some(Reason::UserRevoked));
    }

    #[test]
    fn a_token_minted_anew_in_the_old_session_is_hit() {
        let grant = grant(json!({"auth_time": NOW.0 - 200, "iat": NOW.0}));
        let cut = after(&[(Kind::User, "alice", CutOff, NOW.0 - 100, &[])], &grant).ended;
        assert_eq!(cut, Some(Reason::UserRevoked));
    }

    #[test]
    fn every_member_that_a_signal_names_must_fit() {
        let grant = grant(json!({}));
        let with = |condition| after(&[(Kind::User, "alice", CutOff, NOW.0, &[condition])], &grant).ended;
        assert_eq!(with((Kind::Session, "other")), None);
        assert_eq!(with((Kind::Session, "sess-9")), Some(Reason::UserRevoked));
        let no_session = self::grant(json!({"sid": fixture::ABSENT}));
        let entries: [Stored<'_>; 1] = [(Kind::User, "alice", CutOff, NOW.0, &[(Kind::Session, "other")])];
        assert_eq!(after(&entries, &no_session).ended, Some(Reason::UserRevoked));
    }

    #[test]
    fn device_and_risk_are_facts() {
        use Fact::{Device, Risk as RiskIs};
        let grant = grant(json!({"device_id": "d7"}));
        let device = |name| after(&[(Kind::Device, name, Device(Compliance::Compliant), 1, &[])], &grant).device;
        assert_eq!(device("d7"), Some(Compliance::Compliant));
        assert_eq!(device("d8"), None);
        let said = [
            (Kind::User, "alice", RiskIs(Risk::High), 1, &[][..]),
            (Kind::Device, "d7", RiskIs(Risk::Low), 2, &[][..]),
        ];
        assert_eq!(after(&said, &grant).risk, Some(Risk::High), "the highest of all principals");
    }

    /// The status of `grant` if the class of `fact` is full in the bucket of its key of `kind`, with `said` stored too.
    fn beside_a_flood(kind: Kind, fact: Fact, said: Option<Entry>, grant: &Grant) -> GrantStatus {
        let keys = grant.state_keys();
        let bucket = keys.iter().find(|key| key.kind() == kind).unwrap().bucket();
        let mut table = bucket::Table::default();
        let entry = |key, fact, at| {
            let (until, conditions) = (NOW.plus(Span(500)), Vec::new());
            let data = if fact == Fact::Claim(Claim::Set) { b"\x01c1".to_vec() } else { Vec::new() };
            Entry { key, fact, at, until, conditions, data, source: SourceTag::NONE, lifted: false }
        };
        let taken = (0..2_000).all(|n: u32| {
            let key = StateKey::new(kind, ISSUER, &format!("somebody-{n}"));
            table.insert(entry(key, fact, NOW), TransmitterId::UNKNOWN, NOW)
        });
        assert!(!taken, "it is full");
        let mut store = MemoryStore::default();
        set_up(&mut store, 1).unwrap();
        store.seed(Slot::Bucket(bucket), &table.encode()).unwrap();
        apply(&mut store, TransmitterId::UNKNOWN, said.as_slice(), NOW).unwrap();
        grant_status(&mut store, &View::default(), grant, &keys).unwrap()
    }

    #[test]
    fn a_flood_leaves_in_doubt_what_it_was_about() {
        let grant = grant(json!({"device_id": "d7"}));
        let doubts = |kind, fact| {
            let grant_status = beside_a_flood(kind, fact, None, &grant);
            assert_eq!(grant_status.ended, None);
            [grant_status.unknown_until, grant_status.device_unknown_until, grant_status.risk_unknown_until]
                .map(|until| until.is_some())
        };
        assert_eq!(doubts(Kind::Device, Fact::Device(Compliance::Compliant)), [false, true, false]);
        assert_eq!(doubts(Kind::User, Fact::Risk(Risk::Low)), [false, false, true]);
        assert_eq!(doubts(Kind::Device, Fact::Risk(Risk::High)), [false, false, true]);
        assert_eq!(doubts(Kind::User, CutOff), [true, false, false]);
        assert_eq!(doubts(Kind::Session, Revoked), [true, false, false]);
        assert_eq!(doubts(Kind::Token, Fact::Claim(Claim::Set)), [true, false, false]);
        assert_eq!(doubts(Kind::Session, Fact::Began), [false, false, false], "no cut-off asks when it began");
    }

    #[test]
    fn a_beginning_that_found_no_room_leaves_a_cut_off_in_doubt() {
        let key = StateKey::new(Kind::User, ISSUER, "alice");
        let (at, until) = (Timestamp(NOW.0 - 300), NOW.plus(Span(500)));
        let cut_off = Entry {
            key,
            fact: CutOff,
            at,
            until,
            conditions: Vec::new(),
            data: Vec::new(),
            source: SourceTag::NONE,
            lifted: false,
        };
        let after = |claims| beside_a_flood(Kind::Session, Fact::Began, Some(cut_off.clone()), &grant(claims));
        let unknown = after(json!({"auth_time": fixture::ABSENT}));
        assert_eq!((unknown.ended, unknown.unknown_until.is_some()), (None, true), "it may have begun before");
        let known = after(json!({"auth_time": NOW.0 - 200}));
        assert_eq!((known.ended, known.unknown_until), (None, None), "the token says that it began after");
    }

    #[test]
    fn what_permits_must_fit_exactly() {
        let grant = grant(json!({"device_id": "d7", "sid": fixture::ABSENT}));
        let with =
            |status, condition| after(&[(Kind::Device, "d7", Fact::Device(status), 1, &[condition])], &grant).device;
        assert_eq!(with(Compliance::Compliant, (Kind::Session, "s")), None);
        assert_eq!(with(Compliance::NotCompliant, (Kind::Session, "s")), Some(Compliance::NotCompliant));
    }
}

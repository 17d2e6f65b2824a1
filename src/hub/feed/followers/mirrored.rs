//! The followers of other replicas, as the store has them.

use crate::feed::follower::Follower;
use crate::feed::followers::{Followers, State, forget, hash};
use crate::feed::locked;
use crate::feed::report::Report;
use crate::feed::statements::Statements;
use crate::store::model::FollowerRecord;
use hashbrown::HashSet;
use std::sync::Arc;
use taskfence_core::feed::revision::Revision;

impl Followers {
    /// Takes in followers that the store has, of this replica and of others. `since`: the read began then, in milliseconds
    /// since 1970, and `records` are all that there are; `None`: they are some.
    pub fn mirror(&self, records: Vec<FollowerRecord>, since: Option<u64>) {
        let mut state = locked(&self.state);
        let mut known: HashSet<Box<str>> = HashSet::new();
        for record in records {
            if since.is_some() {
                known.insert(record.id.as_str().into());
            }
            state.mirror(record, &self.own);
        }
        let Some(since) = since else { return };
        let State { by_id, of_principal, waiters, .. } = &mut *state;
        for (id, follower) in by_id.iter_mut().filter(|(id, follower)| follower.stored && !known.contains(&**id)) {
            // Another replica has removed it as silent while it came here.
            if follower.replica == self.own && follower.written < since {
                tracing::debug!(feed = self.feed, id = &**id, "a follower is not in the store any more");
                (follower.stored, follower.changed) = (false, true);
            }
        }
        for (_, follower) in by_id.extract_if(|id, follower| follower.replica != self.own && !known.contains(id)) {
            forget(&follower, of_principal, waiters);
        }
    }

    /// Notes when each other replica last said that it lives, in milliseconds since 1970.
    pub fn note_alive(&self, alive: impl Iterator<Item = (Box<str>, u64)>) {
        locked(&self.state).alive = alive.collect();
    }
}

impl State {
    /// Takes in what the store has of one follower, unless more is known here.
    fn mirror(&mut self, record: FollowerRecord, own: &Arc<str>) {
        let State { by_id, of_principal, waiters, .. } = self;
        let hash = hash(&record.report);
        let Some(known) = by_id.get_mut(record.id.as_str()) else {
            // This replica has removed it, and the store not yet.
            let Ok(report) = Report::parse_stored(record.report.as_bytes()) else { return };
            if *record.replica == **own {
                return;
            }
            let voice = if record.relay.is_empty() { record.principal.as_str() } else { record.relay.as_str() };
            let (voice, own_count) = match of_principal.get_key_value(voice) {
                Some((voice, count)) => (voice.clone(), *count),
                None => (Arc::from(voice), 0),
            };
            of_principal.insert(voice.clone(), own_count.saturating_add(1));
            let (principal, relay) = match record.relay.is_empty() {
                true => (voice, None),
                false => (Arc::from(record.principal), Some(voice)),
            };
            waiters.iter_mut().for_each(|waiter| waiter.joined(record.applied));
            let mut statements = Statements::default();
            statements.note(0, record.statement_at);
            let follower = Follower {
                principal,
                relay,
                request: Arc::default(),
                applied: record.applied,
                applied_at: record.seen,
                applied_before: record.applied.number,
                seen: record.seen,
                statements,
                replica: record.replica.into(),
                not_before: 0,
                sent: Revision::START,
                mirrored: hash,
                is_heard: false,
                is_ahead: false,
                foreign_at: 0,
                polling: 0,
                changed: false,
                gone: false,
                written: record.seen,
                stored: true,
                report,
            };
            by_id.insert(record.id.into_boxed_str(), follower);
            return;
        };
        // What this replica wrote is no news; nor is what another one wrote before the follower came here.
        let is_older = record.seen < known.seen || (record.seen == known.seen && known.replica == *own);
        if *record.replica == **own || is_older {
            return;
        }
        if known.mirrored != hash
            && let Ok(report) = Report::parse_stored(record.report.as_bytes())
        {
            (known.report, known.mirrored) = (report, hash);
        }
        if *known.replica != *record.replica {
            known.replica = record.replica.as_str().into();
        }
        (known.seen, known.written, known.stored, known.changed) = (record.seen, record.seen, true, false);
        let before = known.applied;
        // The same follower never has less of one epoch than before.
        if before == record.applied || (before.epoch == record.applied.epoch && before.number > record.applied.number) {
            return;
        }
        (known.applied, known.applied_at, known.applied_before) = (record.applied, record.seen, before.number);
        let node = known.report.name();
        waiters.iter_mut().for_each(|waiter| waiter.moved(before, record.applied, node, record.seen));
    }
}

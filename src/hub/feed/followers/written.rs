//! Which followers are to be written to the store, and which were.

use crate::feed::followers::Followers;
use crate::feed::locked;
use crate::store::model::FollowerRecord;

/// That a follower was heard of is written this often, in milliseconds, if nothing else changed.
const WRITE_SEEN: u64 = 60_000;

/// Which followers to write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    /// Those that the store does not know.
    New,
    /// Those that changed since they were last written, and those that were heard of long after that.
    Changed,
    /// Those of which the store does not have the last word.
    All,
}

impl Followers {
    /// Followers that are to be written, as records for the store; at most `limit`.
    pub fn unwritten(&self, which: Which, limit: usize) -> Vec<FollowerRecord> {
        let now = (self.now)();
        let mut records = Vec::new();
        for (id, follower) in &mut locked(&self.state).by_id {
            if records.len() >= limit {
                break;
            }
            let unseen = follower.seen.saturating_sub(follower.written);
            let is_due = match which {
                _ if follower.replica != self.own => false,
                Which::New => !follower.stored,
                Which::Changed => follower.changed || unseen >= WRITE_SEEN,
                Which::All => follower.changed || unseen > 0,
            };
            if !is_due {
                continue;
            }
            (follower.changed, follower.written) = (false, now);
            records.push(FollowerRecord {
                feed: self.feed.clone(),
                id: id.to_string(),
                principal: follower.principal.to_string(),
                report: follower.report.to_json().to_string(),
                applied: follower.applied,
                seen: follower.seen,
                statement_at: follower.statements.last().unwrap_or(0),
                replica: self.own.to_string(),
                relay: follower.relay.as_deref().unwrap_or_default().to_owned(),
            });
        }
        records
    }

    /// They were written.
    pub fn stored(&self, records: &[FollowerRecord]) {
        let mut state = locked(&self.state);
        for record in records {
            if let Some(follower) = state.by_id.get_mut(record.id.as_str()) {
                follower.stored = true;
            }
        }
    }

    /// Whether the store knows the follower, or it has left.
    pub fn is_stored(&self, id: &str) -> bool {
        locked(&self.state).by_id.get(id).is_none_or(|follower| follower.stored)
    }

    /// They could not be written: they are changed still.
    pub fn not_written(&self, records: &[FollowerRecord]) {
        let mut state = locked(&self.state);
        for record in records {
            if let Some(follower) = state.by_id.get_mut(record.id.as_str()) {
                follower.changed = true;
            }
        }
    }

    /// All are to be written again.
    pub fn write_again(&self) {
        locked(&self.state).by_id.values_mut().for_each(|follower| follower.changed = true);
    }

    /// The store has these still that have left. Other replicas would wait for them.
    pub fn not_removed(&self, ids: Vec<String>) {
        locked(&self.state).unremoved.extend(ids);
    }

    /// Whether a follower that came here last is to be written.
    pub fn has_changed(&self) -> bool {
        locked(&self.state).by_id.values().any(|follower| follower.changed && follower.replica == self.own)
    }
}

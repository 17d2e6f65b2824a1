//! Cuts off, after a restore, all that began before it: one entry for each issuer of each feed. What was revoked after the
//! backup, and is not in the store any more, is refused by it.

use crate::config::hub::Feed;
use crate::intake::derive::Origin;
use crate::intake::operator_error::OperatorError;
use crate::intake::service::Intake;
use crate::store::model::{Change, NewSignal, StoreError};
use crate::store::{CUT_OFF, RESTORED, RESTORED_AT};
use serde_json::json;
use sha2::{Digest as _, Sha256};
use taskfence_core::signal::operator::OPERATOR;
use taskfence_core::signal::stored;
use taskfence_core::state::bucket::{Entry, SourceTag};
use taskfence_core::state::fact::Fact;
use taskfence_core::state::key::StateKey;
use taskfence_core::time::Timestamp;
use taskfence_core::token::issuer::Issuer;

/// The event of a cut-off, in the store.
pub const EVENT: &str = "cut-off";

/// Why it was made, in the store.
const REASON: &str = "the store was restored from a backup";

/// All grants of `issuer` whose session began at `at` or before.
pub(super) fn entry(issuer: &Issuer, at: Timestamp) -> Entry {
    Entry {
        key: StateKey::of_issuer(&issuer.key_space),
        fact: Fact::CutOff,
        at,
        until: at.plus(stored::cut_off_retention(issuer)),
        conditions: Vec::new(),
        data: Vec::new(),
        source: SourceTag::NONE,
        lifted: false,
    }
}

impl Intake {
    /// Does what an operator ordered after a restore, see [`CUT_OFF`]. Then the hub is ready. `Ok(None)`: nothing was
    /// ordered; otherwise how many signals it took.
    ///
    /// If it fails in between, the next call goes on: the ids of the signals are the same.
    pub async fn cut_off_as_ordered(&self) -> Result<Option<usize>, OperatorError> {
        let store = self.store();
        let Some(by) = store.get(CUT_OFF)?.filter(|by| !by.is_empty()) else { return Ok(None) };
        let restored = store.get(RESTORED_AT)?.and_then(|at| at.parse().ok());
        let restored: u64 = restored.unwrap_or_else(|| self.clock().now_ms());
        let mut made = 0usize;
        if store.get(RESTORED)?.is_some_and(|at| !at.is_empty()) {
            for feed in self.feeds() {
                let signals = self.cut_offs(&feed.feed, &by, restored);
                for signal in signals {
                    self.writer().submit(Change::Signal(signal)).await.map_err(OperatorError::Submit)?;
                    made = made.saturating_add(1);
                }
            }
        }
        store.set(RESTORED, "")?;
        store.set(CUT_OFF, "")?;
        tracing::warn!(by, signals = made, "all that began before the restore is cut off");
        Ok(Some(made))
    }

    fn cut_offs(&self, feed: &Feed, by: &str, restored: u64) -> Vec<NewSignal> {
        let now = self.clock().now_ms();
        let origin = Origin { feed: &feed.name, stream: OPERATOR, by, share: OPERATOR, now, skew: self.skew() };
        let at = Timestamp(restored / 1_000);
        let signal = |issuer: &Issuer| {
            let id = format!("restored-{restored}-{}", issuer.name);
            let subject = json!({"issuer": issuer.name});
            NewSignal {
                feed: feed.name.clone(),
                transmitter: OPERATOR.to_owned(),
                fingerprint: Sha256::digest(&id).to_vec(),
                event: EVENT.to_owned(),
                claims: json!({"jti": id, "iat": at.0, "issuer": issuer.name, "cut_off": subject}).to_string(),
                subject: subject.to_string(),
                by: by.to_owned(),
                reason: REASON.to_owned(),
                at,
                taken_in: now,
                entries: vec![origin.entry(&entry(issuer, at))],
                jti: id,
            }
        };
        feed.policy().issuers().iter().map(signal).collect()
    }
}

/// Orders it in the name of `by`. A hub that runs does it within a second, another one when it starts.
pub fn order(store: &dyn crate::store::Store, by: &str) -> Result<(), StoreError> {
    store.set(CUT_OFF, by)
}

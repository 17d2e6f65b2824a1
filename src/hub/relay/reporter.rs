//! Tells the hub of the proxies behind a relay: who has changed since it was last told, a few times a second.

use crate::feed::followers::written::Which;
use crate::feed::relayed::{MAX_BATCH, RelayReport, RelayReportAnswer, RelayedFollower};
use crate::relay::feed::RelayFeed;
use crate::relay::upstream::{NoPage, Upstream};
use crate::repeated::Repeated;
use crate::store::model::FollowerRecord;
use hashbrown::HashMap;
use serde_json::Value;
use std::sync::Arc;
use std::time::{Duration, Instant};
use taskfence_core::encoding::digest::{Digest, sha256};
use tokio::time::sleep;

/// Between two reports.
const PAUSE: Duration = Duration::from_millis(250);

/// After a report that failed.
const RETRY: Duration = Duration::from_secs(1);

/// A report goes out after this, also when nothing has changed.
const LONGEST: Duration = Duration::from_secs(5);

/// After a report of something new, or of a new head, so many follow at once: a hub that has answered a report knows from
/// the next one that there is nobody else, and there may be two replicas that get them in turn.
const MORE: u32 = 3;

/// So often followers that are silent are removed.
const EXPIRE: Duration = Duration::from_secs(5);

/// So many ids of followers that are gone are kept for a hub that does not answer.
const MAX_GONE: usize = 100_000;

/// What tells the hub of the followers of one feed.
pub struct Reporter {
    feed: Arc<RelayFeed>,
    upstream: Arc<Upstream>,
    /// A random name for this run of the relay.
    instance: String,
    /// What the hub knows of the report of each follower.
    told: HashMap<String, Digest>,
    /// What the hub says of what it knows: when it changes, it may have forgotten proxies.
    hub: Option<String>,
    gone: Vec<String>,
    last: Instant,
    expired: Instant,
    reporting: Repeated,
}

/// Why the hub was not told.
#[derive(Debug, thiserror::Error)]
enum NotTold {
    #[error(transparent)]
    NoAnswer(#[from] NoPage),
    #[error("the answer of the hub cannot be read: {0}")]
    Answer(#[from] serde_json::Error),
}

impl Reporter {
    /// Tells `upstream` of the followers of `feed`. `instance` is a random name for this run of the relay.
    pub fn new(feed: Arc<RelayFeed>, upstream: Arc<Upstream>, instance: String) -> Reporter {
        let reporting = Repeated::new("the hub cannot be told of the proxies behind this relay");
        let (told, now) = (HashMap::new(), Instant::now());
        Reporter { feed, upstream, instance, told, hub: None, gone: Vec::new(), last: now, expired: now, reporting }
    }

    /// Tells until it is dropped.
    pub async fn run(mut self) {
        // The first one says that there is a relay.
        let (mut more, mut head) = (MORE, None);
        loop {
            self.expire();
            let records = self.feed.followers.unwritten(Which::Changed, MAX_BATCH);
            let current = self.feed.head().map(|(head, _)| head);
            if !records.is_empty() || !self.gone.is_empty() || current != head {
                (more, head) = (MORE, current);
            }
            if more == 0 && self.last.elapsed() < LONGEST {
                sleep(PAUSE).await;
                continue;
            }
            let is_full = records.len() >= MAX_BATCH;
            let told = self.tell(&records).await;
            if self.reporting.note(&self.feed.name, &told) {
                more = more.saturating_sub(1);
                self.last = Instant::now();
                sleep(if is_full { Duration::ZERO } else { PAUSE }).await;
            } else {
                self.feed.followers.not_written(&records);
                sleep(RETRY).await;
            }
        }
    }

    fn expire(&mut self) {
        if self.expired.elapsed() < EXPIRE {
            return;
        }
        self.expired = Instant::now();
        let gone = self.feed.followers.expire();
        self.feed.expire(&gone);
        gone.iter().for_each(|id| _ = self.told.remove(id));
        self.gone.extend(gone);
        self.gone.truncate(MAX_GONE);
    }

    async fn tell(&mut self, records: &[FollowerRecord]) -> Result<(), NotTold> {
        let followers = records.iter().map(|record| self.follower(record)).collect();
        let gone: Vec<_> = self.gone.iter().take(MAX_BATCH).cloned().collect();
        let report = RelayReport { instance: self.instance.clone(), followers, gone: gone.clone() };
        let answer = self.upstream.report(&self.feed.name, serde_json::to_string(&report)?).await?;
        let answer: RelayReportAnswer = serde_json::from_slice(&answer)?;
        self.gone.drain(..gone.len());
        for record in records {
            self.told.insert(record.id.clone(), sha256(record.report.as_bytes()));
        }
        self.feed.followers.stored(records);
        let unknown = records.iter().filter(|record| answer.unknown.contains(&record.id));
        let unknown: Vec<_> = unknown.cloned().collect();
        unknown.iter().for_each(|record| _ = self.told.remove(&record.id));
        self.feed.followers.not_written(&unknown);
        let before = self.hub.replace(answer.memory.clone());
        if before.is_some_and(|before| before != answer.memory) {
            self.told.clear();
            self.feed.followers.write_again();
        }
        Ok(())
    }

    fn follower(&self, record: &FollowerRecord) -> RelayedFollower {
        let is_known = self.told.get(&record.id) == Some(&sha256(record.report.as_bytes()));
        RelayedFollower {
            id: record.id.clone(),
            principal: record.principal.clone(),
            applied: record.applied.to_string(),
            seen_ms: record.seen,
            report: if is_known { None } else { reported(&record.report, |kid| self.upstream.knows(kid)) },
        }
    }
}

/// The report of a follower, with the keys that this relay knows too: it can hand on nothing that is signed with another.
fn reported(report: &str, knows: impl Fn(&str) -> bool) -> Option<Value> {
    let mut report: Value = serde_json::from_str(report).ok()?;
    if let Some(kids) = report.get_mut("kids").and_then(Value::as_array_mut) {
        kids.retain(|kid| kid.as_str().is_some_and(&knows));
    }
    Some(report)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_key_that_the_relay_does_not_know_is_known_to_nobody_behind_it() {
        let report = json!({"id": "follower", "stale_after": 30, "kids": ["old", "next"]}).to_string();
        let said = reported(&report, |kid| kid == "old").unwrap();
        assert_eq!(said, json!({"id": "follower", "stale_after": 30, "kids": ["old"]}));
        assert_eq!(reported("{", |_| true), None);
    }
}

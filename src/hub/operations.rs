//! The parts of the hub behind the API: intake for events and stops, the writer for what is undone, feeds for receipts.

use crate::api::model::{ProxyAnswer, ReceiptAnswer, SlowestAnswer, TakenAnswer, WaitingAnswer};
use crate::api::operations::{self, Operations, StopOrder};
use crate::feed::feed::NoAnswer;
use crate::feed::follower::Follower;
use crate::feed::receipts::{Closes, Never, Receipt};
use crate::feed::{Feeds, Receipts};
use crate::intake::operator::{Made, OperatorError, OperatorEvent};
use crate::intake::service::Intake;
use crate::problem::Problem;
use crate::store::clock::Clock;
use crate::store::model::{Change, Outcome, StoredEntry};
use crate::store::writer::{SubmitError, Writer};
use futures_util::future::{BoxFuture, FutureExt};
use serde_json::{Map, Value};
use std::sync::Arc;
use std::time::Duration;
use taskfence_core::feed::entry::{Decoded, decode};
use taskfence_core::feed::revision::Revision;

/// The note for an undo that leaves the subject as it was.
const OTHERS: &str = "other signals of the same stream say the same about the same subject, and stand";

/// The parts of a running hub.
pub struct Parts {
    /// Takes signals in.
    pub intake: Intake,
    /// Stores changes.
    pub writer: Writer,
    /// What proxies follow.
    pub feeds: Arc<Feeds>,
    /// The clock.
    pub clock: Clock,
}

impl Operations for Parts {
    fn now(&self) -> u64 {
        self.clock.now_ms()
    }

    fn event(&self, event: operations::OperatorEvent) -> BoxFuture<'_, Result<TakenAnswer, Problem>> {
        async move {
            let operations::OperatorEvent { feed, by, event, details, subject, issuer, reason, jti, caller } = event;
            let event = OperatorEvent { event, details, subject, issuer, reason, id: jti, caller };
            Ok(taken(self.intake.operator_event(&feed, &by, event).await?))
        }
        .boxed()
    }

    fn stop(&self, order: StopOrder) -> BoxFuture<'_, Result<TakenAnswer, Problem>> {
        async move {
            let StopOrder { feed, by, issuer, what, reason } = order;
            let mut subject = Map::from_iter([("issuer".to_owned(), Value::String(issuer))]);
            subject.extend(what.map(|(what, name)| (what.as_str().to_owned(), Value::String(name))));
            Ok(taken(self.intake.stop(&feed, &by, &Value::Object(subject), &reason).await?))
        }
        .boxed()
    }

    fn lift(&self, feed: &str, signal: u64, by: &str, reason: &str) -> BoxFuture<'_, Result<TakenAnswer, Problem>> {
        let (feed, by, reason, at) = (feed.to_owned(), by.to_owned(), reason.to_owned(), self.clock.now_ms());
        async move {
            let outcome = self.writer.submit(Change::Lift { feed, signal, by, reason, at }).await?;
            let mut notes = Vec::new();
            let (revision, entries, repeated) = match outcome {
                Outcome::Stored { revision, entries, .. } => {
                    notes.extend(entries.iter().any(still_stands).then(|| OTHERS.to_owned()));
                    (revision, entries.len(), false)
                }
                Outcome::Repeated { revision, .. } => (revision, 0, true),
                Outcome::Unknown | Outcome::Contradicts { .. } => {
                    let remedy = "GET /v1/feeds/{feed}/signals lists those that are kept";
                    return Err(Problem::missing(format!("there is no signal {signal}"), remedy));
                }
            };
            let (revision, entries) = (revision.to_string(), count(entries));
            Ok(TakenAnswer { signal, jti: String::new(), revision, entries, repeated, notes })
        }
        .boxed()
    }

    fn receipt(&self, feed: &str, number: u64, wait: Duration) -> BoxFuture<'_, Result<ReceiptAnswer, Problem>> {
        let (receipts, feed) = (Receipts::new(Arc::clone(&self.feeds)), feed.to_owned());
        async move {
            let receipt = receipts.wait(&feed, number, wait).await?;
            let missing =
                || Problem::missing(format!("the feed has no entry {number} any more"), "look at the state instead");
            Ok(receipt_answer(receipt.ok_or_else(missing)?))
        }
        .boxed()
    }

    fn proxies(&self, feed: &str) -> Result<Vec<ProxyAnswer>, Problem> {
        let feed = self.feeds.feed(feed).ok_or_else(|| Problem::missing("there is no such feed", "see /v1/feeds"))?;
        let head = feed.head();
        Ok(feed
            .followers
            .all()
            .into_iter()
            .map(|(id, follower)| proxy(id, &follower, head, feed.closes(&follower)))
            .collect())
    }
}

fn taken(made: Made) -> TakenAnswer {
    let Made { signal, jti, revision, entries, notes, repeated } = made;
    TakenAnswer { signal, jti, revision: revision.to_string(), entries: count(entries), repeated, notes }
}

fn receipt_answer(receipt: Receipt) -> ReceiptAnswer {
    let committed_at_ms = receipt.committed_at;
    let slowest = receipt.slowest.zip(committed_at_ms).map(|(slowest, committed)| SlowestAnswer {
        node: slowest.node,
        after_ms: slowest.applied_at.saturating_sub(committed),
    });
    let waiting = receipt.waiting.into_iter().map(|waiting| {
        let (closes_at_ms, never) = closing(waiting.closes);
        let (id, node, applied) = (waiting.id, waiting.node, waiting.applied.to_string());
        WaitingAnswer { id, node, applied, seen_ms: waiting.seen, closes_at_ms, never }
    });
    let note = |_| "the hub or its store is new; until `may_miss_until_ms` there may be proxies that it does not know";
    ReceiptAnswer {
        number: receipt.revision.number,
        committed_at_ms,
        confirmed: count(receipt.confirmed),
        starting: count(receipt.starting),
        complete: receipt.complete,
        slowest,
        waiting: waiting.collect(),
        may_miss_until_ms: receipt.may_miss_until,
        note: receipt.may_miss_until.map(note).map(str::to_owned),
    }
}

fn closing(closes: Closes) -> (Option<u64>, Option<String>) {
    match closes {
        Closes::At(at) => (Some(at), None),
        Closes::Never(Never::NoLimit) => {
            (None, Some("its `signals.stale` is not set, is longer than a day, or has `then: allow`".to_owned()))
        }
        Closes::Never(Never::Shadow) => (None, Some("it is in shadow mode".to_owned())),
    }
}

fn proxy(id: String, follower: &Follower, head: Revision, closes: Closes) -> ProxyAnswer {
    let (applied, report) = (follower.applied, &follower.report);
    ProxyAnswer {
        id,
        node: report.node.to_string(),
        principal: follower.principal.to_string(),
        version: report.version.to_string(),
        mode: report.mode.to_string(),
        config: report.config.to_string(),
        applied: applied.to_string(),
        behind: (applied.epoch == head.epoch).then(|| head.number.saturating_sub(applied.number)),
        seen_ms: follower.seen,
        waits: follower.polling > 0,
        stale_after: report.stale_after,
        // After the last statement that it got.
        closes_at_ms: closing(closes).0,
        skew_ms: report.skew_ms.unwrap_or_default(),
        saturated: report.saturated,
    }
}

/// Whether an entry that takes the place of an undone one is in force, because of other signals.
fn still_stands(stored: &StoredEntry) -> bool {
    match decode(&stored.entry.bytes).next() {
        Some(Ok(Decoded::Known(read))) => !read.entry.lifted,
        _ => false,
    }
}

fn count(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

impl From<OperatorError> for Problem {
    fn from(error: OperatorError) -> Problem {
        match error {
            OperatorError::UnknownFeed(feed) => Problem::missing(format!("there is no feed `{feed}`"), "see /v1/feeds"),
            OperatorError::Bad { message, help } => Problem::bad_request(message, help),
            OperatorError::Contradicts(signal) => {
                let detail = format!("the id was used before, for the signal {signal}");
                Problem::conflict(detail, "leave `jti` out, or use another one")
            }
            OperatorError::Submit(error) => error.into(),
        }
    }
}

impl From<SubmitError> for Problem {
    fn from(error: SubmitError) -> Problem {
        // The log of calls says who was answered 503, and the caller is told why.
        tracing::debug!(%error, "a change was not stored");
        Problem::unavailable(error.to_string())
    }
}

impl From<NoAnswer> for Problem {
    fn from(error: NoAnswer) -> Problem {
        Problem::unavailable(error.to_string())
    }
}

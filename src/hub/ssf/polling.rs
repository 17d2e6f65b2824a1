//! Polls a stream without pause, and takes in what comes. A SET is acknowledged by the next poll, once it is durable; one
//! that is refused for good is reported with its code; one that may be taken in later is left, so that it comes again.

use crate::intake::service::Intake;
use crate::repeated::Repeated;
use crate::ssf::client::failure::Failure;
use crate::ssf::client::poll::{self, Page, Polled, Report, Wish};
use crate::ssf::client::session::Session;
use crate::ssf::condition::Condition;
use crate::ssf::pace::Backoff;
use crate::store::clock::Clock;
use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream;
use reqwest::Url;
use std::time::Duration;
use taskfence_core::signal::event::Type;
use taskfence_core::signal::receiver::Received;
use taskfence_core::signal::set_error::SetErrorCode;
use tokio::sync::Notify;
use tokio::time::Instant;

/// So many SETs are asked for at once.
const MAX_EVENTS: usize = 500;

/// So many of a page are taken in at once: they share commits.
const AT_ONCE: usize = 128;

/// After so many failures in a row the transmitter is discovered again.
const PATIENCE: u32 = 5;

/// An empty answer that comes sooner is no long poll: the next one waits. It does too where the transmitter says that there
/// is more, and gives nothing.
const PAUSE: Duration = Duration::from_secs(1);

/// A poll begins at least so long after the one before, so that pages of one SET are not fetched as fast as they can be.
const APART: Duration = Duration::from_millis(10);

/// What polling needs.
pub(super) struct Polling<'p> {
    pub(super) intake: &'p Intake,
    pub(super) session: &'p Session,
    pub(super) clock: &'p Clock,
    pub(super) condition: &'p Condition,
    pub(super) feed: &'p str,
    /// The name of the stream.
    pub(super) name: &'p str,
    pub(super) endpoint: Url,
    pub(super) wait: Duration,
    /// Rung when the transmitter says something about the stream itself.
    pub(super) stream_updated: &'p Notify,
    pub(super) repeated: &'p Repeated,
    /// What the next poll acknowledges.
    pub(super) report: Report,
}

impl Polling<'_> {
    /// Polls until the stream is gone (`Ok`), or until polling fails again and again.
    pub(super) async fn run(mut self) -> Result<(), Failure> {
        let (mut backoff, mut idle) = (Backoff::default(), Backoff::default());
        let (mut max_events, mut is_suspect) = (MAX_EVENTS, false);
        loop {
            // After a poll that hung, or that something between gave up, the next one is answered at once.
            let wait = (!is_suspect).then_some(self.wait);
            let begun = Instant::now();
            match poll::poll(self.session, &self.endpoint, &self.report, Wish { max_events, wait }).await {
                Ok(Polled::Missing) => return Ok(()),
                Ok(Polled::Page(page)) => {
                    self.repeated.went_well(self.name);
                    backoff.reset();
                    is_suspect = false;
                    max_events = max_events.saturating_mul(2).min(MAX_EVENTS);
                    self.report = Report::default();
                    let is_empty = page.sets.is_empty();
                    let deferred = self.take_in(page).await;
                    let polled = self.clock.now_ms();
                    self.condition.note(|now| (now.polls, now.polled) = (now.polls.saturating_add(1), polled));
                    if is_empty {
                        let early = PAUSE.saturating_sub(begun.elapsed());
                        tokio::time::sleep(early).await;
                    } else if deferred && self.report.is_empty() {
                        tokio::time::sleep(idle.next(None).min(Duration::from_secs(5))).await;
                    } else {
                        idle.reset();
                        tokio::time::sleep(APART.saturating_sub(begun.elapsed())).await;
                    }
                }
                Err(failure) => {
                    self.condition.failed(failure.step);
                    self.repeated.failed(self.name, &failure);
                    if failure.is(413) {
                        max_events = (max_events / 4).max(1);
                    }
                    // 401 after a new token: only the operator can help, and discovery says so.
                    if failure.is(401) || failure.is(403) || backoff.failures() >= PATIENCE {
                        return Err(failure);
                    }
                    is_suspect = failure.status.is_none_or(|status| status >= 500);
                    tokio::time::sleep(backoff.next(failure.retry_after)).await;
                }
            }
        }
    }

    /// Takes in a page, and notes what to report. Returns whether something of it must come again.
    async fn take_in(&mut self, page: Page) -> bool {
        let (intake, feed) = (self.intake, self.feed);
        let all = stream::iter(page.sets).map(|(jti, set)| async move {
            let received = intake.take_in_fetched(feed, Bytes::from(set)).await;
            (jti, received)
        });
        let mut all = all.buffer_unordered(AT_ONCE);
        let mut deferred = 0_u64;
        while let Some((jti, received)) = all.next().await {
            match received.map_or(Outcome::Later, outcome) {
                Outcome::Stored { about_stream } => {
                    self.report.stored.push(jti);
                    if about_stream {
                        self.stream_updated.notify_one();
                    }
                }
                Outcome::Refused(code, why) => self.report.refused.push((jti, code, why)),
                Outcome::Later => deferred = deferred.saturating_add(1),
            }
        }
        let count = |list: usize| u64::try_from(list).unwrap_or(u64::MAX);
        let (stored, refused) = (count(self.report.stored.len()), count(self.report.refused.len()));
        self.condition.note(|now| {
            now.acknowledged = now.acknowledged.saturating_add(stored);
            now.refused = now.refused.saturating_add(refused);
            now.deferred = now.deferred.saturating_add(deferred);
        });
        deferred > 0
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    /// It is durable, or was before.
    Stored {
        /// It says something about the stream.
        about_stream: bool,
    },
    /// It is refused for good.
    Refused(&'static str, String),
    /// It may be taken in later.
    Later,
}

fn outcome(received: Received) -> Outcome {
    match received {
        Received::Applied(signal) => Outcome::Stored { about_stream: signal.event() == Type::StreamUpdated.uri() },
        Received::Contradicts(_) => {
            let why = "jti was used before for something else".to_owned();
            Outcome::Refused(SetErrorCode::InvalidRequest.code(), why)
        }
        Received::Refused(error) if error.retry_after.is_none() => {
            Outcome::Refused(error.code.code(), error.description)
        }
        Received::Refused(_) | Received::Failed(..) | Received::NotAPush(_) => Outcome::Later,
    }
}

//! What is done for all streams again and again: each stream that is pushed has a task, streams whose receiver is gone or
//! silent are paused, and it is known how far each is behind.

use crate::problem::Problem;
use crate::repeated::Repeated;
use crate::streams::answers::StreamSummary;
use crate::streams::backlog;
use crate::streams::push;
use crate::streams::record::{Delivery, Status, StreamRecord, without_query};
use crate::streams::service::{SentFeed, Streams};
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::task::JoinHandle;

/// New streams are seen after this long.
const LOOK: Duration = Duration::from_secs(1);

/// Every so many looks each stream is gone over.
const GO_OVER: u32 = 30;

/// How far a stream is behind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamLag {
    /// The feed.
    pub feed: String,
    /// The id of the stream.
    pub stream: String,
    /// So many SETs wait; at most 1000 are counted.
    pub waiting: u64,
    /// How long the oldest of them has waited, in milliseconds.
    pub behind_ms: u64,
}

/// Why a stream is paused whose receiver does nothing.
const INACTIVE: &str = "the receiver has done nothing for longer than inactivity_timeout";

/// Why a stream is paused whose principal has no role any more.
const NO_ROLE: &str = "its principal may not have streams of this feed any more";

impl Streams {
    /// Pushes, and looks after all streams, until the hub stops.
    pub async fn run(self) {
        let looking = Repeated::new("the streams cannot be read");
        let mut stop = self.0.stop.clone();
        let mut tasks = BTreeMap::<(String, String), JoinHandle<()>>::new();
        let mut looks = 0u32;
        loop {
            let go_over = looks == 0;
            looks = looks.saturating_add(1).checked_rem(GO_OVER).unwrap_or_default();
            let pushed = self.blocking(move |streams| streams.look(go_over)).await;
            let pushed = pushed.map_err(|problem| problem.detail().to_owned());
            looking.note("", &pushed);
            tasks.retain(|_, task| !task.is_finished());
            for at in pushed.unwrap_or_default() {
                let start = || tokio::spawn(push::run(self.clone(), at.0.clone(), at.1.clone()));
                tasks.entry(at.clone()).or_insert_with(start);
            }
            tokio::select! {
                () = tokio::time::sleep(LOOK) => {}
                _ = stop.changed() => break,
            }
        }
        for (_, task) in tasks {
            _ = task.await;
        }
    }

    /// The streams that are pushed: feed and id. Blocks.
    fn look(&self, go_over: bool) -> Result<Vec<(String, String)>, Problem> {
        let mut pushed = Vec::new();
        for sent in &self.0.feeds {
            for stream in self.0.records.of_feed(&sent.feed.name)? {
                if go_over {
                    self.go_over(sent, &stream)?;
                }
                if matches!(stream.delivery, Delivery::Push { .. }) {
                    pushed.push((stream.feed, stream.id));
                }
            }
        }
        Ok(pushed)
    }

    /// Pauses a stream that must not go on, and moves it past what is not for it. Blocks.
    fn go_over(&self, sent: &SentFeed, stream: &StreamRecord) -> Result<(), Problem> {
        if stream.status == Status::Disabled {
            return Ok(());
        }
        let now = self.now();
        let next = backlog::read(&*self.0.records.0, sent.sender(), stream, 1, now)?;
        self.advance(sent, stream, &next)?;
        let moved = StreamRecord { complete_until: stream.complete_until.max(next.complete_until), ..stream.clone() };
        self.pause_at_gap(&moved)?;
        let silent = now.saturating_sub(stream.seen) / 1_000 > self.0.settings.inactivity_timeout.0;
        let has_role = (self.0.may_receive)(&stream.principal, &stream.feed);
        let reason = if has_role { silent.then_some(INACTIVE) } else { Some(NO_ROLE) };
        let Some(reason) = reason.filter(|_| stream.status == Status::Enabled) else { return Ok(()) };
        sent.counters.paused.add();
        let (feed, id, principal) = (&stream.feed, &stream.id, &stream.principal);
        tracing::warn!(feed, stream = id, principal, "a stream is paused: {reason}");
        self.change(feed, id, |stream| stream.change_status(Status::Paused, reason, now))?;
        Ok(())
    }

    /// How far each stream is behind, of those that are not disabled. Blocks, at a scrape of the metrics. An error is in
    /// the log, and leaves the feed out.
    pub fn lags(&self) -> Vec<StreamLag> {
        let mut lags = Vec::new();
        for sent in &self.0.feeds {
            let all = self.summaries(&sent.feed.name);
            let all = all.inspect_err(|problem| tracing::debug!(detail = problem.detail(), "no lag of streams"));
            let all = all.unwrap_or_default().into_iter().filter(|stream| stream.status != Status::Disabled.as_str());
            lags.extend(all.map(|StreamSummary { stream_id, waiting, behind_ms, .. }| StreamLag {
                feed: sent.feed.name.clone(),
                stream: stream_id,
                waiting,
                behind_ms,
            }));
        }
        lags
    }

    /// The streams of a feed as an operator sees them.
    pub async fn list(&self, feed: String) -> Result<Vec<StreamSummary>, Problem> {
        self.blocking(move |streams| streams.summaries(&feed)).await
    }

    /// The same. Blocks.
    fn summaries(&self, feed: &str) -> Result<Vec<StreamSummary>, Problem> {
        let Some(sent) = self.feed(feed) else { return Ok(Vec::new()) };
        let now = self.now();
        let mut all = Vec::new();
        for stream in self.0.records.of_feed(feed)? {
            let waiting = backlog::read(&*self.0.records.0, sent.sender(), &stream, usize::MAX, now)?;
            let oldest = waiting.sets.first().map(|set| set.taken_in);
            let endpoint = match &stream.delivery {
                Delivery::Push { endpoint_url, .. } => Some(endpoint_url.clone()),
                Delivery::Poll => None,
            };
            all.push(StreamSummary {
                stream_id: stream.id,
                principal: stream.principal,
                delivery: if endpoint.is_some() { "push" } else { "poll" }.to_owned(),
                endpoint: endpoint.map(|url| without_query(&url)),
                status: stream.status.as_str().to_owned(),
                reason: stream.reason,
                description: stream.description,
                after: waiting.passed,
                waiting: u64::try_from(waiting.sets.len()).unwrap_or(u64::MAX),
                behind_ms: oldest.map_or(0, |oldest| now.saturating_sub(oldest)),
                seen_ms: stream.seen,
            });
        }
        Ok(all)
    }
}

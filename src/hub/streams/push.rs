//! Delivery by push (RFC 8935): one SET after the other, in the order of the signals, each until it is answered.

use crate::problem::Problem;
use crate::store::lease::Lease;
use crate::streams::answers::SetErr;
use crate::streams::backlog;
use crate::streams::record::{Authorization, Delivery, Status, StreamRecord};
use crate::streams::service::{SentFeed, Streams};
use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, RETRY_AFTER};
use reqwest::{Response, StatusCode};
use std::time::Duration;
use tokio::time::sleep;

/// So many SETs are signed and pushed before the position is stored.
const BATCH: usize = 32;

/// A replica that pushes holds the lease of the stream for so long; longer than one push. When it dies, the others wait so long.
const LEASE: Duration = Duration::from_secs(12);

/// A stream with nothing to push is looked at so often, beside when this replica stores a signal.
const LOOK: Duration = Duration::from_secs(1);

/// The first pause after a failure. Each further one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(500);

/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(300);

/// A SET that is refused because its key is not known is pushed so often: the receiver may get the key meanwhile.
const KEY_TRIES: u32 = 10;

/// The longest answer that is read, in bytes.
const MAX_ANSWER: usize = 8 * 1024;

/// What became of a push.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Pushed {
    /// Answered 202.
    Taken,
    /// Answered 400: it is of no use to push it again.
    Refused(SetErr),
    /// The receiver lets the hub do nothing.
    Forbidden(String),
    /// To be tried again, at the earliest after so long.
    Failed(String, Option<Duration>),
}

/// One SET to push.
struct Item {
    jti: String,
    set: String,
    /// The signal and when it was taken in; `None`: about the stream itself.
    signal: Option<(u64, u64)>,
}

/// What is to be pushed next.
struct Work {
    stream: StreamRecord,
    items: Vec<Item>,
    passed: u64,
}

/// Pushes what a stream gets until it is deleted, polled, or the hub stops.
pub(super) async fn run(streams: Streams, feed: String, id: String) {
    let mut head = streams.0.writer.head(&feed);
    let mut stop = streams.0.stop.clone();
    let mut failures = 0u32;
    let lease = Lease::new(streams.0.records.0.clone(), &format!("stream/{feed}/{id}"), &streams.0.replica);
    loop {
        let turn = tokio::select! {
            turn = turn(&streams, &feed, &id, &lease, &mut failures) => turn,
            _ = stop.changed() => Turn::End,
        };
        let pause = match turn {
            Turn::End => break,
            Turn::Again => continue,
            Turn::Idle => LOOK,
            Turn::Pause(pause) => pause,
        };
        tokio::select! {
            () = sleep(pause) => {}
            _ = head.changed(), if turn == Turn::Idle => {}
            _ = stop.changed() => break,
        }
    }
    let released = tokio::task::spawn_blocking(move || lease.release()).await;
    if let Ok(Err(error)) = released {
        tracing::debug!(feed, stream = id, %error, "the lease of a stream ends by itself");
    }
}

/// How a look at a stream ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Turn {
    /// There may be more.
    Again,
    /// There is nothing.
    Idle,
    /// It failed: so long nothing is tried.
    Pause(Duration),
    /// There is no such stream to push any more.
    End,
}

async fn turn(streams: &Streams, feed: &str, id: &str, lease: &Lease, failures: &mut u32) -> Turn {
    let at = (feed.to_owned(), id.to_owned());
    let work = match streams.blocking(move |streams| streams.work(&at.0, &at.1)).await {
        Ok(Some(work)) => work,
        Ok(None) => return Turn::End,
        Err(problem) => {
            streams.0.storing.failed(id, problem.detail());
            return Turn::Pause(LOOK);
        }
    };
    if work.items.is_empty() {
        return Turn::Idle;
    }
    let Some(sent) = streams.feed(feed) else { return Turn::End };
    let mut done = Done { passed: work.passed.max(work.stream.after), ..Done::default() };
    let mut turn = Turn::Again;
    for item in &work.items {
        if !hold(streams, lease).await {
            turn = Turn::Idle;
            break;
        }
        let pushed = push(streams, &work.stream, &item.set).await;
        match settle(sent, &work.stream, item, pushed, failures, &mut done) {
            Turn::Again => {}
            other => {
                turn = other;
                break;
            }
        }
    }
    let at = (feed.to_owned(), id.to_owned());
    let stored = streams.blocking(move |streams| streams.store_done(&at.0, &at.1, &done)).await;
    match stored {
        Ok(()) => {
            streams.0.storing.went_well(id);
            turn
        }
        Err(problem) => {
            streams.0.storing.failed(id, problem.detail());
            Turn::Pause(LOOK)
        }
    }
}

/// What a turn has done.
#[derive(Debug, Default)]
struct Done {
    /// Up to this signal nothing waits.
    passed: u64,
    /// What was taken in up to then was delivered.
    complete_until: u64,
    /// Events about the stream that need not be pushed again.
    told: Vec<String>,
    /// Why the stream is paused.
    pause: Option<String>,
    /// Whether the receiver took anything.
    was_heard: bool,
}

impl Done {
    /// `item` need not be pushed again.
    fn finish(&mut self, item: &Item) {
        match item.signal {
            Some((signal, taken_in)) => {
                self.passed = self.passed.max(signal);
                self.complete_until = self.complete_until.max(taken_in);
            }
            None => self.told.push(item.jti.clone()),
        }
    }
}

fn settle(
    sent: &SentFeed,
    stream: &StreamRecord,
    item: &Item,
    pushed: Pushed,
    failures: &mut u32,
    done: &mut Done,
) -> Turn {
    let (feed, id, jti) = (&sent.feed.name, &stream.id, &item.jti);
    match pushed {
        Pushed::Taken => {
            sent.counters.pushed.add();
            if std::mem::take(failures) > 0 {
                tracing::info!(feed, stream = id, "pushes succeed again");
            }
            done.was_heard = true;
            done.finish(item);
            Turn::Again
        }
        Pushed::Refused(SetErr { err, description }) if err == "invalid_key" && *failures < KEY_TRIES => {
            failed(sent, stream, &format!("400 {err}: {description}"), None, failures)
        }
        Pushed::Refused(SetErr { err, description }) => {
            sent.counters.refused.add();
            *failures = 0;
            tracing::warn!(
                feed,
                stream = id,
                jti,
                err,
                description,
                "a receiver refused a SET; it does not get it again"
            );
            done.finish(item);
            Turn::Again
        }
        Pushed::Forbidden(why) => {
            // That it is paused cannot be told either.
            if stream.status != Status::Enabled {
                done.finish(item);
                return Turn::Again;
            }
            sent.counters.paused.add();
            tracing::error!(
                feed,
                stream = id,
                principal = stream.principal,
                why,
                "a stream is paused: its receiver refuses the hub"
            );
            done.pause = Some(format!("the endpoint of the receiver refuses pushes: {why}"));
            Turn::Idle
        }
        Pushed::Failed(why, after) => failed(sent, stream, &why, after, failures),
    }
}

fn failed(sent: &SentFeed, stream: &StreamRecord, why: &str, after: Option<Duration>, failures: &mut u32) -> Turn {
    sent.counters.failed.add();
    let (feed, id) = (&sent.feed.name, &stream.id);
    let pause = FIRST_PAUSE.saturating_mul(1u32.checked_shl((*failures).min(16)).unwrap_or(u32::MAX));
    let pause = pause.max(after.unwrap_or_default()).min(LONGEST_PAUSE);
    if *failures == 0 {
        tracing::warn!(feed, stream = id, why, "a push failed; it is tried again");
    } else {
        tracing::debug!(feed, stream = id, why, failures, "a push failed again");
    }
    *failures = failures.saturating_add(1);
    Turn::Pause(jittered(pause))
}

/// Between three quarters and all of `pause`, so that streams that failed together do not come back together.
fn jittered(pause: Duration) -> Duration {
    let chance = f64::from(u32::try_from(getrandom::u64().unwrap_or(0) & 0xff).unwrap_or_default()) / 1_024.0;
    pause.saturating_sub(pause.mul_f64(chance))
}

async fn hold(streams: &Streams, lease: &Lease) -> bool {
    let (lease, now) = (lease.clone(), streams.now());
    let held = tokio::task::spawn_blocking(move || lease.hold(now, LEASE)).await;
    matches!(held, Ok(Ok(true)))
}

async fn push(streams: &Streams, stream: &StreamRecord, set: &str) -> Pushed {
    let Delivery::Push { endpoint_url, authorization_header } = &stream.delivery else {
        return Pushed::Failed("the stream is not pushed any more".to_owned(), None);
    };
    // What is allowed may have changed since the stream was made.
    let url = match streams.0.allowed.check(endpoint_url) {
        Ok(url) => url,
        Err(error) => return Pushed::Forbidden(error.to_string()),
    };
    let request = streams.0.client.post(url).header(CONTENT_TYPE, "application/secevent+jwt");
    let mut request = request.header(ACCEPT, "application/json").body(set.to_owned());
    if let Some(Authorization(value)) = authorization_header {
        request = request.header(AUTHORIZATION, value);
    }
    match request.send().await {
        Ok(response) => read(response).await,
        Err(error) => Pushed::Failed(cause(error), None),
    }
}

async fn read(mut response: Response) -> Pushed {
    let status = response.status();
    let after = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
    let after = after.map(Duration::from_secs);
    match status {
        StatusCode::ACCEPTED => Pushed::Taken,
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Pushed::Forbidden(status.to_string()),
        StatusCode::BAD_REQUEST => {
            let mut body = Vec::new();
            while let Ok(Some(chunk)) = response.chunk().await {
                body.extend_from_slice(&chunk);
                if body.len() > MAX_ANSWER {
                    break;
                }
            }
            match serde_json::from_slice::<SetErr>(&body) {
                Ok(refused) if matches!(refused.err.as_str(), "authentication_failed" | "access_denied") => {
                    Pushed::Forbidden(format!("{}: {}", refused.err, refused.description))
                }
                Ok(refused) if !refused.err.is_empty() => Pushed::Refused(refused),
                // A proxy on the way may answer 400 too.
                _ => Pushed::Failed("400 without a reason of RFC 8935 §2.3".to_owned(), after),
            }
        }
        other => Pushed::Failed(format!("the receiver answered {other}, and not 202 (RFC 8935 §2.2)"), after),
    }
}

/// The innermost cause, which says what happened.
fn cause(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut cause: &dyn std::error::Error = &error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}

impl Streams {
    /// What is to be pushed next; `Ok(None)`: the stream is not pushed any more. Blocks.
    fn work(&self, feed: &str, id: &str) -> Result<Option<Work>, Problem> {
        let stream = self.0.records.read(feed, id)?;
        let Some(stream) = stream.filter(|stream| matches!(stream.delivery, Delivery::Push { .. })) else {
            return Ok(None);
        };
        let Some(sent) = self.feed(feed) else { return Ok(None) };
        let idle = |stream| Ok(Some(Work { stream, items: Vec::new(), passed: 0 }));
        // Who lost the role gets nothing, not even that.
        if !(self.0.may_receive)(&stream.principal, feed) {
            return idle(stream);
        }
        if self.pause_at_gap(&stream)? && stream.status == Status::Enabled {
            return self.work(feed, id);
        }
        let sender = sent.sender();
        let mut items = Vec::new();
        for event in stream.sendable() {
            let set = self.0.keys.to_sign().sign(&sender.about_stream(&stream, event))?;
            items.push(Item { jti: event.jti.clone(), set, signal: None });
        }
        if stream.status != Status::Enabled {
            return Ok(Some(Work { stream, items, passed: 0 }));
        }
        let next = backlog::read(&*self.0.records.0, sender, &stream, BATCH, self.now())?;
        self.advance(sent, &stream, &next)?;
        for set in next.sets {
            let signal = Some((set.signal, set.taken_in));
            let text = self.0.keys.to_sign().sign(&set.claims)?;
            items.push(Item { jti: set.jti, set: text, signal });
        }
        Ok(Some(Work { stream, items, passed: next.passed }))
    }

    /// Stores what a turn has done. Blocks.
    fn store_done(&self, feed: &str, id: &str, done: &Done) -> Result<(), Problem> {
        let now = self.now();
        self.0.records.change(feed, id, |stream| {
            stream.about_stream.retain(|event| !done.told.contains(&event.jti));
            stream.move_on(done.passed);
            stream.complete_until = stream.complete_until.max(done.complete_until);
            if done.was_heard {
                stream.seen = now;
            }
            if let Some(reason) = &done.pause
                && stream.status == Status::Enabled
            {
                stream.change_status(Status::Paused, reason, now);
            }
        })?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_end() {
        let base = Duration::from_secs(8);
        for _ in 0..100 {
            let pause = jittered(base);
            assert!(pause <= base && pause >= base * 3 / 4, "{pause:?}");
        }
        assert!(FIRST_PAUSE.saturating_mul(1 << 16) > LONGEST_PAUSE);
    }
}

//! Delivery by poll (RFC 8936): what was not acknowledged is there again.

use crate::access::principal::Principal;
use crate::problem::Problem;
use crate::streams::answers::{PollAnswer, PollRequest, SetErr};
use crate::streams::backlog::{self, Backlog};
use crate::streams::body::{Json, NO_STORE};
use crate::streams::paths;
use crate::streams::record::{Delivery, Status, StreamRecord};
use crate::streams::service::{READ, SentFeed, Streams};
use axum::Extension;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use std::collections::BTreeSet;
use std::time::Duration;

/// A poll without `maxEvents` gets so many SETs.
const DEFAULT_EVENTS: usize = 100;

/// The most SETs of one answer.
const MAX_EVENTS: usize = 500;

/// After so many bytes of SETs the rest is left for the next poll.
const MAX_BYTES: usize = 4 * 1024 * 1024;

/// The most SETs that one poll acknowledges or refuses.
const MAX_ACKNOWLEDGED: usize = 2_000;

/// A poll is answered after this long, also without SETs.
const LONGEST_WAIT: Duration = Duration::from_secs(25);

/// A signal that another replica has stored is seen after this long.
const LOOK: Duration = Duration::from_millis(500);

/// The receiver is noted to be alive so often, in milliseconds.
const SEEN: u64 = 60_000;

/// `complete_until` of a stream is stored when it is so much older than it could be, in milliseconds. The store keeps
/// each signal for an hour at least.
pub(super) const COMPLETE: u64 = 10 * 60_000;

/// Takes acknowledgements, and gives the next SETs.
#[utoipa::path(post, path = paths::POLL, tag = "streams", params(("feed" = String, Path), ("stream" = String, Path)),
    request_body = PollRequest, responses(
        (status = 200, body = PollAnswer),
        (status = "default", body = Problem, content_type = "application/problem+json")))]
pub async fn poll(
    State(streams): State<Streams>,
    Path((feed, id)): Path<(String, String)>,
    Extension(principal): Extension<Principal>,
    Json(request, _): Json<PollRequest>,
) -> Result<Response, Problem> {
    streams.feed_of(&principal, &feed, READ)?;
    let PollRequest { max_events, return_immediately, ack, set_errs } = request;
    if ack.len().saturating_add(set_errs.len()) > MAX_ACKNOWLEDGED {
        let detail = format!("more than {MAX_ACKNOWLEDGED} SETs are acknowledged at once");
        return Err(Problem::bad_request(detail, "divide them over several polls"));
    }
    let limit = max_events.unwrap_or(DEFAULT_EVENTS).min(MAX_EVENTS);
    let mut head = streams.0.writer.head(&feed);
    let mut stop = streams.0.stop.clone();
    let (own, at) = (principal.clone(), (feed.clone(), id.clone()));
    streams.blocking(move |streams| streams.settle(&own, &at.0, &at.1, &ack, &set_errs)).await?;
    let wants = !return_immediately && limit > 0;
    let place = if wants { streams.0.polls.enter(&format!("{feed}/{id}")) } else { None };
    let end = tokio::time::sleep(LONGEST_WAIT);
    let mut end = std::pin::pin!(end);
    loop {
        let (own, at) = (principal.clone(), (feed.clone(), id.clone()));
        let answer = streams.blocking(move |streams| streams.next_sets(&own, &at.0, &at.1, limit)).await?;
        if !answer.sets.is_empty() || place.is_none() || end.is_elapsed() || *stop.borrow() {
            return Ok((NO_STORE, axum::Json(answer)).into_response());
        }
        tokio::select! {
            _ = head.changed() => {}
            _ = stop.changed() => {}
            () = &mut end => {}
            () = tokio::time::sleep(LOOK) => {}
        }
    }
}

impl Streams {
    /// Notes what the receiver has stored, or cannot use. It is durable when this returns. Blocks.
    fn settle(
        &self,
        principal: &Principal,
        feed: &str,
        id: &str,
        ack: &[String],
        set_errs: &std::collections::BTreeMap<String, SetErr>,
    ) -> Result<(), Problem> {
        let stream = self.own(principal, feed, id)?;
        if stream.delivery != Delivery::Poll {
            let detail = "the stream is delivered by push, not by poll";
            return Err(Problem::conflict(detail, "change its `delivery` first"));
        }
        let Some(sent) = self.feed(feed) else { return Ok(()) };
        let now = self.now();
        let settled: BTreeSet<&str> = ack.iter().chain(set_errs.keys()).map(String::as_str).collect();
        if settled.is_empty() {
            if now.saturating_sub(stream.seen) > SEEN {
                self.change(feed, id, |stream| stream.seen = now)?;
            }
            return Ok(());
        }
        let waiting = backlog::read(&*self.0.records.0, sent.sender(), &stream, usize::MAX, now)?;
        let mut signals = BTreeSet::new();
        // What does not wait is acknowledged already, or is no SET of this stream.
        let mut known: BTreeSet<&str> = stream.about_stream.iter().map(|event| event.jti.as_str()).collect();
        for set in waiting.sets.iter().filter(|set| settled.contains(set.jti.as_str())) {
            signals.insert(set.signal);
            known.insert(&set.jti);
        }
        for (jti, SetErr { err, description }) in set_errs.iter().filter(|(jti, _)| known.contains(jti.as_str())) {
            sent.counters.refused.add();
            tracing::warn!(
                feed,
                stream = id,
                jti,
                err,
                description,
                "a receiver cannot use a SET; it does not get it again"
            );
        }
        self.change(feed, id, |stream| {
            stream.acknowledged.extend(&signals);
            stream.about_stream.retain(|event| !settled.contains(event.jti.as_str()));
            stream.seen = now;
        })?;
        ack.iter().filter(|jti| known.contains(jti.as_str())).for_each(|_| sent.counters.acknowledged.add());
        Ok(())
    }

    /// The next SETs of a stream, signed. Blocks.
    fn next_sets(&self, principal: &Principal, feed: &str, id: &str, limit: usize) -> Result<PollAnswer, Problem> {
        let stream = self.own(principal, feed, id)?;
        (self.0.is_accepted)()?;
        let Some(sent) = self.feed(feed) else { return Ok(PollAnswer::default()) };
        let is_paused = self.pause_at_gap(&stream)?;
        let stream = if is_paused { self.own(principal, feed, id)? } else { stream };
        let mut answer = PollAnswer::default();
        let key = self.0.keys.to_sign();
        for event in stream.sendable().take(limit) {
            answer.sets.insert(event.jti.clone(), key.sign(&sent.sender().about_stream(&stream, event))?);
        }
        if stream.status != Status::Enabled {
            return Ok(answer);
        }
        let left = limit.saturating_sub(answer.sets.len());
        let next = backlog::read(&*self.0.records.0, sent.sender(), &stream, left, self.now())?;
        self.advance(sent, &stream, &next)?;
        answer.more_available = next.more;
        let mut bytes = 0usize;
        for set in next.sets {
            let text = key.sign(&set.claims)?;
            bytes = bytes.saturating_add(text.len());
            if bytes > MAX_BYTES && !answer.sets.is_empty() {
                answer.more_available = true;
                break;
            }
            answer.sets.insert(set.jti, text);
        }
        Ok(answer)
    }

    /// Stores how far the stream is, where it has moved far enough. Blocks.
    pub(super) fn advance(&self, sent: &SentFeed, stream: &StreamRecord, next: &Backlog) -> Result<(), Problem> {
        let has_moved = next.passed.saturating_sub(stream.after) > 0 && !stream.acknowledged.is_empty();
        let is_old = next.complete_until.saturating_sub(stream.complete_until) > COMPLETE;
        let is_far = next.passed.saturating_sub(stream.after) > 500;
        if has_moved || is_old || is_far {
            self.change(&sent.feed.name, &stream.id, |stream| {
                stream.move_on(next.passed);
                stream.complete_until = stream.complete_until.max(next.complete_until);
            })?;
        }
        Ok(())
    }
}

//! What a relay says about itself: `/readyz`, `GET /v1/relay` and `/metrics`.

use crate::metrics::{MEDIA_TYPE, counter, gauge};
use crate::relay::feed::RelayFeed;
use crate::relay::line::Line;
use crate::relay::routes::RelayFeeds;
use crate::relay::uses::Counts;
use axum::Json;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, text};
use prometheus_client::registry::Registry;
use serde_json::{Value, json};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

/// A relay whose last statement of the hub is older is not ready: filters would soon refuse requests.
const MAX_AGE: u64 = 60_000;

/// What a relay says about itself.
pub struct Status {
    feeds: RelayFeeds,
    uses: Arc<Counts>,
    draining: AtomicBool,
}

impl Status {
    /// Of a relay with these feeds, and what it counts of the uses that it hands on.
    pub fn new(feeds: RelayFeeds, uses: Arc<Counts>) -> Status {
        Status { feeds, uses, draining: AtomicBool::new(false) }
    }

    /// From now on the relay is not ready: it is about to stop.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    /// The answer to `/readyz`.
    pub fn readiness(&self) -> Response {
        let draining = self.draining.load(Ordering::Relaxed);
        let said = if draining { "the relay is about to stop" } else { "" };
        let mut checks = vec![("running".to_owned(), !draining, said.to_owned())];
        for feed in self.feeds.values() {
            let (is_ok, detail) = match age(feed) {
                None => (false, "nothing was loaded from the hub yet: see the log".to_owned()),
                Some(age) if age > MAX_AGE => (
                    false,
                    format!("the last statement of the hub is {age} ms old: the hub does not answer; see the log"),
                ),
                Some(age) if !feed.is_connected() => {
                    (true, format!("the hub does not answer; its last statement is {age} ms old"))
                }
                Some(_) => (true, String::new()),
            };
            checks.push((format!("feed {}", feed.name), is_ok, detail));
        }
        let ready = checks.iter().all(|(_, is_ok, _)| *is_ok);
        let checks = checks.into_iter().map(|(name, ok, detail)| json!({"name": name, "ok": ok, "detail": detail}));
        let body = json!({"ready": ready, "relay": true, "checks": checks.collect::<Vec<_>>()});
        (if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }, Json(body)).into_response()
    }

    /// The answer to `GET /v1/relay`.
    pub fn show(&self) -> Value {
        json!({"feeds": self.feeds.values().map(|feed| show(feed)).collect::<Vec<_>>()})
    }

    /// The answer to `/metrics`.
    pub fn metrics(&self) -> Result<Response, fmt::Error> {
        let mut registry = Registry::with_prefix("taskfence_relay");
        registry.register_collector(Box::new(Source(self.feeds.clone(), Arc::clone(&self.uses))));
        let mut text = String::new();
        text::encode(&mut text, &registry)?;
        Ok((StatusCode::OK, [(CONTENT_TYPE, MEDIA_TYPE)], text).into_response())
    }
}

/// How old the last statement of the hub is, in milliseconds.
fn age(feed: &RelayFeed) -> Option<u64> {
    feed.head().map(|(_, at)| feed.now().saturating_sub(at))
}

fn show(feed: &RelayFeed) -> Value {
    let (followers, waiting) = feed.followers.count();
    let line = feed.line();
    let (head, at) = line.as_ref().map(Line::head).unzip();
    let state = line.as_ref().and_then(Line::state).map(|state| state.revision.to_string());
    json!({
        "name": feed.name,
        "head": head.map(|head| head.to_string()),
        "at_ms": at,
        "age_ms": at.map(|at| feed.now().saturating_sub(at)),
        "hub_answers": feed.is_connected(),
        "full_state": state,
        "proxies": followers,
        "waiting": waiting,
    })
}

struct Source(RelayFeeds, Arc<Counts>);

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Source").finish_non_exhaustive()
    }
}

impl Collector for Source {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        let number = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
        let count = |value: usize| i64::try_from(value).unwrap_or(i64::MAX);
        let (mut heads, mut ages, mut answers) = (Vec::new(), Vec::new(), Vec::new());
        let (mut proxies, mut waiting, mut kept) = (Vec::new(), Vec::new(), Vec::new());
        let (mut pages, mut bytes) = (Vec::new(), Vec::new());
        for feed in self.0.values() {
            let labels = vec![("feed", feed.name.as_str())];
            let of = |how: &'static str| vec![("feed", feed.name.as_str()), ("from", how)];
            if let Some((head, _)) = feed.head() {
                heads.push((labels.clone(), number(head.number)));
            }
            ages.extend(age(feed).map(|age| (labels.clone(), Duration::from_millis(age).as_secs_f64())));
            answers.push((labels.clone(), i64::from(feed.is_connected())));
            let (followers, polls) = feed.followers.count();
            proxies.push((labels.clone(), count(followers)));
            waiting.push((labels.clone(), number(polls)));
            let (states, held) = feed.line().as_ref().map_or((0, 0), Line::size);
            kept.push((labels.clone(), count(states.saturating_add(held))));
            pages.push((of("relay"), feed.served.own.load(Ordering::Relaxed)));
            pages.push((of("hub"), feed.served.passed.load(Ordering::Relaxed)));
            pages.push((of("relay_without_nonce"), feed.served.without_nonce.load(Ordering::Relaxed)));
            bytes.push((labels, feed.served.bytes.load(Ordering::Relaxed)));
        }
        gauge(&mut encoder, "feed_head", "The number of the last entry that came from the hub", heads)?;
        gauge(&mut encoder, "age_seconds", "How old the last statement of the hub is", ages)?;
        gauge(&mut encoder, "hub_answers", "Whether the hub answered in the last seconds", answers)?;
        gauge(&mut encoder, "proxies", "Proxies that follow the feed here", proxies)?;
        gauge(&mut encoder, "proxies_waiting", "Requests of proxies that wait for something new", waiting)?;
        gauge(&mut encoder, "kept_bytes", "Bytes of full states and pages in memory", kept)?;
        let help =
            "Pages sent, by whether the relay held them; those without the nonce that was asked for are counted twice";
        counter(&mut encoder, "pages_sent", help, pages)?;
        counter(&mut encoder, "page_bytes", "Bytes of pages sent", bytes)?;
        let of = |result, count: &AtomicU64| (vec![("result", result)], count.load(Ordering::Relaxed));
        let posts = [of("passed", &self.1.passed), of("refused", &self.1.refused)];
        counter(&mut encoder, "evidence_posts", "Posts of uses, by whether the hub answered them", posts)
    }
}

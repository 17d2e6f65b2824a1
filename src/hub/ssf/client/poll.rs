//! Polling (RFC 8936): what is acknowledged, and what comes.

use crate::ssf::client::failure::{Failure, Step};
use crate::ssf::client::http::Body;
use crate::ssf::client::page;
use crate::ssf::client::session::{Call, Session};
use reqwest::{Method, Url};
use serde_json::{Map, Value, json};
use std::time::Duration;

/// The longest page, in bytes. One SET has at most 64 KiB.
pub const MAX_PAGE: usize = 16 * 1024 * 1024;

/// What one poll says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// `jti`s of SETs that are durable here (`ack`).
    pub stored: Vec<String>,
    /// SETs that are refused for good: `jti`, code of RFC 8935 §2.4, and why (`setErrs`).
    pub refused: Vec<(String, &'static str, String)>,
}

impl Report {
    /// Whether there is nothing to say.
    pub fn is_empty(&self) -> bool {
        self.stored.is_empty() && self.refused.is_empty()
    }
}

/// How the next SETs are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wish {
    /// At most so many; 0: none, the report alone counts.
    pub max_events: usize,
    /// How long the transmitter may wait for some; `None`: it answers at once.
    pub wait: Option<Duration>,
}

/// What came.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Page {
    /// SETs by the `jti` that the transmitter has for them.
    pub sets: Vec<(String, String)>,
}

/// The outcome of a poll.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Polled {
    /// A page, maybe an empty one.
    Page(Page),
    /// There is no such stream (404).
    Missing,
}

/// Polls once. The report counts when this returns a page.
pub async fn poll(session: &Session, endpoint: &Url, report: &Report, wish: Wish) -> Result<Polled, Failure> {
    let mut call = Call::new(Step::Poll, Method::POST, endpoint.clone(), Body::Json(request(report, wish)));
    call.longest = MAX_PAGE;
    call.timeout = call.timeout.saturating_add(wish.wait.unwrap_or_default());
    let answer = session.call(call).await?;
    match answer.status {
        200 => page::read(&answer.body, wish.max_events).map(|sets| Polled::Page(Page { sets })).map_err(|error| {
            Failure::new(Step::Poll, format!("the page of {endpoint} is not one (RFC 8936 §2.3): {error}"), "")
        }),
        // What a report alone may be answered with.
        202 | 204 => Ok(Polled::Page(Page::default())),
        404 | 410 => Ok(Polled::Missing),
        _ => Err(answer.failure(Step::Poll, &format!("POST {endpoint}"), "")),
    }
}

fn request(report: &Report, wish: Wish) -> Value {
    let mut body = Map::from_iter([
        ("maxEvents".to_owned(), json!(wish.max_events)),
        ("returnImmediately".to_owned(), json!(wish.wait.is_none())),
    ]);
    if !report.stored.is_empty() {
        body.insert("ack".to_owned(), json!(report.stored));
    }
    if !report.refused.is_empty() {
        let one =
            |(jti, code, why): &(String, &'static str, String)| (jti.clone(), json!({"err": code, "description": why}));
        body.insert("setErrs".to_owned(), Value::Object(report.refused.iter().map(one).collect()));
    }
    Value::Object(body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_reports_and_asks() {
        let wish = Wish { max_events: 100, wait: Some(Duration::from_secs(60)) };
        assert_eq!(request(&Report::default(), wish), json!({"maxEvents": 100, "returnImmediately": false}));
        let report = Report {
            stored: vec!["a".to_owned()],
            refused: vec![("b".to_owned(), "invalid_audience", "aud does not name this receiver".to_owned())],
        };
        let alone = Wish { max_events: 0, wait: None };
        let want = json!({
            "ack": ["a"], "maxEvents": 0, "returnImmediately": true,
            "setErrs": {"b": {"err": "invalid_audience", "description": "aud does not name this receiver"}}
        });
        assert_eq!(request(&report, alone), want);
    }
}

//! One push through the receiver: a SET in, the answer of RFC 8935 out.

use crate::clock::now;
use crate::host::{self, BufferType, MapType};
use crate::live_streams;
use crate::plugin::Shared;
use crate::ports;
use proxy_wasm::traits::{Context, HttpContext};
use proxy_wasm::types::Action;
use std::rc::Rc;
use taskfence_core::decision::record;
use taskfence_core::signal::receiver::{self, Head, Received};
use taskfence_core::signal::set::MAX_SET;
use taskfence_core::signal::set_error::SetErrorCode;

/// The context of one push.
pub struct PushContext {
    shared: Rc<Shared>,
    head: Head,
    answered: bool,
}

impl PushContext {
    /// The context of a new push.
    pub fn new(shared: Rc<Shared>) -> PushContext {
        PushContext { shared, head: Head::default(), answered: false }
    }

    fn take_in(&mut self, body: &[u8]) -> Action {
        let Some(now) = now() else { return self.answer(&Received::NotAPush(503)) };
        let Ok(judge) = self.shared.judge.try_borrow() else { return self.answer(&Received::NotAPush(503)) };
        let mut received = receiver::receive(
            judge.policy().signals(),
            judge.policy().issuers(),
            &self.head,
            body,
            &mut ports::envoy(),
            now,
        );
        let lacking = match &received {
            Received::Refused(error) if error.code == SetErrorCode::KeysUnavailable => {
                receiver::lacks_keys_of(judge.policy().signals(), body)
            }
            _ => None,
        };
        drop(judge);
        if let Some(owner) = lacking
            && self.shared.keys.ask(&self.shared.judge, owner)
            && let Ok(judge) = self.shared.judge.try_borrow()
        {
            received = receiver::receive(
                judge.policy().signals(),
                judge.policy().issuers(),
                &self.head,
                body,
                &mut ports::envoy(),
                now,
            );
        }
        let metrics = &self.shared.metrics;
        if let Received::Applied(signal) = &received {
            if signal.notes().unknown_subject {
                metrics.nobody.increment();
            }
            if signal.notes().is_alarming() {
                metrics.alarming.increment();
            }
            if !signal.notes().oddities.is_empty() {
                metrics.odd.increment();
            }
        }
        let level = match &received {
            Received::Applied(signal) => {
                match signal.entries().is_empty() {
                    true => metrics.ignored.increment(),
                    false => metrics.applied.increment(),
                }
                if signal.notes().is_notable() { log::Level::Warn } else { log::Level::Info }
            }
            Received::Contradicts(_) => {
                metrics.contradictory.increment();
                log::Level::Warn
            }
            Received::Refused(error) => {
                metrics.refused(error.code);
                // What is not authentic may come from anybody, and as often as anybody likes.
                if error.origin.is_some() { log::Level::Info } else { log::Level::Debug }
            }
            Received::Failed(..) => {
                metrics.failed.increment();
                log::Level::Error
            }
            Received::NotAPush(_) => {
                metrics.not_a_push.increment();
                log::Level::Debug
            }
        };
        // A word about the stream of signals leaves nothing behind, and still makes the state stale.
        if let Received::Applied(signal) = &received
            && (!signal.entries().is_empty() || signal.heartbeat().stream.is_some())
        {
            live_streams::wake(now);
        }
        if log::log_enabled!(level)
            && let Some(line) = record::received(&received)
        {
            log::log!(level, "{line}");
        }
        self.answer(&received)
    }

    /// The one answer of this stream.
    fn answer(&mut self, received: &Received) -> Action {
        if !std::mem::replace(&mut self.answered, true) {
            let (status, headers, body) = receiver::answer(received);
            if host::send_local_response(status, "taskfence_signal", &headers, body.as_bytes(), -1).is_err() {
                log::error!("the proxy did not take the answer to a push");
            }
        }
        Action::Pause
    }
}

impl Context for PushContext {}

impl HttpContext for PushContext {
    fn on_http_request_headers(&mut self, _: usize, end_of_stream: bool) -> Action {
        let headers = host::headers(MapType::RequestHeaders).unwrap_or_default();
        self.head = Head::from_headers(headers.iter());
        let checked = match self.shared.judge.try_borrow() {
            Ok(judge) => self.head.check(judge.policy().signals()),
            Err(_) => Err(503),
        };
        if let Err(status) = checked {
            self.shared.metrics.not_a_push.increment();
            return self.answer(&Received::NotAPush(status));
        }
        if end_of_stream {
            return self.take_in(&[]);
        }
        Action::Pause
    }

    fn on_http_request_body(&mut self, size: usize, end_of_stream: bool) -> Action {
        if self.answered {
            return Action::Pause;
        }
        if size > MAX_SET {
            self.shared.metrics.not_a_push.increment();
            return self.answer(&Received::NotAPush(413));
        }
        if !end_of_stream {
            return Action::Pause;
        }
        match host::buffer(BufferType::RequestBody, MAX_SET) {
            Ok(body) => self.take_in(&body),
            Err(_) => self.answer(&Received::NotAPush(503)),
        }
    }

    fn on_http_request_trailers(&mut self, _: usize) -> Action {
        if self.answered {
            return Action::Pause;
        }
        match host::buffer(BufferType::RequestBody, MAX_SET) {
            Ok(body) => self.take_in(&body),
            Err(_) => self.answer(&Received::NotAPush(503)),
        }
    }
}

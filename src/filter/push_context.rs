//! One push of the `receiver` role: reads a SET, gives it to the receiver, and answers as RFC 8935 says.

use crate::clock::now;
use crate::host::{self, BufferType, MapType};
use crate::live_streams;
use crate::plugin::Shared;
use crate::ports;
use log::Level;
use proxy_wasm::traits::{Context, HttpContext};
use proxy_wasm::types::Action;
use std::rc::Rc;
use taskfence_core::decision::push_record;
use taskfence_core::signal::receiver::{self, Head, Received};
use taskfence_core::signal::set::MAX_SET;
use taskfence_core::signal::set_error::SetErrorCode;
use taskfence_core::time::Timestamp;

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

    /// Receives the SET in `body`, counts and logs what became of it, and answers.
    fn take_in(&mut self, body: &[u8]) -> Action {
        let Some(now) = now() else { return self.answer(&Received::NotAPush(503)) };
        let Some(received) = self.receive(body, now) else { return self.answer(&Received::NotAPush(503)) };
        self.count(&received);
        if affects_streams(&received) {
            live_streams::wake(now);
        }
        log_received(&received);
        self.answer(&received)
    }

    /// Gives the SET to the receiver, and once more if another worker has fetched the keys that it lacked. `None`: the
    /// judge is in use.
    fn receive(&self, body: &[u8], now: Timestamp) -> Option<Received> {
        let receive = || {
            let judge = self.shared.judge.try_borrow().ok()?;
            let (signals, issuers) = (judge.policy().signals(), judge.policy().issuers());
            let received = receiver::receive(signals, issuers, &self.head, body, &mut ports::envoy(), now);
            let lacks_keys =
                matches!(&received, Received::Refused(error) if error.code == SetErrorCode::KeysUnavailable);
            let owner = if lacks_keys { receiver::lacks_keys_of(signals, body) } else { None };
            Some((received, owner))
        };
        let (received, owner) = receive()?;
        match owner {
            Some(owner) if self.shared.keys.ask(&self.shared.judge, owner) => {
                Some(receive().map_or(received, |(again, _)| again))
            }
            _ => Some(received),
        }
    }

    /// Counts what became of the push, and what the operator should know about the signal.
    fn count(&self, received: &Received) {
        let metrics = &self.shared.metrics;
        match received {
            Received::Applied(signal) => {
                let (counter, notes) =
                    (if signal.entries().is_empty() { metrics.ignored } else { metrics.applied }, signal.notes());
                counter.increment();
                if notes.unknown_subject {
                    metrics.nobody.increment();
                }
                if notes.is_alarming() {
                    metrics.alarming.increment();
                }
                if !notes.oddities.is_empty() {
                    metrics.odd.increment();
                }
            }
            Received::Contradicts(_) => metrics.contradictory.increment(),
            Received::Refused(error) => metrics.refused(error.code),
            Received::Failed(..) => metrics.failed.increment(),
            Received::NotAPush(_) => metrics.not_a_push.increment(),
        }
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

/// Whether a stream that was admitted may have to end. A signal about the transmitter's own stream leaves no entry, but
/// it can make the state stale.
fn affects_streams(received: &Received) -> bool {
    match received {
        Received::Applied(signal) => !signal.entries().is_empty() || signal.heartbeat().stream.is_some(),
        _ => false,
    }
}

/// Writes one line about the push, at the level of what became of it.
fn log_received(received: &Received) {
    let level = level(received);
    if log::log_enabled!(level)
        && let Some(line) = push_record::received(received)
    {
        log::log!(level, "{line}");
    }
}

/// Anybody can send a SET that is not authentic, as often as they like, so a refusal of one is logged at debug.
fn level(received: &Received) -> Level {
    match received {
        Received::Applied(signal) if signal.notes().is_notable() => Level::Warn,
        Received::Applied(_) => Level::Info,
        Received::Contradicts(_) => Level::Warn,
        Received::Refused(error) if error.origin.is_some() => Level::Info,
        Received::Refused(_) | Received::NotAPush(_) => Level::Debug,
        Received::Failed(..) => Level::Error,
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

//! One request through the sidecar: headers in, the verdict out.

use crate::host::{self, Headers, MapType};
use crate::ports::Ports;
use crate::root::Shared;
use proxy_wasm::traits::{Context, HttpContext};
use proxy_wasm::types::Action;
use std::rc::Rc;
use taskfence_core::answer::{Answer, answer};
use taskfence_core::identity::{Edit, Identity};
use taskfence_core::judge::{Permit, Refusal, Verdict};
use taskfence_core::reason::Reason;
use taskfence_core::record;
use taskfence_core::request::Request;
use taskfence_core::time::Timestamp;

/// The context of one stream.
pub struct Sidecar {
    shared: Rc<Shared>,
}

impl Sidecar {
    /// The context of a new stream.
    pub fn new(shared: Rc<Shared>) -> Sidecar {
        Sidecar { shared }
    }

    /// Lets the request on. Nobody can without a permit.
    fn admit(&self, permit: &Permit, headers: &Headers, request: &Request<'_>) -> Action {
        let metrics = &self.shared.metrics;
        match permit.shadowed() {
            Some(refusal) => metrics.shadowed(refusal.reason),
            None => metrics.allowed.increment(),
        }
        if permit.broken_glass() {
            metrics.broken_glass.increment();
        }
        let Ok(judge) = self.shared.judge.try_borrow() else { return self.fail(request.grpc) };
        let policy = judge.policy();
        if let Some(line) = record::admitted(permit, policy) {
            log::info!("{line}");
        }
        if let Some(refusal) = permit.shadowed() {
            host::set_property("taskfence.shadow", refusal.reason.code().as_bytes());
        }
        if (request.reserved || !policy.identity().is_empty()) && !edit(policy.identity(), headers, permit) {
            return self.fail(request.grpc);
        }
        Action::Continue
    }

    fn refuse(&self, refusal: &Refusal, grpc: bool) -> Action {
        self.shared.metrics.denied(refusal.reason);
        if refusal.is_indeterminate() {
            self.shared.metrics.indeterminate.increment();
        }
        let Ok(judge) = self.shared.judge.try_borrow() else { return self.fail(grpc) };
        let policy = judge.policy();
        let decision = decision_id();
        // What a verified grant was refused is news; what strangers try is not.
        let level = if refusal.session.is_some() { log::Level::Info } else { log::Level::Debug };
        log::log!(level, "{}", record::refused(refusal, policy, &decision));
        host::set_property("taskfence.reason", refusal.reason.code().as_bytes());
        host::set_property("taskfence.decision", decision.as_bytes());
        reply(refusal.reason, &answer(refusal, policy, &decision, grpc))
    }

    /// The filter itself cannot go on: closed, without a word about why.
    fn fail(&self, grpc: bool) -> Action {
        let status = Reason::InternalError.class();
        let body = if grpc { Reason::InternalError.title().to_owned() } else { String::new() };
        let headers = vec![("cache-control", "no-store".to_owned()), ("retry-after", "1".to_owned())];
        reply(
            Reason::InternalError,
            &Answer { status: status.status(), grpc_status: status.grpc_status(), headers, body },
        )
    }
}

/// The one answer of a stream.
fn reply(reason: Reason, answer: &Answer) -> Action {
    let details = format!("taskfence_{}", reason.code());
    let sent =
        host::send_local_response(answer.status, &details, &answer.headers, answer.body.as_bytes(), answer.grpc_status);
    if sent.is_err() {
        // The request stays where it is: paused, and so refused.
        log::error!("the proxy did not take the answer to a refused request");
    }
    Action::Pause
}

/// Makes the headers what the upstream may see. `false` when the proxy did not do it.
fn edit(identity: &Identity, headers: &Headers, permit: &Permit) -> bool {
    let map = MapType::RequestHeaders;
    identity.edits(headers.iter(), permit).all(|edit| match edit {
        Edit::Remove(name) => host::remove_header(map, name).is_ok(),
        Edit::Set(name, value) => host::set_header(map, name.as_bytes(), value.as_bytes()).is_ok(),
    })
}

impl Context for Sidecar {}

impl HttpContext for Sidecar {
    fn on_http_request_headers(&mut self, _: usize, _: bool) -> Action {
        let headers = host::headers(MapType::RequestHeaders).unwrap_or_default();
        let request = Request::from_headers(headers.iter());
        match judge(&self.shared, &request) {
            Ok(permit) => self.admit(&permit, &headers, &request),
            Err(refusal) => self.refuse(&refusal, request.grpc),
        }
    }
}

fn judge(shared: &Shared, request: &Request<'_>) -> Verdict {
    let internal = || Refusal { reason: Reason::InternalError, rule: None, session: None };
    let now = now().ok_or_else(internal)?;
    let mut judge = shared.judge.try_borrow_mut().map_err(|_| internal())?;
    judge.judge(request, &mut Ports, now)
}

/// The time, from the proxy.
pub fn now() -> Option<Timestamp> {
    host::now_nanoseconds().ok().map(|nanoseconds| Timestamp(nanoseconds / 1_000_000_000))
}

/// A random UUID (RFC 9562 §5.4).
fn decision_id() -> String {
    let mut bytes = [0; 16];
    if getrandom::fill(&mut bytes).is_err() {
        return "00000000-0000-0000-0000-000000000000".to_owned();
    }
    let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = bytes;
    let (g, i) = (g & 0x0f | 0x40, i & 0x3f | 0x80);
    format!(
        "{a:02x}{b:02x}{c:02x}{d:02x}-{e:02x}{f:02x}-{g:02x}{h:02x}-{i:02x}{j:02x}-{k:02x}{l:02x}{m:02x}{n:02x}{o:02x}{p:02x}"
    )
}

//! One request through the sidecar: headers in, the verdict out.

use crate::host::{self, MapType};
use crate::ports::Ports;
use crate::root::Shared;
use proxy_wasm::traits::{Context, HttpContext};
use proxy_wasm::types::Action;
use std::rc::Rc;
use taskfence_core::answer::{Answer, answer};
use taskfence_core::judge::{Permit, Refusal, Verdict};
use taskfence_core::reason::Reason;
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
    fn admit(&self, _permit: Permit) -> Action {
        self.shared.metrics.allowed();
        Action::Continue
    }

    fn refuse(&self, refusal: &Refusal, grpc: bool) -> Action {
        self.shared.metrics.denied(refusal.reason);
        let decision = decision_id();
        let judge = self.shared.judge.borrow();
        record(refusal, judge.policy(), &decision);
        let Answer { status, grpc_status, headers, body } = answer(refusal, judge.policy(), &decision, grpc);
        host::set_property("taskfence.reason", refusal.reason.code().as_bytes());
        host::set_property("taskfence.decision", decision.as_bytes());
        let details = format!("taskfence_{}", refusal.reason.code());
        if host::send_local_response(status, &details, &headers, body.as_bytes(), grpc_status).is_err() {
            // The request stays where it is: paused, and so refused.
            log::error!("the proxy did not take the answer to a refused request");
        }
        Action::Pause
    }
}

impl Context for Sidecar {}

impl HttpContext for Sidecar {
    fn on_http_request_headers(&mut self, _: usize, _: bool) -> Action {
        let headers = host::headers(MapType::RequestHeaders).unwrap_or_default();
        let request = Request::from_headers(headers.iter());
        match judge(&self.shared, &request) {
            Ok(permit) => self.admit(permit),
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

/// One line of JSON for the operator: what a verified grant was refused is news, what strangers try is not.
fn record(refusal: &Refusal, policy: &taskfence_core::policy::Policy, decision: &str) {
    let grant = refusal.session.as_ref().map(|session| session.verified().grant());
    let level = if grant.is_some() { log::Level::Info } else { log::Level::Debug };
    let rule = refusal.rule.and_then(|at| policy.rules().get(at)).map(|rule| rule.name());
    let line = serde_json::json!({
        "decision": decision,
        "verdict": "denied",
        "reason": refusal.reason.code(),
        "rule": rule,
        "issuer": grant.map(|grant| &grant.issuer),
        "subject": grant.map(|grant| &grant.subject),
        "task": grant.map(|grant| &grant.task),
        "token": grant.map(|grant| &grant.token_id),
    });
    log::log!(level, "{line}");
}

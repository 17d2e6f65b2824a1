//! The one answer that the filter itself gives to a stream.

use crate::host::{self};
use proxy_wasm::types::Action;
use taskfence_core::decision::answer::Answer;
use taskfence_core::reason::Reason;

/// The property with the identifier of the decision that answered the stream.
const DECISION: &str = "taskfence.decision";

/// Sends the one answer of the current stream. Call [`claim_answer`] before.
pub fn reply(reason: Reason, answer: &Answer) -> Action {
    send(&format!("taskfence_{}", reason.code()), answer)
}

/// Answers a request that is for the filter itself, unless another of our filters answers the stream. `details` tells
/// the access log what it was.
pub fn reply_to_own(details: &str, answer: &Answer) -> Action {
    if claim_own_answer() { send(details, answer) } else { Action::Pause }
}

fn send(details: &str, answer: &Answer) -> Action {
    let Answer { status, grpc_status, headers, body } = answer;
    if host::send_local_response(*status, details, headers, body.as_bytes(), *grpc_status).is_err() {
        // The request stays paused, so it never reaches the service.
        log::error!("the proxy did not take the answer to a request");
    }
    Action::Pause
}

/// A random UUID (RFC 9562 §5.4).
pub fn decision_id() -> String {
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

/// Claims the one answer that an HTTP stream gets from all of our filters in its chain. `false`: another filter has it.
///
/// If two filters answer one stream in one callback, the proxy crashes. The contexts of the filters have different
/// numbers, but the stream has one filter state: what one filter writes there, the other reads at once. The access log
/// prints it.
pub fn claim_answer(reason: Reason, decision: &str) -> bool {
    if is_answered() {
        return false;
    }
    host::set_property("taskfence.reason", reason.code().as_bytes());
    host::set_property(DECISION, decision.as_bytes());
    true
}

/// Takes the right to answer a stream that was not decided about, as [`claim_answer`] does.
pub fn claim_own_answer() -> bool {
    if is_answered() {
        return false;
    }
    host::set_property(DECISION, decision_id().as_bytes());
    true
}

/// Whether one of our filters in the chain of the effective stream has claimed its answer. Also `false` where the proxy
/// does not let the filter read or write properties.
pub fn is_answered() -> bool {
    host::property(DECISION.as_bytes()).is_some_and(|known| !known.is_empty())
}

//! The readiness of a filter that follows a hub, for the probes of whatever starts the proxy.
//!
//! The filter itself answers [`PATH`], before any rule. So a request for that path is never forwarded, on no host and by no
//! method: a service behind this filter cannot have a resource of that name. Envoy's own `/ready` is green before the proxy
//! has caught up with its feed.

use crate::host::{self, Headers};
use crate::local_reply::claim_own_answer;
use crate::plugin::Shared;
use crate::ports::SharedData;
use proxy_wasm::types::Action;
use taskfence_core::state::coverage::NotReady;
use taskfence_core::state::view;

/// The path that is answered, with or without a query.
const PATH: &[u8] = b"/.well-known/taskfence/ready";

/// UNAVAILABLE, for a probe by gRPC.
const GRPC_UNAVAILABLE: i32 = 14;

/// Answers a request for [`PATH`]; `None`: it is another request, or the filter follows no hub.
pub fn answer_probe(shared: &Shared, headers: &Headers) -> Option<Action> {
    shared.feed.as_ref()?;
    let (_, path) = headers.iter().find(|(name, _)| *name == b":path")?;
    if path.split(|byte| *byte == b'?').next() != Some(PATH) {
        return None;
    }
    if claim_own_answer() {
        let (status, text) = match check(shared) {
            Ok(()) => (200, "ready\n".to_owned()),
            Err(reason) => (503, format!("not ready: {reason}\n")),
        };
        let headers = [("content-type", "text/plain".to_owned()), ("cache-control", "no-store".to_owned())];
        let sent =
            host::send_local_response(status, "taskfence_readiness", &headers, text.as_bytes(), GRPC_UNAVAILABLE);
        if sent.is_err() {
            log::error!("the proxy did not take the answer to a readiness probe");
        }
    }
    Some(Action::Pause)
}

/// Whether requests can be decided: the proxy has caught up, and the feed covers every issuer.
fn check(shared: &Shared) -> Result<(), String> {
    let judge = shared.judge.try_borrow().map_err(|_| "the filter is busy".to_owned())?;
    let policy = judge.policy();
    let hub = policy.signals().hub().ok_or("the configuration names no hub")?;
    let feeds = view::feeds(&mut SharedData).map_err(|error| error.to_string())?;
    for (needed, issuer) in hub.needed.iter().zip(policy.issuers()) {
        feeds.check(hub.id, needed).map_err(|error| match error {
            NotReady::Behind => format!("the proxy has not caught up with feed `{}`", hub.feed),
            NotReady::NotCovered => {
                format!("feed `{}` does not cover issuer `{}` as this filter reads its tokens", hub.feed, issuer.name)
            }
        })?;
    }
    Ok(())
}

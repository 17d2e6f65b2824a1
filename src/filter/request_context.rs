//! One request of the `filter` role: reads its headers, asks the judge, and carries out the verdict.

use crate::body_callback;
use crate::clock::now;
use crate::decision_record;
use crate::host::{self, Headers, MapType};
use crate::key_fetcher::Lacking;
use crate::live_streams::{self, Followed};
use crate::local_reply::claim_answer;
use crate::local_reply::decision_id;
use crate::local_reply::is_answered;
use crate::local_reply::reply;
use crate::local_reply::reply_to_own;
use crate::parked_request::Waited;
use crate::plugin::Shared;
use crate::ports;
use crate::readiness;
use crate::uses;
use proxy_wasm::traits::{Context, HttpContext};
use proxy_wasm::types::Action;
use std::any::Any;
use std::rc::Rc;
use taskfence_core::decision::answer::{Answer, answer};
use taskfence_core::decision::metadata;
use taskfence_core::decision::verdict::{Permit, Refusal, Verdict};
use taskfence_core::http::request::Request;
use taskfence_core::index::IssuerIndex;
use taskfence_core::policy::identity_headers::Edit;
use taskfence_core::reason::Reason;
use taskfence_core::rules::mode::Mode;

/// The context of one stream.
pub struct RequestContext {
    id: u32,
    shared: Rc<Shared>,
    /// Whether the request was permitted at its headers. Until then no body and no trailers of it pass.
    admitted: bool,
    /// The entry among the live streams, once the request was permitted. From then on only [`live_streams`] ends it;
    /// this context does not answer it any more.
    followed: Option<Followed>,
    /// What happened to the request while it waited for keys. `None` if it did not wait.
    waited: Option<Rc<Waited>>,
}

impl RequestContext {
    /// The context of a new stream, which the proxy calls `id`.
    pub fn new(id: u32, shared: Rc<Shared>) -> RequestContext {
        RequestContext { id, shared, admitted: false, followed: None, waited: None }
    }

    /// Judges a request that waited, and continues it or answers it. The root context calls this while this stream is
    /// the effective context. [`Action::Continue`]: the request was permitted.
    pub fn resume(&self, headers: &Headers, waited: &Waited) -> Action {
        // An earlier filter of the chain may have answered the request while it waited here.
        if is_answered() {
            return Action::Pause;
        }
        let request = read(&self.shared, headers);
        let action = match judge(&self.shared, &request) {
            Ok(permit) => {
                let mut action = self.admit(&permit, headers, &request);
                if action == Action::Continue && waited.has_trailers.get() && !clean_trailers(&self.shared) {
                    action = self.fail(request.grpc);
                }
                if action == Action::Continue {
                    waited.admitted.set(true);
                    let followed = live_streams::follow(&self.shared, self.id, &permit, &request);
                    waited.followed.replace(followed.map(|followed| -> Box<dyn Any> { Box::new(followed) }));
                }
                action
            }
            Err(refusal) => self.refuse(&refusal, &request),
        };
        if action == Action::Continue && host::continue_request().is_err() {
            // The request stays paused, so it never reaches the service.
            log::error!("the proxy did not continue a permitted request");
        }
        action
    }

    fn lacking(&self, issuer: Option<IssuerIndex>) -> Lacking {
        issuer.map_or(Lacking::Nothing, |issuer| self.shared.keys.lacking(&self.shared.judge, issuer))
    }

    /// Whether the body and the trailers may pass. With `allow_on_headers_stop_iteration` the proxy holds a paused
    /// request only until its body comes; then this check holds it.
    fn is_admitted(&self) -> bool {
        self.admitted || self.waited.as_ref().is_some_and(|waited| waited.admitted.get())
    }

    /// Counts and logs a permitted request, and sets the identity headers. This is the only way to let a request pass,
    /// and it needs a permit.
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
        let rule = permit.rule();
        let (mode, denied) = match permit.shadowed() {
            Some(_) => (Mode::Shadow, true),
            None => (policy.mode(rule), false),
        };
        self.shared.tally.decided(rule, mode, denied);
        if let Some(refusal) = permit.shadowed() {
            host::set_property("taskfence.shadow", refusal.reason.code().as_bytes());
        }
        if (request.reserved || !policy.identity().is_empty())
            && !edit(MapType::RequestHeaders, policy.identity().edits(headers.iter(), permit.bearer()))
        {
            return self.fail(request.grpc);
        }
        decision_record::admitted(&self.shared, &judge, permit, request);
        uses::permitted(&self.shared, policy, permit, request);
        Action::Continue
    }

    fn refuse(&self, refusal: &Refusal, request: &Request<'_>) -> Action {
        let grpc = request.grpc;
        self.shared.metrics.denied(refusal.reason);
        if refusal.is_indeterminate() {
            self.shared.metrics.indeterminate.increment();
        }
        let Ok(judge) = self.shared.judge.try_borrow() else { return self.fail(grpc) };
        let policy = judge.policy();
        self.shared.tally.decided(refusal.rule, Mode::Enforce, true);
        let decision = decision_id();
        if !claim_answer(refusal.reason, &decision) {
            return Action::Pause;
        }
        uses::refused(&self.shared, policy, refusal);
        decision_record::refused(&self.shared, &judge, refusal, request, &decision);
        reply(refusal.reason, &answer(refusal, policy, &decision, grpc))
    }

    /// Refuses the request because the filter itself failed. The answer does not say why.
    fn fail(&self, grpc: bool) -> Action {
        if !claim_answer(Reason::InternalError, &decision_id()) {
            return Action::Pause;
        }
        let status = Reason::InternalError.class();
        let body = if grpc { Reason::InternalError.title().to_owned() } else { String::new() };
        let headers = vec![("cache-control", "no-store".to_owned()), ("retry-after", "1".to_owned())];
        reply(
            Reason::InternalError,
            &Answer { status: status.status(), grpc_status: status.grpc_status(), headers, body },
        )
    }
}

/// Applies `edits` to the headers or trailers that the upstream will see. `false` when the proxy refused one.
fn edit<'e>(map: MapType, edits: impl IntoIterator<Item = Edit<'e>>) -> bool {
    edits.into_iter().all(|edit| match edit {
        Edit::Remove(name) => host::remove_header(map, name).is_ok(),
        Edit::Set(name, value) => host::set_header(map, name.as_bytes(), value.as_bytes()).is_ok(),
        Edit::Reduce(name, value) => host::set_header(map, name.as_bytes(), &value).is_ok(),
    })
}

impl Drop for RequestContext {
    /// The proxy has deleted the stream. After this no host call may be made for it.
    fn drop(&mut self) {
        if self.waited.is_some() {
            self.shared.keys.take(self.id);
        }
    }
}

impl Context for RequestContext {}

impl HttpContext for RequestContext {
    fn on_http_request_headers(&mut self, _: usize, _: bool) -> Action {
        let headers = host::headers(MapType::RequestHeaders).unwrap_or_default();
        #[cfg(feature = "crash")]
        crate::crash::on_request(&headers);
        if let Some(action) = readiness::answer_probe(&self.shared, &headers) {
            return action;
        }
        let request = read(&self.shared, &headers);
        if let Some(answer) = metadata(&self.shared, &request) {
            return reply_to_own("taskfence_metadata", &answer);
        }
        let verdict = match judge(&self.shared, &request) {
            Err(refusal) if refusal.lacks_keys_of.is_some() => match self.lacking(refusal.lacks_keys_of) {
                Lacking::Nothing => Err(refusal),
                Lacking::TakenOver => judge(&self.shared, &request),
                Lacking::ToCome(wait) => {
                    let waited = Rc::clone(self.waited.insert(Rc::default()));
                    if self.shared.keys.wait(self.id, wait, headers, waited) {
                        return Action::Pause;
                    }
                    let headers = host::headers(MapType::RequestHeaders).unwrap_or_default();
                    return self.refuse(&refusal, &read(&self.shared, &headers));
                }
            },
            // In shadow mode the request passes without the keys. They are fetched for later requests.
            Ok(permit) if permit.lacks_keys_of().is_some() => match self.lacking(permit.lacks_keys_of()) {
                Lacking::TakenOver => judge(&self.shared, &request),
                Lacking::Nothing | Lacking::ToCome(_) => Ok(permit),
            },
            verdict => verdict,
        };
        match verdict {
            Ok(permit) => {
                let action = self.admit(&permit, &headers, &request);
                if action == Action::Continue {
                    self.admitted = true;
                    self.followed = live_streams::follow(&self.shared, self.id, &permit, &request);
                }
                action
            }
            Err(refusal) => self.refuse(&refusal, &request),
        }
    }

    fn on_http_request_body(&mut self, _: usize, _: bool) -> Action {
        if self.is_admitted() { Action::Continue } else { body_callback::hold_body() }
    }

    fn on_http_request_trailers(&mut self, _: usize) -> Action {
        if !self.is_admitted() {
            if let Some(waited) = &self.waited {
                waited.has_trailers.set(true);
            }
            return Action::Pause;
        }
        if !clean_trailers(&self.shared) {
            // The response may have begun, so the filter cannot answer any more. It holds the request instead.
            log::error!(
                "cannot remove trailers that the service may not see, so the request is held: allow proxy_get_header_map_pairs and proxy_remove_header_map_value"
            );
            return Action::Pause;
        }
        Action::Continue
    }
}

/// Removes the trailers that have names of our identity headers. `false` when the proxy did not do it.
fn clean_trailers(shared: &Shared) -> bool {
    let map = MapType::RequestTrailers;
    let (Ok(trailers), Ok(judge)) = (host::headers(map), shared.judge.try_borrow()) else { return false };
    edit(map, judge.policy().identity().trailer_edits(trailers.iter()))
}

fn read<'h>(shared: &Shared, headers: &'h Headers) -> Request<'h> {
    match shared.judge.try_borrow() {
        Ok(judge) => Request::with_places(headers.iter(), judge.policy().places()),
        // The judge is in use, so the request will be refused. Where its token stands does not matter.
        Err(_) => Request::from_headers(headers.iter()),
    }
}

/// The answer to a request for the metadata of a protected resource. It comes from the configuration alone, so it is the
/// same in shadow mode, and before keys or state are there.
fn metadata(shared: &Shared, request: &Request<'_>) -> Option<Answer> {
    metadata::answer(shared.judge.try_borrow().ok()?.policy(), request)
}

fn judge(shared: &Shared, request: &Request<'_>) -> Verdict {
    let internal = || Refusal::new(Reason::InternalError);
    let now = now().ok_or_else(internal)?;
    let mut judge = shared.judge.try_borrow_mut().map_err(|_| internal())?;
    judge.judge(request, &mut ports::envoy(), now)
}

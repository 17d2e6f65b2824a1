//! Evaluates one request with the judge, and collects what the command line reports about the outcome.

use taskfence_core::decision::answer::{Answer, answer};
use taskfence_core::decision::judge::Judge;
use taskfence_core::decision::verdict::{Refusal, Verdict};
use taskfence_core::http::path::Canonical;
use taskfence_core::http::request::Request;
use taskfence_core::index::RuleIndex;
use taskfence_core::policy::identity_headers::Edit;
use taskfence_core::policy::policy::Policy;
use taskfence_core::rules::rule::{Effect, Mismatch};
use taskfence_core::time::Timestamp;

use crate::offline::diagnosis::diagnose;
use crate::offline::host::OfflineHost;
use crate::offline::request_input::TypedRequest;
use crate::offline::requirement_report::{Recorder, RequirementReport};
use crate::offline::token_report::Credential;

/// A placeholder for the decision id that every real refusal gets.
const DECISION: &str = "00000000-0000-0000-0000-000000000000";

/// The verdict about one request, and what led to it.
#[derive(Debug)]
pub struct Evaluation {
    pub now: Timestamp,
    /// Whether it is gRPC.
    pub grpc: bool,
    /// For each rule up to the first that matches, why it does not.
    pub tried: Vec<Option<Mismatch>>,
    /// The path as rules see it, unless it was refused.
    pub path: Option<String>,
    /// What the path of the rule captured.
    pub captures: Vec<(String, String)>,
    pub credential: Credential,
    pub requirements: Vec<RequirementReport>,
    pub verdict: Verdict,
    /// The values that led to the reason, where there is more to tell than its code.
    pub why: Option<String>,
    /// The answer to the client when the request is refused; in shadow mode, the answer that it would get.
    pub answer: Option<Answer>,
    /// The changes that the filter makes to the headers of a request that passes.
    pub upstream: Vec<Change>,
}

/// A change to the headers of a request that passes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    Remove(String),
    Set(String, String),
}

impl Evaluation {
    /// Lets `judge` decide about `typed` at `now`, and collects what led to the verdict.
    pub fn new(judge: &mut Judge, host: &mut OfflineHost, typed: &TypedRequest, now: Timestamp) -> Self {
        let request = typed.to_request(judge.policy().places());
        let mut recorder = Recorder::default();
        let verdict = judge.judge_before(&request, &mut host.ports, now, &mut recorder);
        let policy = judge.policy();
        let refusal = refusal(&verdict);
        let rule = verdict.as_ref().map_or_else(|refusal| refusal.rule, |permit| permit.rule());
        let needs_token = rule.and_then(|at| policy.rule(at)).map(|rule| rule.effect());
        let credential = match needs_token {
            Some(Effect::Require(_)) => Credential::of(&request, &verdict),
            Some(Effect::Anonymous | Effect::Deny) | None => Credential::NotLookedAt,
        };
        Self {
            now,
            grpc: request.grpc,
            tried: recorder.tried,
            path: Canonical::parse(request.path).ok().map(|path| path.as_str().to_owned()),
            captures: recorder.captures,
            why: refusal.and_then(|refusal| diagnose(refusal, &request, &credential, policy, now)),
            answer: refusal.map(|refusal| answer(refusal, policy, DECISION, request.grpc)),
            upstream: changes(policy, typed, &request, &verdict),
            credential,
            requirements: recorder.requirements,
            verdict,
        }
    }

    /// The refusal; in shadow mode, the refusal that was not enforced.
    pub fn refusal(&self) -> Option<&Refusal> {
        refusal(&self.verdict)
    }

    /// Whether the request passes only because refusals are not enforced.
    pub fn is_shadowed(&self) -> bool {
        self.verdict.is_ok() && self.refusal().is_some()
    }

    /// The index of the rule that decided.
    pub fn rule(&self) -> Option<RuleIndex> {
        match &self.verdict {
            Ok(permit) => permit.rule(),
            Err(refusal) => refusal.rule,
        }
    }
}

fn refusal(verdict: &Verdict) -> Option<&Refusal> {
    match verdict {
        Ok(permit) => permit.shadowed(),
        Err(refusal) => Some(refusal),
    }
}

/// The edits of the filter: none unless it sets an identity header, or removes a reserved header or the token.
fn changes(policy: &Policy, typed: &TypedRequest, request: &Request<'_>, verdict: &Verdict) -> Vec<Change> {
    let Ok(permit) = verdict else { return Vec::new() };
    if !request.reserved && policy.identity().is_empty() {
        return Vec::new();
    }
    // The headers of the request and the names in the policy must live equally long for the judge.
    let names: Vec<_> = typed.headers().collect();
    let edits = policy.identity().edits(names.into_iter(), permit.bearer());
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    edits
        .map(|edit| match edit {
            Edit::Remove(name) => Change::Remove(text(name)),
            Edit::Set(name, value) => Change::Set(name.to_owned(), value),
            Edit::Reduce(name, value) => Change::Set(name.to_owned(), text(&value)),
        })
        .collect()
}

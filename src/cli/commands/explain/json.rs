//! An explanation for programs. Its members are listed in the help of the command, and stay.

use serde_json::{Map, Value, json};
use taskfence_core::decision::answer::Answer;
use taskfence_core::http::request::Request;
use taskfence_core::index::RuleIndex;
use taskfence_core::policy::policy::Policy;
use taskfence_core::rules::requirement::Outcome;
use taskfence_core::rules::rule::Mismatch;

use super::ReceivedSignal;
use crate::offline::client_answer::ClientAnswer;
use crate::offline::evaluation::{Change, Evaluation};
use crate::offline::requirement_report::RequirementReport;
use crate::offline::token_report::{Credential, Fact};

/// The object.
pub fn object(
    evaluation: &Evaluation,
    request: &Request<'_>,
    policy: &Policy,
    signals: &[ReceivedSignal<'_>],
) -> Value {
    let reason = evaluation.refusal().map(|refusal| refusal.reason);
    json!({
        "verdict": if evaluation.verdict.is_ok() { "allowed" } else { "denied" },
        "reason": reason.map(|reason| reason.code()),
        "title": reason.map(|reason| reason.title()),
        "why": evaluation.why,
        "shadow": evaluation.is_shadowed(),
        "break_glass": evaluation.verdict.as_ref().is_ok_and(|permit| permit.broken_glass()),
        "at": evaluation.now.0,
        "request": {
            "method": text(request.method),
            "authority": text(request.authority),
            "path": text(request.path),
            "canonical_path": evaluation.path,
            "grpc": request.grpc,
        },
        "rule": evaluation.rule().map(|at| json!({"index": at.position(), "name": name(policy, at)})),
        "rules": rules(evaluation, policy),
        "captures": captures(evaluation),
        "token": token(&evaluation.credential),
        "requirements": evaluation.requirements.iter().map(requirement).collect::<Vec<_>>(),
        "hub": policy.signals().hub().map(|hub| json!({"name": hub.hub, "feed": hub.feed})),
        "signals": signals.iter().map(signal).collect::<Vec<_>>(),
        "answer": evaluation.answer.as_ref().map(|answer| self::answer(answer, request.grpc)),
        "upstream": evaluation.verdict.is_ok().then(|| upstream(&evaluation.upstream)),
    })
}

fn rules(evaluation: &Evaluation, policy: &Policy) -> Vec<Value> {
    let tried = RuleIndex::enumerate(&evaluation.tried);
    tried
        .map(
            |(at, mismatch)| json!({"index": at.position(), "name": name(policy, at), "mismatch": mismatch.map(Mismatch::as_str)}),
        )
        .collect()
}

fn captures(evaluation: &Evaluation) -> Map<String, Value> {
    evaluation.captures.iter().map(|(name, value)| (name.clone(), value.clone().into())).collect()
}

fn token(credential: &Credential) -> Value {
    let mut members = Map::new();
    members.insert("status".to_owned(), credential.as_str().into());
    members.extend(credential.facts().into_iter().map(|(name, fact)| {
        let value = match fact {
            Fact::Text(text) => text.into(),
            Fact::Time(time) => time.0.into(),
        };
        (name.to_owned(), value)
    }));
    members.into()
}

fn requirement(report: &RequirementReport) -> Value {
    let (outcome, reason) = match report.outcome {
        Outcome::Met => ("met", None),
        Outcome::Unmet(reason) => ("unmet", Some(reason.code())),
        Outcome::Lifted(reason) => ("lifted", Some(reason.code())),
    };
    let RequirementReport { name, asked, found, .. } = report;
    json!({"name": name, "outcome": outcome, "reason": reason, "asked": asked, "found": found})
}

fn signal(received: &ReceivedSignal<'_>) -> Value {
    let signal = &received.signal;
    json!({
        "file": received.file.display().to_string(),
        "transmitter": signal.transmitter(),
        "id": signal.id(),
        "event": signal.event(),
        "entries": signal.entries().len(),
        "odd": signal.notes().oddities.iter().collect::<Vec<_>>(),
    })
}

/// An answer as the client receives it.
pub fn answer(answer: &Answer, grpc: bool) -> Value {
    let ClientAnswer { status, grpc_status, headers, body } = ClientAnswer::new(answer, grpc);
    json!({"status": status, "grpc_status": grpc_status, "headers": headers, "body": body})
}

fn upstream(changes: &[Change]) -> Value {
    let set = changes.iter().filter_map(|change| match change {
        Change::Set(name, value) => Some(json!([name, value])),
        Change::Remove(_) => None,
    });
    let removed = changes.iter().filter_map(|change| match change {
        Change::Remove(name) => Some(name),
        Change::Set(..) => None,
    });
    json!({"set": set.collect::<Vec<_>>(), "removed": removed.collect::<Vec<_>>()})
}

fn name(policy: &Policy, at: RuleIndex) -> Option<&str> {
    policy.rule(at).map(|rule| rule.name())
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

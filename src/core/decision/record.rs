//! What the operator sees of a decision: one line of JSON. No byte of a client can end the line or hide a part of it.

use crate::decision::verdict::{Permit, Refusal};
use crate::index::RuleIndex;
use crate::policy::policy::Policy;
use crate::signal::accepted::Notes;
use crate::signal::receiver::Received;
use crate::token::claim_names::ClaimFault;
use serde_json::{Value, json};

/// The record of a refused request.
pub fn refused(refusal: &Refusal, policy: &Policy, decision: &str) -> String {
    line(refusal, policy, "denied", Some(decision))
}

/// The record of a live stream that was ended.
pub fn ended(refusal: &Refusal, policy: &Policy, decision: &str) -> String {
    line(refusal, policy, "ended", Some(decision))
}

/// The record of a live stream that would have been ended if refusals were enforced.
pub fn would_end(refusal: &Refusal, policy: &Policy) -> String {
    line(refusal, policy, "would_end", None)
}

/// The record of a request that passed, if it passed by break-glass or by shadow mode; otherwise `None`.
pub fn admitted(permit: &Permit, policy: &Policy) -> Option<String> {
    if let Some(refusal) = permit.shadowed() {
        return Some(line(refusal, policy, "would_deny", None));
    }
    permit.broken_glass().then(|| {
        let session = permit.session().map(|session| session.verified().grant());
        let mut record = json!({"verdict": "allowed", "break_glass": true, "rule": rule(policy, permit.rule())});
        if let (Some(grant), Some(members)) = (session, record.as_object_mut()) {
            members.extend(who(grant));
        }
        ascii(&record)
    })
}

/// The record of a push: applied, refused or failed. `None` for a request that is not a push.
pub fn received(received: &Received) -> Option<String> {
    let record = match received {
        Received::Applied(signal) => {
            let mut record = json!({
                "signal": signal.id(), "transmitter": signal.transmitter(), "event": signal.event(),
                "applied": signal.entries().len(),
            });
            if let Some(members) = record.as_object_mut() {
                members.extend(notes(signal.notes()));
            }
            record
        }
        Received::Contradicts(signal) => json!({
            "signal": signal.id(), "transmitter": signal.transmitter(), "event": signal.event(),
            "alarm": "jti was used before for something else",
        }),
        Received::Refused(error) => {
            let mut record = json!({"signal_refused": error.code.code(), "description": error.description});
            if let (Some(origin), Some(members)) = (&error.origin, record.as_object_mut()) {
                let names = [("signal", &origin.id), ("transmitter", &origin.transmitter), ("event", &origin.event)];
                members.extend(names.map(|(name, value)| (name.to_owned(), value.as_str().into())));
            }
            record
        }
        Received::Failed(signal, error) => json!({
            "signal": signal.id(), "transmitter": signal.transmitter(), "event": signal.event(),
            "failed": error.to_string(),
        }),
        Received::NotAPush(_) => return None,
    };
    Some(ascii(&record))
}

fn notes(notes: &Notes) -> impl Iterator<Item = (String, Value)> {
    let unmatched = (!notes.unmatched.is_empty()).then(|| ("unmatched", notes.unmatched.join(" ").into()));
    let nobody = notes.unknown_subject.then(|| ("note", "no grant is known by its subject".into()));
    let future = notes.future.then(|| ("future", "counts as now".into()));
    let odd: Vec<Value> = notes.oddities.iter().map(Value::from).collect();
    let odd = (!odd.is_empty()).then(|| ("odd", odd.into()));
    [unmatched, nobody, future, odd].into_iter().flatten().map(|(name, value): (&str, Value)| (name.to_owned(), value))
}

fn line(refusal: &Refusal, policy: &Policy, verdict: &str, decision: Option<&str>) -> String {
    let mut record = json!({"verdict": verdict, "reason": refusal.reason.code(), "rule": rule(policy, refusal.rule)});
    if let Some(members) = record.as_object_mut() {
        members.extend(decision.map(|decision| ("decision".to_owned(), decision.into())));
        if let Some(claim) = &refusal.claim {
            members.insert("claim".to_owned(), claim.name.as_str().into());
            members.insert("fault".to_owned(), fault(&claim.fault).into());
        }
        if let Some(session) = &refusal.session {
            members.extend(who(session.verified().grant()));
        }
    }
    ascii(&record)
}

/// What is wrong with a claim, in words without a value.
fn fault(fault: &ClaimFault) -> String {
    match fault {
        ClaimFault::Missing => "missing".to_owned(),
        ClaimFault::Shape => "wrong shape".to_owned(),
        ClaimFault::NotInObject => "not inside an object".to_owned(),
        ClaimFault::Differs(other) => format!("differs from `{other}`"),
        ClaimFault::NotAccepted => "not accepted".to_owned(),
    }
}

fn rule(policy: &Policy, at: Option<RuleIndex>) -> Option<&str> {
    at.and_then(|at| policy.rule(at)).map(|rule| rule.name())
}

fn who(grant: &crate::token::grant::Grant) -> impl Iterator<Item = (String, Value)> {
    let members = [
        ("issuer", Some(grant.issuer.clone())),
        ("subject", Some(grant.subject.clone())),
        ("client", grant.client_id.clone()),
        ("task", grant.task.clone()),
        ("session", grant.session.clone()),
        ("token", Some(grant.token_id.to_string())),
        ("actor", grant.actors.first().map(|actor| actor.subject.clone())),
    ];
    let members = members.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?.into())));
    // Inner `act` claims are earlier actors: they are history and have no authority (RFC 8693 §4.1).
    let chain: Vec<Value> = grant.actors.iter().map(|actor| actor.subject.as_str().into()).collect();
    members.chain((chain.len() > 1).then(|| ("actors".to_owned(), chain.into())))
}

/// JSON in printable ASCII: every character that a terminal or a log shipper could interpret is escaped.
fn ascii(value: &Value) -> String {
    let mut out = String::new();
    for c in value.to_string().chars() {
        match c {
            ' '..='~' => out.push(c),
            _ => c.encode_utf16(&mut [0; 2]).iter().for_each(|unit| out.push_str(&format!("\\u{unit:04x}"))),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jose::signature::PureRust;
    use crate::testing::fixture::{self, NOW, token_with};

    fn actors(act: Value) -> (Option<Value>, Option<Value>) {
        let token = token_with(json!({}), json!({ "act": act }));
        let verified =
            crate::token::verify::verify(token.as_bytes(), &[fixture::issuer()], &mut PureRust, NOW).unwrap();
        let members: serde_json::Map<String, Value> = who(verified.grant()).collect();
        (members.get("actor").cloned(), members.get("actors").cloned())
    }

    #[test]
    fn a_chain_of_actors_is_told() {
        let chain = json!({"sub": "a", "act": {"sub": "b", "act": {"sub": "c"}}});
        assert_eq!(actors(chain), (Some(json!("a")), Some(json!(["a", "b", "c"]))));
        assert_eq!(actors(json!({"sub": "a"})), (Some(json!("a")), None));
    }

    #[test]
    fn a_refused_claim_is_told() {
        let config = json!({
            "issuers": [{"issuer": "i", "audiences": ["a"], "keys": {"inline": fixture::jwks()}}], "rules": []
        });
        let policy = crate::config::load::load(config.to_string().as_bytes()).unwrap().policy;
        for (wrong, told) in
            [(ClaimFault::Missing, "missing"), (ClaimFault::Differs("azp".to_owned()), "differs from `azp`")]
        {
            let claim = Some(Box::new(crate::token::claim_names::RefusedClaim::new("client_id", wrong)));
            let refusal = Refusal { claim, ..Refusal::new(crate::reason::Reason::ClaimInvalid) };
            let record: Value = serde_json::from_str(&refused(&refusal, &policy, "0-1")).unwrap();
            assert_eq!((&record["claim"], &record["fault"]), (&json!("client_id"), &json!(told)));
        }
    }

    #[test]
    fn nothing_leaves_the_line() {
        let text = ascii(&json!({"subject": "a\r\n\"\u{1b}[31m\u{2028}\u{7f}é😀"}));
        assert!(text.bytes().all(|byte| (b' '..=b'~').contains(&byte)), "{text}");
        let back: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(back["subject"], "a\r\n\"\u{1b}[31m\u{2028}\u{7f}é😀");
    }
}

//! Signals that an operator makes at a hub. The hub has authenticated the operator, so nothing is signed; everything
//! else is read by the code that reads a SET.

use crate::index::IssuerIndex;
use crate::keys::keyring::Keyring;
use crate::signal::accepted::Signal;
use crate::signal::event::Type;
use crate::signal::interpret::interpret;
use crate::signal::oddity::Oddities;
use crate::signal::permissions::Permissions;
use crate::signal::set_error::SetError;
use crate::signal::subject::Reading;
use crate::signal::transmitter::Transmitter;
use crate::state::key::StateKey;
use crate::time::Timestamp;
use crate::token::issuer::Issuer;
use serde_json::{Map, Value};

/// The `iss` of what operators make. No transmitter may have it.
pub const OPERATOR: &str = "operator";

/// Who makes a signal at a hub by a call of its API.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Caller {
    /// An operator.
    #[default]
    Operator,
    /// An issuer, about its own grants.
    Issuer,
}

impl Caller {
    /// The stream of what the caller `name` makes. An id is taken once in each stream: an issuer must not be able to take
    /// the ids of an operator, or of another issuer.
    pub fn stream(self, name: &str) -> String {
        match self {
            Caller::Operator => format!("{OPERATOR}/{name}"),
            Caller::Issuer => format!("issuer/{name}"),
        }
    }
}

/// Whether `stream` is one of [`Caller::stream`]. No transmitter may have such a name.
pub fn is_caller_stream(stream: &str) -> bool {
    stream == OPERATOR || ["operator/", "issuer/"].iter().any(|start| stream.starts_with(start))
}

/// Whether `stream` holds what operators make.
pub fn is_operator_stream(stream: &str) -> bool {
    stream == OPERATOR || stream.starts_with("operator/")
}

/// Turns `claims`, which have the shape of a SET, into a signal about grants of `issuers`. An operator may send every
/// event, and events have their default effects. `only`: the subject is read under the issuer of that name alone.
pub fn interpret_claims(
    claims: &Map<String, Value>,
    issuers: &[Issuer],
    only: Option<&str>,
    now: Timestamp,
) -> Result<Signal, SetError> {
    interpret(claims, &stream(issuers, only), issuers, now)
}

/// The key of `subject`, which names one thing (RFC 9493, SSF 1.0 §3), in the tokens of `issuer`. `None` when no grant
/// of this issuer can be compared with it, or it names several things.
pub fn key(subject: &Value, issuer: &Issuer) -> Option<StateKey> {
    let issuers = &[(IssuerIndex::new(0), issuer)];
    let reading = Reading { issuers, critical: &[], legacy: false, renamed: &[], opaque: None };
    let subject = reading.read(subject, &mut Oddities::default()).ok()?;
    let [alternative] = subject.alternatives.as_slice() else { return None };
    let [member] = alternative.as_slice() else { return None };
    let [(_, key)] = member.keys.as_slice() else { return None };
    subject.unmatched.is_empty().then_some(*key)
}

/// The events that an operator may send: the last part of each URI, and the URI.
pub fn events() -> impl Iterator<Item = (&'static str, String)> {
    let all = Type::ALL.into_iter().filter(|kind| !kind.is_of_the_stream());
    all.map(|kind| (kind.name(), kind.uri()))
}

fn stream(issuers: &[Issuer], only: Option<&str>) -> Transmitter {
    let subjects = IssuerIndex::enumerate(issuers).filter(|(_, issuer)| only.is_none_or(|only| only == issuer.name));
    Transmitter {
        name: OPERATOR.to_owned(),
        stream: OPERATOR.to_owned(),
        audiences: Vec::new(),
        algorithms: Vec::new(),
        keys: Keyring::default(),
        authorization: None,
        logout_audiences: Vec::new(),
        revocation_audiences: Vec::new(),
        subjects: subjects.map(|(index, issuer)| (issuer.name.clone(), index)).collect(),
        permissions: Permissions { heartbeat: false, ..Permissions::default() },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::fact::Fact;
    use crate::state::key::Kind;
    use crate::testing::fixture::{self, NOW};
    use serde_json::json;

    fn claims(event: &str, subject: Value) -> Map<String, Value> {
        let (_, uri) = events().find(|(name, _)| *name == event).unwrap();
        let claims = json!({"iss": OPERATOR, "jti": "1", "iat": NOW.0, "sub_id": subject, "events": {uri: {}}});
        claims.as_object().unwrap().clone()
    }

    #[test]
    fn an_operator_ends_what_the_subject_names() {
        let name = "https://other.example";
        let other = Issuer { name: name.to_owned(), key_space: name.into(), ..fixture::issuer() };
        let issuers = [fixture::issuer(), other];
        let subject = json!({"format": "complex", "task": {"format": "opaque", "id": "task-42"}});
        let claims = claims("task-completed", subject);
        let both = interpret_claims(&claims, &issuers, None, NOW).unwrap();
        assert_eq!(both.entries().len(), 2, "an opaque id names no issuer");
        let one = interpret_claims(&claims, &issuers, Some("https://jit.example"), NOW).unwrap();
        let [entry] = one.entries() else { panic!("one entry") };
        assert_eq!(entry.key, StateKey::new(Kind::Task, "https://jit.example", "task-42"));
        assert_eq!(entry.fact, Fact::Completed);
    }

    #[test]
    fn a_key_is_that_of_one_thing() {
        let issuer = fixture::issuer();
        let device = json!({"format": "complex", "device": {"format": "opaque", "id": "d"}});
        let name = "https://jit.example";
        assert_eq!(key(&device, &issuer), Some(StateKey::foreign(Kind::Device, name, name, "d")));
        let group = json!({"format": "complex", "group": {"format": "opaque", "id": "g"}});
        assert_eq!(key(&group, &issuer), None, "its tokens name no groups");
        let two = json!({"format": "complex", "user": {"format": "opaque", "id": "u"}, "device": {"format": "opaque", "id": "d"}});
        assert_eq!(key(&two, &issuer), None);
    }

    #[test]
    fn operators_do_not_speak_about_streams() {
        assert!(!events().any(|(name, _)| matches!(name, "verification" | "stream-updated")));
        assert!(events().any(|(name, uri)| name == "task-completed" && uri == "urn:taskfence:secevent:task-completed"));
    }
}

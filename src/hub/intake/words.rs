//! Subjects in the words of an operator: `{"issuer": "https://jit.example", "task": "task-42"}`.

use crate::config::problem;
use crate::intake::operator_error::OperatorError;
use serde_json::{Map, Value, json};

/// The members that name something. They are the members of a complex subject (SSF 1.0 §3.1).
const MEMBERS: [&str; 9] = ["task", "token", "session", "user", "client", "device", "tenant", "actor", "group"];

/// A subject, and the issuer that it is read under alone.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Named {
    /// RFC 9493; `None`: everything of the issuer.
    pub(super) subject: Option<Value>,
    /// Only in tokens of this issuer; `None`: wherever the subject says.
    pub(super) issuer: Option<String>,
    /// The members that are named, in the order of the text.
    pub(super) members: Vec<String>,
}

/// Reads `subject`: a subject identifier of RFC 9493, or members such as `task` with a string each, with the `issuer`
/// of the tokens. `issuers` are those of the feed; if there is only one, `issuer` may be left out.
pub(super) fn read(subject: &Value, issuer: Option<&str>, issuers: &[&str]) -> Result<Named, OperatorError> {
    let help = "write members such as `task` or `user` with a name each, or a subject identifier of RFC 9493";
    let object = subject.as_object().filter(|object| !object.is_empty());
    let object = object.ok_or_else(|| OperatorError::subject("the subject is not an object with members", help))?;
    let issuer = issuer.or_else(|| object.get("issuer").and_then(Value::as_str));
    if let Some(unknown) = issuer.filter(|issuer| !issuers.contains(issuer)) {
        let message = format!("`{unknown}` is not an issuer of this feed");
        let known = problem::known(unknown, issuers.iter().copied()).unwrap_or_default();
        return Err(OperatorError::subject(message, known));
    }
    if is_rfc_9493(object) {
        let names = object.keys().filter(|name| *name != "format").cloned().collect();
        return Ok(Named { subject: Some(subject.clone()), issuer: issuer.map(str::to_owned), members: names });
    }
    let issuer = match (issuer, issuers) {
        (Some(issuer), _) => issuer,
        (None, [only]) => only,
        (None, _) => {
            let help = format!("write `issuer`, one of: `{}`", issuers.join("`, `"));
            return Err(OperatorError::subject("the subject does not say whose tokens are meant", help));
        }
    };
    let mut complex = Map::new();
    for (name, value) in object.iter().filter(|(name, _)| *name != "issuer") {
        if !MEMBERS.contains(&name.as_str()) {
            let known = problem::known(name, MEMBERS.into_iter().chain(["issuer"]).collect::<Vec<_>>());
            return Err(OperatorError::subject(format!("unknown member `{name}`"), known.unwrap_or_default()));
        }
        let id = value.as_str().filter(|id| !id.is_empty());
        let help = "write the value of the claim in the tokens as a string";
        let id = id.ok_or_else(|| OperatorError::subject(format!("`{name}` is not a name"), help))?;
        complex.insert(name.clone(), json!({"format": "opaque", "id": id}));
    }
    let members: Vec<String> = complex.keys().cloned().collect();
    complex.insert("format".to_owned(), "complex".into());
    let subject = (!members.is_empty()).then_some(Value::Object(complex));
    Ok(Named { subject, issuer: Some(issuer.to_owned()), members })
}

/// Whether it is a subject identifier: it has a format, or consists of subject identifiers.
fn is_rfc_9493(subject: &Map<String, Value>) -> bool {
    subject.contains_key("format") || subject.contains_key("subject_type") || subject.values().all(Value::is_object)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ISSUERS: [&str; 2] = ["https://a.example", "https://b.example"];

    fn error(subject: Value) -> String {
        read(&subject, None, &ISSUERS).unwrap_err().to_string()
    }

    #[test]
    fn words_become_a_subject() {
        let named = read(&json!({"issuer": ISSUERS[0], "task": "t", "user": "u"}), None, &ISSUERS).unwrap();
        let opaque = |id: &str| json!({"format": "opaque", "id": id});
        assert_eq!(named.subject, Some(json!({"format": "complex", "task": opaque("t"), "user": opaque("u")})));
        assert_eq!((named.issuer.as_deref(), named.members.len()), (Some(ISSUERS[0]), 2));
        let whole = read(&json!({"issuer": ISSUERS[1]}), None, &ISSUERS).unwrap();
        assert_eq!((whole.subject, whole.issuer.as_deref()), (None, Some(ISSUERS[1])));
        let only = read(&json!({"client": "c"}), None, &ISSUERS[..1]).unwrap();
        assert_eq!(only.issuer.as_deref(), Some(ISSUERS[0]));
        let standard = json!({"format": "iss_sub", "iss": ISSUERS[0], "sub": "u"});
        assert_eq!(read(&standard, None, &ISSUERS).unwrap().subject, Some(standard));
        let beside = read(&json!({"task": "t"}), Some(ISSUERS[1]), &ISSUERS).unwrap();
        assert_eq!(beside.issuer.as_deref(), Some(ISSUERS[1]));
    }

    #[test]
    fn what_is_no_subject_has_a_remedy() {
        for (subject, message) in [
            (json!({"tsak": "t", "issuer": ISSUERS[0]}), "unknown member `tsak` (did you mean `task`?)"),
            (
                json!({"task": 7, "issuer": ISSUERS[0]}),
                "`task` is not a name (write the value of the claim in the tokens as a string)",
            ),
            (
                json!({"task": "t"}),
                "the subject does not say whose tokens are meant (write `issuer`, one of: `https://a.example`, `https://b.example`)",
            ),
            (
                json!({"task": "t", "issuer": "https://c.example"}),
                "`https://c.example` is not an issuer of this feed (did you mean `https://a.example`?)",
            ),
            (
                json!([]),
                "the subject is not an object with members (write members such as `task` or `user` with a name each, or a subject identifier of RFC 9493)",
            ),
        ] {
            assert_eq!(error(subject.clone()), message, "{subject}");
        }
    }
}

//! Subject identifiers (RFC 9493, SSF 1.0 §3): whom a signal is about, as state keys.

use crate::statekey::{Kind, StateKey};
use serde_json::{Map, Value};

/// One simple subject that a signal names: one key for each issuer it may be meant under.
///
/// An `opaque` id carries no issuer, so it stands for the same id under each issuer that the transmitter speaks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// What it names.
    pub kind: Kind,
    /// `(place of the issuer in the transmitter's list, key)`.
    pub keys: Vec<(usize, StateKey)>,
}

/// Why a subject cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum SubjectError {
    #[error("sub_id is not a subject identifier of RFC 9493")]
    Malformed,
    #[error("subject identifier format `{0}` cannot be matched against access tokens")]
    Format(String),
    #[error("complex subject member `{0}` is not understood")]
    Member(String),
    #[error("the transmitter may not speak about subjects of that issuer")]
    ForeignIssuer,
}

/// Reads `sub_id`: the members that must all match. `issuers` are those the transmitter may speak for.
pub fn members(sub_id: &Value, issuers: &[String]) -> Result<Vec<Member>, SubjectError> {
    let object = sub_id.as_object().ok_or(SubjectError::Malformed)?;
    match text(object, "format")? {
        "complex" => {
            let named = object.iter().filter(|(name, _)| *name != "format");
            let members =
                named.map(|(name, value)| complex_member(name, value, issuers)).collect::<Result<Vec<_>, _>>()?;
            if members.is_empty() { Err(SubjectError::Malformed) } else { Ok(members) }
        }
        "jwt_id" => simple(Kind::Token, object, issuers).map(|member| vec![member]),
        "iss_sub" => simple(Kind::User, object, issuers).map(|member| vec![member]),
        other => Err(SubjectError::Format(other.to_owned())),
    }
}

/// The issuer, where one is named, and the name that a simple subject gives.
pub fn name(subject: &Map<String, Value>) -> Option<(Option<&str>, &str)> {
    match text(subject, "format").ok()? {
        "opaque" => Some((None, text(subject, "id").ok()?)),
        "iss_sub" => Some((Some(text(subject, "iss").ok()?), text(subject, "sub").ok()?)),
        "jwt_id" => Some((Some(text(subject, "iss").ok()?), text(subject, "jti").ok()?)),
        _ => None,
    }
}

fn complex_member(name: &str, value: &Value, issuers: &[String]) -> Result<Member, SubjectError> {
    let kind = match name {
        "user" => Kind::User,
        "session" => Kind::Session,
        "task" => Kind::Task,
        "token" => Kind::Token,
        "client" | "application" => Kind::Client,
        "actor" => Kind::Actor,
        "device" => Kind::Device,
        "tenant" => Kind::Tenant,
        other => return Err(SubjectError::Member(other.to_owned())),
    };
    simple(kind, value.as_object().ok_or(SubjectError::Malformed)?, issuers)
}

fn simple(kind: Kind, subject: &Map<String, Value>, issuers: &[String]) -> Result<Member, SubjectError> {
    let format = text(subject, "format")?;
    let (issuer, name) = match (format, name(subject)) {
        ("opaque", Some(named)) => named,
        ("iss_sub", Some(named)) if !matches!(kind, Kind::Token | Kind::Task | Kind::Session) => named,
        ("jwt_id", Some(named)) if kind == Kind::Token => named,
        ("opaque" | "iss_sub" | "jwt_id", None) => return Err(SubjectError::Malformed),
        (other, _) => return Err(SubjectError::Format(other.to_owned())),
    };
    // These may be named by an authority of their own. A key of them is still one of a token issuer, so that nobody
    // speaks about the devices of tokens that are not theirs to speak about.
    if matches!(kind, Kind::Device | Kind::Actor | Kind::Tenant) {
        let key = |token_issuer: &String| StateKey::foreign(kind, token_issuer, issuer.unwrap_or(token_issuer), name);
        return Ok(Member { kind, keys: issuers.iter().enumerate().map(|(at, issuer)| (at, key(issuer))).collect() });
    }
    let meant = issuers.iter().enumerate().filter(|(_, ours)| issuer.is_none_or(|named| named == *ours));
    let keys: Vec<_> = meant.map(|(at, issuer)| (at, StateKey::new(kind, issuer, name))).collect();
    if keys.is_empty() { Err(SubjectError::ForeignIssuer) } else { Ok(Member { kind, keys }) }
}

fn text<'v>(object: &'v Map<String, Value>, name: &str) -> Result<&'v str, SubjectError> {
    object.get(name).and_then(Value::as_str).filter(|text| !text.is_empty()).ok_or(SubjectError::Malformed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn issuers() -> Vec<String> {
        vec!["https://a".to_owned(), "https://b".to_owned()]
    }

    #[test]
    fn simple_subjects() {
        let read = |value| members(&value, &issuers());
        let token = read(json!({"format": "jwt_id", "iss": "https://b", "jti": "t"})).unwrap();
        assert_eq!(
            token,
            [Member { kind: Kind::Token, keys: vec![(1, StateKey::new(Kind::Token, "https://b", "t"))] }]
        );
        let user = read(json!({"format": "iss_sub", "iss": "https://a", "sub": "u"})).unwrap();
        assert_eq!(user[0].kind, Kind::User);
        let foreign = read(json!({"format": "jwt_id", "iss": "https://c", "jti": "t"}));
        assert_eq!(foreign, Err(SubjectError::ForeignIssuer));
        let email = read(json!({"format": "email", "email": "a@b"}));
        assert_eq!(email, Err(SubjectError::Format("email".to_owned())));
    }

    #[test]
    fn complex_subjects() {
        let opaque = |id: &str| json!({"format": "opaque", "id": id});
        let read = |value| members(&value, &issuers());
        let both = read(json!({"format": "complex", "task": opaque("t"), "session": opaque("s")})).unwrap();
        assert_eq!(both.len(), 2);
        assert_eq!(both[0].keys.len(), 2, "an opaque id may be of either issuer");
        assert_eq!(
            read(json!({"format": "complex", "group": opaque("g")})),
            Err(SubjectError::Member("group".to_owned()))
        );
        assert_eq!(read(json!({"format": "complex"})), Err(SubjectError::Malformed));
        assert_eq!(read(json!("x")), Err(SubjectError::Malformed));
        assert_eq!(read(json!({"format": "complex", "task": opaque("")})), Err(SubjectError::Malformed));
    }
}

//! Subject identifiers (RFC 9493, SSF 1.0 §3): whom a signal is about, as state keys.

use crate::issuer::Issuer;
use crate::statekey::{Kind, StateKey};
use serde_json::{Map, Value};
use std::net::IpAddr;

/// A subject may have this many aliases, all members together.
const MAX_ALTERNATIVES: usize = 16;

/// A subject may have this many members.
const MAX_MEMBERS: usize = 16;

/// Whom a signal is about.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Subject {
    /// It is about whoever has all of one of these lists. Empty when nothing it names is a key of any grant.
    pub alternatives: Vec<Vec<Member>>,
    /// Members of it that no grant can be compared with, by name. The rest of it is wider than what was meant.
    pub unmatched: Vec<String>,
}

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
    #[error("`{0}` is not a subject identifier format of RFC 9493 or SSF 1.0")]
    Format(String),
    #[error("a subject identifier of format `{0}` has not exactly the members of that format")]
    Members(String),
    #[error("critical subject member `{0}` is not understood")]
    Critical(String),
    #[error("sub_id has too many members or aliases")]
    TooMany,
    #[error("the transmitter may not speak about subjects of that issuer")]
    ForeignIssuer,
}

/// Reads `sub_id`. `issuers` are those the transmitter may speak for; `critical` are the members of complex subjects
/// that may not be left out of account (`critical_subject_members`, SSF 1.0 §7.1).
pub fn read(sub_id: &Value, issuers: &[&Issuer], critical: &[String]) -> Result<Subject, SubjectError> {
    let object = sub_id.as_object().ok_or(SubjectError::Malformed)?;
    let mut subject = Subject::default();
    if text(object, "format")? != "complex" {
        subject.alternatives = simple(None, object, issuers)?.into_iter().map(|member| vec![member]).collect();
        return Ok(subject);
    }
    let members: Vec<_> = object.iter().filter(|(name, _)| *name != "format").collect();
    if members.is_empty() {
        return Err(SubjectError::Malformed);
    }
    if members.len() > MAX_MEMBERS {
        return Err(SubjectError::TooMany);
    }
    subject.alternatives.push(Vec::new());
    for (name, value) in members {
        let value = value.as_object().ok_or(SubjectError::Malformed)?;
        let aliases = match kind_of_member(name) {
            Some(kind) => simple(Some(kind), value, issuers)?,
            None => {
                check(value)?;
                Vec::new()
            }
        };
        if aliases.is_empty() {
            if critical.contains(name) {
                return Err(SubjectError::Critical(name.clone()));
            }
            subject.unmatched.push(name.clone());
            continue;
        }
        let with = |known: &Vec<Member>| -> Vec<Vec<Member>> {
            aliases.iter().map(|alias| known.iter().chain([alias]).cloned().collect()).collect()
        };
        subject.alternatives = subject.alternatives.iter().flat_map(with).collect();
        if subject.alternatives.len() > MAX_ALTERNATIVES {
            return Err(SubjectError::TooMany);
        }
    }
    subject.alternatives.retain(|members| !members.is_empty());
    Ok(subject)
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

/// The format whose identifiers can stand for a user by a claim of the token, and the kind of key they become.
pub fn kind_of_format(format: &str) -> Option<Kind> {
    Some(match format {
        "email" => Kind::Email,
        "phone_number" => Kind::Phone,
        "account" => Kind::Account,
        "did" => Kind::Did,
        "uri" => Kind::Uri,
        _ => return None,
    })
}

/// The key of a user of `issuer` whose claim holds `value`. The case of an email address is nobody's second name.
pub fn user_key(kind: Kind, issuer: &str, value: &str) -> StateKey {
    match kind {
        Kind::Email => StateKey::new(kind, issuer, &value.to_ascii_lowercase()),
        _ => StateKey::new(kind, issuer, value),
    }
}

fn kind_of_member(name: &str) -> Option<Kind> {
    Some(match name {
        "user" => Kind::User,
        "session" => Kind::Session,
        "task" => Kind::Task,
        "token" => Kind::Token,
        "client" | "application" => Kind::Client,
        "actor" => Kind::Actor,
        "device" => Kind::Device,
        "tenant" => Kind::Tenant,
        _ => return None,
    })
}

/// One simple subject, each of its aliases. Nothing when it is one that no grant can be compared with. `kind`: what a
/// member of a complex subject says that it names.
fn simple(kind: Option<Kind>, subject: &Map<String, Value>, issuers: &[&Issuer]) -> Result<Vec<Member>, SubjectError> {
    let format = check(subject)?;
    if format == "aliases" {
        let identifiers = subject.get("identifiers").and_then(Value::as_array).ok_or(SubjectError::Malformed)?;
        let mut members = Vec::new();
        for identifier in identifiers {
            members.extend(single(kind, identifier.as_object().ok_or(SubjectError::Malformed)?, issuers)?);
        }
        return Ok(members);
    }
    single(kind, subject, issuers).map(|member| member.into_iter().collect())
}

fn single(
    kind: Option<Kind>,
    subject: &Map<String, Value>,
    issuers: &[&Issuer],
) -> Result<Option<Member>, SubjectError> {
    let format = text(subject, "format")?;
    if let (None | Some(Kind::User), Some(by_claim)) = (kind, kind_of_format(format)) {
        let value = identifier(subject, format)?;
        let maps = |issuer: &Issuer| issuer.subject_claims.iter().any(|(known, _)| *known == by_claim);
        let known = issuers.iter().enumerate().filter(|(_, issuer)| maps(issuer));
        let keys: Vec<_> = known.map(|(at, issuer)| (at, user_key(by_claim, &issuer.name, value))).collect();
        return Ok((!keys.is_empty()).then_some(Member { kind: by_claim, keys }));
    }
    let (kind, (issuer, name)) = match (kind, format, name(subject)) {
        (None, "iss_sub", Some(named)) => (Kind::User, named),
        (None, "jwt_id", Some(named)) => (Kind::Token, named),
        (Some(kind), "opaque", Some(named)) => (kind, named),
        (Some(kind), "iss_sub", Some(named)) if !kind.is_singular() => (kind, named),
        (Some(Kind::Token), "jwt_id", Some(named)) => (Kind::Token, named),
        _ => return Ok(None),
    };
    // These may be named by an authority of their own. A key of them is still one of a token issuer, so that nobody
    // speaks about the devices of tokens that are not theirs to speak about.
    if matches!(kind, Kind::Device | Kind::Actor | Kind::Tenant) {
        let key = |token_issuer: &Issuer| {
            StateKey::foreign(kind, &token_issuer.name, issuer.unwrap_or(&token_issuer.name), name)
        };
        let keys = issuers.iter().enumerate().map(|(at, issuer)| (at, key(issuer))).collect();
        return Ok(Some(Member { kind, keys }));
    }
    let meant = issuers.iter().enumerate().filter(|(_, ours)| issuer.is_none_or(|named| named == ours.name));
    let keys: Vec<_> = meant.map(|(at, issuer)| (at, StateKey::new(kind, &issuer.name, name))).collect();
    if keys.is_empty() { Err(SubjectError::ForeignIssuer) } else { Ok(Some(Member { kind, keys })) }
}

/// Checks a simple subject against its format: all of its members, and no other (RFC 9493 §3). Returns the format.
fn check(subject: &Map<String, Value>) -> Result<&str, SubjectError> {
    const FORMATS: [(&str, &[&str]); 9] = [
        ("account", &["uri"]),
        ("email", &["email"]),
        ("iss_sub", &["iss", "sub"]),
        ("opaque", &["id"]),
        ("phone_number", &["phone_number"]),
        ("did", &["url"]),
        ("uri", &["uri"]),
        ("jwt_id", &["iss", "jti"]),
        ("saml_assertion_id", &["issuer", "assertion_id"]),
    ];
    let format = text(subject, "format")?;
    let wrong = || SubjectError::Members(format.to_owned());
    let exactly = |members: &[&str]| {
        subject.len() == members.len().saturating_add(1) && members.iter().all(|name| subject.contains_key(*name))
    };
    let list = |name: &str| {
        let list = subject.get(name).and_then(Value::as_array).filter(|list| !list.is_empty() && exactly(&[name]));
        list.ok_or_else(wrong)
    };
    match format {
        "aliases" => {
            let identifiers = list("identifiers")?;
            if identifiers.len() > MAX_ALTERNATIVES {
                return Err(SubjectError::TooMany);
            }
            for identifier in identifiers {
                // RFC 9493 §3.2.8: no aliases inside aliases. Complex subjects are no simple ones.
                let inner = identifier.as_object().ok_or_else(wrong)?;
                if matches!(text(inner, "format")?, "aliases" | "complex") {
                    return Err(wrong());
                }
                check(inner)?;
            }
        }
        "ip-addresses" => {
            let is_address = |value: &Value| value.as_str().is_some_and(|text| text.parse::<IpAddr>().is_ok());
            if !list("ip-addresses")?.iter().all(is_address) {
                return Err(wrong());
            }
        }
        _ => {
            let (_, members) = FORMATS
                .iter()
                .find(|(known, _)| *known == format)
                .ok_or_else(|| SubjectError::Format(format.to_owned()))?;
            if !exactly(members) || members.iter().any(|name| text(subject, name).is_err()) {
                return Err(wrong());
            }
            if kind_of_format(format).is_some() {
                identifier(subject, format)?;
            }
        }
    }
    Ok(format)
}

/// The value of a format with one member that names a user.
fn identifier<'s>(subject: &'s Map<String, Value>, format: &str) -> Result<&'s str, SubjectError> {
    let (member, fits): (_, fn(&str) -> bool) = match format {
        "email" => {
            ("email", |text| text.split_once('@').is_some_and(|(local, host)| !local.is_empty() && !host.is_empty()))
        }
        "phone_number" => ("phone_number", |text| {
            text.strip_prefix('+').is_some_and(|digits| {
                (1..=15).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit())
            })
        }),
        "account" => ("uri", |text| text.starts_with("acct:")),
        "did" => ("url", |text| text.starts_with("did:")),
        _ => ("uri", |text| text.contains(':')),
    };
    let value = text(subject, member)?;
    if fits(value) { Ok(value) } else { Err(SubjectError::Members(format.to_owned())) }
}

fn text<'v>(object: &'v Map<String, Value>, name: &str) -> Result<&'v str, SubjectError> {
    object.get(name).and_then(Value::as_str).filter(|text| !text.is_empty()).ok_or(SubjectError::Malformed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture;
    use serde_json::json;

    const A: &str = "https://a";
    const B: &str = "https://b";

    /// Issuer A knows users by email as well.
    fn read_with(sub_id: Value, critical: &[&str]) -> Result<Subject, SubjectError> {
        let named = |name: &str, subject_claims| Issuer { name: name.to_owned(), subject_claims, ..fixture::issuer() };
        let a = named(A, vec![(Kind::Email, "email".to_owned())]);
        let b = named(B, Vec::new());
        let critical: Vec<String> = critical.iter().map(|name| (*name).to_owned()).collect();
        read(&sub_id, &[&a, &b], &critical)
    }

    fn read(sub_id: &Value, issuers: &[&Issuer], critical: &[String]) -> Result<Subject, SubjectError> {
        super::read(sub_id, issuers, critical)
    }

    fn members(sub_id: Value) -> Vec<Vec<Member>> {
        read_with(sub_id, &[]).unwrap().alternatives
    }

    fn error(sub_id: Value) -> SubjectError {
        read_with(sub_id, &[]).expect_err("refused")
    }

    #[test]
    fn simple_subjects() {
        let token = members(json!({"format": "jwt_id", "iss": B, "jti": "t"}));
        assert_eq!(token, [[Member { kind: Kind::Token, keys: vec![(1, StateKey::new(Kind::Token, B, "t"))] }]]);
        let user = members(json!({"format": "iss_sub", "iss": A, "sub": "u"}));
        assert_eq!(user[0][0].kind, Kind::User);
        let foreign = json!({"format": "jwt_id", "iss": "https://c", "jti": "t"});
        assert_eq!(error(foreign), SubjectError::ForeignIssuer);
    }

    #[test]
    fn a_claim_can_stand_for_a_format() {
        let email = members(json!({"format": "email", "email": "Alice@Example.org"}));
        let key = StateKey::new(Kind::Email, A, "alice@example.org");
        assert_eq!(email, [[Member { kind: Kind::Email, keys: vec![(0, key)] }]]);
        let inside = members(json!({"format": "complex", "user": {"format": "email", "email": "alice@example.org"}}));
        assert_eq!(inside, email);
    }

    #[test]
    fn formats_that_name_nothing_here_are_understood() {
        for subject in [
            json!({"format": "account", "uri": "acct:alice@example.org"}),
            json!({"format": "phone_number", "phone_number": "+12065550100"}),
            json!({"format": "did", "url": "did:example:123456"}),
            json!({"format": "uri", "uri": "https://alice.example"}),
            json!({"format": "opaque", "id": "x"}),
            json!({"format": "saml_assertion_id", "issuer": "https://idp", "assertion_id": "_1"}),
            json!({"format": "ip-addresses", "ip-addresses": ["10.0.0.1", "2001:db8::1"]}),
            json!({"format": "aliases", "identifiers": [{"format": "phone_number", "phone_number": "+41"}]}),
        ] {
            assert_eq!(read_with(subject.clone(), &[]), Ok(Subject::default()), "{subject}");
        }
    }

    #[test]
    fn a_format_has_its_members_and_no_other() {
        for subject in [
            json!({"format": "account", "uri": "alice@example.org"}),
            json!({"format": "email", "email": "alice"}),
            json!({"format": "email", "email": "a@b", "name": "alice"}),
            json!({"format": "iss_sub", "iss": A}),
            json!({"format": "iss_sub", "iss": A, "sub": "u", "jti": "t"}),
            json!({"format": "opaque", "id": 7}),
            json!({"format": "opaque", "id": ""}),
            json!({"format": "phone_number", "phone_number": "0123"}),
            json!({"format": "did", "url": "example:1"}),
            json!({"format": "uri", "uri": "alice"}),
            json!({"format": "jwt_id", "jti": "t"}),
            json!({"format": "saml_assertion_id", "issuer": "i"}),
            json!({"format": "ip-addresses", "ip-addresses": []}),
            json!({"format": "ip-addresses", "ip-addresses": ["ten"]}),
            json!({"format": "aliases", "identifiers": []}),
            json!({"format": "aliases", "identifiers": [{"format": "aliases", "identifiers": [{"format": "opaque", "id": "x"}]}]}),
            json!({"format": "complex", "user": {"format": "email", "email": "a@b", "x": 1}}),
        ] {
            let format = subject["user"]["format"].as_str().or(subject["format"].as_str()).unwrap().to_owned();
            assert_eq!(error(subject.clone()), SubjectError::Members(format), "{subject}");
        }
        assert_eq!(
            error(json!({"format": "carrier-pigeon", "ring": 7})),
            SubjectError::Format("carrier-pigeon".to_owned())
        );
        for subject in [
            json!("x"),
            json!({}),
            json!({"format": ""}),
            json!({"format": "complex"}),
            json!({"format": "complex", "user": "alice"}),
        ] {
            assert_eq!(error(subject.clone()), SubjectError::Malformed, "{subject}");
        }
    }

    #[test]
    fn aliases_are_alternatives() {
        let subject = json!({"format": "aliases", "identifiers": [
            {"format": "iss_sub", "iss": A, "sub": "u"}, {"format": "email", "email": "u@a"},
            {"format": "phone_number", "phone_number": "+41"}
        ]});
        let kinds = |alternatives: Vec<Vec<Member>>| {
            alternatives.iter().map(|all| all.iter().map(|member| member.kind).collect()).collect::<Vec<Vec<_>>>()
        };
        assert_eq!(kinds(members(subject.clone())), [[Kind::User], [Kind::Email]]);
        let both = json!({"format": "complex", "user": subject, "device": {"format": "opaque", "id": "d"}});
        assert_eq!(kinds(members(both)), [[Kind::Device, Kind::User], [Kind::Device, Kind::Email]]);
    }

    #[test]
    fn members_that_are_not_understood() {
        let opaque = |id: &str| json!({"format": "opaque", "id": id});
        let subject = json!({"format": "complex", "user": opaque("u"), "group": opaque("g"), "shoe": opaque("s")});
        let read = read_with(subject.clone(), &["task"]).unwrap();
        assert_eq!(read.unmatched, ["group", "shoe"]);
        assert_eq!(read.alternatives.len(), 1);
        assert_eq!(read_with(subject, &["shoe"]), Err(SubjectError::Critical("shoe".to_owned())));
        let phone = json!({"format": "complex", "user": {"format": "phone_number", "phone_number": "+41"}});
        assert!(read_with(phone.clone(), &[]).unwrap().alternatives.is_empty());
        assert_eq!(read_with(phone, &["user"]), Err(SubjectError::Critical("user".to_owned())), "critical is critical");
    }

    #[test]
    fn complex_subjects() {
        let opaque = |id: &str| json!({"format": "opaque", "id": id});
        let both = members(json!({"format": "complex", "task": opaque("t"), "session": opaque("s")}));
        assert_eq!(both[0].len(), 2);
        assert_eq!(both[0][0].keys.len(), 2, "an opaque id may be of either issuer");
    }
}

//! Subject identifiers (RFC 9493, SSF 1.0 §3): the subject of a signal as state keys.

use crate::index::IssuerIndex;
use crate::signal::oddity::Oddities;
use crate::state::key::kind_of_format;
use crate::state::key::{Kind, StateKey};
use crate::token::identifier;
use crate::token::identifier::user_key;
use crate::token::issuer::Issuer;
use crate::token::subject_id::{self, name, text};
use serde_json::{Map, Value};
use std::net::IpAddr;

/// A subject may have this many aliases, over all its members.
const MAX_ALTERNATIVES: usize = 16;

/// A subject may have this many members.
const MAX_MEMBERS: usize = 16;

/// The formats of a simple subject with one name, and the members of each (RFC 9493 §3.2, SSF 1.0 §3.4).
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

/// The subject of a signal.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Subject {
    /// The subject is everyone who has all members of one of these lists. Empty when no grant can match it.
    pub alternatives: Vec<Vec<Member>>,
    /// Names of members that no grant can be compared with. Without them the subject is wider than intended.
    pub unmatched: Vec<String>,
}

/// One simple subject: its key under each issuer that it may belong to.
///
/// An `opaque` id names no issuer, so it stands for that id under each issuer that the transmitter may speak for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Member {
    /// The kind of thing that it names.
    pub kind: Kind,
    /// Its key under each issuer that has one.
    pub keys: Vec<(IssuerIndex, StateKey)>,
}

/// Why a subject cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub(crate) enum SubjectError {
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

/// How subjects are read for one transmitter.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reading<'r> {
    /// The issuers that the transmitter may speak for.
    pub issuers: &'r [(IssuerIndex, &'r Issuer)],
    /// Members of complex subjects that must not be ignored (`critical_subject_members`, SSF 1.0 §7.1).
    pub critical: &'r [String],
    /// Whether the transmitter writes subjects as drafts did: `subject_type`, and no `format` in a complex subject.
    pub legacy: bool,
    /// Issuers that subjects name, and the token issuer that each stands for.
    pub renamed: &'r [(String, String)],
    /// The kind of thing that an `opaque` id names if the issuer does not define it.
    pub opaque: Option<Kind>,
}

impl Reading<'_> {
    /// Reads all `subjects` of one signal; the signal is about each of them. A subject that cannot be used is skipped
    /// if another can. An unknown critical member refuses all of them.
    pub(crate) fn read_all(&self, subjects: &[&Value], oddities: &mut Oddities) -> Result<Subject, SubjectError> {
        let mut all = Subject::default();
        let mut error = None;
        let mut any = false;
        for subject in subjects {
            match self.read(subject, oddities) {
                Ok(subject) => {
                    any = true;
                    all.alternatives.extend(subject.alternatives);
                    all.unmatched.extend(subject.unmatched);
                }
                Err(critical @ SubjectError::Critical(_)) => return Err(critical),
                Err(other) => {
                    oddities.fault(other.to_string());
                    error.get_or_insert(other);
                }
            }
        }
        match error {
            Some(error) if !any => Err(error),
            _ if all.alternatives.len() > MAX_ALTERNATIVES => Err(SubjectError::TooMany),
            _ => Ok(all),
        }
    }

    /// Reads one subject, such as `sub_id`.
    pub(crate) fn read(&self, subject: &Value, oddities: &mut Oddities) -> Result<Subject, SubjectError> {
        let mut subject = subject.clone();
        self.complete(&mut subject, oddities);
        let object = subject.as_object().ok_or(SubjectError::Malformed)?;
        if self.is_complex(object, oddities)? {
            return self.complex(object, oddities);
        }
        let members = self.simple(None, object, oddities)?;
        Ok(Subject { alternatives: members.into_iter().map(|member| vec![member]).collect(), unmatched: Vec::new() })
    }

    /// Gives `subject` and the subjects in it what they lack and can only mean one thing: a `format`, and names that are
    /// whole numbers as text.
    fn complete(&self, subject: &mut Value, oddities: &mut Oddities) {
        let object = match subject {
            Value::Object(object) => object,
            Value::Array(list) => return list.iter_mut().for_each(|inner| self.complete(inner, oddities)),
            _ => return,
        };
        for (name, inner) in object.iter_mut() {
            match inner {
                Value::Number(number) if matches!(name.as_str(), "id" | "sub" | "jti") && !number.is_f64() => {
                    oddities.fault(format!("{name} of a subject is a number"));
                    *inner = number.to_string().into();
                }
                _ => self.complete(inner, oddities),
            }
        }
        if object.contains_key("format") || object.contains_key("subject_type") {
            return;
        }
        let has =
            |members: &[&str]| object.len() == members.len() && members.iter().all(|name| object.contains_key(*name));
        // `account` and `uri` have the same member, and only a format says which one it is.
        let formats = FORMATS.iter().filter(|(format, _)| *format != "account");
        let format = formats.filter(|(_, members)| has(members)).map(|(format, _)| *format).next();
        if let Some(format) = format.filter(|_| object.values().all(Value::is_string)) {
            self.legacy_shape("a subject has no format", oddities);
            object.insert("format".to_owned(), format.into());
        }
    }

    fn is_complex(&self, subject: &Map<String, Value>, oddities: &mut Oddities) -> Result<bool, SubjectError> {
        let untyped = !subject.contains_key("format") && !subject.contains_key("subject_type");
        if untyped && !subject.is_empty() && subject.values().all(Value::is_object) {
            self.legacy_shape("a complex subject has no format", oddities);
            return Ok(true);
        }
        Ok(format_of(subject)? == "complex")
    }

    fn legacy_shape(&self, text: &str, oddities: &mut Oddities) {
        if !self.legacy {
            oddities.fault(text);
        }
    }

    fn complex(&self, object: &Map<String, Value>, oddities: &mut Oddities) -> Result<Subject, SubjectError> {
        let members: Vec<_> = object.iter().filter(|(name, _)| !is_format(name)).collect();
        if members.is_empty() {
            return Err(SubjectError::Malformed);
        }
        if members.len() > MAX_MEMBERS {
            return Err(SubjectError::TooMany);
        }
        let mut subject = Subject { alternatives: vec![Vec::new()], unmatched: Vec::new() };
        let mut error = None;
        for (name, value) in members {
            let aliases = match self.member(name, value, oddities) {
                Ok(aliases) => aliases,
                Err(_) if self.critical.contains(name) => return Err(SubjectError::Critical(name.clone())),
                Err(refused) => {
                    oddities.fault(refused.to_string());
                    error.get_or_insert(refused);
                    Vec::new()
                }
            };
            if aliases.is_empty() {
                if self.critical.contains(name) {
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
        // No member is left: the result is no subject, not a wider one.
        match error {
            Some(error) if subject.alternatives.is_empty() => Err(error),
            _ => Ok(subject),
        }
    }

    fn member(&self, name: &str, value: &Value, oddities: &mut Oddities) -> Result<Vec<Member>, SubjectError> {
        let value = value.as_object().ok_or(SubjectError::Malformed)?;
        match kind_of_member(name) {
            Some(kind) => self.simple(Some(kind), value, oddities),
            None => check(value).map(|_| Vec::new()),
        }
    }

    /// One simple subject, with each of its aliases. Empty when no grant can be compared with it. `kind`: the kind that
    /// the member of a complex subject implies.
    fn simple(
        &self,
        kind: Option<Kind>,
        subject: &Map<String, Value>,
        oddities: &mut Oddities,
    ) -> Result<Vec<Member>, SubjectError> {
        if !subject.contains_key("format") && subject.contains_key("subject_type") {
            self.legacy_shape("a subject has subject_type for format", oddities);
        }
        let format = check(subject)?;
        if format != "aliases" {
            return self.single(kind, subject).map(|member| member.into_iter().collect());
        }
        let identifiers = subject.get("identifiers").and_then(Value::as_array).ok_or(SubjectError::Malformed)?;
        let mut members = Vec::new();
        let mut error = None;
        // The other aliases name the same principal, so an alias that is not understood does not make the subject
        // wider.
        for identifier in identifiers {
            let identifier = identifier.as_object().ok_or(SubjectError::Malformed)?;
            match check(identifier).and_then(|_| self.single(kind, identifier)) {
                Ok(member) => members.extend(member),
                Err(refused) => {
                    oddities.fault(refused.to_string());
                    error.get_or_insert(refused);
                }
            }
        }
        match error {
            Some(error) if members.is_empty() => Err(error),
            _ => Ok(members),
        }
    }

    fn single(&self, kind: Option<Kind>, subject: &Map<String, Value>) -> Result<Option<Member>, SubjectError> {
        let format = format_of(subject)?;
        let is_user = matches!(kind, None | Some(Kind::User));
        if let Some(by_claim) = kind_of_format(format).filter(|_| is_user) {
            let value = identifier(subject, by_claim)?;
            let maps = |issuer: &Issuer| issuer.claims.subjects.iter().any(|(known, _)| *known == by_claim);
            let key = |issuer: &Issuer| maps(issuer).then(|| user_key(by_claim, &issuer.key_space, value));
            return Ok(self.of_each_issuer(by_claim, key));
        }
        let named = name(subject);
        let written = named.and_then(|(issuer, _)| issuer);
        let stands_for =
            |issuer| self.renamed.iter().find(|(known, _)| known == issuer).map(|(_, other)| other.as_str());
        let named = named.map(|(issuer, name)| (issuer.map(|issuer| stands_for(issuer).unwrap_or(issuer)), name));
        let (kind, (issuer, name)) = match (kind, format, named) {
            (None, "opaque", Some((_, name))) => {
                let kind = |issuer: &Issuer| issuer.opaque_subject.or(self.opaque);
                let key = |issuer: &Issuer| kind(issuer).map(|kind| key(kind, issuer, None, name));
                let first = self.issuers.iter().find_map(|(_, issuer)| kind(issuer));
                return Ok(first.and_then(|first| self.of_each_issuer(first, key)));
            }
            (None, "iss_sub", Some(named)) => (Kind::User, named),
            (None, "jwt_id", Some(named)) => (Kind::Token, named),
            (Some(kind), "opaque", Some(named)) => (kind, named),
            (Some(kind), "iss_sub", Some(named)) if !kind.is_singular() => (kind, named),
            (Some(Kind::Token), "jwt_id", Some(named)) => (Kind::Token, named),
            _ => return Ok(None),
        };
        // Grants have groups, tasks and clients only if the issuer names a claim for them, and an identifier that a
        // signal can name only if it is a claim. Otherwise no grant can be compared with the member.
        if !self.issuers.iter().any(|(_, issuer)| issuer.claims.may_name(kind)) {
            return Ok(None);
        }
        // A grant of the others lacks the member, so it is affected too (SSF 1.0 §8.1.3.1).
        let known = |token_issuer: &Issuer| {
            let own = may_have_own_authority(kind) || issuer.is_none_or(|named| named == token_issuer.name);
            let mapped = || {
                token_issuer.claims.foreign_users.iter().find(|(known, _)| written == Some(known) && kind == Kind::User)
            };
            match own {
                true => Some(key(kind, token_issuer, issuer, name)),
                false => mapped().map(|(other, _)| key(Kind::ForeignUser, token_issuer, Some(other), name)),
            }
        };
        self.of_each_issuer(kind, known).map(Some).ok_or(SubjectError::ForeignIssuer)
    }

    /// The member with its key under each issuer; `None` when no issuer has a key for it.
    fn of_each_issuer(&self, kind: Kind, key: impl Fn(&Issuer) -> Option<StateKey>) -> Option<Member> {
        let keys: Vec<_> = self.issuers.iter().filter_map(|(index, issuer)| Some((*index, key(issuer)?))).collect();
        (!keys.is_empty()).then_some(Member { kind, keys })
    }
}

/// Whether an authority other than the token issuer may assign the name. The key still belongs to one token issuer, so
/// that no transmitter can affect devices in the tokens of an issuer that it may not speak for.
fn may_have_own_authority(kind: Kind) -> bool {
    matches!(kind, Kind::Device | Kind::Actor | Kind::Tenant | Kind::Group | Kind::ForeignUser)
}

/// The key of the name `name` in the tokens of `issuer`. `authority` assigned the name, by default the issuer itself.
fn key(kind: Kind, issuer: &Issuer, authority: Option<&str>, name: &str) -> StateKey {
    match may_have_own_authority(kind) {
        true => StateKey::foreign(kind, &issuer.key_space, authority.unwrap_or(&issuer.name), name),
        false => StateKey::new(kind, &issuer.key_space, name),
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
        "group" => Kind::Group,
        _ => return None,
    })
}

/// Checks that a simple subject has all members of its format and no other (RFC 9493 §3). Returns the format.
fn check(subject: &Map<String, Value>) -> Result<&str, SubjectError> {
    let format = format_of(subject)?;
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
                // RFC 9493 §3.2.8: aliases may not contain aliases. A complex subject is not a simple one.
                let inner = identifier.as_object().ok_or_else(wrong)?;
                if matches!(format_of(inner)?, "aliases" | "complex") {
                    return Err(wrong());
                }
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
            if !exactly(members) || members.iter().any(|name| text(subject, name).is_none()) {
                return Err(wrong());
            }
            if let Some(kind) = kind_of_format(format) {
                identifier(subject, kind)?;
            }
        }
    }
    Ok(format)
}

fn format_of(subject: &Map<String, Value>) -> Result<&str, SubjectError> {
    subject_id::format(subject).ok_or(SubjectError::Malformed)
}

fn is_format(name: &str) -> bool {
    matches!(name, "format" | "subject_type")
}

/// The value of a format with one member that names a user, after a check of its syntax.
pub(crate) fn identifier(subject: &Map<String, Value>, kind: Kind) -> Result<&str, SubjectError> {
    let (format, member) = match kind {
        Kind::Email => ("email", "email"),
        Kind::Phone => ("phone_number", "phone_number"),
        Kind::Account => ("account", "uri"),
        Kind::Did => ("did", "url"),
        _ => ("uri", "uri"),
    };
    let value = text(subject, member).ok_or(SubjectError::Malformed)?;
    if identifier::is_one(kind, value) { Ok(value) } else { Err(SubjectError::Members(format.to_owned())) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::fixture;
    use crate::token::claim_names::{ClaimNames, Names};
    use serde_json::json;

    const A: &str = "https://a";
    const B: &str = "https://b";

    /// Issuer A knows users by email as well.
    fn read_with(sub_id: Value, critical: &[&str]) -> Result<Subject, SubjectError> {
        let named = |name: &str, subjects| Issuer {
            name: name.to_owned(),
            key_space: name.into(),
            claims: ClaimNames { subjects, ..ClaimNames::default() },
            ..fixture::issuer()
        };
        let a = named(A, vec![(Kind::Email, Names::top("email"))]);
        let b = named(B, Vec::new());
        let critical: Vec<String> = critical.iter().map(|name| (*name).to_owned()).collect();
        let issuers = [(IssuerIndex::new(0), &a), (IssuerIndex::new(1), &b)];
        let reading = Reading { issuers: &issuers, critical: &critical, legacy: false, renamed: &[], opaque: None };
        reading.read(&sub_id, &mut Oddities::default())
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
        assert_eq!(
            token,
            [[Member { kind: Kind::Token, keys: vec![(IssuerIndex::new(1), StateKey::new(Kind::Token, B, "t"))] }]]
        );
        let user = members(json!({"format": "iss_sub", "iss": A, "sub": "u"}));
        assert_eq!(user[0][0].kind, Kind::User);
        let foreign = json!({"format": "jwt_id", "iss": "https://c", "jti": "t"});
        assert_eq!(error(foreign), SubjectError::ForeignIssuer);
    }

    #[test]
    fn a_claim_can_stand_for_a_format() {
        let email = members(json!({"format": "email", "email": "Alice@Example.org"}));
        let key = StateKey::new(Kind::Email, A, "alice@example.org");
        assert_eq!(email, [[Member { kind: Kind::Email, keys: vec![(IssuerIndex::new(0), key)] }]]);
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
            json!({"format": "opaque", "id": 7.5}),
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

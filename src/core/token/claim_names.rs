//! Which claims of an issuer's tokens say what: the names that the configuration gives, resolved to paths.

use crate::state::key::Kind;
use crate::token::claim_path::ClaimPath;
use serde_json::{Map, Value};
use std::borrow::Cow;
use std::fmt;

/// The maximum length in bytes of a claim that names something (`sub`, `jti`, the task, ...).
pub(crate) const MAX_NAME: usize = 1024;

/// The names of one claim, in the order in which they count. Empty if tokens have no such claim.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Names(Box<[ClaimPath]>);

/// What each claim of an issuer's tokens is called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaimNames {
    /// The user or workload. Never empty.
    pub subject: Names,
    /// The client.
    pub client: Names,
    /// The identifier of the token. If empty, a digest of the token stands for it.
    pub token: Names,
    /// The task.
    pub task: Names,
    /// The session.
    pub session: Names,
    /// Scope values: one string with spaces between the values, or a list of strings.
    pub scope: Names,
    /// Objects of RFC 9396.
    pub details: Names,
    /// The acting party (RFC 8693 §4.1).
    pub actor: Names,
    /// The time at which the user was authenticated.
    pub auth_time: Names,
    /// The authentication context class.
    pub acr: Names,
    /// The audience.
    pub audience: Names,
    /// The device; the member `device` of `sub_id` may name it too.
    pub device: Names,
    /// The tenant; the member `tenant` of `sub_id` may name it too.
    pub tenant: Names,
    /// The groups; the member `group` of `sub_id` may name one too.
    pub group: Names,
    /// Claims that identify the user in subject formats other than `iss_sub` (RFC 9493).
    pub subjects: Vec<(Kind, Names)>,
    /// Claims with the `sub` that another issuer gave the user: the name of that issuer, and the claim.
    pub foreign_users: Vec<(String, Names)>,
}

/// A claim for which a token is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefusedClaim {
    /// Its name, as a configuration writes it.
    pub name: String,
    /// What is wrong with it.
    pub fault: ClaimFault,
}

/// What is wrong with a claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClaimFault {
    /// It is required, and missing.
    Missing,
    /// Its value is of the wrong kind, or out of bounds.
    Shape,
    /// Its path goes through something that is not an object.
    NotInObject,
    /// Its value differs from that of the other claim, which has the same meaning.
    Differs(String),
    /// Its value is not one that the configuration accepts.
    NotAccepted,
}

impl RefusedClaim {
    pub(crate) fn new(name: impl fmt::Display, fault: ClaimFault) -> RefusedClaim {
        RefusedClaim { name: name.to_string(), fault }
    }
}

impl fmt::Display for RefusedClaim {
    /// What is wrong, as a sentence without the value.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = &self.name;
        match &self.fault {
            ClaimFault::Missing => write!(f, "the claim `{name}` is missing"),
            ClaimFault::Shape => write!(f, "the claim `{name}` has the wrong shape"),
            ClaimFault::NotInObject => write!(f, "the claim `{name}` is not inside an object"),
            ClaimFault::Differs(other) => write!(f, "the claim `{name}` differs from `{other}`"),
            ClaimFault::NotAccepted => write!(f, "the claim `{name}` has a value that is not accepted"),
        }
    }
}

/// Whether a value says that there is none.
pub(crate) type IsBlank = fn(&Value) -> bool;

/// No value says that: a wrong one is refused.
pub(crate) const NEVER_BLANK: IsBlank = |_| false;

impl Names {
    /// The names `paths`.
    pub fn new(paths: Vec<ClaimPath>) -> Names {
        Names(paths.into())
    }

    /// The name of one top-level claim.
    pub fn top(name: &str) -> Names {
        Names([ClaimPath::top(name)].into())
    }

    /// Whether tokens have no such claim.
    pub fn is_none(&self) -> bool {
        self.0.is_empty()
    }

    /// The names, the one that counts first at the front.
    pub fn paths(&self) -> &[ClaimPath] {
        &self.0
    }

    /// The name to show for a token that has none of them.
    pub(crate) fn missing(&self) -> RefusedClaim {
        RefusedClaim::new(self, ClaimFault::Missing)
    }

    /// The first value that is present and not null, with its name. The others may differ from it.
    pub(crate) fn first<'c>(
        &self,
        claims: &'c Map<String, Value>,
    ) -> Result<Option<(&ClaimPath, &'c Value)>, RefusedClaim> {
        for path in &self.0 {
            if let Some(value) = find(path, claims)? {
                return Ok(Some((path, value)));
            }
        }
        Ok(None)
    }

    /// The value that is present and not null, with its name. All that are present must be equal.
    pub(crate) fn one<'c>(
        &self,
        claims: &'c Map<String, Value>,
    ) -> Result<Option<(&ClaimPath, &'c Value)>, RefusedClaim> {
        let mut found: Option<(&ClaimPath, &Value)> = None;
        for path in &self.0 {
            let Some(value) = find(path, claims)? else { continue };
            match found {
                Some((first, known)) if known != value => return Err(differs(path, first)),
                Some(_) => {}
                None => found = Some((path, value)),
            }
        }
        Ok(found)
    }

    /// The name that the claim contains: see [`name`]. All that are present must be equal. A value for which `is_blank`
    /// is true counts as missing.
    pub(crate) fn text<'c>(
        &self,
        claims: &'c Map<String, Value>,
        is_blank: IsBlank,
    ) -> Result<Option<Cow<'c, str>>, RefusedClaim> {
        let mut found: Option<(&ClaimPath, Cow<'_, str>)> = None;
        for path in &self.0 {
            let Some(value) = find(path, claims)?.filter(|value| !is_blank(value)) else { continue };
            let text = name(value).ok_or_else(|| RefusedClaim::new(path, ClaimFault::Shape))?;
            match &found {
                Some((first, known)) if *known != text => return Err(differs(path, first)),
                Some(_) => {}
                None => found = Some((path, text)),
            }
        }
        Ok(found.map(|(_, text)| text))
    }

    /// [`Names::text`], which must be there.
    pub(crate) fn required(&self, claims: &Map<String, Value>) -> Result<String, RefusedClaim> {
        self.text(claims, NEVER_BLANK)?.map(Cow::into_owned).ok_or_else(|| self.missing())
    }
}

impl fmt::Display for Names {
    /// The names, separated by ` or `.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, path) in self.0.iter().enumerate() {
            if at > 0 {
                f.write_str(" or ")?;
            }
            write!(f, "{path}")?;
        }
        Ok(())
    }
}

/// The claim at `path`, if it is there and not null.
pub(crate) fn find<'c>(path: &ClaimPath, claims: &'c Map<String, Value>) -> Result<Option<&'c Value>, RefusedClaim> {
    path.find(claims).map_err(|_| RefusedClaim::new(path, ClaimFault::NotInObject))
}

fn differs(path: &ClaimPath, first: &ClaimPath) -> RefusedClaim {
    RefusedClaim::new(path, ClaimFault::Differs(first.to_string()))
}

/// The name in `value`: a non-empty string of limited length without control characters, or an integer, which stands
/// for its decimal digits. Names do not contain control characters, and they end strings early in other languages.
pub(crate) fn name(value: &Value) -> Option<Cow<'_, str>> {
    match value {
        Value::String(text) if is_name(text) => Some(text.into()),
        Value::Number(number) if number.is_u64() || number.is_i64() => Some(number.to_string().into()),
        _ => None,
    }
}

fn is_name(text: &str) -> bool {
    !text.is_empty() && text.len() <= MAX_NAME && !text.chars().any(char::is_control)
}

impl Default for ClaimNames {
    /// The claims of RFC 9068 and RFC 9396, and `sid` (OpenID Connect Front-Channel Logout) for the session.
    fn default() -> ClaimNames {
        ClaimNames {
            subject: Names::top("sub"),
            client: Names::top("client_id"),
            token: Names::top("jti"),
            task: Names::top("txn"),
            session: Names::top("sid"),
            scope: Names::top("scope"),
            details: Names::top("authorization_details"),
            actor: Names::top("act"),
            auth_time: Names::top("auth_time"),
            acr: Names::top("acr"),
            audience: Names::top("aud"),
            device: Names::default(),
            tenant: Names::default(),
            group: Names::default(),
            subjects: Vec::new(),
            foreign_users: Vec::new(),
        }
    }
}

impl ClaimNames {
    /// Whether grants may have a name of `kind` that a signal can name.
    pub(crate) fn may_name(&self, kind: Kind) -> bool {
        let names = match kind {
            Kind::Group => &self.group,
            Kind::Task => &self.task,
            Kind::Client => &self.client,
            Kind::Token => &self.token,
            Kind::Session => &self.session,
            _ => return true,
        };
        !names.is_none()
    }

    /// The claims that identify the token, its user or where it comes from: no signal may change them.
    pub(crate) fn identifying(&self) -> impl Iterator<Item = &ClaimPath> {
        let own = [
            &self.subject,
            &self.client,
            &self.token,
            &self.task,
            &self.session,
            &self.actor,
            &self.auth_time,
            &self.acr,
            &self.audience,
            &self.device,
            &self.tenant,
        ];
        let subjects = self.subjects.iter().map(|(_, names)| names);
        let foreign = self.foreign_users.iter().map(|(_, names)| names);
        own.into_iter().chain(subjects).chain(foreign).flat_map(Names::paths)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn names(names: &[&str]) -> Names {
        Names::new(names.iter().map(|name| ClaimPath::parse(name).unwrap()).collect())
    }

    fn text(of: &[&str], claims: &Value) -> Result<Option<String>, String> {
        let found = names(of).text(claims.as_object().unwrap(), NEVER_BLANK);
        found.map(|text| text.map(Cow::into_owned)).map_err(|refused| refused.to_string())
    }

    #[test]
    fn the_first_that_is_present_counts_and_the_others_agree() {
        let claims = json!({"azp": "web", "client_id": "web", "cid": "other", "n": null, "run": 42, "run_text": "42"});
        let some = |text: &str| Ok(Some(text.to_owned()));
        assert_eq!(text(&["azp", "client_id"], &claims), some("web"));
        assert_eq!(text(&["n", "missing", "client_id"], &claims), some("web"));
        assert_eq!(text(&["azp", "cid"], &claims), Err("the claim `cid` differs from `azp`".to_owned()));
        assert_eq!(text(&["run", "run_text"], &claims), some("42"), "an integer is its digits");
        assert_eq!(text(&["missing", "n"], &claims), Ok(None));
        assert_eq!(text(&[], &claims), Ok(None));
    }

    #[test]
    fn what_is_wrong_is_said_by_name() {
        let claims = json!({
            "list": ["a"], "deep": {"list": [{"id": "x"}]}, "half": 1.5, "big": 1e30, "bool": true, "empty": "",
            "line": "a\nb"
        });
        for name in ["list", "half", "big", "bool", "empty", "line"] {
            assert_eq!(text(&[name], &claims), Err(format!("the claim `{name}` has the wrong shape")));
        }
        let through = "the claim `deep.list.id` is not inside an object";
        assert_eq!(text(&["deep.list.id"], &claims), Err(through.to_owned()));
        let missing = names(&["a", "b.c"]).required(claims.as_object().unwrap()).unwrap_err();
        assert_eq!(missing.to_string(), "the claim `a or b.c` is missing");
    }

    #[test]
    fn scope_may_have_several_names_with_different_values() {
        let claims = json!({"scope": "a", "realm_access": {"roles": ["b"]}});
        let claims = claims.as_object().unwrap();
        let names = names(&["scp", "scope", "realm_access.roles"]);
        assert_eq!(names.first(claims).unwrap().unwrap().1, "a");
        assert!(names.one(claims).is_err());
    }
}

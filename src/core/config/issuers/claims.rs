//! Compiles the names of claims: `claims`, `audience_from` and `where` of an issuer.

use crate::config::literal::{self, LoneWildcard};
use crate::config::model::{ClaimsConfig, IssuerConfig, NamesConfig, SubjectsConfig};
use crate::config::problem::{Problem, Problems};
use crate::state::key::Kind;
use crate::token::claim_names::{ClaimNames, Names};
use crate::token::claim_path::{ClaimPath, PathError};
use serde_json::Value;

/// The word for a claim that tokens do not have.
const NONE: &str = "none";

/// One claim may have at most this many names.
const MAX_NAMES: usize = 8;

/// Compiles the names of the claims of the issuer at `path`.
pub(crate) fn names(config: &IssuerConfig, path: &str, problems: &mut Problems) -> ClaimNames {
    let ClaimsConfig {
        subject,
        client,
        token,
        task,
        session,
        scope,
        details,
        actor,
        auth_time,
        acr,
        device,
        tenant,
        group,
        subjects,
    } = &config.claims;
    let usual = ClaimNames::default();
    let mut read = |key: &str, config: &Option<NamesConfig>, usual: Names| match config {
        Some(config) => list(config, &format!("{path}.{key}"), problems),
        None => usual,
    };
    let names = ClaimNames {
        subject: read("claims.subject", subject, usual.subject),
        client: read("claims.client", client, usual.client),
        token: read("claims.token", token, usual.token),
        task: read("claims.task", task, usual.task),
        session: read("claims.session", session, usual.session),
        scope: read("claims.scope", scope, usual.scope),
        details: read("claims.details", details, usual.details),
        actor: read("claims.actor", actor, usual.actor),
        auth_time: read("claims.auth_time", auth_time, usual.auth_time),
        acr: read("claims.acr", acr, usual.acr),
        audience: read("audience_from", &config.audience_from, usual.audience),
        device: read("claims.device", device, usual.device),
        tenant: read("claims.tenant", tenant, usual.tenant),
        group: read("claims.group", group, usual.group),
        subjects: self::subjects(subjects, path, problems),
        foreign_users: foreign_users(config, path, problems),
    };
    if names.subject.is_none() {
        let problem = Problem::at(format!("{path}.claims.subject"), "must not be `none`: every token has a subject");
        problems.errors.push(problem.help("name the claim that says who the token is for"));
    }
    names
}

/// The claims that identify subjects, by the kind of their state key.
fn subjects(config: &SubjectsConfig, path: &str, problems: &mut Problems) -> Vec<(Kind, Names)> {
    let SubjectsConfig { email, phone_number, account, did, uri, iss_sub: _, opaque: _ } = config;
    let claims = [
        ("email", Kind::Email, email),
        ("phone_number", Kind::Phone, phone_number),
        ("account", Kind::Account, account),
        ("did", Kind::Did, did),
        ("uri", Kind::Uri, uri),
    ];
    let mut names = Vec::new();
    for (key, kind, config) in claims {
        let Some(config) = config else { continue };
        names.push((kind, list(config, &format!("{path}.claims.subjects.{key}"), problems)));
    }
    names.retain(|(_, names)| !names.is_none());
    names
}

/// The claims that contain the `sub` of another issuer, by the name of that issuer.
fn foreign_users(config: &IssuerConfig, path: &str, problems: &mut Problems) -> Vec<(String, Names)> {
    let users = &config.claims.subjects.iss_sub;
    if users.contains_key(&config.issuer) {
        let problem = Problem::at(
            format!("{path}.claims.subjects.iss_sub.{}", config.issuer),
            "names this issuer itself, whose users are already identified by `sub`",
        );
        problems.errors.push(problem.help("write the issuer that signals about these users contain"));
    }
    let mut names = Vec::new();
    for (issuer, config) in users {
        names.push((issuer.clone(), list(config, &format!("{path}.claims.subjects.iss_sub.{issuer}"), problems)));
    }
    names
}

/// The claims that the tokens of the issuer at `path` must have, with their values.
pub(crate) fn required(config: &IssuerConfig, path: &str, problems: &mut Problems) -> Vec<(ClaimPath, Vec<Value>)> {
    let mut required = Vec::new();
    for (name, value) in &config.required {
        let place = format!("{path}.where.{name}");
        let values = match &value.0 {
            Value::Array(values) => values.clone(),
            value => vec![value.clone()],
        };
        if values.is_empty() || values.iter().any(|value| value.is_object() || value.is_array() || value.is_null()) {
            let problem = Problem::at(&place, "must be a string, a number, true, false, or a list of them");
            problems.errors.push(problem.help("write each value that the claim may have"));
        }
        for text in values.iter().filter_map(Value::as_str) {
            let help = "write each value that the claim may have";
            literal::check_wildcard(text, LoneWildcard::Error, &place, help, problems);
        }
        if let Some(claim) = self::path(name, &place, problems) {
            required.push((claim, values));
        }
    }
    required
}

/// Compiles `config`, which is at `place`: a name, a list of names, or `none`.
fn list(config: &NamesConfig, place: &str, problems: &mut Problems) -> Names {
    let names = config.0.as_slice();
    if names == [NONE] {
        return Names::default();
    }
    if names.is_empty() || names.len() > MAX_NAMES {
        let problem = Problem::at(place, format!("must have between 1 and {MAX_NAMES} names"));
        problems.errors.push(problem.help("write `none` if tokens have no such claim"));
    }
    let mut paths = Vec::new();
    for (at, name) in names.iter().enumerate() {
        let place = if names.len() == 1 { place.to_owned() } else { format!("{place}[{at}]") };
        if name == NONE {
            let problem = Problem::at(place, "is `none`, beside other names");
            problems.errors.push(problem.help("write `none` alone, or quote the name of a claim: `'\"none\"'`"));
            continue;
        }
        let Some(path) = path(name, &place, problems) else { continue };
        if paths.contains(&path) {
            problems.error(place, format!("`{path}` is named twice"));
            continue;
        }
        paths.push(path);
    }
    Names::new(paths)
}

/// Parses the name of a claim, and reports what is wrong with it at `place`.
pub(crate) fn path(name: &str, place: &str, problems: &mut Problems) -> Option<ClaimPath> {
    literal::check_wildcard(name, LoneWildcard::Error, place, "name the claim", problems);
    let error = match ClaimPath::parse(name) {
        Ok(path) => return Some(path),
        Err(error) => error,
    };
    let shown = name.escape_debug();
    let message = match error {
        PathError::Empty => error.to_string(),
        _ => format!("`{shown}` {error}"),
    };
    let problem = Problem::at(place, message);
    problems.errors.push(match error {
        PathError::Empty => problem.help("write `none` if tokens have no such claim"),
        PathError::Ambiguous => problem.help(format!(
            "quote what is one name: `'\"{shown}\"'` for the claim of that name, or each part with a `/` or `:` on its own"
        )),
        PathError::OtherNotation => problem.help("separate the parts by dots, such as `realm_access.roles`"),
        _ => problem.help("separate the parts by dots, and quote a part that contains a dot: `\"kubernetes.io\".pod.name`"),
    });
    None
}

#[cfg(test)]
mod tests {
    use crate::config::load::load;
    use crate::testing::fixture;
    use serde_json::{Value, json};

    fn errors(more: Value) -> Vec<String> {
        let mut issuer = json!({"issuer": "i", "audiences": ["a"], "keys": {"inline": fixture::jwks()}});
        issuer.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let config = json!({"issuers": [issuer], "rules": [{"name": "r", "match": {}, "require": {}}]});
        let loaded = load(config.to_string().as_bytes());
        loaded.err().map(|errors| errors.0.iter().map(ToString::to_string).collect()).unwrap_or_default()
    }

    #[test]
    fn each_message() {
        for (more, message) in [
            (
                json!({"claims": {"client": "kubernetes.io/sa"}}),
                "issuers[0].claims.client: `kubernetes.io/sa` may be one name with dots or a path, because it has a dot \
                 and one of `/` and `:` (quote what is one name: `'\"kubernetes.io/sa\"'` for the claim of that name, or \
                 each part with a `/` or `:` on its own)",
            ),
            (
                json!({"claims": {"scope": ["scope", "$.roles"]}}),
                "issuers[0].claims.scope[1]: `$.roles` is a path of another notation (separate the parts by dots, such as \
                 `realm_access.roles`)",
            ),
            (
                json!({"claims": {"task": ""}}),
                "issuers[0].claims.task: must not be empty (write `none` if tokens have no such claim)",
            ),
            (
                json!({"claims": {"task": []}}),
                "issuers[0].claims.task: must have between 1 and 8 names (write `none` if tokens have no such claim)",
            ),
            (
                json!({"claims": {"task": ["txn", "none"]}}),
                "issuers[0].claims.task[1]: is `none`, beside other names (write `none` alone, or quote the name of a \
                 claim: `'\"none\"'`)",
            ),
            (json!({"claims": {"task": ["a.b", "\"a\".b"]}}), "issuers[0].claims.task[1]: `a.b` is named twice"),
            (
                json!({"claims": {"subject": "none"}}),
                "issuers[0].claims.subject: must not be `none`: every token has a subject (name the claim that says who \
                 the token is for)",
            ),
            (
                json!({"claims": {"task": 7}}),
                "issuers[0].claims.task: invalid type: integer `7`, expected a string, or a list of strings",
            ),
            (
                json!({"where": {"ver": []}}),
                "issuers[0].where.ver: must be a string, a number, true, false, or a list of them (write each value that \
                 the claim may have)",
            ),
            (
                json!({"where": {"a..b": 1}}),
                "issuers[0].where.a..b: `a..b` has an empty part between dots (separate the parts by dots, and quote a \
                 part that contains a dot: `\"kubernetes.io\".pod.name`)",
            ),
            (
                json!({"audience_from": "none"}),
                "issuers[0].audience_from: is `none`, so a token for any other service is accepted from whoever holds it \
                 (require a `binding`, or name a `peer_claim`)",
            ),
            (
                json!({"audience_from": "none", "binding": "dpop"}),
                "issuers[0].audiences: has no effect beside `audience_from: none` (remove one of them)",
            ),
            (
                json!({"types": ["txntoken+jwt"]}),
                "issuers[0].types[0]: a token of type `txntoken+jwt` must not stand in `authorization` (write `token: \
                 {header: txn-token}`)",
            ),
            (
                json!({"issuer_from": "sub"}),
                "issuers[0].issuer: `i` is not a scheme and an authority, which `issuer_from: sub` compares (write for \
                 example `spiffe://td.example`)",
            ),
        ] {
            let found = errors(more.clone());
            assert!(found.contains(&message.to_owned()), "{more}\n  want {message}\n  have {found:?}");
        }
    }
}

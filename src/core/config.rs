//! The configuration as it is typed: the shape of the JSON, not yet its meaning. [`load`] gives the meaning.

use crate::compile::compile;
use crate::json::StrictValue;
use crate::policy::Policy;
use crate::problem::{Errors, Problem, nearest};
use crate::time::Span;
use serde::Deserialize;

/// A configuration that can be used.
#[derive(Debug)]
pub struct Loaded {
    /// What it means.
    pub policy: Policy,
    /// What is allowed but unwise in it.
    pub warnings: Vec<Problem>,
}

/// Reads a configuration from JSON.
///
/// An unknown key, a wrong type or a wrong value is an error that names its place.
pub fn load(json: &[u8]) -> Result<Loaded, Errors> {
    let raw = parse(json).map_err(|problem| Errors(vec![problem]))?;
    compile(&raw)
}

fn parse(json: &[u8]) -> Result<Config, Problem> {
    let mut deserializer = serde_json::Deserializer::from_slice(json);
    let config: Config = serde_path_to_error::deserialize(&mut deserializer).map_err(describe)?;
    deserializer.end().map_err(|error| Problem::at("", format!("not one JSON document: {error}")))?;
    Ok(config)
}

/// Serde's message in our words. Its `expected one of ...` is where the nearest right key comes from.
fn describe(error: serde_path_to_error::Error<serde_json::Error>) -> Problem {
    let path = match error.path().to_string() {
        path if path == "." => String::new(),
        path => path,
    };
    let inner = error.into_inner();
    let text = inner.to_string();
    let text = text.rsplit_once(" at line ").map_or(text.as_str(), |(message, _)| message);
    if inner.is_syntax() || inner.is_eof() {
        return Problem::at("", format!("not JSON: {inner}"));
    }
    for (lead, what) in [("unknown field `", "key"), ("unknown variant `", "value")] {
        if let Some((word, rest)) = text.strip_prefix(lead).and_then(|rest| rest.split_once('`')) {
            let known: Vec<&str> = rest.split('`').skip(1).step_by(2).collect();
            let help = match nearest(word, known.iter().copied()) {
                Some(near) => format!("did you mean `{near}`?"),
                None if known.is_empty() => "no key is expected here".to_owned(),
                None => format!("known here: `{}`", known.join("`, `")),
            };
            return Problem::at(path, format!("unknown {what} `{word}`")).help(help);
        }
    }
    Problem::at(path, text.replacen("missing field", "missing key", 1))
}

/// The whole configuration.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
pub struct Config {
    /// What this listener's filter does.
    #[serde(default)]
    pub role: Role,
    /// Issuers whose tokens are accepted.
    pub issuers: Vec<IssuerConfig>,
    /// What may be done with a grant. The first rule that matches decides; nothing matched is denied.
    #[serde(default)]
    pub rules: Vec<RuleConfig>,
    /// The `realm` of challenges (RFC 6750 §3). Default: the first audience.
    #[serde(default)]
    pub realm: Option<String>,
    /// Where signals come from.
    #[serde(default)]
    pub signals: Option<SignalsConfig>,
}

/// What a filter does.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Judges every request.
    #[default]
    Filter,
    /// Receives signals (RFC 8935) and judges nothing.
    Receiver,
}

/// A token issuer.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IssuerConfig {
    /// `iss` of its tokens, compared byte by byte.
    pub issuer: String,
    /// `aud` of a token must hold one of these.
    pub audiences: Vec<String>,
    /// Its public keys.
    pub keys: KeysConfig,
    /// Accepted signature algorithms. Default: ES256 and RS256.
    #[serde(default = "default_algorithms")]
    pub algorithms: Vec<String>,
    /// Accepted `typ` values. Default: at+jwt.
    #[serde(default = "default_types")]
    pub types: Vec<String>,
    /// Tokens with a longer `exp - iat` are refused. Default: 15m.
    #[serde(default = "default_max_lifetime")]
    pub max_lifetime: Span,
    /// Sessions that began longer ago are refused, and signals about them are kept this long. Default: 24h.
    #[serde(default = "default_max_session")]
    pub max_session: Span,
    /// How far its clock and ours may lie apart. Default: 30s.
    #[serde(default = "default_clock_skew")]
    pub clock_skew: Span,
    /// Names of the claims that are not registered.
    #[serde(default)]
    pub claims: ClaimsConfig,
}

/// Public keys.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeysConfig {
    /// A JWK Set (RFC 7517).
    pub inline: StrictValue,
}

/// Names of claims that issuers name differently.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClaimsConfig {
    /// The claim that names the task. Default: txn.
    #[serde(default = "default_task")]
    pub task: String,
    /// The claim that names the session. Default: sid.
    #[serde(default = "default_session")]
    pub session: String,
}

impl Default for ClaimsConfig {
    fn default() -> ClaimsConfig {
        ClaimsConfig { task: default_task(), session: default_session() }
    }
}

/// A rule: what it is for, and what it asks.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RuleConfig {
    /// Its name in logs and explanations.
    pub name: String,
    /// Which requests it is for.
    #[serde(rename = "match")]
    pub matches: MatchConfig,
    /// What the grant must hold.
    #[serde(default)]
    pub require: Option<RequireConfig>,
    /// Lets requests pass without a grant.
    #[serde(default)]
    pub allow: Option<AllowConfig>,
    /// Refuses all it matches.
    #[serde(default)]
    pub deny: bool,
}

/// Which requests a rule is for. What is left out matches everything.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MatchConfig {
    /// HTTP methods.
    #[serde(default)]
    pub methods: Option<Vec<String>>,
    /// Hosts, without ports.
    #[serde(default)]
    pub hosts: Option<Vec<String>>,
    /// A path template: `{name}` is one segment, `{name...}` all that is left.
    #[serde(default)]
    pub path: Option<String>,
}

/// What a grant must hold.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RequireConfig {
    /// Scope values that must all be there, divided by spaces.
    #[serde(default)]
    pub scope: Option<String>,
    /// An object of `authorization_details` that must be there.
    #[serde(default)]
    pub detail: Option<DetailConfig>,
}

/// What one object of `authorization_details` must say (RFC 9396). `{name}` stands for a capture of the path, `*` for
/// any value. A member that the object has and that is left out here refuses.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DetailConfig {
    /// `type`.
    #[serde(rename = "type")]
    pub kind: String,
    /// One of `actions`.
    #[serde(default)]
    pub action: Option<String>,
    /// `identifier`.
    #[serde(default)]
    pub identifier: Option<String>,
    /// One of `locations`.
    #[serde(default)]
    pub location: Option<String>,
    /// One of `datatypes`.
    #[serde(default)]
    pub datatype: Option<String>,
    /// One of `privileges`.
    #[serde(default)]
    pub privilege: Option<String>,
}

/// Who passes without a grant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AllowConfig {
    /// Everybody. A token in the request is not looked at.
    Anonymous,
}

/// Where signals come from.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignalsConfig {
    /// The path that takes SETs. Default: /signals.
    #[serde(default = "default_path")]
    pub path: String,
    /// Who may send them.
    pub transmitters: Vec<TransmitterConfig>,
}

/// A transmitter of signals.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TransmitterConfig {
    /// `iss` of its SETs.
    pub issuer: String,
    /// `aud` of its SETs must hold this.
    pub audience: String,
    /// Its public keys.
    pub keys: KeysConfig,
    /// Accepted signature algorithms. Default: RS256 and ES256.
    #[serde(default = "default_algorithms")]
    pub algorithms: Vec<String>,
    /// Token issuers about whose subjects it may speak. Default: itself.
    #[serde(default)]
    pub subjects: Option<Vec<String>>,
    /// The `authorization` header that its pushes must carry (RFC 8935 §3).
    #[serde(default)]
    pub authorization: Option<String>,
}

fn default_algorithms() -> Vec<String> {
    vec!["ES256".to_owned(), "RS256".to_owned()]
}

fn default_types() -> Vec<String> {
    vec!["at+jwt".to_owned()]
}

fn default_max_lifetime() -> Span {
    Span::minutes(15)
}

fn default_max_session() -> Span {
    Span::hours(24)
}

fn default_clock_skew() -> Span {
    Span(30)
}

fn default_task() -> String {
    "txn".to_owned()
}

fn default_session() -> String {
    "sid".to_owned()
}

fn default_path() -> String {
    "/signals".to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(json: &str) -> String {
        parse(json.as_bytes()).expect_err("refused").to_string()
    }

    #[test]
    fn names_the_place_and_the_nearest_key() {
        let issuer = r#"{"issuer":"i","audiences":["a"],"keys":{"inline":{}}}"#;
        for (json, message) in [
            (r#"{"isuers":[]}"#.to_owned(), "isuers: unknown key `isuers` (did you mean `issuers`?)"),
            (
                format!(r#"{{"issuers":[{issuer}],"rules":[{{"name":"r","match":{{"paht":"/"}}}}]}}"#),
                "rules[0].match.paht: unknown key `paht` (did you mean `path`?)",
            ),
            (
                format!(r#"{{"issuers":[{issuer}],"role":"filtr"}}"#),
                "role: unknown value `filtr` (did you mean `filter`?)",
            ),
            (r#"{}"#.to_owned(), "missing key `issuers`"),
            (
                r#"{"issuers":[{"issuer":"i","audiences":["a"],"keys":{"inline":{}},"max_lifetime":"soon"}]}"#
                    .to_owned(),
                "issuers[0].max_lifetime: `soon` is not a length of time such as `30s`, `15m` or `1h`",
            ),
            (r#"{"issuers":7}"#.to_owned(), "issuers: invalid type: integer `7`, expected a sequence"),
            (r#"{"issuers":[],"issuers":[]}"#.to_owned(), "duplicate field `issuers`"),
        ] {
            assert_eq!(problem(&json), message);
        }
        assert!(problem("{").starts_with("not JSON: "), "{}", problem("{"));
        assert!(problem("{\"issuers\":[]} x").starts_with("not one JSON document"));
    }
}

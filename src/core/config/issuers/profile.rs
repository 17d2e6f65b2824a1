//! Profiles: defaults of an entry of `issuers`, for issuers whose tokens do not look like RFC 9068.
//!
//! A profile is a part of a configuration. What the entry itself says counts instead; `claims` and `where` are taken key
//! by key.

use serde::Deserialize;
use serde_json::{Map, Value};

/// An issuer that many use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Profile {
    /// Keycloak.
    Keycloak,
    /// Microsoft Entra ID, tokens of version 2.0.
    EntraV2,
    /// Microsoft Entra ID, tokens of version 1.0.
    EntraV1,
    /// Okta, a custom authorization server.
    Okta,
    /// Auth0, an API with the RFC 9068 token profile.
    Auth0,
    /// Auth0, an API with the Auth0 token profile.
    Auth0Legacy,
    /// Amazon Cognito, access tokens of a user pool.
    Cognito,
    /// GitHub Actions, the token of a workflow run.
    GithubActions,
    /// GitLab CI/CD, the ID token of a job.
    GitlabCi,
    /// Buildkite, the token of a job.
    Buildkite,
    /// CircleCI, the token of a job.
    Circleci,
    /// HCP Terraform, the workload identity of a run.
    TerraformCloud,
    /// Kubernetes, the projected token of a service account.
    Kubernetes,
    /// SPIFFE, a JWT-SVID without `iss`.
    Spiffe,
    /// Teleport, a JWT-SVID of a workload identity.
    Teleport,
    /// Google, an ID token as a credential.
    Google,
    /// Google Cloud, a JWT that a service account signs itself.
    GoogleServiceAccount,
    /// Ory Hydra.
    Hydra,
    /// PingOne.
    Pingone,
    /// Transaction tokens (draft-ietf-oauth-transaction-tokens-10).
    TxnToken,
    /// WIMSE workload identity tokens (draft-ietf-wimse-workload-creds-03), with a DPoP proof.
    Wimse,
}

/// The defaults of each profile, in JSON.
const PROFILES: [(&str, &str); 21] = [
    (
        "keycloak",
        r#"{"types": ["JWT", "at+jwt"], "where": {"typ": "Bearer"}, "claims": {"client": "azp",
            "task": "none"}}"#,
    ),
    (
        "entra-v2",
        r#"{"types": ["JWT"], "where": {"ver": "2.0", "azpacr": ["0", "1", "2"]}, "max_lifetime": "90m",
            "claims": {"client": "azp", "token": "uti", "scope": ["scp", "roles"], "tenant": "tid",
            "task": "none"}}"#,
    ),
    (
        "entra-v1",
        r#"{"types": ["JWT"], "where": {"ver": "1.0", "appidacr": ["0", "1", "2"]}, "max_lifetime": "90m",
            "claims": {"client": "appid", "token": "uti", "scope": ["scp", "roles"], "tenant": "tid",
            "task": "none"}}"#,
    ),
    (
        "okta",
        r#"{"types": ["absent"], "max_lifetime": "1h", "claims": {"client": "cid", "scope": "scp",
            "task": "none"}}"#,
    ),
    ("auth0", r#"{"types": ["at+jwt"], "max_lifetime": "24h", "claims": {"task": "none"}}"#),
    (
        "auth0-legacy",
        r#"{"types": ["JWT"], "max_lifetime": "24h", "claims": {"client": "azp", "token": "none",
            "task": "none"}}"#,
    ),
    (
        "cognito",
        r#"{"types": ["absent"], "audience_from": "client_id", "where": {"token_use": "access"},
            "max_lifetime": "1h", "claims": {"session": "origin_jti", "group": "cognito:groups",
            "task": "none"}}"#,
    ),
    (
        "github-actions",
        r#"{"types": ["JWT"], "claims": {"client": "repository", "task": "run_id", "session": "none",
            "scope": "none"}}"#,
    ),
    (
        "gitlab-ci",
        r#"{"types": ["JWT"], "max_lifetime": "1h", "claims": {"client": "project_path",
            "task": "pipeline_id", "session": "none", "scope": "none"}}"#,
    ),
    (
        "buildkite",
        r#"{"types": ["JWT"], "claims": {"client": "pipeline_slug", "token": "none", "task": "job_id",
            "session": "none", "scope": "none"}}"#,
    ),
    (
        "circleci",
        r#"{"types": ["JWT"], "max_lifetime": "1h", "claims": {"client": "\"oidc.circleci.com/project-id\"",
            "token": "none", "task": "none", "session": "none", "scope": "none"}}"#,
    ),
    (
        "terraform-cloud",
        r#"{"types": ["JWT"], "max_lifetime": "2h", "claims": {"client": "terraform_workspace_id",
            "task": "terraform_run_id", "session": "none", "scope": "none"}}"#,
    ),
    (
        "kubernetes",
        r#"{"types": ["absent", "JWT"], "max_lifetime": "2h", "claims": {"client": "sub",
            "session": "\"kubernetes.io\".pod.uid", "tenant": "\"kubernetes.io\".namespace", "task": "none",
            "scope": "none"}}"#,
    ),
    (
        "spiffe",
        r#"{"types": ["JWT", "JOSE", "absent"], "issuer_from": "sub", "max_lifetime": "1h",
            "claims": {"client": "sub", "token": "none", "task": "none", "session": "none", "scope": "none"}}"#,
    ),
    (
        "teleport",
        r#"{"types": ["JWT"], "max_lifetime": "1h", "claims": {"client": "sub", "task": "none",
            "session": "none", "scope": "none"}}"#,
    ),
    (
        "google",
        r#"{"types": ["JWT"], "max_lifetime": "65m", "claims": {"client": "azp", "token": "none",
            "task": "none", "session": "none", "scope": "none", "subjects": {"email": "email"}}}"#,
    ),
    (
        "google-service-account",
        r#"{"types": ["JWT"], "max_lifetime": "1h", "claims": {"client": "sub", "token": "none",
            "task": "none", "session": "none"}}"#,
    ),
    ("hydra", r#"{"types": ["JWT"], "max_lifetime": "1h", "claims": {"scope": ["scp", "scope"], "task": "none"}}"#),
    (
        "pingone",
        r#"{"types": ["absent", "at+jwt"], "max_lifetime": "1h", "claims": {"token": "none",
            "task": "none"}}"#,
    ),
    (
        "txn-token",
        r#"{"types": ["txntoken+jwt"], "token": {"header": "txn-token"}, "max_lifetime": "5m",
            "claims": {"client": "req_wl", "token": "none", "session": "none"}}"#,
    ),
    (
        "wimse",
        r#"{"types": ["wit+jwt"], "token": {"header": "workload-identity-token"}, "audience_from": "none",
            "binding": "dpop", "max_lifetime": "1h", "claims": {"client": "sub", "token": "none",
            "task": "none", "session": "none", "scope": "none"}}"#,
    ),
];

/// The names of all profiles.
pub fn names() -> impl Iterator<Item = &'static str> {
    PROFILES.iter().map(|(name, _)| *name)
}

/// `config` with the defaults of the profiles that its issuers name; `None` if they name none.
pub(crate) fn with_defaults(config: &Value) -> Option<Value> {
    let issuers = config.get("issuers")?.as_array()?;
    if !issuers.iter().any(|issuer| issuer.get("profile").is_some()) {
        return None;
    }
    let mut config = config.clone();
    for issuer in config.get_mut("issuers")?.as_array_mut()? {
        let defaults = issuer.get("profile").and_then(Value::as_str).and_then(defaults);
        if let (Some(defaults), Some(issuer)) = (defaults, issuer.as_object_mut()) {
            add(issuer, defaults);
        }
    }
    Some(config)
}

fn defaults(profile: &str) -> Option<Map<String, Value>> {
    let (_, text) = PROFILES.iter().find(|(name, _)| *name == profile)?;
    serde_json::from_str(text).ok()
}

/// Adds to `members` what they lack of `defaults`, also inside `claims` and `where`.
fn add(members: &mut Map<String, Value>, defaults: Map<String, Value>) {
    for (name, default) in defaults {
        match (members.get_mut(&name), default) {
            (None, default) => drop(members.insert(name, default)),
            (Some(Value::Object(inner)), Value::Object(default)) if matches!(name.as_str(), "claims" | "where") => {
                add(inner, default);
            }
            (Some(_), _) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::load::load;
    use crate::testing::fixture;
    use serde_json::json;

    #[test]
    fn each_profile_is_known_by_its_name_and_good_alone() {
        for (name, text) in PROFILES {
            assert!(serde_json::from_value::<Profile>(json!(name)).is_ok(), "{name}");
            let defaults: Map<String, Value> = serde_json::from_str(text).unwrap();
            let has_audience = defaults.get("audience_from") != Some(&json!("none"));
            let mut issuer =
                json!({"issuer": "https://a.example", "profile": name, "keys": {"inline": fixture::jwks()}});
            if name == "spiffe" {
                issuer["issuer"] = json!("spiffe://td.example");
            }
            if has_audience {
                issuer["audiences"] = json!(["https://orders.mesh"]);
            }
            let config = json!({"issuers": [issuer], "rules": [{"name": "r", "match": {}, "require": {}}]});
            let loaded = load(config.to_string().as_bytes()).map_err(|errors| errors.to_string()).unwrap();
            let about_issuer = |problem: &&crate::config::problem::Problem| problem.path.starts_with("issuers");
            // These warnings ask for `dpop.origins`.
            let warnings: Vec<_> = loaded.warnings.iter().filter(about_issuer).collect();
            assert!(warnings.iter().all(|problem| problem.path.ends_with("dpop.origins")), "{name}: {warnings:?}");
        }
    }

    #[test]
    fn what_is_written_counts_and_the_rest_is_shown() {
        let config = json!({"issuers": [
            {"profile": "keycloak", "claims": {"task": "jti"}, "where": {"azp": ["web"]}, "types": ["JWT"]},
            {"issuer": "plain"}
        ]});
        let whole = with_defaults(&config).unwrap();
        let expected = json!({"issuers": [
            {"profile": "keycloak", "claims": {"task": "jti", "client": "azp"},
             "where": {"azp": ["web"], "typ": "Bearer"}, "types": ["JWT"]},
            {"issuer": "plain"}
        ]});
        assert_eq!(whole, expected);
        assert_eq!(with_defaults(&json!({"issuers": [{"issuer": "plain"}]})), None);
        assert_eq!(with_defaults(&json!({"issuers": 7})), None);
    }

    #[test]
    fn an_unknown_profile_is_refused_by_name() {
        let config = json!({"issuers": [{"issuer": "i", "profile": "keyclock", "audiences": ["a"], "keys": {}}]});
        let errors = load(config.to_string().as_bytes()).err().unwrap();
        let message = "issuers[0].profile: unknown value `keyclock` (did you mean `keycloak`?)";
        assert_eq!(errors.to_string(), message);
    }
}

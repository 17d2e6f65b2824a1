//! Which profile an issuer has, by the name of the issuer and the claims that only its tokens have.

use serde_json::{Map, Value};

use crate::drafting::issuer::Sample;

/// What is known of an issuer.
#[derive(Debug, Clone, Copy)]
pub struct Signs<'a> {
    /// Its name.
    pub issuer: &'a str,
    /// `typ` of a token of it.
    pub typ: Option<&'a str>,
    /// The claims of that token; none if there is no token.
    pub claims: Option<&'a Map<String, Value>>,
}

impl<'a> Signs<'a> {
    /// What the name of an issuer and one of its tokens show.
    pub fn new(issuer: &'a str, sample: Option<&'a Sample>) -> Signs<'a> {
        let says = sample.map(|sample| &sample.says);
        Signs { issuer, typ: says.and_then(|says| says.typ.as_deref()), claims: says.map(|says| &says.claims) }
    }

    /// The name of the profile that fits; `None` where no sign is clear, and the defaults (RFC 9068) are the best guess.
    pub fn profile(&self) -> Option<&'static str> {
        self.by_type().or_else(|| self.by_host()).or_else(|| self.by_claims())
    }

    fn by_type(&self) -> Option<&'static str> {
        match self.typ? {
            "txntoken+jwt" | "application/txntoken+jwt" => Some("txn-token"),
            "wit+jwt" | "application/wit+jwt" => Some("wimse"),
            _ => None,
        }
    }

    fn by_host(&self) -> Option<&'static str> {
        let host = self.host();
        let under = |domains: &[&str]| domains.iter().any(|domain| is_under(host, domain));
        Some(match self.issuer {
            "https://token.actions.githubusercontent.com" => "github-actions",
            "https://accounts.google.com" | "accounts.google.com" => "google",
            "https://agent.buildkite.com" => "buildkite",
            "https://app.terraform.io" => "terraform-cloud",
            _ if host == "oidc.circleci.com" => "circleci",
            _ if host.starts_with("auth.pingone.") => "pingone",
            _ if under(&["sts.windows.net", "sts.chinacloudapi.cn", "sts.microsoftonline.us"]) => "entra-v1",
            _ if under(&[
                "login.microsoftonline.com",
                "login.microsoftonline.us",
                "login.partner.microsoftonline.cn",
            ]) =>
            {
                "entra-v2"
            }
            _ if under(&["okta.com", "oktapreview.com", "okta-emea.com"]) => "okta",
            _ if under(&["auth0.com"]) => self.auth0(),
            _ if host.starts_with("cognito-idp.") => "cognito",
            _ if under(&["gitlab.com"]) => "gitlab-ci",
            _ if host.starts_with("kubernetes.default.svc") => "kubernetes",
            name if name.ends_with(".gserviceaccount.com") => "google-service-account",
            name if name.contains("/realms/") => "keycloak",
            _ => return None,
        })
    }

    fn by_claims(&self) -> Option<&'static str> {
        let has = |names: &[&str]| names.iter().all(|name| self.claim(name).is_some());
        let begins = |name: &str, with: &str| self.text(name).is_some_and(|text| text.starts_with(with));
        Some(match self.issuer {
            _ if has(&["repository", "workflow", "job_workflow_ref"]) => "github-actions",
            _ if has(&["project_path", "pipeline_id"]) => "gitlab-ci",
            _ if has(&["kubernetes.io"]) => "kubernetes",
            issuer if issuer.ends_with("/workload-identity") && begins("sub", "spiffe://") => "teleport",
            _ if begins("sub", "spiffe://") => "spiffe",
            _ if has(&["tid", "oid"]) && self.text("ver") == Some("1.0") => "entra-v1",
            _ if has(&["tid", "oid"]) => "entra-v2",
            _ if has(&["token_use", "client_id"]) => "cognito",
            _ if has(&["cid", "uid"]) => "okta",
            _ if has(&["terraform_run_id"]) => "terraform-cloud",
            _ if has(&["scp", "ext", "client_id"]) => "hydra",
            _ if has(&["realm_access"]) || (has(&["azp"]) && self.text("typ") == Some("Bearer")) => "keycloak",
            _ if has(&["gty"]) => self.auth0(),
            issuer if self.text("sub") == Some(issuer) && issuer.contains("gserviceaccount") => {
                "google-service-account"
            }
            _ => return None,
        })
    }

    fn auth0(&self) -> &'static str {
        let typed = self.typ.is_some_and(|typ| typ.ends_with("at+jwt"));
        if typed || self.claims.is_none_or(Map::is_empty) { "auth0" } else { "auth0-legacy" }
    }

    fn host(&self) -> &str {
        let rest = self.issuer.split_once("://").map_or(self.issuer, |(_, rest)| rest);
        rest.split(['/', ':']).next().unwrap_or(rest)
    }

    fn text(&self, claim: &str) -> Option<&str> {
        self.claim(claim)?.as_str()
    }

    fn claim(&self, name: &str) -> Option<&Value> {
        self.claims?.get(name)
    }
}

fn is_under(host: &str, domain: &str) -> bool {
    host.strip_suffix(domain).is_some_and(|before| before.is_empty() || before.ends_with('.'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use taskfence_core::config::issuers::profile::names;

    fn profile(issuer: &str, typ: &str, claims: Value) -> Option<&'static str> {
        Signs { issuer, typ: Some(typ), claims: claims.as_object() }.profile()
    }

    #[test]
    fn by_the_name_of_the_issuer_alone() {
        for (issuer, expected) in [
            ("https://token.actions.githubusercontent.com", "github-actions"),
            ("https://accounts.google.com", "google"),
            ("https://login.microsoftonline.com/0000/v2.0", "entra-v2"),
            ("https://sts.windows.net/0000/", "entra-v1"),
            ("https://dev-1.okta.com/oauth2/default", "okta"),
            ("https://shop.eu.auth0.com/", "auth0"),
            ("https://cognito-idp.eu-west-1.amazonaws.com/eu-west-1_x", "cognito"),
            ("https://gitlab.com", "gitlab-ci"),
            ("https://sso.corp.example/realms/shop", "keycloak"),
            ("https://kubernetes.default.svc.cluster.local", "kubernetes"),
            ("https://oidc.circleci.com/org/0", "circleci"),
            ("https://agent.buildkite.com", "buildkite"),
            ("https://app.terraform.io", "terraform-cloud"),
            ("https://auth.pingone.eu/0/as", "pingone"),
            ("ci@project.iam.gserviceaccount.com", "google-service-account"),
        ] {
            assert_eq!(profile(issuer, "JWT", json!({})), Some(expected), "{issuer}");
            assert!(names().any(|name| name == expected), "{expected}");
        }
        for issuer in ["https://evil-okta.com", "https://jit.example", "https://okta.com.evil.example"] {
            assert_eq!(profile(issuer, "JWT", json!({})), None, "{issuer}");
        }
    }

    #[test]
    fn by_the_claims_of_a_token() {
        let own = "https://id.corp.example";
        for (typ, claims, expected) in [
            ("txntoken+jwt", json!({}), "txn-token"),
            ("wit+jwt", json!({"sub": "spiffe://td/a"}), "wimse"),
            ("JWT", json!({"sub": "spiffe://td/a"}), "spiffe"),
            ("JWT", json!({"tid": "t", "oid": "o", "ver": "1.0"}), "entra-v1"),
            ("JWT", json!({"tid": "t", "oid": "o"}), "entra-v2"),
            ("JWT", json!({"kubernetes.io": {}}), "kubernetes"),
            ("JWT", json!({"azp": "a", "typ": "Bearer"}), "keycloak"),
            ("JWT", json!({"cid": "c", "uid": "u"}), "okta"),
            ("JWT", json!({"scp": [], "ext": {}, "client_id": "c"}), "hydra"),
            ("at+jwt", json!({"gty": "client-credentials"}), "auth0"),
            ("JWT", json!({"gty": "client-credentials"}), "auth0-legacy"),
        ] {
            assert_eq!(profile(own, typ, claims), Some(expected));
            assert!(names().any(|name| name == expected), "{expected}");
        }
        let ci = json!({"sub": "spiffe://td/a"});
        assert_eq!(profile("https://t.example/workload-identity", "JWT", ci), Some("teleport"));
        assert_eq!(profile(own, "at+jwt", json!({"client_id": "c"})), None);
    }
}

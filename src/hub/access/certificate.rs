//! Who a client certificate belongs to: its SPIFFE id (SPIFFE X.509-SVID §2), and what the configuration lets it do.
//!
//! rustls has verified the certificate against `listen.tls.client_ca` before this is asked.

use crate::access::principal::{Principal, Role};
use crate::config::model::AccessConfig;
use taskfence_core::config::problem::Problem;
use taskfence_core::encoding::nearest::nearest;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

/// `access` of the configuration, compiled.
#[derive(Debug, Default)]
pub struct CertificateRules(Vec<Rule>);

#[derive(Debug)]
struct Rule {
    /// A whole id, or one that ends with `/` and stands for all ids below it.
    spiffe: String,
    role: Role,
    feeds: Vec<String>,
    issuer: Option<String>,
}

impl CertificateRules {
    /// Compiles `access` for a hub with these feeds, or says all that is wrong with it.
    pub fn compile(access: &[AccessConfig], feeds: &[&str]) -> Result<CertificateRules, Vec<Problem>> {
        let mut problems = Vec::new();
        let mut rules = Vec::new();
        for (index, entry) in access.iter().enumerate() {
            let place = |member: &str| format!("access[{index}].{member}");
            if let Some(problem) = check_id(&entry.spiffe) {
                problems.push(Problem::at(place("spiffe"), problem).help("such as `spiffe://mesh.example/ns/a/sa/b`"));
            }
            let role = Role::from_name(&entry.role);
            if role.is_none() {
                let names: Vec<_> = Role::ALL.iter().map(|role| role.as_str()).collect();
                let problem = Problem::at(place("role"), format!("`{}` is not a role", entry.role));
                problems.push(match nearest(&entry.role, names.iter().copied()) {
                    Some(near) => problem.help(format!("did you mean `{near}`?")),
                    None => problem.help(format!("the roles are {}", names.join(", "))),
                });
            }
            for (at, feed) in entry.feeds.iter().enumerate().filter(|(_, feed)| !feeds.contains(&feed.as_str())) {
                let problem = Problem::at(place(&format!("feeds[{at}]")), format!("`{feed}` is not one of the feeds"));
                problems.push(problem.help(format!("the feeds are {}", feeds.join(", "))));
            }
            let (is_issuer, issuer) = (role == Some(Role::Issuer), entry.issuer.clone());
            if is_issuer && issuer.is_none() {
                let problem = Problem::at(place("issuer"), "is missing");
                problems.push(problem.help("name the issuer whose tokens the caller may end, as `feeds` names it"));
            }
            if !is_issuer && issuer.is_some() {
                let problem = Problem::at(place("issuer"), "belongs to the role `issuer` only");
                problems.push(problem.help("leave it out, or set `role: issuer`"));
            }
            if let Some(role) = role {
                rules.push(Rule { spiffe: entry.spiffe.clone(), role, feeds: entry.feeds.clone(), issuer });
            }
        }
        if problems.is_empty() { Ok(CertificateRules(rules)) } else { Err(problems) }
    }

    /// The principal that the SPIFFE id `id` is: by the rule that names it exactly, else by the longest that it is below.
    /// Its name is the id, or with the role `issuer` the name of the issuer.
    pub fn principal(&self, id: &str) -> Option<Principal> {
        let applies = |rule: &&Rule| rule.spiffe == id || (rule.spiffe.ends_with('/') && id.starts_with(&rule.spiffe));
        let rule = self.0.iter().filter(applies).max_by_key(|rule| rule.spiffe.len())?;
        let name = rule.issuer.clone().unwrap_or_else(|| id.to_owned());
        Some(Principal { name, role: rule.role, feeds: rule.feeds.clone() })
    }
}

fn check_id(id: &str) -> Option<&'static str> {
    let Some(rest) = id.strip_prefix("spiffe://") else { return Some("must begin with `spiffe://`") };
    let (domain, _) = rest.split_once('/').unwrap_or((rest, ""));
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '.' | '-' | '_');
    if domain.is_empty() || !domain.chars().all(fits) {
        return Some("names no trust domain");
    }
    (!rest.contains('/')).then_some("must name a workload, or end with `/` to mean the whole trust domain")
}

/// The SPIFFE id of a certificate in DER: the only URI among its alternative names. `None` where it has none, or
/// several (X.509-SVID §2: it must have exactly one).
pub fn spiffe_id(certificate: &[u8]) -> Option<String> {
    let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
    let names = certificate.subject_alternative_name().ok()??;
    let mut uris = names.value.general_names.iter().filter_map(|name| match name {
        GeneralName::URI(uri) => Some(*uri),
        _ => None,
    });
    let (only, None) = (uris.next()?, uris.next()) else { return None };
    only.starts_with("spiffe://").then(|| only.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, KeyPair, SanType};

    fn certificate(uris: &[&str]) -> Vec<u8> {
        let mut params = CertificateParams::new(vec!["a.example".to_owned()]).unwrap();
        params.subject_alt_names.extend(uris.iter().map(|uri| SanType::URI((*uri).try_into().unwrap())));
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec()
    }

    fn access(spiffe: &str, role: &str, feeds: &[&str]) -> AccessConfig {
        let feeds = feeds.iter().map(|feed| (*feed).to_owned()).collect();
        AccessConfig { spiffe: spiffe.to_owned(), role: role.to_owned(), feeds, issuer: None }
    }

    #[test]
    fn a_certificate_has_one_id_or_none() {
        let id = "spiffe://mesh.example/ns/orders/sa/envoy";
        assert_eq!(spiffe_id(&certificate(&[id])).as_deref(), Some(id));
        assert_eq!(spiffe_id(&certificate(&[])), None);
        assert_eq!(spiffe_id(&certificate(&[id, "spiffe://mesh.example/other"])), None);
        assert_eq!(spiffe_id(&certificate(&["https://mesh.example/ns"])), None);
        assert_eq!(spiffe_id(b"no certificate"), None);
    }

    #[test]
    fn the_most_exact_rule_decides() {
        let rules = [
            access("spiffe://mesh.example/", "sidecar", &[]),
            access("spiffe://mesh.example/ns/ops/", "auditor", &["main"]),
            access("spiffe://mesh.example/ns/ops/sa/on-call", "operator", &[]),
        ];
        let rules = CertificateRules::compile(&rules, &["main"]).unwrap();
        let role = |id| rules.principal(id).map(|principal| principal.role);
        assert_eq!(role("spiffe://mesh.example/ns/a/sa/b"), Some(Role::Sidecar));
        assert_eq!(role("spiffe://mesh.example/ns/ops/sa/other"), Some(Role::Auditor));
        assert_eq!(role("spiffe://mesh.example/ns/ops/sa/on-call"), Some(Role::Operator));
        assert_eq!(role("spiffe://mesh.example.evil/ns/a"), None);
        assert_eq!(role("spiffe://mesh.example"), None);
    }

    #[test]
    fn an_issuer_is_called_by_the_name_of_its_tokens() {
        let issuer = |role: &str, issuer: Option<&str>| {
            let issuer = issuer.map(str::to_owned);
            let access = AccessConfig { issuer, ..access("spiffe://mesh.example/ns/jit/sa/jit", role, &[]) };
            CertificateRules::compile(&[access], &["main"])
        };
        let rules = issuer("issuer", Some("https://jit.example")).unwrap();
        let principal = rules.principal("spiffe://mesh.example/ns/jit/sa/jit").unwrap();
        assert_eq!((principal.name.as_str(), principal.role), ("https://jit.example", Role::Issuer));
        assert_eq!(issuer("issuer", None).unwrap_err()[0].path, "access[0].issuer");
        assert_eq!(issuer("auditor", Some("https://jit.example")).unwrap_err()[0].path, "access[0].issuer");
    }

    #[test]
    fn every_mistake_has_its_place() {
        let bad = [
            access("https://mesh.example/", "sidecar", &[]),
            access("spiffe://mesh.example", "operater", &["mian"]),
            access("spiffe:///a", "nobody", &[]),
        ];
        let problems = CertificateRules::compile(&bad, &["main"]).unwrap_err();
        let lines: Vec<_> = problems.iter().map(ToString::to_string).collect();
        let help = "(such as `spiffe://mesh.example/ns/a/sa/b`)";
        assert_eq!(
            lines,
            [
                format!("access[0].spiffe: must begin with `spiffe://` {help}"),
                format!(
                    "access[1].spiffe: must name a workload, or end with `/` to mean the whole trust domain {help}"
                ),
                "access[1].role: `operater` is not a role (did you mean `operator`?)".to_owned(),
                "access[1].feeds[0]: `mian` is not one of the feeds (the feeds are main)".to_owned(),
                format!("access[2].spiffe: names no trust domain {help}"),
                "access[2].role: `nobody` is not a role (the roles are sidecar, transmitter, issuer, operator, auditor)"
                    .to_owned(),
            ]
        );
    }
}

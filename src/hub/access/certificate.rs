//! Who a client certificate belongs to: its SPIFFE id (SPIFFE X.509-SVID §2), and what the configuration lets it do.
//!
//! rustls has verified the certificate against `listen.tls.client_ca` before this is asked.

use crate::access::principal::Principal;
use crate::config::hub::Access;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

/// What the holders of certificates may do: `access` of the configuration.
#[derive(Debug, Default)]
pub struct CertificateRules(Vec<Access>);

impl CertificateRules {
    /// The first of `access` that matches a SPIFFE id decides.
    pub fn new(access: Vec<Access>) -> CertificateRules {
        CertificateRules(access)
    }

    /// The principal that the SPIFFE id `id` is. Its name is the id, or with the role `issuer` the name of the issuer.
    pub fn principal(&self, id: &str) -> Option<Principal> {
        let rule = self.0.iter().find(|rule| rule.peers.matches(id))?;
        let name = rule.issuer.clone().unwrap_or_else(|| id.to_owned());
        Some(Principal { name, role: rule.role, feeds: rule.feeds.clone() })
    }
}

/// When a certificate in DER ends, in seconds since 1970; `None` where it cannot be read. rustls looks at it when a
/// connection begins, and a connection may live for longer.
pub fn ends_at(certificate: &[u8]) -> Option<u64> {
    let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
    u64::try_from(certificate.validity().not_after.timestamp()).ok()
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
pub(crate) mod tests {
    use super::*;
    use crate::config::role::Role;
    use rcgen::{CertificateParams, KeyPair, SanType};
    use taskfence_core::http::spiffe::PeerPattern;

    /// A certificate with these URIs, in DER.
    pub fn certificate(uris: &[&str]) -> Vec<u8> {
        let mut params = CertificateParams::new(vec!["a.example".to_owned()]).unwrap();
        params.subject_alt_names.extend(uris.iter().map(|uri| SanType::URI((*uri).try_into().unwrap())));
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec()
    }

    fn access(peers: &str, role: Role, issuer: Option<&str>) -> Access {
        let peers = PeerPattern::parse(peers).unwrap();
        Access { peers, role, feeds: Vec::new(), issuer: issuer.map(str::to_owned) }
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
    fn the_first_rule_that_matches_decides() {
        let rules = CertificateRules::new(vec![
            access("spiffe://mesh.example/ns/ops/sa/on-call", Role::Operator, None),
            access("spiffe://mesh.example/ns/ops/*", Role::Auditor, None),
            access("spiffe://mesh.example/ns/jit/sa/jit", Role::Issuer, Some("https://jit.example")),
            access("spiffe://mesh.example/*", Role::Sidecar, None),
        ]);
        let role = |id| rules.principal(id).map(|principal| principal.role);
        assert_eq!(role("spiffe://mesh.example/ns/a/sa/b"), Some(Role::Sidecar));
        assert_eq!(role("spiffe://mesh.example/ns/ops/sa/other"), Some(Role::Auditor));
        assert_eq!(role("spiffe://mesh.example/ns/ops/sa/on-call"), Some(Role::Operator));
        assert_eq!(role("spiffe://mesh.example.evil/ns/a"), None);
        let issuer = rules.principal("spiffe://mesh.example/ns/jit/sa/jit").unwrap();
        assert_eq!(issuer.name, "https://jit.example", "an issuer is called by the name of its tokens");
    }
}

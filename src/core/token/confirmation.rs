//! `cnf`: the key or certificate that a token is bound to (RFC 7800, RFC 8705 §3.1, RFC 9449 §6.1).

use crate::encoding::digest::Digest;
use crate::encoding::digest::digest;
use crate::jose::thumbprint::thumbprint;
use serde::Deserialize;
use serde_json::Value;

/// The keys that the presenter of a token must hold. If there are none, the token is not bound.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Confirmation {
    /// `x5t#S256`: the SHA-256 of the client certificate in DER.
    pub certificate: Option<Digest>,
    /// The SHA-256 thumbprint (RFC 7638) of the key that DPoP proofs are signed with: `jkt`, or that of `jwk`, the key
    /// itself.
    pub key: Option<Digest>,
}

/// What the tokens of an issuer must be bound to. If a token is bound to more, that is checked too.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Binding {
    /// Nothing is required. The binding of a bound token is checked nevertheless.
    #[default]
    None,
    /// A client certificate: `cnf.x5t#S256` (RFC 8705).
    Mtls,
    /// A key that DPoP proofs are signed with: `cnf.jkt` (RFC 9449).
    Dpop,
    /// Either of the two.
    Any,
}

impl Confirmation {
    /// Reads the claim `cnf`.
    ///
    /// `None` when the claim has no member that can be checked here: a token that is bound to something unknown must
    /// not pass as an unbound token. Unknown members next to a known one are ignored (RFC 7800 §3.1).
    pub(crate) fn read(claim: Option<&Value>) -> Option<Confirmation> {
        let Some(claim) = claim else { return Some(Confirmation::default()) };
        let members = claim.as_object()?;
        let member = |name: &str| match members.get(name) {
            None => Some(None),
            Some(value) => digest(value.as_str()?).map(Some),
        };
        // RFC 7800 §3.2. A token with two keys would be bound to one of them only.
        let key = match (member("jkt")?, members.get("jwk")) {
            (thumbprint, None) => thumbprint,
            (None, Some(jwk)) => Some(thumbprint(jwk)?),
            (Some(known), Some(jwk)) => Some(thumbprint(jwk).filter(|of_key| *of_key == known)?),
        };
        let confirmation = Confirmation { certificate: member("x5t#S256")?, key };
        confirmation.is_bound().then_some(confirmation)
    }

    /// Whether the token is bound to anything.
    pub(crate) fn is_bound(&self) -> bool {
        self.certificate.is_some() || self.key.is_some()
    }
}

impl Binding {
    /// Whether a token with this confirmation has the required binding.
    pub(crate) fn is_met(self, confirmation: &Confirmation) -> bool {
        match self {
            Binding::None => true,
            Binding::Mtls => confirmation.certificate.is_some(),
            Binding::Dpop => confirmation.key.is_some(),
            Binding::Any => confirmation.is_bound(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encoding::digest::digest_text;
    use serde_json::json;

    /// The `cnf` of RFC 8705 §3.1, figure 3.
    const X5T: &str = "bwcK0esc3ACC3DB2Y5_lESsXE8o9ltc05O89jdN-dg2";
    /// The `cnf` of RFC 9449 §6.1, figure 9.
    const JKT: &str = "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I";

    #[test]
    fn reads_the_members_that_can_be_checked() {
        assert_eq!(Confirmation::read(None), Some(Confirmation::default()));
        let jkt = Confirmation::read(Some(&json!({"jkt": JKT}))).unwrap();
        assert_eq!((jkt.certificate, jkt.key.map(|key| digest_text(&key)).as_deref()), (None, Some(JKT)));
        let both = json!({"x5t#S256": digest_text(&[7; 32]), "jkt": JKT, "kid": "k"});
        assert_eq!(Confirmation::read(Some(&both)).unwrap().certificate, Some([7; 32]));
    }

    /// The key of RFC 7638 §3.1, and its thumbprint.
    #[test]
    fn a_whole_key_is_known_by_its_thumbprint() {
        let n = "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw";
        let jwk = json!({"kty": "RSA", "e": "AQAB", "alg": "RS256", "n": n});
        let thumbprint = "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs";
        let read =
            |claim: Value| Confirmation::read(Some(&claim)).and_then(|held| held.key).map(|key| digest_text(&key));
        assert_eq!(read(json!({ "jwk": jwk })).as_deref(), Some(thumbprint));
        assert_eq!(read(json!({"jwk": jwk, "jkt": thumbprint})).as_deref(), Some(thumbprint));
        assert_eq!(read(json!({"jwk": jwk, "jkt": JKT})), None, "two keys");
        assert_eq!(read(json!({"jwk": {"kty": "oct", "k": "AAAA"}})), None);
    }

    #[test]
    fn the_example_of_rfc_8705_is_read() {
        let held = Confirmation::read(Some(&json!({"x5t#S256": X5T}))).unwrap();
        // The spare bits of its last letter are set.
        assert_eq!(held.certificate.map(|digest| digest_text(&digest)), Some(X5T.replace("dg2", "dg0")));
    }

    #[test]
    fn what_cannot_be_checked_is_no_binding_to_nothing() {
        for claim in [
            json!({}),
            json!(null),
            json!("x"),
            json!([]),
            json!({"kid": "k"}),
            json!({"jwk": {"kty": "EC"}}),
            json!({"jku": "https://evil.example/keys", "kid": "k"}),
            json!({"jkt": 7}),
            json!({"jkt": ""}),
            json!({"jkt": JKT, "x5t#S256": "short"}),
            json!({"jkt": format!("{JKT}=")}),
            json!({"x5t#S256": null, "jkt": JKT}),
        ] {
            assert_eq!(Confirmation::read(Some(&claim)), None, "{claim}");
        }
    }

    #[test]
    fn what_an_issuer_asks_for() {
        let certificate = Confirmation { certificate: Some([1; 32]), key: None };
        let key = Confirmation { certificate: None, key: Some([1; 32]) };
        let none = Confirmation::default();
        for (binding, met) in [
            (Binding::None, [true, true, true]),
            (Binding::Mtls, [false, true, false]),
            (Binding::Dpop, [false, false, true]),
            (Binding::Any, [false, true, true]),
        ] {
            assert_eq!([none, certificate, key].map(|held| binding.is_met(&held)), met, "{binding:?}");
        }
    }
}

use super::*;
use crate::encoding::digest::digest;
use crate::jose::signature::PureRust;
use crate::state::store::MemoryStore;
use crate::testing::fixture::{self, NOW};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use proptest::prelude::*;
use serde_json::json;
use sha2::{Digest as _, Sha256};

/// RFC 9449 §7.1, figures 13 and 14: the proof, and the token that it goes with.
const RFC_PROOF: &str = "eyJ0eXAiOiJkcG9wK2p3dCIsImFsZyI6IkVTMjU2IiwiandrIjp7Imt0eSI6IkVDIiwieCI6Imw4dEZyaHgtMzR0VjNoUklDUkRZOXpDa0RscEJoRjQyVVFVZldWQVdCRnMiLCJ5IjoiOVZFNGpmX09rX282NHpiVFRsY3VOSmFqSG10NnY5VERWclUwQ2R2R1JEQSIsImNydiI6IlAtMjU2In19.eyJqdGkiOiJlMWozVl9iS2ljOC1MQUVCIiwiaHRtIjoiR0VUIiwiaHR1IjoiaHR0cHM6Ly9yZXNvdXJjZS5leGFtcGxlLm9yZy9wcm90ZWN0ZWRyZXNvdXJjZSIsImlhdCI6MTU2MjI2MjYxOCwiYXRoIjoiZlVIeU8ycjJaM0RaNTNFc05yV0JiMHhXWG9hTnk1OUlpS0NBcWtzbVFFbyJ9.2oW9RP35yRqzhrtNP86L-Ey71EOptxRimPPToA1plemAgR6pxHF8y6-yqyVnmcw6Fy1dqd-jfxSYoMxhAJpLjA";
const RFC_TOKEN: &[u8] = b"Kz~8mXK1EalYznwH-LC-1fBAo.4Ljp~zsPE_NeO.gxU";
const RFC_IAT: u64 = 1_562_262_618;
/// RFC 9449 §6.1, figure 9: what that token is bound to.
const RFC_JKT: &str = "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I";

const TOKEN: &[u8] = b"the.access.token";

fn jwk() -> Value {
    let mut jwk: Value = serde_json::from_str(&fixture::key().public_key().to_jwk()).unwrap();
    for extra in ["kid", "alg", "use"] {
        jwk.as_object_mut().unwrap().remove(extra);
    }
    jwk
}

fn key() -> Digest {
    thumbprint(&jwk()).unwrap()
}

fn proof(header: Value, claims: Value) -> String {
    let mut head = json!({"typ": "dpop+jwt", "alg": "ES256", "jwk": jwk()});
    let ath = digest_text(&Sha256::digest(TOKEN).into());
    let mut body = json!({"jti": "p-1", "htm": "GET", "htu": "https://api.example/o/1", "iat": NOW.0, "ath": ath});
    for (into, from) in [(&mut head, header), (&mut body, claims)] {
        for (name, value) in from.as_object().unwrap() {
            match value {
                Value::String(text) if text == fixture::ABSENT => drop(into.as_object_mut().unwrap().remove(name)),
                value => into[name] = value.clone(),
            }
        }
    }
    fixture::sign(&head, &body)
}

fn expected(key: &Digest) -> Expected<'_> {
    Expected { method: b"GET", scheme: b"https", authority: b"api.example", path: b"/o/1?q=1", token: TOKEN, key }
}

fn check(proof: &str) -> Result<Proof, ProofError> {
    verify(proof.as_bytes(), expected(&key()), &Settings::default(), None, &mut PureRust, NOW)
}

fn refused(header: Value, claims: Value) -> ProofError {
    check(&proof(header, claims)).expect_err("refused")
}

#[test]
fn the_example_of_rfc_9449() {
    let key = digest(RFC_JKT).unwrap();
    let expected = Expected {
        method: b"GET",
        scheme: b"https",
        authority: b"resource.example.org",
        path: b"/protectedresource",
        token: RFC_TOKEN,
        key: &key,
    };
    let at = |now| verify(RFC_PROOF.as_bytes(), expected, &Settings::default(), None, &mut PureRust, Timestamp(now));
    let good = at(RFC_IAT + 1).unwrap();
    assert_eq!((good.key(), good.until()), (&key, Timestamp(RFC_IAT + 60)));
    assert_eq!(at(RFC_IAT + 61), Err(ProofError::Time));
    let (start, _) = RFC_PROOF.split_at(RFC_PROOF.len() - 4);
    let bent = format!("{start}AAAA");
    let outcome = verify(bent.as_bytes(), expected, &Settings::default(), None, &mut PureRust, Timestamp(RFC_IAT));
    assert_eq!(outcome, Err(ProofError::Signature));
}

/// RFC 7638 §3.1, and RFC 8037 appendix A.3.
#[test]
fn thumbprints_of_the_rfcs() {
    let rsa = json!({
        "kty": "RSA", "e": "AQAB", "alg": "RS256", "kid": "2011-04-29",
        "n": "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw"
    });
    assert_eq!(digest_text(&thumbprint(&rsa).unwrap()), "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs");
    let okp = json!({"crv": "Ed25519", "kty": "OKP", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"});
    assert_eq!(digest_text(&thumbprint(&okp).unwrap()), "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k");
    for bad in [json!({}), json!(7), json!({"kty": "oct", "k": "AAAA"}), json!({"kty": "OKP", "crv": "a\"b", "x": "A"})]
    {
        assert_eq!(thumbprint(&bad), None, "{bad}");
    }
}

#[test]
fn a_good_proof_passes_whatever_the_query() {
    let good = check(&proof(json!({}), json!({}))).unwrap();
    assert_eq!((good.key(), good.until()), (&key(), Timestamp(NOW.0 + 60)));
    assert!(check(&proof(json!({"typ": "application/DPoP+jwt"}), json!({"more": 1}))).is_ok());
    let same =
        check(&proof(json!({}), json!({"htu": "HTTPS://API.example:443/%6f/1?other#x", "iat": NOW.0 - 1}))).unwrap();
    assert_eq!(same.id(), good.id(), "another spelling of the same use is no other use");
    let other = check(&proof(json!({}), json!({"jti": "p-2"}))).unwrap();
    assert_ne!(other.id(), good.id());
}

#[test]
fn each_of_the_twelve_checks() {
    let absent = fixture::ABSENT;
    for name in ["jti", "htm", "htu", "iat", "ath"] {
        for value in [json!(absent), json!(null), json!([]), json!("")] {
            assert_eq!(refused(json!({}), json!({ name: value })), ProofError::Claim(name), "{name}");
        }
    }
    for typ in [json!("JWT"), json!("at+jwt"), json!(absent), json!("")] {
        assert_eq!(refused(json!({ "typ": typ }), json!({})), ProofError::Type);
    }
    for alg in ["none", "HS256", "RS256", "EdDSA", "es256", ""] {
        assert_eq!(refused(json!({ "alg": alg }), json!({})), ProofError::Algorithm, "{alg}");
    }
    assert_eq!(refused(json!({"jwk": absent}), json!({})), ProofError::Malformed);
    assert_eq!(refused(json!({"crit": ["x"], "x": 1}), json!({})), ProofError::Malformed);
    assert_eq!(refused(json!({"jwk": "x"}), json!({})), ProofError::BadKey);
    let mut private = jwk();
    private["d"] = json!("AAAA");
    assert_eq!(refused(json!({ "jwk": private }), json!({})), ProofError::BadKey, "the thumbprint is still right");
    for name in ["use", "alg"] {
        let mut other = jwk();
        other[name] = json!("enc");
        assert_eq!(refused(json!({ "jwk": other }), json!({})), ProofError::BadKey);
    }
    for htm in ["POST", "get", "GET "] {
        assert_eq!(refused(json!({}), json!({ "htm": htm })), ProofError::Method);
    }
    for htu in [
        "https://api.example/o/2",
        "http://api.example/o/1",
        "https://api.example:8443/o/1",
        "https://api.example/O/1",
        "https://evil.example/o/1",
        "https://api.example/o/1/",
    ] {
        assert_eq!(refused(json!({}), json!({ "htu": htu })), ProofError::Uri, "{htu}");
    }
    for htu in ["/o/1", "https:api.example", "https://u@api.example/o/1", "https:///o/1", "ftp://api.example/o/1"] {
        assert_eq!(refused(json!({}), json!({ "htu": htu })), ProofError::Claim("htu"), "{htu}");
    }
    for (iat, error) in [
        (NOW.0 - 60, None),
        (NOW.0 - 61, Some(ProofError::Time)),
        (NOW.0 + 15, None),
        (NOW.0 + 16, Some(ProofError::Time)),
    ] {
        assert_eq!(check(&proof(json!({}), json!({ "iat": iat }))).err(), error, "{iat}");
    }
    // With a fraction a proof is older, and further ahead.
    let fraction = |at: u64| Value::from(at).as_f64().unwrap() + 0.5;
    for (iat, error) in [
        (fraction(NOW.0 - 60), None),
        (fraction(NOW.0 - 61), Some(ProofError::Time)),
        (fraction(NOW.0 + 14), None),
        (fraction(NOW.0 + 15), Some(ProofError::Time)),
        (-0.5, Some(ProofError::Claim("iat"))),
    ] {
        assert_eq!(check(&proof(json!({}), json!({ "iat": iat }))).err(), error, "{iat}");
    }
    let other = digest_text(&Sha256::digest(b"another token").into());
    assert_eq!(refused(json!({}), json!({ "ath": other })), ProofError::TokenHash);
    let outcome = verify(
        proof(json!({}), json!({})).as_bytes(),
        expected(&[0; 32]),
        &Settings::default(),
        None,
        &mut PureRust,
        NOW,
    );
    assert_eq!(outcome, Err(ProofError::Key));
    let mut bent = proof(json!({}), json!({})).into_bytes();
    let last = bent.len() - 10;
    bent[last] = if bent[last] == b'A' { b'B' } else { b'A' };
    assert_eq!(check(std::str::from_utf8(&bent).unwrap()), Err(ProofError::Signature));
    assert_eq!(refused(json!({}), json!({"padding": "x".repeat(MAX_PROOF)})), ProofError::TooLarge);
    assert_eq!(refused(json!({}), json!({"jti": "x".repeat(1025)})), ProofError::Claim("jti"));
    for text in ["", "a", "a.b.c", "a,b", "\u{e9}"] {
        assert_eq!(check(text), Err(ProofError::Malformed));
    }
}

#[test]
fn the_origin_of_the_configuration_counts_more_than_the_host_of_the_request() {
    let settings = Settings {
        origins: vec!["https://a.example".to_owned(), "https://b.example:8443".to_owned()],
        ..Settings::default()
    };
    let at = |htu: &str| {
        let proof = proof(json!({}), json!({ "htu": htu }));
        verify(proof.as_bytes(), expected(&key()), &settings, None, &mut PureRust, NOW).err()
    };
    assert_eq!(at("https://a.example/o/1"), None);
    assert_eq!(at("https://b.example:8443/o/1"), None);
    assert_eq!(at("https://b.example/o/1"), Some(ProofError::Uri));
    assert_eq!(at("https://api.example/o/1"), Some(ProofError::Uri));
}

#[test]
fn a_nonce_is_asked_for_once_the_configuration_does() {
    let mut store = MemoryStore::default();
    crate::token::dpop_nonce::set_up(&mut store, [3; 32]).unwrap();
    let nonces = Nonces::read(&mut store).unwrap();
    let lifetime = Span(100);
    let settings = Settings { nonce: Some(lifetime), ..Settings::default() };
    let with = |claims: Value, now: Timestamp| {
        let proof = proof(json!({}), claims);
        verify(proof.as_bytes(), expected(&key()), &settings, Some(&nonces), &mut PureRust, now).err()
    };
    assert_eq!(with(json!({}), NOW), Some(ProofError::Nonce));
    assert_eq!(with(json!({"nonce": 7}), NOW), Some(ProofError::Nonce));
    assert_eq!(with(json!({"nonce": "x"}), NOW), Some(ProofError::Nonce));
    let nonce = nonces.current(lifetime, NOW);
    assert_eq!(with(json!({ "nonce": nonce }), NOW), None);
    let later = Timestamp(NOW.0 + 200);
    assert_eq!(with(json!({"nonce": nonce, "iat": later.0}), later), Some(ProofError::Nonce));
}

#[test]
fn other_algorithms_where_they_are_allowed() {
    use jwt_simple::prelude::*;
    let rsa = RS256KeyPair::generate(2048).unwrap();
    let ed = Ed25519KeyPair::generate();
    let p384 = ES384KeyPair::generate();
    let strip = |jwk: String| -> Value {
        let jwk: Value = serde_json::from_str(&jwk).unwrap();
        let members = ["kty", "crv", "x", "y", "n", "e"].into_iter();
        members
            .filter_map(|name| Some((name.to_owned(), jwk.get(name)?.clone())))
            .collect::<serde_json::Map<_, _>>()
            .into()
    };
    let all = Settings { algorithms: Algorithm::ALL.to_vec(), ..Settings::default() };
    let none = Settings { algorithms: vec![Algorithm::ES256], ..Settings::default() };
    type Sign<'s> = Box<dyn Fn(&[u8]) -> Vec<u8> + 's>;
    let table: [(&str, Value, Sign<'_>); 3] = [
        (
            "EdDSA",
            strip(ed.public_key().to_jwk()),
            Box::new(|message| ed.key_pair().as_ref().sk.sign(message, None).to_vec()),
        ),
        (
            "RS256",
            strip(rsa.public_key().to_jwk()),
            Box::new(|message| {
                use superboring::{
                    hash::MessageDigest,
                    pkey::PKey,
                    rsa::{Padding, Rsa},
                    sign::Signer,
                };
                let key = PKey::from_rsa(Rsa::private_key_from_der(&rsa.to_der().unwrap()).unwrap()).unwrap();
                let mut signer = Signer::new(MessageDigest::sha256(), &key).unwrap();
                signer.set_rsa_padding(Padding::PKCS1).unwrap();
                signer.update(message).unwrap();
                signer.sign_to_vec().unwrap()
            }),
        ),
        (
            "ES384",
            strip(p384.public_key().to_jwk()),
            Box::new(|message| {
                use p384::ecdsa::{Signature, SigningKey, signature::Signer};
                let signature: Signature = SigningKey::from_slice(&p384.to_bytes()).unwrap().sign(message);
                signature.to_bytes().to_vec()
            }),
        ),
    ];
    for (alg, jwk, sign) in &table {
        let template = proof(json!({"alg": alg, "jwk": jwk}), json!({}));
        let (input, _) = template.rsplit_once('.').unwrap();
        let proof = format!("{input}.{}", URL_SAFE_NO_PAD.encode(sign(input.as_bytes())));
        let key = thumbprint(jwk).unwrap();
        let outcome = |settings| verify(proof.as_bytes(), expected(&key), settings, None, &mut PureRust, NOW).err();
        assert_eq!(outcome(&all), None, "{alg}");
        assert_eq!(outcome(&none), Some(ProofError::Algorithm), "{alg}");
        let bent = format!("{input}.{}", URL_SAFE_NO_PAD.encode(sign(b"another message")));
        let outcome = verify(bent.as_bytes(), expected(&key), &all, None, &mut PureRust, NOW).err();
        assert_eq!(outcome, Some(ProofError::Signature), "{alg}");
        // The key decides what it is for, not the header.
        let other = crate::token::dpop::tests::proof(json!({"alg": "PS256", "jwk": jwk}), json!({}));
        let outcome = verify(other.as_bytes(), expected(&key), &all, None, &mut PureRust, NOW).err();
        assert!(matches!(outcome, Some(ProofError::BadKey | ProofError::Signature)), "{alg}: {outcome:?}");
    }
}

#[test]
fn weak_rsa_keys_prove_nothing() {
    let n = URL_SAFE_NO_PAD.encode([0xff; 128]);
    let jwk = json!({"kty": "RSA", "n": n, "e": "AQAB"});
    let key = thumbprint(&jwk).unwrap();
    let proof = proof(json!({"alg": "RS256", "jwk": jwk}), json!({}));
    let settings = Settings { algorithms: vec![Algorithm::RS256], ..Settings::default() };
    let outcome = verify(proof.as_bytes(), expected(&key), &settings, None, &mut PureRust, NOW);
    assert_eq!(outcome, Err(ProofError::BadKey));
}

/// RFC 3986 §6.2.2, §6.2.3, and the examples of §5.2.4 and §5.4.
#[test]
fn uris_are_normalised() {
    for (uri, normal) in [
        ("https://a", "https://a/"),
        ("HTTPS://A.Example:443?x#y", "https://a.example/"),
        ("http://a:80/b", "http://a/b"),
        ("http://a:443/b", "http://a:443/b"),
        ("https://a:/b", "https://a/b"),
        ("https://[::1]:8080/", "https://[::1]:8080/"),
        ("https://[::1]/", "https://[::1]/"),
        ("https://a/%7Efoo/%2f%2F/%c3%A9", "https://a/~foo/%2F%2F/%C3%A9"),
        ("https://a/a/b/c/./../../g", "https://a/a/g"),
        ("https://a/mid/content=5/../6", "https://a/mid/6"),
        ("https://a/../../g", "https://a/g"),
        ("https://a/b/..", "https://a/"),
        ("https://a/b/.", "https://a/b/"),
        ("https://a/%2e%2E/g", "https://a/g"),
        ("https://a//b", "https://a//b"),
        ("https://a/{b}", "https://a/%7Bb%7D"),
    ] {
        assert_eq!(normalise(uri).as_deref(), Some(normal), "{uri}");
    }
    for none in [
        "",
        "https",
        "https://",
        "https:///a",
        "https://a/%",
        "https://a/%4",
        "https://a/%zz",
        "https://a/%+1",
        "https://a/\u{e9}",
        "https://a/ b",
        "https://a@b/",
        "https://a:b/",
        "ws://a/",
    ] {
        assert_eq!(normalise(none), None, "{none}");
    }
}

proptest! {
    #[test]
    fn normalising_again_changes_nothing(uri in "https?://[a-zA-Z.]{1,8}(:[0-9]{0,4})?(/[ -~]{0,6}){0,5}") {
        if let Some(once) = normalise(&uri) {
            prop_assert_eq!(normalise(&once), Some(once));
        }
    }

    #[test]
    fn what_is_not_reserved_may_be_escaped(path in "[a-z0-9._~-]{1,12}") {
        let escaped: String = path.bytes().map(|byte| format!("%{byte:02x}")).collect();
        prop_assert_eq!(normalise(&format!("https://a/{path}")), normalise(&format!("HTTPS://A:443/{escaped}")));
    }

    #[test]
    fn normalising_never_panics(uri in any::<String>()) {
        let _ = normalise(&uri);
    }

    #[test]
    fn proofs_of_any_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let outcome = verify(&bytes, expected(&[0; 32]), &Settings::default(), None, &mut PureRust, NOW);
        prop_assert!(outcome.is_err());
    }

    #[test]
    fn a_flipped_letter_refuses(at in any::<proptest::sample::Index>()) {
        static GOOD: std::sync::OnceLock<String> = std::sync::OnceLock::new();
        let mut bytes = GOOD.get_or_init(|| proof(json!({}), json!({}))).clone().into_bytes();
        let at = at.index(bytes.len());
        bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
        let outcome = verify(&bytes, expected(&key()), &Settings::default(), None, &mut PureRust, NOW);
        prop_assert!(outcome.is_err());
    }
}

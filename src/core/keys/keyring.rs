//! The keys of one token issuer or transmitter: from the configuration, or as last fetched.

use crate::encoding::json;
use crate::index::{IssuerIndex, TransmitterIndex};
use crate::jose::algorithm::Algorithm;
use crate::jose::key::{KeyError, KeySet, KeySetError, MAX_KEYS};
use crate::state::store::SourceId;
use crate::time::{Span, Timestamp};
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::fmt;

/// The maximum length of a JWK Set in bytes.
pub const MAX_JWKS: usize = 1024 * 1024;

/// The source of a JWK Set, and how often to fetch it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// The name of the proxy's cluster.
    pub cluster: String,
    /// `:authority` of the request.
    pub host: String,
    /// `:path` of the request: the set, or the metadata that names it.
    pub path: String,
    /// How the set is found, if `path` is the metadata of the issuer.
    pub discovery: Option<Discovery>,
    /// What the requests to `cluster` carry in `authorization`.
    pub authorization: Option<Authorization>,
    /// Fetch the set again after this long.
    pub refresh: Span,
    /// The timeout of a fetch.
    pub timeout: Span,
    /// How long a request may wait for keys.
    pub wait: Span,
    /// How long keys are used after they were last fetched.
    pub keep: Span,
    /// The minimum time between two fetches because of an unknown `kid`.
    pub refetch: Span,
}

/// How a set is found through the metadata of its issuer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Discovery {
    /// What `issuer` of the metadata must be.
    pub issuer: String,
    /// `:path` of the metadata if it is not at the first path.
    pub second_path: Option<String>,
    /// The name of the proxy's cluster that serves the set.
    pub keys_cluster: String,
    /// The only host that `jwks_uri` may name, with a port unless it is the default one. `:authority` of the request.
    pub keys_host: String,
}

/// The value of a header `authorization`.
#[derive(Clone, PartialEq, Eq)]
pub enum Authorization {
    /// The value.
    Value(String),
    /// The path of a file with a token, which is sent as `Bearer`. A filter cannot read files.
    File(String),
}

/// Shows no secret.
impl fmt::Debug for Authorization {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Authorization::Value(_) => f.write_str("Value(..)"),
            Authorization::File(path) => f.debug_tuple("File").field(path).finish(),
        }
    }
}

impl Source {
    /// The id of the source in the shared memory.
    pub fn id(&self) -> SourceId {
        let mut hasher = Sha256::new();
        let discovery = self.discovery.iter().flat_map(|discovery| {
            [&discovery.issuer, &discovery.keys_cluster, &discovery.keys_host].into_iter().chain(&discovery.second_path)
        });
        for part in [&self.cluster, &self.host, &self.path].into_iter().chain(discovery) {
            // The length prefix keeps `a` + `bc` apart from `ab` + `c`.
            hasher.update(u64::try_from(part.len()).unwrap_or(u64::MAX).to_le_bytes());
            hasher.update(part.as_bytes());
        }
        let digest: [u8; 32] = hasher.finalize().into();
        let mut id = [0; 16];
        id.iter_mut().zip(digest).for_each(|(to, from)| *to = from);
        SourceId(id)
    }
}

/// The owner of a keyring: an index into the lists of the policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Owner {
    /// The token issuer with that index.
    Issuer(IssuerIndex),
    /// The transmitter with that index.
    Transmitter(TransmitterIndex),
}

/// Its place in a configuration.
impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Owner::Issuer(at) => write!(f, "issuers[{at}]"),
            Owner::Transmitter(at) => write!(f, "signals.transmitters[{at}]"),
        }
    }
}

/// The keys of one issuer or transmitter.
#[derive(Debug, Default)]
pub struct Keyring {
    keys: KeySet,
    fetched: Option<Fetched>,
}

#[derive(Debug)]
struct Fetched {
    source: Source,
    algorithms: Vec<Algorithm>,
    /// 0: no set was fetched yet.
    generation: u64,
    fetched_at: Timestamp,
    until: Timestamp,
}

impl Keyring {
    /// A keyring with keys from the configuration.
    pub(crate) fn inline(keys: KeySet) -> Keyring {
        Keyring { keys, fetched: None }
    }

    /// A keyring for `algorithms` whose keys are not fetched yet.
    pub(crate) fn fetched(source: Source, algorithms: Vec<Algorithm>) -> Keyring {
        let never = Timestamp(0);
        let fetched = Fetched { source, algorithms, generation: 0, fetched_at: never, until: never };
        Keyring { keys: KeySet::default(), fetched: Some(fetched) }
    }

    /// Where the keys are fetched from; `None` for keys from the configuration.
    pub fn source(&self) -> Option<&Source> {
        self.fetched.as_ref().map(|fetched| &fetched.source)
    }

    /// The keys that may be used at `now`. `None`: no keys were fetched yet, or not for too long.
    pub fn current(&self, now: Timestamp) -> Option<&KeySet> {
        let usable = self.fetched.as_ref().is_none_or(|fetched| now < fetched.until);
        usable.then_some(&self.keys)
    }

    /// When the keys expire unless they are fetched again. `None` for keys from the configuration.
    pub(crate) fn lapses_at(&self) -> Option<Timestamp> {
        self.fetched.as_ref().map(|fetched| fetched.until)
    }

    /// The last known keys, even if they have expired.
    pub fn last(&self) -> &KeySet {
        &self.keys
    }

    /// The generation of the fetched set; 0 before the first. Keys from the configuration have 0.
    pub fn generation(&self) -> u64 {
        self.fetched.as_ref().map_or(0, |fetched| fetched.generation)
    }

    /// When the set was last fetched; [`Timestamp`] 0 before the first fetch, `None` for keys from the configuration.
    pub fn fetched_at(&self) -> Option<Timestamp> {
        self.fetched.as_ref().map(|fetched| fetched.fetched_at)
    }

    /// Uses the fetched set `jwks` with its generation from now on. Keys that cannot be used are returned as `(index,
    /// error)`.
    ///
    /// Fails, and keeps the previous keys, when `jwks` is not a JWK Set. Has no effect on keys from the configuration.
    pub fn adopt(
        &mut self,
        jwks: &Value,
        generation: u64,
        fetched_at: Timestamp,
    ) -> Result<Vec<(usize, KeyError)>, KeySetError> {
        let Some(fetched) = &mut self.fetched else { return Ok(Vec::new()) };
        let (keys, problems) = KeySet::from_jwks(jwks, &fetched.algorithms)?;
        self.keys = keys;
        fetched.generation = generation;
        self.confirm(fetched_at);
        Ok(problems)
    }

    /// The keys of `jwks` that cannot be used, as `(index, error)`; `None` when it is not a JWK Set, or the keys are
    /// from the configuration.
    pub fn problems(&self, jwks: &Value) -> Option<Vec<(usize, KeyError)>> {
        let fetched = self.fetched.as_ref()?;
        KeySet::from_jwks(jwks, &fetched.algorithms).ok().map(|(_, problems)| problems)
    }

    /// Records that the set was fetched again at that time, without changes.
    pub fn confirm(&mut self, fetched_at: Timestamp) {
        if let Some(fetched) = &mut self.fetched {
            fetched.fetched_at = fetched_at;
            fetched.until = fetched_at.plus(fetched.source.keep);
        }
    }

    /// Uses `jwks` as if it was fetched, without an expiry: for tools that have no proxy to fetch it.
    pub fn supply(&mut self, jwks: &Value) -> Result<Vec<(usize, KeyError)>, KeySetError> {
        let problems = self.adopt(jwks, 1, Timestamp::MAX)?;
        if let Some(fetched) = &mut self.fetched {
            fetched.until = Timestamp(u64::MAX);
        }
        Ok(problems)
    }
}

/// Reads a response body as a JWK Set (RFC 7517 §5), without checking the keys.
///
/// Fails when it is longer than [`MAX_JWKS`], is not JSON, has no array `keys`, or has more than `MAX_KEYS` keys.
pub fn read_jwks(body: &[u8]) -> Result<Value, JwksError> {
    if body.len() > MAX_JWKS {
        return Err(JwksError::TooLarge(body.len()));
    }
    let jwks = json::value(body).map_err(|error| JwksError::NotJson(error.to_string()))?;
    match jwks.get("keys").and_then(Value::as_array) {
        None => Err(JwksError::NotAJwkSet),
        Some(keys) if keys.len() > MAX_KEYS => Err(JwksError::TooMany(keys.len())),
        Some(_) => Ok(jwks),
    }
}

/// Why bytes are not accepted as a JWK Set.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum JwksError {
    #[error("{0} bytes: at most {MAX_JWKS} are taken")]
    TooLarge(usize),
    #[error("more than {MAX_JWKS} bytes when unpacked: at most so many are taken")]
    Unpacked,
    #[error(
        "the proxy dropped the answer, although the server is there: most likely it is larger than the proxy takes, and at most {MAX_JWKS} bytes are taken"
    )]
    Dropped,
    #[error("not usable as JSON: {0}")]
    NotJson(String),
    #[error("not a JWK Set: expected an object with an array `keys`")]
    NotAJwkSet,
    #[error("{0} keys: at most {MAX_KEYS} are taken")]
    TooMany(usize),
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decision::judge::Judge;
    use crate::http::request::Request;
    use crate::reason::Reason;
    use crate::signal::receiver::{self, Head};
    use crate::state::revocations::set_up;
    use crate::testing::fixture::{self, NOW, sign, token_with};
    use crate::testing::ports::TestPorts;
    use jwt_simple::prelude::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn bench() -> (Judge, TestPorts) {
        let fetched = json!({"cluster": "jit", "path": "/jwks.json", "keep": "1h"});
        let config = json!({
            "issuers": [{"issuer": "https://jit.example", "audiences": ["https://orders.mesh"], "keys": fetched}],
            "rules": [{"name": "all", "match": {}, "require": {}}],
            "signals": {"transmitters": [{"issuer": "https://idp.example", "audience": "us", "keys": fetched,
                                          "subjects": ["https://jit.example"]}]}
        });
        let mut ports = TestPorts::default();
        set_up(&mut ports.store, 1).unwrap();
        (Judge::new(crate::config::load::load(config.to_string().as_bytes()).unwrap().policy), ports)
    }

    /// The reason, and whether newer keys could change it.
    fn ask(judge: &mut Judge, ports: &mut TestPorts, token: &str, now: Timestamp) -> (Option<Reason>, bool) {
        let bearer = format!("Bearer {token}");
        let headers = [(":method", "GET"), (":authority", "o"), (":path", "/"), ("authorization", &bearer)];
        let request =
            Request::from_headers(headers.into_iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())));
        let refusal = judge.judge(&request, ports, now).err();
        (
            refusal.as_ref().map(|refusal| refusal.reason),
            refusal.is_some_and(|refusal| refusal.lacks_keys_of == Some(IssuerIndex::new(0))),
        )
    }

    fn publish(judge: &mut Judge, jwks: &Value, generation: u64, at: Timestamp) {
        for owner in [Owner::Issuer(IssuerIndex::new(0)), Owner::Transmitter(TransmitterIndex::new(0))] {
            judge.keyring_mut(owner).unwrap().adopt(jwks, generation, at).unwrap();
        }
    }

    fn other_key(kid: &str) -> Value {
        let key = ES256KeyPair::generate().with_key_id(kid);
        json!({"keys": [serde_json::from_str::<Value>(&key.public_key().to_jwk()).unwrap()]})
    }

    #[test]
    fn a_token_is_as_good_as_the_keys_that_are_there() {
        let (mut judge, mut ports) = bench();
        let token = token_with(json!({}), json!({}));
        let unknown = token_with(json!({"kid": "other"}), json!({}));
        let nameless = token_with(json!({"kid": null}), json!({}));
        let mut at = |judge: &mut Judge, token: &str, now| ask(judge, &mut ports, token, now);
        assert_eq!(at(&mut judge, &token, NOW), (Some(Reason::KeysUnavailable), true));
        // What no key could make good is not worth waiting for.
        for (header, claims, reason) in [
            (json!({}), json!({"exp": NOW.0 - 50}), Reason::TokenExpired),
            (json!({}), json!({"aud": "other"}), Reason::AudienceMismatch),
            (json!({"alg": "RS512"}), json!({}), Reason::AlgorithmRefused),
            (json!({"typ": "JWT"}), json!({}), Reason::TokenType),
        ] {
            assert_eq!(at(&mut judge, &token_with(header, claims), NOW), (Some(reason), false));
        }
        publish(&mut judge, &fixture::jwks(), 1, NOW);
        assert_eq!(at(&mut judge, &token, NOW), (None, false));
        assert_eq!(at(&mut judge, &unknown, NOW), (Some(Reason::KeyUnknown), true));
        assert_eq!(at(&mut judge, &nameless, NOW), (None, false), "by the only key that fits");
        let mut both = other_key("new");
        both["keys"].as_array_mut().unwrap().extend(fixture::jwks()["keys"].as_array().unwrap().clone());
        publish(&mut judge, &both, 2, NOW);
        assert_eq!(at(&mut judge, &token, NOW), (None, false));
        publish(&mut judge, &other_key("new"), 3, NOW);
        assert_eq!(at(&mut judge, &token, NOW), (Some(Reason::KeyUnknown), true), "its key has left the set");
        for _ in 0..2 {
            let answer = at(&mut judge, &nameless, NOW);
            assert_eq!(answer, (Some(Reason::SignatureInvalid), true), "a newer set may have its key");
        }
        publish(&mut judge, &fixture::jwks(), 4, NOW);
        assert_eq!(at(&mut judge, &token, NOW), (None, false));
        publish(&mut judge, &other_key("jit-1"), 5, NOW);
        assert_eq!(at(&mut judge, &token, NOW), (Some(Reason::SignatureInvalid), false), "another key of that name");
        publish(&mut judge, &fixture::jwks(), 6, Timestamp(NOW.0 - 3_599));
        assert_eq!(at(&mut judge, &token, NOW), (None, false));
        assert_eq!(at(&mut judge, &token, Timestamp(NOW.0 + 1)), (Some(Reason::KeysUnavailable), true), "given up");
    }

    #[test]
    fn a_signal_is_not_lost_to_a_rotation() {
        let (mut judge, mut ports) = bench();
        let mut payload = json!({
            "iss": "https://idp.example", "aud": "us", "iat": NOW.0, "jti": "1",
            "sub_id": {"format": "jwt_id", "iss": "https://jit.example", "jti": "tok-1"},
            "events": {"https://schemas.openid.net/secevent/caep/event-type/session-revoked": {}}
        });
        let set = sign(&json!({"alg": "ES256", "typ": "secevent+jwt", "kid": "jit-1"}), &payload);
        let headers = [(":method", "POST"), (":path", "/signals"), ("content-type", "application/secevent+jwt")];
        let head = Head::from_headers(headers.into_iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())));
        let mut push = |judge: &Judge| {
            let received = receiver::receive(
                judge.policy().signals(),
                judge.policy().issuers(),
                &head,
                set.as_bytes(),
                &mut ports,
                NOW,
            );
            let (status, headers, _) = receiver::answer(&received);
            (status, headers.iter().any(|(name, _)| *name == "retry-after"))
        };
        assert_eq!(push(&judge), (503, true), "no keys yet");
        assert_eq!(
            receiver::lacks_keys_of(judge.policy().signals(), set.as_bytes()),
            Some(Owner::Transmitter(TransmitterIndex::new(0)))
        );
        publish(&mut judge, &other_key("old"), 1, NOW);
        assert_eq!(push(&judge), (503, true), "the keys may be older than the signal");
        publish(&mut judge, &other_key("old"), 2, Timestamp(NOW.0 + 1));
        assert_eq!(push(&judge), (400, false), "they are newer");
        publish(&mut judge, &fixture::jwks(), 3, Timestamp(NOW.0 + 2));
        assert_eq!(push(&judge), (202, false));
        // The transmitter's clock is behind: the keys seem newer than the signal, and were not fetched lately.
        payload["iat"] = json!(NOW.0 - 20);
        payload["jti"] = json!("2");
        let set = sign(&json!({"alg": "ES256", "typ": "secevent+jwt", "kid": "jit-1"}), &payload);
        let mut behind = |judge: &Judge| {
            receiver::answer(&receiver::receive(
                judge.policy().signals(),
                judge.policy().issuers(),
                &head,
                set.as_bytes(),
                &mut ports,
                NOW,
            ))
            .0
        };
        publish(&mut judge, &other_key("old"), 4, Timestamp(NOW.0 - 15));
        assert_eq!(behind(&judge), 503);
        publish(&mut judge, &other_key("old"), 5, NOW);
        assert_eq!(behind(&judge), 400);
    }

    fn source() -> Source {
        Source {
            cluster: "jit".to_owned(),
            host: "jit.example".to_owned(),
            path: "/jwks.json".to_owned(),
            discovery: None,
            authorization: None,
            refresh: Span(300),
            timeout: Span(5),
            wait: Span(2),
            keep: Span(3600),
            refetch: Span(10),
        }
    }

    fn discovery() -> Discovery {
        let text = |text: &str| text.to_owned();
        Discovery { issuer: text("i"), second_path: None, keys_cluster: text("c"), keys_host: text("h") }
    }

    #[test]
    fn fetched_keys_come_and_age_out() {
        let mut keyring = Keyring::fetched(source(), vec![Algorithm::ES256]);
        assert!(keyring.current(NOW).is_none(), "nothing was fetched yet");
        assert_eq!(keyring.adopt(&fixture::jwks(), 1, NOW), Ok(vec![]));
        let last = Timestamp(NOW.0 + 3599);
        assert!(keyring.current(last).is_some_and(|keys| keys.find(Some("jit-1"), Algorithm::ES256).is_ok()));
        assert!(keyring.current(Timestamp(NOW.0 + 3600)).is_none(), "kept for an hour");
        keyring.confirm(last);
        assert!(keyring.current(Timestamp(NOW.0 + 3600)).is_some());
    }

    #[test]
    fn what_is_no_set_changes_nothing() {
        let mut keyring = Keyring::fetched(source(), vec![Algorithm::ES256]);
        keyring.adopt(&fixture::jwks(), 7, NOW).unwrap();
        assert!(keyring.adopt(&json!({}), 8, NOW).is_err());
        assert_eq!((keyring.generation(), keyring.last().len()), (7, 1));
    }

    #[test]
    fn keys_of_the_configuration_never_age() {
        let (keys, _) = KeySet::from_jwks(&fixture::jwks(), &[Algorithm::ES256]).unwrap();
        let keyring = Keyring::inline(keys);
        assert!(keyring.current(Timestamp::MAX).is_some());
        assert_eq!((keyring.source(), keyring.fetched_at()), (None, None));
    }

    #[test]
    fn a_source_is_told_by_all_of_it() {
        let one = source();
        for other in [
            Source { cluster: "jit2".to_owned(), ..source() },
            Source { host: "other".to_owned(), ..source() },
            Source { path: "/".to_owned(), ..source() },
            Source { cluster: "ji".to_owned(), host: "tjit.example".to_owned(), ..source() },
            Source { discovery: Some(discovery()), ..source() },
            Source { discovery: Some(Discovery { keys_host: "k".to_owned(), ..discovery() }), ..source() },
        ] {
            assert_ne!(one.id(), other.id(), "{other:?}");
        }
        let found = |discovery| Source { discovery: Some(discovery), ..source() }.id();
        assert_ne!(found(discovery()), found(Discovery { issuer: "other".to_owned(), ..discovery() }));
        assert_eq!(one.id(), Source { refresh: Span(1), keep: Span(9), ..source() }.id());
    }

    #[test]
    fn what_is_no_jwk_set() {
        assert_eq!(read_jwks(&vec![b' '; MAX_JWKS + 1]), Err(JwksError::TooLarge(MAX_JWKS + 1)));
        for text in ["", "<html>", "{\"keys\":[]", "{\"keys\":[],\"keys\":[]}"] {
            assert!(matches!(read_jwks(text.as_bytes()), Err(JwksError::NotJson(_))), "{text}");
        }
        for text in ["[]", "null", "{}", "{\"keys\":{}}", "7"] {
            assert_eq!(read_jwks(text.as_bytes()), Err(JwksError::NotAJwkSet), "{text}");
        }
        let many = json!({"keys": vec![json!({}); MAX_KEYS + 1]}).to_string();
        assert_eq!(read_jwks(many.as_bytes()), Err(JwksError::TooMany(MAX_KEYS + 1)));
        assert!(read_jwks(br#"{"keys":[]}"#).is_ok());
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes: Vec<u8>) {
            let mut keyring = Keyring::fetched(source(), Algorithm::ALL.to_vec());
            if let Ok(jwks) = read_jwks(&bytes) {
                let _ = keyring.adopt(&jwks, 1, NOW);
            }
        }
    }
}

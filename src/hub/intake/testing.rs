//! Test data: keys of every algorithm, and SETs signed with them.

use crate::config::compile::compile;
use crate::config::hub::Hub;
use crate::intake::router;
use crate::intake::service::Intake;
use crate::store::Store;
use crate::store::clock::Clock;
use crate::store::model::Change;
use crate::store::sqlite::SqliteStore;
use crate::store::writer::Writer;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair as RsaKeyPair, KeySize};
use aws_lc_rs::signature::{
    self, ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, ECDSA_P521_SHA512_FIXED_SIGNING,
    EcdsaKeyPair, Ed25519KeyPair, KeyPair as _,
};
use axum::body::Body;
use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use taskfence_core::feed::entry::{self, Decoded};
use taskfence_core::jose::algorithm::Algorithm;
use taskfence_core::state::bucket::Entry;
use taskfence_core::time::Timestamp;
use tower::ServiceExt as _;

/// base64url without padding.
pub fn encode(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// The bytes of base64url without padding.
pub fn decode(text: &str) -> Vec<u8> {
    URL_SAFE_NO_PAD.decode(text).unwrap()
}

enum Pair {
    Rsa(RsaKeyPair),
    Ec(EcdsaKeyPair),
    Ed(Ed25519KeyPair),
}

/// A private key that signs JWS.
pub struct Signer {
    algorithm: Algorithm,
    kid: String,
    pair: Pair,
}

impl Signer {
    /// A new key for `algorithm` with that `kid`.
    pub fn new(algorithm: Algorithm, kid: &str) -> Signer {
        let pair = match algorithm {
            Algorithm::ES256 => Pair::Ec(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap()),
            Algorithm::ES384 => Pair::Ec(EcdsaKeyPair::generate(&ECDSA_P384_SHA384_FIXED_SIGNING).unwrap()),
            Algorithm::ES512 => Pair::Ec(EcdsaKeyPair::generate(&ECDSA_P521_SHA512_FIXED_SIGNING).unwrap()),
            Algorithm::EdDSA => Pair::Ed(Ed25519KeyPair::generate().unwrap()),
            _ => Pair::Rsa(RsaKeyPair::generate(KeySize::Rsa2048).unwrap()),
        };
        Signer { algorithm, kid: kid.to_owned(), pair }
    }

    /// What it signs with.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The public key as a JWK Set.
    pub fn jwks(&self) -> Value {
        let mut jwk = match &self.pair {
            Pair::Rsa(pair) => {
                let key = pair.public_key();
                json!({"kty": "RSA", "n": encode(key.modulus().big_endian_without_leading_zero()), "e": "AQAB"})
            }
            Pair::Ec(pair) => {
                let point = &pair.public_key().as_ref()[1..];
                let (x, y) = point.split_at(point.len() / 2);
                let curve = match self.algorithm {
                    Algorithm::ES256 => "P-256",
                    Algorithm::ES384 => "P-384",
                    _ => "P-521",
                };
                json!({"kty": "EC", "crv": curve, "x": encode(x), "y": encode(y)})
            }
            Pair::Ed(pair) => json!({"kty": "OKP", "crv": "Ed25519", "x": encode(pair.public_key().as_ref())}),
        };
        jwk["kid"] = self.kid.clone().into();
        json!({"keys": [jwk]})
    }

    /// A JWS of `claims`; `header` is added to `alg` and `kid`.
    pub fn sign(&self, header: &Value, claims: &Value) -> String {
        let mut head = json!({"alg": self.algorithm.name(), "kid": self.kid});
        for (name, value) in header.as_object().unwrap() {
            head[name] = value.clone();
        }
        let input = format!("{}.{}", encode(head.to_string().as_bytes()), encode(claims.to_string().as_bytes()));
        let random = SystemRandom::new();
        let signature = match &self.pair {
            Pair::Rsa(pair) => {
                let padding: &'static dyn signature::RsaEncoding = match self.algorithm {
                    Algorithm::RS384 => &signature::RSA_PKCS1_SHA384,
                    Algorithm::RS512 => &signature::RSA_PKCS1_SHA512,
                    Algorithm::PS256 => &signature::RSA_PSS_SHA256,
                    Algorithm::PS384 => &signature::RSA_PSS_SHA384,
                    Algorithm::PS512 => &signature::RSA_PSS_SHA512,
                    _ => &signature::RSA_PKCS1_SHA256,
                };
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(padding, &random, input.as_bytes(), &mut signature).unwrap();
                signature
            }
            Pair::Ec(pair) => pair.sign(&random, input.as_bytes()).unwrap().as_ref().to_vec(),
            Pair::Ed(pair) => pair.sign(input.as_bytes()).as_ref().to_vec(),
        };
        format!("{input}.{}", encode(&signature))
    }
}

/// When the tests take place, in seconds since 1970.
pub const NOW: u64 = 1_790_000_100;

/// The issuer of the tokens.
pub const ISSUER: &str = "https://jit.example";

/// The transmitter with inline keys.
pub const IDP: &str = "https://idp.example";

/// A hub with one feed, `main`, on a clock that stands still.
pub struct TestHub {
    pub intake: Intake,
    pub store: Arc<dyn Store>,
    /// Signs the SETs of [`IDP`].
    pub signer: Arc<Signer>,
    /// Milliseconds since 1970.
    pub time: Arc<AtomicU64>,
    config: Value,
    writer: Writer,
    clock: Clock,
    data: Arc<tempfile::TempDir>,
}

impl TestHub {
    /// A hub whose configuration `change` has changed.
    pub fn new(change: impl FnOnce(&mut Value)) -> TestHub {
        TestHub::with_signer(Signer::new(Algorithm::ES256, "idp-1"), change)
    }

    /// The same, where `signer` signs for [`IDP`].
    pub fn with_signer(signer: Signer, change: impl FnOnce(&mut Value)) -> TestHub {
        let keys = json!({"inline": signer.jwks()});
        let mut config = json!({
            "data": "/var/lib/taskfence",
            "feeds": [{
                "name": "main",
                "issuers": [{"issuer": ISSUER, "audiences": ["orders"], "keys": keys, "claims": {"device": "device_id"}}],
                "signals": {"transmitters": [{
                    "issuer": IDP, "audience": "hub", "keys": keys, "subjects": [ISSUER],
                    "algorithms": [signer.algorithm().name()]
                }]}
            }]
        });
        change(&mut config);
        let hub = compile(config.to_string().as_bytes()).unwrap();
        let data = Arc::new(tempfile::tempdir().unwrap());
        let store: Arc<dyn Store> =
            Arc::new(SqliteStore::open(&data.path().join("hub.sqlite")).unwrap().with_signals_kept(hub.keep_signals));
        let time = Arc::new(AtomicU64::new(NOW * 1_000));
        let system = time.clone();
        let clock = Clock::with_system(&*store, move || system.load(Ordering::Relaxed)).unwrap();
        let feeds: Vec<String> = hub.feeds.iter().map(|feed| feed.name.clone()).collect();
        let writer = Writer::start(store.clone(), clock.clone(), &feeds).unwrap();
        let intake = Intake::start(&hub, &config.to_string(), store.clone(), writer.clone(), clock.clone()).unwrap();
        TestHub { intake, store, signer: Arc::new(signer), time, config, writer, clock, data }
    }

    /// The same hub after it was killed: what was not stored is gone.
    pub fn restarted(self) -> TestHub {
        self.restarted_with(|_| {})
    }

    /// The same, after a change of its configuration. Feeds stay as they are named.
    pub fn restarted_with(mut self, change: impl FnOnce(&mut Value)) -> TestHub {
        change(&mut self.config);
        let hub = compile(self.config.to_string().as_bytes()).unwrap();
        let (store, writer, clock) = (self.store.clone(), self.writer.clone(), self.clock.clone());
        let intake = Intake::start(&hub, &self.config.to_string(), store, writer, clock).unwrap();
        TestHub { intake, ..self }
    }

    /// Its clock.
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// Its configuration, compiled.
    pub fn compiled(&self) -> Hub {
        compile(self.config.to_string().as_bytes()).unwrap()
    }

    /// From now on the store takes no signal.
    pub fn break_store(&self) {
        let other = rusqlite::Connection::open(self.data.path().join("hub.sqlite")).unwrap();
        let broken = "CREATE TRIGGER broken BEFORE INSERT ON signal BEGIN SELECT RAISE(ABORT, 'broken'); END";
        other.execute_batch(broken).unwrap();
    }

    /// The claims of a SET of [`IDP`] with one event about `subject`.
    pub fn claims(jti: &str, event: &str, payload: Value, subject: Value) -> Value {
        json!({"iss": IDP, "aud": "hub", "iat": NOW, "jti": jti, "sub_id": subject, "events": {event: payload}})
    }

    /// A SET with these claims.
    pub fn set(&self, claims: &Value) -> String {
        self.signer.sign(&json!({"typ": "secevent+jwt"}), claims)
    }

    /// A SET that revokes a task.
    pub fn revoke(&self, jti: &str, task: &str) -> String {
        let subject = json!({"format": "complex", "task": {"format": "opaque", "id": task}});
        self.set(&TestHub::claims(jti, SESSION_REVOKED, json!({"event_timestamp": NOW - 5}), subject))
    }

    /// The status of the answer to a push, and its body. Without a connection.
    pub async fn push(&self, set: impl Into<Body>) -> (u16, String) {
        let response = self.call(self.request().body(set.into()).unwrap()).await;
        let status = response.status().as_u16();
        let body = axum::body::to_bytes(response.into_body(), 1 << 20).await.unwrap();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    /// A push without body.
    pub fn request(&self) -> axum::http::request::Builder {
        let request = axum::http::Request::builder().method("POST").uri("/v1/feeds/main/signals");
        request.header("content-type", "application/secevent+jwt")
    }

    /// The answer to a request.
    pub async fn call(&self, request: axum::http::Request<Body>) -> Response {
        router(self.intake.clone()).oneshot(request).await.unwrap()
    }

    /// An operator undoes a signal.
    pub async fn lift(&self, signal: u64) {
        let (feed, by, reason) = ("main".to_owned(), "alice".to_owned(), "mistake".to_owned());
        let lift = Change::Lift { feed, signal, by, reason, at: self.clock.now_ms() };
        self.writer.submit(lift).await.unwrap();
    }

    /// What the feed holds.
    pub fn entries(&self) -> Vec<Entry> {
        let (entries, _) = self.store.entries_after("main", 0, 1 << 20, Timestamp(NOW)).unwrap();
        let bytes: Vec<u8> = entries.into_iter().flat_map(|stored| stored.entry.bytes).collect();
        let known = |decoded| match decoded {
            Ok(Decoded::Known(known)) => known.entry,
            other => panic!("{other:?}"),
        };
        entry::decode(&bytes).map(known).collect()
    }
}

/// CAEP session-revoked.
pub const SESSION_REVOKED: &str = "https://schemas.openid.net/secevent/caep/event-type/session-revoked";

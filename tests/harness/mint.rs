//! Tokens and signals made by a library that the filter does not use, with keys that live as long as this process.

use std::{
    sync::{
        LazyLock,
        atomic::{AtomicU64, Ordering},
    },
    time::{SystemTime, UNIX_EPOCH},
};

use aws_lc_rs::{
    digest,
    encoding::{AsDer, Pkcs8V1Der},
    rand::SystemRandom,
    rsa::{KeyPair as RsaKeyPair, KeySize},
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair},
};
use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use jsonwebtoken::{
    Algorithm, EncodingKey, crypto,
    jwk::{Jwk, ThumbprintHash},
};
use serde_json::{Map, Value, json};

use crate::orders;

/// The signature algorithms that the filter accepts, except ES512, for which this library has no code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Alg {
    /// ECDSA on P-256 with SHA-256.
    Es256,
    /// ECDSA on P-384 with SHA-384.
    Es384,
    /// RSASSA-PKCS1-v1_5 with SHA-256, 2048 bit.
    Rs256,
    /// RSASSA-PKCS1-v1_5 with SHA-384, 2048 bit.
    Rs384,
    /// RSASSA-PKCS1-v1_5 with SHA-512, 2048 bit.
    Rs512,
    /// RSASSA-PSS with SHA-256, 2048 bit.
    Ps256,
    /// RSASSA-PSS with SHA-384, 2048 bit.
    Ps384,
    /// RSASSA-PSS with SHA-512, 2048 bit.
    Ps512,
    /// Ed25519.
    EdDsa,
}

impl Alg {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Es256,
        Self::Es384,
        Self::Rs256,
        Self::Rs384,
        Self::Rs512,
        Self::Ps256,
        Self::Ps384,
        Self::Ps512,
        Self::EdDsa,
    ];

    /// Their names, as a configuration lists them.
    pub fn names() -> Vec<&'static str> {
        Self::ALL.into_iter().map(Self::name).collect()
    }

    /// Its name in a JWS header.
    pub fn name(self) -> &'static str {
        match self {
            Self::Es256 => "ES256",
            Self::Es384 => "ES384",
            Self::Rs256 => "RS256",
            Self::Rs384 => "RS384",
            Self::Rs512 => "RS512",
            Self::Ps256 => "PS256",
            Self::Ps384 => "PS384",
            Self::Ps512 => "PS512",
            Self::EdDsa => "EdDSA",
        }
    }

    fn algorithm(self) -> Algorithm {
        match self {
            Self::Es256 => Algorithm::ES256,
            Self::Es384 => Algorithm::ES384,
            Self::Rs256 => Algorithm::RS256,
            Self::Rs384 => Algorithm::RS384,
            Self::Rs512 => Algorithm::RS512,
            Self::Ps256 => Algorithm::PS256,
            Self::Ps384 => Algorithm::PS384,
            Self::Ps512 => Algorithm::PS512,
            Self::EdDsa => Algorithm::EdDSA,
        }
    }
}

/// The keys of one issuer: one for each algorithm.
pub struct Keyring {
    signers: [Signer; 9],
}

/// One private key.
#[derive(Clone)]
pub struct Signer {
    /// Its name in a JWS header and in the key set.
    pub kid: String,
    /// What it signs with.
    pub alg: Alg,
    key: EncodingKey,
}

/// The keys of the issuer of tokens, [`orders::ISSUER`].
pub static ISSUER: LazyLock<Keyring> = LazyLock::new(|| Keyring::generate("jit"));
/// The keys of the transmitter of signals, [`orders::TRANSMITTER`].
pub static TRANSMITTER: LazyLock<Keyring> = LazyLock::new(|| Keyring::generate("idp"));
/// Keys that no configuration names, under the names of the issuer's.
pub static FORGER: LazyLock<Keyring> = LazyLock::new(|| Keyring::generate("jit"));

impl Keyring {
    /// New keys with the names `PREFIX-ES256` and so on.
    pub fn generate(prefix: &str) -> Self {
        Self { signers: Alg::ALL.map(|alg| Signer::generate(format!("{prefix}-{}", alg.name()), alg)) }
    }

    /// The key for this algorithm.
    pub fn signer(&self, alg: Alg) -> &Signer {
        self.signers.iter().find(|signer| signer.alg == alg).expect("a keyring has a key for each algorithm")
    }

    /// The public halves, as a JWK set.
    pub fn jwks(&self) -> Value {
        json!({"keys": self.signers.each_ref().map(Signer::public)})
    }
}

impl Signer {
    fn generate(kid: String, alg: Alg) -> Self {
        let random = SystemRandom::new();
        let key = match alg {
            Alg::Es256 => {
                let key = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random);
                EncodingKey::from_ec_der(key.expect("a new P-256 key").as_ref())
            }
            Alg::Es384 => {
                let key = EcdsaKeyPair::generate_pkcs8(&ECDSA_P384_SHA384_FIXED_SIGNING, &random);
                EncodingKey::from_ec_der(key.expect("a new P-384 key").as_ref())
            }
            Alg::Rs256 | Alg::Rs384 | Alg::Rs512 | Alg::Ps256 | Alg::Ps384 | Alg::Ps512 => {
                let key = RsaKeyPair::generate(KeySize::Rsa2048).expect("a new RSA key");
                let der: Pkcs8V1Der = key.as_der().expect("an RSA key in PKCS #8");
                // The only way in that takes PKCS #8.
                let pem = format!(
                    "-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n",
                    STANDARD.encode(der.as_ref())
                );
                EncodingKey::from_rsa_pem(pem.as_bytes()).expect("our own PEM")
            }
            Alg::EdDsa => {
                let key = Ed25519KeyPair::generate_pkcs8v1(&random);
                EncodingKey::from_ed_der(key.expect("a new Ed25519 key").as_ref())
            }
        };
        Self { kid, alg, key }
    }

    /// A new key that no configuration has, for the DPoP proofs of a client.
    pub fn new(alg: Alg) -> Self {
        Self::generate(unique("client"), alg)
    }

    /// The thumbprint of the public half (RFC 7638), as it stands in `cnf.jkt`.
    pub fn thumbprint(&self) -> String {
        let jwk = Jwk::from_encoding_key(&self.key, self.algorithm()).expect("a public half");
        jwk.thumbprint(ThumbprintHash::SHA256).expect("a thumbprint")
    }

    /// The public half, as a JWK.
    pub fn public(&self) -> Value {
        let jwk = Jwk::from_encoding_key(&self.key, self.algorithm()).expect("a public half");
        let mut jwk = serde_json::to_value(jwk).expect("a JWK is JSON");
        jwk["kid"] = json!(self.kid);
        jwk["use"] = json!("sig");
        jwk
    }

    /// A JWS over exactly these texts, whatever they say.
    pub fn sign_text(&self, header: &[u8], payload: &[u8]) -> String {
        let input = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(payload));
        let signature = crypto::sign(input.as_bytes(), &self.key, self.algorithm()).expect("a signature");
        format!("{input}.{signature}")
    }

    /// The signature alone, over any text and under any algorithm that the key can be bent to.
    pub fn signature(&self, text: &[u8], alg: Alg) -> Vec<u8> {
        let signature = crypto::sign(text, &self.key, alg.algorithm()).expect("a signature");
        URL_SAFE_NO_PAD.decode(signature).expect("base64url")
    }

    fn algorithm(&self) -> Algorithm {
        self.alg.algorithm()
    }
}

/// A JWT in the making. [`token`] and [`signal`] begin with one that is right in everything; a test changes what it is
/// about.
#[derive(Clone)]
pub struct Jwt {
    header: Map<String, Value>,
    claims: Map<String, Value>,
    signer: Signer,
}

/// A token for [`orders::TASK`]: reading [`orders::ORDER`], for five minutes from now. Each has its own `jti`.
pub fn token() -> Jwt {
    let now = now();
    Jwt::new(
        ISSUER.signer(Alg::Es256),
        "at+jwt",
        json!({
            "iss": orders::ISSUER,
            "sub": orders::USER,
            "aud": orders::AUDIENCE,
            "client_id": "agent-a7",
            "iat": now,
            "exp": now + 300,
            "jti": unique("tok"),
            "scope": orders::SCOPE,
            "authorization_details": [{"type": "order", "actions": ["read"], "identifier": orders::ORDER}],
            "txn": orders::TASK,
            "sid": orders::SESSION,
            "auth_time": now - 60,
        }),
    )
}

/// A DPoP proof (RFC 9449 section 4.2) that is right in everything for one request with this token. Each has its own
/// `jti`.
pub fn proof(key: &Signer, method: &str, uri: &str, token: &str) -> Jwt {
    let mut public = key.public();
    for name in ["kid", "use"] {
        public.as_object_mut().expect("a JWK is an object").remove(name);
    }
    let hash = digest::digest(&digest::SHA256, token.as_bytes());
    let claims = json!({
        "jti": unique("proof"),
        "htm": method,
        "htu": uri,
        "iat": now(),
        "ath": URL_SAFE_NO_PAD.encode(hash.as_ref()),
    });
    Jwt::new(key, "dpop+jwt", claims).without_header("kid").header("jwk", public)
}

/// A security event token (RFC 8417) with one event of this type about this subject, dated now. Each has its own `jti`.
pub fn signal(event: &str, subject: Value) -> Jwt {
    let now = now();
    Jwt::new(
        TRANSMITTER.signer(Alg::Es256),
        "secevent+jwt",
        json!({
            "iss": orders::TRANSMITTER,
            "aud": orders::SIGNALS_AUDIENCE,
            "iat": now,
            "jti": unique("set"),
            "sub_id": subject,
            "events": {event: {"event_timestamp": now}},
        }),
    )
}

/// The type of our grant-narrowed.
pub const GRANT_NARROWED: &str = "urn:taskfence:secevent:grant-narrowed";
/// The type of CAEP's session-revoked.
pub const SESSION_REVOKED: &str = "https://schemas.openid.net/secevent/caep/event-type/session-revoked";
/// The type of our task-completed.
pub const TASK_COMPLETED: &str = "urn:taskfence:secevent:task-completed";

/// Revokes the one token with this `jti`.
pub fn revoke_token(jti: &str) -> Jwt {
    signal(SESSION_REVOKED, json!({"format": "jwt_id", "iss": orders::ISSUER, "jti": jti}))
}

/// Revokes this session (`sid`).
pub fn revoke_session(session: &str) -> Jwt {
    signal(SESSION_REVOKED, json!({"format": "complex", "session": {"format": "opaque", "id": session}}))
}

/// Cuts off the sessions that this user (`sub`) began up to now; [`Jwt::dated`] gives another moment.
pub fn revoke_user(user: &str) -> Jwt {
    signal(SESSION_REVOKED, json!({"format": "iss_sub", "iss": orders::ISSUER, "sub": user}))
}

/// Says that this task (`txn`) is done.
pub fn complete_task(task: &str) -> Jwt {
    signal(TASK_COMPLETED, json!({"format": "complex", "task": {"format": "opaque", "id": task}}))
        .event("outcome", "success")
}

/// The type of CAEP's device-compliance-change.
pub const DEVICE_COMPLIANCE_CHANGE: &str =
    "https://schemas.openid.net/secevent/caep/event-type/device-compliance-change";
/// The type of CAEP's risk-level-change.
pub const RISK_LEVEL_CHANGE: &str = "https://schemas.openid.net/secevent/caep/event-type/risk-level-change";

/// The type of the CAEP event with this name.
pub fn caep(name: &str) -> String {
    format!("https://schemas.openid.net/secevent/caep/event-type/{name}")
}

/// The type of the RISC event with this name.
pub fn risc(name: &str) -> String {
    format!("https://schemas.openid.net/secevent/risc/event-type/{name}")
}

/// The type of the SSF event with this name.
pub fn ssf(name: &str) -> String {
    format!("https://schemas.openid.net/secevent/ssf/event-type/{name}")
}

/// A [`signal`] whose event has these members too. `members` is an object.
pub fn signal_with(event: &str, subject: Value, members: &Value) -> Jwt {
    let members = members.as_object().expect("an object of members");
    members.iter().fold(signal(event, subject), |signal, (name, value)| signal.event(name, value.clone()))
}

/// Says how this device (the claim `device_id`) stands: `compliant` or `not-compliant`.
pub fn device_is(device: &str, status: &str) -> Jwt {
    let before = if status == "compliant" { "not-compliant" } else { "compliant" };
    signal(DEVICE_COMPLIANCE_CHANGE, json!({"format": "complex", "device": {"format": "opaque", "id": device}}))
        .event("previous_status", before)
        .event("current_status", status)
}

/// Says how risky this user (`sub`) is: `LOW`, `MEDIUM` or `HIGH`.
pub fn risk_is(user: &str, level: &str) -> Jwt {
    signal(RISK_LEVEL_CHANGE, json!({"format": "iss_sub", "iss": orders::ISSUER, "sub": user}))
        .event("principal", "USER")
        .event("current_level", level)
}

impl Jwt {
    fn new(signer: &Signer, kind: &str, claims: Value) -> Self {
        let Value::Object(claims) = claims else { unreachable!("claims are an object") };
        let Value::Object(header) = json!({"typ": kind}) else { unreachable!("a header is an object") };
        Self { header, claims, signer: Signer::clone(signer) }.signed_by(signer)
    }

    /// Sets a claim.
    pub fn claim(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.claims.insert(name.to_owned(), value.into());
        self
    }

    /// Takes a claim away.
    pub fn without(mut self, name: &str) -> Self {
        self.claims.remove(name).expect("a claim that was there");
        self
    }

    /// Sets a member of the header.
    pub fn header(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.header.insert(name.to_owned(), value.into());
        self
    }

    /// Takes a member of the header away.
    pub fn without_header(mut self, name: &str) -> Self {
        self.header.remove(name).expect("a member that was there");
        self
    }

    /// Signs with this key, and says so in `alg` and `kid`.
    pub fn signed_by(mut self, signer: &Signer) -> Self {
        self.signer = signer.clone();
        self.header("alg", signer.alg.name()).header("kid", signer.kid.as_str())
    }

    /// The task, `txn`.
    pub fn task(self, task: &str) -> Self {
        self.claim("txn", task)
    }

    /// The session, `sid`.
    pub fn session(self, session: &str) -> Self {
        self.claim("sid", session)
    }

    /// The user, `sub`.
    pub fn user(self, user: &str) -> Self {
        self.claim("sub", user)
    }

    /// `iat` this many seconds from now (negative: ago), `exp` the given number of seconds after it.
    pub fn valid(self, from_now: i64, for_seconds: i64) -> Self {
        let issued = now() + from_now;
        self.claim("iat", issued).claim("exp", issued + for_seconds)
    }

    /// Was valid for five minutes until ten minutes ago.
    pub fn expired(self) -> Self {
        self.valid(-900, 300)
    }

    /// Sets a member of the one event of a signal.
    pub fn event(mut self, name: &str, value: impl Into<Value>) -> Self {
        let events = self.claims.get_mut("events").and_then(Value::as_object_mut).expect("a signal");
        events.values_mut().next().expect("an event")[name] = value.into();
        self
    }

    /// When the event of a signal happened, in seconds since the epoch.
    pub fn dated(self, at: i64) -> Self {
        self.event("event_timestamp", at)
    }

    /// Its `jti`.
    pub fn id(&self) -> String {
        self.claims.get("jti").and_then(Value::as_str).expect("a jti").to_owned()
    }

    /// Its header.
    pub fn header_text(&self) -> String {
        Value::from(self.header.clone()).to_string()
    }

    /// Its claims.
    pub fn claims_text(&self) -> String {
        Value::from(self.claims.clone()).to_string()
    }

    /// The compact serialization.
    pub fn sign(&self) -> String {
        self.signer.sign_text(self.header_text().as_bytes(), self.claims_text().as_bytes())
    }
}

/// Seconds since the epoch.
pub fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock after 1970");
    since.as_secs().try_into().expect("a clock before the end of time")
}

/// A name that nothing else in this process has: tests share a sidecar, and must not hit each other's grants.
pub fn unique(prefix: &str) -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    format!("{prefix}-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
}

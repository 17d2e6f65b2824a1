//! What must hold of the parsers whatever bytes come in, beyond that they return: one function for each door by which
//! bytes from outside enter. `scripts/fuzz` runs them with bytes that libFuzzer comes up with, and the test `corpus`
//! with those of `fuzz/corpus`.
//!
//! The functions panic when something does not hold. They return whether the bytes were taken, so that a corpus can
//! show that it gets behind the first check.

use std::{
    cell::RefCell,
    collections::HashMap,
    net::IpAddr,
    sync::{LazyLock, Mutex, PoisonError},
};
use taskfence_core::config::load;
use taskfence_core::jose::thumbprint;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::Value;
use taskfence_core::decision::judge::Judge;
use taskfence_core::encoding::digest::Digest;
use taskfence_core::http::connection::ConnectionInfo;
use taskfence_core::http::host::Host;
use taskfence_core::http::path::Canonical;
use taskfence_core::http::request::Request;
use taskfence_core::jose::algorithm::Algorithm;
use taskfence_core::jose::jws::Unverified;
use taskfence_core::jose::key::Key;
use taskfence_core::jose::signature::{CheckSignature, PureRust};
use taskfence_core::policy::policy::Policy;
use taskfence_core::ports::Ports;
use taskfence_core::signal::receiver::{self, Head, Received};
use taskfence_core::state::revocations;
use taskfence_core::state::store::{MemoryStore, Slot, Store, StoreError, Stored};
use taskfence_core::time::Timestamp;
use taskfence_core::token::dpop;
use taskfence_core::token::verify;

/// What is fuzzed.
pub type Target = fn(&[u8]) -> bool;

/// All of it, by name.
pub const TARGETS: [(&str, Target); 5] =
    [("token", token), ("set", set), ("proof", proof), ("path", path), ("config", config)];

/// The clock stands still, so that what was found can be found again.
const NOW: Timestamp = Timestamp(1_790_000_100);

/// The configuration that tokens, signals and proofs meet.
const CONFIG: &str = include_str!("config.json");

static POLICY: LazyLock<Policy> = LazyLock::new(our_policy);

/// A token that reads an order under [`CONFIG`].
const GOOD_TOKEN: &[u8] = include_bytes!("corpus/token/good");

fn our_policy() -> Policy {
    load::load(CONFIG.as_bytes()).unwrap_or_else(|errors| panic!("our own configuration: {errors}")).policy
}

/// An access token (RFC 9068), alone and in a request.
///
/// Bytes that begin with `{` are the header and, from the next line on, the claims of one: base64 would hide them from
/// whoever changes single bytes.
pub fn token(bytes: &[u8]) -> bool {
    let text = compact(bytes);
    let believed = verify::verify(&text, POLICY.issuers(), &mut Credulous, NOW);
    let again = verify::verify(&text, POLICY.issuers(), &mut Credulous, NOW);
    assert_eq!(believed.as_ref().ok(), again.as_ref().ok(), "the same token, read twice");
    if verify::verify(&text, POLICY.issuers(), &mut PureRust, NOW).is_ok() {
        assert!(believed.is_ok(), "a signature can only refuse");
    }
    if let Ok(verified) = &believed {
        let grant = verified.grant();
        let issuer = POLICY.issuer(verified.issuer()).unwrap();
        assert_eq!(grant.issuer, issuer.name);
        assert!(grant.issued_at < grant.expires_at && NOW < grant.expires_at.plus(issuer.clock_skew));
        let token = grant.token_id.to_string();
        let names = [Some(&grant.subject), grant.client_id.as_ref(), Some(&token), grant.task.as_ref()];
        for name in names.into_iter().flatten() {
            assert!(!name.is_empty() && !name.chars().any(char::is_control), "{name:?}");
        }
        assert!(verify::holds_until(verified, issuer) > NOW);
    }
    thread_local! {
        // Nothing that it remembers may change a verdict.
        static WORLD: RefCell<World> = RefCell::new(World::new(our_policy(), FuzzPorts::default()));
    }
    let allowed = WORLD.with_borrow_mut(|world| world.passes(&text));
    assert!(believed.is_ok() || !allowed, "only a good token allows");
    believed.is_ok()
}

/// A security event token (RFC 8417) pushed to the receiver; bytes as for [`token`]. Then a request under a token that
/// it may be about.
pub fn set(bytes: &[u8]) -> bool {
    let text = compact(bytes);
    let head = Head {
        method: b"POST".to_vec(),
        path: POLICY.signals().path().as_bytes().to_vec(),
        content_type: b"application/secevent+jwt".to_vec(),
        ..Head::default()
    };
    let mut ports = FuzzPorts::default();
    let received = receiver::receive(POLICY.signals(), POLICY.issuers(), &head, &text, &mut ports, NOW);
    let (status, _, body) = receiver::answer(&received);
    assert!(matches!(status, 202 | 400 | 503), "{status}");
    assert!(body.is_empty() || serde_json::from_str::<Value>(&body).is_ok(), "{body}");
    let _ = receiver::lacks_keys_of(POLICY.signals(), &text);
    let taken = matches!(received, Received::Applied(_));
    assert!(taken || ports.store.written.is_empty(), "what was refused changes nothing");
    let again = receiver::receive(POLICY.signals(), POLICY.issuers(), &head, &text, &mut ports, NOW);
    assert_eq!(receiver::answer(&again).0, status, "the same signal, pushed twice");
    if taken {
        World::new(our_policy(), ports).passes(&compact(GOOD_TOKEN));
    }
    taken
}

/// A DPoP proof (RFC 9449 section 4.2); bytes as for [`token`].
pub fn proof(bytes: &[u8]) -> bool {
    let text = compact(bytes);
    // The key of the proof, as if the token were bound to it: else nothing gets behind that check.
    let jwk = Unverified::parse_with_key(&text, dpop::MAX_PROOF).ok().map(|(_, jwk)| jwk);
    let key: Digest = jwk.as_ref().and_then(thumbprint::thumbprint).unwrap_or_default();
    let expected = dpop::Expected {
        method: b"GET",
        scheme: b"https",
        authority: b"orders.mesh",
        path: b"/v1/orders/1881?page=2",
        token: b"the-token",
        key: &key,
    };
    let settings = dpop::Settings { algorithms: Algorithm::ALL.to_vec(), ..dpop::Settings::default() };
    let believed = dpop::verify(&text, expected, &settings, None, &mut Credulous, NOW);
    let another = [0xA5; 32];
    let stolen =
        dpop::verify(&text, dpop::Expected { key: &another, ..expected }, &settings, None, &mut Credulous, NOW);
    assert!(stolen.is_err(), "a proof by another key");
    if dpop::verify(&text, expected, &settings, None, &mut PureRust, NOW).is_ok() {
        assert!(believed.is_ok(), "a signature can only refuse");
    }
    if let Ok(proof) = &believed {
        assert_eq!(proof.key(), &key);
        assert!(proof.until() >= NOW);
    }
    if let Ok(uri) = std::str::from_utf8(bytes)
        && let Some(normal) = dpop::normalise(uri)
    {
        assert_eq!(dpop::normalise(&normal).as_deref(), Some(normal.as_str()), "normalised twice");
    }
    believed.is_ok()
}

/// A `:path`, and an `:authority`.
pub fn path(bytes: &[u8]) -> bool {
    if let Ok(host) = Host::parse(bytes) {
        assert!(host.is(host.as_str()) && Host::parse(host.as_str().as_bytes()).is_ok());
    }
    let Ok(path) = Canonical::parse(bytes) else { return false };
    let text = path.as_str();
    assert!(text.starts_with('/') && text.is_ascii() && !text.contains(['?', '#', '\\', ';']), "{text:?}");
    assert_eq!(Canonical::parse(text.as_bytes()).as_ref(), Ok(&path), "read twice");
    for segment in path.segments().skip(1) {
        assert!(!matches!(segment, "." | ".."), "{text:?}");
    }
    true
}

/// A configuration, and a request judged under it.
pub fn config(bytes: &[u8]) -> bool {
    match load::load(bytes) {
        Err(errors) => {
            assert!(!errors.to_string().is_empty());
            false
        }
        Ok(loaded) => {
            for warning in &loaded.warnings {
                assert!(!warning.to_string().is_empty());
            }
            World::new(loaded.policy, FuzzPorts::default()).passes(&compact(GOOD_TOKEN));
            true
        }
    }
}

/// The compact serialization of bytes that are its parts in clear, or the bytes as they are.
pub fn compact(bytes: &[u8]) -> Vec<u8> {
    if bytes.first() != Some(&b'{') {
        return bytes.to_vec();
    }
    let mut parts = bytes.splitn(2, |byte| *byte == b'\n');
    let mut part = || URL_SAFE_NO_PAD.encode(parts.next().unwrap_or_default());
    format!("{}.{}.{}", part(), part(), URL_SAFE_NO_PAD.encode([0x5A; 64])).into_bytes()
}

/// A judge with a state of its own.
struct World {
    judge: Judge,
    ports: FuzzPorts,
}

impl World {
    fn new(policy: Policy, ports: FuzzPorts) -> World {
        World { judge: Judge::new(policy), ports }
    }

    /// Whether a request with this token passes.
    fn passes(&mut self, token: &[u8]) -> bool {
        let header = [b"Bearer ", token].concat();
        let headers: [(&[u8], &[u8]); 5] = [
            (b":method", b"GET"),
            (b":scheme", b"https"),
            (b":authority", b"orders.mesh"),
            (b":path", b"/v1/orders/1881"),
            (b"authorization", &header),
        ];
        self.judge.judge(&Request::from_headers(headers), &mut self.ports, NOW).is_ok()
    }
}

/// Believes every signature, so that what stands behind that check is reached.
#[derive(Default)]
struct Credulous;

impl CheckSignature for Credulous {
    fn check(&mut self, _: &Unverified<'_>, _: &Key, _: Algorithm) -> bool {
        true
    }
}

/// The host of a request: it believes every signature and knows nothing about its clients.
type FuzzPorts = Ports<OverlayStore, Credulous, UnknownConnection>;

/// A state that begins as [`EMPTY`].
#[derive(Default)]
struct OverlayStore {
    written: HashMap<Slot, Stored>,
}

/// A state that was set up, which takes longer than everything else.
static EMPTY: LazyLock<Mutex<MemoryStore>> = LazyLock::new(|| {
    let mut store = MemoryStore::default();
    revocations::set_up(&mut store, 1).expect("an empty store");
    Mutex::new(store)
});

/// A proxy that knows nothing about its clients.
#[derive(Default)]
struct UnknownConnection;

impl ConnectionInfo for UnknownConnection {
    fn source(&mut self) -> Option<IpAddr> {
        None
    }

    fn route_metadata(&mut self, _: &str) -> Option<Vec<u8>> {
        None
    }
}

impl Store for OverlayStore {
    fn read(&mut self, slot: Slot) -> Result<Option<Stored>, StoreError> {
        match self.written.get(&slot) {
            Some(stored) => Ok(Some(stored.clone())),
            None => EMPTY.lock().unwrap_or_else(PoisonError::into_inner).read(slot),
        }
    }

    fn swap(&mut self, slot: Slot, bytes: &[u8], cas: u32) -> Result<bool, StoreError> {
        let Some(stored) = self.read(slot)?.filter(|stored| stored.cas == cas) else { return Ok(false) };
        self.written.insert(slot, Stored { bytes: bytes.to_vec(), cas: stored.cas.wrapping_add(1) });
        Ok(true)
    }

    fn seed(&mut self, slot: Slot, bytes: &[u8]) -> Result<(), StoreError> {
        self.written.insert(slot, Stored { bytes: bytes.to_vec(), cas: 1 });
        Ok(())
    }
}

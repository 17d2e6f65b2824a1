//! What surrounds the judge when there is no proxy: a state in memory, pure-Rust signatures, and what the command says
//! about where the request came from.

use std::collections::{BTreeMap, HashSet};
use std::net::IpAddr;

use serde_json::Value;
use taskfence_core::confirmation::Digest;
use taskfence_core::freshness::Pulse;
use taskfence_core::jws::Unverified;
use taskfence_core::key::{Algorithm, Key};
use taskfence_core::nonce;
use taskfence_core::policy::Policy;
use taskfence_core::receiver;
use taskfence_core::signal::{self, MAX_SET, SetErrorCode, Signal};
use taskfence_core::signature::{CheckSignature, PureRust};
use taskfence_core::state::{self, MemoryStore, Slot, Store, StoreError, Stored};
use taskfence_core::surroundings::Surroundings;
use taskfence_core::time::Timestamp;

use crate::exit::Failure;
use crate::jwks;

/// The surroundings of one request.
#[derive(Debug, Default)]
pub struct World {
    store: MemoryStore,
    /// The address that the request comes from.
    pub source: Option<IpAddr>,
    /// The digest of the client's certificate.
    pub peer_certificate: Option<Digest>,
    /// The first URI in it.
    pub peer_uri: Option<String>,
    /// Metadata of the route.
    pub metadata: BTreeMap<String, String>,
    /// Tokens and SETs that this run made up: their signatures count as good.
    pub made_up: HashSet<String>,
}

impl World {
    /// A world in which nothing was heard of any transmitter. It wants a judge of its own.
    pub fn new() -> Result<Self, StoreError> {
        let mut world = Self::default();
        state::set_up(&mut world.store, 0)?;
        nonce::set_up(&mut world.store, [0; 32])?;
        Ok(world)
    }

    /// Every transmitter of `policy` gave a sign of life at that time.
    pub fn heard_at(&mut self, at: Timestamp, policy: &Policy) -> Result<(), StoreError> {
        for transmitter in policy.signals().transmitters() {
            state::hear(&mut self.store, &Pulse::new(&transmitter.name, at), at)?;
        }
        Ok(())
    }

    /// Takes a SET in as the receiver would, at `now`. The push is taken to have carried the `authorization` that its
    /// transmitter agreed on.
    pub fn take_in(&mut self, name: &str, set: &[u8], policy: &Policy, now: Timestamp) -> Result<Signal, Failure> {
        let transmitters = policy.signals().transmitters();
        let authorization = issuer(set)
            .and_then(|issuer| transmitters.iter().find(|transmitter| transmitter.name == issuer))
            .and_then(|transmitter| transmitter.authorization.clone());
        let authorization = authorization.as_deref().map(str::as_bytes);
        let signal = signal::read(set, authorization, transmitters, policy.issuers(), self, now).map_err(|error| {
            let sender = transmitters.iter().find(|transmitter| Some(&transmitter.name) == issuer(set).as_ref());
            if let Some(sender) = sender.filter(|_| error.code == SetErrorCode::KeysUnavailable) {
                return jwks::needed(&sender.name, &sender.keys);
            }
            Failure::Signal { name: name.to_owned(), err: error.code.code(), description: error.description }
        })?;
        if receiver::take_in(&mut self.store, &signal, now)? {
            return Ok(signal);
        }
        let description = "jti was used before for something else".to_owned();
        Err(Failure::Signal { name: name.to_owned(), err: "invalid_request", description })
    }
}

/// The `iss` that a SET names; not yet believed.
fn issuer(set: &[u8]) -> Option<String> {
    let set = Unverified::parse(set, MAX_SET).ok()?;
    set.claims().get("iss").and_then(Value::as_str).map(str::to_owned)
}

impl Store for World {
    fn read(&mut self, slot: Slot) -> Result<Option<Stored>, StoreError> {
        self.store.read(slot)
    }

    fn swap(&mut self, slot: Slot, bytes: &[u8], cas: u32) -> Result<bool, StoreError> {
        self.store.swap(slot, bytes, cas)
    }

    fn seed(&mut self, slot: Slot, bytes: &[u8]) -> Result<(), StoreError> {
        self.store.seed(slot, bytes)
    }
}

impl CheckSignature for World {
    fn check(&mut self, token: &Unverified<'_>, key: &Key, algorithm: Algorithm) -> bool {
        self.made_up.contains(token.text()) || PureRust.check(token, key, algorithm)
    }
}

impl Surroundings for World {
    fn source(&mut self) -> Option<IpAddr> {
        self.source
    }

    fn route_metadata(&mut self, name: &str) -> Option<Vec<u8>> {
        self.metadata.get(name).map(|value| value.clone().into_bytes())
    }

    fn peer_certificate(&mut self) -> Option<Digest> {
        self.peer_certificate
    }

    fn peer_uri(&mut self) -> Option<String> {
        self.peer_uri.clone()
    }
}

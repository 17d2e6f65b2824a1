//! What surrounds the judge when there is no proxy: a state in memory, pure-Rust signatures, and what the command says
//! about where the request came from.

use std::collections::{BTreeMap, HashSet};
use std::net::IpAddr;
use taskfence_core::encoding::secret::Secret;

use taskfence_core::encoding::digest::Digest;
use taskfence_core::http::connection::ConnectionInfo;
use taskfence_core::jose::algorithm::Algorithm;
use taskfence_core::jose::jws::Unverified;
use taskfence_core::jose::key::Key;
use taskfence_core::jose::signature::{CheckSignature, PureRust};
use taskfence_core::policy::policy::Policy;
use taskfence_core::ports::Ports;
use taskfence_core::signal::accepted::Signal;
use taskfence_core::signal::receiver;
use taskfence_core::signal::set;
use taskfence_core::signal::set::MAX_SET;
use taskfence_core::signal::set_error::SetErrorCode;
use taskfence_core::signal::transmitter::Transmitter;
use taskfence_core::state::coverage::FeedStatus;
use taskfence_core::state::freshness::Heartbeat;
use taskfence_core::state::revocations;
use taskfence_core::state::store::{MemoryStore, StoreError};
use taskfence_core::time::Timestamp;
use taskfence_core::token::dpop_nonce;

use crate::failure::Failure;
use crate::offline::jwks_files;

/// The surroundings of one request.
#[derive(Debug, Default)]
pub struct OfflineHost {
    /// What the judge uses of it.
    pub ports: Ports<MemoryStore, OfflineSignatures, OfflineConnection>,
}

/// Checks signatures in pure Rust.
#[derive(Debug, Default)]
pub struct OfflineSignatures {
    /// Tokens and SETs that this run made up: their signatures count as good.
    pub made_up: HashSet<String>,
}

/// What the command says about the connection of the request.
#[derive(Debug, Default)]
pub struct OfflineConnection {
    /// The address that the request comes from.
    pub source: Option<IpAddr>,
    /// The digest of the client's certificate.
    pub peer_certificate: Option<Digest>,
    /// The first URI in it.
    pub peer_uri: Option<String>,
    /// Metadata of the route.
    pub metadata: BTreeMap<String, String>,
}

impl OfflineHost {
    /// A host whose state is empty: no transmitter was heard of. Use one for each judge.
    pub fn new() -> Result<Self, StoreError> {
        let mut host = Self::default();
        revocations::set_up(&mut host.ports.store, 0)?;
        dpop_nonce::set_up(&mut host.ports.store, [0; 32])?;
        Ok(host)
    }

    /// Every transmitter of `policy` gave a sign of life at that time.
    pub fn heard_at(&mut self, at: Timestamp, policy: &Policy) -> Result<(), StoreError> {
        for transmitter in policy.signals().transmitters() {
            revocations::record_heartbeat(&mut self.ports.store, &Heartbeat::new(&transmitter.stream, at), at)?;
        }
        Ok(())
    }

    /// The filter has caught up with the feed of its hub, if it follows one: the feed covers every issuer, holds no signal
    /// yet, and the hub had heard of all transmitters at `at`.
    pub fn catch_up(&mut self, at: Timestamp, policy: &Policy) -> Result<(), StoreError> {
        let Some(hub) = policy.signals().hub() else { return Ok(()) };
        let status = FeedStatus { feed: hub.id, caught_up: true, issuers: hub.needed.clone() };
        let beats = hub
            .needed
            .iter()
            .map(|issuer| Heartbeat { transmitter: issuer.id.transmitter(hub.id), ..Heartbeat::new(&hub.hub, at) });
        let beats: Vec<_> = beats.collect();
        revocations::announce(&mut self.ports.store, &[], |known| {
            known.feeds.note(status.clone());
            beats.iter().for_each(|beat| known.freshness.note(beat, at));
        })
    }

    /// Takes a SET in as the receiver would, at `now`. The push is taken to have carried the `authorization` that its
    /// transmitter agreed on.
    pub fn take_in(&mut self, name: &str, set: &[u8], policy: &Policy, now: Timestamp) -> Result<Signal, Failure> {
        let transmitters = policy.signals().transmitters();
        if transmitters.is_empty() && policy.signals().hub().is_some() {
            let description = "this filter takes no signals itself, its hub does; who may send them stands in the configuration of the hub";
            let (name, description) = (name.to_owned(), description.to_owned());
            return Err(Failure::Signal { name, err: SetErrorCode::InvalidIssuer.code(), description });
        }
        let candidates = candidates(set, transmitters);
        // A push carries one header, and the streams of one transmitter may have agreed on different ones.
        let mut streams = candidates.iter().map(|stream| stream.authorization.clone());
        let mut read = |authorization: Option<Secret>| {
            let authorization = authorization.as_ref().map(|secret| secret.reveal().as_bytes());
            set::read(set, authorization, transmitters, policy.issuers(), &mut self.ports.signatures, now)
        };
        let first = read(streams.next().flatten());
        let signal =
            streams.fold(first, |known, authorization| known.or_else(|error| read(authorization).or(Err(error))));
        let signal = signal.map_err(|error| {
            let sender = candidates.first().filter(|_| error.code == SetErrorCode::KeysUnavailable);
            if let Some(sender) = sender {
                return jwks_files::needed(&sender.name, &sender.keys);
            }
            Failure::Signal { name: name.to_owned(), err: error.code.code(), description: error.description }
        })?;
        if receiver::store_signal(&mut self.ports.store, &signal, now)? {
            return Ok(signal);
        }
        let description = "jti was used before for something else".to_owned();
        Err(Failure::Signal { name: name.to_owned(), err: "invalid_request", description })
    }
}

/// The streams that a SET may have come over; not yet believed.
fn candidates<'t>(set: &[u8], transmitters: &'t [Transmitter]) -> Vec<&'t Transmitter> {
    let Ok(set) = Unverified::parse(set, MAX_SET) else { return Vec::new() };
    let places = set::candidates(set.claims(), transmitters);
    places.into_iter().filter_map(|at| at.of(transmitters)).collect()
}

impl CheckSignature for OfflineSignatures {
    fn check(&mut self, token: &Unverified<'_>, key: &Key, algorithm: Algorithm) -> bool {
        self.made_up.contains(token.text()) || PureRust.check(token, key, algorithm)
    }
}

impl ConnectionInfo for OfflineConnection {
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

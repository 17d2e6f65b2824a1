//! What the judge needs of Envoy: shared data as its store, signature checks, and facts about the connection.

use crate::change_gauge;
use crate::envoy_signature;
use crate::host::{self, HostError};
use std::net::IpAddr;
use taskfence_core::http::connection::{ConnectionInfo, parse_address, parse_digest, parse_peer};
use taskfence_core::jose::algorithm::Algorithm;
use taskfence_core::jose::jws::Unverified;
use taskfence_core::jose::key::Key;
use taskfence_core::jose::signature::CheckSignature;
use taskfence_core::ports::Ports;
use taskfence_core::state::coverage::FeedId;
use taskfence_core::state::store::SourceId;
use taskfence_core::state::store::{Slot, Store, StoreError, Stored};

/// Envoy, as the judge and the receiver see it. Its parts hold no data, so making it costs nothing.
pub const fn envoy() -> Ports<SharedData, EnvoySignatures, EnvoyConnection> {
    Ports { store: SharedData, signatures: EnvoySignatures, connection: EnvoyConnection }
}

/// The shared data of the VM, which all workers see.
#[derive(Debug, Clone, Copy)]
pub struct SharedData;

/// Signatures, checked by Envoy where it can, see [`envoy_signature`].
#[derive(Debug, Clone, Copy)]
pub struct EnvoySignatures;

/// The properties of the request whose context is the current one.
#[derive(Debug, Clone, Copy)]
pub struct EnvoyConnection;

impl Store for SharedData {
    fn read(&mut self, slot: Slot) -> Result<Option<Stored>, StoreError> {
        let stored = host::shared_data(key(slot).as_bytes()).map_err(|_| StoreError::Failed)?;
        Ok(stored.map(|(bytes, cas)| Stored { bytes, cas }))
    }

    fn swap(&mut self, slot: Slot, bytes: &[u8], cas: u32) -> Result<bool, StoreError> {
        match host::set_shared_data(key(slot).as_bytes(), bytes, cas) {
            Ok(()) => Ok(true),
            Err(HostError::CasMismatch) => Ok(false),
            Err(HostError::NotFound | HostError::BadArgument | HostError::Other(_)) => Err(StoreError::Failed),
        }
    }

    fn seed(&mut self, slot: Slot, bytes: &[u8]) -> Result<(), StoreError> {
        host::set_shared_data(key(slot).as_bytes(), bytes, 0).map_err(|_| StoreError::Failed)
    }

    fn doorbell(&mut self) -> Option<u64> {
        change_gauge::number()
    }

    fn ring(&mut self) -> Result<(), StoreError> {
        change_gauge::ring().map_err(|_| StoreError::Failed)
    }
}

impl ConnectionInfo for EnvoyConnection {
    fn source(&mut self) -> Option<IpAddr> {
        parse_address(&host::property(b"source\0address")?)
    }

    fn route_metadata(&mut self, name: &str) -> Option<Vec<u8>> {
        host::property(format!("xds\0route_metadata\0filter_metadata\0taskfence\0{name}").as_bytes())
    }

    fn peer_certificate(&mut self) -> Option<[u8; 32]> {
        if !has_peer() {
            return None;
        }
        peer_digest()
    }

    fn peer_uri(&mut self) -> Option<String> {
        if !has_peer() {
            return None;
        }
        peer_uri()
    }
}

/// The URI and the digest in the certificate of the client; neither without a certificate.
pub fn peer() -> (Option<String>, Option<[u8; 32]>) {
    match has_peer() {
        true => (peer_uri(), peer_digest()),
        false => (None, None),
    }
}

fn peer_digest() -> Option<[u8; 32]> {
    parse_digest(&host::property(b"connection\0sha256_peer_certificate_digest")?)
}

fn peer_uri() -> Option<String> {
    parse_peer(&host::property(b"connection\0uri_san_peer_certificate")?)
}

/// Whether the client showed a certificate in the TLS handshake. What a header says about one (XFCC) is never asked:
/// anybody can write that.
fn has_peer() -> bool {
    host::property(b"connection\0mtls").is_some_and(|value| value == [1])
}

impl CheckSignature for EnvoySignatures {
    fn check(&mut self, token: &Unverified<'_>, key: &Key, algorithm: Algorithm) -> bool {
        envoy_signature::check(token, key, algorithm)
    }
}

/// Names of shared data: a few bytes, made without an allocation for the one that every request reads.
///
/// The number is the layout. A module of another layout may run beside this one while its configuration drains, so what
/// changes its form gets a new number. Keys and what was spent have kept theirs: both modules share them.
fn key(slot: Slot) -> std::borrow::Cow<'static, str> {
    match slot {
        Slot::Version => "taskfence/3/version".into(),
        Slot::Journal => "taskfence/3/journal".into(),
        Slot::Ring(number) => format!("taskfence/3/ring/{number}").into(),
        Slot::Bucket(number) => format!("taskfence/3/bucket/{number}").into(),
        Slot::KeyStatus(SourceId(id)) => format!("taskfence/1/keys/{:032x}/status", u128::from_be_bytes(id)).into(),
        Slot::KeyRecord(SourceId(id)) => format!("taskfence/1/keys/{:032x}/record", u128::from_be_bytes(id)).into(),
        Slot::Replay(number) => format!("taskfence/1/replay/{number}").into(),
        Slot::FeedPosition(FeedId(id)) => format!("taskfence/3/feed/{:016x}", u64::from_be_bytes(id)).into(),
        Slot::FeedLease(FeedId(id), keys) => {
            format!("taskfence/3/feed/{:016x}/lease/{:016x}", u64::from_be_bytes(id), u64::from_be_bytes(keys)).into()
        }
        Slot::Uses(FeedId(id)) => format!("taskfence/3/feed/{:016x}/uses", u64::from_be_bytes(id)).into(),
        Slot::UsesBatch(FeedId(id), place) => {
            format!("taskfence/3/feed/{:016x}/uses/{place}", u64::from_be_bytes(id)).into()
        }
        Slot::NonceSecret => "taskfence/1/nonce_secret".into(),
    }
}

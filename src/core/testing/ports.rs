//! The one double of the host for the tests of all rooms. What a test does not set delegates to the real thing.

use crate::http::connection::ConnectionInfo;
use crate::jose::algorithm::Algorithm;
use crate::jose::jws::Unverified;
use crate::jose::key::Key;
use crate::jose::signature::{CheckSignature, PureRust};
use crate::ports::Ports;
use crate::state::store::{MemoryStore, Slot, Store, StoreError, Stored};
use std::net::IpAddr;

/// A host of which a test can set and observe every part.
pub(crate) type TestPorts = Ports<TestStore, TestSignatures, TestConnection>;

/// What another worker does to the memory right after a read of that slot.
pub(crate) type OtherWorker = Box<dyn FnMut(Slot, &mut MemoryStore)>;

/// A [`MemoryStore`] that counts its reads, can fail, and can be written by another worker at the worst moment.
#[derive(Default)]
pub(crate) struct TestStore {
    /// What is stored. Reads that go here directly are not counted.
    pub(crate) memory: MemoryStore,
    /// How many reads there were.
    pub(crate) reads: usize,
    /// Whether every read fails.
    pub(crate) lost: bool,
    /// Runs after each read, before the reader gets the answer.
    pub(crate) after_read: Option<OtherWorker>,
}

impl TestStore {
    /// An empty store that has a doorbell.
    pub(crate) fn with_doorbell() -> TestStore {
        TestStore { memory: MemoryStore::with_doorbell(), ..TestStore::default() }
    }
}

impl Store for TestStore {
    fn read(&mut self, slot: Slot) -> Result<Option<Stored>, StoreError> {
        self.reads = self.reads.saturating_add(1);
        if self.lost {
            return Err(StoreError::Failed);
        }
        let stored = self.memory.read(slot);
        if let Some(other) = &mut self.after_read {
            other(slot, &mut self.memory);
        }
        stored
    }

    fn swap(&mut self, slot: Slot, bytes: &[u8], cas: u32) -> Result<bool, StoreError> {
        self.memory.swap(slot, bytes, cas)
    }

    fn seed(&mut self, slot: Slot, bytes: &[u8]) -> Result<(), StoreError> {
        self.memory.seed(slot, bytes)
    }

    fn doorbell(&mut self) -> Option<u64> {
        self.memory.doorbell()
    }

    fn ring(&mut self) -> Result<(), StoreError> {
        self.memory.ring()
    }
}

/// Checks signatures with [`PureRust`] and counts the checks.
#[derive(Debug, Default)]
pub(crate) struct TestSignatures {
    /// How many signatures were checked.
    pub(crate) checks: usize,
    /// Whether every signature counts as good, for tests that are not about signatures.
    pub(crate) trusting: bool,
}

impl CheckSignature for TestSignatures {
    fn check(&mut self, token: &Unverified<'_>, key: &Key, algorithm: Algorithm) -> bool {
        self.checks = self.checks.saturating_add(1);
        self.trusting || PureRust.check(token, key, algorithm)
    }
}

/// A connection with the values that a test sets; nothing is known by default.
#[derive(Debug, Default)]
pub(crate) struct TestConnection {
    /// The address of the client.
    pub(crate) source: Option<IpAddr>,
    /// The metadata of the route: names and values.
    pub(crate) metadata: Vec<(String, String)>,
    /// The digest of the client's certificate.
    pub(crate) peer_certificate: Option<[u8; 32]>,
    /// The first URI in that certificate.
    pub(crate) peer_uri: Option<&'static str>,
    /// How many questions were asked, of any kind.
    pub(crate) questions: usize,
}

impl TestConnection {
    fn count(&mut self) {
        self.questions = self.questions.saturating_add(1);
    }
}

impl ConnectionInfo for TestConnection {
    fn source(&mut self) -> Option<IpAddr> {
        self.count();
        self.source
    }

    fn route_metadata(&mut self, name: &str) -> Option<Vec<u8>> {
        self.count();
        self.metadata.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone().into_bytes())
    }

    fn peer_certificate(&mut self) -> Option<[u8; 32]> {
        self.count();
        self.peer_certificate
    }

    fn peer_uri(&mut self) -> Option<String> {
        self.count();
        self.peer_uri.map(str::to_owned)
    }
}

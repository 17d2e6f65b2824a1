//! Memory that all workers share, with compare-and-swap.

use crate::encoding::digest::short_hash;
pub use crate::state::corrupt::Corrupt;

/// A slot of the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Slot {
    /// The version, which every request reads: a few bytes.
    Version,
    /// The journal, read only when the version has moved.
    Journal,
    /// The bucket of that number, below [`crate::state::key::BUCKETS`].
    Bucket(u16),
    /// The status of fetching the keys of that source: see [`crate::keys::fetch`].
    KeyStatus(SourceId),
    /// The keys of that source, as last fetched.
    KeyRecord(SourceId),
    /// The bucket of that number of recorded uses; see [`crate::state::single_use`].
    Replay(u16),
    /// The secret of [`crate::token::dpop_nonce`].
    NonceSecret,
    /// The ring of that number of recent SETs, below [`crate::state::seen_sets::RINGS`].
    Ring(u16),
    /// How far this proxy has followed that feed.
    FeedPosition(FeedId),
    /// Which VM follows that feed, with keys of that hash.
    FeedLease(FeedId, [u8; 8]),
    /// Which VMs count uses for that feed: see [`crate::uses::roster`].
    Uses(FeedId),
    /// The batch of uses in the place of that number.
    UsesBatch(FeedId, u16),
}

/// The result of a read: the bytes, and the number that [`Store::swap`] needs to replace exactly this value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// The value.
    pub bytes: Vec<u8>,
    /// Changes with every write.
    pub cas: u32,
}

/// Memory that all workers share, with compare-and-swap.
pub trait Store {
    /// Reads a slot; `None` when it was never written.
    fn read(&mut self, slot: Slot) -> Result<Option<Stored>, StoreError>;

    /// Writes a slot if it was not written since it was read with `cas`. `Ok(false)`: it was written in between.
    fn swap(&mut self, slot: Slot, bytes: &[u8], cas: u32) -> Result<bool, StoreError>;

    /// Writes a slot that was never written.
    fn seed(&mut self, slot: Slot, bytes: &[u8]) -> Result<(), StoreError>;

    /// The change counter: each [`Store::ring`] gives it a value that it never had before. `None` when there is no
    /// counter; then the version must be read each time.
    fn doorbell(&mut self) -> Option<u64> {
        None
    }

    /// Increments the change counter, if there is one. A reader that sees the new number sees everything that was
    /// written before.
    fn ring(&mut self) -> Result<(), StoreError> {
        Ok(())
    }
}

/// Why the state could not be read or written. None of these means "no revocations".
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// The store failed.
    #[error("the store failed")]
    Failed,
    /// The state was never set up.
    #[error("the state was never set up")]
    Absent,
    /// The store holds other bytes than this version writes.
    #[error("the store holds bytes of another format")]
    Corrupt,
    /// Too many writers wrote at once.
    #[error("too many writers at once")]
    Contended,
    /// A bucket has no room for an entry, see [`crate::state::room`]; the grants that it may be about are marked as
    /// uncertain.
    #[error("the state has no room for a signal of this kind by this transmitter; it must be pushed again")]
    Saturated,
}

impl From<Corrupt> for StoreError {
    fn from(Corrupt: Corrupt) -> StoreError {
        StoreError::Corrupt
    }
}

/// A store in memory, for tests and for tools that evaluate without a proxy.
#[derive(Debug, Default)]
pub struct MemoryStore {
    slots: hashbrown::HashMap<Slot, Stored>,
    doorbell: Option<u64>,
}

impl MemoryStore {
    /// An empty store with a change counter.
    pub fn with_doorbell() -> MemoryStore {
        MemoryStore { slots: hashbrown::HashMap::new(), doorbell: Some(0) }
    }
}

impl Store for MemoryStore {
    fn read(&mut self, slot: Slot) -> Result<Option<Stored>, StoreError> {
        Ok(self.slots.get(&slot).cloned())
    }

    fn swap(&mut self, slot: Slot, bytes: &[u8], cas: u32) -> Result<bool, StoreError> {
        let Some(stored) = self.slots.get_mut(&slot).filter(|stored| stored.cas == cas) else { return Ok(false) };
        *stored = Stored { bytes: bytes.to_vec(), cas: cas.wrapping_add(1) };
        Ok(true)
    }

    fn seed(&mut self, slot: Slot, bytes: &[u8]) -> Result<(), StoreError> {
        self.slots.insert(slot, Stored { bytes: bytes.to_vec(), cas: 1 });
        Ok(())
    }

    fn doorbell(&mut self) -> Option<u64> {
        self.doorbell
    }

    fn ring(&mut self) -> Result<(), StoreError> {
        self.doorbell = self.doorbell.map(|number| number.wrapping_add(1));
        Ok(())
    }
}

/// The id of a key source in the shared memory: sources with the same cluster, host and path share their keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SourceId(pub [u8; 16]);

/// A feed of a hub, by a hash of both names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FeedId(pub [u8; 8]);

impl FeedId {
    /// The feed `feed` of the hub that signs as `hub`.
    pub fn new(hub: &str, feed: &str) -> FeedId {
        FeedId(short_hash(&[hub, feed]))
    }
}

/// A writer gives up after it lost the compare-and-swap this many times.
pub(crate) const MAX_TRIES: usize = 10_000;

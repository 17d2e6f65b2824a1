//! Memory that all workers share, with compare-and-swap.

/// A place in the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Slot {
    /// The version, which every request reads: a few bytes.
    Version,
    /// The journal, read only when the version has moved.
    Journal,
    /// The bucket of that number, below [`BUCKETS`].
    Bucket(u16),
    /// How fetching the keys of that source goes: see [`crate::keys::fetch`].
    KeyStatus(SourceId),
    /// The keys of that source as they were last fetched.
    KeyRecord(SourceId),
    /// The bucket of that number of what was spent; see [`crate::state::single_use`].
    Replay(u16),
    /// The secret of [`crate::token::dpop_nonce`].
    NonceSecret,
    /// The ring of that number of the SETs that came lately, below [`seen_sets::RINGS`].
    Ring(u16),
}

/// What a store answers to a read: the bytes, and a mark of this very value for [`Store::swap`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// The value.
    pub bytes: Vec<u8>,
    /// Moves with every write.
    pub cas: u32,
}

/// Memory that all workers share, with compare-and-swap.
pub trait Store {
    /// Reads a slot; `None` when it was never written.
    fn read(&mut self, slot: Slot) -> Result<Option<Stored>, StoreError>;

    /// Writes a slot that still holds what `cas` was read with. `Ok(false)`: it does not any more.
    fn swap(&mut self, slot: Slot, bytes: &[u8], cas: u32) -> Result<bool, StoreError>;

    /// Writes a slot that was never written.
    fn seed(&mut self, slot: Slot, bytes: &[u8]) -> Result<(), StoreError>;

    /// The number on the doorbell: after each [`Store::ring`] it is one that it was never before. `None` where there is no
    /// doorbell, and the version has to be read each time.
    fn doorbell(&mut self) -> Option<u64> {
        None
    }

    /// Rings the doorbell, if there is one. What was written before is seen by whoever reads the new number.
    fn ring(&mut self) -> Result<(), StoreError> {
        Ok(())
    }
}

/// Why the state could not be read or written. Nothing of it says "no revocations".
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
    /// Too many writers at once.
    #[error("too many writers at once")]
    Contended,
    /// A bucket has no room for what was said, see [`crate::state::room`]; what it may be about is in doubt.
    #[error("the state has no room for a signal of this kind by this transmitter; it must be pushed again")]
    Saturated,
}

impl From<Corrupt> for StoreError {
    fn from(Corrupt: Corrupt) -> StoreError {
        StoreError::Corrupt
    }
}

/// A store in memory, for tests and for tools that judge without a proxy.
#[derive(Debug, Default)]
pub struct MemoryStore {
    slots: hashbrown::HashMap<Slot, Stored>,
    doorbell: Option<u64>,
}

impl MemoryStore {
    /// An empty store that has a doorbell.
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

/// Bytes that are not a table. State that cannot be read is not the absence of revocations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the state holds bytes that are not a table of this version")]
pub struct Corrupt;

/// What tells one source from another in the shared memory: the same cluster, host and path are the same keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SourceId(pub [u8; 16]);

/// A writer that keeps losing its race gives up after this many tries.
pub(crate) const MAX_TRIES: usize = 10_000;

//! The pushed state: buckets of tables in the proxy's shared data, and one version that every change moves.
//!
//! A change is written to its bucket first and to the version second, and only then answered. A reader takes the
//! version first and the buckets second. So whoever starts after the answer sees a version that is new to it, and
//! nobody can keep an old bucket under a new version.

use crate::table::{Corrupt, Entry, Table};
use crate::time::Timestamp;

/// How many buckets there are. Part of the stored format.
pub const BUCKETS: u16 = 4096;

/// The version remembers which buckets this many last changes touched. Part of the stored format.
const JOURNAL: u64 = 64;

const JOURNAL_LEN: usize = 64;

/// A bucket takes this many entries: four million over all buckets.
pub const BUCKET_CAPACITY: usize = 1024;

/// A writer that keeps losing its race gives up after this many tries.
const MAX_TRIES: usize = 10_000;

/// A place in the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Slot {
    /// The version.
    Version,
    /// The bucket of that number, below [`BUCKETS`].
    Bucket(u16),
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
    /// A bucket is full; the grants in it are refused until there is room.
    #[error("the state is full")]
    Saturated,
}

impl From<Corrupt> for StoreError {
    fn from(Corrupt: Corrupt) -> StoreError {
        StoreError::Corrupt
    }
}

/// Sets the state up where it is not yet. `epoch` is a random number: it tells a new beginning from the old state.
///
/// A store has no way to create a slot only if it is absent, so this must run where nobody can write yet: while the
/// first configuration is loaded on the proxy's main thread.
pub fn set_up(store: &mut impl Store, epoch: u64) -> Result<(), StoreError> {
    if store.read(Slot::Version)?.is_some() {
        return Ok(());
    }
    let empty = Table::default().encode();
    for bucket in 0..BUCKETS {
        store.seed(Slot::Bucket(bucket), &empty)?;
    }
    store.seed(Slot::Version, &Version::new(epoch).encode())
}

/// Takes `entries` in, which an authenticated transmitter sent. When this returns `Ok`, whoever reads the version from
/// now on sees them all. No entries at all still say that the transmitter is alive.
pub fn apply(store: &mut impl Store, entries: &[Entry], now: Timestamp) -> Result<(), StoreError> {
    let mut saturated = false;
    for entry in entries {
        let bucket = entry.key.bucket();
        saturated |= !insert(store, bucket, entry, now)?;
        bump(store, Some(bucket), now)?;
    }
    if entries.is_empty() {
        bump(store, None, now)?;
    }
    if saturated { Err(StoreError::Saturated) } else { Ok(()) }
}

fn insert(store: &mut impl Store, bucket: u16, entry: &Entry, now: Timestamp) -> Result<bool, StoreError> {
    for _ in 0..MAX_TRIES {
        let stored = store.read(Slot::Bucket(bucket))?.ok_or(StoreError::Absent)?;
        let mut table = Table::decode(&stored.bytes)?;
        let fits = table.insert(entry.clone(), BUCKET_CAPACITY, now);
        if store.swap(Slot::Bucket(bucket), &table.encode(), stored.cas)? {
            return Ok(fits);
        }
    }
    Err(StoreError::Contended)
}

fn bump(store: &mut impl Store, bucket: Option<u16>, now: Timestamp) -> Result<(), StoreError> {
    for _ in 0..MAX_TRIES {
        let stored = store.read(Slot::Version)?.ok_or(StoreError::Absent)?;
        let mut version = Version::decode(&stored.bytes)?;
        version.fresh_at = version.fresh_at.max(now);
        if let Some(bucket) = bucket {
            version.touch(bucket);
        }
        if store.swap(Slot::Version, &version.encode(), stored.cas)? {
            return Ok(());
        }
    }
    Err(StoreError::Contended)
}

/// The version: a count of changes since `epoch`, and the buckets that the last changes touched.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Version {
    epoch: u64,
    count: u64,
    /// When an authenticated signal last came in.
    fresh_at: Timestamp,
    journal: [u16; JOURNAL_LEN],
}

impl Version {
    const FORMAT: u8 = 1;

    fn new(epoch: u64) -> Version {
        Version { epoch, count: 0, fresh_at: Timestamp(0), journal: [0; JOURNAL_LEN] }
    }

    fn touch(&mut self, bucket: u16) {
        if let Some(slot) = self.journal.get_mut(journal_slot(self.count)) {
            *slot = bucket;
        }
        self.count = self.count.wrapping_add(1);
    }

    fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![Version::FORMAT];
        bytes.extend(self.epoch.to_le_bytes());
        bytes.extend(self.count.to_le_bytes());
        bytes.extend(self.fresh_at.0.to_le_bytes());
        self.journal.iter().for_each(|bucket| bytes.extend(bucket.to_le_bytes()));
        bytes
    }

    fn decode(bytes: &[u8]) -> Result<Version, Corrupt> {
        let (format, rest) = bytes.split_first().ok_or(Corrupt)?;
        let (epoch, rest) = rest.split_first_chunk::<8>().ok_or(Corrupt)?;
        let (count, rest) = rest.split_first_chunk::<8>().ok_or(Corrupt)?;
        let (fresh_at, mut rest) = rest.split_first_chunk::<8>().ok_or(Corrupt)?;
        let mut version = Version::new(u64::from_le_bytes(*epoch));
        version.count = u64::from_le_bytes(*count);
        version.fresh_at = Timestamp(u64::from_le_bytes(*fresh_at));
        for slot in &mut version.journal {
            let (bucket, tail) = rest.split_first_chunk::<2>().ok_or(Corrupt)?;
            *slot = u16::from_le_bytes(*bucket);
            rest = tail;
        }
        if *format == Version::FORMAT && rest.is_empty() { Ok(version) } else { Err(Corrupt) }
    }
}

/// The journal is a ring.
fn journal_slot(count: u64) -> usize {
    usize::try_from(count % JOURNAL).unwrap_or(0)
}

/// What one worker knows of the version: which buckets may have changed since it last looked at them.
#[derive(Debug)]
pub struct View {
    seen: Option<(u64, u64)>,
    fresh_at: Timestamp,
    /// Moves whenever this worker learns of a change; never goes back.
    clock: u64,
    /// By bucket, the clock at which a change to it was last learnt.
    changed: Vec<u64>,
}

impl Default for View {
    fn default() -> View {
        View { seen: None, fresh_at: Timestamp(0), clock: 0, changed: vec![0; usize::from(BUCKETS)] }
    }
}

impl View {
    /// Learns what has changed. The result is this worker's clock: what was read from buckets at an earlier clock
    /// still holds if [`View::is_current`] says so.
    pub fn refresh(&mut self, store: &mut impl Store) -> Result<u64, StoreError> {
        let stored = store.read(Slot::Version)?.ok_or(StoreError::Absent)?;
        let version = Version::decode(&stored.bytes)?;
        self.fresh_at = version.fresh_at;
        if self.seen == Some((version.epoch, version.count)) {
            return Ok(self.clock);
        }
        self.clock = self.clock.saturating_add(1);
        let clock = self.clock;
        match self.seen {
            Some((epoch, count)) if epoch == version.epoch && version.count.wrapping_sub(count) <= JOURNAL => {
                let mut at = count;
                while at != version.count {
                    let bucket = version.journal.get(journal_slot(at)).copied().unwrap_or_default();
                    if let Some(changed) = self.changed.get_mut(usize::from(bucket)) {
                        *changed = clock;
                    }
                    at = at.wrapping_add(1);
                }
            }
            _ => self.changed.fill(clock),
        }
        self.seen = Some((version.epoch, version.count));
        Ok(clock)
    }

    /// When an authenticated signal last came in; the beginning of time when none has.
    pub fn fresh_at(&self) -> Timestamp {
        self.fresh_at
    }

    /// Whether what was read from `buckets` at `clock` still holds.
    pub fn is_current(&self, buckets: &[u16], clock: u64) -> bool {
        buckets.iter().all(|bucket| self.changed.get(usize::from(*bucket)).is_some_and(|changed| *changed <= clock))
    }
}

/// A store in memory, for tests and for tools that judge without a proxy.
#[derive(Debug, Default)]
pub struct MemoryStore {
    slots: hashbrown::HashMap<Slot, Stored>,
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
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fact::Fact;
    use crate::statekey::{Kind, StateKey};

    fn entry(name: &str) -> Entry {
        let key = StateKey::new(Kind::Token, "i", name);
        Entry { key, fact: Fact::Revoked, at: Timestamp(1), until: Timestamp(100), conditions: Vec::new() }
    }

    fn store() -> MemoryStore {
        let mut store = MemoryStore::default();
        set_up(&mut store, 7).unwrap();
        store
    }

    #[test]
    fn a_change_is_seen_at_the_next_look() {
        let (mut store, mut view) = (store(), View::default());
        let before = view.refresh(&mut store).unwrap();
        let (hit, other) = (entry("a").key.bucket(), entry("b").key.bucket());
        assert_ne!(hit, other);
        apply(&mut store, &[entry("a")], Timestamp(0)).unwrap();
        let after = view.refresh(&mut store).unwrap();
        assert!(!view.is_current(&[other, hit], before));
        assert!(view.is_current(&[other], before), "other buckets stay");
        assert!(view.is_current(&[hit], after));
    }

    #[test]
    fn any_authenticated_signal_is_a_sign_of_life() {
        let (mut store, mut view) = (store(), View::default());
        let before = view.refresh(&mut store).unwrap();
        assert_eq!(view.fresh_at(), Timestamp(0));
        apply(&mut store, &[], Timestamp(9)).unwrap();
        assert_eq!(view.refresh(&mut store).unwrap(), before, "nothing changed");
        assert_eq!(view.fresh_at(), Timestamp(9));
    }

    #[test]
    fn whoever_missed_too_much_forgets_everything() {
        let (mut store, mut view) = (store(), View::default());
        let before = view.refresh(&mut store).unwrap();
        for _ in 0..=JOURNAL {
            apply(&mut store, &[entry("a")], Timestamp(0)).unwrap();
        }
        view.refresh(&mut store).unwrap();
        assert!(!view.is_current(&[entry("b").key.bucket()], before));
    }

    #[test]
    fn a_new_beginning_is_noticed() {
        let (mut old, mut view) = (store(), View::default());
        apply(&mut old, &[entry("a")], Timestamp(0)).unwrap();
        let before = view.refresh(&mut old).unwrap();
        let mut new = MemoryStore::default();
        set_up(&mut new, 8).unwrap();
        apply(&mut new, &[entry("a")], Timestamp(0)).unwrap();
        view.refresh(&mut new).unwrap();
        assert!(!view.is_current(&[entry("b").key.bucket()], before));
    }

    #[test]
    fn setting_up_again_loses_nothing() {
        let mut store = store();
        apply(&mut store, &[entry("a")], Timestamp(0)).unwrap();
        set_up(&mut store, 9).unwrap();
        let stored = store.read(Slot::Bucket(entry("a").key.bucket())).unwrap().unwrap();
        assert_eq!(Table::decode(&stored.bytes).unwrap().len(), 1);
    }

    #[test]
    fn absent_and_foreign_state_are_errors() {
        assert_eq!(View::default().refresh(&mut MemoryStore::default()), Err(StoreError::Absent));
        let mut foreign = MemoryStore::default();
        foreign.seed(Slot::Version, b"other").unwrap();
        assert_eq!(View::default().refresh(&mut foreign), Err(StoreError::Corrupt));
    }

    #[test]
    fn a_full_bucket_is_reported() {
        let mut store = store();
        let bucket = entry("a").key.bucket();
        let mut put = 0;
        let mut name = 0u64;
        loop {
            name += 1;
            let entry = entry(&name.to_string());
            if entry.key.bucket() != bucket {
                continue;
            }
            put += 1;
            match apply(&mut store, &[entry], Timestamp(0)) {
                Ok(()) => assert!(put <= BUCKET_CAPACITY),
                Err(error) => {
                    assert_eq!((error, put), (StoreError::Saturated, BUCKET_CAPACITY + 1));
                    break;
                }
            }
        }
    }
}

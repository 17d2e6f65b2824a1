//! The pushed state: buckets of tables in the proxy's shared data, and one version that every change moves.
//!
//! A change is written to its bucket first, then to the journal, then to the version, and only then answered. A reader
//! takes the version first, the journal and the buckets after it. So whoever starts after the answer sees a version
//! that is new to it, and nobody can keep an old bucket under a new version.
//!
//! A store may have a doorbell: a number that costs less to read than the version. The writer rings it after the version
//! was written and before the change is answered. The reader looks at it before the version, and where it is the number of
//! the last look, nothing has been answered since then.

use crate::duplicate;
use crate::freshness::{Freshness, Pulse, TransmitterId};
use crate::keyring::SourceId;
use crate::table::{Corrupt, Entry, Table};
use crate::time::Timestamp;

/// How many buckets there are. Part of the stored format.
pub const BUCKETS: u16 = 4096;

/// The journal remembers which buckets this many last changes touched. Part of the stored format.
const JOURNAL: u64 = 64;

const JOURNAL_LEN: usize = 64;

/// The journal says of so many buckets whether anything was ever written to them, a bit for each.
const OCCUPIED_WORDS: usize = 64;

/// A writer that keeps losing its race gives up after this many tries.
pub(crate) const MAX_TRIES: usize = 10_000;

/// A place in the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Slot {
    /// The version, which every request reads: a few bytes.
    Version,
    /// The journal, read only when the version has moved.
    Journal,
    /// The bucket of that number, below [`BUCKETS`].
    Bucket(u16),
    /// How fetching the keys of that source goes: see [`crate::fetch`].
    KeyStatus(SourceId),
    /// The keys of that source as they were last fetched.
    KeyRecord(SourceId),
    /// The bucket of that number of what was spent; see [`crate::replay`].
    Replay(u16),
    /// The secret of [`crate::nonce`].
    NonceSecret,
    /// The ring of that number of the SETs that came lately, below [`duplicate::RINGS`].
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
    /// A bucket has no room for what was said, see [`crate::room`]; what it may be about is in doubt.
    #[error("the state has no room for a signal of this kind by this transmitter; it must be pushed again")]
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
    crate::replay::set_up(store)?;
    if store.read(Slot::Version)?.is_some() {
        return Ok(());
    }
    let empty = Table::default().encode();
    for bucket in 0..BUCKETS {
        store.seed(Slot::Bucket(bucket), &empty)?;
    }
    for ring in 0..duplicate::RINGS {
        store.seed(Slot::Ring(ring), &duplicate::empty())?;
    }
    store.seed(Slot::Journal, &Journal::default().encode())?;
    store.seed(Slot::Version, &Version { epoch, ..Version::default() }.encode())
}

/// Takes in the `entries` that the transmitter `by` brought. When this returns `Ok`, whoever looks from now on sees them
/// all.
pub fn apply(store: &mut impl Store, by: TransmitterId, entries: &[Entry], now: Timestamp) -> Result<(), StoreError> {
    let mut saturated = false;
    for entry in entries {
        let bucket = entry.key.bucket();
        saturated |= !insert(store, bucket, by, entry, now)?;
        let count = note(store, bucket)?;
        publish(store, |version| version.count = version.count.max(count))?;
    }
    // Also where all of it was there already: whoever wrote it may have died before ringing.
    store.ring()?;
    if saturated { Err(StoreError::Saturated) } else { Ok(()) }
}

/// Takes a sign of life in.
pub fn hear(store: &mut impl Store, pulse: &Pulse, now: Timestamp) -> Result<(), StoreError> {
    publish(store, |version| version.freshness.note(pulse, now))?;
    store.ring()
}

fn insert(
    store: &mut impl Store,
    bucket: u16,
    by: TransmitterId,
    entry: &Entry,
    now: Timestamp,
) -> Result<bool, StoreError> {
    for _ in 0..MAX_TRIES {
        let stored = store.read(Slot::Bucket(bucket))?.ok_or(StoreError::Absent)?;
        let mut table = Table::decode(&stored.bytes)?;
        let fits = table.insert(entry.clone(), by, now);
        if store.swap(Slot::Bucket(bucket), &table.encode(), stored.cas)? {
            return Ok(fits);
        }
    }
    Err(StoreError::Contended)
}

/// Notes in the journal that `bucket` changed. The result is the count of changes up to and with this one.
fn note(store: &mut impl Store, bucket: u16) -> Result<u64, StoreError> {
    for _ in 0..MAX_TRIES {
        let stored = store.read(Slot::Journal)?.ok_or(StoreError::Absent)?;
        let mut journal = Journal::decode(&stored.bytes)?;
        journal.push(bucket);
        if store.swap(Slot::Journal, &journal.encode(), stored.cas)? {
            return Ok(journal.count);
        }
    }
    Err(StoreError::Contended)
}

/// Moves the version. `change` never takes it back, so that the order of writers does not matter.
fn publish(store: &mut impl Store, change: impl Fn(&mut Version)) -> Result<(), StoreError> {
    for _ in 0..MAX_TRIES {
        let stored = store.read(Slot::Version)?.ok_or(StoreError::Absent)?;
        let before = Version::decode(&stored.bytes)?;
        let mut after = before.clone();
        change(&mut after);
        if after == before || store.swap(Slot::Version, &after.encode(), stored.cas)? {
            return Ok(());
        }
    }
    Err(StoreError::Contended)
}

/// The version: a count of changes since `epoch`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Version {
    epoch: u64,
    count: u64,
    freshness: Freshness,
}

impl Version {
    /// 3: every writer rings.
    const FORMAT: u8 = 3;

    fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![Version::FORMAT];
        for number in [self.epoch, self.count] {
            bytes.extend(number.to_le_bytes());
        }
        self.freshness.encode(&mut bytes);
        bytes
    }

    fn decode(bytes: &[u8]) -> Result<Version, Corrupt> {
        let (format, rest) = bytes.split_first().ok_or(Corrupt)?;
        let (epoch, rest) = rest.split_first_chunk::<8>().ok_or(Corrupt)?;
        let (count, rest) = rest.split_first_chunk::<8>().ok_or(Corrupt)?;
        if *format != Version::FORMAT {
            return Err(Corrupt);
        }
        let freshness = Freshness::decode(rest)?;
        Ok(Version { epoch: u64::from_le_bytes(*epoch), count: u64::from_le_bytes(*count), freshness })
    }
}

/// The buckets that the last changes touched: a ring; and those that any change ever touched.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Journal {
    count: u64,
    ring: [u16; JOURNAL_LEN],
    occupied: Occupied,
}

impl Default for Journal {
    fn default() -> Journal {
        Journal { count: 0, ring: [0; JOURNAL_LEN], occupied: Occupied([0; OCCUPIED_WORDS]) }
    }
}

/// Buckets that may hold something. The others are empty, and need not be read to know it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Occupied([u64; OCCUPIED_WORDS]);

impl Occupied {
    /// When nobody knows.
    const ANY: Occupied = Occupied([u64::MAX; OCCUPIED_WORDS]);

    fn insert(&mut self, bucket: u16) {
        if let Some(word) = self.0.get_mut(usize::from(bucket / 64)) {
            *word |= 1 << (bucket % 64);
        }
    }

    fn may_hold(&self, bucket: u16) -> bool {
        self.0.get(usize::from(bucket / 64)).is_none_or(|word| word & (1 << (bucket % 64)) != 0)
    }
}

impl Journal {
    const FORMAT: u8 = 2;

    fn push(&mut self, bucket: u16) {
        if let Some(slot) = self.ring.get_mut(ring_slot(self.count)) {
            *slot = bucket;
        }
        self.count = self.count.saturating_add(1);
        self.occupied.insert(bucket);
    }

    /// The buckets of the changes after the first `seen`; `None` when some of them are no longer remembered.
    fn since(&self, seen: u64) -> Option<impl Iterator<Item = u16>> {
        let remembered = self.count.checked_sub(seen).is_some_and(|changes| changes <= JOURNAL);
        remembered.then(|| (seen..self.count).filter_map(|at| self.ring.get(ring_slot(at)).copied()))
    }

    fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![Journal::FORMAT];
        bytes.extend(self.count.to_le_bytes());
        self.ring.iter().for_each(|bucket| bytes.extend(bucket.to_le_bytes()));
        self.occupied.0.iter().for_each(|word| bytes.extend(word.to_le_bytes()));
        bytes
    }

    fn decode(bytes: &[u8]) -> Result<Journal, Corrupt> {
        let (format, rest) = bytes.split_first().ok_or(Corrupt)?;
        let (count, mut rest) = rest.split_first_chunk::<8>().ok_or(Corrupt)?;
        let mut journal = Journal { count: u64::from_le_bytes(*count), ..Journal::default() };
        for slot in &mut journal.ring {
            let (bucket, tail) = rest.split_first_chunk::<2>().ok_or(Corrupt)?;
            *slot = u16::from_le_bytes(*bucket);
            rest = tail;
        }
        for word in &mut journal.occupied.0 {
            let (bytes, tail) = rest.split_first_chunk::<8>().ok_or(Corrupt)?;
            *word = u64::from_le_bytes(*bytes);
            rest = tail;
        }
        if *format == Journal::FORMAT && rest.is_empty() { Ok(journal) } else { Err(Corrupt) }
    }
}

fn ring_slot(count: u64) -> usize {
    usize::try_from(count % JOURNAL).unwrap_or(0)
}

/// What one worker knows of the version: which buckets may have changed since it last looked at them.
#[derive(Debug)]
pub struct View {
    seen: Option<(u64, u64)>,
    /// The version as it was last read.
    bytes: Vec<u8>,
    /// The number that was on the doorbell before that.
    doorbell: Option<u64>,
    freshness: Freshness,
    /// Moves whenever some transmitter's word became worth less.
    setbacks: u64,
    /// Moves whenever this worker learns of a change; never goes back.
    clock: u64,
    /// By bucket, the clock at which a change to it was last learnt.
    changed: Vec<u64>,
    /// The buckets that a change up to the version seen has touched.
    occupied: Occupied,
}

impl Default for View {
    fn default() -> View {
        View {
            seen: None,
            bytes: Vec::new(),
            doorbell: None,
            freshness: Freshness::default(),
            setbacks: 0,
            clock: 0,
            changed: vec![0; usize::from(BUCKETS)],
            occupied: Occupied::ANY,
        }
    }
}

impl View {
    /// Learns what has changed. The result is this worker's clock: what was read from buckets at an earlier clock
    /// still holds if [`View::is_current`] says so.
    pub fn refresh(&mut self, store: &mut impl Store) -> Result<u64, StoreError> {
        let doorbell = store.doorbell();
        if doorbell.is_some() && doorbell == self.doorbell {
            return Ok(self.clock);
        }
        // Not before all has been read: a look that failed must not pass for one that is done.
        self.doorbell = None;
        let clock = self.read(store)?;
        self.doorbell = doorbell;
        Ok(clock)
    }

    /// Reads the version, and what is new in it.
    fn read(&mut self, store: &mut impl Store) -> Result<u64, StoreError> {
        let stored = store.read(Slot::Version)?.ok_or(StoreError::Absent)?;
        if stored.bytes == self.bytes {
            return Ok(self.clock);
        }
        let version = Version::decode(&stored.bytes)?;
        if version.freshness.is_worse_than(&self.freshness) {
            self.setbacks = self.setbacks.saturating_add(1);
        }
        self.freshness = version.freshness;
        if self.seen == Some((version.epoch, version.count)) {
            self.bytes = stored.bytes;
            return Ok(self.clock);
        }
        let bytes = stored.bytes;
        let stored = store.read(Slot::Journal)?.ok_or(StoreError::Absent)?;
        let journal = Journal::decode(&stored.bytes)?;
        self.clock = self.clock.saturating_add(1);
        let clock = self.clock;
        let seen = self.seen.filter(|(epoch, _)| *epoch == version.epoch).map(|(_, count)| count);
        match seen.and_then(|seen| journal.since(seen)) {
            Some(buckets) => {
                for bucket in buckets {
                    if let Some(changed) = self.changed.get_mut(usize::from(bucket)) {
                        *changed = clock;
                    }
                }
            }
            None => self.changed.fill(clock),
        }
        // Each of them stands in the journal before the version says that there was a change.
        self.occupied = journal.occupied;
        // The journal may be ahead of the version: its last writers have not published yet. They will move the version
        // once more, and looking twice costs only a look.
        self.seen = Some((version.epoch, version.count));
        // Last of all: a look that failed half way must not pass for one that is done.
        self.bytes = bytes;
        Ok(clock)
    }

    /// The buckets that may have changed after `clock`.
    pub fn changes_since(&self, clock: u64) -> Changes {
        let changed = self.changed.iter().zip(0..).filter(|(changed, _)| **changed > clock);
        Changes(changed.map(|(_, bucket)| bucket).collect())
    }

    /// Holds nothing that was read for current any more.
    pub fn forget(&mut self) {
        self.seen = None;
        self.bytes.clear();
        self.doorbell = None;
    }

    /// Reads the version at the next look, whether the doorbell was rung or not.
    pub fn doubt(&mut self) {
        self.doorbell = None;
    }

    /// Whether that bucket may hold anything under the version that was last seen. One that does not is empty.
    pub fn may_hold(&self, bucket: u16) -> bool {
        self.occupied.may_hold(bucket)
    }

    /// How often this worker learnt that the state is older than it had learnt before.
    pub fn setbacks(&self) -> u64 {
        self.setbacks
    }

    /// When all of `transmitters` had been heard of; the beginning of time when one never was.
    pub fn fresh_at(&self, transmitters: &[TransmitterId]) -> Timestamp {
        self.freshness.oldest(transmitters)
    }

    /// Whether what was read from `buckets` at `clock` still holds.
    pub fn is_current(&self, buckets: &[u16], clock: u64) -> bool {
        // Nothing was learnt since: no need to look at each.
        clock == self.clock
            || buckets
                .iter()
                .all(|bucket| self.changed.get(usize::from(*bucket)).is_some_and(|changed| *changed <= clock))
    }
}

/// Buckets that may have changed, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changes(Vec<u16>);

impl Changes {
    /// Each of them once.
    pub fn buckets(&self) -> impl Iterator<Item = u16> {
        self.0.iter().copied()
    }

    /// Whether one of `buckets` is among them.
    pub fn touch(&self, buckets: impl IntoIterator<Item = u16>) -> bool {
        buckets.into_iter().any(|bucket| self.0.binary_search(&bucket).is_ok())
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fact::Fact;
    use crate::statekey::{Kind, StateKey};

    /// Whoever says it.
    const BY: TransmitterId = TransmitterId::UNKNOWN;

    fn entry(name: &str) -> Entry {
        let key = StateKey::new(Kind::Token, "i", name);
        Entry {
            key,
            fact: Fact::Revoked,
            at: Timestamp(1),
            until: Timestamp(100),
            conditions: Vec::new(),
            data: Vec::new(),
        }
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
        apply(&mut store, BY, &[entry("a")], Timestamp(0)).unwrap();
        let after = view.refresh(&mut store).unwrap();
        assert!(!view.is_current(&[other, hit], before));
        assert!(view.is_current(&[other], before), "other buckets stay");
        assert!(view.is_current(&[hit], after));
    }

    #[test]
    fn a_bucket_that_nothing_was_written_to_needs_no_look() {
        let (mut store, mut view) = (store(), View::default());
        let (hit, other) = (entry("a").key.bucket(), entry("b").key.bucket());
        assert!(view.may_hold(hit), "nobody has looked yet");
        view.refresh(&mut store).unwrap();
        assert!((0..BUCKETS).all(|bucket| !view.may_hold(bucket)));
        apply(&mut store, BY, &[entry("a")], Timestamp(0)).unwrap();
        view.refresh(&mut store).unwrap();
        assert!(view.may_hold(hit) && !view.may_hold(other));
        // Also when more has changed than the ring remembers.
        for _ in 0..=JOURNAL {
            apply(&mut store, BY, &[entry("b")], Timestamp(0)).unwrap();
        }
        view.refresh(&mut store).unwrap();
        assert!(view.may_hold(hit) && view.may_hold(other));
    }

    #[test]
    fn what_is_forgotten_is_read_again() {
        let (mut store, mut view) = (store(), View::default());
        let before = view.refresh(&mut store).unwrap();
        assert!(view.is_current(&[7], before));
        view.forget();
        view.refresh(&mut store).unwrap();
        assert!(!view.is_current(&[7], before));
    }

    /// Counts what is read.
    struct Counted {
        store: MemoryStore,
        reads: usize,
    }

    impl Store for Counted {
        fn read(&mut self, slot: Slot) -> Result<Option<Stored>, StoreError> {
            self.reads += 1;
            self.store.read(slot)
        }

        fn swap(&mut self, slot: Slot, bytes: &[u8], cas: u32) -> Result<bool, StoreError> {
            self.store.swap(slot, bytes, cas)
        }

        fn seed(&mut self, slot: Slot, bytes: &[u8]) -> Result<(), StoreError> {
            self.store.seed(slot, bytes)
        }

        fn doorbell(&mut self) -> Option<u64> {
            self.store.doorbell()
        }

        fn ring(&mut self) -> Result<(), StoreError> {
            self.store.ring()
        }
    }

    #[test]
    fn nothing_is_read_until_the_doorbell_rings() {
        let mut store = Counted { store: MemoryStore::with_doorbell(), reads: 0 };
        set_up(&mut store, 7).unwrap();
        let mut view = View::default();
        let reads = |view: &mut View, store: &mut Counted| {
            let before = store.reads;
            view.refresh(store).unwrap();
            store.reads - before
        };
        assert_eq!(reads(&mut view, &mut store), 2, "the version and the journal");
        assert_eq!(reads(&mut view, &mut store), 0);
        apply(&mut store, BY, &[entry("a")], Timestamp(0)).unwrap();
        assert_eq!((reads(&mut view, &mut store), reads(&mut view, &mut store)), (2, 0));
        hear(&mut store, &Pulse::new("t", Timestamp(9)), Timestamp(9)).unwrap();
        assert_eq!((reads(&mut view, &mut store), reads(&mut view, &mut store)), (1, 0), "the version alone");
        view.doubt();
        assert_eq!((reads(&mut view, &mut store), reads(&mut view, &mut store)), (1, 0));
        view.forget();
        assert_eq!((reads(&mut view, &mut store), reads(&mut view, &mut store)), (2, 0));
    }

    #[test]
    fn what_was_written_before_a_crash_is_seen_once_it_was_pushed_again() {
        let mut store = MemoryStore::with_doorbell();
        set_up(&mut store, 7).unwrap();
        let mut view = View::default();
        let before = view.refresh(&mut store).unwrap();
        // All of `apply` but the ring.
        insert(&mut store, entry("a").key.bucket(), BY, &entry("a"), Timestamp(0)).unwrap();
        let count = note(&mut store, entry("a").key.bucket()).unwrap();
        publish(&mut store, |version| version.count = count).unwrap();
        assert_eq!(view.refresh(&mut store), Ok(before), "nobody was answered yet");
        apply(&mut store, BY, &[entry("a")], Timestamp(0)).unwrap();
        view.refresh(&mut store).unwrap();
        assert!(!view.is_current(&[entry("a").key.bucket()], before));
    }

    #[test]
    fn a_look_that_failed_is_not_done() {
        let mut store = MemoryStore::with_doorbell();
        let mut view = View::default();
        assert_eq!(view.refresh(&mut store), Err(StoreError::Absent));
        assert_eq!(view.refresh(&mut store), Err(StoreError::Absent), "the number on the doorbell is the same");
    }

    /// A store in which another worker takes a signal in right after the version was read.
    struct Hasty(MemoryStore);

    impl Store for Hasty {
        fn read(&mut self, slot: Slot) -> Result<Option<Stored>, StoreError> {
            let stored = self.0.read(slot);
            if slot == Slot::Version {
                apply(&mut self.0, BY, &[entry("a")], Timestamp(0))?;
            }
            stored
        }

        fn swap(&mut self, slot: Slot, bytes: &[u8], cas: u32) -> Result<bool, StoreError> {
            self.0.swap(slot, bytes, cas)
        }

        fn seed(&mut self, slot: Slot, bytes: &[u8]) -> Result<(), StoreError> {
            self.0.seed(slot, bytes)
        }

        fn doorbell(&mut self) -> Option<u64> {
            self.0.doorbell()
        }
    }

    #[test]
    fn what_comes_in_during_a_look_is_seen_by_the_next() {
        let mut store = Hasty(MemoryStore::with_doorbell());
        set_up(&mut store.0, 7).unwrap();
        let mut view = View::default();
        let before = view.refresh(&mut store).unwrap();
        view.refresh(&mut store.0).unwrap();
        assert!(!view.is_current(&[entry("a").key.bucket()], before));
    }

    /// A worker that remembers, as a session does, what a bucket held and when it was read.
    #[derive(Default)]
    struct Reader {
        view: View,
        known: Option<(u64, usize)>,
    }

    impl Reader {
        /// Whether the worker knows of the entry in `bucket`.
        fn sees(&mut self, bucket: u16, store: &mut MemoryStore) -> bool {
            let clock = self.view.refresh(store).unwrap();
            let current = self.known.filter(|(read_at, _)| self.view.is_current(&[bucket], *read_at));
            let (_, entries) = current.unwrap_or_else(|| {
                let stored = store.read(Slot::Bucket(bucket)).unwrap().unwrap();
                let held = self.view.may_hold(bucket);
                (clock, if held { Table::decode(&stored.bytes).unwrap().len() } else { 0 })
            });
            self.known = Some((clock, entries));
            entries > 0
        }
    }

    #[test]
    fn what_is_answered_is_seen_however_writers_and_readers_meet() {
        // Two writers of four steps each, in every order, as the bits of a number; and a worker that looks before one
        // of the steps, or never, before it looks at the end of each writer.
        for order in (0u32..256).filter(|order| order.count_ones() == 4) {
            for look_before in 0..=8 {
                let mut store = MemoryStore::with_doorbell();
                set_up(&mut store, 7).unwrap();
                let names = ["a", "b"];
                let bucket = |writer: usize| entry(names[writer]).key.bucket();
                let mut readers = [Reader::default(), Reader::default()];
                let (mut done, mut counts) = ([0, 0], [0, 0]);
                for step in 0..8 {
                    if step == look_before {
                        for (reader, writer) in readers.iter_mut().zip(0..) {
                            reader.sees(bucket(writer), &mut store);
                        }
                    }
                    let writer = usize::from(order & (1 << step) != 0);
                    match done[writer] {
                        0 => drop(insert(&mut store, bucket(writer), BY, &entry(names[writer]), Timestamp(0)).unwrap()),
                        1 => counts[writer] = note(&mut store, bucket(writer)).unwrap(),
                        2 => publish(&mut store, |version| version.count = version.count.max(counts[writer])).unwrap(),
                        _ => store.ring().unwrap(),
                    }
                    done[writer] += 1;
                    for writer in (0..2).filter(|writer| done[*writer] == 4) {
                        assert!(readers[writer].sees(bucket(writer), &mut store), "{order:08b} {look_before} {step}");
                    }
                }
            }
        }
    }

    #[test]
    fn any_authenticated_signal_is_a_sign_of_life() {
        let (mut store, mut view) = (store(), View::default());
        let before = view.refresh(&mut store).unwrap();
        let transmitters = [TransmitterId::new("t")];
        assert_eq!(view.fresh_at(&transmitters), Timestamp(0));
        hear(&mut store, &Pulse::new("t", Timestamp(9)), Timestamp(9)).unwrap();
        assert_eq!(view.refresh(&mut store).unwrap(), before, "nothing changed");
        assert_eq!(view.fresh_at(&transmitters), Timestamp(9));
    }

    #[test]
    fn whoever_missed_too_much_forgets_everything() {
        let (mut store, mut view) = (store(), View::default());
        let before = view.refresh(&mut store).unwrap();
        for _ in 0..=JOURNAL {
            apply(&mut store, BY, &[entry("a")], Timestamp(0)).unwrap();
        }
        view.refresh(&mut store).unwrap();
        assert!(!view.is_current(&[entry("b").key.bucket()], before));
    }

    #[test]
    fn a_new_beginning_is_noticed() {
        let (mut old, mut view) = (store(), View::default());
        apply(&mut old, BY, &[entry("a")], Timestamp(0)).unwrap();
        let before = view.refresh(&mut old).unwrap();
        let mut new = MemoryStore::default();
        set_up(&mut new, 8).unwrap();
        apply(&mut new, BY, &[entry("a")], Timestamp(0)).unwrap();
        view.refresh(&mut new).unwrap();
        assert!(!view.is_current(&[entry("b").key.bucket()], before));
    }

    #[test]
    fn setting_up_again_loses_nothing() {
        let mut store = store();
        apply(&mut store, BY, &[entry("a")], Timestamp(0)).unwrap();
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
        let of_bucket = (0u64..).map(|name| entry(&name.to_string())).filter(|entry| entry.key.bucket() == bucket);
        let taken = of_bucket.map(|entry| apply(&mut store, BY, &[entry], Timestamp(0))).take_while(Result::is_ok);
        assert_eq!(taken.count(), 384);
        let other = entry("b");
        assert_ne!(other.key.bucket(), bucket);
        assert_eq!(apply(&mut store, BY, &[other], Timestamp(0)), Ok(()));
    }
}

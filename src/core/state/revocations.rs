//! The pushed state: buckets in the proxy's shared data, and one version that every change moves.
//!
//! A writer writes the bucket first, then the journal, then the version, and only then answers the push. A reader reads
//! the version first, then the journal and the buckets. So a reader that starts after the answer sees a new version,
//! and no reader can keep an old bucket under a new version.
//!
//! A store may have a change counter ("doorbell") that costs less to read than the version. The writer increments it
//! after it wrote the version and before it answers. The reader reads it before the version: if the number did not
//! change since the last read, no change was answered in between.

use crate::state::bucket::{Entry, Table};
use crate::state::freshness::{Heartbeat, TransmitterId};
use crate::state::key::BUCKETS;
use crate::state::log::Journal;
use crate::state::log::Known;
use crate::state::log::Version;
use crate::state::seen_sets;
use crate::state::store::MAX_TRIES;
use crate::state::store::Slot;
use crate::state::store::Store;
use crate::state::store::StoreError;
use crate::time::Timestamp;

/// Creates the slots of the state that do not exist yet. `epoch` is a random number that tells a new state from an
/// earlier one.
///
/// A store cannot create a slot atomically, so this must run while nobody else can write: while the first configuration
/// is loaded on the proxy's main thread.
pub fn set_up(store: &mut impl Store, epoch: u64) -> Result<(), StoreError> {
    crate::state::single_use::set_up(store)?;
    if store.read(Slot::Version)?.is_some() {
        return Ok(());
    }
    let empty = Table::default().encode();
    for bucket in 0..BUCKETS {
        store.seed(Slot::Bucket(bucket), &empty)?;
    }
    for ring in 0..seen_sets::RINGS {
        store.seed(Slot::Ring(ring), &seen_sets::empty())?;
    }
    store.seed(Slot::Journal, &Journal::default().encode())?;
    store.seed(Slot::Version, &Version { epoch, ..Version::default() }.encode())
}

/// Stores the `entries` of the transmitter `by`. After `Ok`, every reader that starts sees all of them.
pub fn apply(store: &mut impl Store, by: TransmitterId, entries: &[Entry], now: Timestamp) -> Result<(), StoreError> {
    let mut buckets: Vec<u16> = entries.iter().map(|entry| entry.key.bucket()).collect();
    buckets.sort_unstable();
    buckets.dedup();
    let mut saturated = false;
    for bucket in &buckets {
        let own: Vec<_> = entries.iter().filter(|entry| entry.key.bucket() == *bucket).map(|one| (by, one)).collect();
        saturated |= !merge(store, *bucket, &own, now)?;
    }
    // Also when all entries were there already: the writer that stored them may have died before it announced them.
    announce(store, &buckets, |_| ())?;
    if saturated { Err(StoreError::Saturated) } else { Ok(()) }
}

/// Merges `entries`, each with its transmitter, into the bucket that holds them all. No reader looks at the bucket
/// before it was announced. `Ok(false)`: an entry did not fit, and left a mark.
pub fn merge(
    store: &mut impl Store,
    bucket: u16,
    entries: &[(TransmitterId, &Entry)],
    now: Timestamp,
) -> Result<bool, StoreError> {
    for _ in 0..MAX_TRIES {
        let stored = store.read(Slot::Bucket(bucket))?.ok_or(StoreError::Absent)?;
        let mut table = Table::decode(&stored.bytes)?;
        let before = table.len();
        let fits = table.insert_all(entries.iter().map(|(by, entry)| (*by, (*entry).clone())), now);
        if store.swap(Slot::Bucket(bucket), &table.encode(), stored.cas)? {
            store.entries_changed(before, table.len());
            return Ok(fits);
        }
    }
    Err(StoreError::Contended)
}

/// Makes every reader that starts afterwards see what was merged into `buckets`, and `change` in the version: what is
/// known about transmitters and feeds. `change` never moves anything back, so that the order of writers does not matter.
pub fn announce(store: &mut impl Store, buckets: &[u16], change: impl Fn(&mut Known)) -> Result<(), StoreError> {
    let count = if buckets.is_empty() { 0 } else { note(store, buckets)? };
    publish(store, |version| {
        version.count = version.count.max(count);
        change(&mut version.known);
    })?;
    store.ring()
}

/// Records a heartbeat.
pub fn record_heartbeat(store: &mut impl Store, heartbeat: &Heartbeat, now: Timestamp) -> Result<(), StoreError> {
    announce(store, &[], |known| known.freshness.note(heartbeat, now))
}

/// Writes into the journal that `buckets` changed. Returns the number of changes including these.
fn note(store: &mut impl Store, buckets: &[u16]) -> Result<u64, StoreError> {
    for _ in 0..MAX_TRIES {
        let stored = store.read(Slot::Journal)?.ok_or(StoreError::Absent)?;
        let mut journal = Journal::decode(&stored.bytes)?;
        buckets.iter().for_each(|bucket| journal.push(*bucket));
        if store.swap(Slot::Journal, &journal.encode(), stored.cas)? {
            return Ok(journal.count);
        }
    }
    Err(StoreError::Contended)
}

/// Moves the version. `change` never moves it back, so that the order of writers does not matter.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::bucket::SourceTag;
    use crate::state::fact::Fact;
    use crate::state::key::{Kind, StateKey};
    use crate::state::log::JOURNAL;
    use crate::state::store::MemoryStore;
    use crate::state::view::View;
    use crate::testing::ports::TestStore;

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
            source: SourceTag::NONE,
            lifted: false,
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

    #[test]
    fn nothing_is_read_until_the_doorbell_rings() {
        let mut store = TestStore::with_doorbell();
        set_up(&mut store, 7).unwrap();
        let mut view = View::default();
        let reads = |view: &mut View, store: &mut TestStore| {
            let before = store.reads;
            view.refresh(store).unwrap();
            store.reads - before
        };
        assert_eq!(reads(&mut view, &mut store), 2, "the version and the journal");
        assert_eq!(reads(&mut view, &mut store), 0);
        apply(&mut store, BY, &[entry("a")], Timestamp(0)).unwrap();
        assert_eq!((reads(&mut view, &mut store), reads(&mut view, &mut store)), (2, 0));
        record_heartbeat(&mut store, &Heartbeat::new("t", Timestamp(9)), Timestamp(9)).unwrap();
        assert_eq!((reads(&mut view, &mut store), reads(&mut view, &mut store)), (1, 0), "the version alone");
        view.force_refresh();
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
        merge(&mut store, entry("a").key.bucket(), &[(BY, &entry("a"))], Timestamp(0)).unwrap();
        let count = note(&mut store, &[entry("a").key.bucket()]).unwrap();
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

    #[test]
    fn what_comes_in_during_a_look_is_seen_by_the_next() {
        let mut store = TestStore::with_doorbell();
        set_up(&mut store.memory, 7).unwrap();
        // Another worker applies a signal right after this one has read the version.
        store.after_read = Some(Box::new(|slot, memory| {
            if slot == Slot::Version {
                apply(memory, BY, &[entry("a")], Timestamp(0)).unwrap();
            }
        }));
        let mut view = View::default();
        let before = view.refresh(&mut store).unwrap();
        view.refresh(&mut store.memory).unwrap();
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
                        0 => drop(
                            merge(&mut store, bucket(writer), &[(BY, &entry(names[writer]))], Timestamp(0)).unwrap(),
                        ),
                        1 => counts[writer] = note(&mut store, &[bucket(writer)]).unwrap(),
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
        record_heartbeat(&mut store, &Heartbeat::new("t", Timestamp(9)), Timestamp(9)).unwrap();
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

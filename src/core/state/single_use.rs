//! What may be used once: DPoP proofs (RFC 9449 §11.1) and single-use tokens, recorded in memory that all workers
//! share.
//!
//! There is a fixed number of small buckets, each a list of hashes with the second after which each may be removed. To
//! record a use is one compare-and-swap on one bucket, so of any number of workers that use the same thing at once, one
//! succeeds. A full bucket refuses; no hash is removed early.

use crate::encoding::digest::Digest;
use crate::encoding::digest::sha256_of;
use crate::state::store::{Slot, Store, StoreError};
use crate::time::Timestamp;
use std::num::NonZeroU16;

/// A bucket holds this many entries. Part of the stored format.
const CAPACITY: usize = 256;

/// The length of a stored hash in bytes.
const HASH: usize = 16;

/// The length of an entry in bytes: the hash, and the time until which it is kept.
const ENTRY: usize = 20;

/// The first byte of a bucket: the format.
const FORMAT: u8 = 1;

/// A writer gives up after it lost the compare-and-swap this many times.
const MAX_TRIES: usize = 10_000;

/// An entry is kept this much longer, because the clock of a machine may be set back a little.
const MARGIN: u64 = 60;

/// The buckets of proofs are divided into groups of this many. The thumbprint of the key chooses the group, so one
/// client can fill at most one of the eight groups.
const GROUP: u16 = 512;

/// Each region has its own buckets, so that a full region does not affect the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Region {
    Proofs,
    Tokens,
    /// Uses under a rule in shadow mode: they must not affect what is enforced.
    Trials,
}

impl Region {
    const ALL: [Region; 3] = [Region::Proofs, Region::Tokens, Region::Trials];

    /// The first bucket, and the number of buckets. Part of the stored format.
    fn buckets(self) -> (u16, NonZeroU16) {
        const MANY: NonZeroU16 = NonZeroU16::new(4096).unwrap();
        const FEW: NonZeroU16 = NonZeroU16::new(1024).unwrap();
        match self {
            Region::Proofs => (0, MANY),
            Region::Tokens => (4096, MANY),
            Region::Trials => (8192, FEW),
        }
    }
}

/// Something that can be used once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SingleUseEntry {
    region: Region,
    bucket: u16,
    hash: [u8; HASH],
    until: Timestamp,
}

/// Why a use was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ConsumeError {
    /// It was used before.
    AlreadyUsed,
    /// Its bucket is full of entries that may not be removed yet.
    Full,
    /// The store failed.
    Store(StoreError),
}

impl From<StoreError> for ConsumeError {
    fn from(error: StoreError) -> ConsumeError {
        ConsumeError::Store(error)
    }
}

impl SingleUseEntry {
    /// The single use of the DPoP proof with the hash `id`, signed by `key`; nobody accepts the proof after `until`.
    /// `trial`: under a rule in shadow mode.
    pub(crate) fn proof(id: &Digest, key: &Digest, until: Timestamp, trial: bool) -> SingleUseEntry {
        let entry = SingleUseEntry::new(if trial { Region::Trials } else { Region::Proofs }, id, until);
        if trial {
            return entry;
        }
        let [of_key, ..] = *key;
        let (first, count) = entry.region.buckets();
        let within = entry.bucket.saturating_sub(first) % GROUP;
        let start = u16::from(of_key).saturating_mul(GROUP) % count;
        SingleUseEntry { bucket: first.saturating_add(start).saturating_add(within), ..entry }
    }

    /// The single use of the token `id` of `issuer`, which nobody accepts after `until`. `trial`: under a rule in
    /// shadow mode.
    pub(crate) fn token(issuer: &str, id: &str, until: Timestamp, trial: bool) -> SingleUseEntry {
        let length = u64::try_from(issuer.len()).unwrap_or(u64::MAX).to_le_bytes();
        let hash = sha256_of(&[b"single use", &length, issuer.as_bytes(), id.as_bytes()]);
        SingleUseEntry::new(if trial { Region::Trials } else { Region::Tokens }, &hash, until)
    }

    fn new(region: Region, id: &Digest, until: Timestamp) -> SingleUseEntry {
        let (first, count) = region.buckets();
        let [low, high, rest @ ..] = *id;
        let mut hash = [0; HASH];
        hash.iter_mut().zip(rest).for_each(|(to, from)| *to = from);
        SingleUseEntry { region, bucket: first.saturating_add(u16::from_le_bytes([low, high]) % count), hash, until }
    }
}

/// Creates the buckets that do not exist yet. Like [`crate::state::revocations::set_up`] it must run while nobody else
/// writes.
pub(crate) fn set_up(store: &mut impl Store) -> Result<(), StoreError> {
    let last = Region::ALL.map(|region| {
        let (first, count) = region.buckets();
        first.saturating_add(count.get())
    });
    let end = last.into_iter().max().unwrap_or(0);
    // The last bucket is written last: if it exists, all exist.
    if store.read(Slot::Replay(end.saturating_sub(1)))?.is_some() {
        return Ok(());
    }
    (0..end).try_for_each(|bucket| store.seed(Slot::Replay(bucket), &[FORMAT]))
}

/// Records the use of `entry` at `now`. Of any number of calls for one entry, by any worker, one returns `Ok`, until
/// the entry is no longer accepted anyway.
pub(crate) fn consume(store: &mut impl Store, entry: &SingleUseEntry, now: Timestamp) -> Result<(), ConsumeError> {
    let slot = Slot::Replay(entry.bucket);
    for _ in 0..MAX_TRIES {
        let stored = store.read(slot)?.ok_or(StoreError::Absent)?;
        let bucket = add(&stored.bytes, entry, now)?;
        if store.swap(slot, &bucket, stored.cas)? {
            return Ok(());
        }
    }
    Err(StoreError::Contended.into())
}

/// The bucket with `entry` added, and without entries that may be removed.
fn add(bucket: &[u8], entry: &SingleUseEntry, now: Timestamp) -> Result<Vec<u8>, ConsumeError> {
    let (format, entries) = bucket.split_first().ok_or(StoreError::Corrupt)?;
    let (entries, rest) = entries.as_chunks::<ENTRY>();
    if *format != FORMAT || !rest.is_empty() {
        return Err(StoreError::Corrupt.into());
    }
    let mut out = Vec::with_capacity(bucket.len().saturating_add(ENTRY));
    out.push(FORMAT);
    let mut count = 0_usize;
    for stored in entries {
        let [hash @ .., a, b, c, d] = stored;
        if u64::from(u32::from_le_bytes([*a, *b, *c, *d])) < now.0 {
            continue;
        }
        if *hash == entry.hash {
            return Err(ConsumeError::AlreadyUsed);
        }
        out.extend(stored);
        count = count.saturating_add(1);
    }
    if count >= CAPACITY {
        return Err(ConsumeError::Full);
    }
    out.extend(entry.hash);
    // Times end in 2106, see `Timestamp::MAX`; a later one is kept for ever.
    out.extend(u32::try_from(entry.until.0.saturating_add(MARGIN)).unwrap_or(u32::MAX).to_le_bytes());
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::store::MemoryStore;
    use crate::testing::ports::{OtherWorker, TestStore};

    const NOW: Timestamp = Timestamp(1_790_000_000);

    fn store() -> MemoryStore {
        let mut store = MemoryStore::default();
        set_up(&mut store).unwrap();
        store
    }

    fn entry(id: &str) -> SingleUseEntry {
        SingleUseEntry::token("i", id, Timestamp(NOW.0 + 100), false)
    }

    #[test]
    fn once_and_never_again_while_it_could_be_taken() {
        let mut store = store();
        let later = |by: u64| Timestamp(NOW.0 + by);
        assert_eq!(consume(&mut store, &entry("a"), NOW), Ok(()));
        for at in [NOW, later(100), later(160)] {
            assert_eq!(consume(&mut store, &entry("a"), at), Err(ConsumeError::AlreadyUsed));
        }
        assert_eq!(consume(&mut store, &entry("b"), NOW), Ok(()));
        assert_eq!(
            consume(&mut store, &SingleUseEntry::token("j", "a", later(100), false), NOW),
            Ok(()),
            "of another issuer"
        );
        set_up(&mut store).unwrap();
        assert_eq!(
            consume(&mut store, &entry("a"), NOW),
            Err(ConsumeError::AlreadyUsed),
            "setting up again loses nothing"
        );
        assert_eq!(consume(&mut store, &entry("a"), later(161)), Ok(()), "forgotten when it is of no use to anybody");
    }

    #[test]
    fn trials_stay_among_themselves() {
        let mut store = store();
        let trial = SingleUseEntry::token("i", "a", Timestamp(NOW.0 + 100), true);
        assert_eq!(consume(&mut store, &trial, NOW), Ok(()));
        assert_eq!(consume(&mut store, &trial, NOW), Err(ConsumeError::AlreadyUsed));
        assert_eq!(consume(&mut store, &entry("a"), NOW), Ok(()));
    }

    #[test]
    fn a_full_bucket_refuses_and_forgets_nothing() {
        let mut store = store();
        let filled = |n: u8| SingleUseEntry { hash: [n; HASH], ..entry("a") };
        for n in 0..=255 {
            assert_eq!(consume(&mut store, &filled(n), NOW), Ok(()), "{n}");
        }
        assert_eq!(consume(&mut store, &entry("a"), NOW), Err(ConsumeError::Full));
        assert_eq!(consume(&mut store, &filled(0), NOW), Err(ConsumeError::AlreadyUsed));
        assert_eq!(consume(&mut store, &entry("a"), Timestamp(NOW.0 + 161)), Ok(()));
    }

    /// Another worker writes between our read and our write, each time.
    #[test]
    fn of_two_at_once_one_succeeds() {
        let racing = |other: SingleUseEntry| {
            let mut other = Some(other);
            let after_read: OtherWorker = Box::new(move |_, memory| {
                if let Some(other) = other.take() {
                    consume(memory, &other, NOW).unwrap();
                }
            });
            TestStore { memory: store(), after_read: Some(after_read), ..TestStore::default() }
        };
        assert_eq!(consume(&mut racing(entry("a")), &entry("a"), NOW), Err(ConsumeError::AlreadyUsed));
        let other = SingleUseEntry { hash: [9; HASH], ..entry("a") };
        assert_eq!(consume(&mut racing(other), &entry("a"), NOW), Ok(()));
    }

    #[test]
    fn what_cannot_be_read_closes() {
        let absent = consume(&mut MemoryStore::default(), &entry("a"), NOW);
        assert_eq!(absent, Err(ConsumeError::Store(StoreError::Absent)));
        for bytes in [&b""[..], b"\x02", b"\x01abc"] {
            let mut store = MemoryStore::default();
            store.seed(Slot::Replay(entry("a").bucket), bytes).unwrap();
            assert_eq!(consume(&mut store, &entry("a"), NOW), Err(ConsumeError::Store(StoreError::Corrupt)));
        }
    }

    #[test]
    fn regions_do_not_overlap() {
        let ranges = Region::ALL.map(|region| {
            let (first, count) = region.buckets();
            first..first + count.get()
        });
        assert!(ranges.windows(2).all(|pair| pair[0].end == pair[1].start));
        let one = entry("a");
        assert!(ranges[1].contains(&one.bucket));
    }
}

//! What counts once: DPoP proofs (RFC 9449 §11.1) and tokens for single use, spent in memory that all workers share.
//!
//! A fixed number of small buckets, each a list of hashes with the second after which each may be forgotten. Spending is
//! one compare-and-swap on one bucket, so of any number of workers that spend the same thing at once, one succeeds. A
//! full bucket refuses; nothing is forgotten early.

use crate::encoding::digest::Digest;
use crate::encoding::digest::sha256_of;
use crate::state::store::{Slot, Store, StoreError};
use crate::time::Timestamp;
use std::num::NonZeroU16;

/// A bucket holds this many things. Part of the stored format.
const CAPACITY: usize = 256;

/// The bytes of a hash that are kept.
const HASH: usize = 16;

/// The bytes of an entry: the hash, and until when it stands.
const ENTRY: usize = 20;

/// The first byte of a bucket.
const FORMAT: u8 = 1;

/// A writer that keeps losing its race gives up after this many tries.
const MAX_TRIES: usize = 10_000;

/// Clocks of one machine may be set back a little; what was spent stays spent.
const MARGIN: u64 = 60;

/// The buckets of proofs are divided into groups of this many, one for the keys whose thumbprints begin alike: one
/// client can fill no more than one of eight.
const GROUP: u16 = 512;

/// Each use has buckets of its own, so that one cannot fill those of another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Region {
    Proofs,
    Tokens,
    /// What is only tried, in shadow: it must never decide about what is enforced.
    Trials,
}

impl Region {
    const ALL: [Region; 3] = [Region::Proofs, Region::Tokens, Region::Trials];

    /// The first bucket, and how many there are. Part of the stored format.
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

/// Something that can be spent once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SingleUseEntry {
    region: Region,
    bucket: u16,
    hash: [u8; HASH],
    until: Timestamp,
}

/// Why something could not be spent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConsumeError {
    /// It was spent before.
    Spent,
    /// Its bucket is full of what may not be forgotten yet.
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
    /// The one use of the DPoP proof that `id` tells from all others, signed by `key`, which nobody takes any more after
    /// `until`. `trial`: under a rule that is not enforced.
    pub fn proof(id: &Digest, key: &Digest, until: Timestamp, trial: bool) -> SingleUseEntry {
        let coin = SingleUseEntry::new(if trial { Region::Trials } else { Region::Proofs }, id, until);
        if trial {
            return coin;
        }
        let [of_key, ..] = *key;
        let (first, count) = coin.region.buckets();
        let within = coin.bucket.saturating_sub(first) % GROUP;
        let start = u16::from(of_key).saturating_mul(GROUP) % count;
        SingleUseEntry { bucket: first.saturating_add(start).saturating_add(within), ..coin }
    }

    /// The one use of the token `id` of `issuer`, which nobody takes any more after `until`.
    pub fn token(issuer: &str, id: &str, until: Timestamp, trial: bool) -> SingleUseEntry {
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

/// Sets the buckets up where they are not yet. Like [`crate::state::revocations::set_up`] it must run where nobody else writes.
pub fn set_up(store: &mut impl Store) -> Result<(), StoreError> {
    let last = Region::ALL.map(|region| {
        let (first, count) = region.buckets();
        first.saturating_add(count.get())
    });
    let end = last.into_iter().max().unwrap_or(0);
    // The last one is written last: where it stands, all stand.
    if store.read(Slot::Replay(end.saturating_sub(1)))?.is_some() {
        return Ok(());
    }
    (0..end).try_for_each(|bucket| store.seed(Slot::Replay(bucket), &[FORMAT]))
}

/// Spends `coin` at `now`. Of any number of calls for one coin, by whichever worker, one gives `Ok`, until nobody would
/// take it any more.
pub fn consume(store: &mut impl Store, coin: &SingleUseEntry, now: Timestamp) -> Result<(), ConsumeError> {
    let slot = Slot::Replay(coin.bucket);
    for _ in 0..MAX_TRIES {
        let stored = store.read(slot)?.ok_or(StoreError::Absent)?;
        let bucket = add(&stored.bytes, coin, now)?;
        if store.swap(slot, &bucket, stored.cas)? {
            return Ok(());
        }
    }
    Err(StoreError::Contended.into())
}

/// The bucket with `coin` in it, and without what may be forgotten.
fn add(bucket: &[u8], coin: &SingleUseEntry, now: Timestamp) -> Result<Vec<u8>, ConsumeError> {
    let (format, entries) = bucket.split_first().ok_or(StoreError::Corrupt)?;
    let (entries, rest) = entries.as_chunks::<ENTRY>();
    if *format != FORMAT || !rest.is_empty() {
        return Err(StoreError::Corrupt.into());
    }
    let mut out = Vec::with_capacity(bucket.len().saturating_add(ENTRY));
    out.push(FORMAT);
    let mut count = 0_usize;
    for entry in entries {
        let [hash @ .., a, b, c, d] = entry;
        if u64::from(u32::from_le_bytes([*a, *b, *c, *d])) < now.0 {
            continue;
        }
        if *hash == coin.hash {
            return Err(ConsumeError::Spent);
        }
        out.extend(entry);
        count = count.saturating_add(1);
    }
    if count >= CAPACITY {
        return Err(ConsumeError::Full);
    }
    out.extend(coin.hash);
    // Times end in 2106, see `Timestamp::MAX`; one beyond stands for ever.
    out.extend(u32::try_from(coin.until.0.saturating_add(MARGIN)).unwrap_or(u32::MAX).to_le_bytes());
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

    fn coin(id: &str) -> SingleUseEntry {
        SingleUseEntry::token("i", id, Timestamp(NOW.0 + 100), false)
    }

    #[test]
    fn once_and_never_again_while_it_could_be_taken() {
        let mut store = store();
        let later = |by: u64| Timestamp(NOW.0 + by);
        assert_eq!(consume(&mut store, &coin("a"), NOW), Ok(()));
        for at in [NOW, later(100), later(160)] {
            assert_eq!(consume(&mut store, &coin("a"), at), Err(ConsumeError::Spent));
        }
        assert_eq!(consume(&mut store, &coin("b"), NOW), Ok(()));
        assert_eq!(
            consume(&mut store, &SingleUseEntry::token("j", "a", later(100), false), NOW),
            Ok(()),
            "of another issuer"
        );
        set_up(&mut store).unwrap();
        assert_eq!(consume(&mut store, &coin("a"), NOW), Err(ConsumeError::Spent), "setting up again loses nothing");
        assert_eq!(consume(&mut store, &coin("a"), later(161)), Ok(()), "forgotten when it is of no use to anybody");
    }

    #[test]
    fn trials_stay_among_themselves() {
        let mut store = store();
        let trial = SingleUseEntry::token("i", "a", Timestamp(NOW.0 + 100), true);
        assert_eq!(consume(&mut store, &trial, NOW), Ok(()));
        assert_eq!(consume(&mut store, &trial, NOW), Err(ConsumeError::Spent));
        assert_eq!(consume(&mut store, &coin("a"), NOW), Ok(()));
    }

    #[test]
    fn a_full_bucket_refuses_and_forgets_nothing() {
        let mut store = store();
        let filled = |n: u8| SingleUseEntry { hash: [n; HASH], ..coin("a") };
        for n in 0..=255 {
            assert_eq!(consume(&mut store, &filled(n), NOW), Ok(()), "{n}");
        }
        assert_eq!(consume(&mut store, &coin("a"), NOW), Err(ConsumeError::Full));
        assert_eq!(consume(&mut store, &filled(0), NOW), Err(ConsumeError::Spent));
        assert_eq!(consume(&mut store, &coin("a"), Timestamp(NOW.0 + 161)), Ok(()));
    }

    /// Another worker writes between our read and our write, each time.
    #[test]
    fn of_two_at_once_one_succeeds() {
        let racing = |other: SingleUseEntry| {
            let mut other = Some(other);
            let after_read: OtherWorker = Box::new(move |_, memory| {
                if let Some(entry) = other.take() {
                    consume(memory, &entry, NOW).unwrap();
                }
            });
            TestStore { memory: store(), after_read: Some(after_read), ..TestStore::default() }
        };
        assert_eq!(consume(&mut racing(coin("a")), &coin("a"), NOW), Err(ConsumeError::Spent));
        let other = SingleUseEntry { hash: [9; HASH], ..coin("a") };
        assert_eq!(consume(&mut racing(other), &coin("a"), NOW), Ok(()));
    }

    #[test]
    fn what_cannot_be_read_closes() {
        let absent = consume(&mut MemoryStore::default(), &coin("a"), NOW);
        assert_eq!(absent, Err(ConsumeError::Store(StoreError::Absent)));
        for bytes in [&b""[..], b"\x02", b"\x01abc"] {
            let mut store = MemoryStore::default();
            store.seed(Slot::Replay(coin("a").bucket), bytes).unwrap();
            assert_eq!(consume(&mut store, &coin("a"), NOW), Err(ConsumeError::Store(StoreError::Corrupt)));
        }
    }

    #[test]
    fn regions_do_not_overlap() {
        let ranges = Region::ALL.map(|region| {
            let (first, count) = region.buckets();
            first..first + count.get()
        });
        assert!(ranges.windows(2).all(|pair| pair[0].end == pair[1].start));
        let one = coin("a");
        assert!(ranges[1].contains(&one.bucket));
    }
}

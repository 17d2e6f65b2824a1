//! The version and the journal of changes.

use crate::state::coverage::Feeds;
use crate::state::freshness::Freshness;
use crate::state::store::Corrupt;

/// The journal holds the buckets of this many last changes. Part of the stored format.
pub(crate) const JOURNAL: u64 = 4096;

pub(crate) const JOURNAL_LEN: usize = 4096;

/// The journal holds one bit for each bucket, whether anything was ever written to it, in this many 64-bit words.
pub(crate) const OCCUPIED_WORDS: usize = 64;

/// The version of the state: the number of changes since `epoch` began.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Version {
    pub(crate) epoch: u64,
    pub(crate) count: u64,
    pub(crate) known: Known,
}

/// What the version says beside the number of changes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Known {
    /// When each transmitter was last heard of.
    pub freshness: Freshness,
    /// What the feeds cover.
    pub feeds: Feeds,
}

impl Version {
    /// The format byte. Since format 3 every writer increments the change gauge; since format 4 the feeds are part of
    /// it.
    const FORMAT: u8 = 4;

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![Version::FORMAT];
        for number in [self.epoch, self.count] {
            bytes.extend(number.to_le_bytes());
        }
        self.known.feeds.encode(&mut bytes);
        self.known.freshness.encode(&mut bytes);
        bytes
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Version, Corrupt> {
        let (format, rest) = bytes.split_first().ok_or(Corrupt)?;
        let (epoch, rest) = rest.split_first_chunk::<8>().ok_or(Corrupt)?;
        let (count, rest) = rest.split_first_chunk::<8>().ok_or(Corrupt)?;
        if *format != Version::FORMAT {
            return Err(Corrupt);
        }
        let (feeds, rest) = Feeds::decode(rest)?;
        let freshness = Freshness::decode(rest)?;
        Ok(Version {
            epoch: u64::from_le_bytes(*epoch),
            count: u64::from_le_bytes(*count),
            known: Known { freshness, feeds },
        })
    }
}

/// A ring of the buckets that the last changes wrote to, and the set of buckets that were ever written to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Journal {
    pub(crate) count: u64,
    ring: [u16; JOURNAL_LEN],
    pub(crate) occupied: Occupied,
}

impl Default for Journal {
    fn default() -> Journal {
        Journal { count: 0, ring: [0; JOURNAL_LEN], occupied: Occupied([0; OCCUPIED_WORDS]) }
    }
}

/// The set of buckets that may hold something. All others are empty and need not be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Occupied([u64; OCCUPIED_WORDS]);

impl Occupied {
    /// All buckets: nothing is known yet.
    pub(crate) const ANY: Occupied = Occupied([u64::MAX; OCCUPIED_WORDS]);

    fn insert(&mut self, bucket: u16) {
        if let Some(word) = self.0.get_mut(usize::from(bucket / 64)) {
            *word |= 1 << (bucket % 64);
        }
    }

    pub(crate) fn may_hold(&self, bucket: u16) -> bool {
        self.0.get(usize::from(bucket / 64)).is_none_or(|word| word & (1 << (bucket % 64)) != 0)
    }
}

impl Journal {
    const FORMAT: u8 = 3;

    pub(crate) fn push(&mut self, bucket: u16) {
        if let Some(slot) = self.ring.get_mut(ring_slot(self.count)) {
            *slot = bucket;
        }
        self.count = self.count.saturating_add(1);
        self.occupied.insert(bucket);
    }

    /// The buckets of the changes after the first `seen`; `None` when the ring no longer holds all of them.
    pub(crate) fn since(&self, seen: u64) -> Option<impl Iterator<Item = u16>> {
        let remembered = self.count.checked_sub(seen).is_some_and(|changes| changes <= JOURNAL);
        remembered.then(|| (seen..self.count).filter_map(|at| self.ring.get(ring_slot(at)).copied()))
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![Journal::FORMAT];
        bytes.extend(self.count.to_le_bytes());
        self.ring.iter().for_each(|bucket| bytes.extend(bucket.to_le_bytes()));
        self.occupied.0.iter().for_each(|word| bytes.extend(word.to_le_bytes()));
        bytes
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Journal, Corrupt> {
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

pub(crate) fn ring_slot(count: u64) -> usize {
    usize::try_from(count % JOURNAL).unwrap_or(0)
}

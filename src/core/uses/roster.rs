//! Which VMs of a proxy count uses for a feed, and which of their batches the hub has: one record in the memory that all
//! workers share, and one place for the batch of each VM.
//!
//! Stored form of the record: the format (1 byte), the period in seconds (4), then for each place 48 bytes: the VM (0: the
//! place is free), when it was alive last, since when it has uses that are in no batch (0: it has none), the number of the
//! batch that lies in its place, since when that batch has uses, and the number of the last batch that the hub has; 8 bytes
//! each. Stored form of a batch: the VM
//! and the number (8 bytes each), then JSON. Numbers are little-endian. Times are in milliseconds since 1970.

use crate::state::store::{Corrupt, FeedId, MAX_TRIES, Slot, Store, StoreError};

/// So many VMs of one proxy count at the same time. Envoy has one for each worker thread.
pub(crate) const MAX_VMS: usize = 512;

/// A VM that counts says so this often, in milliseconds.
pub(crate) const RENEW: u64 = 3_000;

/// A VM that has not said so for this long has been replaced.
pub(crate) const SILENT: u64 = 15_000;

/// The period until the hub has said one, in seconds.
pub(crate) const DEFAULT_PERIOD: u32 = 10;

const FORMAT: u8 = 1;

/// The VMs that count uses for a feed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Roster {
    /// The time between two batches of one VM, in seconds.
    pub(crate) period: u32,
    /// The VMs by their places.
    pub(crate) places: Vec<Entry>,
}

/// A place, and the VM that has it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Entry {
    /// The VM; 0: the place is free.
    pub(crate) vm: u64,
    /// When it was alive last.
    pub(crate) alive: u64,
    /// Since when it has uses that are in no batch; 0: it has none.
    pub(crate) since: u64,
    /// The number of the batch that lies in its place.
    pub(crate) cut: u64,
    /// When the first use in that batch was counted.
    pub(crate) cut_since: u64,
    /// The number of the last batch that the hub has.
    pub(crate) taken: u64,
}

impl Default for Roster {
    fn default() -> Roster {
        Roster { period: DEFAULT_PERIOD, places: Vec::new() }
    }
}

impl Entry {
    /// Whether its VM is gone.
    pub(crate) fn is_silent(&self, now: u64) -> bool {
        // A time that lies ahead was set before the clock was set back: a VM that is alive corrects it at its next tick.
        now.abs_diff(self.alive) > SILENT
    }

    /// Whether a batch lies in its place that the hub does not have.
    pub(crate) fn has_batch(&self) -> bool {
        self.vm != 0 && self.cut > self.taken
    }

    /// Whether its VM is gone, with uses that were in no batch.
    pub(crate) fn is_gap(&self, now: u64) -> bool {
        self.vm != 0 && self.since != 0 && self.is_silent(now)
    }
}

impl Roster {
    /// The period in milliseconds.
    pub(crate) fn period_ms(&self) -> u64 {
        u64::from(self.period).saturating_mul(1_000)
    }

    /// The entry of `vm` in that place.
    pub(crate) fn entry(&self, place: u16, vm: u64) -> Option<&Entry> {
        self.places.get(usize::from(place)).filter(|entry| entry.vm == vm)
    }

    /// A place for `vm`: that which it has, else a free one, else that of a VM that is gone, the longest gone first. `None`: all are in use.
    pub(crate) fn claim(&mut self, vm: u64, now: u64) -> Option<u16> {
        let of = |vm: u64| self.places.iter().position(|entry| entry.vm == vm);
        let free = of(vm).or_else(|| of(0)).or_else(|| {
            let next = (self.places.len() < MAX_VMS).then_some(self.places.len())?;
            self.places.push(Entry::default());
            Some(next)
        });
        let at = free.or_else(|| {
            let gone = self.places.iter().enumerate().filter(|(_, entry)| entry.is_silent(now));
            gone.min_by_key(|(_, entry)| entry.alive).map(|(at, _)| at)
        })?;
        let entry = self.places.get_mut(at)?;
        if entry.vm != vm {
            *entry = Entry { vm, alive: now, ..Entry::default() };
        }
        u16::try_from(at).ok()
    }

    fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![FORMAT];
        bytes.extend_from_slice(&self.period.to_le_bytes());
        for entry in &self.places {
            for number in [entry.vm, entry.alive, entry.since, entry.cut, entry.cut_since, entry.taken] {
                bytes.extend_from_slice(&number.to_le_bytes());
            }
        }
        bytes
    }

    fn decode(bytes: &[u8]) -> Result<Roster, Corrupt> {
        let (format, rest) = bytes.split_first().ok_or(Corrupt)?;
        let (period, rest) = rest.split_first_chunk::<4>().ok_or(Corrupt)?;
        let (places, more) = rest.as_chunks::<48>();
        if *format != FORMAT || !more.is_empty() {
            return Err(Corrupt);
        }
        let entry = |place: &[u8; 48]| match place.as_chunks::<8>().0 {
            [vm, alive, since, cut, cut_since, taken] => {
                let number = |bytes: &[u8; 8]| u64::from_le_bytes(*bytes);
                let (vm, alive, since) = (number(vm), number(alive), number(since));
                let (cut, cut_since, taken) = (number(cut), number(cut_since), number(taken));
                Some(Entry { vm, alive, since, cut, cut_since, taken })
            }
            _ => None,
        };
        let places = places.iter().map(entry).collect::<Option<Vec<Entry>>>().ok_or(Corrupt)?;
        Ok(Roster { period: u32::from_le_bytes(*period), places })
    }
}

/// Creates the record of `feed` if there is none. It must run while nobody else can write.
pub fn set_up(store: &mut impl Store, feed: FeedId) -> Result<(), StoreError> {
    match store.read(Slot::Uses(feed))? {
        Some(_) => Ok(()),
        None => store.seed(Slot::Uses(feed), &Roster::default().encode()),
    }
}

/// The record of `feed`.
pub(crate) fn read(store: &mut impl Store, feed: FeedId) -> Result<Roster, StoreError> {
    let stored = store.read(Slot::Uses(feed))?.ok_or(StoreError::Absent)?;
    Ok(Roster::decode(&stored.bytes)?)
}

/// Changes the record of `feed`, and again if another VM has changed it meanwhile.
pub(crate) fn change(
    store: &mut impl Store,
    feed: FeedId,
    change: &mut dyn FnMut(&mut Roster),
) -> Result<(), StoreError> {
    for _ in 0..MAX_TRIES {
        let stored = store.read(Slot::Uses(feed))?.ok_or(StoreError::Absent)?;
        let mut roster = Roster::decode(&stored.bytes)?;
        change(&mut roster);
        let bytes = roster.encode();
        if bytes == stored.bytes || store.swap(Slot::Uses(feed), &bytes, stored.cas)? {
            return Ok(());
        }
    }
    Err(StoreError::Contended)
}

/// Puts the batch `number` of `vm` into its place. The VM that has the place is the only one that writes there.
pub(crate) fn put(
    store: &mut impl Store,
    (feed, place): (FeedId, u16),
    vm: u64,
    number: u64,
    json: &[u8],
) -> Result<(), StoreError> {
    let mut bytes = Vec::with_capacity(json.len().saturating_add(16));
    bytes.extend_from_slice(&vm.to_le_bytes());
    bytes.extend_from_slice(&number.to_le_bytes());
    bytes.extend_from_slice(json);
    store.seed(Slot::UsesBatch(feed, place), &bytes)
}

/// The JSON of the batch `number` of `vm`, if it lies in that place.
pub(crate) fn batch(
    store: &mut impl Store,
    (feed, place): (FeedId, u16),
    vm: u64,
    number: u64,
) -> Result<Option<String>, StoreError> {
    let Some(stored) = store.read(Slot::UsesBatch(feed, place))? else { return Ok(None) };
    let head = stored.bytes.first_chunk::<16>().map(|head| head.as_chunks::<8>().0);
    let is_it = matches!(head, Some([of, is]) if u64::from_le_bytes(*of) == vm && u64::from_le_bytes(*is) == number);
    let json = stored.bytes.get(16..).filter(|_| is_it).map(|json| String::from_utf8_lossy(json).into_owned());
    Ok(json)
}

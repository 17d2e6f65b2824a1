//! What one worker has read of the pushed state.

use crate::state::coverage::{CoveredIssuer, FeedId, Feeds, NotReady};
use crate::state::freshness::{Freshness, TransmitterId};
use crate::state::key::BUCKETS;
use crate::state::log::Journal;
use crate::state::log::Known;
use crate::state::log::Occupied;
use crate::state::log::Version;
use crate::state::store::Slot;
use crate::state::store::Store;
use crate::state::store::StoreError;
use crate::time::Timestamp;

/// The version as one worker last read it, and which buckets may have changed since.
#[derive(Debug)]
pub struct View {
    seen: Option<(u64, u64)>,
    /// The version as it was last read.
    bytes: Vec<u8>,
    /// The value of the change counter before that read.
    doorbell: Option<u64>,
    freshness: Freshness,
    feeds: Feeds,
    /// Incremented whenever the state became less reliable: the stream of a transmitter was paused or disabled, or a feed
    /// no longer covers an issuer.
    setbacks: u64,
    /// Incremented whenever this worker sees a change; never goes back.
    clock: u64,
    /// For each bucket, the clock at which a change to it was last seen.
    changed: Vec<u64>,
    /// The buckets that were ever written to, up to the version that was seen.
    occupied: Occupied,
}

impl Default for View {
    fn default() -> View {
        View {
            seen: None,
            bytes: Vec::new(),
            doorbell: None,
            freshness: Freshness::default(),
            feeds: Feeds::default(),
            setbacks: 0,
            clock: 0,
            changed: vec![0; usize::from(BUCKETS)],
            occupied: Occupied::ANY,
        }
    }
}

impl View {
    /// Looks for changes. Returns this worker's clock: what was read from buckets at an earlier clock still holds if
    /// [`View::is_current`] says so.
    pub fn refresh(&mut self, store: &mut impl Store) -> Result<u64, StoreError> {
        let doorbell = store.doorbell();
        if doorbell.is_some() && doorbell == self.doorbell {
            return Ok(self.clock);
        }
        // Stored only after everything was read: a refresh that failed must not count as done.
        self.doorbell = None;
        let clock = self.read(store)?;
        self.doorbell = doorbell;
        Ok(clock)
    }

    /// Reads the version, and the changes since the version that was read before.
    fn read(&mut self, store: &mut impl Store) -> Result<u64, StoreError> {
        let stored = store.read(Slot::Version)?.ok_or(StoreError::Absent)?;
        if stored.bytes == self.bytes {
            return Ok(self.clock);
        }
        let version = Version::decode(&stored.bytes)?;
        let Known { freshness, feeds } = version.known;
        if freshness.is_worse_than(&self.freshness) || feeds.is_worse_than(&self.feeds) {
            self.setbacks = self.setbacks.saturating_add(1);
        }
        (self.freshness, self.feeds) = (freshness, feeds);
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
        // Each bucket is in the journal before the version counts its change.
        self.occupied = journal.occupied;
        // The journal may be ahead of the version: its last writers have not published yet. They will move the version
        // once more; then these buckets are read twice, which is harmless.
        self.seen = Some((version.epoch, version.count));
        // Stored last: a refresh that failed half way must not count as done.
        self.bytes = bytes;
        Ok(clock)
    }

    /// The buckets that may have changed after `clock`.
    pub fn changes_since(&self, clock: u64) -> Changes {
        let changed = self.changed.iter().zip(0..).filter(|(changed, _)| **changed > clock);
        Changes(changed.map(|(_, bucket)| bucket).collect())
    }

    /// Discards what was read: all buckets count as changed.
    pub fn forget(&mut self) {
        self.seen = None;
        self.bytes.clear();
        self.doorbell = None;
    }

    /// Reads the version at the next refresh, even if the change counter did not move.
    pub fn force_refresh(&mut self) {
        self.doorbell = None;
    }

    /// Whether the bucket may hold anything under the version that was last seen. If not, it is empty.
    pub fn may_hold(&self, bucket: u16) -> bool {
        self.occupied.may_hold(bucket)
    }

    /// How often this worker saw that the state had become less fresh than it was known to be.
    pub fn setbacks(&self) -> u64 {
        self.setbacks
    }

    /// Whether `feed` answers for the issuer that a filter needs as `needed`.
    pub fn check_feed(&self, feed: FeedId, needed: &CoveredIssuer) -> Result<(), NotReady> {
        self.feeds.check(feed, needed)
    }

    /// The time at which all of `transmitters` had been heard of; [`Timestamp`] 0 when one never was.
    pub fn fresh_at(&self, transmitters: &[TransmitterId]) -> Timestamp {
        self.freshness.oldest(transmitters)
    }

    /// Whether what was read from `buckets` at `clock` still holds.
    pub fn is_current(&self, buckets: &[u16], clock: u64) -> bool {
        // No change was seen since: the buckets need not be compared.
        clock == self.clock
            || buckets
                .iter()
                .all(|bucket| self.changed.get(usize::from(*bucket)).is_some_and(|changed| *changed <= clock))
    }
}

/// What the feeds of this proxy cover, for whoever has no [`View`].
pub fn feeds(store: &mut impl Store) -> Result<Feeds, StoreError> {
    let stored = store.read(Slot::Version)?.ok_or(StoreError::Absent)?;
    Ok(Version::decode(&stored.bytes)?.known.feeds)
}

/// Buckets that may have changed, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changes(Vec<u16>);

impl Changes {
    /// The buckets, each once.
    pub fn buckets(&self) -> impl Iterator<Item = u16> {
        self.0.iter().copied()
    }

    /// Whether one of `buckets` may have changed.
    pub fn touch(&self, buckets: impl IntoIterator<Item = u16>) -> bool {
        buckets.into_iter().any(|bucket| self.0.binary_search(&bucket).is_ok())
    }
}

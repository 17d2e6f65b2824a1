//! The room that the proxies have: how full each bucket is, as each of them would compute it.
//!
//! A proxy that has no room for an entry marks a whole class of grants as uncertain. So the hub refuses a signal before
//! that happens: a transmitter's at 90% of a class, or where its share is used up; an operator's only where the class is
//! full. The room of an entry comes free some time after it has ended, since the clocks of proxies differ.

use crate::store::Store;
use crate::store::model::{NewSignal, StoreError, StoredEntry};
use std::collections::HashMap;
use taskfence_core::feed::entry::{self, Decoded};
use taskfence_core::state::freshness::TransmitterId;
use taskfence_core::state::key::BUCKETS;
use taskfence_core::state::room::{Class, Load};
use taskfence_core::time::{Span, Timestamp};

/// The transmitter of signals that operators make.
pub const OPERATOR: &str = "operator";

/// Transmitters may use so much of a class, in percent.
const REFUSED_ABOVE: usize = 90;

/// A class that is used so much, in percent, is an alarm.
const ALARM_ABOVE: usize = 70;

/// A proxy may keep an entry so much longer than the hub, because its clock is behind.
const LATE: Span = Span::minutes(2);

/// The room in all feeds.
#[derive(Debug, Default)]
pub struct Room {
    feeds: HashMap<String, Mirror>,
}

/// The proxies have no room for an entry of this class.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoRoom(pub Class);

/// The room that one signal took.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Taken {
    /// Buckets and identities.
    slots: Vec<(u16, u64)>,
    /// How many of the entries left their class used above 70%.
    pub nearly_full: usize,
}

impl Room {
    /// The room that is left beside what `store` holds at `now` in `feeds`.
    pub fn load(store: &dyn Store, feeds: &[String], now: Timestamp) -> Result<Room, StoreError> {
        let mut room = Room::default();
        for feed in feeds {
            let mut mirror = Mirror::new();
            let mut read = Ok(());
            // An entry that has just ended may still use room.
            let since = Timestamp(now.0.saturating_sub(LATE.0));
            store.full_state(feed, since, &mut |stored| match place(&stored.entry.bytes) {
                Ok(Some((bucket, by, slot))) => mirror.put(bucket, by, slot, now),
                Ok(None) => {}
                Err(error) => read = Err(error),
            })?;
            read?;
            room.feeds.insert(feed.clone(), mirror);
        }
        Ok(room)
    }

    /// Takes the room for all entries of a new signal, or for none. Entries that are there already need none.
    pub fn take(&mut self, signal: &NewSignal, now: Timestamp) -> Result<Result<Taken, NoRoom>, StoreError> {
        let mut taken = Taken::default();
        let Some(mirror) = self.feeds.get_mut(&signal.feed) else { return Ok(Ok(taken)) };
        let limit = if signal.transmitter == OPERATOR { 100 } else { REFUSED_ABOVE };
        for new in &signal.entries {
            let Some((bucket, by, slot)) = place(&new.bytes)? else { continue };
            match mirror.take(bucket, by, slot, limit, now) {
                Ok(Some(percent)) => {
                    taken.slots.push((bucket, slot.identity));
                    taken.nearly_full = taken.nearly_full.saturating_add(usize::from(percent > ALARM_ABOVE));
                }
                Ok(None) => {}
                Err(no_room) => {
                    mirror.give_back(&taken);
                    return Ok(Err(no_room));
                }
            }
        }
        Ok(Ok(taken))
    }

    /// Counts entries that were stored. Those that have room already stay as they are.
    pub fn put(&mut self, feed: &str, entries: &[StoredEntry], now: Timestamp) -> Result<(), StoreError> {
        let Some(mirror) = self.feeds.get_mut(feed) else { return Ok(()) };
        for stored in entries {
            if let Some((bucket, by, slot)) = place(&stored.entry.bytes)? {
                mirror.put(bucket, by, slot, now);
            }
        }
        Ok(())
    }

    /// Gives back what a signal took that was not stored.
    pub fn give_back(&mut self, feed: &str, taken: &Taken) {
        if let Some(mirror) = self.feeds.get_mut(feed) {
            mirror.give_back(taken);
        }
    }

    /// How many entries are counted in a feed.
    pub fn entries(&self, feed: &str) -> usize {
        let buckets = self.feeds.get(feed).map(|mirror| mirror.buckets.iter().map(Vec::len).sum());
        buckets.unwrap_or_default()
    }
}

/// What counts of one entry: 16 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Slot {
    /// `Entry::identity`.
    identity: u64,
    /// When its room comes free, in seconds since 1970. `u32::MAX`: never.
    until: u32,
    /// The bytes of its data.
    data: u16,
    /// `Class::encode`.
    class: u8,
    /// The place of its transmitter in [`Mirror::transmitters`].
    by: u8,
}

/// Where an encoded entry goes. `None`: the proxies of this version do not keep it.
fn place(bytes: &[u8]) -> Result<Option<(u16, TransmitterId, Slot)>, StoreError> {
    match entry::decode(bytes).next() {
        Some(Ok(Decoded::Known(read))) => {
            let entry = read.entry;
            let slot = Slot {
                identity: entry.identity(),
                until: u32::try_from(entry.until.plus(LATE).0).unwrap_or(u32::MAX),
                data: u16::try_from(entry.data.len()).unwrap_or(u16::MAX),
                class: Class::of(entry.fact, &entry.key).encode(),
                by: 0,
            };
            Ok(Some((entry.key.bucket(), read.by, slot)))
        }
        Some(Ok(Decoded::UnknownKind)) => Ok(None),
        Some(Err(_)) | None => Err(StoreError::Damaged("an entry cannot be read".to_owned())),
    }
}

/// The buckets of one feed.
#[derive(Debug)]
struct Mirror {
    transmitters: Vec<TransmitterId>,
    buckets: Vec<Vec<Slot>>,
}

impl Mirror {
    fn new() -> Mirror {
        Mirror { transmitters: Vec::new(), buckets: vec![Vec::new(); usize::from(BUCKETS)] }
    }

    /// Counts an entry that is stored.
    fn put(&mut self, bucket: u16, by: TransmitterId, slot: Slot, now: Timestamp) {
        let by = self.index(by);
        let Some(slots) = self.buckets.get_mut(usize::from(bucket)) else { return };
        if !slot.is_free(now) && !merge(slots, &slot) {
            slots.push(Slot { by, ..slot });
        }
    }

    /// Takes room for a new entry where the class is used up to `limit` percent with it. Returns how much is then used,
    /// in percent; `Ok(None)`: the entry is there already.
    fn take(
        &mut self,
        bucket: u16,
        by: TransmitterId,
        slot: Slot,
        limit: usize,
        now: Timestamp,
    ) -> Result<Option<usize>, NoRoom> {
        let by = self.index(by);
        let (Some(slots), Some(class)) = (self.buckets.get_mut(usize::from(bucket)), Class::decode(slot.class)) else {
            return Ok(None);
        };
        slots.retain(|held| !held.is_free(now));
        if merge(slots, &slot) {
            return Ok(None);
        }
        let (mut own, mut all) = (slot.load(), slot.load());
        for held in slots.iter().filter(|held| held.class == slot.class) {
            add(&mut all, held.load());
            if held.by == by {
                add(&mut own, held.load());
            }
        }
        let percent = used(class, all);
        if class.overflow(own, all).is_some() || percent > limit {
            return Err(NoRoom(class));
        }
        slots.push(Slot { by, ..slot });
        Ok(Some(percent))
    }

    fn give_back(&mut self, taken: &Taken) {
        for (bucket, identity) in &taken.slots {
            if let Some(slots) = self.buckets.get_mut(usize::from(*bucket)) {
                slots.retain(|held| held.identity != *identity);
            }
        }
    }

    /// The place of the transmitter. A feed has at most 30; what is beyond 255 shares the last place.
    fn index(&mut self, by: TransmitterId) -> u8 {
        let known = self.transmitters.iter().position(|known| *known == by);
        let at = known.unwrap_or_else(|| {
            if self.transmitters.len() < usize::from(u8::MAX) {
                self.transmitters.push(by);
            }
            self.transmitters.len().saturating_sub(1)
        });
        u8::try_from(at).unwrap_or(u8::MAX)
    }
}

/// Whether the entry is there already: then it is kept until the later of both ends.
fn merge(slots: &mut [Slot], new: &Slot) -> bool {
    let Some(held) = slots.iter_mut().find(|held| held.identity == new.identity) else { return false };
    held.until = held.until.max(new.until);
    held.data = held.data.max(new.data);
    true
}

impl Slot {
    fn is_free(&self, now: Timestamp) -> bool {
        self.until != u32::MAX && u64::from(self.until) <= now.0
    }

    fn load(&self) -> Load {
        Load { entries: 1, data: usize::from(self.data) }
    }
}

fn add(sum: &mut Load, load: Load) {
    sum.entries = sum.entries.saturating_add(load.entries);
    sum.data = sum.data.saturating_add(load.data);
}

/// How much of a class is used in a bucket, in percent, rounded up.
fn used(class: Class, load: Load) -> usize {
    let percent = |used: usize, of: usize| used.saturating_mul(100).div_ceil(of.max(1));
    percent(load.entries, class.capacity()).max(percent(load.data, class.data()))
}

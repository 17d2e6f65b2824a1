//! The room that the proxies have: how full each bucket is, as each of them would compute it.
//!
//! A proxy that has no room for an entry marks a whole class of grants as uncertain. So the hub refuses a signal before
//! that happens: a transmitter's at 90% of a class, or where its share is used up; an operator's only where the class is
//! full. The entries of other replicas are counted when they are heard of: what several take at the same moment may use some
//! of the tenth that is left. The room of an entry comes free some time after it has ended, since the clocks of proxies differ.

use crate::store::Store;
use crate::store::model::{NewSignal, StoreError, StoredEntry};
use std::collections::HashMap;
use taskfence_core::feed::entry::{self, Decoded};
use taskfence_core::signal::operator::OPERATOR;
use taskfence_core::state::freshness::TransmitterId;
use taskfence_core::state::key::BUCKETS;
use taskfence_core::state::room::{Class, Load};
use taskfence_core::time::{Span, Timestamp};

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
        feeds.iter().try_for_each(|feed| room.load_feed(store, feed, now))?;
        Ok(room)
    }

    /// Counts one feed anew, as `store` holds it at `now`. After an error it is as before.
    pub fn load_feed(&mut self, store: &dyn Store, feed: &str, now: Timestamp) -> Result<(), StoreError> {
        let mut mirror = Mirror::new();
        let mut read = Ok(());
        // An entry that has just ended may still use room.
        let since = Timestamp(now.0.saturating_sub(LATE.0));
        store.full_state(feed, since, &mut |stored| match place(&stored.entry.bytes) {
            Ok(Some(placed)) => mirror.put(placed, now),
            Ok(None) => {}
            Err(error) => read = Err(error),
        })?;
        read?;
        self.feeds.insert(feed.to_owned(), mirror);
        Ok(())
    }

    /// Takes the room for all entries of a new signal, or for none. Entries that are there already need none.
    pub fn take(&mut self, signal: &NewSignal, now: Timestamp) -> Result<Result<Taken, NoRoom>, StoreError> {
        let mut taken = Taken::default();
        let Some(mirror) = self.feeds.get_mut(&signal.feed) else { return Ok(Ok(taken)) };
        let operators = TransmitterId::new(OPERATOR);
        for new in &signal.entries {
            let Some(Placed { bucket, by, slot, .. }) = place(&new.bytes)? else { continue };
            // Not by the stream: issuers report events there too, and use a share of their own.
            let limit = if by == operators { 100 } else { REFUSED_ABOVE };
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
            if let Some(placed) = place(&stored.entry.bytes)? {
                mirror.put(placed, now);
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
    /// `Entry::identity`: entries of all signals that share it use the room of one.
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

/// Where an encoded entry goes.
#[derive(Debug, Clone, Copy)]
struct Placed {
    bucket: u16,
    by: TransmitterId,
    slot: Slot,
    /// It replaces what was there before it.
    is_lifted: bool,
}

/// Where an encoded entry goes. `None`: the proxies of this version do not keep it.
fn place(bytes: &[u8]) -> Result<Option<Placed>, StoreError> {
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
            let is_lifted = entry.lifted && entry.fact.is_kept_by_signal();
            Ok(Some(Placed { bucket: entry.key.bucket(), by: read.by, slot, is_lifted }))
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

    /// Counts an entry that is stored. Those of one place come in the order of their numbers.
    fn put(&mut self, Placed { bucket, by, slot, is_lifted }: Placed, now: Timestamp) {
        let by = self.index(by);
        let Some(slots) = self.buckets.get_mut(usize::from(bucket)) else { return };
        if is_lifted && let Some(held) = slots.iter_mut().find(|held| held.identity == slot.identity) {
            held.until = slot.until;
            return;
        }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::model::{Change, NewEntry};
    use crate::store::testing::{self, FEED, ISSUER, commit, entry, lift, signal, store, stored, task};
    use taskfence_core::state::bucket::Table;
    use taskfence_core::state::fact::Fact;
    use taskfence_core::state::key::{Kind, StateKey};

    const NOW: Timestamp = Timestamp(1_000);

    fn empty() -> Room {
        Room { feeds: HashMap::from([(FEED.to_owned(), Mirror::new())]) }
    }

    /// A signal with an entry of one bucket, whose class has room for 64.
    fn block(transmitter: &str, n: usize) -> NewSignal {
        NewSignal { entries: vec![testing::block(transmitter, n)], ..signal(transmitter, &n.to_string(), &[]) }
    }

    /// How many signals of the transmitter find room.
    fn fill(room: &mut Room, transmitter: &str) -> usize {
        (0..100).take_while(|n| room.take(&block(transmitter, *n), NOW).unwrap().is_ok()).count()
    }

    #[test]
    fn transmitters_have_shares_and_operators_the_rest() {
        let mut room = empty();
        assert_eq!(fill(&mut room, "idp"), 48, "three quarters");
        assert_eq!(fill(&mut room, "mdm"), 9, "57 of 64 are 90%");
        assert_eq!(fill(&mut room, OPERATOR), 7, "all that is left");
        let refused = room.take(&block(OPERATOR, 100), NOW).unwrap().unwrap_err();
        assert_eq!(refused, NoRoom(Class::of(Fact::Blocked, &StateKey::new(Kind::Client, ISSUER, "agent"))));
        // Other classes of the same buckets are not touched.
        assert!(room.take(&signal("idp", "1", &[("a", 9_000)]), NOW).unwrap().is_ok());
    }

    #[test]
    fn a_class_that_is_used_above_70_percent_is_counted() {
        let mut room = empty();
        let taken = (0..48).map(|n| room.take(&block("idp", n), NOW).unwrap().unwrap().nearly_full);
        assert_eq!(taken.collect::<Vec<_>>(), [vec![0; 44], vec![1; 4]].concat());
    }

    #[test]
    fn a_proxy_that_applies_what_was_admitted_marks_nothing() {
        let mut room = empty();
        let mut table = Table::default();
        for n in 0..200usize {
            let transmitter = ["idp", "mdm", OPERATOR][n % 3];
            let new = block(transmitter, n);
            let Ok(_) = room.take(&new, NOW).unwrap() else { continue };
            let Some(Ok(Decoded::Known(read))) = entry::decode(&new.entries[0].bytes).next() else { panic!() };
            assert!(table.insert(read.entry, read.by, NOW), "{n}");
        }
        assert_eq!(room.entries(FEED), 64);
    }

    #[test]
    fn a_signal_takes_room_for_all_its_entries_or_for_none() {
        let mut room = empty();
        assert_eq!(fill(&mut room, "idp"), 48);
        let mut new = signal("idp", "x", &[("a", 9_000), ("b", 9_000)]);
        new.entries.extend(block("idp", 77).entries);
        assert!(room.take(&new, NOW).unwrap().is_err());
        assert_eq!(room.entries(FEED), 48);
    }

    #[test]
    fn what_is_there_already_needs_no_room_and_what_was_not_stored_gives_it_back() {
        let mut room = empty();
        assert_eq!(fill(&mut room, "idp"), 48);
        assert_eq!(room.take(&block("idp", 5), NOW), Ok(Ok(Taken::default())));
        let taken = room.take(&block("mdm", 1), NOW).unwrap().unwrap();
        room.give_back(FEED, &taken);
        assert_eq!(room.entries(FEED), 48);
    }

    #[test]
    fn signals_that_say_the_same_share_the_room_of_one() {
        let (store, _folder) = store();
        let mut room = empty();
        let stop = |n: usize| {
            let key = StateKey::of_issuer(ISSUER);
            let entries = vec![entry(OPERATOR, key, Fact::Blocked, Timestamp::MAX.0)];
            NewSignal { entries, ..signal(OPERATOR, &format!("stop-{n}"), &[]) }
        };
        for n in 0..200 {
            room.take(&stop(n), NOW).unwrap().unwrap();
            let (id, _, entries) = stored(commit(&store, Change::Signal(stop(n))));
            room.put(FEED, &entries, NOW).unwrap();
            let (.., undone) = stored(commit(&store, lift(id)));
            room.put(FEED, &undone, NOW).unwrap();
            assert_eq!(room.entries(FEED), 1, "{n}");
        }
        // What was lifted frees its room in the end, also after a restart.
        let mut loaded = Room::load(&store, &[FEED.to_owned()], NOW).unwrap();
        for room in [&mut room, &mut loaded] {
            assert_eq!(room.entries(FEED), 1);
            room.take(&block("idp", 1), Timestamp(2_000 + 31 * 86_400)).unwrap().unwrap();
            let bucket = usize::from(StateKey::of_issuer(ISSUER).bucket());
            let late = Timestamp(2_000 + 31 * 86_400);
            assert!(room.feeds[FEED].buckets[bucket].iter().all(|slot| slot.is_free(late)));
        }
    }

    #[test]
    fn room_comes_free_when_no_proxy_can_keep_the_entry_any_more() {
        let mut room = empty();
        assert_eq!(fill(&mut room, "idp"), 48);
        let later = |room: &mut Room, now| room.take(&block("idp", 77), Timestamp(now)).unwrap().is_ok();
        assert!(!later(&mut room, 9_000), "a proxy whose clock is behind still has them");
        assert!(later(&mut room, 9_120));
    }

    #[test]
    fn the_data_of_entries_counts_too() {
        let mut room = empty();
        let narrow = |n: usize| {
            let (jti, data) = (n.to_string(), [vec![b'x'; 4_000], n.to_string().into_bytes()].concat());
            let key = StateKey::new(Kind::Tenant, ISSUER, "t");
            let mut new = entry("idp", key, Fact::Narrowed, 9_000);
            let length = u16::try_from(new.bytes.len() - 2 + data.len()).unwrap();
            new.bytes.extend(data);
            new.bytes.splice(..2, length.to_le_bytes());
            NewSignal { entries: vec![NewEntry { ..new }], ..signal("idp", &jti, &[]) }
        };
        // The class has 8 KiB for data, and a transmitter three quarters of it.
        let fits: Vec<_> = (0..3).map(|n| room.take(&narrow(n), NOW).unwrap().is_ok()).collect();
        assert_eq!(fits, [true, false, false]);
    }

    #[test]
    fn what_is_loaded_from_the_store_is_what_was_taken() {
        let (store, _folder) = store();
        let mut room = empty();
        let mut ids = Vec::new();
        for n in 0..40 {
            room.take(&block("idp", n), NOW).unwrap().unwrap();
            ids.push(stored(commit(&store, Change::Signal(block("idp", n)))).0);
        }
        commit(&store, lift(ids[3]));
        let ended = signal("idp", "e", &[("a", 500)]);
        commit(&store, Change::Signal(ended));
        let mut loaded = Room::load(&store, &[FEED.to_owned()], NOW).unwrap();
        assert_eq!(loaded.entries(FEED), 40);
        assert_eq!((fill(&mut loaded, "mdm"), fill(&mut room, "mdm")), (17, 17));
        assert!(loaded.take(&block("idp", 3), NOW).unwrap().is_ok_and(|taken| taken == Taken::default()));
        assert_eq!(task("a").kind(), Kind::Task);
    }

    #[test]
    fn bytes_that_are_no_entry_are_an_error() {
        let mut bad = signal("idp", "1", &[("a", 9_000)]);
        bad.entries[0].bytes.truncate(9);
        assert!(matches!(empty().take(&bad, NOW), Err(StoreError::Damaged(_))));
    }
}

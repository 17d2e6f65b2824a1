//! One bucket of the pushed state: a compact table, stored as one value in the proxy's shared data.
//!
//! Format 4: `4`, the number of transmitters (1 byte) and the transmitters (8 bytes each), the number of marks (1) and
//! the marks (8 each: class (1), issuer (2), until (5)), then the entries. An entry is: key (19), fact (1: family and
//! value, 4 bits each), at (5), until (5), the index of its transmitter (1), the number of conditions (1; bit 7: it was
//! lifted, bit 6: it has a source), the source (8, where it has one), the conditions (19 each), and, for a fact that has
//! data, the length of the data (2) and the data. Numbers are little-endian, times are in seconds.
//!
//! An entry is removed after [`Entry::until`] and for no other reason: a full table does not evict entries. It refuses
//! the new entry and sets a mark, see [`crate::state::room`].

use crate::encoding::digest::short_hash;
use crate::state::fact::Fact;
use crate::state::freshness::TransmitterId;
use crate::state::key::{IssuerTag, StateKey};
use crate::state::payload;
use crate::state::payload::MAX_DATA;
use crate::state::room::{self, Class, Load, Mark, Overflow};
use crate::state::store::Corrupt;
use crate::time::Timestamp;
use hashbrown::HashTable;
use sha2::{Digest, Sha256};
use std::cmp::Ordering;

const FORMAT: u8 = 4;
const FIXED: usize = StateKey::LEN + 13;

/// The index of a transmitter that is not in the list at the start of the table.
const UNLISTED: u8 = u8::MAX;

/// Flags beside the number of conditions.
const LIFTED: u8 = 0x80;
const HAS_SOURCE: u8 = 0x40;
const COUNT: u8 = 0x3f;

/// The subject of a signal may name this many members beside the first.
pub const MAX_CONDITIONS: usize = 8;

/// Where an entry comes from: the stream of a transmitter in a feed, by a hash (4 bytes), and a generation (4 bytes).
///
/// Signals of one stream that say the same about the same key share one entry of a table. Of their generations the
/// highest counts alone: it says all that still stands. A direct receiver records no source; then all bytes are 0.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct SourceTag(pub [u8; 8]);

impl SourceTag {
    /// Nothing is recorded.
    pub const NONE: SourceTag = SourceTag([0; 8]);

    /// The generation `generation` of what `stream` says in `feed`.
    pub fn new(feed: &str, stream: &str, generation: u32) -> SourceTag {
        let [a, b, c, d, ..] = short_hash(&[feed, stream]);
        // Zero means that nothing is recorded.
        let [a, b, c, d] = if [a, b, c, d] == [0; 4] { [1; 4] } else { [a, b, c, d] };
        SourceTag([a, b, c, d, 0, 0, 0, 0]).with_generation(generation)
    }

    /// The same stream with another generation.
    pub fn with_generation(self, generation: u32) -> SourceTag {
        let ([a, b, c, d], [e, f, g, h]) = (self.stream(), generation.to_le_bytes());
        SourceTag([a, b, c, d, e, f, g, h])
    }

    /// The hash of the stream.
    pub fn stream(self) -> [u8; 4] {
        let [a, b, c, d, ..] = self.0;
        [a, b, c, d]
    }

    /// The generation.
    pub fn generation(self) -> u32 {
        let [.., e, f, g, h] = self.0;
        u32::from_le_bytes([e, f, g, h])
    }
}

/// One fact about one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The user, token, device etc. that the entry is about.
    pub key: StateKey,
    /// What is known about it.
    pub fact: Fact,
    /// When the event happened.
    pub at: Timestamp,
    /// The entry is kept until this time. No token that the entry can affect is valid after it.
    pub until: Timestamp,
    /// Other members of the signal's subject. A grant must have each of them too, or have nothing of that kind.
    pub conditions: Vec<StateKey>,
    /// The data of a fact that has data, as [`crate::rules::grant_changes`] reads it; at most [`MAX_DATA`] bytes.
    pub data: Vec<u8>,
    /// Where it comes from. Entries of different streams are kept apart, so that what one says can be lifted alone. A
    /// table records it where [`Fact::is_kept_by_signal`] says so.
    pub source: SourceTag,
    /// Whether an operator lifted all of its generation: it has no effect any more. Only a higher generation sets this
    /// back. A table ignores an entry that is lifted and not kept by signal.
    pub lifted: bool,
}

/// What a table holds about one key.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct About {
    /// The entries about it.
    pub entries: Vec<Entry>,
    /// Marks that include this key: an entry that did not fit may have been about it.
    pub marks: Vec<Mark>,
}

/// What the stored form of a table holds about `key`. Entries about other keys, of which there may be hundreds, are
/// skipped without decoding.
pub fn about(bytes: &[u8], key: StateKey) -> Result<About, Corrupt> {
    let mut about = About::default();
    let Some(mut reader) = Reader::new(bytes)? else { return Ok(about) };
    reader.skip_transmitters()?;
    for _ in 0..reader.byte()? {
        about.marks.extend(Some(reader.mark()?).filter(|mark| mark.applies_to(&key)));
    }
    let wanted = key.encode();
    while !reader.rest.is_empty() {
        match reader.rest.starts_with(&wanted) {
            true => about.entries.push(reader.entry()?.0),
            false => reader.skip_entry()?,
        }
    }
    Ok(about)
}

/// A decoded table.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Table {
    entries: Vec<Held>,
    marks: Vec<Mark>,
}

/// An entry, and the transmitter whose share it counts against: the first that sent it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Held {
    entry: Entry,
    by: TransmitterId,
}

impl Table {
    /// Reads the stored form. An empty value is an empty table.
    pub fn decode(bytes: &[u8]) -> Result<Table, Corrupt> {
        let Some(mut reader) = Reader::new(bytes)? else { return Ok(Table::default()) };
        let mut table = Table::default();
        let transmitters = reader.transmitters()?;
        for _ in 0..reader.byte()? {
            table.marks.push(reader.mark()?);
        }
        while !reader.rest.is_empty() {
            let (entry, place) = reader.entry()?;
            let by = transmitters.get(usize::from(place)).copied().unwrap_or(TransmitterId::UNKNOWN);
            table.entries.push(Held { entry, by });
        }
        Ok(table)
    }

    /// Encodes the table into the stored form.
    pub fn encode(&self) -> Vec<u8> {
        let mut transmitters: Vec<TransmitterId> = Vec::new();
        let mut entries = Vec::with_capacity(self.entries.len().saturating_mul(FIXED));
        for Held { entry, by } in &self.entries {
            entry.encode(index_of(*by, &mut transmitters), &mut entries);
        }
        let mut bytes = vec![FORMAT, u8::try_from(transmitters.len()).unwrap_or(UNLISTED)];
        transmitters.iter().for_each(|transmitter| bytes.extend(transmitter.as_bytes()));
        bytes.push(u8::try_from(self.marks.len()).unwrap_or(u8::MAX));
        for mark in &self.marks {
            bytes.push(mark.class.encode());
            bytes.extend(mark.issuer.encode());
            push_time(&mut bytes, mark.until);
        }
        bytes.extend(entries);
        bytes
    }

    /// Inserts the entry `new` of the transmitter `by`, see [`Table::insert_all`]. Returns `false` when there is no room
    /// for it.
    pub fn insert(&mut self, new: Entry, by: TransmitterId, now: Timestamp) -> bool {
        self.insert_all([(by, new)], now)
    }

    /// Inserts the entries `new`, each with the transmitter that sent it, and removes entries and marks that have ended
    /// by `now`. Returns `false` when there is no room for one of them; its class is then marked as uncertain until the
    /// entry would have ended.
    ///
    /// The order of inserts does not matter: see `Entry::merge` and [`crate::state::room`].
    pub fn insert_all(&mut self, new: impl IntoIterator<Item = (TransmitterId, Entry)>, now: Timestamp) -> bool {
        self.entries.retain(|held| held.entry.until > now);
        self.marks.retain(|mark| mark.until > now);
        let mut index = Index::new(&self.entries);
        let mut all_fit = true;
        for (by, entry) in new {
            all_fit &= self.insert_one(entry, by, now, &mut index);
        }
        all_fit
    }

    fn insert_one(&mut self, mut new: Entry, by: TransmitterId, now: Timestamp, index: &mut Index) -> bool {
        // What a lift would take back may have been replaced by the word of another signal.
        if new.lifted && !new.fact.is_kept_by_signal() {
            return true;
        }
        new.source = new.kept_source();
        let class = Class::of(new.fact, &new.key);
        let known = index.find(&self.entries, &new);
        if known.is_none() && new.until <= now {
            return true;
        }
        let (mut own, mut all) = index.loads(class, by);
        if let Some(held) = known.and_then(|at| self.entries.get(at)) {
            all.remove(&held.entry);
            if held.by == by {
                own.remove(&held.entry);
            }
        }
        own.add(&new);
        all.add(&new);
        // An entry about a known subject always fits, whichever transmitter sent it first; only additional data may not
        // fit.
        let first = known.and_then(|at| self.entries.get(at)).map(|held| held.by);
        let overflow = match first {
            Some(_) if new.data.is_empty() => None,
            Some(first) if first != by => class.overflow(Load::default(), all),
            _ => class.overflow(own, all),
        };
        if let Some(overflow) = overflow {
            self.mark(overflow, class, &new, by);
            return false;
        }
        match known.and_then(|at| self.entries.get_mut(at)) {
            Some(held) => {
                let entry = &mut held.entry;
                index.change_load(class, held.by, |load| {
                    load.remove(entry);
                    entry.merge(new);
                    load.add(entry);
                });
            }
            None => {
                index.change_load(class, by, |load| load.add(&new));
                index
                    .places
                    .insert_unique(fingerprint(&new), (fingerprint(&new), self.entries.len()), |(hash, _)| *hash);
                self.entries.push(Held { entry: new, by });
            }
        }
        true
    }

    /// Marks the issuers of `lost`, which did not fit, and of all entries that it competes with: in another order of
    /// inserts one of these would not have fitted.
    fn mark(&mut self, overflow: Overflow, class: Class, lost: &Entry, by: TransmitterId) {
        let rivals = self.entries.iter().filter(|held| {
            let of_class = Class::of(held.entry.fact, &held.entry.key) == class;
            of_class && (overflow == Overflow::Room || held.by == by)
        });
        for key in rivals.map(|held| held.entry.key).chain([lost.key]) {
            room::mark(&mut self.marks, Mark { class, issuer: key.issuer(), until: lost.until });
        }
    }

    /// How many entries there are.
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }
}

/// Where each entry of a table is, and how much of each capacity is used, while entries are inserted.
struct Index {
    /// The fingerprint of an entry, and its place in the table.
    places: HashTable<(u64, usize)>,
    loads: Vec<(Class, TransmitterId, Load)>,
}

impl Index {
    fn new(entries: &[Held]) -> Index {
        let mut index = Index { places: HashTable::with_capacity(entries.len()), loads: Vec::new() };
        for (at, held) in entries.iter().enumerate() {
            let hash = fingerprint(&held.entry);
            index.places.insert_unique(hash, (hash, at), |(hash, _)| *hash);
            index.change_load(Class::of(held.entry.fact, &held.entry.key), held.by, |load| load.add(&held.entry));
        }
        index
    }

    fn find(&self, entries: &[Held], new: &Entry) -> Option<usize> {
        let is_same = |at: usize| entries.get(at).is_some_and(|held| held.entry.is_about_same_as(new));
        let hash = fingerprint(new);
        self.places.find(hash, |(other, at)| *other == hash && is_same(*at)).map(|(_, at)| *at)
    }

    /// The load of the transmitter `by` in `class`, and the load of the whole class.
    fn loads(&self, class: Class, by: TransmitterId) -> (Load, Load) {
        let (mut own, mut all) = (Load::default(), Load::default());
        for (_, holder, load) in self.loads.iter().filter(|(known, ..)| *known == class) {
            all = all.plus(*load);
            if *holder == by {
                own = own.plus(*load);
            }
        }
        (own, all)
    }

    /// Changes the load of the transmitter `by` in `class`.
    fn change_load(&mut self, class: Class, by: TransmitterId, change: impl FnOnce(&mut Load)) {
        match self.loads.iter_mut().find(|(known, holder, _)| (*known, *holder) == (class, by)) {
            Some((.., load)) => change(load),
            None => {
                let mut load = Load::default();
                change(&mut load);
                self.loads.push((class, by, load));
            }
        }
    }
}

/// Entries that replace each other have the same fingerprint. The hashes of a key and of a stream are evenly spread.
fn fingerprint(entry: &Entry) -> u64 {
    entry.key.fingerprint() ^ u64::from(u32::from_le_bytes(entry.kept_source().stream()))
}

/// The index of `by` in the list of transmitters. Adds `by` to the list if it is new.
fn index_of(by: TransmitterId, transmitters: &mut Vec<TransmitterId>) -> u8 {
    let at = transmitters.iter().position(|known| *known == by).or_else(|| {
        // A proxy has few transmitters. Only many replaced configurations can exceed the list; further ones share one
        // index.
        (transmitters.len() < usize::from(UNLISTED) && by != TransmitterId::UNKNOWN).then(|| {
            transmitters.push(by);
            transmitters.len().saturating_sub(1)
        })
    });
    at.and_then(|at| u8::try_from(at).ok()).unwrap_or(UNLISTED)
}

impl Load {
    fn add(&mut self, entry: &Entry) {
        self.entries = self.entries.saturating_add(1);
        self.data = self.data.saturating_add(entry.data.len());
    }

    fn remove(&mut self, entry: &Entry) {
        self.entries = self.entries.saturating_sub(1);
        self.data = self.data.saturating_sub(entry.data.len());
    }

    fn plus(self, other: Load) -> Load {
        Load { entries: self.entries.saturating_add(other.entries), data: self.data.saturating_add(other.data) }
    }
}

impl Entry {
    fn encode(&self, place: u8, bytes: &mut Vec<u8>) {
        bytes.extend(self.key.encode());
        let (family, value) = self.fact.encode();
        bytes.push(family << 4 | value);
        push_time(bytes, self.at);
        push_time(bytes, self.until);
        bytes.push(place);
        let flags = (if self.lifted { LIFTED } else { 0 }) | (if self.has_source() { HAS_SOURCE } else { 0 });
        bytes.push(u8::try_from(self.conditions.len()).unwrap_or(COUNT) & COUNT | flags);
        if self.has_source() {
            bytes.extend(self.source.0);
        }
        self.conditions.iter().for_each(|condition| bytes.extend(condition.encode()));
        if self.fact.has_data() {
            bytes.extend(u16::try_from(self.data.len()).unwrap_or(u16::MAX).to_le_bytes());
            bytes.extend(&self.data);
        }
    }

    fn has_source(&self) -> bool {
        self.source != SourceTag::NONE
    }

    /// A hash that two entries share exactly if they replace each other in a table: who mirrors a table keeps it instead
    /// of the entry.
    pub fn identity(&self) -> u64 {
        let mut hasher = Sha256::new();
        hasher.update(self.key.encode());
        hasher.update([self.fact.encode().0, u8::try_from(self.conditions.len()).unwrap_or(u8::MAX)]);
        self.conditions.iter().for_each(|condition| hasher.update(condition.encode()));
        hasher.update(self.kept_source().stream());
        hasher.update(payload::topic_of(self.fact, &self.data));
        let mut first = [0; 8];
        first.iter_mut().zip(hasher.finalize()).for_each(|(to, from)| *to = from);
        u64::from_le_bytes(first)
    }

    /// The source as a table records it, see [`Fact::is_kept_by_signal`].
    fn kept_source(&self) -> SourceTag {
        if self.fact.is_kept_by_signal() { self.source } else { SourceTag::NONE }
    }

    /// Whether the two entries replace each other: they hold the same kind of fact about the same subject, by the same
    /// stream where entries are kept by signal.
    pub fn is_about_same_as(&self, other: &Entry) -> bool {
        self.key == other.key
            && self.fact.same_family(other.fact)
            && self.conditions == other.conditions
            && self.kept_source().stream() == other.kept_source().stream()
            && payload::same_topic(self.fact, &self.data, &other.data)
    }

    /// Merges `new`, which holds the same kind of fact, into this entry. The result does not depend on the order of the
    /// two, nor on how often each comes:
    ///
    /// - of two generations the higher counts alone;
    /// - within a generation what is lifted counts alone;
    /// - for claims and assurances the later one wins, and two different ones of the same second are stored as
    ///   conflicting;
    /// - for all other facts see [`Fact::replaces`];
    /// - the result is kept until the later of the two `until`.
    fn merge(&mut self, new: Entry) {
        match self.rank().cmp(&new.rank()) {
            Ordering::Less => *self = new,
            Ordering::Equal => self.merge_equal(new),
            Ordering::Greater => {}
        }
    }

    /// Entries with a higher rank replace those with a lower one, whatever they say.
    fn rank(&self) -> (u32, bool) {
        (self.kept_source().generation(), self.lifted)
    }

    fn merge_equal(&mut self, new: Entry) {
        let until = self.until.max(new.until);
        let differ = (self.fact, &self.data) != (new.fact, &new.data);
        if let (Some(conflicting), true, true) = (new.fact.conflicting(), differ, self.at == new.at) {
            self.fact = conflicting;
            self.data = payload::topic(&self.data).to_vec();
        } else if new.fact.replaces(new.at.0, self.fact, self.at.0) {
            *self = new;
        }
        self.until = until;
    }
}

struct Reader<'b> {
    rest: &'b [u8],
}

impl<'b> Reader<'b> {
    /// Checks the format byte and starts to read after it; `None` when `bytes` is empty.
    fn new(bytes: &'b [u8]) -> Result<Option<Reader<'b>>, Corrupt> {
        match bytes.split_first() {
            None => Ok(None),
            Some((&FORMAT, rest)) => Ok(Some(Reader { rest })),
            Some(_) => Err(Corrupt),
        }
    }

    /// Skips one entry without decoding it, except for its lengths and its fact.
    fn skip_entry(&mut self) -> Result<(), Corrupt> {
        let [fact, .., conditions] = *self.take::<FIXED>()?.last_chunk::<{ FIXED - StateKey::LEN }>().ok_or(Corrupt)?;
        let fact = fact_of(fact)?;
        let (flags, conditions) = flags_and_count(conditions)?;
        let source = if flags & HAS_SOURCE == 0 { 0 } else { size_of::<SourceTag>() };
        self.skip(conditions.saturating_mul(StateKey::LEN).saturating_add(source))?;
        if fact.has_data() { self.data().map(drop) } else { Ok(()) }
    }

    fn skip(&mut self, count: usize) -> Result<(), Corrupt> {
        self.rest = self.rest.get(count..).ok_or(Corrupt)?;
        Ok(())
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N], Corrupt> {
        let (head, rest) = self.rest.split_first_chunk::<N>().ok_or(Corrupt)?;
        self.rest = rest;
        Ok(*head)
    }

    fn byte(&mut self) -> Result<u8, Corrupt> {
        self.take::<1>().map(|[byte]| byte)
    }

    fn time(&mut self) -> Result<Timestamp, Corrupt> {
        let [a, b, c, d, e] = self.take::<5>()?;
        Ok(Timestamp(u64::from_le_bytes([a, b, c, d, e, 0, 0, 0])))
    }

    fn key(&mut self) -> Result<StateKey, Corrupt> {
        StateKey::decode(&self.take()?).ok_or(Corrupt)
    }

    fn data(&mut self) -> Result<&'b [u8], Corrupt> {
        let length = usize::from(u16::from_le_bytes(self.take()?));
        let (data, rest) = self.rest.split_at_checked(length).filter(|_| length <= MAX_DATA).ok_or(Corrupt)?;
        self.rest = rest;
        Ok(data)
    }

    fn transmitters(&mut self) -> Result<Vec<TransmitterId>, Corrupt> {
        (0..self.byte()?).map(|_| self.take().map(TransmitterId::from_bytes)).collect()
    }

    fn skip_transmitters(&mut self) -> Result<(), Corrupt> {
        let count = usize::from(self.byte()?);
        self.skip(count.saturating_mul(TransmitterId::LEN))
    }

    fn mark(&mut self) -> Result<Mark, Corrupt> {
        let [class] = self.take()?;
        let class = Class::decode(class).ok_or(Corrupt)?;
        Ok(Mark { class, issuer: IssuerTag::decode(self.take()?), until: self.time()? })
    }

    /// An entry, and the index of its transmitter.
    fn entry(&mut self) -> Result<(Entry, u8), Corrupt> {
        let key = self.key()?;
        let fact = fact_of(self.byte()?)?;
        let at = self.time()?;
        let until = self.time()?;
        let place = self.byte()?;
        let (flags, conditions) = flags_and_count(self.byte()?)?;
        let source = if flags & HAS_SOURCE == 0 { SourceTag::NONE } else { SourceTag(self.take()?) };
        let conditions = (0..conditions).map(|_| self.key()).collect::<Result<_, _>>()?;
        let data = if fact.has_data() { self.data()?.to_vec() } else { Vec::new() };
        Ok((Entry { key, fact, at, until, conditions, data, source, lifted: flags & LIFTED != 0 }, place))
    }
}

/// The flags, and the number of conditions.
fn flags_and_count(byte: u8) -> Result<(u8, usize), Corrupt> {
    let count = usize::from(byte & COUNT);
    if count <= MAX_CONDITIONS { Ok((byte & !COUNT, count)) } else { Err(Corrupt) }
}

fn fact_of(byte: u8) -> Result<Fact, Corrupt> {
    Fact::decode(byte >> 4, byte & 0xf).ok_or(Corrupt)
}

/// Five bytes hold [`Timestamp::MAX`] plus the longest retention.
fn push_time(bytes: &mut Vec<u8>, time: Timestamp) {
    bytes.extend(time.0.min((1 << 40) - 1).to_le_bytes().into_iter().take(5));
}

#[cfg(test)]
mod tests;

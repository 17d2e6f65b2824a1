//! One bucket of the pushed state: a small compact table, as it stands in the proxy's shared data.
//!
//! Format 2: `2`, saturated-until (5 bytes), then entries; an entry is key (17), fact (2), at (5), until (5), the
//! number of conditions (1) and the conditions (17 each), and, for a fact that has data, its length (2) and the data.
//! Numbers are little-endian, times in seconds. Entries end by [`Entry::until`] and by nothing else: a full table says
//! so and lets go of none.

use crate::change;
use crate::fact::Fact;
use crate::statekey::StateKey;
use crate::time::Timestamp;

const FORMAT: u8 = 2;
const HEADER: usize = 6;
const FIXED: usize = StateKey::LEN + 13;

/// A signal may name this many members of a subject beside the first.
pub const MAX_CONDITIONS: usize = 8;

/// An entry may carry this many bytes of data.
pub const MAX_DATA: usize = 4096;

/// All entries of one table together may carry this many bytes of data.
const MAX_DATA_OF_ALL: usize = 64 * 1024;

/// One piece of standing knowledge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Whom it is about.
    pub key: StateKey,
    /// What it says.
    pub fact: Fact,
    /// When that happened.
    pub at: Timestamp,
    /// When no token it can hit can be alive any more.
    pub until: Timestamp,
    /// Other members of the signal's subject. A grant must have each of them too, or have nothing of that kind.
    pub conditions: Vec<StateKey>,
    /// What a fact with data says, as [`crate::change`] writes it; at most [`MAX_DATA`] bytes.
    pub data: Vec<u8>,
}

/// Bytes that are not a table. State that cannot be read is not the absence of revocations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the state holds bytes that are not a table of this version")]
pub struct Corrupt;

/// What a table says about one key.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct About {
    /// The entries about it.
    pub entries: Vec<Entry>,
    /// Until when an entry that found no room would have stood, if there is one: it may have been about this key.
    pub saturated_until: Option<Timestamp>,
}

/// What the stored form of a table says about `key`. The other entries, of which there may be hundreds, are passed over
/// and not taken apart.
pub fn about(bytes: &[u8], key: StateKey) -> Result<About, Corrupt> {
    let mut about = About::default();
    let Some(mut reader) = Reader::new(bytes)? else { return Ok(about) };
    about.saturated_until = Some(reader.time()?).filter(|until| *until > Timestamp(0));
    let wanted = key.encode();
    while !reader.rest.is_empty() {
        match reader.rest.starts_with(&wanted) {
            true => about.entries.push(reader.entry()?),
            false => reader.pass_over()?,
        }
    }
    Ok(about)
}

/// A table, read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Table {
    entries: Vec<Entry>,
    saturated_until: Timestamp,
}

impl Table {
    /// Reads the stored form. An empty value is an empty table.
    pub fn decode(bytes: &[u8]) -> Result<Table, Corrupt> {
        let Some(mut reader) = Reader::new(bytes)? else { return Ok(Table::default()) };
        let mut table = Table { entries: Vec::new(), saturated_until: reader.time()? };
        while !reader.rest.is_empty() {
            table.entries.push(reader.entry()?);
        }
        Ok(table)
    }

    /// The stored form.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEADER.saturating_add(self.entries.len().saturating_mul(FIXED)));
        bytes.push(FORMAT);
        push_time(&mut bytes, self.saturated_until);
        for entry in &self.entries {
            bytes.extend(entry.key.encode());
            let (family, value) = entry.fact.encode();
            bytes.extend([family, value]);
            push_time(&mut bytes, entry.at);
            push_time(&mut bytes, entry.until);
            bytes.push(u8::try_from(entry.conditions.len()).unwrap_or(u8::MAX));
            entry.conditions.iter().for_each(|condition| bytes.extend(condition.encode()));
            if entry.fact.has_data() {
                bytes.extend(u16::try_from(entry.data.len()).unwrap_or(u16::MAX).to_le_bytes());
                bytes.extend(&entry.data);
            }
        }
        bytes
    }

    /// Takes `new` in, and lets go of what has ended by `now`. At most `capacity` entries fit: when there is no
    /// room the table is saturated for as long as `new` would have stood, and the answer is `false`.
    ///
    /// The order of inserts does not matter, see [`Entry::merge`].
    pub fn insert(&mut self, new: Entry, capacity: usize, now: Timestamp) -> bool {
        self.entries.retain(|entry| entry.until > now);
        let mut known = None;
        let mut data = new.data.len();
        for (at, entry) in self.entries.iter().enumerate() {
            if entry.is_about_what(&new) {
                known = Some(at);
            } else {
                data = data.saturating_add(entry.data.len());
            }
        }
        let room = data <= MAX_DATA_OF_ALL || new.data.is_empty();
        match known {
            Some(known) if room => {
                if let Some(known) = self.entries.get_mut(known) {
                    known.merge(new);
                }
                true
            }
            None if room && self.entries.len() < capacity => {
                self.entries.push(new);
                true
            }
            _ => {
                self.saturated_until = self.saturated_until.max(new.until);
                false
            }
        }
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

impl Entry {
    /// Whether only one of the two can stand: they say the same kind of thing about the same subject.
    fn is_about_what(&self, other: &Entry) -> bool {
        self.key == other.key
            && self.fact.same_family(other.fact)
            && self.conditions == other.conditions
            && change::same_matter(self.fact, &self.data, &other.data)
    }

    /// Makes one of two that say the same kind of thing. It does not matter which of the two comes first, nor how
    /// often each comes:
    ///
    /// - of claims and assurances the later counts, and two different ones at one time are disputed;
    /// - of all others see [`Fact::outweighs`];
    /// - what is kept is kept for the longer of both.
    fn merge(&mut self, new: Entry) {
        let until = self.until.max(new.until);
        let differ = (self.fact, &self.data) != (new.fact, &new.data);
        if let (Some(disputed), true, true) = (new.fact.disputed(), differ, self.at == new.at) {
            self.fact = disputed;
            self.data = change::matter(&self.data).to_vec();
        } else if new.fact.outweighs(new.at.0, self.fact, self.at.0) {
            *self = new;
        }
        self.until = until;
    }
}

struct Reader<'b> {
    rest: &'b [u8],
}

impl<'b> Reader<'b> {
    /// Reads `bytes` from behind their format; `None` when there are none.
    fn new(bytes: &'b [u8]) -> Result<Option<Reader<'b>>, Corrupt> {
        match bytes.split_first() {
            None => Ok(None),
            Some((&FORMAT, rest)) => Ok(Some(Reader { rest })),
            Some(_) => Err(Corrupt),
        }
    }

    /// As [`Reader::entry`], for an entry that nobody wants.
    fn pass_over(&mut self) -> Result<(), Corrupt> {
        let [family, value, .., conditions] =
            *self.take::<FIXED>()?.last_chunk::<{ FIXED - StateKey::LEN }>().ok_or(Corrupt)?;
        let fact = Fact::decode(family, value).ok_or(Corrupt)?;
        let conditions = usize::from(conditions);
        if conditions > MAX_CONDITIONS {
            return Err(Corrupt);
        }
        self.skip(conditions.saturating_mul(StateKey::LEN))?;
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

    fn entry(&mut self) -> Result<Entry, Corrupt> {
        let key = self.key()?;
        let [family, value] = self.take()?;
        let fact = Fact::decode(family, value).ok_or(Corrupt)?;
        let at = self.time()?;
        let until = self.time()?;
        let conditions = usize::from(self.byte()?);
        if conditions > MAX_CONDITIONS {
            return Err(Corrupt);
        }
        let conditions = (0..conditions).map(|_| self.key()).collect::<Result<_, _>>()?;
        let data = if fact.has_data() { self.data()?.to_vec() } else { Vec::new() };
        Ok(Entry { key, fact, at, until, conditions, data })
    }
}

/// Five bytes reach far beyond [`Timestamp::MAX`] and every retention added to it.
fn push_time(bytes: &mut Vec<u8>, time: Timestamp) {
    bytes.extend(time.0.min((1 << 40) - 1).to_le_bytes().into_iter().take(5));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fact::{Compliance, Risk};
    use crate::statekey::Kind;
    use proptest::prelude::*;

    const FACTS: [Fact; 8] = [
        Fact::Revoked,
        Fact::Completed,
        Fact::CutOff,
        Fact::Device(Compliance::Compliant),
        Fact::Device(Compliance::NotCompliant),
        Fact::Risk(Risk::Low),
        Fact::Risk(Risk::Medium),
        Fact::Risk(Risk::High),
    ];

    fn entry(name: &str, fact: Fact, at: u64, until: u64) -> Entry {
        let key = StateKey::new(Kind::User, "i", name);
        Entry { key, fact, at: Timestamp(at), until: Timestamp(until), conditions: Vec::new(), data: Vec::new() }
    }

    #[test]
    fn survives_its_stored_form() {
        let mut table = Table::default();
        let mut narrow = entry("b", Fact::Revoked, 7, 9);
        narrow.conditions = vec![StateKey::new(Kind::Session, "i", "s"), StateKey::new(Kind::Task, "i", "t")];
        assert!(table.insert(entry("a", Fact::CutOff, 5, 100), 10, Timestamp(0)));
        assert!(table.insert(narrow, 10, Timestamp(0)));
        assert_eq!(Table::decode(&table.encode()), Ok(table));
        assert_eq!(Table::decode(&[]), Ok(Table::default()));
    }

    #[test]
    fn full_is_saturated_and_keeps_what_it_has() {
        let mut table = Table::default();
        assert!(table.insert(entry("a", Fact::Revoked, 1, 100), 1, Timestamp(0)));
        assert!(!table.insert(entry("b", Fact::Revoked, 1, 50), 1, Timestamp(0)));
        let said = about(&table.encode(), StateKey::new(Kind::User, "i", "a")).unwrap();
        assert_eq!((said.entries.len(), said.saturated_until), (1, Some(Timestamp(50))));
        assert_eq!(Table::decode(&table.encode()).unwrap().saturated_until, Timestamp(50));
        assert!(table.insert(entry("a", Fact::Revoked, 2, 200), 1, Timestamp(0)), "known keys always fit");
        assert!(table.insert(entry("b", Fact::Revoked, 1, 300), 1, Timestamp(200)), "room after the end of `a`");
    }

    #[test]
    fn other_bytes_are_not_a_table() {
        let mut bytes = Table { entries: vec![entry("a", Fact::Revoked, 1, 2)], ..Table::default() }.encode();
        assert!(Table::decode(&bytes[..bytes.len() - 1]).is_err());
        bytes[0] = 1;
        assert_eq!(Table::decode(&bytes), Err(Corrupt));
    }

    proptest! {
        #[test]
        fn any_order_and_repetition_gives_one_table(
            inserts in proptest::collection::vec((0u8..4, 0usize..8, 1u64..100, 100u64..200), 1..20),
            swaps in proptest::collection::vec(any::<proptest::sample::Index>(), 40),
        ) {
            let entries: Vec<Entry> = inserts.iter().map(|(name, fact, at, until)| {
                entry(&name.to_string(), FACTS[*fact], *at, *until)
            }).collect();
            let fold = |order: Vec<Entry>| {
                let mut table = Table::default();
                order.into_iter().for_each(|entry| { table.insert(entry, 100, Timestamp(0)); });
                table.entries.sort_by_key(|entry| (entry.key.encode(), entry.fact.encode()));
                table
            };
            let mut other = entries.clone();
            other.extend(entries.iter().cloned());
            let len = other.len();
            for (at, to) in (0..len).zip(&swaps) {
                other.swap(at, to.index(len));
            }
            prop_assert_eq!(fold(entries), fold(other));
        }

        #[test]
        fn what_is_passed_over_is_what_is_about_others(
            inserts in proptest::collection::vec((0u8..4, 0usize..10, 0usize..3, "[a-z]{0,5}"), 0..12),
            cut in 0usize..400,
        ) {
            let mut table = Table { saturated_until: Timestamp(7), ..Table::default() };
            for (name, fact, conditions, data) in inserts {
                let fact = FACTS.get(fact).copied().unwrap_or(Fact::Narrowed);
                let mut entry = entry(&name.to_string(), fact, 1, 100);
                entry.conditions = (0..conditions).map(|at| StateKey::new(Kind::Task, "i", &at.to_string())).collect();
                entry.data = if fact.has_data() { data.into_bytes() } else { Vec::new() };
                table.entries.push(entry);
            }
            let bytes = table.encode();
            for name in 0u8..5 {
                let key = StateKey::new(Kind::User, "i", &name.to_string());
                let entries = table.entries.iter().filter(|entry| entry.key == key).cloned().collect();
                let said = About { entries, saturated_until: Some(Timestamp(7)) };
                prop_assert_eq!(about(&bytes, key), Ok(said));
                // What is not a whole table says nothing.
                let cut = &bytes[..cut.min(bytes.len())];
                prop_assert_eq!(about(cut, key).is_err(), Table::decode(cut).is_err());
            }
        }

        #[test]
        fn never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Table::decode(&bytes);
            let _ = about(&bytes, StateKey::new(Kind::User, "i", "a"));
        }
    }
}

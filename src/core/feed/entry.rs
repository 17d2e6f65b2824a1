//! Entries as they stand in a page.
//!
//! Format 1, each entry: the length of what follows (2), flags (1; bit 0: lifted), key (19), family and value of the
//! fact (1 each), at (5), until (5), source (8), transmitter (8), the number of conditions (1), the conditions (19 each),
//! and, to the end, the data. Numbers are little-endian, times are in seconds.

use crate::encoding::digest::sha256;
use crate::state::bucket::{Entry, MAX_CONDITIONS, SourceTag};
use crate::state::fact::Fact;
use crate::state::freshness::TransmitterId;
use crate::state::key::StateKey;
use crate::state::payload::MAX_DATA;
use crate::time::Timestamp;

/// The highest format that this module reads and writes.
pub const FORMAT: u8 = 1;

/// The bytes of the length in front of an entry.
const LENGTH: usize = 2;

/// Where the fact of an entry stands, after the length, the flags and the key.
const FACT: usize = LENGTH + 1 + StateKey::LEN;

const LIFTED: u8 = 1;

/// An entry, and the transmitter whose share of the room it uses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FeedEntry {
    /// The entry.
    pub entry: Entry,
    /// The transmitter that sent it, by the hash of its stream's name.
    pub by: TransmitterId,
}

/// The bytes are not entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the page holds bytes that are not entries")]
pub struct BadEntry;

impl FeedEntry {
    /// Appends the entry in format 1 to `bytes`.
    pub fn encode(&self, bytes: &mut Vec<u8>) {
        let Entry { key, fact, at, until, conditions, data, source, lifted } = &self.entry;
        let (family, value) = fact.encode();
        let mut body = vec![if *lifted { LIFTED } else { 0 }];
        body.extend(key.encode());
        body.extend([family, value]);
        body.extend(five_bytes(*at));
        body.extend(five_bytes(*until));
        body.extend(source.0);
        body.extend(self.by.as_bytes());
        body.push(u8::try_from(conditions.len()).unwrap_or(u8::MAX));
        conditions.iter().for_each(|condition| body.extend(condition.encode()));
        body.extend(data);
        bytes.extend(u16::try_from(body.len()).unwrap_or(u16::MAX).to_le_bytes());
        bytes.extend(body);
    }
}

/// Marks one encoded entry as lifted, where entries are kept by signal. The others stay as they are: of them the last word
/// counts, and a table that has one ignores the mark.
pub fn lift(bytes: &mut [u8]) -> Result<(), BadEntry> {
    let [family, value] = *bytes.get(FACT..).and_then(<[u8]>::first_chunk).ok_or(BadEntry)?;
    if Fact::decode_or_stricter(family, value).is_some_and(|fact| !fact.is_kept_by_signal()) {
        return Ok(());
    }
    let flags = bytes.get_mut(LENGTH).ok_or(BadEntry)?;
    *flags |= LIFTED;
    Ok(())
}

/// What one encoded entry means to this version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decoded {
    /// An entry.
    Known(FeedEntry),
    /// An entry about a kind of thing that this version does not know: no grant here can have it.
    UnknownKind,
}

/// Reads the entries of a page. A fact of a family that this version does not know refuses its key; a value that it does
/// not know counts as the strictest one that it knows.
pub fn decode(bytes: &[u8]) -> impl Iterator<Item = Result<Decoded, BadEntry>> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let body = split(&mut rest);
        if body.is_err() {
            rest = &[];
        }
        Some(body.and_then(decode_one))
    })
}

/// Takes one entry off the start of `rest`.
fn split<'b>(rest: &mut &'b [u8]) -> Result<&'b [u8], BadEntry> {
    let length = usize::from(u16::from_le_bytes(take(rest)?));
    let (body, tail) = rest.split_at_checked(length).ok_or(BadEntry)?;
    *rest = tail;
    Ok(body)
}

fn decode_one(body: &[u8]) -> Result<Decoded, BadEntry> {
    let mut rest = body;
    let [flags] = take(&mut rest)?;
    let key = StateKey::decode(&take(&mut rest)?);
    let [family, value] = take(&mut rest)?;
    let (at, until) = (time(&mut rest)?, time(&mut rest)?);
    let source = SourceTag(take(&mut rest)?);
    let mut unknown = Vec::new();
    let by = TransmitterId::from_bytes(take(&mut rest)?);
    let [conditions] = take(&mut rest)?;
    if usize::from(conditions) > MAX_CONDITIONS {
        return Err(BadEntry);
    }
    let mut known_conditions = Vec::new();
    for _ in 0..conditions {
        // A condition of an unknown kind is left out: then the entry applies to more grants, not to fewer.
        let condition = take(&mut rest)?;
        match StateKey::decode(&condition) {
            Some(known) => known_conditions.push(known),
            None => unknown.extend(condition),
        }
    }
    let (fact, data) = match Fact::decode_or_stricter(family, value) {
        Some(fact) if fact.has_data() => (fact, rest.to_vec()),
        Some(fact) => (fact, Vec::new()),
        None => {
            unknown.push(family);
            unknown.extend(rest);
            (Fact::Blocked, Vec::new())
        }
    };
    if data.len() > MAX_DATA {
        return Err(BadEntry);
    }
    let Some(key) = key else { return Ok(Decoded::UnknownKind) };
    let lifted = flags & LIFTED != 0;
    let source = if unknown.is_empty() { source } else { apart(source, &unknown) };
    let entry = Entry { key, fact, at, until, conditions: known_conditions, data, source, lifted };
    Ok(Decoded::Known(FeedEntry { entry, by }))
}

/// Two entries that differ only in what this version does not know are not the same: a lift of one must not hide the other.
fn apart(source: SourceTag, unknown: &[u8]) -> SourceTag {
    let mut tag = source.0;
    let stream = source.stream().len();
    tag.iter_mut().take(stream).zip(sha256(unknown)).for_each(|(to, byte)| *to ^= byte);
    SourceTag(tag)
}

fn take<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], BadEntry> {
    let (head, tail) = rest.split_first_chunk::<N>().ok_or(BadEntry)?;
    *rest = tail;
    Ok(*head)
}

fn time(rest: &mut &[u8]) -> Result<Timestamp, BadEntry> {
    let [a, b, c, d, e] = take(rest)?;
    Ok(Timestamp(u64::from_le_bytes([a, b, c, d, e, 0, 0, 0])))
}

fn five_bytes(time: Timestamp) -> impl Iterator<Item = u8> {
    time.0.min((1 << 40) - 1).to_le_bytes().into_iter().take(5)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::bucket::{Table, about};
    use crate::state::fact::{Claim, Risk};
    use crate::state::key::Kind;
    use proptest::prelude::*;

    fn entry(fact: Fact, data: &[u8]) -> FeedEntry {
        let key = StateKey::new(Kind::Task, "https://jit.example", "task-42");
        let conditions = vec![StateKey::new(Kind::Session, "https://jit.example", "s"), StateKey::absent(Kind::Device)];
        let (source, by) = (SourceTag::new("main", "idp", 7), TransmitterId::new("idp"));
        let (at, until) = (Timestamp(1_700_000_000), Timestamp(1_700_090_000));
        FeedEntry { entry: Entry { key, fact, at, until, conditions, data: data.to_vec(), source, lifted: true }, by }
    }

    fn encoded(entries: &[FeedEntry]) -> Vec<u8> {
        let mut bytes = Vec::new();
        entries.iter().for_each(|entry| entry.encode(&mut bytes));
        bytes
    }

    #[test]
    fn entries_survive_their_encoded_form() {
        let entries =
            [entry(Fact::Completed, b""), entry(Fact::Claim(Claim::Set), b"\x05grade1"), entry(Fact::Blocked, b"")];
        let bytes = encoded(&entries);
        let read: Vec<_> = decode(&bytes).map(Result::unwrap).collect();
        assert_eq!(read, entries.map(Decoded::Known));
        for cut in 1..bytes.len() {
            let whole = decode(&bytes[..cut]).take_while(Result::is_ok).count();
            let all = decode(&bytes[..cut]).count();
            assert!(whole == all || all == whole + 1, "what is cut off is an error or was not begun");
        }
    }

    #[test]
    fn what_is_not_known_restricts() {
        let mut bytes = encoded(&[entry(Fact::Completed, b"")]);
        let family = 2 + 1 + StateKey::LEN;
        bytes[family] = 14;
        let Some(Ok(Decoded::Known(read))) = decode(&bytes).next() else { panic!("an entry") };
        assert_eq!(read.entry.fact, Fact::Blocked);
        let mut bytes = encoded(&[entry(Fact::Risk(Risk::Low), b"")]);
        bytes[family + 1] = 9;
        let Some(Ok(Decoded::Known(read))) = decode(&bytes).next() else { panic!("an entry") };
        assert_eq!(read.entry.fact, Fact::Risk(Risk::High));
        let mut bytes = encoded(&[entry(Fact::Completed, b"")]);
        bytes[3] = 200;
        assert_eq!(decode(&bytes).next(), Some(Ok(Decoded::UnknownKind)));
    }

    /// In a proxy they would replace each other otherwise, and a lift of one would hide the other.
    #[test]
    fn what_differs_in_something_unknown_is_kept_apart() {
        let with = |change: &dyn Fn(&mut Vec<u8>)| {
            let mut bytes = encoded(&[entry(Fact::Completed, b"")]);
            change(&mut bytes);
            let length = u16::try_from(bytes.len() - 2).unwrap();
            bytes[..2].copy_from_slice(&length.to_le_bytes());
            match decode(&bytes).next() {
                Some(Ok(Decoded::Known(read))) => read.entry,
                other => panic!("{other:?}"),
            }
        };
        let (family, last_condition) = (2 + 1 + StateKey::LEN, 2 + 1 + StateKey::LEN + 2 + 10 + 16 + 1 + StateKey::LEN);
        let known = Entry { fact: Fact::Blocked, ..with(&|_| {}) };
        let unknown = with(&|bytes| bytes[family] = 14);
        let another = with(&|bytes| bytes[family] = 15);
        let with_data = with(&|bytes| {
            bytes[family] = 14;
            bytes.push(b'x');
        });
        let conditions = [200, 201].map(|kind| with(&|bytes| bytes[last_condition] = kind));
        assert_eq!(conditions[0].conditions.len(), 1);
        let all = [&known, &unknown, &another, &with_data, &conditions[0], &conditions[1]];
        for (at, left) in all.iter().enumerate() {
            for (other, right) in all.iter().enumerate() {
                assert_eq!(left.is_about_same_as(right), at == other, "{left:?} {right:?}");
            }
        }
        assert_eq!(unknown.source.generation(), known.source.generation());
    }

    #[test]
    fn only_what_is_kept_by_signal_is_lifted() {
        let lifted = |family: u8| {
            let mut new = entry(Fact::Completed, b"");
            new.entry.lifted = false;
            let mut bytes = encoded(&[new]);
            bytes[FACT] = family;
            lift(&mut bytes).unwrap();
            match decode(&bytes).next() {
                Some(Ok(Decoded::Known(read))) => read.entry.lifted,
                other => panic!("{other:?}"),
            }
        };
        for fact in [Fact::Completed, Fact::CutOff, Fact::Narrowed, Fact::Blocked] {
            assert!(lifted(fact.encode().0), "{fact:?}");
        }
        for fact in [Fact::Risk(Risk::High), Fact::Claim(Claim::Set), Fact::Began] {
            assert!(!lifted(fact.encode().0), "{fact:?}");
        }
        assert!(lifted(14), "of a newer version");
        assert_eq!(lift(&mut [0; 10]), Err(BadEntry));
    }

    #[test]
    fn a_lift_of_unknown_shape_lifts_nothing_that_is_known() {
        let key = StateKey::new(Kind::Task, "https://jit.example", "task-42");
        let of = |fact, generation: u32, lifted| {
            let mut new = entry(fact, b"");
            (new.entry.source, new.entry.lifted) = (SourceTag::new("main", "idp", generation), lifted);
            new
        };
        // A lift of a family, and one of a kind, that only a later version knows.
        let family = 2 + 1 + StateKey::LEN;
        let unknown = |generation: u32| {
            let mut bytes = encoded(&[of(Fact::Completed, generation, true)]);
            bytes[family] = 14;
            let Some(Ok(Decoded::Known(read))) = decode(&bytes).next() else { panic!("an entry") };
            read
        };
        let in_force = |lift: FeedEntry| {
            let known = [of(Fact::Completed, 1, false), of(Fact::Blocked, 2, false)];
            let mut table = Table::default();
            let all = known.into_iter().chain([lift]).map(|new| (new.by, new.entry));
            assert!(table.insert_all(all, Timestamp(1_700_000_000)));
            let found = about(&table.encode(), key).unwrap().entries;
            found.into_iter().filter(|entry| !entry.lifted).map(|entry| entry.fact).collect::<Vec<_>>()
        };
        assert_eq!(in_force(unknown(1)).len(), 2, "what its own signal ended");
        assert_eq!(in_force(unknown(3)).len(), 2, "what others did");
        assert_eq!(in_force(of(Fact::Completed, 1, true)), [Fact::Blocked], "a known one");
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            decode(&bytes).for_each(drop);
        }
    }
}

//! Entries as they stand in a page.
//!
//! Format 1, each entry: the length of what follows (2), flags (1; bit 0: lifted), key (19), family and value of the
//! fact (1 each), at (5), until (5), source (8), transmitter (8), the number of conditions (1), the conditions (19 each),
//! and, to the end, the data. Numbers are little-endian, times are in seconds.

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

/// Marks one encoded entry as lifted, if its fact is kept by signal (see [`Fact::is_kept_by_signal`]). Any other stays: it is
/// the last word, which only another word takes back, also in a proxy that reads it for the first time.
pub fn lift(bytes: &mut [u8]) -> Result<(), BadEntry> {
    let family = LENGTH.saturating_add(1).saturating_add(StateKey::LEN);
    let fact = bytes.get(family..).and_then(|rest| rest.first_chunk()).ok_or(BadEntry)?;
    let [family, value] = *fact;
    if Fact::decode_or_stricter(family, value).is_none_or(Fact::is_kept_by_signal) {
        let flags = bytes.get_mut(LENGTH).ok_or(BadEntry)?;
        *flags |= LIFTED;
    }
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
    let by = TransmitterId::from_bytes(take(&mut rest)?);
    let [conditions] = take(&mut rest)?;
    if usize::from(conditions) > MAX_CONDITIONS {
        return Err(BadEntry);
    }
    let mut known_conditions = Vec::new();
    for _ in 0..conditions {
        // A condition of an unknown kind is left out: then the entry applies to more grants, not to fewer.
        known_conditions.extend(StateKey::decode(&take(&mut rest)?));
    }
    let (fact, data) = match Fact::decode_or_stricter(family, value) {
        Some(fact) if fact.has_data() => (fact, rest.to_vec()),
        Some(fact) => (fact, Vec::new()),
        None => (Fact::Blocked, Vec::new()),
    };
    if data.len() > MAX_DATA {
        return Err(BadEntry);
    }
    let Some(key) = key else { return Ok(Decoded::UnknownKind) };
    let lifted = flags & LIFTED != 0;
    let entry = Entry { key, fact, at, until, conditions: known_conditions, data, source, lifted };
    Ok(Decoded::Known(FeedEntry { entry, by }))
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
    use crate::state::fact::{Claim, Risk};
    use crate::state::key::Kind;
    use proptest::prelude::*;

    fn entry(fact: Fact, data: &[u8]) -> FeedEntry {
        let key = StateKey::new(Kind::Task, "https://jit.example", "task-42");
        let conditions = vec![StateKey::new(Kind::Session, "https://jit.example", "s"), StateKey::absent(Kind::Device)];
        let (source, by) = (SourceTag::new("main", "idp", "set-1"), TransmitterId::new("idp"));
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

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            decode(&bytes).for_each(drop);
        }
    }
}

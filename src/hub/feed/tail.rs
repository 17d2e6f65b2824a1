//! The last commits of a feed, in memory: pages of changes are cut from here.

use crate::store::model::StoredEntry;
use std::collections::VecDeque;
use taskfence_core::feed::revision::{Chain, Revision};
use taskfence_core::time::Timestamp;

/// What an entry takes beside its bytes: the fields below, and what the allocator adds.
const OVERHEAD: usize = 72;

/// So many commits are remembered with their time.
const COMMITS: usize = 4096;

/// The end of a feed.
#[derive(Debug)]
pub struct Tail {
    max_bytes: usize,
    bytes: usize,
    /// The point before the first entry held.
    start: Revision,
    head: Revision,
    entries: VecDeque<TailEntry>,
    /// The last number of each of the last commits, and when it was announced (milliseconds since 1970).
    commits: VecDeque<(u64, u64)>,
    /// The number that the feed stood at when the tail began, and when that was.
    began: (u64, u64),
}

#[derive(Debug)]
struct TailEntry {
    chain: Chain,
    until: Timestamp,
    bytes: Box<[u8]>,
}

/// The entries of a range, as a page has them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Range {
    /// The entries.
    pub bytes: Vec<u8>,
    /// How many they are.
    pub count: u64,
    /// Nothing is missing up to here.
    pub upto: Revision,
}

/// What was committed does not follow what the tail holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a commit does not follow the one before it")]
pub struct Gap;

impl Tail {
    /// An empty tail of at most `max_bytes` of memory, at `head`, where the feed stood at `at` (milliseconds since 1970).
    pub fn new(max_bytes: usize, head: Revision, at: u64) -> Tail {
        let (entries, commits) = (VecDeque::new(), VecDeque::new());
        Tail { max_bytes, bytes: 0, start: head, head, entries, commits, began: (head.number, at) }
    }

    /// The last revision announced.
    pub fn head(&self) -> Revision {
        self.head
    }

    /// Adds what was committed up to `revision`, announced at `at` (milliseconds since 1970). Entries that the tail holds
    /// already are skipped. An error leaves the tail as it was, up to the entry that does not follow.
    pub fn push(&mut self, entries: &[StoredEntry], revision: Revision, at: u64) -> Result<(), Gap> {
        if revision.epoch != self.head.epoch {
            return Err(Gap);
        }
        for entry in entries.iter().filter(|entry| entry.number > self.start.number) {
            if entry.number <= self.head.number {
                continue;
            }
            if entry.number != self.head.number.saturating_add(1) {
                return Err(Gap);
            }
            let bytes = entry.entry.bytes.as_slice();
            let chain = self.head.chain.after(entry.number, bytes);
            self.head = Revision { number: entry.number, chain, ..self.head };
            self.bytes = self.bytes.saturating_add(bytes.len()).saturating_add(OVERHEAD);
            self.entries.push_back(TailEntry { chain, until: entry.entry.until, bytes: bytes.into() });
        }
        if revision.number > self.head.number
            || self.chain(revision.number).is_some_and(|known| known != revision.chain)
        {
            return Err(Gap);
        }
        self.note_commit(revision.number, at);
        self.shrink();
        Ok(())
    }

    fn note_commit(&mut self, number: u64, at: u64) {
        if self.commits.back().map_or(self.began.0, |(last, _)| *last) < number {
            self.commits.push_back((number, at));
        }
    }

    /// Goes on at `head`, where the feed stood at `at` (milliseconds since 1970). What is before it comes from the store.
    pub fn reset(&mut self, head: Revision, at: u64) {
        let before = std::mem::replace(self, Tail::new(self.max_bytes, head, at));
        if before.head.epoch == head.epoch && before.head.number <= head.number {
            (self.commits, self.began) = (before.commits, before.began);
            self.note_commit(head.number, at);
            self.shrink();
        }
    }

    /// The chain at the number; `None` where the tail does not hold it.
    pub fn chain(&self, number: u64) -> Option<Chain> {
        let distance = number.checked_sub(self.start.number)?;
        match usize::try_from(distance).ok()?.checked_sub(1) {
            None => Some(self.start.chain),
            Some(index) => self.entries.get(index).map(|entry| entry.chain),
        }
    }

    /// The entries after `after` up to the number `limit` that are kept at `now`: at most `max_bytes`. `None` where the
    /// tail does not go back so far.
    pub fn range(&self, after: u64, limit: u64, max_bytes: usize, now: Timestamp) -> Option<Range> {
        let skipped = usize::try_from(after.checked_sub(self.start.number)?).ok()?;
        let mut range =
            Range { upto: Revision { number: after, chain: self.chain(after)?, ..self.head }, ..Range::default() };
        for entry in self.entries.iter().skip(skipped) {
            let number = range.upto.number.saturating_add(1);
            let kept = entry.until >= now;
            if number > limit || (kept && range.bytes.len().saturating_add(entry.bytes.len()) > max_bytes) {
                break;
            }
            if kept {
                range.bytes.extend_from_slice(&entry.bytes);
                range.count = range.count.saturating_add(1);
            }
            range.upto = Revision { number, chain: entry.chain, ..range.upto };
        }
        Some(range)
    }

    /// When the commit was announced that has the entry `number`. `None`: it is too long ago, or not yet.
    pub fn committed_at(&self, number: u64) -> Option<u64> {
        let index = self.commits.partition_point(|(last, _)| *last < number);
        // The commit before the first one that is remembered may have had it.
        let first_is_whole = || self.commits.len() < COMMITS && self.began.0 < number;
        (index > 0 || first_is_whole()).then(|| self.commits.get(index).map(|(_, at)| *at)).flatten()
    }

    /// A time at which the entry `number` was committed already, in milliseconds since 1970: the earliest that is known.
    /// `None`: it is not announced yet.
    pub fn committed_by(&self, number: u64) -> Option<u64> {
        if number <= self.began.0 {
            return Some(self.began.1);
        }
        let index = self.commits.partition_point(|(last, _)| *last < number);
        self.commits.get(index).map(|(_, at)| *at)
    }

    fn shrink(&mut self) {
        while self.bytes > self.max_bytes {
            let Some(first) = self.entries.pop_front() else { break };
            self.bytes = self.bytes.saturating_sub(first.bytes.len()).saturating_sub(OVERHEAD);
            let number = self.start.number.saturating_add(1);
            self.start = Revision { number, chain: first.chain, ..self.start };
        }
        while self.commits.len() > COMMITS {
            self.commits.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::model::NewEntry;

    fn entry(number: u64, until: u64, length: usize) -> StoredEntry {
        let bytes = vec![u8::try_from(number).unwrap(); length];
        StoredEntry { number, signal: 1, entry: NewEntry { bytes, key: vec![], bucket: 0, until: Timestamp(until) } }
    }

    fn chain_of(entries: &[StoredEntry]) -> Revision {
        let chain = entries.iter().fold(Chain::default(), |chain, entry| chain.after(entry.number, &entry.entry.bytes));
        Revision { epoch: 7, number: entries.last().unwrap().number, chain }
    }

    fn start() -> Revision {
        Revision { epoch: 7, ..Revision::START }
    }

    #[test]
    fn a_range_has_what_is_kept_and_says_up_to_where() {
        let entries: Vec<_> = (1..=5).map(|number| entry(number, if number == 2 { 10 } else { 100 }, 4)).collect();
        let mut tail = Tail::new(10_000, start(), 500);
        tail.push(&entries[..3], chain_of(&entries[..3]), 1_000).unwrap();
        tail.push(&entries[3..], chain_of(&entries), 2_000).unwrap();
        let range = tail.range(0, 5, 1_000, Timestamp(50)).unwrap();
        assert_eq!((range.count, range.bytes.len(), range.upto), (4, 16, chain_of(&entries)), "the second has ended");
        let range = tail.range(0, 4, 1_000, Timestamp(50)).unwrap();
        assert_eq!(range.upto, chain_of(&entries[..4]));
        let range = tail.range(1, 5, 9, Timestamp(0)).unwrap();
        assert_eq!((range.count, range.upto), (2, chain_of(&entries[..3])), "no more bytes than asked for");
        assert_eq!(tail.range(6, 9, 9, Timestamp(0)), None);
        assert_eq!(
            [tail.committed_at(3), tail.committed_at(4), tail.committed_at(6)],
            [Some(1_000), Some(2_000), None]
        );
    }

    #[test]
    fn when_a_number_was_committed_is_known_over_a_gap_and_bounded_from_above() {
        let entries: Vec<_> = (1..=9).map(|number| entry(number, 100, 4)).collect();
        let mut tail = Tail::new(10_000, chain_of(&entries[..2]), 500);
        tail.push(&entries[2..4], chain_of(&entries[..4]), 1_000).unwrap();
        tail.reset(chain_of(&entries[..8]), 2_000);
        tail.push(&entries[8..], chain_of(&entries), 3_000).unwrap();
        let at: Vec<_> = (1..=10).map(|number| (tail.committed_at(number), tail.committed_by(number))).collect();
        let known = |at| (Some(at), Some(at));
        assert_eq!(at[..2], [(None, Some(500)); 2], "before it began");
        assert_eq!(at[2..8], [known(1_000), known(1_000), known(2_000), known(2_000), known(2_000), known(2_000)]);
        assert_eq!(at[8..], [known(3_000), (None, None)]);
        assert_eq!((tail.range(3, 9, 99, Timestamp(0)), tail.range(8, 9, 99, Timestamp(0)).unwrap().count), (None, 1));
        tail.reset(Revision { epoch: 8, number: 3, chain: Chain::default() }, 4_000);
        assert_eq!((tail.committed_by(3), tail.committed_by(4)), (Some(4_000), None), "another epoch");
    }

    #[test]
    fn it_is_bounded_and_still_knows_the_chain_before_its_first_entry() {
        let entries: Vec<_> = (1..=9).map(|number| entry(number, 100, 28)).collect();
        let mut tail = Tail::new(300, start(), 500);
        tail.push(&entries, chain_of(&entries), 1).unwrap();
        assert_eq!(tail.entries.len(), 3);
        assert_eq!(tail.chain(6), Some(chain_of(&entries[..6]).chain));
        assert_eq!(tail.chain(5), None);
        assert_eq!(tail.range(5, 9, 1_000, Timestamp(0)), None);
        assert_eq!(tail.range(6, 9, 1_000, Timestamp(0)).unwrap().count, 3);
    }

    #[test]
    fn a_commit_that_does_not_follow_is_refused() {
        let entries: Vec<_> = (1..=3).map(|number| entry(number, 100, 4)).collect();
        let mut tail = Tail::new(10_000, start(), 500);
        assert_eq!(tail.push(&entries[1..], chain_of(&entries), 1), Err(Gap), "the first is missing");
        tail.push(&entries[..2], chain_of(&entries[..2]), 1).unwrap();
        tail.push(&entries[..2], chain_of(&entries[..2]), 1).unwrap();
        let other = Revision { chain: Chain([9; 8]), ..chain_of(&entries) };
        assert_eq!(tail.push(&entries[2..], other, 1), Err(Gap), "another history");
        tail.reset(chain_of(&entries), 2);
        assert_eq!(tail.push(&entries, Revision { epoch: 8, ..chain_of(&entries) }, 1), Err(Gap), "another epoch");
        tail.push(&entries, chain_of(&entries), 1).unwrap();
        assert_eq!(tail.head(), chain_of(&entries));
    }
}

//! The workers to wake when the state has changed: those with live streams. Each has a number of its own.
//!
//! A queue of the proxy wakes only one thread, the last one that registered its name. So each worker needs a name that
//! no other worker uses, and that no earlier worker left behind. A worker claims the lowest free number and renews the
//! claim. A claim that is not renewed expires, so that no message is sent for long to a queue that no worker reads.

use crate::time::{Span, Timestamp};

/// A number is free when its claim was not renewed for this long.
pub(crate) const LEASE: Span = Span(10);

/// A worker renews its claim this often.
pub const RENEW: Span = Span(3);

/// The maximum number of workers that are woken. Others see changes at their next tick.
const MAX_ROWS: usize = 512;

/// The claims of the workers, by number. It is one value of the shared data, and is changed by compare-and-swap.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Roster {
    rows: Vec<Row>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Row {
    /// The random id of the worker.
    owner: u64,
    alive_at: Timestamp,
}

impl Roster {
    const FORMAT: u8 = 1;

    /// Claims a number for `owner` at `now`, or renews its claim: the number that it has, or else the lowest free one.
    /// `None` if there are too many workers.
    pub fn claim(&mut self, owner: u64, now: Timestamp) -> Option<usize> {
        let own = self.rows.iter().position(|row| row.owner == owner);
        let at = own.or_else(|| self.rows.iter().position(|row| !row.is_alive(now))).unwrap_or(self.rows.len());
        let row = Row { owner, alive_at: now };
        match self.rows.get_mut(at) {
            Some(slot) => *slot = row,
            None if at < MAX_ROWS => self.rows.push(row),
            None => return None,
        }
        Some(at)
    }

    /// The numbers whose claims have not expired at `now`.
    pub fn alive(&self, now: Timestamp) -> impl Iterator<Item = usize> {
        self.rows.iter().enumerate().filter(move |(_, row)| row.is_alive(now)).map(|(at, _)| at)
    }

    /// The stored form.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![Roster::FORMAT];
        for row in &self.rows {
            bytes.extend(row.owner.to_le_bytes());
            bytes.extend(row.alive_at.0.to_le_bytes());
        }
        bytes
    }

    /// Reads the stored form. Other bytes give an empty roster: no decision depends on it.
    pub fn decode(bytes: &[u8]) -> Roster {
        let mut roster = Roster::default();
        let Some((&Roster::FORMAT, mut rest)) = bytes.split_first() else { return roster };
        while let Some((owner, tail)) = rest.split_first_chunk::<8>()
            && let Some((alive_at, tail)) = tail.split_first_chunk::<8>()
            && roster.rows.len() < MAX_ROWS
        {
            let alive_at = Timestamp(u64::from_le_bytes(*alive_at));
            roster.rows.push(Row { owner: u64::from_le_bytes(*owner), alive_at });
            rest = tail;
        }
        roster
    }
}

impl Row {
    /// If the clock was set back, no claim expires: to wake too many workers does no harm.
    fn is_alive(&self, now: Timestamp) -> bool {
        now.since(self.alive_at) < LEASE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alive(roster: &Roster, now: u64) -> Vec<usize> {
        roster.alive(Timestamp(now)).collect()
    }

    #[test]
    fn a_worker_keeps_its_number_while_it_lives() {
        let mut roster = Roster::default();
        assert_eq!(roster.claim(7, Timestamp(100)), Some(0));
        assert_eq!(roster.claim(8, Timestamp(100)), Some(1));
        assert_eq!(roster.claim(7, Timestamp(105)), Some(0));
        assert_eq!(alive(&roster, 109), [0, 1]);
        assert_eq!(alive(&roster, 110), [0], "worker 8 gave no sign of life");
        assert_eq!(roster.claim(9, Timestamp(110)), Some(1), "and its number is free");
        assert_eq!(roster.claim(8, Timestamp(110)), Some(2), "it was only slow: another number");
        assert_eq!(Roster::decode(&roster.encode()), roster);
    }

    #[test]
    fn there_is_an_end_to_it() {
        let mut roster = Roster::default();
        for owner in 0..512 {
            assert!(roster.claim(owner, Timestamp(1)).is_some());
        }
        assert_eq!(roster.claim(512, Timestamp(1)), None);
        assert_eq!(roster.claim(512, Timestamp(11)), Some(0));
    }

    #[test]
    fn foreign_bytes_are_nobody() {
        for bytes in [&b""[..], b"\x02xxxxxxxxyyyyyyyy", b"\x01xxxx"] {
            assert_eq!(Roster::decode(bytes), Roster::default());
        }
    }
}

//! Who is to be woken when the state has changed: the workers that have live streams, each under a number of its own.
//!
//! A queue of the proxy wakes one thread only, the last that registered its name, so each worker needs a name that no
//! other has and that is not left over from one that is gone. A worker takes the lowest number that is free, keeps it
//! by a sign of life, and loses it when there was none for a while: what nobody reads is not written to for long.

use crate::time::{Span, Timestamp};

/// Without a sign of life for so long a number is free.
pub(crate) const LEASE: Span = Span(10);

/// A worker gives a sign of life this often.
pub const RENEW: Span = Span(3);

/// More workers than this are not woken, and notice changes at their next tick.
const MAX_ROWS: usize = 512;

/// The workers, by number. A value of the shared data, changed by compare-and-swap.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Roster {
    rows: Vec<Row>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Row {
    /// A random number that the worker drew.
    owner: u64,
    alive_at: Timestamp,
}

impl Roster {
    const FORMAT: u8 = 1;

    /// The number of `owner`, alive at `now`: the one that it has, or the lowest free one. `None` when there are too
    /// many workers.
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

    /// The numbers of the workers that are alive.
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

    /// Reads the stored form. What is not one is nobody: nothing is decided by it.
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
    /// A clock that was set back leaves everybody alive: waking one too many costs nothing.
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

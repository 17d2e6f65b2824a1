//! Requests of one worker that wait for keys: how many may wait, for how long, and which may continue.

use crate::index::IssuerIndex;
use std::collections::BTreeMap;

/// The maximum number of waiting requests, for all issuers together.
pub(crate) const MAX_WAITING: usize = 1_000;

/// The maximum number of bytes that are kept for all waiting requests together.
pub(crate) const MAX_BYTES: usize = 8 * 1024 * 1024;

/// The part of the room that requests of one issuer may take.
#[derive(Debug, Clone, Copy)]
struct Share {
    requests: usize,
    bytes: usize,
}

/// What a request waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WaitFor {
    /// The keys of the issuer: none were fetched yet, or they have expired.
    Keys,
    /// The end of a fetch because of an unknown `kid`: any fetch that ends after this many have ended.
    Refetch(u64),
}

/// The progress of the keys of an issuer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Whether there are keys that may be used.
    pub usable: bool,
    /// The number of fetches that have ended.
    pub ended: u64,
}

/// The waiting requests, by the id of their stream, each with a `T`. Earlier requests come first.
#[derive(Debug)]
pub struct Parked<T> {
    waiters: Vec<ParkedRequest<T>>,
    share: Share,
}

#[derive(Debug)]
struct ParkedRequest<T> {
    stream: u32,
    issuer: IssuerIndex,
    reason: WaitFor,
    deadline: u64,
    bytes: usize,
    kept: T,
}

impl<T> Parked<T> {
    /// Room that `issuers` share equally: a flood of tokens of one issuer takes no room from another.
    pub fn shared_by(issuers: usize) -> Parked<T> {
        let issuers = issuers.max(1);
        let part = |room: usize| room.checked_div(issuers).unwrap_or_default().max(1);
        Parked { waiters: Vec::new(), share: Share { requests: part(MAX_WAITING), bytes: part(MAX_BYTES) } }
    }

    /// Lets `stream` wait for keys of `issuer` until `deadline` in milliseconds, with `kept`, which has `bytes`.
    /// `false`: too many wait for that issuer already.
    pub fn add(
        &mut self,
        stream: u32,
        issuer: IssuerIndex,
        reason: WaitFor,
        deadline: u64,
        bytes: usize,
        kept: T,
    ) -> bool {
        let of_issuer = self.waiters.iter().filter(|waiter| waiter.issuer == issuer);
        let (requests, used) = of_issuer.fold((0_usize, bytes), |(requests, used), waiter| {
            (requests.saturating_add(1), used.saturating_add(waiter.bytes))
        });
        let room = requests < self.share.requests && used <= self.share.bytes;
        if room {
            self.waiters.push(ParkedRequest { stream, issuer, reason, deadline, bytes, kept });
        }
        room
    }

    /// Removes `stream`, because it continues or has ended. Returns its `T`.
    pub fn take(&mut self, stream: u32) -> Option<T> {
        let at = self.waiters.iter().position(|waiter| waiter.stream == stream)?;
        Some(self.waiters.remove(at).kept)
    }

    /// At most `most` streams that need not wait any longer at `now`, by the progress of the keys of each issuer. The
    /// issuers take turns, so that many requests of one issuer do not delay those of the others.
    pub fn ready(&self, now: u64, most: usize, progress: impl Fn(IssuerIndex) -> Progress) -> Vec<u32> {
        let ready = self.waiters.iter().filter(|waiter| {
            let Progress { usable, ended } = progress(waiter.issuer);
            let came = match waiter.reason {
                WaitFor::Keys => usable,
                WaitFor::Refetch(before) => ended != before,
            };
            came || now >= waiter.deadline
        });
        // The number of each request among those of its issuer.
        let mut counts = BTreeMap::<IssuerIndex, usize>::new();
        let mut by_turn: Vec<(usize, u32)> = ready
            .map(|waiter| {
                let count = counts.entry(waiter.issuer).or_default();
                let turn = *count;
                *count = count.saturating_add(1);
                (turn, waiter.stream)
            })
            .collect();
        by_turn.sort_by_key(|(turn, _)| *turn);
        by_turn.into_iter().take(most).map(|(_, stream)| stream).collect()
    }

    /// Whether no request waits.
    pub fn is_empty(&self) -> bool {
        self.waiters.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_goes_on_when_its_own_keys_are_there() {
        let mut waiting = Parked::shared_by(1);
        for (stream, issuer, reason, deadline) in [
            (1, 0, WaitFor::Keys, 100),
            (2, 1, WaitFor::Keys, 100),
            (3, 1, WaitFor::Refetch(7), 100),
            (4, 0, WaitFor::Keys, 50),
        ] {
            assert!(waiting.add(stream, IssuerIndex::new(issuer), reason, deadline, 1, ()));
        }
        let none = |_| Progress { usable: false, ended: 7 };
        assert_eq!(waiting.ready(49, 9, none), [0; 0]);
        assert_eq!(waiting.ready(50, 9, none), [4]);
        assert_eq!(waiting.ready(49, 9, |at| Progress { usable: at == IssuerIndex::new(1), ended: 7 }), [2]);
        assert_eq!(waiting.ready(49, 9, |_| Progress { usable: false, ended: 8 }), [3]);
        assert_eq!(waiting.ready(100, 9, none), [1, 2, 3, 4]);
        assert_eq!(waiting.ready(100, 2, none), [1, 2], "those that came first of each issuer");
        assert_eq!((waiting.take(1), waiting.take(1)), (Some(()), None), "once");
        assert_eq!(waiting.ready(100, 9, none), [2, 4, 3], "what has ended is not touched");
    }

    #[test]
    fn only_so_many_wait() {
        let mut waiting = Parked::shared_by(1);
        for stream in 0..1_000 {
            assert!(waiting.add(stream, IssuerIndex::new(0), WaitFor::Keys, 100, 100, ()));
        }
        assert!(!waiting.add(1_000, IssuerIndex::new(0), WaitFor::Keys, 100, 100, ()));
        assert_eq!(waiting.waiters.len(), 1_000);
        for stream in 0..1_000 {
            waiting.take(stream).unwrap();
        }
        assert!(waiting.is_empty());
        assert!(waiting.add(1, IssuerIndex::new(0), WaitFor::Keys, 100, MAX_BYTES, ()));
        assert!(!waiting.add(2, IssuerIndex::new(0), WaitFor::Keys, 100, 1, ()));
        waiting.take(1);
        assert!(waiting.add(2, IssuerIndex::new(0), WaitFor::Keys, 100, 1, ()));
    }

    #[test]
    fn issuers_take_turns() {
        let mut waiting = Parked::shared_by(3);
        for (issuer, streams) in [(0, 0..100), (1, 100..103), (2, 200..201)] {
            for stream in streams {
                assert!(waiting.add(stream, IssuerIndex::new(issuer), WaitFor::Keys, 100, 1, ()));
            }
        }
        let none = |_| Progress { usable: false, ended: 0 };
        assert_eq!(waiting.ready(100, 8, none), [0, 100, 200, 1, 101, 2, 102, 3]);
    }

    #[test]
    fn no_issuer_takes_the_places_of_another() {
        let mut waiting = Parked::shared_by(2);
        for stream in 0..500 {
            assert!(waiting.add(stream, IssuerIndex::new(0), WaitFor::Keys, 100, 1, ()));
        }
        assert!(!waiting.add(500, IssuerIndex::new(0), WaitFor::Keys, 100, 1, ()), "its half is taken");
        for stream in 1_000..1_500 {
            assert!(waiting.add(stream, IssuerIndex::new(1), WaitFor::Keys, 100, 1, ()), "the other half is free");
        }
        let mut waiting = Parked::shared_by(2);
        assert!(waiting.add(0, IssuerIndex::new(0), WaitFor::Keys, 100, MAX_BYTES / 2, ()));
        assert!(!waiting.add(1, IssuerIndex::new(0), WaitFor::Keys, 100, 1, ()));
        assert!(waiting.add(2, IssuerIndex::new(1), WaitFor::Keys, 100, MAX_BYTES / 2, ()));
    }
}

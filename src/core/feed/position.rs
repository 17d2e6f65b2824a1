//! How far this proxy has followed a feed: one record in the memory that all workers share.
//!
//! Stored form: the format (1 byte), the id of the follower (16), its nonce (16), the revision that was applied (24: epoch,
//! number, chain), `at` and `fresh` (8 each), `started` (8), the number of entries (8), flags (1: bit 0 caught up, bit 1 a
//! target, bit 2 a full state), the target (16: epoch, number), and the full state (24: its revision; 4: the next part).
//! Numbers are little-endian.

use crate::feed::revision::{Chain, Revision};
use crate::feed::rule::{Rule, keeps};
use crate::feed::statement::Statement;
use crate::state::coverage::FeedId;
use crate::state::store::{Corrupt, MAX_TRIES, Slot, Store, StoreError};

/// `at` of a statement may be ahead of the clock of the proxy by this many milliseconds.
pub const MAX_AHEAD: u64 = 60_000;

const FORMAT: u8 = 1;
const CAUGHT_UP: u8 = 1;
const TARGET: u8 = 2;
const FULL: u8 = 4;

/// How far this proxy has followed a feed. All times are in milliseconds since 1970.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Position {
    /// The random name of this proxy at the hub.
    pub follower: [u8; 16],
    /// A random value that a statement must repeat, before it says what must be applied to be caught up.
    pub nonce: [u8; 16],
    /// Everything up to here was applied. [`Revision::START`] while a full state is being applied.
    pub applied: Revision,
    /// `at` of the last statement that was accepted.
    pub at: u64,
    /// `at` of the last statement whose head was applied; 0 if there was none.
    pub fresh: u64,
    /// When the proxy began to follow the feed.
    pub started: u64,
    /// How many entries were applied since.
    pub entries: u64,
    /// What must be applied to be caught up.
    pub target: Option<Target>,
    /// Whether that was applied.
    pub caught_up: bool,
    /// The full state that is being applied.
    pub full: Option<FullState>,
}

/// The head of the first statement that carried the nonce, or that a relay vouched for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Target {
    /// The epoch of the number.
    pub epoch: u64,
    /// The number of the entry.
    pub number: u64,
}

/// A full state of which some parts were applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FullState {
    /// The revision of the state.
    pub revision: Revision,
    /// The next part.
    pub next: u32,
}

/// Why the page of a statement is not applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// `at` is more than 60 s ahead of the clock of the proxy.
    #[error("the statement of the hub is dated {0} ms ahead of the clock of this proxy")]
    Ahead(u64),
    /// An older statement than the last one.
    #[error("the statement of the hub is older than one that was applied")]
    Old,
    /// The page ends before the position.
    #[error("the page ends before the position of this proxy")]
    Behind,
    /// Entries between the position and the page are missing.
    #[error("the page begins after entry {prev}, and this proxy has entry {number}")]
    Gap {
        /// The page begins after this number.
        prev: u64,
        /// The number of the position.
        number: u64,
    },
    /// The page begins before the position, at an entry of which this proxy does not know the chain.
    #[error("the page begins before the position of this proxy")]
    Overlap,
    /// The feed has another epoch, or another history with the same numbers.
    #[error("the feed has another history than this proxy has applied")]
    OtherHistory,
    /// Not the part that comes next.
    #[error("the page is a part of another full state, or not the next part")]
    OtherPart,
}

impl Refused {
    /// Whether only a full state helps.
    pub fn needs_full_state(self) -> bool {
        match self {
            Refused::Gap { .. } | Refused::OtherHistory | Refused::OtherPart => true,
            Refused::Ahead(_) | Refused::Old | Refused::Behind | Refused::Overlap => false,
        }
    }
}

impl Position {
    /// Before anything was applied. `random` is the name of the follower, and its nonce.
    fn new(random: [u8; 32], now: u64) -> Position {
        let (mut follower, mut nonce) = ([0; 16], [0; 16]);
        follower.iter_mut().chain(&mut nonce).zip(random).for_each(|(to, from)| *to = from);
        Position {
            follower,
            nonce,
            applied: Revision::START,
            at: 0,
            fresh: 0,
            started: now,
            entries: 0,
            target: None,
            caught_up: false,
            full: None,
        }
    }

    /// The nonce as it stands in a request.
    pub fn nonce_text(&self) -> String {
        format!("{:032x}", u128::from_be_bytes(self.nonce))
    }

    /// The name of the follower as it stands in a report.
    pub fn follower_text(&self) -> String {
        format!("{:032x}", u128::from_be_bytes(self.follower))
    }

    /// Whether a request asks for the nonce to be repeated.
    pub fn needs_nonce(&self) -> bool {
        !self.caught_up && self.target.is_none()
    }

    /// Whether the page of `statement` may be applied at this position. `now` is the time in milliseconds.
    ///
    /// The parts of a full state may be signed before the last statement: they are cut once a minute for all. They do not
    /// make the state look fresh.
    pub fn examine(&self, statement: &Statement, now: u64) -> Result<(), Refused> {
        let Statement { at, prev, prev_chain, upto, .. } = statement;
        let ahead = at.saturating_sub(now);
        if ahead > MAX_AHEAD && keeps(Rule::AtIsNotAhead) {
            return Err(Refused::Ahead(ahead));
        }
        if let Some(part) = statement.part {
            let next = self.full.filter(|full| full.revision == *upto && full.next == part.part);
            let is_next = part.part == 0 || next.is_some() || !keeps(Rule::Parts);
            return if is_next { Ok(()) } else { Err(Refused::OtherPart) };
        }
        if *at < self.at && keeps(Rule::AtGoesOn) {
            return Err(Refused::Old);
        }
        if upto.epoch != self.applied.epoch {
            return Err(Refused::OtherHistory);
        }
        let number = self.applied.number;
        if upto.number < number {
            return Err(Refused::Behind);
        }
        if upto.number == number && upto.chain != self.applied.chain && keeps(Rule::Chain) {
            return Err(Refused::OtherHistory);
        }
        if *prev > number && keeps(Rule::Gap) {
            return Err(Refused::Gap { prev: *prev, number });
        }
        // What comes after an entry of another history is not what comes after ours. All that there is needs no such check.
        if keeps(Rule::Chain) && *prev > 0 && *prev <= number {
            match *prev == number {
                true if *prev_chain != self.applied.chain => return Err(Refused::OtherHistory),
                true => {}
                false => return Err(Refused::Overlap),
            }
        }
        Ok(())
    }

    /// The position after the page of `statement` was applied, which [`Position::examine`] has accepted. `vouched`: the
    /// statement counts as if it had the nonce, because it is new and the configuration lets a relay vouch.
    pub fn advanced(&self, statement: &Statement, vouched: bool) -> Position {
        let upto = statement.upto;
        let mut next = self.clone();
        let begins = statement.part.is_some_and(|part| part.part == 0);
        if begins {
            // What was applied belongs to a history that may have ended. It must not count for the new one.
            if keeps(Rule::Restart) {
                next.applied = Revision::START;
            }
            next.target = None;
        }
        match statement.part {
            Some(part) if !part.is_last() => {
                next.full = Some(FullState { revision: upto, next: part.part.saturating_add(1) });
            }
            Some(_) => (next.full, next.applied) = (None, upto),
            None => next.applied = upto,
        }
        let is_for_us = statement.nonce.as_ref() == Some(&self.nonce_text()) || !keeps(Rule::Nonce);
        if next.needs_nonce() && (is_for_us || vouched) {
            next.target = Some(Target { epoch: upto.epoch, number: statement.head });
        }
        let reached = |target: Target| next.has_applied(target.epoch, target.number) || !keeps(Rule::Target);
        next.caught_up |= next.target.is_some_and(reached);
        if next.caught_up {
            next.target = None;
        }
        if self.shows_head(statement, &next) {
            next.fresh = statement.at;
        }
        next.at = if keeps(Rule::AtGoesOn) { self.at.max(statement.at) } else { statement.at };
        next
    }

    /// Whether the head of `statement` is applied at the position `next`, which is the one after its page: then the state
    /// is as new as the statement.
    pub fn shows_head(&self, statement: &Statement, next: &Position) -> bool {
        let has_head = next.has_applied(statement.upto.epoch, statement.head) || !keeps(Rule::Head);
        has_head && (statement.at >= self.at || !keeps(Rule::AtGoesOn))
    }

    fn has_applied(&self, epoch: u64, number: u64) -> bool {
        self.applied.epoch == epoch && self.applied.number >= number
    }

    /// The stored form.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![FORMAT];
        bytes.extend(self.follower);
        bytes.extend(self.nonce);
        encode_revision(self.applied, &mut bytes);
        for number in [self.at, self.fresh, self.started, self.entries] {
            bytes.extend(number.to_le_bytes());
        }
        let flag = |is_set: bool, flag: u8| if is_set { flag } else { 0 };
        let flags =
            flag(self.caught_up, CAUGHT_UP) | flag(self.target.is_some(), TARGET) | flag(self.full.is_some(), FULL);
        bytes.push(flags);
        let target = self.target.unwrap_or(Target { epoch: 0, number: 0 });
        bytes.extend(target.epoch.to_le_bytes());
        bytes.extend(target.number.to_le_bytes());
        let full = self.full.unwrap_or(FullState { revision: Revision::START, next: 0 });
        encode_revision(full.revision, &mut bytes);
        bytes.extend(full.next.to_le_bytes());
        bytes
    }

    /// Reads the stored form.
    pub fn decode(bytes: &[u8]) -> Result<Position, Corrupt> {
        let mut rest = bytes;
        if take(&mut rest)? != [FORMAT] {
            return Err(Corrupt);
        }
        let (follower, nonce) = (take(&mut rest)?, take(&mut rest)?);
        let applied = revision(&mut rest)?;
        let (at, fresh, started) = (number(&mut rest)?, number(&mut rest)?, number(&mut rest)?);
        let entries = number(&mut rest)?;
        let [flags] = take(&mut rest)?;
        let target = Target { epoch: number(&mut rest)?, number: number(&mut rest)? };
        let full = FullState { revision: revision(&mut rest)?, next: u32::from_le_bytes(take(&mut rest)?) };
        if !rest.is_empty() {
            return Err(Corrupt);
        }
        let target = Some(target).filter(|_| flags & TARGET != 0);
        let full = Some(full).filter(|_| flags & FULL != 0);
        let caught_up = flags & CAUGHT_UP != 0;
        Ok(Position { follower, nonce, applied, at, fresh, started, entries, target, caught_up, full })
    }
}

/// Creates the record of `feed` if there is none. `random` must not repeat. `now` is the time in milliseconds.
///
/// Like [`crate::state::revocations::set_up`] it must run while nobody else can write.
pub fn set_up(store: &mut impl Store, feed: FeedId, random: [u8; 32], now: u64) -> Result<(), StoreError> {
    if store.read(Slot::FeedPosition(feed))?.is_some() {
        return Ok(());
    }
    store.seed(Slot::FeedPosition(feed), &Position::new(random, now).encode())
}

/// Reads the record of `feed`.
pub fn read(store: &mut impl Store, feed: FeedId) -> Result<Position, StoreError> {
    let stored = store.read(Slot::FeedPosition(feed))?.ok_or(StoreError::Absent)?;
    Ok(Position::decode(&stored.bytes)?)
}

/// Moves the record of `feed` by `change`, which returns `None` where there is nothing to move. Returns the record as it
/// is then.
pub fn change(
    store: &mut impl Store,
    feed: FeedId,
    change: impl Fn(&Position) -> Option<Position>,
) -> Result<Position, StoreError> {
    for _ in 0..MAX_TRIES {
        let stored = store.read(Slot::FeedPosition(feed))?.ok_or(StoreError::Absent)?;
        let before = Position::decode(&stored.bytes)?;
        let Some(after) = change(&before) else { return Ok(before) };
        if store.swap(Slot::FeedPosition(feed), &after.encode(), stored.cas)? {
            return Ok(after);
        }
    }
    Err(StoreError::Contended)
}

fn encode_revision(revision: Revision, bytes: &mut Vec<u8>) {
    bytes.extend(revision.epoch.to_le_bytes());
    bytes.extend(revision.number.to_le_bytes());
    bytes.extend(revision.chain.0);
}

fn revision(rest: &mut &[u8]) -> Result<Revision, Corrupt> {
    Ok(Revision { epoch: number(rest)?, number: number(rest)?, chain: Chain(take(rest)?) })
}

fn number(rest: &mut &[u8]) -> Result<u64, Corrupt> {
    take(rest).map(u64::from_le_bytes)
}

fn take<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], Corrupt> {
    let (head, tail) = rest.split_first_chunk::<N>().ok_or(Corrupt)?;
    *rest = tail;
    Ok(*head)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn statement(number: u64, nonce: Option<&str>) -> Statement {
        Statement {
            hub: "hub".to_owned(),
            feed: "main".to_owned(),
            at: 5,
            prev: 0,
            prev_chain: Chain::default(),
            upto: Revision { epoch: 5, number, chain: Chain([3; 8]) },
            head: 9,
            format: 1,
            count: 0,
            length: 0,
            digest: [0; 32],
            part: None,
            nonce: nonce.map(str::to_owned),
            issuers: Vec::new(),
        }
    }

    #[test]
    fn a_statement_without_the_nonce_counts_only_where_it_is_vouched_for() {
        let position = Position::new([1; 32], 7);
        for nonce in [None, Some("another")] {
            let next = position.advanced(&statement(9, nonce), false);
            assert_eq!((next.target, next.caught_up), (None, false), "{nonce:?}");
            assert!(position.advanced(&statement(9, nonce), true).caught_up, "{nonce:?}");
            let behind = position.advanced(&statement(8, nonce), true);
            assert_eq!((behind.target, behind.caught_up), (Some(Target { epoch: 5, number: 9 }), false));
        }
        assert!(position.advanced(&statement(9, Some(&position.nonce_text())), false).caught_up);
    }

    #[test]
    fn the_stored_form_survives() {
        let mut position = Position::new(std::array::from_fn(|at| u8::try_from(at).unwrap()), 7);
        let revision = Revision { epoch: 5, number: 9, chain: Chain([3; 8]) };
        for (target, full, caught_up) in [
            (None, None, false),
            (Some(Target { epoch: 5, number: 9 }), Some(FullState { revision, next: 2 }), false),
            (None, None, true),
        ] {
            position = Position { applied: revision, at: 1, fresh: 2, entries: 3, target, full, caught_up, ..position };
            let bytes = position.encode();
            assert_eq!(Position::decode(&bytes), Ok(position.clone()));
            for cut in 0..bytes.len() {
                assert_eq!(Position::decode(&bytes[..cut]), Err(Corrupt));
            }
        }
        assert_ne!(position.follower_text(), position.nonce_text());
    }
}

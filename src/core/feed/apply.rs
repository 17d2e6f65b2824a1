//! Applies a page in steps: one write per bucket, then one announcement, then the position.
//!
//! A VM that dies in between loses nothing: the position is still the old one, the next VM asks for the same page, and
//! merging it again changes nothing.

use crate::feed::entry::{BadEntry, Decoded, decode};
use crate::feed::page::Page;
use crate::feed::position::{self, Position};
use crate::feed::rule::{Rule, keeps};
use crate::feed::statement::{IssuerStatus, Statement};
use crate::state::bucket::Entry;
use crate::state::coverage::{CoveredIssuer, FeedId, FeedStatus, Feeds};
use crate::state::freshness::{Heartbeat, Status, TransmitterId};
use crate::state::key::{BUCKETS, IssuerTag};
use crate::state::log::Known;
use crate::state::revocations;
use crate::state::store::{Store, StoreError};
use crate::time::Timestamp;

/// Entries are decoded this many at a time, between two looks at the clock.
const BATCH: usize = 64;

/// A page that is being applied.
#[derive(Debug)]
pub struct Work {
    page: Page,
    /// The position that the page was accepted at.
    from: Position,
    /// Whether the statement counts as if it had the nonce: see [`Position::advanced`].
    vouched: bool,
    /// How many bytes of the entries were decoded.
    decoded: usize,
    covered: Vec<IssuerTag>,
    /// The entries that are not merged yet, by bucket.
    buckets: Vec<Vec<(TransmitterId, Entry)>>,
    /// The buckets with entries; those before `merged` are merged.
    touched: Vec<u16>,
    merged: usize,
    /// What was counted so far.
    counted: Counted,
}

/// What became of the entries of a page.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counted {
    /// Entries that were merged into the state.
    pub entries: u64,
    /// Entries that were dropped: the statement does not cover their issuer, or they are about an unknown kind of thing.
    pub dropped: u64,
    /// Buckets that had no room for an entry.
    pub saturated: u64,
}

/// A page that was applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applied {
    /// The position before the page was accepted.
    pub before: Position,
    /// The position now.
    pub after: Position,
    /// The entries.
    pub counted: Counted,
}

/// Why a page could not be applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ApplyError {
    /// The signed bytes are not entries.
    #[error(transparent)]
    Entries(#[from] BadEntry),
    /// The shared memory failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Work {
    /// Begins with `page`, which was accepted at the position `from`. `vouched`: see [`Position::advanced`].
    pub fn new(page: Page, from: Position, vouched: bool) -> Work {
        let covered = page.statement().issuers.iter().map(|issuer| issuer.covered.id.tag()).collect();
        let buckets = if page.entries().is_empty() { Vec::new() } else { vec![Vec::new(); usize::from(BUCKETS)] };
        let (touched, counted) = (Vec::new(), Counted::default());
        Work { page, from, vouched, decoded: 0, covered, buckets, touched, merged: 0, counted }
    }

    /// The position that the proxy will have.
    pub fn target(&self) -> Position {
        self.from.advanced(self.page.statement(), self.vouched)
    }

    /// The statement of the page.
    pub fn statement(&self) -> &Statement {
        self.page.statement()
    }

    /// Goes on while `has_time` says so; it does at least a little. `Ok(None)`: there is more to do.
    ///
    /// `now` is the clock of the proxy. Entries end by the hub's clock if that is behind it: a clock that is set ahead for a
    /// moment must not make entries go that the hub does not send again.
    pub fn step(
        &mut self,
        store: &mut impl Store,
        feed: FeedId,
        now: Timestamp,
        mut has_time: impl FnMut() -> bool,
    ) -> Result<Option<Applied>, ApplyError> {
        let now = now.min(Timestamp(self.page.statement().at / 1_000));
        while self.decoded < self.page.entries().len() {
            self.decode_some()?;
            if !has_time() {
                return Ok(None);
            }
        }
        if !keeps(Rule::EntriesFirst) {
            self.move_position(store, feed)?;
        }
        while let Some(bucket) = self.touched.get(self.merged).copied() {
            self.merge(store, bucket, now)?;
            self.merged = self.merged.saturating_add(1);
            if !has_time() {
                return Ok(None);
            }
        }
        self.finish(store, feed, now).map(Some).map_err(ApplyError::Store)
    }

    fn decode_some(&mut self) -> Result<(), BadEntry> {
        let rest = self.page.entries().get(self.decoded..).unwrap_or_default();
        let batch = batch_len(rest)?;
        for decoded in decode(rest.get(..batch).unwrap_or_default()) {
            let Decoded::Known(new) = decoded? else {
                self.counted.dropped = self.counted.dropped.saturating_add(1);
                continue;
            };
            if !self.covered.contains(&new.entry.key.issuer()) {
                self.counted.dropped = self.counted.dropped.saturating_add(1);
                continue;
            }
            let number = new.entry.key.bucket();
            if let Some(bucket) = self.buckets.get_mut(usize::from(number)) {
                if bucket.is_empty() {
                    self.touched.push(number);
                }
                bucket.push((new.by, new.entry));
                self.counted.entries = self.counted.entries.saturating_add(1);
            }
        }
        self.decoded = self.decoded.saturating_add(batch);
        Ok(())
    }

    fn merge(&mut self, store: &mut impl Store, bucket: u16, now: Timestamp) -> Result<(), StoreError> {
        let entries = self.buckets.get_mut(usize::from(bucket)).map(std::mem::take).unwrap_or_default();
        let borrowed: Vec<_> = entries.iter().map(|(by, entry)| (*by, entry)).collect();
        if !revocations::merge(store, bucket, &borrowed, now)? {
            self.counted.saturated = self.counted.saturated.saturating_add(1);
        }
        Ok(())
    }

    /// Announces all buckets with what the statement says, and then moves the position.
    fn finish(&mut self, store: &mut impl Store, feed: FeedId, now: Timestamp) -> Result<Applied, StoreError> {
        let statement = self.page.statement();
        // While this page was applied, another VM may have gone on, or have begun with another history. Then the page says
        // nothing about the state as it is now.
        let stored = position::read(store, feed)?;
        let moved = self.moved(&stored);
        let shows_head = moved.as_ref().is_some_and(|next| stored.shows_head(statement, next));
        let next = moved.as_ref().unwrap_or(&stored);
        revocations::announce(store, &self.touched, |known| note(known, feed, statement, next, shows_head, now))?;
        let after = self.move_position(store, feed)?;
        Ok(Applied { before: self.from.clone(), after, counted: self.counted })
    }

    /// Moves the stored position.
    fn move_position(&self, store: &mut impl Store, feed: FeedId) -> Result<Position, StoreError> {
        position::change(store, feed, |stored| {
            let moved = self.moved(stored)?;
            Some(Position { entries: moved.entries.saturating_add(self.counted.entries), ..moved })
        })
    }

    /// The position after `stored`. Another VM may have moved it since the page was accepted: then the page must be one that
    /// is accepted there too, and none that begins a full state. `None`: the position stays.
    fn moved(&self, stored: &Position) -> Option<Position> {
        let statement = self.page.statement();
        let begins = statement.part.is_some_and(|part| part.part == 0);
        let is_next = stored == &self.from || (!begins && stored.examine(statement, statement.at).is_ok());
        is_next.then(|| stored.advanced(statement, self.vouched))
    }
}

/// The length in bytes of the first entries of `bytes`, at most [`BATCH`] of them.
fn batch_len(bytes: &[u8]) -> Result<usize, BadEntry> {
    let mut length: usize = 0;
    for _ in 0..BATCH {
        let Some(rest) = bytes.get(length..).filter(|rest| !rest.is_empty()) else { break };
        let (head, _) = rest.split_first_chunk::<2>().ok_or(BadEntry)?;
        let entry = usize::from(u16::from_le_bytes(*head)).saturating_add(2);
        length = length.saturating_add(entry);
    }
    if length <= bytes.len() { Ok(length) } else { Err(BadEntry) }
}

/// Records what `statement` says about the feed, once its page is merged and the position will be `next`.
fn note(known: &mut Known, feed: FeedId, statement: &Statement, next: &Position, shows_head: bool, now: Timestamp) {
    let issuers = match shows_head {
        true => statement.issuers.iter().map(|issuer| issuer.covered).collect(),
        false => covered_before(&known.feeds, feed, &statement.issuers),
    };
    known.feeds.note(FeedStatus { feed, caught_up: next.caught_up, issuers });
    if !shows_head {
        return;
    }
    let at = Timestamp(statement.at / 1_000);
    for issuer in &statement.issuers {
        let status = if issuer.lost { Status::Disabled } else { Status::Enabled };
        let transmitter = issuer.covered.id.transmitter(feed);
        let heartbeat = Heartbeat { transmitter, issued: issuer.heard.min(at), stream: Some((status, at)) };
        known.freshness.note(&heartbeat, now);
    }
}

/// What the feed covered before and covers still. What it covers since then is covered once the head is applied: its
/// entries are among those that come before it.
fn covered_before(feeds: &Feeds, feed: FeedId, issuers: &[IssuerStatus]) -> Vec<CoveredIssuer> {
    let before = feeds.of(feed).map(|status| status.issuers.as_slice()).unwrap_or_default();
    let still = |known: &CoveredIssuer| {
        let now = issuers.iter().map(|issuer| issuer.covered).find(|covered| covered.id == known.id)?;
        Some(CoveredIssuer {
            id: known.id,
            token_retention: known.token_retention.min(now.token_retention),
            session_retention: known.session_retention.min(now.session_retention),
        })
    };
    before.iter().filter_map(still).collect()
}

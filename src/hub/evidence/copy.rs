//! Copies what was taken into the store of signals into the evidence, each signal once.
//!
//! It follows the store, and not the writer, so that it also finds what came while evidence was switched off or another
//! replica took it in. How far it has got is a named value of the evidence. What it copies again changes nothing.

use crate::config::hub::Feed;
use crate::evidence::model::{EventRow, Write};
use crate::evidence::service::{Evidence, NotTaken};
use crate::evidence::signal_event;
use crate::evidence::store::EvidenceStore;
use crate::store::Store;
use crate::store::model::{SignalQuery, SignalRecord, StoreError};
use std::collections::BTreeSet;
use taskfence_core::time::Timestamp;

/// So many signals are copied at once.
const BATCH: usize = 500;

/// So many bytes of entries are read at once, to see which signals were undone.
const READ: usize = 256 * 1024;

/// The room that one copy takes, in bytes: about what it has in memory.
const SIZE: usize = 2_048;

/// Who copies, in the queue of the evidence.
const CALLER: &str = "(copies of signals)";

/// Why signals were not copied. They are copied later.
#[derive(Debug, thiserror::Error)]
pub enum NotCopied {
    /// The store of signals or of evidence failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The evidence has no room.
    #[error(transparent)]
    NotTaken(#[from] NotTaken),
}

/// How far the signals of a feed are copied.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Position {
    /// The epoch of the feed. In another one all signals are looked at again: the store may have been restored.
    epoch: u64,
    /// The id of the last signal.
    signal: u64,
    /// The number of the last entry that was looked at for undone signals.
    entry: u64,
}

/// Copies a part of what is new in `feed`. Returns whether there may be more. Blocks.
pub fn copy(evidence: &Evidence, to: &dyn EvidenceStore, from: &dyn Store, feed: &Feed) -> Result<bool, NotCopied> {
    let name = format!("copied/{}", feed.name);
    let head = from.head(&feed.name)?;
    let stored = to.get(&name)?.and_then(|text| Position::parse(&text)).unwrap_or_default();
    let begun = if stored.epoch == head.epoch { stored } else { Position { epoch: head.epoch, ..Position::default() } };
    let mut position = begun;
    let records = from.signals_after(&feed.name, position.signal, BATCH)?;
    position.signal = records.last().map_or(position.signal, |record| record.id);
    let now = evidence.now();
    let (entries, upto) = from.entries_after(&feed.name, position.entry, READ, Timestamp(now / 1_000))?;
    let lifted: BTreeSet<u64> =
        entries.iter().filter(|entry| signal_event::is_lifted(entry)).map(|entry| entry.signal).collect();
    position.entry = upto.number.max(position.entry);
    let mut events = Vec::new();
    for record in &records {
        events.extend(rows(from, feed, record, now)?);
    }
    for id in lifted {
        let query = SignalQuery { id: Some(id), ..SignalQuery::default() };
        for record in from.signals(&feed.name, &query)? {
            events.extend(rows(from, feed, &record, now)?);
        }
    }
    let writes: Vec<_> = events.into_iter().map(|event| Write::Event(Box::new(event))).collect();
    if !writes.is_empty() {
        let room = evidence.reserve(CALLER, writes.len().saturating_mul(SIZE))?;
        evidence.submit_blocking(room, writes)?;
    }
    if position != stored {
        to.set(&name, &position.text())?;
    }
    Ok(position != begun)
}

fn rows(from: &dyn Store, feed: &Feed, record: &SignalRecord, now: u64) -> Result<Vec<EventRow>, StoreError> {
    let entries = from.entries_of(&feed.name, record.id)?;
    Ok(signal_event::events(feed, record, &entries, now))
}

impl Position {
    fn parse(text: &str) -> Option<Position> {
        let mut parts = text.split(' ').map(str::parse);
        let mut next = || parts.next()?.ok();
        Some(Position { epoch: next()?, signal: next()?, entry: next()? })
    }

    fn text(self) -> String {
        format!("{} {} {}", self.epoch, self.signal, self.entry)
    }
}

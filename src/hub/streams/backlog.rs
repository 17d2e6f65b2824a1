//! What a stream still has to get, in the order of the ids of signals.

use crate::store::model::StoreError;
use crate::store::{PRUNED, Store};
use crate::streams::outgoing::{Outgoing, Sender};
use crate::streams::record::StreamRecord;

/// So many signals are read at once.
const READ: usize = 500;

/// So many SETs beyond the position of a stream can be with its receiver at once.
const WINDOW: usize = 1_000;

/// The next SETs of a stream.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Backlog {
    /// The SETs, oldest first.
    pub sets: Vec<Outgoing>,
    /// Up to this id nothing waits.
    pub passed: u64,
    /// What was taken in up to then does not wait, in milliseconds since 1970.
    pub complete_until: u64,
    /// Whether more wait than `sets`.
    pub more: bool,
}

/// The next `limit` SETs of `stream`, at most. `now` is in milliseconds since 1970, and not after the call. Blocks.
pub fn read(
    store: &dyn Store,
    sender: Sender<'_>,
    stream: &StreamRecord,
    limit: usize,
    now: u64,
) -> Result<Backlog, StoreError> {
    let mut backlog = Backlog { passed: stream.after, complete_until: now, ..Backlog::default() };
    let (mut after, mut seen) = (stream.after, 0usize);
    loop {
        let records = store.signals_after(&stream.feed, after, READ)?;
        let Some(last) = records.last() else { return Ok(backlog) };
        after = last.id;
        for record in &records {
            let is_acknowledged = stream.acknowledged.contains(&record.id);
            match sender.outgoing(stream, record).filter(|_| !is_acknowledged) {
                None if backlog.sets.is_empty() => backlog.passed = record.id,
                None => {}
                Some(set) => {
                    if backlog.sets.is_empty() {
                        backlog.complete_until = now.min(record.signal.taken_in.saturating_sub(1));
                    }
                    if backlog.sets.len() >= limit || seen >= WINDOW {
                        backlog.more = true;
                        return Ok(backlog);
                    }
                    backlog.sets.push(set);
                }
            }
            seen = seen.saturating_add(usize::from(is_acknowledged || !backlog.sets.is_empty()));
        }
    }
}

/// Up to when signals are gone, in milliseconds since 1970, if the stream may have missed one of them.
pub fn gap(store: &dyn Store, stream: &StreamRecord) -> Result<Option<u64>, StoreError> {
    let pruned: Option<u64> = store.get(PRUNED)?.and_then(|at| at.parse().ok());
    Ok(pruned.filter(|pruned| *pruned > stream.complete_until))
}

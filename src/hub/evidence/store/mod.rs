//! The port of the store of evidence. There are two engines: files of SQLite, one for each day, and tables of PostgreSQL
//! with a partition for each day. What is old goes by whole days.
//!
//! Uses are added up by the hour (UTC) of their first one, so a window that begins and ends at full hours is exact. What
//! began before the window and went on in it counts whole, and so does what went on after it.

pub mod about;
pub mod bounded;
pub mod day;
pub mod disk;
pub mod kept;
pub mod postgres;
pub mod sqlite;
#[cfg(test)]
pub mod testing;
pub mod value;

use crate::evidence::model::{
    EventKind, EventRow, Found, GapRow, GrantRow, Losses, RecordRow, Selector, Usage, Window, Write, Written,
};
use crate::store::model::StoreError;
use taskfence_core::uses::outline::Outline;

/// A store of evidence. Every call blocks.
pub trait EvidenceStore: Send + Sync {
    /// Stores all of `writes` in one transaction, and says of each what became of it. The day of a batch and of a gap is
    /// that of its `until`, that of an event that of its `at`.
    ///
    /// What is older than what is kept is dropped, and so is what is more than a day ahead of the clock of the hub
    /// (`BatchWrite::at`, `EventRow::heard_at`; 0: not known; for a gap that of what came last). A batch that is dropped is counted in [`Losses`] when it
    /// came. An event is also known again under a time on the day before or after.
    fn write(&self, writes: &[Write]) -> Result<Vec<Written>, StoreError>;

    /// Shows `each` the grants of `feed` that were used in the window, or were issued in it (`GrantInfo::issued_at`) and
    /// used at some other time, in the order of their ids, with what happened in the window. A grant that only an event
    /// names is not among them. `each` says whether to go on.
    fn grants(&self, feed: &str, window: Window, each: &mut dyn FnMut(GrantRow) -> bool) -> Result<(), StoreError>;

    /// Shows `each` the events of `feed` in the window, in the order of their times; `kind`: only those of this kind. `each`
    /// says whether to go on.
    fn events(
        &self,
        feed: &str,
        window: Window,
        kind: Option<EventKind>,
        each: &mut dyn FnMut(EventRow) -> bool,
    ) -> Result<(), StoreError>;

    /// What is known about `selector` in the window. `issuer` limits it to one. At most `limit` grants (in the order of
    /// their ids), `limit` events and `limit` records (the first ones).
    ///
    /// Events are those that name the selector, and those about the grants that are found: an event with a token is about
    /// that token, any other one with a task is about that task, any other one with a session about that session, and any
    /// other one about its subject and its client, both if it names both.
    fn find(
        &self,
        feed: &str,
        selector: &Selector,
        issuer: Option<&str>,
        window: Window,
        limit: usize,
    ) -> Result<Found, StoreError>;

    /// The next `limit` single decisions of `feed` after a position, in the order of their positions. A position is never
    /// used twice.
    fn records(&self, feed: &str, after: u64, window: Window, limit: usize) -> Result<Vec<RecordRow>, StoreError>;

    /// The gaps that overlap the window, and as gaps the days that cannot be read, in the order of their beginnings.
    fn gaps(&self, feed: &str, window: Window) -> Result<Vec<GapRow>, StoreError>;

    /// What was lost in the window.
    fn losses(&self, feed: &str, window: Window) -> Result<Losses, StoreError>;

    /// The rules of all configurations that uses of `feed` name.
    fn configs(&self, feed: &str) -> Result<Vec<Outline>, StoreError>;

    /// A named value, such as how far signals were copied.
    fn get(&self, name: &str) -> Result<Option<String>, StoreError>;

    /// Sets a named value.
    fn set(&self, name: &str, value: &str) -> Result<(), StoreError>;

    /// Removes whole days that are older than what is kept, and while there is more than the quota the oldest ones, but
    /// not the newest. The rules of configurations that no kept day names go some time later. Returns how many days.
    fn prune(&self, now: u64) -> Result<u64, StoreError>;

    /// How much is kept.
    fn usage(&self) -> Result<Usage, StoreError>;
}

#[cfg(test)]
mod tests;

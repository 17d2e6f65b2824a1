//! The port of the store of evidence. There are two engines: files of SQLite, one for each day, and tables of PostgreSQL
//! with a partition for each day. What is old goes by whole days.

use crate::evidence::model::{
    EventRow, Found, GapRow, GrantRow, Losses, RecordRow, Selector, Usage, Window, Write, Written,
};
use crate::store::model::StoreError;
use taskfence_core::uses::outline::Outline;

/// A store of evidence. Every call blocks.
pub trait EvidenceStore: Send + Sync {
    /// Stores all of `writes` in one transaction, and says of each what became of it. The day of a batch is that of its
    /// `until`, that of an event that of its `at`; what is older than what is kept is dropped.
    fn write(&self, writes: &[Write]) -> Result<Vec<Written>, StoreError>;

    /// Shows `each` the grants of `feed` that were used or issued in the window, in the order of their ids, with what
    /// happened in the window. `each` says whether to go on.
    fn grants(&self, feed: &str, window: Window, each: &mut dyn FnMut(GrantRow) -> bool) -> Result<(), StoreError>;

    /// Shows `each` the events of `feed` in the window, in the order of their times. `each` says whether to go on.
    fn events(&self, feed: &str, window: Window, each: &mut dyn FnMut(EventRow) -> bool) -> Result<(), StoreError>;

    /// What is known about `selector` in the window. `issuer` limits it to one. At most `limit` records.
    fn find(
        &self,
        feed: &str,
        selector: &Selector,
        issuer: Option<&str>,
        window: Window,
        limit: usize,
    ) -> Result<Found, StoreError>;

    /// The next `limit` single decisions of `feed` after a position, in the order of their positions.
    fn records(&self, feed: &str, after: u64, window: Window, limit: usize) -> Result<Vec<RecordRow>, StoreError>;

    /// The gaps that overlap the window.
    fn gaps(&self, feed: &str, window: Window) -> Result<Vec<GapRow>, StoreError>;

    /// What was lost in the window.
    fn losses(&self, feed: &str, window: Window) -> Result<Losses, StoreError>;

    /// The rules of all configurations that uses of `feed` name.
    fn configs(&self, feed: &str) -> Result<Vec<Outline>, StoreError>;

    /// A named value, such as how far signals were copied.
    fn get(&self, name: &str) -> Result<Option<String>, StoreError>;

    /// Sets a named value.
    fn set(&self, name: &str, value: &str) -> Result<(), StoreError>;

    /// Removes whole days that are older than what is kept, or the oldest ones while there is more than the quota. Returns
    /// how many days.
    fn prune(&self, now: u64) -> Result<u64, StoreError>;

    /// How much is kept.
    fn usage(&self) -> Result<Usage, StoreError>;
}

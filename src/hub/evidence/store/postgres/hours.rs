//! The batches of a group, by VM and hour.

use crate::evidence::model::BatchWrite;
use crate::evidence::store::postgres::numbers::Numbers;
use crate::evidence::store::postgres::text::Key;
use crate::evidence::store::value::int;

/// A statement and its parameters.
pub(super) type Call<'c> = (&'c str, Vec<&'c (dyn tokio_postgres::types::ToSql + Sync)>);

/// What is stored of one VM in one hour: feed, principal and VM, hour, day.
pub(super) type BatchKey<'w> = (&'w str, Key, i64, i32);

/// One hour of a VM.
pub(super) struct Hour<'w> {
    /// One of its batches.
    pub(super) of: &'w BatchWrite,
    pub(super) numbers: Numbers,
    pub(super) since: u64,
    pub(super) until: u64,
    pub(super) other_permitted: i64,
    pub(super) other_refused: i64,
    pub(super) records_dropped: i64,
}

impl<'w> Hour<'w> {
    /// Of the hour of a batch.
    pub(super) fn new(of: &'w BatchWrite) -> Hour<'w> {
        Hour {
            of,
            numbers: Numbers::default(),
            since: u64::MAX,
            until: 0,
            other_permitted: 0,
            other_refused: 0,
            records_dropped: 0,
        }
    }

    /// Adds a batch; false: it is there.
    pub(super) fn add(&mut self, write: &'w BatchWrite) -> bool {
        let batch = &write.batch;
        if !self.numbers.add(batch.number) {
            return false;
        }
        self.of = write;
        self.since = self.since.min(batch.since);
        self.until = self.until.max(batch.until);
        self.other_permitted = self.other_permitted.saturating_add(int(batch.other_permitted));
        self.other_refused = self.other_refused.saturating_add(int(batch.other_refused));
        self.records_dropped = self.records_dropped.saturating_add(int(batch.records_dropped));
        true
    }
}

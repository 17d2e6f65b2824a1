//! The rows of a group of changes, as they were loaded and as the group leaves them.

use crate::store::model::{NewEntry, NewSignal};
use crate::store::tables::{KnownSignal, Numbers, Own};
use std::collections::{BTreeMap, BTreeSet};

/// Feed, bucket, encoded key.
pub(super) type KeyId = (i64, u16, Vec<u8>);

/// A signal, as far as changes need it.
pub(super) struct Signal {
    pub(super) feed: i64,
    pub(super) known: KnownSignal,
    /// What is to be inserted; `None`: it is there.
    pub(super) new: Option<NewSignal>,
    pub(super) renumbered: Option<(Numbers, Option<i64>)>,
    pub(super) lifted: Option<(String, String, u64)>,
}

/// The rows about a key, by number.
#[derive(Default)]
pub(super) struct Rows {
    pub(super) rows: BTreeMap<i64, EntryRow>,
    /// Whether all of them were loaded.
    pub(super) is_complete: bool,
    /// Removed from the database.
    pub(super) removed: BTreeSet<i64>,
}

/// A row of `entry`.
pub(super) struct EntryRow {
    pub(super) signal: i64,
    pub(super) entry: NewEntry,
    pub(super) own: Own,
    pub(super) state: State,
}

/// What has become of a row since it was loaded.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    Loaded,
    Changed,
    New,
}

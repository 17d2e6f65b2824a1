//! The rows that a group of changes reads and writes. Each engine has them; what becomes of the rows is decided in
//! [`crate::store::group`] and [`crate::store::generations`], once for all engines.

use crate::store::model::{NewEntry, NewSignal, StoreError, StoredEntry};
use taskfence_core::feed::revision::{Chain, Revision};
use taskfence_core::time::Timestamp;

/// The tables of a store, within one transaction. What was written is seen by what is read after it.
pub trait Tables {
    /// The id of a feed and its head. The feed stays locked until the transaction ends, so that numbers and ids of signals
    /// become visible in order.
    fn feed(&mut self, name: &str) -> Result<(i64, Revision), StoreError>;

    /// Moves the head of a feed.
    fn set_head(&mut self, feed: i64, head: Revision) -> Result<(), StoreError>;

    /// The signal with that `jti`.
    fn signal_of(&mut self, feed: i64, transmitter: &str, jti: &str) -> Result<Option<KnownSignal>, StoreError>;

    /// The signal with that id.
    fn signal(&mut self, feed: i64, signal: i64) -> Result<Option<KnownSignal>, StoreError>;

    /// Adds a signal without entries, and returns its id.
    fn add_signal(&mut self, feed: i64, new: &NewSignal) -> Result<i64, StoreError>;

    /// Says which numbers the entries of a signal have; `ends`: when the next of them ends, where that changes.
    fn renumber(&mut self, signal: i64, numbers: Numbers, ends: Option<i64>) -> Result<(), StoreError>;

    /// Notes who lifted a signal, why, and when (milliseconds since 1970).
    fn mark_lifted(&mut self, signal: i64, lifted: (&str, &str, u64)) -> Result<(), StoreError>;

    /// The entries of a signal as it said them, in order.
    fn entries_of(&mut self, feed: i64, signal: i64) -> Result<Vec<StoredEntry>, StoreError>;

    /// The rows about a key, the newest first, as their numbers and encoded entries, until `each` returns `false`.
    fn newest(&mut self, key: Key<'_>, each: &mut EachRow<'_>) -> Result<(), StoreError>;

    /// What signals other than `except` that are not lifted said about a key, and stands after `now`.
    fn standing(
        &mut self,
        key: Key<'_>,
        except: i64,
        now: Timestamp,
        each: &mut EachSaid<'_>,
    ) -> Result<(), StoreError>;

    /// Adds an entry of a signal.
    fn add_entry(&mut self, feed: i64, signal: i64, row: &NumberedRow<'_>) -> Result<(), StoreError>;

    /// Gives the entry with that number another end.
    fn shorten(&mut self, key: Key<'_>, number: i64, until: Timestamp, bytes: Vec<u8>) -> Result<(), StoreError>;

    /// Removes an entry. Its chain stays where it belongs to the last numbers of the feed.
    fn remove_entry(&mut self, key: Key<'_>, number: i64) -> Result<(), StoreError>;

    /// Notes a time that is stored, in milliseconds since 1970.
    fn note_time(&mut self, time: u64) -> Result<(), StoreError>;

    /// The latest time that was stored, in milliseconds since 1970.
    fn latest_time(&mut self) -> Result<u64, StoreError>;
}

/// Takes the number and the encoded entry of a row, and says whether to go on.
pub type EachRow<'e> = dyn FnMut(i64, &[u8]) -> Result<bool, StoreError> + 'e;

/// Takes the encoded entry of a row, and what its signal said.
pub type EachSaid<'e> = dyn FnMut(&[u8], Own) -> Result<(), StoreError> + 'e;

/// Where the rows about a key are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Key<'k> {
    /// The feed.
    pub feed: i64,
    /// The bucket of the key.
    pub bucket: u16,
    /// The encoded key.
    pub key: &'k [u8],
}

/// A stored signal, as far as a change needs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownSignal {
    /// Its id.
    pub id: i64,
    /// The fingerprint of its SET.
    pub fingerprint: Vec<u8>,
    /// The number of its last entry.
    pub number: i64,
    /// The chain there.
    pub chain: Chain,
    /// Whether it was lifted.
    pub is_lifted: bool,
}

/// The numbers of the entries of a signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Numbers {
    /// The first.
    pub first: i64,
    /// The last.
    pub last: i64,
    /// The chain at the last.
    pub chain: Chain,
}

/// What one signal said in a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Own {
    /// When it happened.
    pub at: Timestamp,
    /// Until when it is kept.
    pub until: Timestamp,
}

/// An entry with its number.
#[derive(Debug, Clone, Copy)]
pub struct NumberedRow<'r> {
    /// The number.
    pub number: i64,
    /// The chain at it.
    pub chain: Chain,
    /// The entry as proxies get it.
    pub entry: &'r NewEntry,
    /// What its signal said.
    pub own: Own,
}

//! What the hub keeps. Signals are the truth; entries are derived from them, each with its own number.

pub mod clock;
mod generations;
mod group;
pub mod lease;
#[cfg(test)]
mod measure;
pub mod model;
pub mod open;
pub mod postgres;
mod prune;
pub mod pruning;
pub mod queue_share;
pub mod retention;
pub mod room;
mod rule;
pub mod sqlite;
mod tables;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
mod value;
pub mod writer;

use crate::store::model::{
    Audit, Change, FollowerRecord, Outcome, PrincipalRecord, SignalQuery, SignalRecord, StoreError, StoredEntry,
};
use std::path::Path;
use taskfence_core::feed::revision::{Chain, Revision};
use taskfence_core::state::key::StateKey;
use taskfence_core::time::Timestamp;
use tokio::sync::watch;

/// The named value that a backup carries, and not the store that it was made of: when it was made, in milliseconds since
/// 1970. A writer that finds it starts a new epoch in every feed, and moves it to [`RESTORED`].
pub const BACKUP: &str = "backup";

/// The named value of a store that was restored: up to when it is complete, in milliseconds since 1970. What was answered
/// after that is only in proxies. It stays until an operator has dealt with the gap, and sets it to the empty text.
pub const RESTORED: &str = "restored";

/// The named value of a store that was restored: when the hub found that, in milliseconds since 1970.
pub const RESTORED_AT: &str = "restored-at";

/// The named value that orders to cut off what began before [`RESTORED_AT`]: who ordered it. The hub sets it to the empty
/// text when that is done, with [`RESTORED`].
pub const CUT_OFF: &str = "cut-off";

/// The named value of a store that was moved into another one: where to. No hub starts with it.
pub const MOVED: &str = "moved";

/// The named value that says which signals are gone: all that were taken in after this time are there, in milliseconds
/// since 1970.
pub const PRUNED: &str = "pruned";

/// The named value that says which epochs `feed` has had before this one: hexadecimal, with spaces between. A proxy that
/// has applied entries of any other epoch has them from another store.
pub fn past_epochs(feed: &str) -> String {
    format!("epochs/{feed}")
}

/// The store of a hub. All calls block; whoever is asynchronous makes them on a thread of their own.
///
/// One writer calls [`Store::commit`]; the others may be called from any thread at the same time.
pub trait Store: Send + Sync + 'static {
    /// The feed `name`, created with the random `epoch` if it does not exist. Returns its head.
    fn open_feed(&self, name: &str, epoch: u64) -> Result<Revision, StoreError>;

    /// Gives the feed a new epoch. Its numbers go on. For a store that was restored: proxies may have seen numbers beyond
    /// its head, so all start again from the full state. Only before the writer starts.
    fn renew_feed(&self, name: &str, epoch: u64) -> Result<Revision, StoreError>;

    /// Stores `changes` in order, in one transaction that is durable when this returns, and gives each new entry the
    /// next number of its feed. One outcome for each change.
    ///
    /// An error means that nothing of the group is known to be stored: the caller tries its members one by one.
    fn commit(&self, changes: &[Change]) -> Result<Vec<Outcome>, StoreError>;

    /// The last revision of the feed.
    fn head(&self, feed: &str) -> Result<Revision, StoreError>;

    /// The chain at the number; `None` where the feed no longer keeps it, or has not got that far.
    fn chain(&self, feed: &str, number: u64) -> Result<Option<Chain>, StoreError>;

    /// The entries after the number, in order, that are kept at `now`: as many as have `max_bytes` together, and at least
    /// one. With them the revision up to which nothing is missing.
    fn entries_after(
        &self,
        feed: &str,
        after: u64,
        max_bytes: usize,
        now: Timestamp,
    ) -> Result<(Vec<StoredEntry>, Revision), StoreError>;

    /// Every entry up to the head that is kept at `now`, sorted by bucket, handed to `each`; and that head. All from one
    /// snapshot.
    fn full_state(&self, feed: &str, now: Timestamp, each: &mut dyn FnMut(StoredEntry))
    -> Result<Revision, StoreError>;

    /// The entries about a key that are kept at `now`, as the signals said them that they come from, and these.
    fn about(&self, feed: &str, key: &StateKey, now: Timestamp)
    -> Result<Vec<(StoredEntry, SignalRecord)>, StoreError>;

    /// Signals, newest first.
    fn signals(&self, feed: &str, query: &SignalQuery) -> Result<Vec<SignalRecord>, StoreError>;

    /// Signals whose ids are greater than `after`, oldest first, at most `limit`, and fewer where they are long. None
    /// comes later with an id that is less than one that was returned.
    fn signals_after(&self, feed: &str, after: u64, limit: usize) -> Result<Vec<SignalRecord>, StoreError>;

    /// The entries of one signal, as it said them.
    fn entries_of(&self, feed: &str, signal: u64) -> Result<Vec<StoredEntry>, StoreError>;

    /// Appends to the audit log, in one transaction.
    fn audit(&self, records: &[Audit]) -> Result<(), StoreError>;

    /// The audit log, newest first, at most `limit` records before the id.
    fn audits(&self, before: Option<u64>, limit: usize) -> Result<Vec<(u64, Audit)>, StoreError>;

    /// The principals with a bearer token.
    fn principals(&self) -> Result<Vec<PrincipalRecord>, StoreError>;

    /// Adds or replaces a principal.
    fn put_principal(&self, principal: &PrincipalRecord) -> Result<(), StoreError>;

    /// Removes a principal. `Ok(false)`: there is none of that name.
    fn remove_principal(&self, name: &str) -> Result<bool, StoreError>;

    /// Adds or replaces followers, in one transaction. One that was seen later stays: it went to another replica, which
    /// knows more of it.
    fn put_followers(&self, followers: &[FollowerRecord]) -> Result<(), StoreError>;

    /// The followers of a feed.
    fn followers(&self, feed: &str) -> Result<Vec<FollowerRecord>, StoreError>;

    /// Removes followers by id.
    fn remove_followers(&self, feed: &str, ids: &[String]) -> Result<(), StoreError>;

    /// Sets a named value, such as the hash of the configuration.
    fn set(&self, name: &str, value: &str) -> Result<(), StoreError>;

    /// The same for a value that must be stored to take signals: it may use the room that is kept for them.
    fn set_for_signals(&self, name: &str, value: &str) -> Result<(), StoreError>;

    /// Whether there is room for more than signals; the error says why not.
    fn check_room(&self) -> Result<(), StoreError>;

    /// Reads a named value.
    fn get(&self, name: &str) -> Result<Option<String>, StoreError>;

    /// The named values whose names begin with `prefix`, by name.
    fn values(&self, prefix: &str) -> Result<Vec<(String, String)>, StoreError>;

    /// Replaces a named value, if it is `expected`, by `new`; `None`: there is none. Returns whether it was. Of several
    /// that expect the same at once, one replaces it. What several replicas agree on stands on this: see
    /// [`lease::Lease`].
    fn swap(&self, name: &str, expected: Option<&str>, new: Option<&str>) -> Result<bool, StoreError>;

    /// The clock that all replicas over this store use, in milliseconds since 1970: that of the database, or that of this
    /// system where the store is a file. It asks the database each time.
    fn now_ms(&self) -> Result<u64, StoreError> {
        Ok(clock::system_time())
    }

    /// Changes whenever another process may have changed the store; `None`: no other process does. A hint and no promise:
    /// whoever follows the store also looks at it every second or so.
    fn changes(&self) -> Option<watch::Receiver<u64>> {
        None
    }

    /// The latest time that the store holds, in milliseconds since 1970: the clock of the hub never runs behind it.
    fn latest_time(&self) -> Result<u64, StoreError>;

    /// The followers of a feed that are not of the replica `but` and were seen at `since` or later, in milliseconds since
    /// 1970. It is called several times a second while somebody waits for a receipt.
    fn followers_seen(&self, feed: &str, but: &str, since: u64) -> Result<Vec<FollowerRecord>, StoreError> {
        let mut followers = self.followers(feed)?;
        followers.retain(|follower| follower.replica != but && follower.seen >= since);
        Ok(followers)
    }

    /// Removes what is not needed any more at `now`: entries that have ended, signals all of whose entries have, old
    /// chains. Each signal stays for as long as the store was told to keep signals, at least for an hour where it has no
    /// entries, and the last one of each transmitter stays; [`PRUNED`] says which are gone. Returns how many entries were
    /// removed.
    fn prune(&self, now: Timestamp) -> Result<u64, StoreError>;

    /// Copies the store into the new file `to` while it is in use. The copy has the value [`BACKUP`].
    fn backup(&self, to: &Path) -> Result<(), StoreError>;
}

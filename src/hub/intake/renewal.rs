//! Renews what stands about devices and risks: the last word about each, before its entry ends.
//!
//! A transmitter says once that a device is not compliant. Proxies keep that for 30 days, so that they forget devices when
//! the hub is gone; the hub remembers it until another word comes.

use crate::config::hub::Feed;
use crate::intake::rederive::{known, prolonged};
use crate::store::Store;
use crate::store::model::{Change, NewEntry, StoreError, StoredEntry};
use taskfence_core::signal::hub_source::covered;
use taskfence_core::signal::stored::lasting;
use taskfence_core::state::bucket::Entry;
use taskfence_core::state::key::IssuerTag;
use taskfence_core::time::{Span, Timestamp};

/// An entry that is renewed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Due {
    /// The signal that it comes from.
    pub(super) signal: u64,
    /// `Entry::identity`.
    identity: u64,
    /// Until when it is kept from now on.
    until: Timestamp,
}

/// The words of `feed` that stand at `now`, and whose entries have less than half of their life left. `since` is in the past
/// after the hub did not run: then words are found whose entries have ended meanwhile. Blocks.
pub(super) fn due(
    feed: &Feed,
    store: &dyn Store,
    skew: Span,
    (since, now): (Timestamp, Timestamp),
) -> Result<Vec<Due>, StoreError> {
    let mut found = Vec::new();
    // All about one key come one after the other.
    let (mut key, mut words) = (Vec::new(), Vec::<Word>::new());
    store.full_state(&feed.name, since, &mut |stored| {
        if stored.entry.key != key {
            key.clone_from(&stored.entry.key);
            found.extend(words.drain(..).filter_map(|word| word.renewed(skew, now)));
        }
        let Some(word) = Word::read(feed, &stored) else { return };
        match words.iter_mut().find(|other| other.identity == word.identity) {
            Some(other) => other.merge(word),
            None => words.push(word),
        }
    })?;
    found.extend(words.drain(..).filter_map(|word| word.renewed(skew, now)));
    Ok(found)
}

/// The change that renews `due`. `None`: the entry is gone, or ends later already. Blocks.
pub(super) fn renew(feed: &Feed, store: &dyn Store, due: Due) -> Result<Option<Change>, StoreError> {
    let mut changed = false;
    let entries: Vec<NewEntry> = store
        .entries_of(&feed.name, due.signal)?
        .into_iter()
        .map(|stored| {
            let is_meant = known(&stored).is_some_and(|entry| entry.identity() == due.identity);
            if !is_meant || stored.entry.until >= due.until {
                return stored.entry;
            }
            changed = true;
            prolonged(&stored.entry, due.until)
        })
        .collect();
    Ok(changed.then(|| Change::Derive { feed: feed.name.clone(), signal: due.signal, entries }))
}

/// The word that counts among those of one identity.
struct Word {
    signal: u64,
    identity: u64,
    entry: Entry,
    retention: Span,
}

impl Word {
    fn read(feed: &Feed, stored: &StoredEntry) -> Option<Word> {
        let entry = known(stored).filter(|entry| !entry.lifted)?;
        let retention = retention(feed, &entry)?;
        Some(Word { signal: stored.signal, identity: entry.identity(), entry, retention })
    }

    /// Both are about the same. The later one counts, and is kept until the later of both ends, as in a proxy.
    fn merge(&mut self, other: Word) {
        let until = self.entry.until.max(other.entry.until);
        if other.entry.fact.replaces(other.entry.at.0, self.entry.fact, self.entry.at.0) {
            *self = other;
        }
        self.entry.until = until;
    }

    fn renewed(self, skew: Span, now: Timestamp) -> Option<Due> {
        let is_due = self.entry.until <= now.plus(Span(self.retention.0 / 2));
        let until = now.plus(self.retention).plus(skew);
        is_due.then_some(Due { signal: self.signal, identity: self.identity, until })
    }
}

/// How long the word is kept; `None` for what is no word, or about an issuer that is not covered any more.
fn retention(feed: &Feed, entry: &Entry) -> Option<Span> {
    let tag: IssuerTag = entry.key.issuer();
    let policy = feed.policy();
    let issuer = policy.issuers().iter().find(|issuer| covered(issuer).id.tag() == tag)?;
    lasting(entry.fact, entry.key.kind(), issuer)
}

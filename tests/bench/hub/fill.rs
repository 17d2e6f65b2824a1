//! Fills the store of a hub that does not run: pushing a million signals would take minutes.

use std::path::Path;

use taskfence_core::{
    feed::entry::FeedEntry,
    state::{
        bucket::{Entry, SourceTag},
        fact::Fact,
        freshness::TransmitterId,
        key::{Kind, StateKey},
    },
    time::Timestamp,
    token::issuer::key_space,
};
use taskfence_hub::store::{
    Store,
    model::{Change, NewEntry, NewSignal},
    sqlite::SqliteStore,
};
use taskfence_tests::{hub::FEED, mint, orders};

use crate::{Error, Result};

/// The entries of one signal, and the signals of one commit.
const ENTRIES: usize = 1_000;
const SIGNALS: usize = 20;
/// How long the entries live, in seconds.
const LIFE: u64 = 24 * 3600;
/// Of so many entries ...
const OF: usize = 10;
/// ... so many have one condition: the revocation of a session of one user.
const CONDITIONED: usize = 3;

/// Adds `count` revocations of sessions that nobody has to the store in this folder.
pub fn fill(data: &Path, count: usize) -> Result<()> {
    let file = data.join("hub.sqlite");
    let store = SqliteStore::open(&file).map_err(Error::doing(file.display()))?;
    let doing = || Error::doing("fill the store of the hub");
    let epoch = fastrand::u64(1..);
    store.open_feed(FEED, epoch).map_err(doing())?;
    let now = mint::now().unsigned_abs();
    let signals: Vec<usize> = (0..count.div_ceil(ENTRIES)).collect();
    for group in signals.chunks(SIGNALS) {
        let changes: Vec<Change> = group
            .iter()
            .map(|signal| Change::Signal(new_signal(*signal, ENTRIES.min(count - signal * ENTRIES), now)))
            .collect();
        store.commit(&changes).map_err(doing())?;
    }
    Ok(())
}

fn new_signal(number: usize, entries: usize, now: u64) -> NewSignal {
    let jti = format!("filled-{number:08}");
    let transmitter = orders::TRANSMITTER.to_owned();
    NewSignal {
        feed: FEED.to_owned(),
        by: transmitter.clone(),
        fingerprint: jti.clone().into_bytes(),
        event: mint::SESSION_REVOKED.to_owned(),
        subject: "{}".to_owned(),
        claims: "{}".to_owned(),
        reason: String::new(),
        at: Timestamp(now),
        taken_in: now * 1_000,
        entries: (0..entries).map(|entry| new_entry(number * ENTRIES + entry, now)).collect(),
        transmitter,
        jti,
    }
}

fn new_entry(number: usize, now: u64) -> NewEntry {
    let issuer = key_space(Some(FEED), orders::ISSUER);
    let key = StateKey::new(Kind::Session, &issuer, &format!("filled-{number:08}"));
    let condition = || StateKey::new(Kind::User, &issuer, &format!("user-{number:08}"));
    let entry = Entry {
        key,
        fact: Fact::Revoked,
        at: Timestamp(now),
        until: Timestamp(now + LIFE),
        conditions: (number % OF < CONDITIONED).then(condition).into_iter().collect(),
        data: Vec::new(),
        source: SourceTag::new(FEED, orders::TRANSMITTER, 0),
        lifted: false,
    };
    let mut bytes = Vec::new();
    FeedEntry { entry, by: TransmitterId::new(orders::TRANSMITTER) }.encode(&mut bytes);
    NewEntry { bytes, key: key.encode().to_vec(), bucket: key.bucket(), until: Timestamp(now + LIFE) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn the_store_holds_what_was_filled_in() {
        let folder = std::env::temp_dir().join(mint::unique("bench-fill"));
        fs::create_dir_all(&folder).unwrap();
        fill(&folder, 2_500).unwrap();
        let store = SqliteStore::open(&folder.join("hub.sqlite")).unwrap();
        let (mut count, mut conditioned) = (0, 0);
        let head = store.full_state(FEED, Timestamp(mint::now().unsigned_abs()), &mut |stored| {
            count += 1;
            let read = taskfence_core::feed::entry::decode(&stored.entry.bytes).next();
            let Some(Ok(taskfence_core::feed::entry::Decoded::Known(read))) = read else { panic!("an entry") };
            conditioned += read.entry.conditions.len();
        });
        assert_eq!((head.unwrap().number, count, conditioned), (2_500, 2_500, 750));
        fs::remove_dir_all(&folder).unwrap();
    }
}

//! Feeds: their heads and epochs.

use crate::store::model::StoreError;
use crate::store::past_epochs;
use crate::store::postgres::reads;
use crate::store::postgres::session::Session;
use taskfence_core::feed::revision::{Chain, Revision};

/// See `Store::open_feed`.
pub fn open(session: &mut Session, name: &str, epoch: u64) -> Result<Revision, StoreError> {
    session.execute(
        "INSERT INTO taskfence.feed (name, epoch, number, chain, cleared) VALUES ($1, $2, 0, $3, 0)
         ON CONFLICT (name) DO NOTHING",
        &[&name, &epoch.cast_signed(), &Chain::default().0.as_slice()],
    )?;
    Ok(reads::feed(session, name)?.1)
}

/// See `Store::renew_feed`.
pub fn renew(session: &mut Session, name: &str, epoch: u64) -> Result<Revision, StoreError> {
    let text = "SELECT id, epoch, number, chain FROM taskfence.feed WHERE name = $1 FOR UPDATE";
    let row = session.row(text, &[&name])?.ok_or(StoreError::NoFeed(name.to_owned()))?;
    let before = reads::head(&row)?.1.epoch;
    session.execute(
        "INSERT INTO taskfence.value AS value (name, value) VALUES ($1, $2)
         ON CONFLICT (name) DO UPDATE SET value = value.value || ' ' || excluded.value",
        &[&past_epochs(name), &format!("{before:x}")],
    )?;
    session.execute("UPDATE taskfence.feed SET epoch = $1 WHERE name = $2", &[&epoch.cast_signed(), &name])?;
    Ok(reads::feed(session, name)?.1)
}

//! The other reads: gaps, losses, rules, named values, and how much there is.

use crate::evidence::model::{GapRow, Losses, Usage, Window};
use crate::evidence::store::day::HOUR;
use crate::evidence::store::postgres::days;
use crate::evidence::store::postgres::text::{from_json, key};
use crate::evidence::store::value::{int, uint};
use crate::store::model::StoreError;
use crate::store::postgres::session::Session;
use crate::store::postgres::text::stored;
use taskfence_core::uses::outline::Outline;

/// The gaps that overlap the window.
pub(super) fn gaps(session: &mut Session, feed: &str, window: Window) -> Result<Vec<GapRow>, StoreError> {
    if window.since >= window.until {
        return Ok(Vec::new());
    }
    let text = "SELECT node, vm, since, until FROM evidence.gap WHERE feed = $1 AND until >= $2 AND since < $3
         ORDER BY since, vm";
    let rows = session.rows(text, &[&feed, &int(window.since), &int(window.until)])?;
    let gap = |row: &tokio_postgres::Row| {
        Ok(GapRow {
            node: row.try_get(0)?,
            vm: row.try_get(1)?,
            since: uint(row.try_get(2)?),
            until: uint(row.try_get(3)?),
        })
    };
    rows.iter().map(gap).collect()
}

/// What was lost in the window.
pub(super) fn losses(session: &mut Session, feed: &str, window: Window) -> Result<Losses, StoreError> {
    if window.since >= window.until {
        return Ok(Losses::default());
    }
    let days = days::of_uses(session, window)?;
    let sum = |column: &str| format!("least(coalesce(sum({column}), 0), 9223372036854775807)::bigint");
    let text = format!(
        "SELECT {}, {}, {} FROM evidence.batch_day WHERE feed = $1 AND day = ANY ($2) AND until >= $3 AND since < $4",
        sum("other_permitted"),
        sum("other_refused"),
        sum("records_dropped")
    );
    let row = session.row(&text, &[&feed, &days, &int(window.since), &int(window.until)])?;
    let dropped = format!("SELECT {} FROM evidence.dropped WHERE feed = $1 AND hour >= $2 AND hour < $3", sum("count"));
    let hours = (int(window.since / HOUR), int(window.until.div_ceil(HOUR)));
    let dropped = session.row(&dropped, &[&feed, &hours.0, &hours.1])?;
    let (Some(row), Some(dropped)) = (row, dropped) else { return Ok(Losses::default()) };
    Ok(Losses {
        other_permitted: uint(row.try_get(0)?),
        other_refused: uint(row.try_get(1)?),
        records_dropped: uint(row.try_get(2)?),
        batches_dropped: uint(dropped.try_get(0)?),
    })
}

/// The rules of all configurations of the feed.
pub(super) fn configs(session: &mut Session, feed: &str) -> Result<Vec<Outline>, StoreError> {
    let rows = session.rows("SELECT outline::text FROM evidence.config WHERE feed = $1 ORDER BY key", &[&feed])?;
    rows.iter().map(|row| from_json(row.try_get(0)?)).collect()
}

/// A named value.
pub(super) fn get(session: &mut Session, name: &str) -> Result<Option<String>, StoreError> {
    let key = key(&[name]);
    let row = session.row("SELECT value FROM evidence.value WHERE key = $1", &[&key.as_slice()])?;
    Ok(row.map(|row| row.try_get(0)).transpose()?)
}

/// Sets a named value.
pub(super) fn set(session: &mut Session, name: &str, value: &str) -> Result<(), StoreError> {
    let text = "INSERT INTO evidence.value (key, name, value) VALUES ($1, $2, $3)
         ON CONFLICT (key) DO UPDATE SET value = EXCLUDED.value";
    session.execute(text, &[&key(&[name]).as_slice(), &stored(name), &stored(value)]).map(drop)
}

/// How much is kept.
pub(super) fn usage(session: &mut Session) -> Result<Usage, StoreError> {
    let day = days::all(session)?.first().copied();
    let row = session.row("SELECT count(*) FROM evidence.grant_day", &[])?;
    let grants: i64 = row.map(|row| row.try_get(0)).transpose()?.unwrap_or_default();
    Ok(Usage {
        bytes: bytes(session)?,
        first_day: day.and_then(|day| u64::try_from(day).ok()).unwrap_or_default(),
        grants: uint(grants),
    })
}

/// The bytes that all tables of the schema take, with their indexes.
pub(super) fn bytes(session: &mut Session) -> Result<u64, StoreError> {
    let text = "SELECT coalesce(sum(pg_total_relation_size(c.oid)), 0)::bigint
         FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = 'evidence' AND c.relkind = 'r'";
    let row = session.row(text, &[])?;
    Ok(uint(row.map(|row| row.try_get(0)).transpose()?.unwrap_or_default()))
}

//! Single decisions, with positions that grow.

use crate::evidence::model::{BatchWrite, GrantId, RecordRow, Window};
use crate::evidence::store::bounded::{MOST_OF_ALL, weigh_record};
use crate::evidence::store::postgres::days;
use crate::evidence::store::postgres::text::{from_json, json};
use crate::evidence::store::value::{int, uint};
use crate::store::model::StoreError;
use crate::store::postgres::session::Session;
use crate::store::postgres::text::stored;
use serde_json::Value;
use std::borrow::Cow;
use std::collections::BTreeMap;
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

/// The columns that [`row`] reads.
pub(super) const COLUMNS: &str = "position, node, at, id, record::text, principal";

/// The records of one group, by column.
#[derive(Default)]
struct Columns<'w> {
    day: Vec<i32>,
    feed: Vec<&'w str>,
    position: Vec<i64>,
    node: Vec<Cow<'w, str>>,
    at: Vec<i64>,
    id: Vec<Vec<u8>>,
    record: Vec<String>,
    principal: Vec<Cow<'w, str>>,
}

/// Writes the records of batches that are new. `positions`: the last position of each feed, whose row is locked.
pub(super) fn write(
    session: &mut Session,
    new: &[(&BatchWrite, i32)],
    positions: &BTreeMap<String, i64>,
) -> Result<(), StoreError> {
    if new.is_empty() {
        return Ok(());
    }
    let (mut columns, mut ends) = (Columns::default(), BTreeMap::new());
    for (batch, day) in new {
        let last = positions.get(&batch.feed).copied().unwrap_or_default();
        let position = ends.entry(batch.feed.as_str()).or_insert(last);
        for record in &batch.batch.records {
            *position = position.saturating_add(1);
            let text = |name: &str| record.get(name).and_then(Value::as_str).unwrap_or_default();
            let at = record.get("time_ms").and_then(Value::as_u64).unwrap_or(batch.batch.until);
            columns.day.push(*day);
            columns.feed.push(&batch.feed);
            columns.position.push(*position);
            columns.node.push(stored(&batch.node));
            columns.at.push(int(at));
            columns.id.push(GrantId::new(text("issuer"), text("token")).0.to_vec());
            columns.record.push(json(record)?);
            columns.principal.push(stored(&batch.principal));
        }
    }
    let text = "INSERT INTO evidence.record_day (day, feed, position, node, at, id, record, principal)
         SELECT day, feed, position, node, at, id, record::jsonb, principal
         FROM unnest($1::int[], $2::text[], $3::bigint[], $4::text[], $5::bigint[], $6::bytea[], $7::text[],
            $8::text[]) AS new (day, feed, position, node, at, id, record, principal)";
    let Columns { day, feed, position, node, at, id, record, principal } = &columns;
    session.execute(text, &[day, feed, position, node, at, id, record, principal])?;
    for (feed, position) in ends {
        session.execute("UPDATE evidence.feed SET position = $2 WHERE name = $1", &[&feed, &position])?;
    }
    Ok(())
}

/// The next `limit` records after a position.
pub(super) fn after(
    session: &mut Session,
    feed: &str,
    after: u64,
    window: Window,
    limit: usize,
) -> Result<Vec<RecordRow>, StoreError> {
    let days = days::of_uses(session, window)?;
    let text = format!(
        "SELECT {COLUMNS} FROM evidence.record_day WHERE feed = $1 AND day = ANY ($2) AND position > $3 AND at >= $4
            AND at < $5 ORDER BY position LIMIT $6"
    );
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let (since, until) = (int(window.since), int(window.until));
    bounded(session, &text, &[&feed, &days, &int(after), &since, &until, &limit]).map(|(records, _)| records)
}

/// The first `limit` records about these grants, in the order of their times, and whether there are more than memory should
/// hold.
pub(super) fn of_grants(
    session: &mut Session,
    feed: &str,
    grants: &[&[u8]],
    window: Window,
    limit: usize,
) -> Result<(Vec<RecordRow>, bool), StoreError> {
    let days = days::of_uses(session, window)?;
    let text = format!(
        "SELECT {COLUMNS} FROM evidence.record_day WHERE feed = $1 AND day = ANY ($2) AND id = ANY ($3) AND at >= $4
            AND at < $5 ORDER BY at, position LIMIT $6"
    );
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let (since, until) = (int(window.since), int(window.until));
    bounded(session, &text, &[&feed, &days, &grants, &since, &until, &limit])
}

/// The first rows that memory has room for, and whether there are more.
fn bounded(
    session: &mut Session,
    text: &str,
    params: &[&(dyn ToSql + Sync)],
) -> Result<(Vec<RecordRow>, bool), StoreError> {
    let (mut records, mut bytes, mut is_cut) = (Vec::new(), 0usize, false);
    session.each_row(text, params, &mut |found| {
        let length = found.try_get::<_, &str>(4)?.len();
        let record = row(found)?;
        bytes = bytes.saturating_add(weigh_record(&record.record, length));
        is_cut = bytes > MOST_OF_ALL && !records.is_empty();
        if !is_cut {
            records.push(record);
        }
        Ok(!is_cut)
    })?;
    Ok((records, is_cut))
}

fn row(row: &Row) -> Result<RecordRow, StoreError> {
    let id: &[u8] = row.try_get(3)?;
    let id = id.try_into().map_err(|_| StoreError::Damaged("the id of a grant".to_owned()))?;
    Ok(RecordRow {
        position: uint(row.try_get(0)?),
        principal: row.try_get(5)?,
        node: row.try_get(1)?,
        at: uint(row.try_get(2)?),
        grant: GrantId(id),
        record: from_json(row.try_get(4)?)?,
    })
}

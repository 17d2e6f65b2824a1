//! Events, records and gaps, from columns.

use crate::evidence::model::{EventKind, EventRow, GapRow, GrantId, RecordRow};
use crate::evidence::store::bounded::weigh_record;
use crate::evidence::store::value::uint;
use crate::store::model::StoreError;
use rusqlite::Row;

/// A value that the hub did not write.
pub fn damaged(error: &dyn std::fmt::Display) -> StoreError {
    StoreError::Damaged(error.to_string())
}

/// The columns that [`event`] expects.
pub const EVENT: &str = "e.source, e.id, e.kind, e.at, e.heard_at, e.issuer, e.task, e.session, e.subject, e.client, \
                         e.token, e.task_kind, e.by, e.reason, e.data";

/// The columns that [`record`] expects.
pub const RECORD: &str = "r.position, (SELECT name FROM name WHERE name.id = r.node), r.at, r.\"grant\", r.record, \
                          (SELECT name FROM name WHERE name.id = r.principal)";

/// The columns that [`gap`] expects.
pub const GAP: &str = "(SELECT name FROM name WHERE name.id = g.node), g.vm, g.since, g.until";

/// Reads the columns [`EVENT`].
pub fn event(feed: &str, row: &Row<'_>) -> Result<EventRow, StoreError> {
    // A kind that only a newer hub knows is none.
    let kind = row.get_ref(2)?.as_str_or_null().map_err(|error| damaged(&error))?;
    let data = row.get_ref(14)?.as_str().map_err(|error| damaged(&error))?;
    Ok(EventRow {
        feed: feed.to_owned(),
        source: row.get(0)?,
        id: row.get(1)?,
        kind: kind.and_then(EventKind::named),
        at: uint(row.get(3)?),
        heard_at: uint(row.get(4)?),
        issuer: row.get(5)?,
        task: row.get(6)?,
        session: row.get(7)?,
        subject: row.get(8)?,
        client: row.get(9)?,
        token: row.get(10)?,
        task_kind: row.get(11)?,
        by: row.get(12)?,
        reason: row.get(13)?,
        data: serde_json::from_str(data).map_err(|error| damaged(&error))?,
    })
}

/// Reads the columns [`RECORD`], and says about how many bytes it takes.
pub fn record(row: &Row<'_>) -> Result<(RecordRow, usize), StoreError> {
    let json = row.get_ref(4)?.as_str().map_err(|error| damaged(&error))?;
    let record = RecordRow {
        position: uint(row.get(0)?),
        principal: row.get(5)?,
        node: row.get(1)?,
        at: uint(row.get(2)?),
        grant: GrantId(row.get(3)?),
        record: serde_json::from_str(json).map_err(|error| damaged(&error))?,
    };
    let bytes = weigh_record(&record.record, json.len());
    Ok((record, bytes))
}

/// Reads the columns [`GAP`].
pub fn gap(row: &Row<'_>) -> Result<GapRow, StoreError> {
    Ok(GapRow { node: row.get(0)?, vm: row.get(1)?, since: uint(row.get(2)?), until: uint(row.get(3)?) })
}

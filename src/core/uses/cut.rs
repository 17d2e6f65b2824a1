//! Cuts what a table holds into one batch: [`crate::uses::batch::Batch`] as JSON.

use crate::uses::batch::{Permitted, Refused, Seen};
use crate::uses::row::{GrantRow, RefusedRow, SeenRow, UseRow};
use crate::uses::table::Table;
use serde::Serialize;

/// So many bytes of JSON in one batch: it is copied several times between worker, shared memory and hub.
pub(crate) const MAX_BATCH: usize = 256 * 1024;

/// So many of them for single records, while there are grants too.
const MAX_RECORDS: usize = 64 * 1024;

/// A batch that is ready to be sent.
#[derive(Debug)]
pub(crate) struct Cut {
    /// `Batch`, as JSON.
    pub(crate) json: Vec<u8>,
    /// When the first use in it was counted.
    pub(crate) since: u64,
}

/// Takes out of `table` what fits into one batch, the oldest first. `None`: there is nothing.
pub(crate) fn cut(table: &mut Table, vm: &str, number: u64, until: u64) -> Option<Cut> {
    let since = table.since()?.min(until);
    let mut json = Vec::new();
    json.extend_from_slice(b"{\"vm\":");
    write(&mut json, vm);
    for (name, value) in [
        ("number", number),
        ("since", since),
        ("until", until),
        ("other_permitted", std::mem::take(&mut table.other_permitted)),
        ("other_refused", std::mem::take(&mut table.other_refused)),
        ("records_dropped", std::mem::take(&mut table.records_dropped)),
    ] {
        member(&mut json, name, &value);
    }
    member(&mut json, "rules", &table.rules);
    json.extend_from_slice(b",\"records\":[");
    let records = table.records.iter().scan(json.len(), |end, record| {
        *end = end.saturating_add(record.len()).saturating_add(1);
        Some(*end)
    });
    let limit = json.len().saturating_add(MAX_RECORDS);
    let taken = records.take_while(|end| *end <= limit).count();
    for record in table.records.drain(..taken) {
        next(&mut json, b'[');
        json.extend_from_slice(record.as_bytes());
        table.record_bytes = table.record_bytes.saturating_sub(record.len());
    }
    json.extend_from_slice(b"],\"grants\":[");
    let taken = grants(&mut json, &table.grants);
    json.extend_from_slice(b"]}");
    table.grants.drain(..taken);
    table.loose_since = table.loose_since.filter(|_| !table.records.is_empty());
    table.renew();
    Some(Cut { json, since })
}

/// Writes the first of `grants` that fit, and says how many. One always does: its bounds, those of rules, and that of
/// records are less than a batch together.
fn grants(json: &mut Vec<u8>, grants: &[GrantRow]) -> usize {
    let mut taken: usize = 0;
    for row in grants {
        let end = json.len();
        next(json, b'[');
        grant(json, row);
        if json.len().saturating_add(2) > MAX_BATCH && taken > 0 {
            json.truncate(end);
            break;
        }
        taken = taken.saturating_add(1);
    }
    taken
}

/// [`crate::uses::batch::GrantUses`].
fn grant(json: &mut Vec<u8>, row: &GrantRow) {
    json.extend_from_slice(b"{\"grant\":");
    json.extend_from_slice(row.info.as_bytes());
    if row.other > 0 {
        member(json, "other", &row.other);
    }
    list(json, "permitted", row.uses.iter().map(permitted));
    list(json, "refused", row.refused.iter().map(refused));
    list(json, "seen", row.seen.iter().map(seen));
    json.push(b'}');
}

fn permitted(row: &UseRow) -> Permitted {
    let method = row.key.split(|byte| *byte == 0).next().unwrap_or_default();
    Permitted {
        rule: row.rule,
        method: String::from_utf8_lossy(method).into_owned(),
        captures: row.captures.clone(),
        count: row.count,
        break_glass: row.break_glass,
        first: row.first,
        last: row.last,
    }
}

fn refused(row: &RefusedRow) -> Refused {
    Refused {
        rule: row.what.rule,
        reason: row.what.reason.code().to_owned(),
        shadow: row.what.shadow,
        ended: row.what.ended,
        count: row.count,
        first: row.first,
        last: row.last,
    }
}

fn seen(row: &SeenRow) -> Seen {
    Seen { kind: row.kind, value: row.value.to_string(), count: row.count, first: row.first, last: row.last }
}

fn list<T: Serialize>(json: &mut Vec<u8>, name: &str, items: impl Iterator<Item = T>) {
    let mut items = items.peekable();
    if items.peek().is_none() {
        return;
    }
    json.push(b',');
    write(json, name);
    json.extend_from_slice(b":[");
    for item in items {
        next(json, b'[');
        write(json, &item);
    }
    json.push(b']');
}

/// A comma, unless the list has just been opened.
pub(crate) fn next(json: &mut Vec<u8>, opened: u8) {
    if json.last() != Some(&opened) {
        json.push(b',');
    }
}

pub(crate) fn member<T: Serialize + ?Sized>(json: &mut Vec<u8>, name: &str, value: &T) {
    json.push(b',');
    write(json, name);
    json.push(b':');
    write(json, value);
}

/// Writes `value` as JSON. What is written here always has such a form, and a vector takes all bytes.
pub(crate) fn write<T: Serialize + ?Sized>(json: &mut Vec<u8>, value: &T) {
    let _ = serde_json::to_writer(json, value);
}

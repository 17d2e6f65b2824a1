//! Cuts what a table holds into one batch: [`crate::uses::batch::Batch`] as JSON.

use crate::uses::batch::RuleRef;
use crate::uses::json_text::JsonText;
use crate::uses::row::{GrantRow, RefusedRow, SeenRow, UseRow};
use crate::uses::table::Table;

/// So many bytes of JSON in one batch: it is copied several times between worker, shared memory and hub.
pub(crate) const MAX_BATCH: usize = 256 * 1024;

/// So many of them for single records.
const MAX_RECORDS: usize = 64 * 1024;

/// A batch that is ready to be sent.
#[derive(Debug)]
pub(crate) struct Cut {
    /// `Batch`, as JSON.
    pub(crate) json: String,
    /// When the first use in it was counted.
    pub(crate) since: u64,
}

/// Takes out of `table` what fits into one batch, the oldest first. `None`: there is nothing.
pub(crate) fn cut(table: &mut Table, vm: &str, number: u64, until: u64) -> Option<Cut> {
    let since = table.since()?.min(until);
    let mut json = JsonText::default();
    json.open('{');
    json.string_member("vm", vm);
    json.number_member("number", number);
    json.number_member("since", since);
    json.number_member("until", until);
    json.count_member("other_permitted", std::mem::take(&mut table.other_permitted));
    json.count_member("other_refused", std::mem::take(&mut table.other_refused));
    json.count_member("records_dropped", std::mem::take(&mut table.records_dropped));
    json.name("rules");
    json.open('[');
    table.rules.iter().for_each(|one| rule(&mut json, one));
    json.close(']');
    records(&mut json, table);
    json.name("grants");
    json.open('[');
    let taken = grants(&mut json, &table.grants);
    json.close(']');
    json.close('}');
    table.grants.drain(..taken);
    table.loose_since = table.loose_since.filter(|_| !table.records.is_empty());
    table.renew();
    Some(Cut { json: json.text, since })
}

/// Takes the first records that fit.
fn records(json: &mut JsonText, table: &mut Table) {
    json.name("records");
    json.open('[');
    let limit = json.text.len().saturating_add(MAX_RECORDS);
    while let Some(record) = table.records.front()
        && json.text.len().saturating_add(record.len()) < limit
        && let Some(record) = table.records.pop_front()
    {
        json.json(&record);
        table.record_bytes = table.record_bytes.saturating_sub(record.len());
    }
    json.close(']');
}

/// Writes the first of `grants` that fit, and says how many. One always does: its bounds, those of rules, and that of
/// records are less than a batch together.
fn grants(json: &mut JsonText, grants: &[GrantRow]) -> usize {
    let mut taken: usize = 0;
    for row in grants {
        let end = json.text.len();
        grant(json, row);
        if json.text.len().saturating_add(2) > MAX_BATCH && taken > 0 {
            json.text.truncate(end);
            break;
        }
        taken = taken.saturating_add(1);
    }
    taken
}

/// [`RuleRef`].
fn rule(json: &mut JsonText, rule: &RuleRef) {
    json.open('{');
    json.string_member("config", &rule.config);
    json.string_member("name", &rule.name);
    json.close('}');
}

/// [`crate::uses::batch::GrantUses`].
fn grant(json: &mut JsonText, row: &GrantRow) {
    json.open('{');
    json.name("grant");
    json.json(&row.info);
    json.count_member("other", row.other);
    json.name("permitted");
    json.open('[');
    row.uses.iter().for_each(|row| permitted(json, row));
    json.close(']');
    json.name("refused");
    json.open('[');
    row.refused.iter().for_each(|row| refused(json, row));
    json.close(']');
    json.name("seen");
    json.open('[');
    row.seen.iter().for_each(|row| seen(json, row));
    json.close(']');
    json.close('}');
}

/// [`crate::uses::batch::Permitted`].
fn permitted(json: &mut JsonText, row: &UseRow) {
    let method = row.key.split(|byte| *byte == 0).next().unwrap_or_default();
    json.open('{');
    json.number_member("rule", u64::from(row.rule));
    json.string_member("method", std::str::from_utf8(method).unwrap_or_default());
    json.strings_member("captures", &row.captures);
    json.count_member("break_glass", row.break_glass);
    counted(json, row.count, row.first, row.last);
}

/// [`crate::uses::batch::Refused`].
fn refused(json: &mut JsonText, row: &RefusedRow) {
    json.open('{');
    if let Some(rule) = row.what.rule {
        json.number_member("rule", u64::from(rule));
    }
    json.string_member("reason", row.what.reason.code());
    json.flag_member("shadow", row.what.shadow);
    json.flag_member("ended", row.what.ended);
    counted(json, row.count, row.first, row.last);
}

/// [`crate::uses::batch::Seen`].
fn seen(json: &mut JsonText, row: &SeenRow) {
    json.open('{');
    json.string_member("kind", row.kind.as_str());
    json.string_member("value", &row.value);
    counted(json, row.count, row.first, row.last);
}

/// How often and when; closes the object.
fn counted(json: &mut JsonText, count: u64, first: u64, last: u64) {
    json.number_member("count", count);
    json.number_member("first", first);
    json.number_member("last", last);
    json.close('}');
}

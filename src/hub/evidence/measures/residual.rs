//! Residual: what went on after the end of a task.

use crate::evidence::measures::lifecycle::{Ended, end_name};
use crate::evidence::model::{GrantRow, RecordRow, RefusedRow, Window};
use crate::evidence::report::Residual;
use serde_json::Value;
use taskfence_core::reason::Reason;

/// Reasons that only something that has ended gives: all refusals for them are attempts after the end.
const ENDED: [Reason; 6] = [
    Reason::TokenRevoked,
    Reason::SessionRevoked,
    Reason::UserRevoked,
    Reason::PrincipalRevoked,
    Reason::TaskCompleted,
    Reason::TokenExpired,
];

/// Whether requests are refused for `reason` only because a grant has ended.
pub fn is_of_an_end(reason: &str) -> bool {
    ENDED.iter().any(|known| known.code() == reason)
}

/// What went on after `ended`. `None` if the end lies outside the window and nothing went on after it.
///
/// A row counts requests from its first to its last. Permitted requests of a row that spans the end: the last one is
/// after it, and no more is certain. Refused ones: all of them, if the reason can only come after an end, else the last one.
pub fn residual(grant: &GrantRow, ended: Ended, window: Window) -> Option<Residual> {
    let end = ended.at;
    if end >= window.until {
        return None;
    }
    let after = |first: u64, last: u64, count: u64| match (first > end, last > end) {
        (true, _) => count,
        (false, true) => 1,
        (false, false) => 0,
    };
    let permitted = grant.permitted.iter().map(|row| after(row.first, row.last, row.count));
    let attempts = grant.refused.iter().filter(|row| !row.ended && !row.shadow).map(|row| {
        let count = after(row.first, row.last, row.count);
        if count > 0 && is_of_an_end(&row.reason) { row.count } else { count }
    });
    let streams = || grant.refused.iter().filter(|row| row.ended && !row.shadow && row.last > end);
    let lasts = grant.permitted.iter().map(|row| row.last).chain(streams().map(|row| row.last));
    // Requests that passed by shadow mode were served.
    let shadow = grant.refused.iter().filter(|row| row.shadow && !row.ended);
    let last = lasts.chain(shadow.clone().map(|row| row.last)).max().unwrap_or_default();
    let permitted = permitted.chain(shadow.map(|row| after(row.first, row.last, row.count)));
    let residual = Residual {
        ended_at: end,
        ended_by: end_name(ended.by).to_owned(),
        seconds: seconds(last.saturating_sub(end)),
        permitted_after: permitted.fold(0, u64::saturating_add),
        attempts_after: attempts.fold(0, u64::saturating_add),
        streams_ended: streams().map(|row| row.count).fold(0, u64::saturating_add),
    };
    let went_on = residual.permitted_after > 0 || residual.attempts_after > 0 || residual.streams_ended > 0;
    (end >= window.since || went_on).then_some(residual)
}

/// Whether a row of attempts spans the end, so that it is not certain how many of them came after it. Of two attempts the
/// first one came before it.
pub fn is_uncertain(residual: &Residual, grant: &GrantRow) -> bool {
    grant.refused.iter().any(|row| is_spanning(row, residual.ended_at) && row.count > 2)
}

fn is_spanning(row: &RefusedRow, end: u64) -> bool {
    !row.ended && !row.shadow && row.first <= end && row.last > end && !is_of_an_end(&row.reason)
}

/// Makes [`Residual::attempts_after`] exact by `records`, the single decisions of the grant, for rows that span the end:
/// only where there is a record of each refusal that the row counts.
pub fn refine(residual: &mut Residual, grant: &GrantRow, records: &[RecordRow]) {
    let end = residual.ended_at;
    let text =
        |record: &RecordRow, name: &str| record.record.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    for row in grant.refused.iter().filter(|row| is_spanning(row, end)) {
        let alike = records.iter().filter(|record| {
            record.grant == grant.id
                && record.node == row.node
                && text(record, "verdict") == "denied"
                && text(record, "reason") == row.reason
                && text(record, "rule") == row.rule
                && text(record, "config") == row.config
        });
        let times: Vec<u64> = alike.map(|record| record.at).collect();
        let after = times.iter().filter(|at| **at > end).count();
        if u64::try_from(times.len()) == Ok(row.count) {
            // One of them is counted already.
            let more = u64::try_from(after.saturating_sub(1)).unwrap_or_default();
            residual.attempts_after = residual.attempts_after.saturating_add(more);
        }
    }
}

/// Milliseconds as seconds.
pub fn seconds(milliseconds: u64) -> f64 {
    #[expect(clippy::as_conversions, reason = "a span of time is far below 2^53 milliseconds")]
    let milliseconds = milliseconds as f64;
    milliseconds / 1_000.0
}

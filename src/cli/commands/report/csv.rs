//! The report as comma-separated values (RFC 4180), for spreadsheets.

use std::io::{self, Write};

use taskfence_hub::evidence::report::{Alive, GrantMeasures, Report, Residual, Rollup};

use super::By;
use crate::terminal::text::{printable, printable_json, time_ms};

/// Writes a line for each grant of `report`, or for each sum of `by`. The first line names the columns.
pub fn print(report: &Report, by: Option<By>, out: &mut dyn Write) -> io::Result<()> {
    match by {
        Some(by) => {
            line(&[by.as_str()].into_iter().chain(ROLLUP).map(str::to_owned).collect::<Vec<_>>(), out)?;
            by.rollups(report).iter().try_for_each(|sum| line(&rollup(sum), out))
        }
        None => {
            line(&GRANT.map(str::to_owned), out)?;
            report.grants.iter().try_for_each(|one| line(&grant(one), out))
        }
    }
}

/// Writes a line for each grant of `alive`.
pub fn alive(alive: &Alive, out: &mut dyn Write) -> io::Result<()> {
    line(&ALIVE.map(str::to_owned), out)?;
    alive.grants.iter().try_for_each(|grant| {
        let cells = [
            time_ms(grant.from),
            time_ms(grant.to),
            grant.ended_by.clone(),
            grant.issuer.clone(),
            grant.token.clone(),
            grant.subject.clone(),
            grant.client.clone().unwrap_or_default(),
            grant.task.clone().unwrap_or_default(),
            grant.scopes.join(" "),
            json_list(&grant.details),
            grant.permitted.to_string(),
            grant.seen.to_string(),
        ];
        line(&cells, out)
    })
}

const ALIVE: [&str; 12] = [
    "from",
    "to",
    "ended_by",
    "issuer",
    "token",
    "subject",
    "client",
    "task",
    "scopes",
    "authorization_details",
    "permitted",
    "seen",
];

const ROLLUP: [&str; 18] = [
    "grants",
    "unused",
    "permitted",
    "refused",
    "break_glass",
    "unbounded",
    "unknown",
    "used_share",
    "allowed_cells",
    "used_cells",
    "repeated",
    "with_residual",
    "residual_median",
    "residual_longest",
    "attempts_after_end",
    "shared",
    "lifetime_median",
    "in_use_median",
];

fn rollup(sum: &Rollup) -> Vec<String> {
    let number = |number: u64| number.to_string();
    vec![
        sum.name.clone(),
        number(sum.grants),
        number(sum.unused),
        number(sum.permitted),
        number(sum.refused),
        number(sum.break_glass),
        number(sum.unbounded),
        number(sum.unknown),
        figure(sum.used_share),
        number(sum.allowed_cells),
        number(sum.used_cells),
        number(sum.repeated),
        number(sum.with_residual),
        figure(sum.residual_median),
        figure(sum.residual_longest),
        number(sum.attempts_after_end),
        number(sum.shared),
        figure(sum.lifetime_median),
        figure(sum.in_use_median),
    ]
}

const GRANT: [&str; 33] = [
    "id",
    "issuer",
    "token",
    "subject",
    "client",
    "task",
    "kind",
    "issued_at",
    "expires_at",
    "first",
    "last",
    "permitted",
    "refused",
    "break_glass",
    "allowed_cells",
    "used_cells",
    "width_unknown",
    "unused_scopes",
    "narrower_scopes",
    "narrower_authorization_details",
    "narrower_rules",
    "notes",
    "ended_at",
    "ended_by",
    "residual_seconds",
    "permitted_after_end",
    "attempts_after_end",
    "streams_ended",
    "repeated",
    "shared",
    "peers",
    "sources",
    "keys",
];

fn grant(grant: &GrantMeasures) -> Vec<String> {
    let time = |ms: u64| if ms == 0 { String::new() } else { time_ms(ms) };
    let residual = grant.residual.as_ref();
    let of_residual = |figure: fn(&Residual) -> String| residual.map(figure).unwrap_or_default();
    let width = &grant.width;
    // No number is no bound, and unknown where the width is.
    let unbounded = if width.unknown.is_some() { "" } else { "unbounded" };
    vec![
        grant.id.clone(),
        grant.issuer.clone(),
        grant.token.clone(),
        grant.subject.clone(),
        grant.client.clone().unwrap_or_default(),
        grant.task.clone().unwrap_or_default(),
        grant.kind.clone(),
        time(grant.issued_at),
        time(grant.expires_at),
        time(grant.first),
        time(grant.last),
        grant.permitted.to_string(),
        grant.refused.to_string(),
        grant.break_glass.to_string(),
        width.allowed_cells.map_or_else(|| unbounded.to_owned(), |cells| cells.to_string()),
        width.used_cells.to_string(),
        width.unknown.clone().unwrap_or_default(),
        width.unused_scopes.join(" "),
        width.narrower_scopes.join(" "),
        json_list(&width.narrower_details),
        json_list(&width.narrower_rules),
        width.notes.join("; "),
        of_residual(|residual| time_ms(residual.ended_at)),
        of_residual(|residual| residual.ended_by.clone()),
        of_residual(|residual| residual.seconds.to_string()),
        of_residual(|residual| residual.permitted_after.to_string()),
        of_residual(|residual| residual.attempts_after.to_string()),
        of_residual(|residual| residual.streams_ended.to_string()),
        grant.repeated.to_string(),
        grant.sharing.shared.to_string(),
        grant.sharing.peers.join(" "),
        grant.sharing.sources.join(" "),
        grant.sharing.keys.join(" "),
    ]
}

fn figure(figure: Option<f64>) -> String {
    figure.map(|figure| figure.to_string()).unwrap_or_default()
}

fn json_list(list: &[serde_json::Value]) -> String {
    if list.is_empty() { String::new() } else { printable_json(&serde_json::Value::from(list)) }
}

fn line(cells: &[String], out: &mut dyn Write) -> io::Result<()> {
    let cells: Vec<_> = cells.iter().map(|cell| quoted(cell)).collect();
    write!(out, "{}\r\n", cells.join(","))
}

/// A cell in quotes where it needs them. Names come from tokens: one that a spreadsheet would read as a formula gets an
/// apostrophe in front (OWASP, CSV injection), and control characters are escaped, since a terminal may show the lines.
fn quoted(cell: &str) -> String {
    let cell = printable(cell);
    let is_formula = cell.starts_with(['=', '+', '-', '@']);
    let cell = if is_formula { format!("'{cell}") } else { cell };
    if cell.contains(['"', ',']) { format!("\"{}\"", cell.replace('"', "\"\"")) } else { cell }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_cannot_break_out() {
        for (cell, written) in [
            ("alice", "alice"),
            ("a,b", "\"a,b\""),
            ("a\"b", "\"a\"\"b\""),
            ("a\r\nb", "a\\r\\nb"),
            ("\t=1", "\\t=1"),
            ("=HYPERLINK(\"x\")", "\"'=HYPERLINK(\"\"x\"\")\""),
            ("@x", "'@x"),
        ] {
            assert_eq!(quoted(cell), written);
        }
    }

    #[test]
    fn each_line_has_as_many_cells_as_the_first() {
        assert_eq!(grant(&GrantMeasures::default()).len(), GRANT.len());
        assert_eq!(rollup(&Rollup::default()).len(), ROLLUP.len() + 1, "the name comes first");
    }
}

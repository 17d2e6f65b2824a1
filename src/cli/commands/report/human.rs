//! The report as tables to read.

use std::io::{self, Write};

use taskfence_hub::evidence::report::{Comparison, GrantMeasures, Repeat, Report, Rollup};

use super::By;
use crate::input::problem::count;
use crate::remote::table;
use crate::terminal::text::{printable, printable_json, time_ms, time_s};

/// So many ready narrower grants are printed; JSON has all.
const NARROWER: usize = 10;

/// Writes `report` for people, with the sums of `by`.
pub fn print(report: &Report, by: By, out: &mut dyn Write) -> io::Result<()> {
    let (since, until) = (time_s(report.since), time_s(report.until));
    writeln!(out, "feed {} of the hub {}, from {since} to {until}", printable(&report.feed), printable(&report.hub))?;
    if report.total.grants == 0 {
        writeln!(out, "no grant was issued or used in this time")?;
        return missing(report, out);
    }
    summary(&report.total, out)?;
    rollups(by, by.rollups(report), out)?;
    grants(&report.grants, out)?;
    narrower(&report.grants, out)?;
    repeats(&report.repeats, out)?;
    if let Some(comparison) = &report.comparison {
        compare(comparison, out)?;
    }
    missing(report, out)
}

fn summary(total: &Rollup, out: &mut dyn Write) -> io::Result<()> {
    let Rollup { grants, unused, permitted, refused, break_glass, .. } = total;
    writeln!(
        out,
        "{}, {unused} never used; requests: {permitted} permitted, {refused} refused",
        many(*grants, "grant")
    )?;
    if *break_glass > 0 {
        writeln!(out, "{} permitted by break-glass", many(*break_glass, "request"))?;
    }
    let bounded = match total.used_share {
        Some(share) => format!(
            "; those with one used {} of {} cells, {} of a grant in the median",
            total.used_cells,
            total.allowed_cells,
            percent(share)
        ),
        None => String::new(),
    };
    let unknown = match total.unknown {
        0 => String::new(),
        unknown => format!("; {unknown} not known"),
    };
    writeln!(out, "\nwidth     {} without a bound{bounded}{unknown}", many(total.unbounded, "grant"))?;
    writeln!(out, "repeat    {} of a routine", many(total.repeated, "grant"))?;
    let longest = total.residual_longest.map(|longest| format!(", {} at the longest", span(longest)));
    let (residual, after) = (many(total.with_residual, "grant"), many(total.attempts_after_end, "attempt"));
    writeln!(out, "residual  {residual} used after the end{}; {after} after the end", longest.unwrap_or_default())?;
    writeln!(out, "sharing   {} used by more than one workload", many(total.shared, "grant"))
}

fn rollups(by: By, sums: &[Rollup], out: &mut dyn Write) -> io::Result<()> {
    let name = by.as_str().to_uppercase();
    let head = [
        name.as_str(),
        "GRANTS",
        "UNUSED",
        "PERMITTED",
        "REFUSED",
        "UNBOUNDED",
        "UNKNOWN",
        "USED",
        "ROUTINE",
        "RESIDUAL",
        "AFTER END",
        "SHARED",
        "LIFETIME",
        "IN USE",
    ];
    let row = |sum: &Rollup| {
        vec![
            known(&sum.name),
            sum.grants.to_string(),
            sum.unused.to_string(),
            sum.permitted.to_string(),
            sum.refused.to_string(),
            sum.unbounded.to_string(),
            sum.unknown.to_string(),
            sum.used_share.map(percent).unwrap_or_default(),
            sum.repeated.to_string(),
            sum.residual_median.map(span).unwrap_or_default(),
            sum.attempts_after_end.to_string(),
            sum.shared.to_string(),
            sum.lifetime_median.map(span).unwrap_or_default(),
            sum.in_use_median.map(span).unwrap_or_default(),
        ]
    };
    section("", &head, &sums.iter().map(row).collect::<Vec<_>>(), out)
}

fn grants(grants: &[GrantMeasures], out: &mut dyn Write) -> io::Result<()> {
    let head = ["TOKEN", "SUBJECT", "CLIENT", "TASK", "KIND", "WIDTH", "PERMITTED", "RESIDUAL", "AFTER END", "NOTE"];
    let row = |grant: &GrantMeasures| {
        let residual = grant.residual.as_ref();
        vec![
            printable(&grant.token),
            printable(&grant.subject),
            grant.client.as_deref().map(printable).unwrap_or_default(),
            grant.task.as_deref().map(printable).unwrap_or_default(),
            printable(&grant.kind),
            width(grant),
            grant.permitted.to_string(),
            residual.map(|residual| span(residual.seconds)).unwrap_or_default(),
            residual.map(|residual| residual.attempts_after.to_string()).unwrap_or_default(),
            notes(grant),
        ]
    };
    let rows: Vec<_> = grants.iter().map(row).collect();
    section("grants that stand out", &head, &rows, out)
}

/// What was used of what was allowed.
fn width(grant: &GrantMeasures) -> String {
    let width = &grant.width;
    match (&width.unknown, width.allowed_cells) {
        (Some(_), _) => "unknown".to_owned(),
        (None, None) => format!("{} of unbounded", width.used_cells),
        (None, Some(allowed)) => format!("{} of {allowed}", width.used_cells),
    }
}

fn notes(grant: &GrantMeasures) -> String {
    let sharing = &grant.sharing;
    let users = if sharing.peers.len() > 1 { &sharing.peers } else { &sharing.keys };
    let shared = sharing.shared.then(|| format!("shared by {}", listed(users)));
    let routine = grant.repeated.then(|| "routine".to_owned());
    let glass = (grant.break_glass > 0).then(|| format!("{} by break-glass", grant.break_glass));
    let scopes = &grant.width.unused_scopes;
    let unused = (!scopes.is_empty()).then(|| format!("unused scopes: {}", listed(scopes)));
    let unknown = grant.width.unknown.as_deref().map(printable);
    [shared, routine, glass, unused, unknown].into_iter().flatten().collect::<Vec<_>>().join("; ")
}

fn listed(names: &[String]) -> String {
    names.iter().map(|name| printable(name)).collect::<Vec<_>>().join(", ")
}

/// The narrower grants, ready to be used.
fn narrower(grants: &[GrantMeasures], out: &mut dyn Write) -> io::Result<()> {
    let is_narrower = |grant: &&GrantMeasures| {
        let width = &grant.width;
        (width.allowed_cells.is_none_or(|allowed| width.used_cells < allowed) || !width.unused_scopes.is_empty())
            && !(width.narrower_details.is_empty()
                && width.narrower_scopes.is_empty()
                && width.narrower_rules.is_empty())
    };
    let all: Vec<_> = grants.iter().filter(is_narrower).collect();
    if all.is_empty() {
        return Ok(());
    }
    writeln!(out, "\nnarrower grants that would have been enough")?;
    for grant in all.iter().take(NARROWER) {
        let width = &grant.width;
        writeln!(out, "  {} of {}", printable(&grant.token), printable(&grant.subject))?;
        if !width.narrower_scopes.is_empty() {
            writeln!(out, "    scope: {}", printable(&width.narrower_scopes.join(" ")))?;
        }
        if !width.narrower_details.is_empty() {
            let details = serde_json::Value::from(width.narrower_details.clone());
            writeln!(out, "    authorization_details: {}", printable_json(&details))?;
        }
        for rule in &width.narrower_rules {
            writeln!(out, "    rule: {}", printable_json(rule))?;
        }
        for note in &width.notes {
            writeln!(out, "    note: {}", printable(note))?;
        }
    }
    match all.len().checked_sub(NARROWER).filter(|more| *more > 0) {
        Some(more) => writeln!(out, "  and {more} more with `--output json`"),
        None => Ok(()),
    }
}

fn repeats(repeats: &[Repeat], out: &mut dyn Write) -> io::Result<()> {
    let head = ["SUBJECT", "CLIENT", "KIND", "GRANTS", "EVERY", "IRREGULARITY", "NOTE", "SHAPE"];
    let row = |repeat: &Repeat| {
        let notes = [("routine", repeat.routine), ("broad", repeat.broad)];
        let notes: Vec<_> = notes.iter().filter(|(_, is_so)| *is_so).map(|(note, _)| *note).collect();
        vec![
            printable(&repeat.subject),
            repeat.client.as_deref().map(printable).unwrap_or_default(),
            printable(&repeat.kind),
            repeat.grants.to_string(),
            span(repeat.every),
            format!("{:.2}", repeat.irregularity),
            notes.join(", "),
            printable(&repeat.shape),
        ]
    };
    section("asked for again and again", &head, &repeats.iter().map(row).collect::<Vec<_>>(), out)
}

fn compare(comparison: &Comparison, out: &mut dyn Write) -> io::Result<()> {
    let cells = |cells: Option<u64>| cells.map_or_else(|| "unbounded".to_owned(), |cells| cells.to_string());
    let head = ["ROLE", "SUBJECTS", "CELLS", "HELD FOR", "GRANTS", "LARGEST GRANT", "GRANTS HELD FOR"];
    let rows: Vec<_> = comparison
        .roles
        .iter()
        .map(|role| {
            vec![
                printable(&role.name),
                role.subjects.len().to_string(),
                if role.unknown.is_some() { "unknown".to_owned() } else { cells(role.allowed_cells) },
                span(role.seconds),
                role.grants.to_string(),
                match role.unknown_grants {
                    _ if role.grants == 0 => String::new(),
                    0 => cells(role.grant_cells),
                    unknown if unknown == role.grants => "unknown".to_owned(),
                    unknown => format!("{} ({unknown} not known)", cells(role.grant_cells)),
                },
                span(role.grant_seconds),
            ]
        })
        .collect();
    section("the permanent path beside the grants", &head, &rows, out)?;
    comparison.roles.iter().try_for_each(|role| match &role.unknown {
        Some(unknown) => {
            writeln!(out, "  the cells of {} are not known: {}", printable(&role.name), printable(unknown))
        }
        None => Ok(()),
    })
}

/// What the figures may lack.
fn missing(report: &Report, out: &mut dyn Write) -> io::Result<()> {
    let losses = &report.losses;
    let lost = [
        (losses.other_permitted, "permitted request", "counted without its grant: a proxy had no room"),
        (losses.other_refused, "refused request", "counted without its grant: a proxy had no room"),
        (losses.records_dropped, "single decision", "only counted: a proxy had no room"),
        (losses.batches_dropped, "batch", "of proxies lost: the hub had no room"),
    ];
    let begins = report.begins_late();
    if begins.is_none() && report.gaps.is_empty() && lost.iter().all(|(lost, ..)| *lost == 0) {
        return Ok(());
    }
    writeln!(out, "\nwhat may be missing")?;
    if let Some(begins) = begins {
        writeln!(out, "  all before {}: the hub keeps no older evidence", time_s(begins))?;
    }
    for (lost, what, why) in lost.iter().filter(|(lost, ..)| *lost > 0) {
        let what = if *what == "batch" && *lost != 1 { format!("{lost} batches") } else { many(*lost, what) };
        writeln!(out, "  {what} {why}")?;
    }
    for gap in &report.gaps {
        let (since, until) = (time_ms(gap.since), time_ms(gap.until));
        writeln!(out, "  uses at {} from {since} to {until}: a worker or its proxy went away", printable(&gap.node))?;
    }
    Ok(())
}

fn section(title: &str, head: &[&str], rows: &[Vec<String>], out: &mut dyn Write) -> io::Result<()> {
    if rows.is_empty() {
        return Ok(());
    }
    writeln!(out)?;
    if !title.is_empty() {
        writeln!(out, "{title}")?;
    }
    table::print(head, rows, out)
}

fn known(name: &str) -> String {
    if name.is_empty() { "-".to_owned() } else { printable(name) }
}

fn many(number: u64, what: &str) -> String {
    count(usize::try_from(number).unwrap_or(usize::MAX), what)
}

fn percent(share: f64) -> String {
    format!("{:.0}%", share * 100.0)
}

/// Seconds as people write them.
fn span(seconds: f64) -> String {
    if seconds < 60.0 {
        return if seconds < 10.0 { format!("{seconds:.1}s") } else { format!("{seconds:.0}s") };
    }
    let whole = std::time::Duration::from_secs_f64(seconds.min(MAX_SPAN).round()).as_secs();
    let parts = [(whole / 86_400, "d"), (whole / 3600 % 24, "h"), (whole / 60 % 60, "m"), (whole % 60, "s")];
    let parts = parts.iter().filter(|(number, _)| *number > 0).take(2);
    parts.map(|(number, unit)| format!("{number}{unit}")).collect::<Vec<_>>().join(" ")
}

/// A thousand years, in seconds.
const MAX_SPAN: f64 = 31_557_600_000.0;

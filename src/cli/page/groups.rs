//! Rollups: the measures by kind of task, by client and by subject.

use taskfence_hub::evidence::report::{Report, Rollup};

use super::html::Html;
use super::table::{Cell, Table};

/// Writes the section.
pub fn section(html: &mut Html, report: &Report) {
    html.markup("<section id=\"groups\">\n<h2>By kind, client and subject</h2>\n");
    let tables = [
        ("By kind of task", "Grants by kind of task, the most frequent kind first", &report.by_kind),
        ("By client", "Grants by client, the one with the most first", &report.by_client),
        ("By subject", "Grants by subject, the one with the most first", &report.by_subject),
    ];
    for (title, caption, groups) in tables {
        html.element("h3", title);
        if groups.is_empty() {
            html.markup("<p class=\"note\">No grant names one.</p>\n");
        } else {
            table(caption, groups).write(html);
        }
    }
    html.markup("</section>\n");
}

fn table<'r>(caption: &'static str, groups: &'r [Rollup]) -> Table<'r> {
    Table {
        caption,
        heads: &[
            "Name",
            "Grants",
            "Unused",
            "Permitted",
            "Refused",
            "Break-glass",
            "Unbounded",
            "Not known",
            "Used share",
            "Routine",
            "After the end",
            "Residual, median",
            "Residual, longest",
            "Attempts after",
            "Shared",
            "Lifetime, median",
            "In use, median",
        ],
        rows: groups.iter().map(row).collect(),
        more: "All are in the report as JSON or CSV.",
    }
}

fn row(group: &Rollup) -> Vec<Cell<'_>> {
    vec![
        Cell::Data(&group.name),
        Cell::Count(group.grants),
        Cell::Count(group.unused),
        Cell::Count(group.permitted),
        Cell::Count(group.refused),
        Cell::Count(group.break_glass),
        Cell::Count(group.unbounded),
        Cell::Count(group.unknown),
        Cell::Share(group.used_share),
        Cell::Count(group.repeated),
        Cell::Count(group.with_residual),
        Cell::Span(group.residual_median),
        Cell::Span(group.residual_longest),
        Cell::Count(group.attempts_after_end),
        Cell::Count(group.shared),
        Cell::Span(group.lifetime_median),
        Cell::Span(group.in_use_median),
    ]
}

//! Residuals: what went on after the end of a task.

use taskfence_hub::evidence::report::{GrantMeasures, Report, Residual};

use super::figure::count;
use super::html::Html;
use super::table::{Cell, Table};

/// Writes the section.
pub fn section(html: &mut Html, report: &Report) {
    html.markup("<section id=\"residuals\" class=\"follows\">\n<h2>After the end of a task</h2>\n");
    let mut rows: Vec<_> = report.grants.iter().filter_map(after_the_end).collect();
    rows.sort_by(|(_, one), (_, other)| {
        other.seconds.total_cmp(&one.seconds).then(other.attempts_after.cmp(&one.attempts_after))
    });
    let total = &report.total;
    if rows.is_empty() && total.with_residual == 0 && total.attempts_after_end == 0 {
        html.markup("<p>No grant was used, or tried, after its task had ended.</p>\n</section>\n");
        return;
    }
    let used = u64::try_from(rows.iter().filter(|(_, residual)| residual.seconds > 0.0).count()).unwrap_or(u64::MAX);
    if used < total.with_residual {
        html.markup("<p class=\"note\">");
        html.text(format!(
            "{} of the {} grants that were used after the end are in this report: ask for more with --limit.",
            count(used),
            count(total.with_residual)
        ));
        html.markup("</p>\n");
    }
    if !rows.is_empty() {
        let table = Table {
            caption: "Grants that were used or tried after the end of their task, the longest residual first; times in UTC",
            heads: &[
                "Subject",
                "Client",
                "Task",
                "Token",
                "Ended",
                "By",
                "Residual",
                "Permitted after",
                "Attempts after",
                "Streams ended",
            ],
            rows: rows.into_iter().map(|(grant, residual)| row(grant, residual)).collect(),
            more: "All are in the report as JSON.",
        };
        table.write(html);
    }
    html.markup("</section>\n");
}

fn after_the_end(grant: &GrantMeasures) -> Option<(&GrantMeasures, &Residual)> {
    let residual = grant.residual.as_ref()?;
    let something = residual.seconds > 0.0 || residual.permitted_after > 0 || residual.attempts_after > 0;
    something.then_some((grant, residual))
}

fn row<'r>(grant: &'r GrantMeasures, residual: &'r Residual) -> Vec<Cell<'r>> {
    vec![
        Cell::Data(&grant.subject),
        Cell::Maybe(grant.client.as_deref()),
        Cell::Maybe(grant.task.as_deref()),
        Cell::Data(&grant.token),
        Cell::Moment(residual.ended_at),
        Cell::Data(&residual.ended_by),
        Cell::Span(Some(residual.seconds)),
        Cell::Count(residual.permitted_after),
        Cell::Count(residual.attempts_after),
        Cell::Count(residual.streams_ended),
    ]
}

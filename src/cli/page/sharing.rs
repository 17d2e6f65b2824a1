//! Sharing: grants that more than one workload used.

use taskfence_hub::evidence::report::Report;

use super::figure::{count, counted};
use super::html::Html;
use super::table::{Cell, Table};

/// Writes the section.
pub fn section(html: &mut Html, report: &Report) {
    html.markup("<section id=\"sharing\" class=\"follows\">\n<h2>Sharing</h2>\n");
    let shared: Vec<_> = report.grants.iter().filter(|grant| grant.sharing.shared).collect();
    let listed = u64::try_from(shared.len()).unwrap_or(u64::MAX);
    if report.total.shared == 0 && shared.is_empty() {
        html.markup(
            "<p>No grant was seen with more than one workload. A workload is told by the URI in its certificate, and without \
             one by its key.</p>\n</section>\n",
        );
        return;
    }
    html.markup("<p class=\"box warn\">");
    html.text(counted(report.total.shared, "grant was", "grants were"));
    html.markup(" used by more than one workload: a token was handed on, or it was stolen.");
    if listed < report.total.shared {
        html.text(format!(" {} of them are in this report: ask for more with --limit.", count(listed)));
    }
    html.markup("</p>\n");
    if !shared.is_empty() {
        let rows = shared.into_iter().map(|grant| {
            vec![
                Cell::Data(&grant.subject),
                Cell::Maybe(grant.client.as_deref()),
                Cell::Maybe(grant.task.as_deref()),
                Cell::Data(&grant.token),
                Cell::List(&grant.sharing.peers),
                Cell::List(&grant.sharing.keys),
                Cell::List(&grant.sharing.sources),
                Cell::Count(grant.permitted),
            ]
        });
        let table = Table {
            caption: "Grants that more than one workload used",
            heads: &["Subject", "Client", "Task", "Token", "Workloads", "Keys", "Addresses", "Permitted requests"],
            rows: rows.collect(),
            more: "All are in the report as JSON.",
        };
        table.write(html);
    }
    html.markup("</section>\n");
}

//! What may be missing: gaps, and what there was no room for.

use taskfence_hub::evidence::report::Report;

use super::figure::{counted, moment};
use super::html::Html;
use super::summary::loses;
use super::table::{Cell, Table};

/// Writes the section.
pub fn section(html: &mut Html, report: &Report) {
    html.markup("<section id=\"missing\" class=\"follows\">\n<h2>What may be missing</h2>\n");
    if loses(report) {
        begins(html, report);
        losses(html, report);
        gaps(html, report);
    } else {
        html.markup(
            "<p class=\"box\">Nothing is known to be missing: no proxy was replaced while it had uses that the hub did not \
             have, and neither proxies nor the hub had too little room.</p>\n",
        );
    }
    html.markup(
        "<p class=\"note\">Only requests with a verified token are counted, and only by proxies that follow this feed. A \
         request that went past these proxies is not in the report. A proxy hands its uses over once in a period, so the \
         last seconds of a window that ends now may still come.</p>\n</section>\n",
    );
}

fn begins(html: &mut Html, report: &Report) {
    let Some(begins) = report.begins_late() else { return };
    html.markup("<p class=\"box warn\">All before <strong>");
    html.text(moment(begins));
    html.markup(
        "</strong> (UTC): the hub keeps no older evidence. It began then, or removed older days: see \
         <code>evidence.days</code> and <code>evidence.mib</code> of its configuration.</p>\n",
    );
}

fn losses(html: &mut Html, report: &Report) {
    let losses = &report.losses;
    let lines = [
        (
            losses.other_permitted,
            "permitted request",
            "permitted requests",
            "known only as a sum, without the grant or without what was done: a proxy had no room for more different ones.",
        ),
        (
            losses.other_refused,
            "refused request",
            "refused requests",
            "known only as a sum, without the grant or the rule: a proxy had no room for more different ones.",
        ),
        (
            losses.records_dropped,
            "single decision",
            "single decisions",
            "missing in timelines: a proxy had no room for more between two periods. They are in the sums.",
        ),
        (
            losses.batches_dropped,
            "batch",
            "batches",
            "lost: the hub had no room for what a proxy had counted. Its requests are in no figure.",
        ),
    ];
    if lines.iter().all(|(number, ..)| *number == 0) {
        return;
    }
    html.markup("<ul class=\"box warn\">\n");
    for (number, one, many, what) in lines.into_iter().filter(|(number, ..)| *number > 0) {
        html.markup("<li><strong>");
        html.text(counted(number, one, many));
        html.markup("</strong> ");
        html.text(if number == 1 { "is " } else { "are " });
        html.text(what);
        html.markup("</li>\n");
    }
    html.markup("</ul>\n");
}

fn gaps(html: &mut Html, report: &Report) {
    if report.gaps.is_empty() {
        return;
    }
    html.markup(
        "<p>In these spans a proxy, or one of its workers, was replaced or went away while it had uses that it had not handed \
         over. Uses of these proxies may be missing from then on.</p>\n",
    );
    let rows = report.gaps.iter().map(|gap| {
        vec![
            Cell::Data(&gap.node),
            Cell::Data(&gap.vm),
            Cell::Moment(gap.since),
            Cell::Moment(gap.until),
            Cell::Between(gap.since, gap.until),
        ]
    });
    let table = Table {
        caption: "Gaps, times in UTC",
        heads: &["Proxy", "Worker", "From", "To", "Length"],
        rows: rows.collect(),
        more: "All are in the report as JSON.",
    };
    table.write(html);
}

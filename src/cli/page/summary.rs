//! The summary: each figure of all grants together, with a sentence that says what it means.

use taskfence_hub::evidence::report::{Report, Rollup};

use super::figure::{count, counted, share, share_of, span};
use super::html::Html;

/// Writes the section.
pub fn section(html: &mut Html, report: &Report) {
    html.markup("<section id=\"summary\">\n<h2>Summary</h2>\n");
    if loses(report) {
        html.markup(
            "<p class=\"box warn\">Evidence of this window may be missing, so a figure may be too low: see \
             <a href=\"#missing\">what may be missing</a>.</p>\n",
        );
    }
    html.markup("<dl class=\"cards\">\n");
    for card in cards(&report.total) {
        card.write(html);
    }
    html.markup("</dl>\n</section>\n");
}

/// Whether something of the window is known to be missing.
pub fn loses(report: &Report) -> bool {
    let losses = &report.losses;
    let lost = [losses.other_permitted, losses.other_refused, losses.records_dropped, losses.batches_dropped];
    report.begins_late().is_some() || !report.gaps.is_empty() || lost.iter().any(|lost| *lost > 0)
}

struct Card {
    title: &'static str,
    figure: String,
    means: String,
}

impl Card {
    fn write(&self, html: &mut Html) {
        html.markup("<div><dt>");
        html.text(self.title);
        html.markup("</dt><dd class=\"figure\">");
        html.text(&self.figure);
        html.markup("</dd><dd class=\"means\">");
        html.text(&self.means);
        html.markup("</dd></div>\n");
    }
}

fn cards(total: &Rollup) -> Vec<Card> {
    let card = |title, figure, means| Card { title, figure, means };
    let bounded = total.grants.saturating_sub(total.unbounded).saturating_sub(total.unknown);
    vec![
        card(
            "Grants",
            count(total.grants),
            format!("So many tokens are known in this window. {} permitted no request.", of_them(total.unused)),
        ),
        card(
            "Requests",
            count(total.permitted),
            format!("So many requests with a grant were permitted; {} refused.", was(total.refused)),
        ),
        card("Width: unbounded", count(total.unbounded), unbounded(total)),
        card("Width: used", share(total.used_share), used(total, bounded)),
        card(
            "Repeat: routine",
            count(total.repeated),
            if total.repeated == 0 {
                "No subject asks for the same grant so often and so regularly that it is routine.".to_owned()
            } else {
                "So many grants are one of a series that its subject asks for again and again: see repeats.".to_owned()
            },
        ),
        card("Residual: longest", span(total.residual_longest), residual(total)),
        card(
            "Attempts after the end",
            count(total.attempts_after_end),
            if total.attempts_after_end == 0 {
                "No request was refused because its task had ended.".to_owned()
            } else {
                "So many requests came after the end of their task and were refused: somebody still has the token."
                    .to_owned()
            },
        ),
        card(
            "Shared grants",
            count(total.shared),
            if total.shared == 0 {
                "No grant was seen with more than one workload.".to_owned()
            } else {
                "More than one workload used one of these grants. A grant is meant for one.".to_owned()
            },
        ),
        card(
            "Lifetime, median",
            span(total.lifetime_median),
            match total.in_use_median {
                Some(_) => format!(
                    "Half of the tokens are valid for this long or longer. From the first to the last use, half took {} \
                     or less.",
                    span(total.in_use_median)
                ),
                None => "Half of the tokens are valid for this long or longer.".to_owned(),
            },
        ),
        card(
            "Break-glass",
            count(total.break_glass),
            if total.break_glass == 0 {
                "No request was permitted by a break-glass scope.".to_owned()
            } else {
                "So many requests were permitted only because of a break-glass scope.".to_owned()
            },
        ),
    ]
}

fn unbounded(total: &Rollup) -> String {
    let unbounded = match (total.unbounded, total.unknown) {
        (0, 0) => return "Every grant names what it is for, so that its width can be counted.".to_owned(),
        (0, _) => "No grant is known to be without a bound.".to_owned(),
        (some, _) => format!(
            "These grants ({}) name no identifier: what they allow cannot be counted.",
            share_of(some, total.grants)
        ),
    };
    match total.unknown {
        0 => unbounded,
        1 => format!("{unbounded} The width of 1 grant is not known."),
        unknown => format!("{unbounded} The width of {} grants is not known.", count(unknown)),
    }
}

fn used(total: &Rollup, bounded: u64) -> String {
    match total.used_share {
        None => "No grant has a width that can be counted.".to_owned(),
        Some(_) => format!(
            "Half of the {} with a bounded width used this share or less. Together they used {} of the {} that they allow.",
            counted(bounded, "grant", "grants"),
            count(total.used_cells),
            counted(total.allowed_cells, "cell", "cells")
        ),
    }
}

fn residual(total: &Rollup) -> String {
    match (total.residual_longest, total.with_residual) {
        (None, _) => "No task ended in this window, so nothing can be said about what went on after it.".to_owned(),
        (Some(_), 0) => "No grant was used after its task had ended.".to_owned(),
        (Some(_), some) => format!(
            "{} used after the end of the task, the worst one for this long. The median of all tasks that ended is {}.",
            match some {
                1 => "1 grant was".to_owned(),
                _ => format!("{} grants were", count(some)),
            },
            span(total.residual_median)
        ),
    }
}

fn of_them(number: u64) -> String {
    if number == 0 { "None of them".to_owned() } else { format!("{} of them", count(number)) }
}

fn was(number: u64) -> String {
    format!("{} {}", count(number), if number == 1 { "was" } else { "were" })
}

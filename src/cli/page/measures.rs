//! The three measures over all grants, with plots.

use taskfence_hub::evidence::report::{Bar, Report};

use super::figure::{count, counted, share_of};
use super::html::Html;
use super::plot::Plot;

/// Writes the section.
pub fn section(html: &mut Html, report: &Report) {
    html.markup("<section id=\"measures\">\n<h2>The measures over all grants</h2>\n<div class=\"plots\">\n");
    used_share(report).write(html);
    residual(report).write(html);
    html.markup("</div>\n<div class=\"plots\">\n");
    times(html, report);
    over_time(report).write(html);
    html.markup("</div>\n</section>\n");
}

fn used_share(report: &Report) -> Plot<'_> {
    let bars = &report.spread.used_share;
    let counted_all = sum(bars);
    let unbounded = report.total.unbounded;
    Plot {
        id: "plot-width",
        title: "Width: the share of what was allowed that was used",
        axis: "share that was used",
        description: format!(
            "Far left: grants that allow much more than was done with them. {} of {} are unbounded and have no share: they \
             stand apart, on the right.",
            count(unbounded),
            counted(counted_all, "grant", "grants")
        ),
        series: vec![("Grants", bars)],
        // The last bar is that of unbounded grants, after the ten of shares.
        last_apart: bars.len() == 11,
        empty: "No grant has a width that is known: the hub has not got the rules of the configurations, or nothing was used.",
    }
}

fn residual(report: &Report) -> Plot<'_> {
    let bars = &report.spread.residual;
    Plot {
        id: "plot-residual",
        title: "Residual: how long it went on after the end of the task",
        axis: "time after the end (on a logarithmic scale)",
        description: format!(
            "Of {} whose task ended in this window, {} permitted something afterwards ({}).",
            counted(sum(bars), "grant", "grants"),
            count(report.total.with_residual),
            share_of(report.total.with_residual, sum(bars))
        ),
        series: vec![("Grants", bars)],
        last_apart: false,
        empty: "No task ended in this window, or nobody told the hub: ends come as signals, as events, and with the expiry of \
                a token.",
    }
}

/// Lifetime against time in use: in one plot if they have the same bars.
fn times(html: &mut Html, report: &Report) {
    let (lifetime, in_use) = (&report.spread.lifetime, &report.spread.in_use);
    let plot = |id, title, axis, series| Plot {
        id,
        title,
        axis,
        description: "A token that is valid for hours and is used for seconds can be issued for less time.".to_owned(),
        series,
        last_apart: false,
        empty: "No token says both when it was issued and when it expires, and no grant was used.",
    };
    if lifetime.len() == in_use.len() && lifetime.iter().zip(in_use).all(|(one, other)| one.label == other.label) {
        let series = vec![("valid, by the token", &**lifetime), ("in use, from first to last", &**in_use)];
        plot("plot-time", "How long grants are valid, and how long they are in use", "time", series).write(html);
    } else {
        plot("plot-lifetime", "How long grants are valid, by the token", "time", vec![("Grants", lifetime)])
            .write(html);
        plot("plot-in-use", "How long grants are in use, from first to last", "time", vec![("Grants", in_use)])
            .write(html);
    }
}

fn over_time(report: &Report) -> Plot<'_> {
    let bars = &report.spread.over_time;
    let most = bars.iter().max_by_key(|bar| bar.grants);
    Plot {
        id: "plot-when",
        title: "Grants by the time of their first use",
        axis: "first use, in UTC",
        description: match most.filter(|most| most.grants > 0) {
            Some(most) => format!("Most grants were first used at {}: {}.", most.label, count(most.grants)),
            None => String::new(),
        },
        series: vec![("Grants", bars)],
        last_apart: false,
        empty: "No grant was used in this window.",
    }
}

fn sum(bars: &[Bar]) -> u64 {
    bars.iter().fold(0, |sum, bar| sum.saturating_add(bar.grants))
}

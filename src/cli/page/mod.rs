//! The report as one page of HTML: readable without a script and without a network, on a screen and in print.
//!
//! Nothing of the report gets into the page unescaped: see [`html::Html`], which takes markup only as constants.

mod comparison;
mod definitions;
mod document;
mod empty;
mod figure;
mod grants;
mod groups;
mod html;
mod measures;
mod missing;
mod plot;
mod repeats;
mod residuals;
mod sharing;
mod summary;
mod table;
#[cfg(test)]
#[expect(clippy::arithmetic_side_effects, reason = "small numbers of a test")]
mod tests;

use taskfence_hub::evidence::report::Report;

use html::Html;

/// The page of `report`, complete with style and plots. The same report gives the same bytes: neither the clock nor chance
/// is asked.
///
/// Long lists are cut, and the page says so: see [`table::ROWS`] and [`grants::PROPOSALS`]. A report of 10,000 grants is a
/// page of less than two megabytes.
pub fn render(report: &Report) -> String {
    let mut html = Html::default();
    document::start(&mut html, report);
    if report.total.grants == 0 {
        empty::explain(&mut html, report);
        missing::section(&mut html, report);
    } else {
        summary::section(&mut html, report);
        missing::section(&mut html, report);
        measures::section(&mut html, report);
        groups::section(&mut html, report);
        repeats::section(&mut html, report);
        sharing::section(&mut html, report);
        residuals::section(&mut html, report);
        grants::section(&mut html, report);
    }
    comparison::section(&mut html, report);
    definitions::section(&mut html);
    document::end(&mut html);
    html.finish()
}

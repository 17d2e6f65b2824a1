//! Repeats: who asks for the same grant again and again. Routine and broad ones come first.

use taskfence_hub::evidence::report::{Repeat, Report};

use super::figure::counted;
use super::html::Html;
use super::table::{Cell, Table};

/// Writes the section.
pub fn section(html: &mut Html, report: &Report) {
    html.markup("<section id=\"repeats\">\n<h2>Repeats</h2>\n");
    if report.repeats.is_empty() {
        html.markup("<p>No subject asked for the same grant again in this window.</p>\n</section>\n");
        return;
    }
    let mut repeats: Vec<_> = report.repeats.iter().collect();
    // Stable: within a group the order stays that of the report.
    repeats.sort_by_key(|repeat| (!(repeat.routine && repeat.broad), !repeat.routine, !repeat.broad));
    let worst = repeats.iter().filter(|repeat| repeat.routine && repeat.broad).count();
    if worst > 0 {
        html.markup("<p class=\"box warn\">");
        html.text(counted(u64::try_from(worst).unwrap_or(u64::MAX), "series is", "series are"));
        html.markup(
            " routine and broad. Routine work needs no broad grant: give it the narrower one, or take away the need to ask.</p>\n",
        );
    }
    let table = Table {
        caption: "The same subject, client, kind and shape; routine and broad ones first",
        heads: &["Subject", "Client", "Kind", "What is asked for", "Is", "Grants", "Every, median", "Irregularity"],
        rows: repeats.into_iter().map(row).collect(),
        more: "All are in the report as JSON.",
    };
    table.write(html);
    html.markup(
        "<p class=\"note\">Irregularity is the coefficient of variation of the times between two grants: 0 is like a clock, 1 \
         is like chance.</p>\n</section>\n",
    );
}

fn row(repeat: &Repeat) -> Vec<Cell<'_>> {
    let is = match (repeat.routine, repeat.broad) {
        (true, true) => "routine, broad",
        (true, false) => "routine",
        (false, true) => "broad",
        (false, false) => "",
    };
    vec![
        Cell::Data(&repeat.subject),
        Cell::Maybe(repeat.client.as_deref()),
        Cell::Data(&repeat.kind),
        Cell::Data(&repeat.shape),
        Cell::Text(is),
        Cell::Count(repeat.grants),
        Cell::Span(Some(repeat.every)),
        Cell::Ratio(repeat.irregularity),
    ]
}

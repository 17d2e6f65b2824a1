//! The grants that stand out, and for the worst of them the narrower grant.

use serde_json::Value;
use taskfence_hub::evidence::report::{GrantMeasures, Report, Width};

use super::figure::{count, counted, moment, share_of};
use super::html::Html;
use super::table::{Cell, ROWS, Table};

/// For how many grants the page has what they allowed and the narrower grant.
pub const PROPOSALS: usize = 50;

/// How many cells of one grant are listed.
const CELLS: usize = 40;

/// A proposal with more bytes than this is not in the page. It is not cut: half of it would be of no use.
const LONGEST: usize = 16 * 1_024;

/// Writes the section.
pub fn section(html: &mut Html, report: &Report) {
    html.markup("<section id=\"grants\">\n<h2>Grants that stand out</h2>\n");
    if report.grants.is_empty() {
        html.markup("<p>No single grant is in this report: ask for them with <code>--limit</code>.</p>\n</section>\n");
        return;
    }
    let listed = u64::try_from(report.grants.len().min(ROWS)).unwrap_or(u64::MAX);
    html.markup("<p>");
    html.text(format!(
        "{} of {} are listed, the worst first. A link leads to what it allowed and to the narrower grant.",
        count(listed),
        counted(report.total.grants, "grant", "grants")
    ));
    html.markup("</p>\n");
    let table = Table {
        caption: "Grants that stand out, the worst first; allowed and used are cells",
        heads: &[
            "Subject",
            "Client",
            "Kind",
            "Task",
            "Allowed",
            "Used",
            "Permitted",
            "Refused",
            "Break-glass",
            "Residual",
            "Is",
            "Lifetime",
            "In use",
            "First use (UTC)",
        ],
        rows: report.grants.iter().enumerate().map(|(at, grant)| row(at, grant)).collect(),
        more: "All are in the report as JSON or CSV.",
    };
    table.write(html);
    html.markup(
        "<h3>What they allowed, and the narrower grant</h3>\n<p class=\"note paper\">In print the first ten are open.</p>\n",
    );
    for (at, grant) in report.grants.iter().take(PROPOSALS).enumerate() {
        proposal(html, at, grant);
    }
    if report.grants.len() > PROPOSALS {
        html.markup("<p class=\"note\">");
        html.text(format!("The page has this for the worst {PROPOSALS}; for the others it is in the report as JSON."));
        html.markup("</p>\n");
    }
    html.markup("</section>\n");
}

fn row(at: usize, grant: &GrantMeasures) -> Vec<Cell<'_>> {
    let name = if at < PROPOSALS { Cell::Linked(&grant.subject, at) } else { Cell::Data(&grant.subject) };
    let allowed = if grant.width.unknown.is_some() { Cell::Unknown } else { Cell::Cells(grant.width.allowed_cells) };
    vec![
        name,
        Cell::Maybe(grant.client.as_deref()),
        Cell::Data(&grant.kind),
        Cell::Maybe(grant.task.as_deref()),
        allowed,
        Cell::Count(grant.width.used_cells),
        Cell::Count(grant.permitted),
        Cell::Count(grant.refused),
        Cell::Count(grant.break_glass),
        Cell::Span(grant.residual.as_ref().map(|residual| residual.seconds)),
        Cell::Text(match (grant.sharing.shared, grant.repeated) {
            (true, true) => "shared, routine",
            (true, false) => "shared",
            (false, true) => "routine",
            (false, false) => "",
        }),
        Cell::Between(grant.issued_at, grant.expires_at),
        Cell::Between(grant.first, grant.last),
        Cell::Moment(grant.first),
    ]
}

/// What one grant allowed, used and could have been.
fn proposal(html: &mut Html, at: usize, grant: &GrantMeasures) {
    html.markup("<details class=\"proposal\"><summary>");
    html.text(format!("{}. ", at.saturating_add(1)));
    let names =
        [Some(grant.subject.as_str()), grant.client.as_deref(), Some(grant.kind.as_str()), grant.task.as_deref()];
    for (number, name) in names.into_iter().flatten().filter(|name| !name.is_empty()).enumerate() {
        html.markup(if number > 0 { ", " } else { "" });
        html.data(name);
    }
    html.text(format!(": {}", width_in_words(&grant.width)));
    html.markup("</summary>\n");
    // The id stands inside, so that a link to it opens what is folded.
    html.start("div", &[("id", &format_args!("grant-{at}"))]);
    html.markup("\n<p>Token ");
    html.data(&grant.token);
    html.markup(" of ");
    html.data(&grant.issuer);
    html.text(format!(", issued {}, expires {} (UTC).", moment(grant.issued_at), moment(grant.expires_at)));
    html.markup("</p>\n");
    if let Some(unknown) = &grant.width.unknown {
        html.markup("<p class=\"note\">Its width is not known: ");
        html.data(unknown);
        html.markup("</p>\n");
    }
    cells(html, &grant.width);
    scopes(html, &grant.width);
    let details = &grant.width.narrower_details;
    ready(html, "The narrower grant, as authorization_details", "The narrower authorization_details", details);
    let rules = &grant.width.narrower_rules;
    ready(html, "The narrower rules of a filter that allow what was used and no more", "The narrower rules", rules);
    for note in &grant.width.notes {
        html.markup("<p class=\"note\">Note: ");
        html.data(note);
        html.markup("</p>\n");
    }
    html.markup("</div></details>\n");
}

fn width_in_words(width: &Width) -> String {
    match (&width.unknown, width.allowed_cells) {
        (Some(_), _) => "width not known".to_owned(),
        (None, None) => format!("unbounded, {} used", counted(width.used_cells, "cell", "cells")),
        (None, Some(allowed)) => format!(
            "used {} of {} ({})",
            count(width.used_cells),
            counted(allowed, "cell", "cells"),
            share_of(width.used_cells, allowed)
        ),
    }
}

fn cells(html: &mut Html, width: &Width) {
    if width.allowed.is_empty() {
        return;
    }
    html.markup(
        "<table><caption>What it allowed</caption><thead><tr><th scope=\"col\">Rule</th><th scope=\"col\">Action</th>\
         <th scope=\"col\">Identifier</th><th scope=\"col\">Used</th></tr></thead><tbody>\n",
    );
    for cell in width.allowed.iter().take(CELLS) {
        html.markup("<tr><th scope=\"row\">");
        html.data(&cell.rule);
        html.markup("</th><td>");
        html.data(&cell.action);
        html.markup("</td><td>");
        match &cell.identifier {
            Some(identifier) => html.data(identifier),
            None => html.markup("<strong class=\"bad\">any</strong>"),
        }
        html.markup(if cell.used { "</td><td>yes</td></tr>\n" } else { "</td><td>no</td></tr>\n" });
    }
    html.markup("</tbody></table>\n");
    let shown = u64::try_from(width.allowed.len().min(CELLS)).unwrap_or(u64::MAX);
    let left = width.allowed_cells.map_or(0, |all| all.saturating_sub(shown));
    if left > 0 {
        html.markup("<p class=\"note\">");
        html.text(format!("And {}.", counted(left, "more cell", "more cells")));
        html.markup("</p>\n");
    }
}

fn scopes(html: &mut Html, width: &Width) {
    let lists =
        [("Scopes that were needed: ", &width.narrower_scopes), ("Scopes that no use needed: ", &width.unused_scopes)];
    for (title, scopes) in lists.into_iter().filter(|(_, scopes)| !scopes.is_empty()) {
        html.markup("<p>");
        html.text(title);
        for (at, scope) in scopes.iter().take(CELLS).enumerate() {
            html.markup(if at > 0 { ", <code>" } else { "<code>" });
            html.data(scope);
            html.markup("</code>");
        }
        if scopes.len() > CELLS {
            html.text(format!(" and {} more", scopes.len().saturating_sub(CELLS)));
        }
        html.markup(".</p>\n");
    }
}

/// JSON to be copied. A character that cannot be seen is written as JSON escapes it, so that what is copied is still JSON
/// and still means the same.
fn ready(html: &mut Html, title: &'static str, name: &'static str, values: &[Value]) {
    if values.is_empty() {
        return;
    }
    html.markup("<p>");
    html.text(title);
    html.markup(":</p>\n");
    let json = serde_json::to_string_pretty(values).unwrap_or_default();
    if json.len() > LONGEST {
        html.markup("<p class=\"note\">");
        html.text(format!("{name} are too long for this page: {} bytes. They are in the report as JSON.", json.len()));
        html.markup("</p>\n");
        return;
    }
    html.markup("<pre tabindex=\"0\"><code>");
    html.json(&json);
    html.markup("</code></pre>\n");
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_proposal_that_is_too_long_is_left_out_whole() {
        let written = |values: &[Value]| {
            let mut html = Html::default();
            ready(&mut html, "T", "N", values);
            html.finish()
        };
        let long = written(&[json!({"identifier": "x".repeat(LONGEST)})]);
        assert!(long.contains("N are too long for this page") && !long.contains("<pre"), "{long}");
        assert!(written(&[json!({"type": "order"})]).contains("<pre tabindex=\"0\"><code>[\n"));
        assert_eq!(written(&[]), "");
    }

    #[test]
    fn a_width_in_words() {
        let width = |allowed, used| Width { allowed_cells: allowed, used_cells: used, ..Width::default() };
        assert_eq!(width_in_words(&width(None, 1)), "unbounded, 1 cell used");
        assert_eq!(width_in_words(&width(Some(4), 1)), "used 1 of 4 cells (25%)");
        let unknown = Width { unknown: Some("no rules".to_owned()), ..Width::default() };
        assert_eq!(width_in_words(&unknown), "width not known");
    }
}

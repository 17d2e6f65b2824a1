//! The permanent path beside the grants: what its roles allow for as long as somebody has them.

use taskfence_hub::evidence::report::{Report, RoleWidth};

use super::html::Html;
use super::table::{Cell, Table};

/// Writes the section.
pub fn section(html: &mut Html, report: &Report) {
    html.markup("<section id=\"comparison\" class=\"follows\">\n<h2>The permanent path</h2>\n");
    match &report.comparison {
        None => html.markup(
            "<p>No permanent path was given to compare with. <code>taskfence report --compare roles.yaml</code> shows what its \
             roles allow, and for how long, beside the grants of the same subjects.</p>\n",
        ),
        Some(comparison) if comparison.roles.is_empty() => {
            html.markup("<p>The file that was given names no role, so there is nothing to compare with.</p>\n");
        }
        Some(comparison) => {
            html.markup(
                "<p>A role allows its cells for as long as somebody has it; a grant allows its cells until it ends. Less of \
                 either is better.</p>\n",
            );
            table(&comparison.roles).write(html);
        }
    }
    html.markup("</section>\n");
}

fn table(roles: &[RoleWidth]) -> Table<'_> {
    Table {
        caption: "Roles of the permanent path beside the grants of their subjects",
        heads: &[
            "Role",
            "Subjects",
            "Cells of the role",
            "Allowed for",
            "Grants",
            "Cells of the widest grant",
            "Grants of unknown width",
            "Grants allowed for",
            "Grants, share of that time",
        ],
        rows: roles.iter().map(row).collect(),
        more: "All are in the report as JSON.",
    }
}

fn row(role: &RoleWidth) -> Vec<Cell<'_>> {
    vec![
        Cell::Data(&role.name),
        Cell::List(&role.subjects),
        if role.unknown.is_some() { Cell::Unknown } else { Cell::Cells(role.allowed_cells) },
        Cell::Span(Some(role.seconds)),
        Cell::Count(role.grants),
        match role.unknown_grants {
            unknown if unknown > 0 && unknown == role.grants => Cell::Unknown,
            _ => Cell::Cells(role.grant_cells),
        },
        Cell::Count(role.unknown_grants),
        Cell::Span(Some(role.grant_seconds)),
        Cell::Share((role.seconds > 0.0).then(|| role.grant_seconds / role.seconds)),
    ]
}

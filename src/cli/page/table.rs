//! Tables: with a caption, heads that are repeated in print, and columns that a reader with scripts can sort by.

use std::time::Duration;

use super::figure::{self, NOTHING};
use super::html::Html;

/// How many rows a table has at most. More are a matter for CSV: nobody reads them, and they make the page slow.
pub const ROWS: usize = 1_000;

/// Entries of a list in one cell that are shown.
const LISTED: usize = 4;

/// One cell.
pub enum Cell<'r> {
    /// A text of the report; an empty one is shown as nothing.
    Data(&'r str),
    /// A text of the report that may be absent.
    Maybe(Option<&'r str>),
    /// A list of texts of the report.
    List(&'r [String]),
    /// A text of this program.
    Text(&'static str),
    /// A number.
    Count(u64),
    /// A share from 0 to 1.
    Share(Option<f64>),
    /// A span in seconds.
    Span(Option<f64>),
    /// A time in milliseconds since 1970.
    Moment(u64),
    /// A figure without a unit.
    Ratio(f64),
    /// The span from one time to another, in milliseconds since 1970; 0 is no time.
    Between(u64, u64),
    /// How many cells a grant allows; `None`: without bounds.
    Cells(Option<u64>),
    /// A number that is not known.
    Unknown,
    /// A name of the report with the place in the page that says more about it.
    Linked(&'r str, usize),
}

/// A table to be.
pub struct Table<'r> {
    /// What it shows.
    pub caption: &'static str,
    /// The heads of the columns. The first column names the row.
    pub heads: &'static [&'static str],
    /// The rows.
    pub rows: Vec<Vec<Cell<'r>>>,
    /// Where more rows are, if there are more than [`ROWS`].
    pub more: &'static str,
}

impl Table<'_> {
    /// Writes it.
    pub fn write(&self, html: &mut Html) {
        // It can be scrolled sideways, so a keyboard must reach it, and then it needs a name.
        html.start(
            "div",
            &[("class", &"scroll"), ("role", &"region"), ("tabindex", &"0"), ("aria-label", &self.caption)],
        );
        html.markup("\n<table class=\"sort\"><caption>");
        html.text(self.caption);
        html.markup("</caption>\n<thead><tr>");
        let first = self.rows.first();
        for (at, head) in self.heads.iter().enumerate() {
            let number = first.and_then(|row| row.get(at)).is_some_and(Cell::is_number);
            html.markup(if number { "<th scope=\"col\" class=\"n\">" } else { "<th scope=\"col\">" });
            html.text(head);
            html.markup("</th>");
        }
        html.markup("</tr></thead>\n<tbody>\n");
        for row in self.rows.iter().take(ROWS) {
            html.markup("<tr>");
            for (at, cell) in row.iter().enumerate() {
                cell.write(html, at == 0);
            }
            html.markup("</tr>\n");
        }
        html.markup("</tbody></table></div>\n");
        let left = self.rows.len().saturating_sub(ROWS);
        if left > 0 {
            html.markup("<p class=\"note\">");
            let left = u64::try_from(left).unwrap_or(u64::MAX);
            html.text(format!("{} are not shown. {}", figure::counted(left, "more row", "more rows"), self.more));
            html.markup("</p>\n");
        }
    }
}

impl Cell<'_> {
    fn is_number(&self) -> bool {
        !matches!(self, Cell::Data(_) | Cell::Maybe(_) | Cell::List(_) | Cell::Text(_) | Cell::Linked(..))
    }

    fn write(&self, html: &mut Html, names_row: bool) {
        let name = if names_row { "th" } else { "td" };
        match (names_row, self.sorted_by()) {
            (true, _) => html.start(name, &[("scope", &"row")]),
            (false, Some(by)) => html.start(name, &[("class", &"n"), ("data-v", &by)]),
            (false, None) if self.is_number() => html.start(name, &[("class", &"n")]),
            (false, None) => html.start(name, &[]),
        }
        match self {
            Cell::Data("") | Cell::Maybe(None) | Cell::List([]) => html.text(NOTHING),
            Cell::Data(text) | Cell::Maybe(Some(text)) => html.data(text),
            Cell::List(texts) => list(html, texts),
            Cell::Text("") => html.text(NOTHING),
            Cell::Text(text) => html.text(text),
            Cell::Count(number) => html.text(figure::count(*number)),
            Cell::Share(share) => html.text(figure::share(*share)),
            Cell::Span(seconds) => html.text(figure::span(*seconds)),
            Cell::Moment(at) => html.text(figure::moment(*at)),
            Cell::Ratio(ratio) => html.text(if ratio.is_finite() { format!("{ratio:.2}") } else { NOTHING.to_owned() }),
            Cell::Between(from, to) => html.text(figure::span(between(*from, *to))),
            Cell::Cells(Some(number)) => html.text(figure::count(*number)),
            Cell::Unknown => html.text("not known"),
            Cell::Cells(None) => html.markup("<strong class=\"bad\">unbounded</strong>"),
            Cell::Linked(text, number) => {
                html.start("a", &[("href", &format_args!("#grant-{number}"))]);
                html.data(if text.is_empty() { NOTHING } else { text });
                html.end("a");
            }
        }
        html.end(name);
    }

    /// What the column is sorted by where that is not the text. An unbounded width is the largest.
    fn sorted_by(&self) -> Option<f64> {
        match self {
            Cell::Share(share) => Some(share.unwrap_or(-1.0)),
            Cell::Span(seconds) => Some(seconds.unwrap_or(-1.0)),
            Cell::Unknown => Some(-1.0),
            Cell::Between(from, to) => Some(between(*from, *to).unwrap_or(-1.0)),
            Cell::Cells(cells) => Some(cells.map_or(f64::from(u32::MAX), figure::float)),
            _ => None,
        }
    }
}

/// The seconds from one time to another.
fn between(from: u64, to: u64) -> Option<f64> {
    let span = to.checked_sub(from).filter(|_| from > 0)?;
    Some(Duration::from_millis(span).as_secs_f64())
}

/// The first texts of a list, and how many there are beside them.
fn list(html: &mut Html, texts: &[String]) {
    for (at, text) in texts.iter().take(LISTED).enumerate() {
        if at > 0 {
            html.markup("<br>");
        }
        html.data(text);
    }
    if texts.len() > LISTED {
        html.markup("<br>");
        html.text(format!("and {} more", texts.len().saturating_sub(LISTED)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(table: &Table<'_>) -> String {
        let mut html = Html::default();
        table.write(&mut html);
        html.finish()
    }

    #[test]
    fn the_first_column_names_the_row_and_numbers_can_be_sorted() {
        let row = vec![Cell::Data("refund"), Cell::Count(1_200), Cell::Span(Some(60.0)), Cell::Cells(None)];
        let table = Table { caption: "C", heads: &["Kind", "Grants", "Time", "Cells"], rows: vec![row], more: "" };
        let page = written(&table);
        for part in [
            "<caption>C</caption>",
            "<th scope=\"col\">Kind</th><th scope=\"col\" class=\"n\">Grants</th>",
            "<th scope=\"row\"><bdi>refund</bdi></th><td class=\"n\">1,200</td>",
            "<td class=\"n\" data-v=\"60\">1 min</td>",
            "data-v=\"4294967295\"><strong class=\"bad\">unbounded</strong>",
        ] {
            assert!(page.contains(part), "{part} is not in {page}");
        }
    }

    #[test]
    fn what_is_left_out_is_said() {
        let rows = |many| (0..many).map(|_| vec![Cell::Data("x")]).collect();
        let table = |rows| Table { caption: "C", heads: &["Kind"], rows, more: "They are in the CSV." };
        let page = written(&table(rows(ROWS + 2)));
        assert_eq!(page.matches("<bdi>x</bdi>").count(), ROWS);
        assert!(page.contains("2 more rows are not shown. They are in the CSV."), "{page}");
        assert!(!written(&table(rows(ROWS))).contains("not shown"));
    }

    #[test]
    fn a_long_list_is_cut() {
        let texts: Vec<_> = (0..6).map(|at| format!("10.0.0.{at}")).collect();
        let page = written(&Table {
            caption: "C",
            heads: &["A", "B"],
            rows: vec![vec![Cell::Text("r"), Cell::List(&texts)]],
            more: "",
        });
        assert!(page.contains("<bdi>10.0.0.3</bdi><br>and 2 more</td>"), "{page}");
    }
}

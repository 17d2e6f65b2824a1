//! Bar charts in SVG, drawn here: no script and no network. Each has a title and a description for readers who do not see
//! it, and its figures as a table beneath it.

use std::fmt::Write as _;

use taskfence_hub::evidence::report::Bar;

use super::figure::{self, float};
use super::html::Html;

/// The size of the drawing, in units of which a letter is about six wide. Beside another plot it is about as wide on a
/// screen, so that letters have the size of the text around them.
const WIDTH: f64 = 520.0;
const LEFT: f64 = 46.0;
const RIGHT: f64 = 8.0;
const TOP: f64 = 22.0;
const HEIGHT: f64 = 170.0;
const BOTTOM: f64 = TOP + HEIGHT;
const LETTER: f64 = 6.1;
const TITLE: usize = 24;

/// How many labels stand below the bars at most.
const LABELS: usize = 14;

/// With more bars than this, their counts do not stand above them.
const COUNTED: usize = 16;

/// A chart to be.
pub struct Plot<'r> {
    /// The beginning of the ids in it; different for each plot of the page.
    pub id: &'static str,
    /// What it shows.
    pub title: &'static str,
    /// What the axis at the bottom is.
    pub axis: &'static str,
    /// What there is to see in it, in a sentence.
    pub description: String,
    /// One or two rows of bars with the same labels, and what each is.
    pub series: Vec<(&'static str, &'r [Bar])>,
    /// Whether the last bar is of another kind and stands apart.
    pub last_apart: bool,
    /// What to say if no bar counts anything.
    pub empty: &'static str,
}

impl Plot<'_> {
    /// Writes the figure, or why there is none.
    pub fn write(&self, html: &mut Html) {
        html.markup("<figure>\n<h3>");
        html.text(self.title);
        html.markup("</h3>\n");
        let most = self.series.iter().flat_map(|(_, bars)| bars.iter()).map(|bar| bar.grants).max().unwrap_or_default();
        if most == 0 {
            html.markup("<p class=\"note\">");
            html.text(self.empty);
            html.markup("</p>\n</figure>\n");
            return;
        }
        self.draw(html, most);
        html.markup("<figcaption>");
        html.text(&self.description);
        html.markup("</figcaption>\n");
        self.legend(html);
        self.figures(html);
        html.markup("</figure>\n");
    }

    fn draw(&self, html: &mut Html, most: u64) {
        let frame = Frame::new(self.first(), self.last_apart);
        html.markup("<div class=\"scroll\">");
        html.start(
            "svg",
            &[
                ("viewBox", &format_args!("0 0 {WIDTH} {:.0}", frame.height)),
                ("role", &"img"),
                ("aria-labelledby", &format_args!("{0}-title {0}-desc", self.id)),
            ],
        );
        html.start("title", &[("id", &format_args!("{}-title", self.id))]);
        html.text(self.title);
        html.end("title");
        html.start("desc", &[("id", &format_args!("{}-desc", self.id))]);
        html.text(&self.description);
        html.markup("</desc>\n");
        let end = draw_scale(html, frame.left, most);
        for at in 0..self.first().len() {
            self.draw_slot(html, &frame, at, end);
        }
        let axis = match frame.shared.trim_end_matches(['-', ' ', 'T']) {
            "" => self.axis.to_owned(),
            date => format!("{}, {date}", self.axis),
        };
        let middle = (frame.left + WIDTH - RIGHT) / 2.0;
        draw_text(html, "l", "middle", (middle, frame.height - 5.0), &axis);
        draw_text(html, "l", "start", (2.0, 10.0), "grants");
        html.markup("</svg></div>\n");
    }

    /// The bars at one place, beside each other, with their counts above and the label below.
    fn draw_slot(&self, html: &mut Html, frame: &Frame<'_>, at: usize, end: f64) {
        let apart = self.last_apart && at.saturating_add(1) == self.first().len();
        let left = frame.left + frame.slot * (size(at) + if apart { 1.0 } else { 0.0 });
        let room = frame.slot * if self.first().len() > 40 { 0.9 } else { 0.76 };
        let width = room / size(self.series.len());
        for (number, (name, bars)) in self.series.iter().enumerate() {
            let Some(bar) = bars.get(at) else { continue };
            let class = if apart { "apart" } else { class(number) };
            let x = left + (frame.slot - room) / 2.0 + width * size(number);
            let least = if bar.grants > 0 { 2.0 } else { 0.0 };
            let height = (HEIGHT * float(bar.grants) / end).max(least);
            let name = if self.series.len() > 1 { name } else { "" };
            draw_bar(html, class, (x, BOTTOM - height, width, height), &said(name, bar));
            if bar.grants > 0 && bars.len() <= COUNTED {
                draw_text(
                    html,
                    "v",
                    "middle",
                    (x + width / 2.0, BOTTOM - height - 4.0),
                    &short(bar.grants, if self.series.len() > 1 { 4 } else { 5 }),
                );
            }
        }
        if at.checked_rem(frame.every) == Some(0) || apart {
            let label = self.first().get(at).map(|bar| frame.label(bar)).unwrap_or_default();
            draw_label(html, frame.turned, left + frame.slot / 2.0, &label);
        }
    }

    /// The first row of bars, which has the labels.
    fn first(&self) -> &[Bar] {
        self.series.first().map_or(&[], |(_, bars)| bars)
    }

    fn legend(&self, html: &mut Html) {
        if self.series.len() < 2 {
            return;
        }
        html.markup("<p class=\"legend\">");
        for (at, (name, _)) in self.series.iter().enumerate() {
            html.start("svg", &[("viewBox", &"0 0 10 10"), ("class", &"key"), ("aria-hidden", &"true")]);
            draw_bar(html, class(at), (0.0, 0.0, 10.0, 10.0), "");
            html.markup("</svg> ");
            html.text(name);
            html.markup(" ");
        }
        html.markup("</p>\n");
    }

    /// What is drawn, as a table.
    fn figures(&self, html: &mut Html) {
        html.markup("<details class=\"figures\"><summary>Figures of this plot</summary>\n<table><caption>");
        html.text(self.title);
        html.markup("</caption><thead><tr><th scope=\"col\">");
        html.text(self.axis);
        html.markup("</th>");
        for (name, _) in &self.series {
            html.markup("<th scope=\"col\" class=\"n\">");
            html.text(name);
            html.markup("</th>");
        }
        html.markup("</tr></thead><tbody>\n");
        for (at, bar) in self.first().iter().enumerate() {
            html.markup("<tr><th scope=\"row\">");
            html.data(&bar.label);
            html.markup("</th>");
            for (_, bars) in &self.series {
                html.markup("<td class=\"n\">");
                html.text(figure::count(bars.get(at).map_or(0, |bar| bar.grants)));
                html.markup("</td>");
            }
            html.markup("</tr>\n");
        }
        html.markup("</tbody></table></details>\n");
    }
}

/// Where what is.
struct Frame<'r> {
    /// Where the first slot begins.
    left: f64,
    /// How wide a slot is.
    slot: f64,
    /// Of how many labels one is shown.
    every: usize,
    /// Whether labels are turned, because they would run into each other.
    turned: bool,
    /// With what all labels begin: it is left out of them.
    shared: &'r str,
    /// How high the drawing is.
    height: f64,
}

impl<'r> Frame<'r> {
    fn new(bars: &'r [Bar], last_apart: bool) -> Frame<'r> {
        let slots = size(bars.len().saturating_add(usize::from(last_apart)).max(1));
        let every = bars.len().div_ceil(LABELS).max(1);
        let mut frame = Frame {
            left: LEFT,
            slot: (WIDTH - LEFT - RIGHT) / slots,
            every,
            turned: false,
            shared: shared_date(bars),
            height: BOTTOM + 42.0,
        };
        let longest = bars.iter().map(|bar| frame.label(bar).chars().count()).max().unwrap_or_default();
        let longest = size(longest) * LETTER;
        if longest > frame.slot * size(every) {
            frame.turned = true;
            // By 40 degrees: the sine is 0.64, the cosine 0.77.
            frame.height += longest * 0.64;
            // Digits are wider than letters on the average.
            frame.left = LEFT.max(longest * 0.77 - frame.slot / 2.0 + LETTER);
            frame.slot = (WIDTH - frame.left - RIGHT) / slots;
        }
        frame
    }

    fn label(&self, bar: &Bar) -> String {
        shortened(bar.label.get(self.shared.len()..).unwrap_or_default())
    }
}

fn class(series: usize) -> &'static str {
    if series == 0 { "bar" } else { "bar second" }
}

/// Draws the lines of the counts; returns which count stands at the top.
fn draw_scale(html: &mut Html, left: f64, most: u64) -> f64 {
    let step = step(most);
    let steps = most.div_ceil(step).max(1);
    let end = float(steps.saturating_mul(step));
    for at in 0..=steps {
        let value = at.saturating_mul(step);
        let y = TOP + HEIGHT * (1.0 - float(value) / end);
        html.start("path", &[("class", &"grid"), ("d", &format_args!("M{left:.1} {y:.1}H{:.1}", WIDTH - RIGHT))]);
        html.end("path");
        draw_text(html, "l", "end", (left - 6.0, y + 4.0), &short(value, 5));
    }
    html.markup("\n");
    end
}

/// A step of 1, 2 or 5 times a power of ten that divides a count into at most five parts.
fn step(most: u64) -> u64 {
    let powers = (0..19).filter_map(|power| 10_u64.checked_pow(power));
    let steps = powers.flat_map(|power| [1, 2, 5].map(|times| power.saturating_mul(times)));
    steps.into_iter().find(|step| most.div_ceil(*step) <= 5).unwrap_or(u64::MAX)
}

fn draw_bar(html: &mut Html, class: &'static str, (x, y, width, height): (f64, f64, f64, f64), said: &str) {
    html.start(
        "rect",
        &[
            ("class", &class),
            ("x", &format_args!("{x:.1}")),
            ("y", &format_args!("{y:.1}")),
            ("width", &format_args!("{width:.1}")),
            ("height", &format_args!("{height:.1}")),
        ],
    );
    if !said.is_empty() {
        html.element("title", said);
    }
    html.markup("</rect>\n");
}

fn draw_text(html: &mut Html, class: &'static str, anchor: &'static str, (x, y): (f64, f64), text: &str) {
    html.start(
        "text",
        &[("class", &class), ("text-anchor", &anchor), ("x", &format_args!("{x:.1}")), ("y", &format_args!("{y:.1}"))],
    );
    html.text(text);
    html.markup("</text>\n");
}

/// The label of a bar, below it; turned where it would run into the next one.
fn draw_label(html: &mut Html, turned: bool, x: f64, text: &str) {
    if !turned {
        return draw_text(html, "l", "middle", (x, BOTTOM + 16.0), text);
    }
    let (x, y) = (x + 3.0, BOTTOM + 14.0);
    html.start(
        "text",
        &[
            ("class", &"l"),
            ("text-anchor", &"end"),
            ("transform", &format_args!("translate({x:.1} {y:.1}) rotate(-40)")),
        ],
    );
    html.text(text);
    html.markup("</text>\n");
}

/// What a pointer over a bar is told.
fn said(name: &str, bar: &Bar) -> String {
    let mut said = format!("{}: {}", bar.label, figure::counted(bar.grants, "grant", "grants"));
    if !name.is_empty() {
        // Writing to a string cannot fail.
        let _ = write!(said, " ({name})");
    }
    said
}

/// The year or the day with which all labels begin, if they are times: it stands once, at the axis.
fn shared_date(bars: &[Bar]) -> &str {
    let Some(first) = bars.first() else { return "" };
    let lengths = ["2026-09-21 ".len(), "2026-".len()];
    let parts = lengths.into_iter().filter_map(|length| first.label.get(..length));
    let is_date = |part: &&str| {
        part.starts_with(|digit: char| digit.is_ascii_digit())
            && part.ends_with(['-', ' ', 'T'])
            && part.trim_end_matches(['-', ' ', 'T']).split('-').all(|number| number.parse::<u16>().is_ok())
    };
    let shared = |part: &&str| bars.iter().all(|bar| bar.label.len() > part.len() && bar.label.starts_with(*part));
    parts.filter(is_date).find(shared).unwrap_or_default()
}

fn shortened(label: &str) -> String {
    match label.char_indices().nth(TITLE) {
        Some((end, _)) => format!("{}…", label.get(..end).unwrap_or_default()),
        None => label.to_owned(),
    }
}

/// A count in at most `letters` letters: `9,999`, `12k`, `3.4M`. Four letters have room where bars stand in pairs.
fn short(count: u64, letters: usize) -> String {
    let (unit, name) = match count {
        0..1_000 => return figure::count(count),
        1_000..10_000 if letters > 4 => return figure::count(count),
        1_000..1_000_000 => (1_000.0, "k"),
        _ => (1_000_000.0, "M"),
    };
    let shown = format!("{:.1}", float(count) / unit);
    format!("{}{name}", shown.trim_end_matches(".0"))
}

fn size(number: usize) -> f64 {
    float(u64::try_from(number).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bars(counts: &[u64]) -> Vec<Bar> {
        counts.iter().enumerate().map(|(at, grants)| Bar { label: format!("b{at}"), grants: *grants }).collect()
    }

    fn drawn(bars: &[Bar], last_apart: bool) -> String {
        let mut html = Html::default();
        let plot = Plot {
            id: "p",
            title: "T",
            axis: "A",
            description: "D.".to_owned(),
            series: vec![("grants", bars)],
            last_apart,
            empty: "Nothing was counted.",
        };
        plot.write(&mut html);
        html.finish()
    }

    #[test]
    fn the_first_label_of_many_is_inside_the_drawing() {
        let days = |year: u64| (1..=28).map(move |day| Bar { label: format!("{year}-01-{day:02}"), grants: 1 });
        let bars: Vec<_> = (2_015..2_030).flat_map(days).collect();
        let svg = drawn(&bars, false);
        let first = svg.split("translate(").nth(1).and_then(|rest| rest.split(' ').next()).unwrap();
        // Turned by 40 degrees. A digit is almost 7 wide.
        let width = size("2015-01-01".len()) * 6.8 * 0.77;
        assert!(first.parse::<f64>().unwrap() >= width, "{first} of {width}");
    }

    #[test]
    fn steps_are_round() {
        assert_eq!([1, 5, 6, 10, 11, 26, 10_000].map(step), [1, 1, 2, 2, 5, 10, 2_000]);
    }

    #[test]
    fn bars_are_as_high_as_their_counts_say() {
        let svg = drawn(&bars(&[5, 0, 10]), false);
        assert_eq!(svg.matches("<rect").count(), 3);
        for height in ["85.0", "0.0", "170.0"] {
            assert!(svg.contains(&format!("height=\"{height}\"")), "{height} is not in {svg}");
        }
        assert!(svg.contains("<title id=\"p-title\">T</title>") && svg.contains("<desc id=\"p-desc\">D.</desc>"));
        assert!(svg.contains("<title>b2: 10 grants</title>"));
        assert!(!svg.contains("apart"));
    }

    #[test]
    fn a_date_that_all_labels_share_stands_once() {
        let labelled = |labels: &[&str]| {
            let bars: Vec<_> = labels.iter().map(|label| Bar { label: (*label).to_owned(), grants: 1 }).collect();
            shared_date(&bars).to_owned()
        };
        assert_eq!(labelled(&["2026-09-21 10:00", "2026-09-21 11:00"]), "2026-09-21 ");
        assert_eq!(labelled(&["2026-09-21", "2026-10-22"]), "2026-");
        assert_eq!(labelled(&["2026-12-31", "2027-01-01"]), "");
        assert_eq!(labelled(&["1 s to 10 s", "10 s to 1 min"]), "");
        assert_eq!(labelled(&["éééé-", "éééé-"]), "");
        assert_eq!(labelled(&[]), "");
        let svg = drawn(&[Bar { label: "2026-09-21 10:00".to_owned(), grants: 1 }], false);
        assert!(svg.contains(">10:00</text>") && svg.contains(">A, 2026-09-21</text>"), "{svg}");
    }

    #[test]
    fn one_of_very_many_is_still_seen() {
        assert!(drawn(&bars(&[1, 1_000_000]), false).contains("height=\"2.0\""));
    }

    #[test]
    fn the_last_bar_may_stand_apart() {
        let svg = drawn(&bars(&[5, 5]), true);
        assert_eq!(svg.matches("class=\"apart\"").count(), 1);
    }

    #[test]
    fn nothing_counted_is_no_plot() {
        for none in [bars(&[]), bars(&[0, 0])] {
            let page = drawn(&none, true);
            assert!(page.contains("Nothing was counted.") && !page.contains("<svg"), "{page}");
        }
    }

    #[test]
    fn every_number_of_a_drawing_is_one() {
        let many = bars(&[u64::MAX, 3, 7]);
        let svg = drawn(&many, true);
        assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
        assert_eq!(
            ["0", "9,999", "12k", "12.5k", "3.4M"],
            [0, 9_999, 12_000, 12_500, 3_400_000].map(|count| short(count, 5))[..]
        );
        assert_eq!(["999", "1.1k", "12k"], [999, 1_094, 12_000].map(|count| short(count, 4))[..]);
    }
}

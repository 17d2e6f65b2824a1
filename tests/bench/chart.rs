//! Bar charts in SVG, plain enough to be read in a diff.

use std::fmt::Write;

use crate::report::{Spread, number};

/// One bar.
pub struct Bar {
    /// What stands to the left of it.
    pub label: String,
    /// How long it is; the line over its end goes from the least to the most.
    pub value: Spread,
    /// Where it should end at the latest.
    pub target: Option<f64>,
    /// Whether it is ours, and not a peer's.
    pub ours: bool,
}

const WIDTH: f64 = 860.0;
const LEFT: f64 = 250.0;
const RIGHT: f64 = 90.0;
const TOP: f64 = 56.0;
const STEP: f64 = 26.0;
const BAR: f64 = 16.0;

/// A chart of horizontal bars from zero, all in one unit.
pub fn bars(title: &str, unit: &str, bars: &[Bar]) -> String {
    let height = TOP + STEP * bars.len() as f64 + 34.0;
    let most = bars.iter().map(|bar| bar.value.high.max(bar.target.unwrap_or(0.0))).fold(0.0, f64::max);
    let (step, end) = scale(most);
    let x = |value: f64| LEFT + (WIDTH - LEFT - RIGHT) * (value.clamp(0.0, end) / end);
    let mut svg = String::new();
    let _ = writeln!(
        svg,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" height=\"{height}\" \
         font-family=\"system-ui, sans-serif\" font-size=\"13\" role=\"img\" aria-label=\"{}\">",
        escape(title)
    );
    let _ = writeln!(svg, "<rect width=\"{WIDTH}\" height=\"{height}\" fill=\"#ffffff\"/>");
    let _ = writeln!(svg, "<text x=\"16\" y=\"26\" font-size=\"16\" fill=\"#1c2530\">{}</text>", escape(title));
    let bottom = TOP + STEP * bars.len() as f64;
    let mut at = 0.0;
    while at <= end + step / 2.0 {
        let x = x(at);
        let label = if step >= 1.0 { format!("{at:.0}") } else { number(at) };
        let _ = writeln!(svg, "<path d=\"M{x:.1} {:.1}V{bottom:.1}\" stroke=\"#dde3ea\"/>", TOP - 6.0);
        let _ = writeln!(
            svg,
            "<text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\" fill=\"#5b6875\">{label}</text>",
            bottom + 18.0
        );
        at += step;
    }
    let _ = writeln!(
        svg,
        "<text x=\"{:.1}\" y=\"{:.1}\" fill=\"#5b6875\">{}</text>",
        WIDTH - RIGHT + 22.0,
        bottom + 18.0,
        escape(unit)
    );
    for (number_of, bar) in bars.iter().enumerate() {
        let y = TOP + STEP * number_of as f64;
        let middle = y + BAR / 2.0;
        let color = if bar.ours { "#2563a8" } else { "#9aa7b4" };
        let _ = writeln!(
            svg,
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\" fill=\"#1c2530\">{}</text>",
            LEFT - 10.0,
            middle + 4.5,
            escape(&bar.label)
        );
        let _ = writeln!(
            svg,
            "<rect x=\"{LEFT}\" y=\"{y:.1}\" width=\"{:.1}\" height=\"{BAR}\" fill=\"{color}\"/>",
            (x(bar.value.median) - LEFT).max(0.5)
        );
        if bar.value.high > bar.value.low {
            let (low, high) = (x(bar.value.low), x(bar.value.high));
            let _ = writeln!(svg, "<path d=\"M{low:.1} {middle:.1}H{high:.1}\" stroke=\"#1c2530\"/>");
        }
        if let Some(target) = bar.target {
            let x = x(target);
            let _ = writeln!(
                svg,
                "<path d=\"M{x:.1} {:.1}V{:.1}\" stroke=\"#c2410c\" stroke-width=\"2.5\"/>",
                y - 3.0,
                y + BAR + 3.0
            );
        }
        let end = x(bar.value.high.max(bar.target.unwrap_or(0.0)));
        let _ = writeln!(
            svg,
            "<text x=\"{:.1}\" y=\"{:.1}\" fill=\"#1c2530\">{}</text>",
            end + 8.0,
            middle + 4.5,
            number(bar.value.median)
        );
    }
    svg.push_str("</svg>\n");
    svg
}

/// A step of 1, 2 or 5 times a power of ten that divides what is shown into four to ten parts, and where they end.
fn scale(most: f64) -> (f64, f64) {
    if most <= 0.0 || !most.is_finite() {
        return (1.0, 1.0);
    }
    let power = 10f64.powf((most / 5.0).log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].map(|times| times * power).into_iter().find(|step| most / step <= 8.0);
    let step = step.unwrap_or(10.0 * power);
    (step, (most / step).ceil() * step)
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scale_has_round_steps() {
        assert_eq!(scale(43.0), (10.0, 50.0));
        assert_eq!(scale(100.0), (20.0, 100.0));
        assert_eq!(scale(0.0), (1.0, 1.0));
    }

    #[test]
    fn a_bar_with_a_target_has_its_mark() {
        let bar = |target| Bar { label: "a < b".to_owned(), value: Spread::exactly(5.0), target, ours: true };
        let chart = bars("t", "us", &[bar(Some(7.0)), bar(None)]);
        assert_eq!(chart.matches("#c2410c").count(), 1);
        assert!(chart.contains("a &lt; b") && chart.ends_with("</svg>\n"));
    }
}

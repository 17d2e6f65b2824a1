//! Histograms over all grants of a report.

use crate::evidence::measures::rollup::Measured;
use crate::evidence::measures::width::Counted;
use crate::evidence::model::Window;
use crate::evidence::report::{Bar, Spread};
use std::collections::BTreeMap;

const HOUR: u64 = 3_600_000;
const DAY: u64 = 24 * HOUR;

/// A window of at most this length is divided into hours, a longer one into days.
const BY_HOURS: u64 = 3 * DAY;

/// At most so many bars are over time. A window that has more, which is longer than any that the API takes, has no empty ones.
const MOST_BARS: u64 = 500;

/// Where bars of residuals end, in seconds: the last one is open.
const RESIDUAL: [(f64, &str); 7] = [
    (0.001, "0 s"),
    (1.0, "up to 1 s"),
    (10.0, "up to 10 s"),
    (60.0, "up to 1 min"),
    (600.0, "up to 10 min"),
    (3_600.0, "up to 1 h"),
    (f64::INFINITY, "more"),
];

/// Where bars of lifetimes and uses end, in seconds.
const SPANS: [(f64, &str); 8] = [
    (60.0, "up to 1 min"),
    (300.0, "up to 5 min"),
    (900.0, "up to 15 min"),
    (3_600.0, "up to 1 h"),
    (14_400.0, "up to 4 h"),
    (86_400.0, "up to 1 day"),
    (604_800.0, "up to 7 days"),
    (f64::INFINITY, "more"),
];

/// Shares, and one bar for unbounded grants.
const SHARES: [&str; 11] = [
    "0 to 10 %",
    "10 to 20 %",
    "20 to 30 %",
    "30 to 40 %",
    "40 to 50 %",
    "50 to 60 %",
    "60 to 70 %",
    "70 to 80 %",
    "80 to 90 %",
    "90 to 100 %",
    "unbounded",
];

/// The histograms while grants are read.
#[derive(Debug)]
pub struct Histograms {
    used_share: [u64; SHARES.len()],
    residual: [u64; RESIDUAL.len()],
    lifetime: [u64; SPANS.len()],
    in_use: [u64; SPANS.len()],
    step: u64,
    over_time: BTreeMap<u64, u64>,
    window: Window,
}

impl Histograms {
    /// For grants in `window`.
    pub fn new(window: Window) -> Histograms {
        let step = if window.until.saturating_sub(window.since) <= BY_HOURS { HOUR } else { DAY };
        Histograms {
            used_share: Default::default(),
            residual: Default::default(),
            lifetime: Default::default(),
            in_use: Default::default(),
            step,
            over_time: BTreeMap::new(),
            window,
        }
    }

    /// Adds a grant.
    pub fn add(&mut self, grant: &Measured) {
        match (grant.counted, grant.counted.share()) {
            (Counted::Unbounded { .. }, _) => add(&mut self.used_share, SHARES.len().saturating_sub(1)),
            (_, Some(share)) => add(&mut self.used_share, tenth(share)),
            _ => {}
        }
        if let Some(residual) = &grant.residual {
            add(&mut self.residual, bar(&RESIDUAL, residual.seconds));
        }
        add(&mut self.lifetime, bar(&SPANS, grant.lifetime));
        if let Some(in_use) = grant.in_use() {
            add(&mut self.in_use, bar(&SPANS, in_use));
        }
        if let Some((first, _)) = grant.used {
            // A sum that reaches into the window may have begun before it.
            let Window { since, until } = self.window;
            let first = first.clamp(since, until.saturating_sub(1).max(since));
            let count = self.over_time.entry(first.checked_div(self.step).unwrap_or_default()).or_default();
            *count = count.saturating_add(1);
        }
    }

    /// The histograms as they are reported.
    pub fn finish(mut self) -> Spread {
        self.fill();
        let over_time = self.over_time.iter().map(|(at, grants)| {
            let at = at.saturating_mul(self.step);
            Bar { label: moment(at, self.step), grants: *grants }
        });
        Spread {
            used_share: bars(SHARES.iter().copied(), &self.used_share),
            residual: bars(RESIDUAL.iter().map(|(_, label)| *label), &self.residual),
            lifetime: bars(SPANS.iter().map(|(_, label)| *label), &self.lifetime),
            in_use: bars(SPANS.iter().map(|(_, label)| *label), &self.in_use),
            over_time: over_time.collect(),
        }
    }

    /// Adds the hours or days of the window without grants: with the others alone, two bars beside each other could be
    /// days apart.
    fn fill(&mut self) {
        let number = |at: u64| at.checked_div(self.step).unwrap_or_default();
        let Window { since, until } = self.window;
        let (first, last) = (number(since), number(until.saturating_sub(1).max(since)));
        if last.saturating_sub(first) < MOST_BARS {
            for at in first..=last {
                self.over_time.entry(at).or_default();
            }
        }
    }
}

fn add(counts: &mut [u64], at: usize) {
    if let Some(count) = counts.get_mut(at) {
        *count = count.saturating_add(1);
    }
}

fn bar(ends: &[(f64, &str)], value: f64) -> usize {
    ends.iter().position(|(end, _)| value <= *end).unwrap_or_default()
}

/// Which of ten bars: the last one holds 1.
fn tenth(share: f64) -> usize {
    let ends = (1_u8..10).map(|tenth| f64::from(tenth) / 10.0);
    ends.take_while(|end| share >= *end).count()
}

fn bars<'l>(labels: impl Iterator<Item = &'l str>, counts: &[u64]) -> Vec<Bar> {
    labels.zip(counts).map(|(label, grants)| Bar { label: label.to_owned(), grants: *grants }).collect()
}

/// A day as `2026-11-28`, an hour as `2026-11-28 15:00`, in UTC.
fn moment(at: u64, step: u64) -> String {
    let (year, month, day) = date(at.checked_div(DAY).unwrap_or_default());
    match step {
        HOUR => {
            let hour = at.checked_rem(DAY).and_then(|rest| rest.checked_div(HOUR)).unwrap_or_default();
            format!("{year:04}-{month:02}-{day:02} {hour:02}:00")
        }
        _ => format!("{year:04}-{month:02}-{day:02}"),
    }
}

/// Year, month and day of a day counted from 1970-01-01.
fn date(mut days: u64) -> (u64, u64, u64) {
    let is_leap = |year: u64| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let mut year = 1970_u64;
    loop {
        let length = if is_leap(year) { 366 } else { 365 };
        if days < length {
            break;
        }
        days = days.saturating_sub(length);
        year = year.saturating_add(1);
    }
    let february = if is_leap(year) { 29 } else { 28 };
    let mut month = 1_u64;
    for length in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30] {
        if days < length {
            break;
        }
        days = days.saturating_sub(length);
        month = month.saturating_add(1);
    }
    (year, month, days.saturating_add(1))
}

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects, reason = "small numbers of a test")]
mod tests {
    use super::*;
    use crate::evidence::model::{GrantRow, PermittedRow};

    /// The bars over time of grants that were first used at these times.
    fn over_time(window: Window, used: &[u64]) -> Vec<(String, u64)> {
        let mut histograms = Histograms::new(window);
        for at in used {
            let row = PermittedRow { count: 1, first: *at, last: *at, ..PermittedRow::default() };
            let grant = GrantRow { permitted: vec![row], ..GrantRow::default() };
            histograms.add(&Measured::new(&grant, Counted::Unknown, None, false));
        }
        histograms.finish().over_time.into_iter().map(|bar| (bar.label, bar.grants)).collect()
    }

    #[test]
    fn hours_and_days_without_grants_are_there() {
        let day = 1_795_824_000_000;
        let bar = |label: &str, grants| (label.to_owned(), grants);
        // From 01:30 to 05:00: the hour in which the window begins counts, and the one that begins at its end does not.
        let hours = Window { since: day + HOUR + HOUR / 2, until: day + 5 * HOUR };
        let expected = ["01:00", "02:00", "03:00", "04:00"].map(|hour| format!("2026-11-28 {hour}"));
        let counts = [2, 0, 0, 1];
        // The last ones began before the window, and at its end.
        let used = [day + HOUR + HOUR / 2, day, day + 5 * HOUR];
        assert_eq!(over_time(hours, &used), expected.into_iter().zip(counts).collect::<Vec<_>>());
        let days = Window { since: day - 2 * DAY, until: day + 2 * DAY };
        let expected = [bar("2026-11-26", 1), bar("2026-11-27", 0), bar("2026-11-28", 0), bar("2026-11-29", 1)];
        assert_eq!(over_time(days, &[day - 2 * DAY, day + DAY]), expected);
        assert_eq!(over_time(Window { since: day, until: day + 3 * DAY }, &[]).len(), 72, "the longest by hours");
    }

    #[test]
    fn bars_over_time_are_bounded() {
        let day = 1_795_824_000_000;
        assert_eq!(over_time(Window { since: day - 400 * DAY + 1, until: day + 1 }, &[]).len(), 401);
        let endless = Window { since: 0, until: u64::MAX };
        assert_eq!(over_time(endless, &[day]), [("2026-11-28".to_owned(), 1)]);
        assert_eq!(over_time(Window { since: day, until: day }, &[]).len(), 1, "an empty window");
    }

    #[test]
    fn days_and_hours_are_named() {
        assert_eq!(moment(0, DAY), "1970-01-01");
        assert_eq!(moment(1_795_824_000_000, DAY), "2026-11-28");
        assert_eq!(moment(1_795_824_000_000 + 15 * HOUR, HOUR), "2026-11-28 15:00");
        assert_eq!(moment(951_782_400_000, DAY), "2000-02-29");
        assert_eq!(moment(951_782_400_000 + DAY, DAY), "2000-03-01");
        assert_eq!(moment(1_798_675_200_000, DAY), "2026-12-31");
    }

    #[test]
    fn shares_lie_in_tenths() {
        for (share, at) in [(0.0, 0), (0.09, 0), (0.1, 1), (0.5, 5), (0.99, 9), (1.0, 9)] {
            assert_eq!(tenth(share), at, "{share}");
        }
        assert_eq!((bar(&RESIDUAL, 0.0), bar(&RESIDUAL, 0.5), bar(&RESIDUAL, 1e9)), (0, 1, 6));
    }
}

//! The rows: as JSON for machines, as a table for people.

use std::fmt::Write;

use serde::Serialize;

use crate::machine::Machine;

/// All of it, as it stands in `results.json`.
#[derive(Debug, Serialize)]
pub struct Results {
    /// Where it was measured.
    pub machine: Machine,
    /// How: rounds of so many seconds for each case.
    pub rounds: usize,
    /// See [`Results::rounds`].
    pub seconds: u64,
    /// How long all of it took, in seconds.
    pub took: u64,
    /// The figures.
    pub rows: Vec<Row>,
}

/// One figure, with all that is known of it. What a row has not is null.
#[derive(Debug, Default, Serialize)]
pub struct Row {
    /// What it is called: the section, and the case in it.
    pub name: String,
    /// What was measured, for a reader.
    pub about: String,
    /// The figure: CPU per request in microseconds where it is about requests.
    pub value: Option<Spread>,
    /// What it is in.
    pub unit: &'static str,
    /// CPU per request, in microseconds: the median of the rounds.
    pub cpu_us: Option<f64>,
    /// What that is above the same request without any filter: the median of the differences within the rounds.
    pub added_us: Option<f64>,
    /// The least of the rounds above the least without any filter: what noise, which only adds, has left of it.
    pub added_least_us: Option<f64>,
    /// `added_us`, divided by that of the filter that does nothing.
    pub ratio_to_noop: Option<f64>,
    /// `added_us`, divided by that of jwt_authn and RBAC for the same token: with its cache, and for cold rows without.
    pub ratio_to_jwt_authn: Option<f64>,
    /// Half of the answers came within these microseconds, while the proxy's core was full.
    pub p50_us: Option<f64>,
    /// 99 of 100 came within these.
    pub p99_us: Option<f64>,
    /// How many requests, or how many of what it counts.
    pub n: u64,
    /// In how many rounds the machine was calm; the others do not count.
    pub calm_rounds: Option<usize>,
    /// What each answer had to be, and how many were.
    pub expected: Option<Expected>,
    /// What it is measured against, in words.
    pub target: Option<String>,
    /// The same, one by one.
    pub targets: Vec<Target>,
    /// Whether all targets are met.
    pub met: Option<bool>,
    /// Why there is no figure.
    pub void: Option<String>,
}

/// A median, and what lay around it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Spread {
    /// The median.
    pub median: f64,
    /// The least.
    pub low: f64,
    /// The most.
    pub high: f64,
}

/// What answers had to be.
#[derive(Clone, Debug, Serialize)]
pub struct Expected {
    /// Status, and reason of a refusal.
    pub answer: String,
    /// How many were.
    pub seen: u64,
}

/// Something to be met.
#[derive(Clone, Debug, Serialize)]
pub struct Target {
    /// In words.
    pub text: String,
    /// The figure that counts.
    pub value: f64,
    /// What it may be at most, or must be at least.
    pub limit: f64,
    /// Whether `limit` is the least that it must be.
    pub is_least: bool,
    /// Whether it is.
    pub met: bool,
}

/// What [`crate::cases::measure`] found out about one case.
#[derive(Clone, Debug)]
pub struct Load {
    /// The case.
    pub name: String,
    /// CPU per request, in microseconds.
    pub cpu: Option<Spread>,
    /// What that is above the case without a filter.
    pub added: Option<Spread>,
    /// The least of the rounds above the least without a filter.
    pub added_least: Option<f64>,
    /// How many rounds count.
    pub counted: usize,
    /// Latency, in microseconds.
    pub p50: Option<Spread>,
    /// Latency, in microseconds.
    pub p99: Option<Spread>,
    /// How many.
    pub answers: u64,
    /// What they had to be.
    pub expected: Expected,
    /// What was wrong with them.
    pub void: Option<String>,
}

/// What the rows of all sections are compared with.
#[derive(Clone, Copy, Debug, Default)]
pub struct Yardsticks {
    /// What the filter that does nothing adds, in microseconds.
    pub noop: Option<f64>,
    /// What jwt_authn with its cache and RBAC add, for an ES256 token.
    pub jwt_authn: Option<f64>,
    /// The same without the cache.
    pub jwt_authn_uncached: Option<f64>,
}

impl Spread {
    /// Of these values; nothing if there are none.
    pub fn of(values: impl Iterator<Item = f64>) -> Option<Self> {
        let mut values: Vec<f64> = values.collect();
        values.sort_by(f64::total_cmp);
        let (low, high) = (*values.first()?, *values.last()?);
        let upper = *values.get(values.len() / 2)?;
        let lower = *values.get((values.len() - 1) / 2)?;
        Some(Self { median: (lower + upper) / 2.0, low, high })
    }

    /// Of one value.
    pub fn exactly(value: f64) -> Self {
        Self { median: value, low: value, high: value }
    }
}

impl Load {
    /// What it adds, unless it is void.
    pub fn added(&self) -> Option<f64> {
        self.added.map(|added| added.median)
    }

    /// As a row. `name` and `about` are what the reader sees.
    pub fn row(&self, name: &str, about: &str, yardsticks: Yardsticks) -> Row {
        // What is compared with itself adds nothing, and that is no ratio.
        let own = self.added().filter(|added| *added != 0.0);
        let ratio = |to: Option<f64>| to.filter(|to| *to > 0.0).and_then(|to| Some(own? / to));
        let valid = |spread: Option<Spread>| spread.filter(|_| self.void.is_none());
        let median = |spread: Option<Spread>| valid(spread).map(|spread| spread.median);
        Row {
            name: name.to_owned(),
            about: about.to_owned(),
            value: valid(self.cpu),
            unit: "us",
            cpu_us: median(self.cpu),
            added_us: self.added(),
            added_least_us: self.added_least,
            ratio_to_noop: ratio(yardsticks.noop),
            ratio_to_jwt_authn: ratio(yardsticks.jwt_authn),
            p50_us: median(self.p50),
            p99_us: median(self.p99),
            n: self.answers,
            calm_rounds: Some(self.counted),
            expected: Some(self.expected.clone()),
            void: self.void.clone(),
            ..Row::default()
        }
    }
}

impl Row {
    /// A row that is not about the cost of requests.
    pub fn figure(name: &str, about: &str, value: Spread, unit: &'static str, n: u64) -> Self {
        let (name, about) = (name.to_owned(), about.to_owned());
        Self { name, about, value: Some(value), unit, n, ..Self::default() }
    }

    /// A row without a figure, and why.
    pub fn void(name: &str, about: &str, unit: &'static str, why: impl Into<String>) -> Self {
        let (name, about) = (name.to_owned(), about.to_owned());
        Self { name, about, unit, void: Some(why.into()), ..Self::default() }
    }

    /// Sets a figure that must not be above a limit, if both are there.
    pub fn target(self, text: &str, value: Option<f64>, limit: Option<f64>) -> Self {
        self.weigh(text, value, limit, false)
    }

    /// Sets a figure that must not be below a limit.
    pub fn target_at_least(self, text: &str, value: f64, limit: f64) -> Self {
        self.weigh(text, Some(value), Some(limit), true)
    }

    fn weigh(mut self, text: &str, value: Option<f64>, limit: Option<f64>, is_least: bool) -> Self {
        let before = self.target.take().map(|before| format!("{before}; ")).unwrap_or_default();
        self.target = Some(format!("{before}{text}"));
        match (value, limit, self.void.is_some()) {
            (Some(value), Some(limit), false) => {
                let met = if is_least { value >= limit } else { value <= limit };
                self.targets.push(Target { text: text.to_owned(), value, limit, is_least, met });
                self.met = Some(self.met.unwrap_or(true) && met);
            }
            _ => {
                // A target that cannot be weighed is not met.
                self.met = Some(false);
            }
        }
        self
    }

    /// Its part before the first `/`.
    pub fn section(&self) -> &str {
        self.name.split('/').next().unwrap_or_default()
    }
}

/// A number with the digits that mean something.
pub fn number(value: f64) -> String {
    let digits = match value.abs() {
        100.0.. => 0,
        10.0..100.0 => 1,
        _ => 2,
    };
    let text = format!("{value:.digits$}");
    if text.trim_start_matches('-').parse() == Ok(0.0) { "0".to_owned() } else { text }
}

/// The table for a terminal.
pub fn table(rows: &[Row]) -> String {
    let mut text = String::new();
    let width = rows.iter().map(|row| row.name.len()).max().unwrap_or(0);
    let mut section = "";
    for row in rows {
        if row.section() != section {
            section = row.section();
            let heads = ["CPU us", "spread", "added", "least", "x noop", "x jwt", "p50 us", "p99 us", "n"];
            let _ = write!(text, "\n{section:<width$}");
            match row.unit {
                "us" if row.expected.is_some() => {
                    for head in heads {
                        let _ = write!(text, " {head:>13}");
                    }
                }
                _ => {
                    let _ = write!(text, " {:>13} {:>13}", "value", "spread");
                }
            }
            text.push('\n');
        }
        let _ = write!(text, "{:<width$}", row.name);
        let mut cell = |value: Option<f64>| {
            let _ = write!(text, " {:>13}", value.map_or_else(|| "-".to_owned(), number));
        };
        match (&row.void, row.value) {
            (Some(why), _) => {
                let _ = write!(text, " void: {why}");
            }
            (None, Some(value)) if row.expected.is_some() => {
                cell(Some(value.median));
                let _ = write!(text, " {:>13}", format!("{}-{}", number(value.low), number(value.high)));
                let mut cell = |value: Option<f64>| {
                    let _ = write!(text, " {:>13}", value.map_or_else(|| "-".to_owned(), number));
                };
                [row.added_us, row.added_least_us, row.ratio_to_noop, row.ratio_to_jwt_authn, row.p50_us, row.p99_us]
                    .into_iter()
                    .for_each(&mut cell);
                let _ = write!(text, " {:>13}", row.n);
            }
            (None, Some(value)) => {
                cell(Some(value.median));
                let _ = write!(text, " {:>13}", format!("{}-{}", number(value.low), number(value.high)));
                let _ = write!(text, " {}", row.unit);
            }
            (None, None) => cell(None),
        }
        for target in &row.targets {
            let met = if target.met { "met" } else { "NOT MET" };
            let (value, limit) = (number(target.value), number(target.limit));
            let bound = if target.is_least { "at least" } else { "at most" };
            let _ = write!(text, "\n{:<width$}   {met}: {} ({value}, {bound} {limit})", "", target.text);
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_of_an_even_number_lies_between() {
        let spread = Spread::of([4.0, 1.0, 2.0, 3.0].into_iter()).unwrap();
        assert_eq!(spread, Spread { median: 2.5, low: 1.0, high: 4.0 });
        assert_eq!(Spread::of(std::iter::empty()), None);
    }

    #[test]
    fn a_row_meets_all_of_its_targets_or_none() {
        let row = || Row::figure("a/b", "", Spread::exactly(1.0), "us", 1);
        assert_eq!(row().met, None);
        assert_eq!(row().target("x", Some(1.0), Some(2.0)).met, Some(true));
        assert_eq!(row().target("x", Some(3.0), Some(2.0)).target("y", Some(1.0), Some(2.0)).met, Some(false));
        assert_eq!(row().target_at_least("x", 3.0, 2.0).target_at_least("y", 2.0, 2.0).met, Some(true));
        assert_eq!(row().target_at_least("x", 1.0, 2.0).met, Some(false));
        assert_eq!(row().target("x", Some(1.0), None).met, Some(false), "nothing to compare with");
        assert_eq!(Row::void("a/b", "", "us", "why").target("x", Some(1.0), Some(2.0)).met, Some(false));
    }

    #[test]
    fn numbers_have_the_digits_that_mean_something() {
        assert_eq!([1234.5, 43.81, 5.643, 0.0, -0.001].map(number), ["1234", "43.8", "5.64", "0", "0"]);
    }
}

//! Repeat: the same user, client, kind and shape again and again.

use crate::evidence::measures::rollup::{OTHER, Rows};
use crate::evidence::measures::sketch::median;
use crate::evidence::measures::width::Counted;
use crate::evidence::report::Repeat;
use std::collections::HashMap;

/// It is routine from so many grants on,
pub const ROUTINE_GRANTS: usize = 4;

/// if the coefficient of variation of the times between them is at most this.
pub const ROUTINE_IRREGULARITY: f64 = 0.5;

/// It is broad if less than this share of what was allowed was used, in the median.
pub const BROAD_SHARE: f64 = 0.5;

/// So many grants are remembered, 12 bytes each. They come in the order of their ids, which are hashes: what is left out
/// is a sample by chance.
const MOST_GRANTS: usize = 4_000_000;

/// So many rows are reported.
const MOST_ROWS: usize = 200;

/// So many shapes, and so many issuers, are told apart; the others are one.
const MOST_NAMES: usize = 100_000;

/// An unbounded grant in place of a share.
const UNBOUNDED: f32 = -1.0;

/// Who asked for what: the numbers of the rows of kind, client and user, and of the shape and the issuer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Series {
    /// The kind, as a row.
    pub kind: Option<u32>,
    /// The client, as a row.
    pub client: Option<u32>,
    /// The user, as a row.
    pub subject: Option<u32>,
    /// The shape.
    pub shape: u32,
    /// The issuer.
    pub issuer: u32,
}

/// The grants by series.
#[derive(Debug, Default)]
pub struct Repeats {
    numbers: HashMap<Series, u32>,
    series: Vec<Series>,
    shapes: Names,
    issuers: Names,
    grants: Vec<Grant>,
    left_out: u64,
}

/// Names by number.
#[derive(Debug, Default)]
struct Names {
    numbers: HashMap<String, u32>,
    names: Vec<String>,
}

/// One grant of a series.
#[derive(Debug, Clone, Copy)]
struct Grant {
    series: u32,
    /// `iat`, in seconds since 1970.
    issued_at: u32,
    /// The share of its width that was used, [`UNBOUNDED`], or not a number.
    share: f32,
}

/// A series that was found to be repeated.
#[derive(Debug)]
pub struct Found {
    /// Who asked for what.
    pub series: Series,
    /// What is reported.
    pub repeat: Repeat,
}

impl Repeats {
    /// The number of the shape.
    pub fn shape(&mut self, shape: &str) -> u32 {
        self.shapes.number(shape)
    }

    /// The number of the issuer.
    pub fn issuer(&mut self, issuer: &str) -> u32 {
        self.issuers.number(issuer)
    }

    /// Adds a grant. What has no row of its own in the rollups is no series.
    pub fn add(&mut self, series: Series, issued_at: u64, counted: Counted) {
        if series.subject.is_none() || self.grants.len() >= MOST_GRANTS {
            self.left_out = self.left_out.saturating_add(1);
            return;
        }
        let next = u32::try_from(self.series.len()).unwrap_or(u32::MAX);
        let number = *self.numbers.entry(series).or_insert_with(|| {
            self.series.push(series);
            next
        });
        #[expect(clippy::as_conversions, reason = "a share needs no more digits")]
        let share = match counted {
            Counted::Unbounded { .. } => UNBOUNDED,
            _ => counted.share().map_or(f32::NAN, |share| share as f32),
        };
        let issued_at = u32::try_from(issued_at).unwrap_or(u32::MAX);
        self.grants.push(Grant { series: number, issued_at, share });
    }

    /// The series of at least two grants: routine and broad ones first, then routine ones, then by the number of grants.
    /// `each` sees the routine ones, with the number of their grants and whether they are broad, also those that are
    /// not reported.
    pub fn finish(mut self, names: (&Rows, &Rows, &Rows), mut each: impl FnMut(Series, u64, bool)) -> Vec<Found> {
        let (kinds, clients, subjects) = names;
        self.grants.sort_unstable_by_key(|grant| (grant.series, grant.issued_at));
        let mut found: Vec<(Series, Regularity)> = Vec::new();
        for grants in self.grants.chunk_by(|one, other| one.series == other.series) {
            let Some(regularity) = Regularity::of(grants) else { continue };
            let at = grants.first().and_then(|grant| usize::try_from(grant.series).ok());
            let Some(series) = at.and_then(|at| self.series.get(at)) else { continue };
            if regularity.is_routine() {
                each(*series, regularity.grants, regularity.broad);
            }
            found.push((*series, regularity));
        }
        let rank = |one: &Regularity| (one.is_routine() && one.broad, one.is_routine(), one.grants);
        found.sort_by_key(|(_, one)| std::cmp::Reverse(rank(one)));
        found.truncate(MOST_ROWS);
        let mut rows: Vec<Found> = found
            .into_iter()
            .map(|(series, regularity)| Found {
                series,
                repeat: Repeat {
                    subject: subjects.name(series.subject).to_owned(),
                    client: Some(clients.name(series.client).to_owned()).filter(|name| !name.is_empty()),
                    kind: kinds.name(series.kind).to_owned(),
                    shape: self.shapes.name(series.shape).to_owned(),
                    grants: regularity.grants,
                    every: regularity.every,
                    irregularity: regularity.irregularity,
                    routine: regularity.is_routine(),
                    broad: regularity.broad,
                },
            })
            .collect();
        let rank = |one: &Repeat| (one.routine && one.broad, one.routine, one.grants);
        rows.sort_by(|one, other| {
            let by_name = (&one.repeat.subject, &one.repeat.shape).cmp(&(&other.repeat.subject, &other.repeat.shape));
            rank(&other.repeat).cmp(&rank(&one.repeat)).then(by_name)
        });
        rows
    }
}

/// How regular a series is.
#[derive(Debug, Clone, Copy)]
struct Regularity {
    grants: u64,
    every: f64,
    irregularity: f64,
    broad: bool,
}

impl Regularity {
    /// Of the grants of one series, in the order of their times; `None` if there is one only.
    fn of(grants: &[Grant]) -> Option<Regularity> {
        let between: Vec<f64> = grants
            .windows(2)
            .filter_map(|pair| match pair {
                [one, next] => Some(f64::from(next.issued_at.saturating_sub(one.issued_at))),
                _ => None,
            })
            .collect();
        let every = median(between.clone())?;
        let irregularity = coefficient_of_variation(&between);
        let shares = grants.iter().filter(|grant| grant.share >= 0.0).map(|grant| f64::from(grant.share));
        let narrow = median(shares.collect()).is_none_or(|share| share >= BROAD_SHARE);
        let unbounded = grants.iter().any(|grant| grant.share == UNBOUNDED);
        Some(Regularity {
            grants: u64::try_from(grants.len()).unwrap_or(u64::MAX),
            every,
            irregularity,
            broad: unbounded || !narrow,
        })
    }

    fn is_routine(&self) -> bool {
        let enough = usize::try_from(self.grants).is_ok_and(|grants| grants >= ROUTINE_GRANTS);
        enough && self.every > 0.0 && self.irregularity <= ROUTINE_IRREGULARITY
    }
}

/// The standard deviation of the population divided by the mean; 0 if the mean is 0.
fn coefficient_of_variation(values: &[f64]) -> f64 {
    #[expect(clippy::as_conversions, reason = "at most `MOST_GRANTS`")]
    let count = values.len() as f64;
    let mean = values.iter().sum::<f64>() / count;
    if mean.is_nan() || mean <= 0.0 {
        return 0.0;
    }
    let variance = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / count;
    variance.sqrt() / mean
}

impl Names {
    fn number(&mut self, name: &str) -> u32 {
        if let Some(number) = self.numbers.get(name) {
            return *number;
        }
        if self.names.len() >= MOST_NAMES {
            return u32::MAX;
        }
        let number = u32::try_from(self.names.len()).unwrap_or(u32::MAX);
        self.names.push(name.to_owned());
        self.numbers.insert(name.to_owned(), number);
        number
    }

    fn name(&self, number: u32) -> &str {
        usize::try_from(number).ok().and_then(|at| self.names.get(at)).map_or(OTHER, String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grants(times: &[u32], share: f32) -> Vec<Grant> {
        times.iter().map(|&issued_at| Grant { series: 0, issued_at, share }).collect()
    }

    #[test]
    fn a_clock_is_routine_and_a_burst_is_not() {
        let hourly = Regularity::of(&grants(&[0, 3_600, 7_200, 10_800], 1.0)).unwrap();
        assert_eq!((hourly.grants, hourly.every, hourly.irregularity), (4, 3_600.0, 0.0));
        assert!(hourly.is_routine() && !hourly.broad);
        let few = Regularity::of(&grants(&[0, 3_600, 7_200], 1.0)).unwrap();
        assert!(!few.is_routine());
        let burst = Regularity::of(&grants(&[0, 1, 2, 90_000], 1.0)).unwrap();
        assert!(burst.irregularity > 1.0 && !burst.is_routine());
        let at_once = Regularity::of(&grants(&[5, 5, 5, 5, 5], 1.0)).unwrap();
        assert!(!at_once.is_routine());
        assert!(Regularity::of(&grants(&[5], 1.0)).is_none());
    }

    #[test]
    fn the_coefficient_of_variation_is_that_of_the_population() {
        // Mean 4, variance ((2-4)^2 + (4-4)^2 + (6-4)^2) / 3 = 8/3.
        let found = coefficient_of_variation(&[2.0, 4.0, 6.0]);
        assert!((found - (8.0_f64 / 3.0).sqrt() / 4.0).abs() < 1e-12);
    }

    #[test]
    fn broad_is_unbounded_or_mostly_unused() {
        let broad = |share| Regularity::of(&grants(&[0, 1], share)).unwrap().broad;
        assert!(broad(UNBOUNDED) && broad(0.4));
        assert!(!broad(0.5) && !broad(f32::NAN));
    }
}

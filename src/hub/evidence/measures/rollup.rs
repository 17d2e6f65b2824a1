//! The measures over several grants: by kind of task, by client, by user, and in total.

use crate::evidence::measures::residual::seconds;
use crate::evidence::measures::sketch::{Sample, Sketch};
use crate::evidence::measures::width::Counted;
use crate::evidence::model::GrantRow;
use crate::evidence::report::{Residual, Rollup};
use std::collections::HashMap;

/// So many rows are shown; the others are one row.
const MOST_ROWS: usize = 200;

/// So many names are told apart while grants are read. Grants with other names are in the last row.
const MOST_NAMES: usize = 100_000;

/// The name of the row that holds what has no row of its own.
pub const OTHER: &str = "other";

/// What the rollups need of one grant.
#[derive(Debug, Clone)]
pub struct Measured {
    /// Its width.
    pub counted: Counted,
    /// Permitted requests.
    pub permitted: u64,
    /// Refused requests, without those that passed by shadow mode and without streams that were ended.
    pub refused: u64,
    /// Permitted requests by break-glass.
    pub break_glass: u64,
    /// Whether it was never used.
    pub unused: bool,
    /// What went on after its end.
    pub residual: Option<Residual>,
    /// Whether more than one workload used it.
    pub shared: bool,
    /// From `iat` to `exp`, in seconds.
    pub lifetime: f64,
    /// When a request was first and last permitted, in milliseconds since 1970.
    pub used: Option<(u64, u64)>,
    samples: Samples,
}

/// What medians are made of.
#[derive(Debug, Clone, Copy)]
struct Samples {
    used_share: Option<Sample>,
    residual: Option<Sample>,
    lifetime: Sample,
    in_use: Option<Sample>,
}

/// One row while grants are read.
#[derive(Debug, Default)]
pub struct Row {
    sums: Rollup,
    used_share: Sketch,
    residual: Sketch,
    lifetime: Sketch,
    in_use: Sketch,
}

/// The rows by a name.
#[derive(Debug, Default)]
pub struct Rows {
    by_name: HashMap<String, u32>,
    rows: Vec<(String, Row)>,
    other: Row,
    others: u64,
}

impl Measured {
    /// Adds up `grant`.
    pub fn new(grant: &GrantRow, counted: Counted, residual: Option<Residual>, shared: bool) -> Measured {
        let sum = |numbers: &mut dyn Iterator<Item = u64>| numbers.fold(0, u64::saturating_add);
        let permitted = sum(&mut grant.permitted.iter().map(|row| row.count)).saturating_add(grant.other);
        let refused = grant.refused.iter().filter(|row| !row.shadow && !row.ended);
        let rows = grant.permitted.iter().map(|row| (row.first, row.last));
        let used = rows.reduce(|one, other| (one.0.min(other.0), one.1.max(other.1)));
        // Uses without rows of their own have no times of their own either.
        let used = used.or_else(|| (grant.other > 0).then_some((grant.first, grant.last)));
        let info = &grant.info;
        let lifetime = seconds(info.expires_at.saturating_sub(info.issued_at).saturating_mul(1_000));
        let samples = Samples {
            used_share: counted.share().map(Sample::new),
            residual: residual.as_ref().map(|residual| Sample::new(residual.seconds)),
            lifetime: Sample::new(lifetime),
            in_use: used.map(in_use).map(Sample::new),
        };
        Measured {
            counted,
            permitted,
            refused: sum(&mut refused.map(|row| row.count)),
            break_glass: sum(&mut grant.permitted.iter().map(|row| row.break_glass)),
            unused: permitted == 0,
            residual,
            shared,
            lifetime,
            used,
            samples,
        }
    }

    /// From the first to the last permitted request, in seconds.
    pub fn in_use(&self) -> Option<f64> {
        self.used.map(in_use)
    }
}

fn in_use((first, last): (u64, u64)) -> f64 {
    seconds(last.saturating_sub(first))
}

impl Row {
    /// Adds a grant.
    pub fn add(&mut self, grant: &Measured) {
        let sums = &mut self.sums;
        more(&mut sums.grants, 1);
        more(&mut sums.unused, u64::from(grant.unused));
        more(&mut sums.permitted, grant.permitted);
        more(&mut sums.refused, grant.refused);
        more(&mut sums.break_glass, grant.break_glass);
        match grant.counted {
            Counted::Bounded { allowed, used } => {
                more(&mut sums.allowed_cells, allowed);
                more(&mut sums.used_cells, used);
            }
            Counted::Unbounded { .. } => more(&mut sums.unbounded, 1),
            Counted::Unknown => more(&mut sums.unknown, 1),
        }
        if let Some(residual) = &grant.residual {
            let went_on = residual.permitted_after > 0 || residual.streams_ended > 0;
            more(&mut sums.with_residual, u64::from(went_on));
            more(&mut sums.attempts_after_end, residual.attempts_after);
            let longest = sums.residual_longest.unwrap_or_default().max(residual.seconds);
            sums.residual_longest = Some(longest);
        }
        more(&mut sums.shared, u64::from(grant.shared));
        let Samples { used_share, residual, lifetime, in_use } = grant.samples;
        used_share.into_iter().for_each(|sample| self.used_share.add(sample));
        residual.into_iter().for_each(|sample| self.residual.add(sample));
        self.lifetime.add(lifetime);
        in_use.into_iter().for_each(|sample| self.in_use.add(sample));
    }

    /// Adds grants that turned out to be a routine.
    pub fn add_repeated(&mut self, grants: u64) {
        more(&mut self.sums.repeated, grants);
    }

    /// The row as it is reported.
    pub fn finish(self, name: String) -> Rollup {
        Rollup {
            name,
            used_share: self.used_share.median(),
            residual_median: self.residual.median(),
            lifetime_median: self.lifetime.median(),
            in_use_median: self.in_use.median(),
            ..self.sums
        }
    }
}

impl Rows {
    /// The number of the name; `None`: it has no row of its own.
    pub fn number(&mut self, name: &str) -> Option<u32> {
        if let Some(number) = self.by_name.get(name) {
            return Some(*number);
        }
        if self.rows.len() >= MOST_NAMES {
            more(&mut self.others, 1);
            return None;
        }
        let number = u32::try_from(self.rows.len()).ok()?;
        self.by_name.insert(name.to_owned(), number);
        self.rows.push((name.to_owned(), Row::default()));
        Some(number)
    }

    /// The row with that number.
    pub fn row(&mut self, number: Option<u32>) -> &mut Row {
        let at = number.and_then(|number| usize::try_from(number).ok());
        match at.and_then(|at| self.rows.get_mut(at)) {
            Some((_, row)) => row,
            None => &mut self.other,
        }
    }

    /// The name with that number.
    pub fn name(&self, number: Option<u32>) -> &str {
        let at = number.and_then(|number| usize::try_from(number).ok());
        at.and_then(|at| self.rows.get(at)).map_or(OTHER, |(name, _)| name)
    }

    /// The rows with the most grants first, and one for the others.
    pub fn finish(self) -> Vec<Rollup> {
        let Rows { mut rows, mut other, .. } = self;
        rows.sort_by(|(one, a), (other, b)| b.sums.grants.cmp(&a.sums.grants).then_with(|| one.cmp(other)));
        let rest = rows.split_off(rows.len().min(MOST_ROWS));
        let mut finished: Vec<Rollup> = rows.into_iter().map(|(name, row)| row.finish(name)).collect();
        rest.into_iter().for_each(|(_, row)| other.merge(row));
        if other.sums.grants > 0 {
            finished.push(other.finish(OTHER.to_owned()));
        }
        finished
    }
}

impl Row {
    fn merge(&mut self, with: Row) {
        let Row { sums, used_share, residual, lifetime, in_use } = with;
        let ours = &mut self.sums;
        more(&mut ours.grants, sums.grants);
        more(&mut ours.unused, sums.unused);
        more(&mut ours.permitted, sums.permitted);
        more(&mut ours.refused, sums.refused);
        more(&mut ours.break_glass, sums.break_glass);
        more(&mut ours.unbounded, sums.unbounded);
        more(&mut ours.unknown, sums.unknown);
        more(&mut ours.allowed_cells, sums.allowed_cells);
        more(&mut ours.used_cells, sums.used_cells);
        more(&mut ours.repeated, sums.repeated);
        more(&mut ours.with_residual, sums.with_residual);
        more(&mut ours.attempts_after_end, sums.attempts_after_end);
        more(&mut ours.shared, sums.shared);
        let longest = ours.residual_longest.into_iter().chain(sums.residual_longest).reduce(f64::max);
        ours.residual_longest = longest;
        self.used_share.merge(used_share);
        self.residual.merge(residual);
        self.lifetime.merge(lifetime);
        self.in_use.merge(in_use);
    }
}

fn more(sum: &mut u64, add: u64) {
    *sum = sum.saturating_add(add);
}

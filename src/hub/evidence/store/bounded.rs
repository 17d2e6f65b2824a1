//! Holds the rows of one grant in memory, and so many of them: a proxy that lies can send ever new uses of one grant.

use crate::evidence::model::{GrantRow, PermittedRow, RefusedRow, SeenRow};
use crate::evidence::weight;
use serde_json::Value;

/// The rows of one grant take about so many bytes. What is more is added up: permitted uses as `other`, refused ones as one
/// row with the reason [`OTHER`]. More peers, sources and keys are left out.
pub const MOST: usize = 16 * 1024 * 1024;

/// The rows of all grants of one answer take about so many bytes, and so do its records.
pub const MOST_OF_ALL: usize = 48 * 1024 * 1024;

/// The reason of refused requests that differ in too many ways.
pub const OTHER: &str = "other";

/// A row takes so many bytes beside its text.
const ROW: usize = 256;

/// About how many bytes a record takes whose text has `length` bytes.
pub fn weigh_record(record: &Value, length: usize) -> usize {
    weight::weigh(record).saturating_add(length)
}

/// About how many bytes the rows of a grant take.
pub fn weigh(grant: &GrantRow) -> usize {
    let permitted = grant.permitted.iter().map(|row| {
        let texts = [&row.node, &row.config, &row.rule, &row.method].into_iter().chain(&row.captures);
        texts.map(|text| text.len().saturating_add(24)).fold(ROW, usize::saturating_add)
    });
    let refused = grant.refused.iter().map(|row| {
        let texts = [&row.node, &row.config, &row.rule, &row.reason];
        texts.into_iter().map(String::len).fold(ROW, usize::saturating_add)
    });
    let seen = grant.seen.iter().map(|row| row.value.len().saturating_add(ROW));
    permitted.chain(refused).chain(seen).fold(0, usize::saturating_add)
}

/// How much the rows of one grant take.
#[derive(Debug, Default)]
pub struct Bounded {
    bytes: usize,
}

impl Bounded {
    /// About how many bytes they take.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Adds a row. Returns whether it is a row of its own.
    pub fn permitted(&mut self, grant: &mut GrantRow, row: PermittedRow) -> bool {
        // A use by break-glass keeps its row for longer: it is what somebody may want to hide.
        let most = if row.break_glass > 0 { MOST.saturating_mul(2) } else { MOST };
        let captures = row.captures.iter().map(|text| text.len().saturating_add(24)).fold(0, usize::saturating_add);
        let fits = self.fits(most, &[&row.node, &row.config, &row.rule, &row.method], captures);
        if fits {
            grant.permitted.push(row);
        } else {
            grant.other = grant.other.saturating_add(row.count);
        }
        fits
    }

    /// Adds a row. Returns whether it is a row of its own.
    pub fn refused(&mut self, grant: &mut GrantRow, row: RefusedRow) -> bool {
        let fits = self.fits(MOST, &[&row.node, &row.config, &row.rule, &row.reason], 0);
        match grant.refused.last_mut() {
            _ if fits => grant.refused.push(row),
            Some(into) if into.reason == OTHER && into.node.is_empty() => {
                into.count = into.count.saturating_add(row.count);
                (into.first, into.last) = (into.first.min(row.first), into.last.max(row.last));
            }
            _ => {
                let RefusedRow { count, first, last, .. } = row;
                grant.refused.push(RefusedRow {
                    reason: OTHER.to_owned(),
                    count,
                    first,
                    last,
                    ..RefusedRow::default()
                });
            }
        }
        fits
    }

    /// Adds a row, or leaves it out.
    pub fn seen(&mut self, grant: &mut GrantRow, row: SeenRow) {
        if self.fits(MOST, &[&row.value], 0) {
            grant.seen.push(row);
        }
    }

    fn fits(&mut self, most: usize, texts: &[&String], more: usize) -> bool {
        let text = texts.iter().map(|text| text.len()).fold(more, usize::saturating_add);
        let bytes = self.bytes.saturating_add(text).saturating_add(ROW);
        let fits = bytes <= most;
        if fits {
            self.bytes = bytes;
        }
        fits
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_added_up() {
        let (mut bounded, mut grant) = (Bounded::default(), GrantRow::default());
        let text = "x".repeat(2_048);
        let permitted = |count, break_glass| PermittedRow {
            captures: vec![text.clone(); 64],
            count,
            break_glass,
            ..PermittedRow::default()
        };
        let all = 200;
        let own = (0..all).filter(|_| bounded.permitted(&mut grant, permitted(2, 0))).count();
        assert!((100..all).contains(&own) && bounded.bytes() <= MOST, "{own}");
        assert_eq!((grant.permitted.len(), grant.other), (own, u64::try_from(all - own).unwrap() * 2));
        assert!(bounded.permitted(&mut grant, permitted(1, 1)), "by break-glass");
        let refused =
            |count, first| RefusedRow { reason: text.clone(), count, first, last: first, ..RefusedRow::default() };
        assert!(!bounded.refused(&mut grant, refused(3, 7)) && !bounded.refused(&mut grant, refused(4, 5)));
        let other = RefusedRow { reason: OTHER.to_owned(), count: 7, first: 5, last: 7, ..RefusedRow::default() };
        assert_eq!(grant.refused, [other]);
        bounded.seen(&mut grant, SeenRow { value: text.clone(), ..SeenRow::default() });
        assert_eq!(grant.seen, []);
    }
}

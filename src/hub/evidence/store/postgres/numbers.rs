//! The numbers of the batches of a VM that are stored, in a column `int8multirange`.

use crate::store::model::StoreError;
use std::fmt;

/// Numbers, as ranges from one number up to another that do not touch each other.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Numbers(Vec<(i64, i64)>);

impl Numbers {
    /// Reads the text of a column, such as `{[1,4),[7,8)}`.
    pub(super) fn parse(text: &str) -> Result<Numbers, StoreError> {
        let damaged = || StoreError::Damaged(format!("the numbers of batches `{text}`"));
        let inner = text.strip_prefix('{').and_then(|text| text.strip_suffix('}')).ok_or_else(damaged)?;
        let mut ranges = Vec::new();
        for range in inner.split_terminator(')') {
            let range = range.trim_start_matches(',').strip_prefix('[').ok_or_else(damaged)?;
            let (first, end) = range.split_once(',').ok_or_else(damaged)?;
            let first = first.parse().map_err(|_| damaged())?;
            let end: i64 = end.parse().map_err(|_| damaged())?;
            ranges.push((first, end.saturating_sub(1)));
        }
        Ok(Numbers(ranges))
    }

    /// Adds a number. Returns whether it is new.
    pub(super) fn add(&mut self, number: u64) -> bool {
        // The column has the number after the last one.
        let number = i64::try_from(number).unwrap_or(i64::MAX).min(i64::MAX.saturating_sub(1));
        let at = self.0.partition_point(|(_, last)| *last < number);
        if self.0.get(at).is_some_and(|(first, _)| *first <= number) {
            return false;
        }
        self.0.insert(at, (number, number));
        self.join(at);
        if let Some(before) = at.checked_sub(1) {
            self.join(before);
        }
        true
    }

    /// Makes one range of this one and the next, where nothing is between them.
    fn join(&mut self, at: usize) {
        let next = at.saturating_add(1);
        let (Some((_, last)), Some((first, end))) = (self.0.get(at).copied(), self.0.get(next).copied()) else {
            return;
        };
        if last.saturating_add(1) == first {
            self.0.remove(next);
            if let Some(range) = self.0.get_mut(at) {
                range.1 = end;
            }
        }
    }
}

impl fmt::Display for Numbers {
    /// As the column is written: `{[1,3],[7,7]}`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("{")?;
        for (at, (first, last)) in self.0.iter().enumerate() {
            write!(f, "{}[{first},{last}]", if at > 0 { "," } else { "" })?;
        }
        f.write_str("}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn numbers_are_known_in_any_order() {
        let mut numbers = Numbers::default();
        let mut known = BTreeSet::new();
        let mut drawn = 1u64;
        for _ in 0..2_000 {
            drawn = drawn.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let number = (drawn >> 40) % 300;
            assert_eq!(numbers.add(number), known.insert(number), "{number} in {numbers}");
            let expected: i64 = known.len().try_into().unwrap();
            assert_eq!(numbers.0.iter().map(|(first, last)| last - first + 1).sum::<i64>(), expected);
            assert!(numbers.0.windows(2).all(|pair| pair[0].1 + 1 < pair[1].0), "{numbers}");
        }
        assert!(known.len() > 290);
    }

    #[test]
    fn they_are_read_as_the_database_writes_them() {
        let mut numbers = Numbers::parse("{[1,4),[7,8)}").unwrap();
        assert_eq!(numbers.to_string(), "{[1,3],[7,7]}");
        assert!(!numbers.add(2) && numbers.add(5) && numbers.add(4) && numbers.add(6));
        assert_eq!(numbers.to_string(), "{[1,7]}");
        assert!(numbers.add(u64::MAX) && !numbers.add(u64::MAX));
        assert_eq!(Numbers::parse("{}"), Ok(Numbers::default()));
        assert!(matches!(Numbers::parse("{[1,"), Err(StoreError::Damaged(_))));
    }
}

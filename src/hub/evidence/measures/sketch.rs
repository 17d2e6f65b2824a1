//! Medians in bounded memory: exact up to [`EXACT`] values, and within one percent beyond.

use std::collections::BTreeMap;

/// Up to so many values the median is exact.
pub const EXACT: usize = 100;

/// Two values that differ by less than this factor may be taken for one: the median is within one percent.
const STEP: f64 = 1.02;

/// Values that are not negative, of which the median is asked.
#[derive(Debug, Clone, PartialEq)]
pub enum Sketch {
    /// The values.
    Exact(Vec<f64>),
    /// How many values lie in each step on a logarithmic scale; zeros are in the lowest step.
    Steps(BTreeMap<i32, u64>),
}

/// A value, and its step. Several sketches take the same value, and the step is a logarithm.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sample {
    value: f64,
    step: i32,
}

impl Sample {
    /// Of a value. One that is negative or no number counts as 0.
    pub fn new(value: f64) -> Sample {
        let value = if value > 0.0 { value } else { 0.0 };
        // A millisecond is the finest that is measured.
        let step = if value < 0.000_5 { i32::MIN } else { floor(value.ln() / STEP.ln()) };
        Sample { value, step }
    }
}

impl Default for Sketch {
    fn default() -> Sketch {
        Sketch::Exact(Vec::new())
    }
}

impl Sketch {
    /// Adds a value.
    pub fn add(&mut self, sample: Sample) {
        match self {
            Sketch::Exact(values) if values.len() < EXACT => values.push(sample.value),
            Sketch::Exact(values) => {
                let mut steps = BTreeMap::new();
                values.iter().for_each(|value| count(&mut steps, Sample::new(*value)));
                count(&mut steps, sample);
                *self = Sketch::Steps(steps);
            }
            Sketch::Steps(steps) => count(steps, sample),
        }
    }

    /// Adds the values of another sketch.
    pub fn merge(&mut self, other: Sketch) {
        match other {
            Sketch::Exact(values) => values.into_iter().for_each(|value| self.add(Sample::new(value))),
            Sketch::Steps(mut steps) => {
                let ours = match std::mem::take(self) {
                    Sketch::Steps(ours) => ours,
                    Sketch::Exact(values) => {
                        values.into_iter().for_each(|value| count(&mut steps, Sample::new(value)));
                        BTreeMap::new()
                    }
                };
                for (step, number) in ours {
                    let sum = steps.entry(step).or_default();
                    *sum = sum.saturating_add(number);
                }
                *self = Sketch::Steps(steps);
            }
        }
    }

    /// The median; of an even number of values the mean of the two in the middle, or the lower one beyond [`EXACT`]
    /// values. `None` without values.
    pub fn median(&self) -> Option<f64> {
        match self {
            Sketch::Exact(values) => median(values.clone()),
            Sketch::Steps(steps) => {
                let all = steps.values().fold(0, |sum: u64, count| sum.saturating_add(*count));
                let middle = all.saturating_add(1).checked_div(2)?;
                let mut passed = 0_u64;
                let at = steps.iter().find_map(|(step, count)| {
                    passed = passed.saturating_add(*count);
                    (passed >= middle).then_some(*step)
                })?;
                Some(if at == i32::MIN { 0.0 } else { STEP.powf(f64::from(at) + 0.5) })
            }
        }
    }
}

/// The exact median of `values`; of an even number of them the mean of the two in the middle.
pub fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let half = values.len().checked_div(2)?;
    let upper = *values.get(half)?;
    let lower = if values.len() & 1 == 0 { *values.get(half.checked_sub(1)?)? } else { upper };
    Some(lower.midpoint(upper))
}

fn count(steps: &mut BTreeMap<i32, u64>, sample: Sample) {
    let count = steps.entry(sample.step).or_default();
    *count = count.saturating_add(1);
}

fn floor(number: f64) -> i32 {
    #[expect(clippy::as_conversions, reason = "the logarithm of a number of seconds lies far within; it saturates")]
    let whole = number.floor() as i32;
    whole
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn few_values_are_exact() {
        let mut sketch = Sketch::default();
        assert_eq!(sketch.median(), None);
        for value in [3.0, -1.0, 10.0, f64::NAN] {
            sketch.add(Sample::new(value));
        }
        assert_eq!(sketch.median(), Some(1.5));
        sketch.add(Sample::new(4.0));
        assert_eq!(sketch.median(), Some(3.0));
    }

    proptest! {
        #[test]
        fn many_values_are_within_one_percent(values in prop::collection::vec(0.001..1e7_f64, 101..400)) {
            let mut sketch = Sketch::default();
            values.iter().for_each(|value| sketch.add(Sample::new(*value)));
            let mut sorted = values.clone();
            sorted.sort_by(f64::total_cmp);
            let exact = sorted[(sorted.len() - 1) / 2];
            let found = sketch.median().unwrap();
            prop_assert!((found / exact - 1.0).abs() <= 0.011, "{found} for {exact}");
            let (mut one, mut other) = (Sketch::default(), Sketch::default());
            values.iter().take(60).for_each(|value| one.add(Sample::new(*value)));
            values.iter().skip(60).for_each(|value| other.add(Sample::new(*value)));
            one.merge(other);
            let merged = one.median().unwrap();
            prop_assert!((merged / exact - 1.0).abs() <= 0.011, "{merged} for {exact}");
        }
    }
}

//! Which part of all cases something is done in.

/// How often something is done: a part of all cases, from 0 to 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// In how many of 2^32 cases.
    of_2_32: u64,
}

impl Rate {
    /// In no case.
    pub const NEVER: Rate = Rate { of_2_32: 0 };

    /// In every case.
    pub const ALWAYS: Rate = Rate { of_2_32: 1 << 32 };

    /// The rate of `part`; `None` if that is not from 0 to 1.
    pub fn new(part: f64) -> Option<Rate> {
        const WHOLE: f64 = 4_294_967_296.0;
        if !(0.0..=1.0).contains(&part) {
            return None;
        }
        #[expect(clippy::as_conversions, reason = "from 0 to 2^32, checked above")]
        let of_2_32 = (part * WHOLE).ceil() as u64;
        Some(Rate { of_2_32 })
    }

    /// Whether to do it now. `draw` returns a random number, each with the same probability. It is only called if the rate
    /// is neither 0 nor 1. Without a number it is done.
    pub fn hits(self, draw: impl FnOnce() -> Option<u32>) -> bool {
        match self {
            Rate::NEVER => false,
            Rate::ALWAYS => true,
            Rate { of_2_32 } => draw().is_none_or(|number| u64::from(number) < of_2_32),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_a_part_of_all_numbers() {
        let never_asked = || -> Option<u32> { panic!("no number is needed") };
        assert!(!Rate::NEVER.hits(never_asked));
        assert!(Rate::new(1.0).unwrap().hits(never_asked));
        let half = Rate::new(0.5).unwrap();
        assert!(half.hits(|| Some((1 << 31) - 1)));
        assert!(!half.hits(|| Some(1 << 31)));
        assert!(half.hits(|| None), "without a random number there is a record");
        // The smallest rate above 0 is not 0.
        assert!(Rate::new(f64::MIN_POSITIVE).unwrap().hits(|| Some(0)));
        for wrong in [-0.1, 1.1, f64::NAN, f64::INFINITY] {
            assert_eq!(Rate::new(wrong), None, "{wrong}");
        }
    }
}

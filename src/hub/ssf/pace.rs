//! How long to wait before a step is tried again.

use std::time::Duration;

const FIRST: Duration = Duration::from_millis(500);
const LONGEST: Duration = Duration::from_secs(60);

/// A transmitter that wants to be left alone is, for at most so long.
const LONGEST_ASKED: Duration = Duration::from_secs(15 * 60);

/// Pauses that grow with each failure.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    failures: u32,
}

impl Backoff {
    /// It went well.
    pub(super) fn reset(&mut self) {
        self.failures = 0;
    }

    /// How often it failed since it last went well.
    pub(super) fn failures(&self) -> u32 {
        self.failures
    }

    /// The pause after one more failure: between half of the full pause and all of it, so that hubs do not come
    /// together, and at least `retry_after` seconds.
    pub(super) fn next(&mut self, retry_after: Option<u64>) -> Duration {
        let full = FIRST.saturating_mul(1u32.checked_shl(self.failures).unwrap_or(u32::MAX)).min(LONGEST);
        self.failures = self.failures.saturating_add(1);
        let asked = retry_after.map(Duration::from_secs).unwrap_or_default().min(LONGEST_ASKED);
        jittered(full).max(asked)
    }
}

/// Between half of `full` and all of it.
pub(super) fn jittered(full: Duration) -> Duration {
    let mut byte = [128];
    // Without randomness all wait equally long.
    let _ = getrandom::fill(&mut byte);
    let part = byte.first().map_or(1.0, |byte| 0.5 + f32::from(*byte) / 510.0);
    full.mul_f32(part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_are_bounded() {
        let mut backoff = Backoff::default();
        for full in [500, 1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 60_000, 60_000] {
            let pause = backoff.next(None).as_millis();
            assert!((full / 2..=full).contains(&pause), "{pause} of {full}");
        }
        for _ in 0..100 {
            assert!(backoff.next(None) <= LONGEST);
        }
        assert!(backoff.next(Some(120)) == Duration::from_secs(120));
        assert_eq!(backoff.next(Some(1_000_000)), LONGEST_ASKED);
        backoff.reset();
        assert!(backoff.next(None) <= FIRST);
    }
}

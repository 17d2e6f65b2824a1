//! Failures that repeat: one line when they begin, one a minute while they go on, and one when they have ended.

use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// A failure that goes on is logged again after this long.
const AGAIN: Duration = Duration::from_secs(60);

/// What is tried again and again, and whether the log says that it fails.
#[derive(Debug)]
pub struct Repeated {
    /// What fails, in words.
    what: &'static str,
    state: Mutex<State>,
}

#[derive(Debug, Clone, Copy, Default)]
struct State {
    /// When the log was last told of a failure.
    told: Option<Instant>,
    /// Failures since then.
    untold: u64,
    /// Failures since the last end that the log was told of.
    all: u64,
    /// Whether the log was told of a failure and not of its end.
    is_open: bool,
}

impl Repeated {
    /// Nothing has failed yet. `what` says what fails: "the tokens cannot be read".
    pub const fn new(what: &'static str) -> Repeated {
        let state = State { told: None, untold: 0, all: 0, is_open: false };
        Repeated { what, state: Mutex::new(state) }
    }

    /// Notes how it went, and logs that where it is news. `about` says which one it was, where there are several. Returns
    /// whether it went well.
    pub fn note<T, E: fmt::Display>(&self, about: &str, done: &Result<T, E>) -> bool {
        match done {
            Ok(_) => self.went_well(about),
            Err(error) => self.failed(about, error),
        }
        done.is_ok()
    }

    /// Notes a success, as [`Repeated::note`].
    pub fn went_well(&self, about: &str) {
        if let Some(times) = self.count_success() {
            tracing::info!(about, times, "no more: {}", self.what);
        }
    }

    /// Notes a failure, as [`Repeated::note`].
    pub fn failed(&self, about: &str, error: impl fmt::Display) {
        if let Some(times) = self.count_failure(Instant::now()) {
            tracing::error!(about, %error, times, "{}", self.what);
        }
    }

    /// Notes a failure; where the log is to be told, how many there were since it was last told.
    fn count_failure(&self, now: Instant) -> Option<u64> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.untold = state.untold.saturating_add(1);
        state.all = state.all.saturating_add(1);
        // What fails again soon after it had ended is the same failure.
        if state.told.is_some_and(|told| now.saturating_duration_since(told) < AGAIN) {
            return None;
        }
        (state.told, state.is_open) = (Some(now), true);
        Some(std::mem::take(&mut state.untold))
    }

    /// Notes a success; where the log is to be told, how many failures there were.
    fn count_success(&self) -> Option<u64> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if !std::mem::take(&mut state.is_open) {
            return None;
        }
        state.untold = 0;
        Some(std::mem::take(&mut state.all))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_hears_of_the_beginning_of_each_minute_and_of_the_end() {
        let (repeated, begin) = (Repeated::new("it fails"), Instant::now());
        let at = |seconds: u64| begin + Duration::from_secs(seconds);
        assert_eq!(repeated.count_success(), None, "nothing had failed");
        assert_eq!(repeated.count_failure(at(0)), Some(1));
        assert!((1..60).all(|second| repeated.count_failure(at(second)).is_none()));
        assert_eq!(repeated.count_failure(at(60)), Some(60));
        assert_eq!((repeated.count_success(), repeated.count_success()), (Some(61), None));
    }

    #[test]
    fn what_fails_every_other_time_is_no_news_each_time() {
        let (repeated, begin) = (Repeated::new("it fails"), Instant::now());
        let mut lines = 0;
        for second in 0..120 {
            lines += usize::from(repeated.count_failure(begin + Duration::from_secs(second)).is_some());
            lines += usize::from(repeated.count_success().is_some());
        }
        assert_eq!(lines, 4, "a beginning and an end in each minute");
    }
}

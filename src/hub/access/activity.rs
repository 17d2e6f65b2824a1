//! Whether a connection is used by somebody who is known.
//!
//! There is room for so many connections. Whoever opens one and says nothing, or nothing that authenticates, must not keep
//! it: proxies could not connect any more, and would close themselves.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::{Instant, sleep_until};

/// A connection must be authenticated by a request in this time.
const STRANGE: Duration = Duration::from_secs(20);

/// From the end of one request that was authenticated to the begin of the next.
const IDLE: Duration = Duration::from_secs(150);

/// The use of one connection.
#[derive(Debug)]
pub struct Activity(Mutex<State>);

#[derive(Debug)]
struct State {
    /// Authenticated requests that are being answered.
    requests: u32,
    /// When the connection ends if no request begins before.
    ends: Instant,
}

/// An authenticated request that is being answered.
#[derive(Debug)]
pub struct Busy<'a>(&'a Activity);

impl Default for Activity {
    fn default() -> Activity {
        Activity(Mutex::new(State { requests: 0, ends: after(STRANGE) }))
    }
}

impl Activity {
    /// An authenticated request begins; it ends when the result is dropped.
    pub fn begin(&self) -> Busy<'_> {
        let mut state = self.lock();
        state.requests = state.requests.saturating_add(1);
        Busy(self)
    }

    /// Returns when the connection has not been used for too long.
    pub async fn unused(&self) {
        while let Some(ends) = self.next() {
            sleep_until(ends).await;
        }
    }

    /// When to look again; `None`: it is not used.
    fn next(&self) -> Option<Instant> {
        let (state, now) = (self.lock(), Instant::now());
        match (state.requests, state.ends > now) {
            (0, true) => Some(state.ends),
            (0, false) => None,
            _ => Some(after(IDLE)),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.requests = state.requests.saturating_sub(1);
        state.ends = after(IDLE);
    }
}

fn after(span: Duration) -> Instant {
    let now = Instant::now();
    now.checked_add(span).unwrap_or(now)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::{advance, timeout};

    #[tokio::test(start_paused = true)]
    async fn a_stranger_has_seconds_and_whoever_is_known_may_pause() {
        let began = Instant::now();
        Activity::default().unused().await;
        assert_eq!(began.elapsed().as_secs(), STRANGE.as_secs());

        let activity = Activity::default();
        let (one, other) = (activity.begin(), activity.begin());
        assert!(timeout(Duration::from_secs(3_600), activity.unused()).await.is_err(), "a request runs");
        drop(one);
        assert!(timeout(Duration::from_secs(3_600), activity.unused()).await.is_err(), "another request runs");
        drop(other);
        advance(Duration::from_secs(100)).await;
        drop(activity.begin());
        let began = Instant::now();
        activity.unused().await;
        assert_eq!(began.elapsed().as_secs(), IDLE.as_secs());
    }
}

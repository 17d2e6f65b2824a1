//! Feeds send their pages in turn, so that a flood in one feed delays the others by a bounded time.

use crate::feed::pace::{MAX_WAIT, Meter, Pace};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// The shortest time between two rounds of pages of a feed.
pub const MIN_PAUSE: Duration = Duration::from_millis(2);

/// For so long after a feed has woken its followers no other feed wakes its own: they have the machine for themselves.
pub const SLICE: Duration = Duration::from_millis(50);

/// The turns of all feeds of a hub.
#[derive(Debug, Default)]
pub struct Turns {
    /// Whoever waits gets it in the order in which they came.
    turn: tokio::sync::Mutex<()>,
    /// Feeds that have something to send, or have just sent it.
    busy: AtomicU32,
}

impl Turns {
    /// One round of a feed: waits until its rounds before have been paid for, has `publish` wake its followers, and returns
    /// when the next round may begin. Each other feed that is busy delays it by [`SLICE`] at most; all of them together take
    /// half of the CPU.
    pub async fn round(&self, pace: &mut Pace, meter: &Arc<Meter>, publish: impl FnOnce()) {
        let _busy = Busy::begin(&self.busy);
        let latest = Instant::now().checked_add(MAX_WAIT);
        loop {
            // What the rounds before cost is known only as they are served, so this looks again.
            let now = Instant::now();
            let left = latest.map_or(Duration::ZERO, |latest| latest.saturating_duration_since(now));
            let wait = pace.wait(meter, now.into_std(), self.sharing()).min(left);
            if wait.is_zero() {
                break;
            }
            sleep(wait).await;
        }
        let _turn = self.turn.lock().await;
        publish();
        sleep(MIN_PAUSE).await;
        // What the round has cost so far.
        let slice = pace.wait(meter, Instant::now().into_std(), self.sharing());
        sleep(slice.min(SLICE.saturating_sub(MIN_PAUSE))).await;
    }

    fn sharing(&self) -> u32 {
        self.busy.load(Ordering::Relaxed)
    }
}

struct Busy<'t>(&'t AtomicU32);

impl Busy<'_> {
    fn begin(count: &AtomicU32) -> Busy<'_> {
        count.fetch_add(1, Ordering::Relaxed);
        Busy(count)
    }
}

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_flood_in_other_feeds_delays_a_page_by_a_bounded_time() {
        let turns = Arc::new(Turns::default());
        for _ in 0..9 {
            let turns = turns.clone();
            tokio::spawn(async move {
                let (mut pace, meter) = (Pace::new(2, None, Instant::now().into_std()), Arc::new(Meter::default()));
                loop {
                    let flood = || {
                        meter.add(Duration::from_secs(9));
                    };
                    turns.round(&mut pace, &meter, flood).await;
                }
            });
        }
        let (mut pace, meter) = (Pace::new(2, None, Instant::now().into_std()), Arc::new(Meter::default()));
        let mut longest = Duration::ZERO;
        for at in 0..40 {
            sleep(Duration::from_millis(at * 37)).await;
            let begun = Instant::now();
            turns.round(&mut pace, &meter, || longest = longest.max(begun.elapsed())).await;
        }
        assert!(longest <= SLICE * 9, "{longest:?}");
        assert!(longest > SLICE, "the others have turns: {longest:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn alone_a_feed_waits_for_nobody() {
        let (turns, mut pace, meter) =
            (Turns::default(), Pace::new(2, None, Instant::now().into_std()), Arc::new(Meter::default()));
        let begun = Instant::now();
        for _ in 0..100 {
            turns.round(&mut pace, &meter, || {}).await;
        }
        assert!(begun.elapsed() <= MIN_PAUSE * 110, "{:?}", begun.elapsed());
    }
}

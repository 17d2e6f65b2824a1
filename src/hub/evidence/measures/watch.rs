//! Looks at the grants of each feed from time to time, for the metrics.

use crate::evidence::measures::look::look;
use crate::evidence::service::Evidence;
use crate::repeated::Repeated;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How long after the start the first look is, and after this long it is tried again if the store was not open.
const FIRST: Duration = Duration::from_secs(10);

/// Between two looks, at least.
const PERIOD: Duration = Duration::from_secs(300);

/// The pause is at least so many times as long as the looks took: they take about a twentieth of a core.
const PAUSES: u32 = 20;

/// But not longer, so that the figures are of some use.
const LONGEST: Duration = Duration::from_secs(1_800);

/// The thread that looks. Its stop ends a look that is under way.
#[derive(Debug)]
pub struct Watch {
    stop: Sender<()>,
    stopping: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Watch {
    /// Starts it for `feeds`; `None` where no evidence is kept.
    pub fn start(evidence: &Arc<Evidence>, feeds: Vec<String>) -> io::Result<Option<Watch>> {
        if !evidence.is_on() {
            return Ok(None);
        }
        let (stop, stopped) = channel();
        let stopping = Arc::new(AtomicBool::new(false));
        let (evidence, ends) = (Arc::clone(evidence), Arc::clone(&stopping));
        let thread = std::thread::Builder::new().name("evidence-watch".to_owned());
        let thread = thread.spawn(move || run(&evidence, &feeds, &stopped, &ends))?;
        Ok(Some(Watch { stop, stopping, thread }))
    }

    /// Ends it. Blocks for a moment.
    pub fn stop(self) {
        self.stopping.store(true, Ordering::Relaxed);
        // It may have ended.
        _ = self.stop.send(());
        if self.thread.join().is_err() {
            tracing::error!("the looks at the evidence broke off");
        }
    }
}

fn run(evidence: &Evidence, feeds: &[String], stopped: &Receiver<()>, ends: &AtomicBool) {
    let failures = Repeated::new("the evidence cannot be looked at for the metrics; it is tried again");
    let mut pause = FIRST;
    while let Err(RecvTimeoutError::Timeout) = stopped.recv_timeout(pause) {
        let Some(store) = evidence.store() else { continue };
        let begun = Instant::now();
        for feed in feeds {
            let now = evidence.now();
            match look(&*store, feed, now, &|| !ends.load(Ordering::Relaxed)) {
                Ok(Some(look)) => {
                    failures.went_well(feed);
                    evidence.set_look(feed, look, now);
                }
                Ok(None) => return,
                Err(error) => failures.failed(feed, &error),
            }
        }
        pause = pause_after(begun.elapsed());
    }
}

/// The pause after looks that took so long.
fn pause_after(took: Duration) -> Duration {
    took.saturating_mul(PAUSES).clamp(PERIOD, LONGEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_looks_are_made_less_often() {
        let seconds = |took| pause_after(Duration::from_secs(took)).as_secs();
        assert_eq!([0, 15, 16, 60, 90, 10_000].map(seconds), [300, 300, 320, 1_200, 1_800, 1_800]);
    }
}

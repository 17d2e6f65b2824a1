//! Waits for a future on the thread that calls, for a limited time.
//!
//! The calls of a store block, and come from threads of tokio as well as from others, so neither `Runtime::block_on`, which
//! panics inside of a runtime, nor a timer of one can be used.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

/// The time was over before the future was ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimedOut;

/// Runs `future` on this thread, for at most `limit`. It must not need the runtime of this thread.
pub fn wait<T>(future: impl Future<Output = T>, limit: Duration) -> Result<T, TimedOut> {
    let begin = Instant::now();
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut context = Context::from_waker(&waker);
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(done) = future.as_mut().poll(&mut context) {
            return Ok(done);
        }
        let left = limit.saturating_sub(begin.elapsed());
        if left.is_zero() {
            return Err(TimedOut);
        }
        // It also returns at once where the future was woken before, and now and then for no reason.
        thread::park_timeout(left);
    }
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.0.unpark();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::{pending, ready};
    use tokio::sync::oneshot;

    #[test]
    fn a_future_is_waited_for_and_not_for_ever() {
        assert_eq!(wait(ready(3), Duration::ZERO), Ok(3));
        assert_eq!(wait(pending::<()>(), Duration::from_millis(20)), Err(TimedOut));
        let (send, receive) = oneshot::channel();
        thread::spawn(move || {
            thread::sleep(Duration::from_millis(20));
            send.send(5)
        });
        assert_eq!(wait(receive, Duration::from_secs(10)), Ok(Ok(5)));
    }

    #[tokio::test]
    async fn a_thread_of_a_runtime_may_wait() {
        assert_eq!(wait(ready(3), Duration::from_secs(1)), Ok(3));
    }
}

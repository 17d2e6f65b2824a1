//! What waits for the writer of evidence: so many bytes, and of them a share for each caller, so that one that sends much
//! does not keep the others out.

use std::collections::{HashMap, VecDeque};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// A queue of things that have a size and an owner.
#[derive(Debug)]
pub struct Queue<T> {
    /// So many bytes may wait or be written.
    max: usize,
    state: Mutex<State<T>>,
    /// Told when something comes, and when the queue is closed.
    news: Condvar,
}

#[derive(Debug)]
struct State<T> {
    waiting: VecDeque<Item<T>>,
    used: usize,
    by_owner: HashMap<String, usize>,
    is_closed: bool,
}

/// Something with its share of the queue. The share is free again after [`Queue::done`].
#[derive(Debug)]
pub struct Item<T> {
    /// What it is.
    pub what: T,
    owner: String,
    bytes: usize,
}

/// Why something is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoRoom {
    /// Too many bytes wait already.
    Full,
    /// Too many bytes of this owner wait already.
    Share,
    /// The queue is closed.
    Closed,
}

impl<T> Queue<T> {
    /// An empty queue that takes `max` bytes.
    pub fn new(max: usize) -> Queue<T> {
        let state = State { waiting: VecDeque::new(), used: 0, by_owner: HashMap::new(), is_closed: false };
        Queue { max, state: Mutex::new(state), news: Condvar::new() }
    }

    /// Takes `what`, which has `bytes` and is of `owner`. An owner may hold a quarter of the queue, and more only while a
    /// quarter is left free.
    pub fn push(&self, owner: &str, bytes: usize, what: T) -> Result<(), NoRoom> {
        let quarter = self.max / 4;
        let mut state = self.state();
        let used = state.used.saturating_add(bytes);
        let own = state.by_owner.get(owner).copied().unwrap_or(0).saturating_add(bytes);
        if state.is_closed {
            return Err(NoRoom::Closed);
        }
        if used > self.max {
            return Err(NoRoom::Full);
        }
        if own > quarter && used > self.max.saturating_sub(quarter) {
            return Err(NoRoom::Share);
        }
        state.used = used;
        state.by_owner.insert(owner.to_owned(), own);
        state.waiting.push_back(Item { what, owner: owner.to_owned(), bytes });
        drop(state);
        self.news.notify_one();
        Ok(())
    }

    /// Waits until something is there, then for `gather` or until `most` bytes are, and takes that. Empty: nothing came for
    /// `patience`. `None`: the queue is closed and empty.
    pub fn take(&self, patience: Duration, gather: Duration, most: usize) -> Option<Vec<Item<T>>> {
        let mut state = self.wait(self.state(), patience, |state| state.waiting.is_empty());
        if state.waiting.is_empty() {
            return (!state.is_closed).then(Vec::new);
        }
        state = self.wait(state, gather, |state| state.used < most);
        let mut taken = Vec::new();
        let mut bytes = 0usize;
        while let Some(item) = state.waiting.pop_front() {
            bytes = bytes.saturating_add(item.bytes);
            taken.push(item);
            if bytes >= most {
                break;
            }
        }
        Some(taken)
    }

    /// The shares of `items` are free again.
    pub fn done(&self, items: impl IntoIterator<Item = Item<T>>) {
        let mut state = self.state();
        for Item { owner, bytes, .. } in items {
            state.used = state.used.saturating_sub(bytes);
            let left = state.by_owner.get(&owner).copied().unwrap_or(0).saturating_sub(bytes);
            match left {
                0 => _ = state.by_owner.remove(&owner),
                _ => _ = state.by_owner.insert(owner, left),
            }
        }
    }

    /// Takes nothing more. What waits can still be taken out.
    pub fn close(&self) {
        self.state().is_closed = true;
        self.news.notify_all();
    }

    /// How many bytes wait or are being written.
    pub fn used(&self) -> usize {
        self.state().used
    }

    /// Waits for `time` while `go_on` says so and the queue is open.
    fn wait<'s>(
        &self,
        mut state: MutexGuard<'s, State<T>>,
        time: Duration,
        go_on: impl Fn(&State<T>) -> bool,
    ) -> MutexGuard<'s, State<T>> {
        let begun = Instant::now();
        while go_on(&state) && !state.is_closed {
            let left = time.saturating_sub(begun.elapsed());
            if left.is_zero() {
                break;
            }
            (state, _) = self.news.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner);
        }
        state
    }

    fn state(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONE: Duration = Duration::ZERO;

    #[test]
    fn one_owner_leaves_room_for_others() {
        let queue = Queue::new(100);
        let fill = |owner: &str| (0..200).take_while(|n| queue.push(owner, 1, *n).is_ok()).count();
        assert_eq!(fill("mesh"), 75, "a quarter stays free");
        assert_eq!(queue.push("mesh", 1, 0), Err(NoRoom::Share));
        assert_eq!(fill("edge"), 25, "a quarter of the queue is for whoever comes");
        assert_eq!(queue.push("other", 1, 0), Err(NoRoom::Full));
        let taken = queue.take(NONE, NONE, usize::MAX).unwrap();
        assert_eq!((taken.len(), queue.used()), (100, 100), "what is being written is still in memory");
        queue.done(taken);
        assert_eq!((queue.used(), fill("edge")), (0, 75));
    }

    #[test]
    fn what_is_taken_at_once_is_bounded_and_in_order() {
        let queue = Queue::new(100);
        (0..10).for_each(|n| queue.push("mesh", 5, n).unwrap());
        let numbers =
            |most| queue.take(NONE, NONE, most).unwrap().into_iter().map(|item| item.what).collect::<Vec<_>>();
        assert_eq!(numbers(12), [0, 1, 2]);
        assert_eq!(numbers(usize::MAX), [3, 4, 5, 6, 7, 8, 9]);
        assert_eq!(numbers(1), [0; 0]);
    }

    #[test]
    fn a_closed_queue_hands_out_what_it_has_and_takes_nothing() {
        let queue = Queue::new(100);
        queue.push("mesh", 5, 1).unwrap();
        queue.close();
        assert_eq!(queue.push("mesh", 5, 2), Err(NoRoom::Closed));
        let hour = Duration::from_secs(3_600);
        assert_eq!(queue.take(hour, hour, 100).map(|taken| taken.len()), Some(1));
        assert!(queue.take(hour, hour, 100).is_none());
    }

    #[test]
    fn it_waits_for_more_to_come() {
        let queue = std::sync::Arc::new(Queue::new(100));
        let other = std::sync::Arc::clone(&queue);
        let late = std::thread::spawn(move || {
            other.push("mesh", 1, 1).unwrap();
            std::thread::sleep(Duration::from_millis(50));
            other.push("mesh", 1, 2).unwrap();
        });
        let taken = queue.take(Duration::from_secs(9), Duration::from_secs(9), 2).unwrap();
        assert_eq!(taken.len(), 2);
        late.join().unwrap();
    }
}

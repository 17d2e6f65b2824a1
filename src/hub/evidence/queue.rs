//! What waits for the writer of evidence: so many bytes, and of them a share for each caller, so that one that sends much
//! does not keep the others out.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// A queue of things that have a size and an owner.
#[derive(Debug)]
pub struct Queue<T> {
    /// So many bytes may be there: read, waiting, or being written.
    max: usize,
    state: Mutex<State<T>>,
    /// Told when something comes, and when the queue is closed.
    news: Condvar,
}

#[derive(Debug)]
struct State<T> {
    waiting: VecDeque<Item<T>>,
    waiting_bytes: usize,
    used: usize,
    by_owner: HashMap<String, usize>,
    is_closed: bool,
}

/// Something that waits, with its share of the queue.
#[derive(Debug)]
pub struct Item<T> {
    /// What it is.
    pub what: T,
    share: Share<T>,
}

/// A part of the queue that is taken, and free again when this is dropped.
#[derive(Debug)]
pub struct Share<T> {
    queue: Arc<Queue<T>>,
    owner: String,
    bytes: usize,
}

/// Why there is no room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoRoom {
    /// Too many bytes are there already.
    Full,
    /// Too many bytes of this owner are there already.
    Share,
    /// The queue is closed.
    Closed,
}

impl<T> Queue<T> {
    /// An empty queue that has room for `max` bytes.
    pub fn new(max: usize) -> Arc<Queue<T>> {
        let (waiting, by_owner) = (VecDeque::new(), HashMap::new());
        let state = State { waiting, waiting_bytes: 0, used: 0, by_owner, is_closed: false };
        Arc::new(Queue { max, state: Mutex::new(state), news: Condvar::new() })
    }

    /// Room for `bytes` of `owner`. An owner may hold a quarter of the queue, and more only while a quarter is left free.
    pub fn reserve(self: &Arc<Self>, owner: &str, bytes: usize) -> Result<Share<T>, NoRoom> {
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
        Ok(Share { queue: Arc::clone(self), owner: owner.to_owned(), bytes })
    }

    /// Lets `what` wait in the room of `share`. `false`: the queue was closed meanwhile.
    pub fn push(&self, share: Share<T>, what: T) -> bool {
        let mut state = self.state();
        let is_open = !state.is_closed;
        if is_open {
            state.waiting_bytes = state.waiting_bytes.saturating_add(share.bytes);
            state.waiting.push_back(Item { what, share });
        }
        // A share that is dropped needs the lock.
        drop(state);
        self.news.notify_one();
        is_open
    }

    /// Waits until something is there, then for `gather` or until `most` bytes are, and takes that. Empty: nothing came for
    /// `patience`. `None`: the queue is closed and empty.
    pub fn take(&self, patience: Duration, gather: Duration, most: usize) -> Option<Vec<Item<T>>> {
        let mut state = self.wait(self.state(), patience, |state| state.waiting.is_empty());
        if state.waiting.is_empty() {
            return (!state.is_closed).then(Vec::new);
        }
        state = self.wait(state, gather, |state| state.waiting_bytes < most);
        let mut taken = Vec::new();
        let mut bytes = 0usize;
        while bytes < most.max(1) {
            let Some(item) = state.waiting.pop_front() else { break };
            bytes = bytes.saturating_add(item.share.bytes);
            taken.push(item);
        }
        state.waiting_bytes = state.waiting_bytes.saturating_sub(bytes);
        Some(taken)
    }

    /// Takes nothing more. What waits can still be taken out.
    pub fn close(&self) {
        self.state().is_closed = true;
        self.news.notify_all();
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

impl<T> Share<T> {
    /// Takes `bytes` more, as [`Queue::reserve`] would.
    pub fn grow(&mut self, bytes: usize) -> Result<(), NoRoom> {
        let mut more = self.queue.reserve(&self.owner, bytes)?;
        self.bytes = self.bytes.saturating_add(std::mem::take(&mut more.bytes));
        Ok(())
    }

    /// Gives back what is more than `bytes`.
    pub fn shrink(&mut self, bytes: usize) {
        let more = self.bytes.saturating_sub(bytes);
        self.queue.free(&self.owner, more);
        self.bytes = self.bytes.saturating_sub(more);
    }
}

impl<T> Queue<T> {
    fn free(&self, owner: &str, bytes: usize) {
        let mut state = self.state();
        state.used = state.used.saturating_sub(bytes);
        let left = state.by_owner.get(owner).copied().unwrap_or(0).saturating_sub(bytes);
        match left {
            0 => _ = state.by_owner.remove(owner),
            _ => _ = state.by_owner.insert(owner.to_owned(), left),
        }
    }
}

impl<T> Drop for Share<T> {
    fn drop(&mut self) {
        self.queue.free(&self.owner, self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONE: Duration = Duration::ZERO;

    fn push(queue: &Arc<Queue<u32>>, owner: &str, bytes: usize, what: u32) -> Result<(), NoRoom> {
        let share = queue.reserve(owner, bytes)?;
        assert!(queue.push(share, what));
        Ok(())
    }

    #[test]
    fn one_owner_leaves_room_for_others() {
        let queue = Queue::new(100);
        let fill = |owner: &str| (0..200).take_while(|n| push(&queue, owner, 1, *n).is_ok()).count();
        assert_eq!(fill("mesh"), 75, "a quarter stays free");
        assert_eq!(push(&queue, "mesh", 1, 0), Err(NoRoom::Share));
        assert_eq!(fill("edge"), 25, "a quarter of the queue is for whoever comes");
        assert_eq!(push(&queue, "other", 1, 0), Err(NoRoom::Full));
        let taken = queue.take(NONE, NONE, usize::MAX).unwrap();
        assert_eq!(taken.len(), 100);
        assert_eq!(push(&queue, "other", 1, 0), Err(NoRoom::Full), "what is being written is still in memory");
        drop(taken);
        assert_eq!(fill("edge"), 75);
    }

    #[test]
    fn room_that_is_not_needed_is_given_back() {
        let queue = Queue::<u32>::new(100);
        let mut share = queue.reserve("mesh", 75).unwrap();
        assert!(queue.reserve("edge", 26).is_err());
        share.shrink(10);
        share.shrink(50);
        let other = queue.reserve("edge", 65).unwrap();
        drop((share, other));
        let state = queue.state();
        assert_eq!((state.used, state.by_owner.len()), (0, 0));
    }

    #[test]
    fn room_that_is_needed_later_is_held_to_the_same_bounds() {
        let queue = Queue::<u32>::new(100);
        let mut share = queue.reserve("mesh", 20).unwrap();
        share.grow(55).unwrap();
        assert_eq!(share.grow(1), Err(NoRoom::Share));
        assert_eq!(share.grow(26), Err(NoRoom::Full));
        drop(share);
        let state = queue.state();
        assert_eq!((state.used, state.by_owner.len()), (0, 0));
    }

    #[test]
    fn what_is_taken_at_once_is_bounded_and_in_order() {
        let queue = Queue::new(100);
        (0..10).for_each(|n| push(&queue, "mesh", 5, n).unwrap());
        let numbers =
            |most| queue.take(NONE, NONE, most).unwrap().into_iter().map(|item| item.what).collect::<Vec<_>>();
        assert_eq!(numbers(12), [0, 1, 2]);
        assert_eq!(numbers(usize::MAX), [3, 4, 5, 6, 7, 8, 9]);
        assert_eq!(numbers(1), [0; 0]);
    }

    #[test]
    fn a_closed_queue_hands_out_what_it_has_and_takes_nothing() {
        let queue = Queue::new(100);
        push(&queue, "mesh", 5, 1).unwrap();
        let late = queue.reserve("mesh", 5).unwrap();
        queue.close();
        assert_eq!(push(&queue, "mesh", 5, 2), Err(NoRoom::Closed));
        assert!(!queue.push(late, 3));
        let hour = Duration::from_secs(3_600);
        assert_eq!(queue.take(hour, hour, 100).map(|taken| taken.len()), Some(1));
        assert!(queue.take(hour, hour, 100).is_none());
    }

    #[test]
    fn it_waits_for_more_to_come() {
        let queue = Queue::new(100);
        let other = Arc::clone(&queue);
        let late = std::thread::spawn(move || {
            push(&other, "mesh", 1, 1).unwrap();
            std::thread::sleep(Duration::from_millis(50));
            push(&other, "mesh", 1, 2).unwrap();
        });
        let taken = queue.take(Duration::from_secs(9), Duration::from_secs(9), 2).unwrap();
        assert_eq!(taken.len(), 2);
        late.join().unwrap();
    }
}

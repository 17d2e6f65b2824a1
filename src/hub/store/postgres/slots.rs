//! How many connections are in use at once: a server has few, and each costs it memory.

use crate::store::model::StoreError;
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

/// How long somebody waits for a connection that others use.
const WAIT: Duration = Duration::from_secs(5);

/// So many may be in use.
pub struct Slots {
    free: Mutex<usize>,
    given_back: Condvar,
}

/// The right to use one, until this is dropped.
pub struct Slot<'s>(&'s Slots);

impl Slots {
    /// All of them are free.
    pub fn new(count: usize) -> Slots {
        Slots { free: Mutex::new(count), given_back: Condvar::new() }
    }

    /// Waits until one is free.
    pub fn take(&self) -> Result<Slot<'_>, StoreError> {
        let free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.given_back.wait_timeout_while(free, WAIT, |free| *free == 0);
        let (mut free, _) = waited.unwrap_or_else(PoisonError::into_inner);
        match free.checked_sub(1) {
            Some(left) => *free = left,
            None => return Err(StoreError::Unavailable("all connections to it are in use".to_owned())),
        }
        Ok(Slot(self))
    }
}

impl Drop for Slot<'_> {
    fn drop(&mut self) {
        let mut free = self.0.free.lock().unwrap_or_else(PoisonError::into_inner);
        *free = free.saturating_add(1);
        self.0.given_back.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;

    #[test]
    fn who_comes_too_late_waits_until_one_is_given_back() {
        let slots = Slots::new(2);
        let (one, _two) = (slots.take().unwrap(), slots.take().unwrap());
        thread::scope(|scope| {
            let third = scope.spawn(|| slots.take().map(drop));
            thread::sleep(Duration::from_millis(50));
            assert!(!third.is_finished());
            drop(one);
            assert_eq!(third.join().unwrap(), Ok(()));
        });
    }
}

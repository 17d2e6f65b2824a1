//! Requests of one worker that wait for keys: how many may, for how long, and which of them go on.

use std::collections::BTreeMap;

/// So many requests may wait at once.
pub const MAX_WAITING: usize = 1_000;

/// What is kept of them may have so many bytes together.
pub const MAX_BYTES: usize = 8 * 1024 * 1024;

/// What a request waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum For {
    /// The first keys of the issuer, or the first after too long without.
    Keys,
    /// The end of the fetch that an unknown `kid` asked for: of any fetch after this many have ended.
    Refetch(u64),
}

/// How far the keys of an issuer are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Whether there are any that may be used.
    pub usable: bool,
    /// How many fetches have ended.
    pub ended: u64,
}

/// The requests that wait, by the number of their stream, each with `T`.
#[derive(Debug)]
pub struct Waiting<T> {
    streams: BTreeMap<u32, Waiter<T>>,
    bytes: usize,
}

#[derive(Debug)]
struct Waiter<T> {
    issuer: usize,
    reason: For,
    deadline: u64,
    bytes: usize,
    kept: T,
}

impl<T> Default for Waiting<T> {
    fn default() -> Waiting<T> {
        Waiting { streams: BTreeMap::new(), bytes: 0 }
    }
}

impl<T> Waiting<T> {
    /// Lets `stream` wait for `issuer`, by its place, until `deadline` in milliseconds, with `kept`, which has `bytes`.
    /// `Err` gives `kept` back: too many wait already.
    pub fn add(
        &mut self,
        stream: u32,
        issuer: usize,
        reason: For,
        deadline: u64,
        bytes: usize,
        kept: T,
    ) -> Result<(), T> {
        let all = self.bytes.saturating_add(bytes);
        if self.streams.len() >= MAX_WAITING || all > MAX_BYTES {
            return Err(kept);
        }
        self.forget(stream);
        self.bytes = self.bytes.saturating_add(bytes);
        self.streams.insert(stream, Waiter { issuer, reason, deadline, bytes, kept });
        Ok(())
    }

    /// Forgets `stream`, which has ended.
    pub fn forget(&mut self, stream: u32) {
        if let Some(waiter) = self.streams.remove(&stream) {
            self.bytes = self.bytes.saturating_sub(waiter.bytes);
        }
    }

    /// Takes out all that need not wait any longer at `now`, by what became of the keys of each issuer.
    pub fn release(&mut self, now: u64, progress: impl Fn(usize) -> Progress) -> Vec<(u32, T)> {
        let ready = self.streams.extract_if(.., |_, waiter| {
            let Progress { usable, ended } = progress(waiter.issuer);
            let came = match waiter.reason {
                For::Keys => usable,
                For::Refetch(before) => ended != before,
            };
            came || now >= waiter.deadline
        });
        let ready: Vec<(u32, Waiter<T>)> = ready.collect();
        let freed = ready.iter().map(|(_, waiter)| waiter.bytes).fold(0, usize::saturating_add);
        self.bytes = self.bytes.saturating_sub(freed);
        ready.into_iter().map(|(stream, waiter)| (stream, waiter.kept)).collect()
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.streams.len()
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.streams.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(released: Vec<(u32, &'static str)>) -> Vec<&'static str> {
        released.into_iter().map(|(_, name)| name).collect()
    }

    #[test]
    fn each_goes_on_when_its_own_keys_are_there() {
        let mut waiting = Waiting::default();
        waiting.add(1, 0, For::Keys, 100, 1, "keys of 0").unwrap();
        waiting.add(2, 1, For::Keys, 100, 1, "keys of 1").unwrap();
        waiting.add(3, 1, For::Refetch(7), 100, 1, "refetch of 1").unwrap();
        waiting.add(4, 0, For::Keys, 50, 1, "impatient").unwrap();
        let none = |_| Progress { usable: false, ended: 7 };
        assert_eq!(names(waiting.release(49, none)), [""; 0]);
        assert_eq!(names(waiting.release(50, none)), ["impatient"]);
        assert_eq!(names(waiting.release(51, |at| Progress { usable: at == 1, ended: 7 })), ["keys of 1"]);
        assert_eq!(names(waiting.release(52, |_| Progress { usable: false, ended: 8 })), ["refetch of 1"]);
        waiting.forget(1);
        assert!(waiting.is_empty());
        assert_eq!(names(waiting.release(1_000, none)), [""; 0], "what has ended is not touched");
    }

    #[test]
    fn only_so_many_wait() {
        let mut waiting = Waiting::default();
        let mut add = |stream, bytes| waiting.add(stream, 0, For::Keys, 100, bytes, ());
        for stream in 0..1_000 {
            add(stream, 100).unwrap();
        }
        assert_eq!(add(1_000, 100), Err(()));
        assert_eq!(waiting.release(100, |_| Progress { usable: false, ended: 0 }).len(), 1_000);
        assert_eq!(waiting.bytes, 0);
        waiting.add(1, 0, For::Keys, 100, MAX_BYTES, ()).unwrap();
        assert_eq!(waiting.add(2, 0, For::Keys, 100, 1, ()), Err(()));
        waiting.forget(1);
        waiting.add(2, 0, For::Keys, 100, 1, ()).unwrap();
    }
}

//! Where lines of the audit log go: into the store, or into memory until the store takes them.

use crate::store::Store;
use crate::store::model::{Audit, StoreError};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Lines that wait have so many bytes together.
const MAX_WAITING: usize = 16 * 1024 * 1024;

/// So many lines are written in one transaction.
const BATCH: usize = 500;

/// The audit log of this process.
#[derive(Debug, Default)]
pub struct AuditTrail {
    waiting: Mutex<Waiting>,
    written: AtomicU64,
    lost: AtomicU64,
}

#[derive(Debug, Default)]
struct Waiting {
    lines: VecDeque<Audit>,
    bytes: usize,
}

/// There is no room for more lines in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoRoom;

impl AuditTrail {
    /// Writes a line. Blocks.
    pub fn write(&self, store: &dyn Store, line: &Audit) -> Result<(), StoreError> {
        store.audit(std::slice::from_ref(line))?;
        self.written.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// Keeps a line in memory that the store did not take.
    pub fn keep(&self, line: Audit) -> Result<(), NoRoom> {
        let mut waiting = self.lock();
        let bytes = waiting.bytes.saturating_add(size(&line));
        if bytes > MAX_WAITING {
            return Err(NoRoom);
        }
        waiting.bytes = bytes;
        waiting.lines.push_back(line);
        Ok(())
    }

    /// Counts a line that is only in the log of the process.
    pub fn lose(&self) {
        self.lost.fetch_add(1, Ordering::Relaxed);
    }

    /// Writes the lines that wait. Returns how many; those that the store does not take go on waiting. Blocks.
    pub fn catch_up(&self, store: &dyn Store) -> Result<u64, StoreError> {
        let mut caught_up = 0u64;
        loop {
            let batch: Vec<Audit> = self.lock().lines.iter().take(BATCH).cloned().collect();
            if batch.is_empty() {
                return Ok(caught_up);
            }
            // Only this function removes lines, and only one thread calls it.
            store.audit(&batch)?;
            let mut waiting = self.lock();
            waiting.lines.drain(..batch.len());
            waiting.bytes = waiting.bytes.saturating_sub(batch.iter().map(size).sum());
            let count = u64::try_from(batch.len()).unwrap_or(u64::MAX);
            self.written.fetch_add(count, Ordering::Relaxed);
            caught_up = caught_up.saturating_add(count);
        }
    }

    /// How many lines were written.
    pub fn written(&self) -> u64 {
        self.written.load(Ordering::Relaxed)
    }

    /// How many lines wait.
    pub fn waiting(&self) -> usize {
        self.lock().lines.len()
    }

    /// How many lines are only in the log of the process.
    pub fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn size(line: &Audit) -> usize {
    [&line.by, &line.call, &line.detail].iter().map(|text| text.len()).sum::<usize>().saturating_add(size_of::<Audit>())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    fn line(call: &str) -> Audit {
        Audit { call: call.to_owned(), ..Audit::default() }
    }

    #[test]
    fn lines_that_wait_are_written_once_in_their_order() {
        let (_folder, store) = testing::store();
        let trail = AuditTrail::default();
        for n in 0..BATCH + 1 {
            trail.keep(line(&n.to_string())).unwrap();
        }
        assert_eq!((trail.waiting(), trail.written()), (BATCH + 1, 0));
        assert_eq!((trail.catch_up(&*store), trail.catch_up(&*store)), (Ok(501), Ok(0)));
        assert_eq!((trail.waiting(), trail.written(), trail.lock().bytes), (0, 501, 0));
        let newest: Vec<_> = store.audits(None, 2).unwrap().into_iter().map(|(_, line)| line.call).collect();
        assert_eq!(newest, ["500", "499"]);
    }

    #[test]
    fn memory_is_bounded() {
        let trail = AuditTrail::default();
        let long = "x".repeat(MAX_WAITING / 4);
        let kept = (0..5).filter(|_| trail.keep(line(&long)).is_ok()).count();
        assert_eq!((kept, trail.waiting()), (3, 3));
    }
}

//! Reading from the store in one thread while another one measures.

use crate::store::model::StoreError;
use std::mem;
use std::sync::mpsc::{channel, sync_channel};

/// So many rows go from the thread that reads to the one that measures at a time.
const TOGETHER: usize = 256;

/// So many times that many wait for it.
const WAITING: usize = 4;

/// Shows `each` the rows that `read` shows, in their order. `read` works in a thread of its own meanwhile: reading and
/// measuring take about as long as each other. `each` says whether to go on.
///
/// That thread also frees what it has read: two threads of which one frees what the other has allocated wait for each
/// other most of the time.
pub fn read_ahead<T: Send>(
    read: impl FnOnce(&mut dyn FnMut(T) -> bool) -> Result<(), StoreError> + Send,
    each: &mut dyn FnMut(&T) -> bool,
) -> Result<(), StoreError> {
    let (sender, receiver) = sync_channel::<Vec<T>>(WAITING);
    let (done, measured) = channel::<Vec<T>>();
    std::thread::scope(|scope| {
        let reader = std::thread::Builder::new().name("evidence-reader".to_owned());
        let reader = reader.spawn_scoped(scope, move || {
            let mut rows = Vec::with_capacity(TOGETHER);
            let read = read(&mut |row| {
                rows.push(row);
                if rows.len() < TOGETHER {
                    return true;
                }
                measured.try_iter().for_each(drop);
                // Nobody takes them any more: the other thread was told to stop.
                sender.send(mem::replace(&mut rows, Vec::with_capacity(TOGETHER))).is_ok()
            });
            // As above.
            _ = sender.send(rows);
            read
        });
        let reader = reader.map_err(|error| StoreError::Failed(error.to_string()))?;
        let mut goes_on = true;
        while goes_on {
            let Ok(rows) = receiver.recv() else { break };
            goes_on = rows.iter().all(&mut *each);
            // When the other thread has ended, they are freed here.
            _ = done.send(rows);
        }
        drop(receiver);
        reader.join().unwrap_or_else(|_| Err(StoreError::Failed("the reading of evidence broke off".to_owned())))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What `each` is shown of `rows`, until it has seen `most`, and what comes of it.
    fn shown(rows: u32, most: usize, result: Result<(), StoreError>) -> (Vec<u32>, Result<(), StoreError>) {
        let mut seen = Vec::new();
        let read = |each: &mut dyn FnMut(u32) -> bool| {
            (0..rows).all(each);
            result
        };
        let done = read_ahead(read, &mut |row| {
            seen.push(*row);
            seen.len() < most
        });
        (seen, done)
    }

    #[test]
    fn all_rows_come_once_and_in_their_order() {
        for rows in [0, 1, 255, 256, 257, 5_000] {
            assert_eq!(shown(rows, usize::MAX, Ok(())), ((0..rows).collect(), Ok(())), "{rows}");
        }
    }

    #[test]
    fn it_ends_where_it_is_told_to_and_says_what_failed() {
        assert_eq!(shown(100_000, 300, Ok(())), ((0..300).collect(), Ok(())));
        let failed = StoreError::Failed("no disk".to_owned());
        assert_eq!(shown(10, usize::MAX, Err(failed.clone())), ((0..10).collect(), Err(failed)));
    }
}

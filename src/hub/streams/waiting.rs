//! How many polls wait at once, in all and of one stream: a receiver must not take the places of the others.

use hashbrown::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// So many polls wait at once.
const MOST: usize = 1_024;

/// So many of them are of one stream. A receiver has one, and a second one while it starts again.
const MOST_OF_STREAM: usize = 4;

/// The polls that wait, by stream. Clones are the same.
#[derive(Debug, Clone, Default)]
pub(super) struct WaitingPolls(Arc<Mutex<Counts>>);

#[derive(Debug, Default)]
struct Counts {
    all: usize,
    by_stream: HashMap<String, usize>,
}

/// The place of a poll that waits, until it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    polls: WaitingPolls,
    stream: String,
}

impl WaitingPolls {
    /// A place for a poll of `stream`; `None`: there is none, so it must not wait.
    pub(super) fn enter(&self, stream: &str) -> Option<Place> {
        let mut counts = self.counts();
        let own = counts.by_stream.get(stream).copied().unwrap_or_default();
        if counts.all >= MOST || own >= MOST_OF_STREAM {
            return None;
        }
        counts.all = counts.all.saturating_add(1);
        counts.by_stream.insert(stream.to_owned(), own.saturating_add(1));
        Some(Place { polls: self.clone(), stream: stream.to_owned() })
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = self.polls.counts();
        counts.all = counts.all.saturating_sub(1);
        let left = counts.by_stream.get(&self.stream).copied().unwrap_or_default().saturating_sub(1);
        if left == 0 {
            counts.by_stream.remove(&self.stream);
        } else {
            counts.by_stream.insert(self.stream.clone(), left);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_has_a_few_places_and_leaves_the_rest_to_others() {
        let polls = WaitingPolls::default();
        let mut places: Vec<Place> = (0..9).filter_map(|_| polls.enter("a")).collect();
        assert_eq!(places.len(), MOST_OF_STREAM);
        let other = polls.enter("b");
        assert!(other.is_some(), "another stream has its own");
        places.pop();
        assert!(polls.enter("a").is_some());
        drop((places, other));
        assert!(polls.counts().by_stream.is_empty() && polls.counts().all == 0);
        let all: Vec<Place> = (0..2_000).filter_map(|n| polls.enter(&n.to_string())).collect();
        assert_eq!(all.len(), MOST);
    }
}

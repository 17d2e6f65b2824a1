//! How much of the queue of the writer each feed may use: a flood in one feed must not keep signals of another out.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The places of a queue. Half of them belong to the feeds, to each as many as to any other; the other half goes to
/// whoever comes first.
#[derive(Debug)]
pub struct QueueShares {
    own: usize,
    common: usize,
    used: Mutex<Used>,
}

#[derive(Debug)]
struct Used {
    /// How many places each feed uses.
    by_feed: HashMap<String, usize>,
    /// How many of them are more than its own.
    common: usize,
}

/// A place in the queue; it is free again when this is dropped.
#[derive(Debug)]
pub struct Place {
    shares: Arc<QueueShares>,
    feed: String,
}

impl QueueShares {
    /// The shares of `feeds` in a queue with so many `places`. A single feed may use all of them.
    pub fn new(feeds: &[String], places: usize) -> Arc<QueueShares> {
        let own = (places / 2).checked_div(feeds.len()).unwrap_or(0);
        let common = places.saturating_sub(own.saturating_mul(feeds.len()));
        let by_feed = feeds.iter().map(|feed| (feed.clone(), 0)).collect();
        Arc::new(QueueShares { own, common, used: Mutex::new(Used { by_feed, common: 0 }) })
    }

    /// A place for a change of `feed`. `None`: its own are used up, and the common ones too; or there is no such feed.
    pub fn take(self: &Arc<Self>, feed: &str) -> Option<Place> {
        let mut used = self.used();
        let Used { by_feed, common } = &mut *used;
        let places = by_feed.get_mut(feed)?;
        if *places >= self.own {
            if *common >= self.common {
                return None;
            }
            *common = common.saturating_add(1);
        }
        *places = places.saturating_add(1);
        Some(Place { shares: Arc::clone(self), feed: feed.to_owned() })
    }

    fn used(&self) -> MutexGuard<'_, Used> {
        self.used.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut used = self.shares.used();
        let Used { by_feed, common } = &mut *used;
        let Some(places) = by_feed.get_mut(&self.feed) else { return };
        if *places > self.shares.own {
            *common = common.saturating_sub(1);
        }
        *places = places.saturating_sub(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shares(feeds: &[&str], places: usize) -> Arc<QueueShares> {
        QueueShares::new(&feeds.iter().map(|feed| (*feed).to_owned()).collect::<Vec<_>>(), places)
    }

    fn fill(shares: &Arc<QueueShares>, feed: &str) -> Vec<Place> {
        std::iter::from_fn(|| shares.take(feed)).collect()
    }

    #[test]
    fn a_flood_leaves_each_other_feed_its_own_places() {
        let shares = shares(&["red", "blue"], 8);
        let red = fill(&shares, "red");
        assert_eq!(red.len(), 6, "its two, and the four common ones");
        let blue = fill(&shares, "blue");
        assert_eq!(blue.len(), 2);
        drop(red);
        assert_eq!(fill(&shares, "blue").len(), 4, "what is free again goes to whoever comes first");
        drop(blue);
        assert_eq!(fill(&shares, "red").len(), 6);
        assert_eq!(fill(&shares, "blue").len(), 6, "one after the other");
    }

    #[test]
    fn a_single_feed_has_the_whole_queue() {
        assert_eq!(fill(&shares(&["main"], 7), "main").len(), 7);
        assert_eq!(fill(&shares(&["red", "blue", "green"], 8), "red").len(), 6);
    }

    #[test]
    fn there_is_no_place_for_a_feed_that_is_not_known() {
        assert_eq!(fill(&shares(&["main"], 8), "other").len(), 0);
        assert_eq!(fill(&shares(&[], 8), "other").len(), 0);
    }
}

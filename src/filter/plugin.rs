//! What all streams of one plugin share.

use crate::feed_follower::FeedFollower;
use crate::key_fetcher::KeyFetcher;
use crate::metrics::Metrics;
use crate::presence::Presence;
use crate::tally::Tally;
use crate::uses_counter::UsesCounter;
use std::cell::RefCell;
use std::collections::VecDeque;
use taskfence_core::decision::judge::Judge;
use taskfence_core::live::admitted::Ending;
use taskfence_core::live::streams::Streams;

/// What all streams of one plugin share, within one worker.
#[derive(Debug)]
pub struct Shared {
    /// What the proxy calls the root context.
    pub root: u32,
    /// The judge with its caches.
    pub judge: RefCell<Judge>,
    /// The counters.
    pub metrics: Metrics,
    /// What is counted in this worker until its next tick.
    pub tally: Tally,
    /// The streams that were admitted and go on.
    pub streams: RefCell<Streams>,
    /// Those that were found to have ended and have not been told yet.
    pub endings: RefCell<VecDeque<Ending>>,
    /// What fetches keys, and the requests that wait for them.
    pub keys: KeyFetcher,
    /// Whether there is a receiver that writes the state.
    pub presence: Presence,
    /// What follows the feed of a hub; `None` where the configuration names none.
    pub feed: Option<FeedFollower>,
    /// What counts uses for that hub; `None` where none are counted.
    pub uses: Option<UsesCounter>,
}

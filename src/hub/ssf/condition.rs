//! How a managed stream does, for the metrics.

use crate::ssf::client::failure::Step;
use std::sync::{Mutex, PoisonError};

/// What a stream does in this process.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Phase {
    /// Another replica manages it.
    #[default]
    Standby,
    /// The hub looks for it, or makes it.
    Seeking,
    /// It exists; no verification that this process asked for has come yet.
    Unverified,
    /// It works.
    Enabled,
    /// The transmitter has paused it.
    Paused,
    /// The transmitter has disabled it.
    Disabled,
    /// A step fails.
    Failing,
}

impl Phase {
    /// Every phase.
    pub const ALL: [Phase; 7] = [
        Phase::Standby,
        Phase::Seeking,
        Phase::Unverified,
        Phase::Enabled,
        Phase::Paused,
        Phase::Disabled,
        Phase::Failing,
    ];

    /// The name in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Phase::Standby => "standby",
            Phase::Seeking => "seeking",
            Phase::Unverified => "unverified",
            Phase::Enabled => "enabled",
            Phase::Paused => "paused",
            Phase::Disabled => "disabled",
            Phase::Failing => "failing",
        }
    }
}

/// A snapshot. Times are in milliseconds since 1970; 0: never.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// What it does.
    pub phase: Phase,
    /// When a poll was last answered.
    pub polled: u64,
    /// When a verification that was asked for last came.
    pub verified: u64,
    /// Polls that were answered.
    pub polls: u64,
    /// SETs that were fetched and are durable here.
    pub acknowledged: u64,
    /// SETs that were fetched and refused for good.
    pub refused: u64,
    /// SETs that were fetched and could not be taken in yet.
    pub deferred: u64,
    /// How often each step failed, in the order of [`Step::ALL`].
    pub failures: [u64; Step::ALL.len()],
}

/// The condition of one stream.
#[derive(Debug)]
pub struct Condition {
    /// The feed.
    pub feed: String,
    /// The name of the stream within the feed.
    pub stream: String,
    now: Mutex<Snapshot>,
}

impl Condition {
    /// That of a stream that nothing is known of.
    pub fn new(feed: &str, stream: &str) -> Condition {
        Condition { feed: feed.to_owned(), stream: stream.to_owned(), now: Mutex::default() }
    }

    /// What it is now.
    pub fn snapshot(&self) -> Snapshot {
        *self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes it.
    pub(super) fn note(&self, change: impl FnOnce(&mut Snapshot)) {
        change(&mut self.now.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Counts a failure of a step.
    pub(super) fn failed(&self, step: Step) {
        self.note(|now| {
            let at = Step::ALL.iter().position(|known| *known == step);
            if let Some(count) = at.and_then(|at| now.failures.get_mut(at)) {
                *count = count.saturating_add(1);
            }
        });
    }
}

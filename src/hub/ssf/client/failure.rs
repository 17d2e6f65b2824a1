//! Why a step at a transmitter failed, and what to do.

use std::fmt;

/// What was being done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// Reading the metadata of the transmitter.
    Discovery,
    /// Getting an access token.
    Authorization,
    /// Making, reading, changing or deleting the stream.
    Stream,
    /// Reading or changing the status of the stream.
    Status,
    /// Asking for a verification, or waiting for it.
    Verification,
    /// Polling.
    Poll,
    /// Reading or writing the store of the hub.
    Store,
}

impl Step {
    /// Every step.
    pub const ALL: [Step; 7] =
        [Step::Discovery, Step::Authorization, Step::Stream, Step::Status, Step::Verification, Step::Poll, Step::Store];

    /// The name in metrics and messages.
    pub fn as_str(self) -> &'static str {
        match self {
            Step::Discovery => "discovery",
            Step::Authorization => "authorization",
            Step::Stream => "stream",
            Step::Status => "status",
            Step::Verification => "verification",
            Step::Poll => "poll",
            Step::Store => "store",
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A step that failed. The message names the step, what happened, and the remedy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{step}: {what}{}", remedy_of(.remedy))]
pub struct Failure {
    /// The step.
    pub step: Step,
    /// What happened.
    pub what: String,
    /// What to do; empty where trying again is all.
    pub remedy: String,
    /// The status of the answer, where there was one.
    pub status: Option<u16>,
    /// How long the transmitter wants to be left alone, in seconds.
    pub retry_after: Option<u64>,
}

impl Failure {
    /// A failure without an answer.
    pub fn new(step: Step, what: impl Into<String>, remedy: impl Into<String>) -> Failure {
        Failure { step, what: what.into(), remedy: remedy.into(), status: None, retry_after: None }
    }

    /// Whether the answer had that status.
    pub fn is(&self, status: u16) -> bool {
        self.status == Some(status)
    }
}

fn remedy_of(remedy: &str) -> String {
    if remedy.is_empty() { String::new() } else { format!("; {remedy}") }
}

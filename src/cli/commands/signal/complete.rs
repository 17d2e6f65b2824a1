//! `taskfence signal complete`: a task is over.

use clap::builder::NonEmptyStringValueParser as NonEmpty;
use clap::{Args, ValueEnum};
use serde_json::Map;

use super::sending::Sending;
use crate::signing::set::{self, Event, Initiator};
use crate::signing::subject::Subject;

/// Say that a task is over: every token that was granted for it ends
///
/// Sends our event task-completed.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  taskfence signal complete --task task-42 --key hub.private.jwk \\
      --issuer https://idp.example --audience https://orders.mesh/signals \\
      --to http://127.0.0.1:10001/signals
  taskfence signal complete --task task-42 --outcome failure --key hub.private.jwk \\
      --issuer https://idp.example --audience https://orders.mesh/signals --print")]
pub struct Complete {
    /// The task, as the tokens name it in `txn`
    #[arg(long, value_parser = NonEmpty::new(), help_heading = "What happened")]
    task: String,

    /// How it ended
    #[arg(long, value_enum, default_value_t = Outcome::Success, help_heading = "What happened")]
    outcome: Outcome,

    #[command(flatten)]
    pub sending: Sending,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Outcome {
    Success,
    Failure,
    Cancelled,
}

impl Outcome {
    fn name(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Failure => "failure",
            Self::Cancelled => "cancelled",
        }
    }
}

impl Complete {
    /// What happened.
    pub fn event(&self) -> Event {
        let mut details = Map::new();
        details.insert("outcome".to_owned(), self.outcome.name().into());
        Event {
            kind: set::TASK_COMPLETED,
            subject: Subject::Task { id: self.task.clone() },
            initiator: self.sending.initiator.unwrap_or(Initiator::System),
            details,
        }
    }
}

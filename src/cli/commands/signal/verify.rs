//! `taskfence signal verify`: a heartbeat of the transmitter.

use clap::Args;
use clap::builder::NonEmptyStringValueParser as NonEmpty;
use serde_json::Map;

use super::sending::Sending;
use crate::signing::set::{self, Event, Initiator};
use crate::signing::subject::Subject;

/// Send a heartbeat, which also tests keys and addresses
///
/// Sends the SSF event verification. It changes no grant. It tells the receivers that the transmitter is alive, which
/// `signals.stale` and `state_age` require.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  taskfence signal verify --key hub.private.jwk --issuer https://idp.example \\
      --audience https://orders.mesh/signals --to http://127.0.0.1:10001/signals
  taskfence signal verify --stream orders-1 --state 4f1c --issuer https://idp.example \\
      --audience https://orders.mesh/signals --dry-run")]
pub struct Verify {
    /// The id of the stream
    #[arg(long, value_name = "ID", default_value = "taskfence", value_parser = NonEmpty::new(),
        help_heading = "What it says")]
    stream: String,

    /// The `state` that the receiver asked to have back [default: none]
    #[arg(long, value_parser = NonEmpty::new(), help_heading = "What it says")]
    state: Option<String>,

    #[command(flatten)]
    pub sending: Sending,
}

impl Verify {
    /// The event.
    pub fn event(&self) -> Event {
        let state = self.state.iter().map(|state| ("state".to_owned(), state.clone().into()));
        Event {
            kind: set::VERIFICATION,
            subject: Subject::Stream { id: self.stream.clone() },
            initiator: self.sending.initiator.unwrap_or(Initiator::System),
            details: Map::from_iter(state),
        }
    }
}

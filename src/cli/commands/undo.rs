//! `taskfence undo`: lifts one signal by name.

use std::time::Duration;

use clap::Args;
use clap::builder::NonEmptyStringValueParser as NonEmpty;
use serde_json::json;

use crate::commands::hub_options::{HubOptions, wait};
use crate::commands::receipt;
use crate::failure::Failure;
use crate::terminal::console::Console;
use crate::terminal::exit::Exit;

/// Undo one signal, so that it has no effect any more; others about the same subject stay
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  taskfence undo 4711 --reason 'wrong client' --wait
  taskfence undo --jti set-77 --transmitter https://idp.example --reason 'sent by mistake'

`taskfence state` shows the signals that stand against something. A signal about a device, a risk, a claim, an assurance or
the beginning of a session cannot be undone: send a new event that says how it is now.")]
pub struct Undo {
    /// The number of the signal at the hub
    #[arg(required_unless_present = "jti", conflicts_with = "jti")]
    signal: Option<u64>,

    /// The `jti` of the signal
    #[arg(long, value_name = "JTI", value_parser = NonEmpty::new())]
    jti: Option<String>,

    /// The stream that the signal came by, where several used the same `jti`; `operator` for operators
    #[arg(long, value_name = "NAME", value_parser = NonEmpty::new())]
    transmitter: Option<String>,

    /// Why, for the audit log
    #[arg(long, value_name = "TEXT", value_parser = NonEmpty::new())]
    reason: String,

    /// Wait until every proxy has it, at most so long [with --wait alone: 30s]
    #[arg(long, value_name = "TIME", num_args = 0..=1, require_equals = true, default_missing_value = "30s", value_parser = wait)]
    wait: Option<Duration>,

    #[command(flatten)]
    options: HubOptions,
}

impl Undo {
    /// Runs the command.
    pub fn run(&self, console: &mut Console<'_>) -> Result<Exit, Failure> {
        let client = self.options.connect()?;
        let feed = self.options.feed(&client)?;
        let body = json!({
            "signal": self.signal, "jti": self.jti, "transmitter": self.transmitter, "reason": self.reason,
        });
        let taken = client.post(&format!("/v1/feeds/{feed}/undo"), &body)?;
        receipt::report(&client, &feed, taken, self.wait, self.options.output, console)
    }
}

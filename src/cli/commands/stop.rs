//! `taskfence stop`: refuses everything of an issuer, or of one thing, until it is undone.

use std::time::Duration;

use clap::Args;
use clap::builder::NonEmptyStringValueParser as NonEmpty;
use serde_json::json;

use crate::commands::hub_options::{HubOptions, wait};
use crate::commands::receipt;
use crate::commands::state::Thing;
use crate::failure::Failure;
use crate::terminal::console::Console;
use crate::terminal::exit::Exit;

/// Stop everything of an issuer, or of one client, task, user, session, device or token, until it is undone
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  taskfence stop --issuer https://jit.example --client agent-a7 --reason 'sends refunds in a loop' --wait
  taskfence stop --issuer https://jit.example --everything --reason 'signing key leaked' --wait=2m

`taskfence undo` with the number of the signal, which this prints, lets it go on.")]
pub struct Stop {
    #[command(flatten)]
    target: Thing,

    /// Stop all grants of the issuer
    #[arg(long, group = "thing", help_heading = "About what")]
    everything: bool,

    /// Why, for the log of operators
    #[arg(long, value_name = "TEXT", value_parser = NonEmpty::new())]
    reason: String,

    /// Wait until every proxy has it, at most so long [with --wait alone: 30s]
    #[arg(long, value_name = "TIME", num_args = 0..=1, require_equals = true, default_missing_value = "30s", value_parser = wait)]
    wait: Option<Duration>,

    #[command(flatten)]
    options: HubOptions,
}

impl Stop {
    /// Runs the command.
    pub fn run(&self, console: &mut Console<'_>) -> Result<Exit, Failure> {
        let named = self.target.named();
        if named.is_none() && !self.everything {
            let message = "what should stop? use one of --token-id, --task, --session, --user, --client and --device, or --everything";
            return Err(Failure::Usage(message.to_owned()));
        }
        let client = self.options.connect()?;
        let feed = self.options.feed(&client)?;
        let issuer = self.target.issuer(&feed, &client.get("/v1/feeds", &[])?)?;
        let (what, name) = named.unzip();
        let body = json!({"issuer": issuer, "what": what, "name": name, "reason": self.reason});
        let taken = client.post(&format!("/v1/feeds/{feed}/stops"), &body)?;
        receipt::report(&client, &feed, taken, self.wait, self.options.output, console)
    }
}

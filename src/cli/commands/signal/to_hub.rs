//! A signal that a hub makes for an operator, instead of one that is signed here.

use std::time::Duration;
use taskfence_core::encoding::secret::Secret;

use clap::Args;
use clap::builder::NonEmptyStringValueParser as NonEmpty;
use serde_json::{Value, json};

use crate::commands::hub_options::{self, Output, wait};
use crate::commands::receipt;
use crate::failure::Failure;
use crate::remote::profile::Wanted;
use crate::signing::set::{Event, VERIFICATION};
use crate::terminal::console::Console;
use crate::terminal::exit::Exit;

/// The hub that makes the signal, and whether to wait for it.
#[derive(Debug, Args)]
pub struct ToHub {
    /// Let this hub make the signal, with your token there; without a value the hub of the profile
    #[arg(long, value_name = "URL", num_args = 0..=1, default_missing_value = "",
        conflicts_with_all = ["key", "to", "audience", "authorization", "print", "dry_run", "txn", "initiator"], help_heading = "Hub")]
    hub: Option<String>,

    /// The profile in ~/.config/taskfence/hub.yaml
    #[arg(long, value_name = "NAME", requires = "hub", help_heading = "Hub")]
    profile: Option<String>,

    /// The bearer token of the hub; better in the environment or a profile than on the command line
    #[arg(long, value_name = "TOKEN", env = "TASKFENCE_HUB_TOKEN", hide_env_values = true, help_heading = "Hub")]
    hub_token: Option<Secret>,

    /// The feed [default: that of the profile, or the only one of the hub]
    #[arg(long, value_name = "NAME", requires = "hub", value_parser = NonEmpty::new(), help_heading = "Hub")]
    feed: Option<String>,

    /// Wait until every proxy has it, at most so long, and print the receipt [with --wait alone: 30s]
    #[arg(long, value_name = "TIME", num_args = 0..=1, require_equals = true, default_missing_value = "30s",
        value_parser = wait, requires = "hub", help_heading = "Hub")]
    wait: Option<Duration>,

    /// How to print the answer of the hub
    #[arg(long, value_enum, default_value_t = Output::Human, help_heading = "Hub")]
    output: Output,
}

/// What was said about the signal beside its event.
#[derive(Debug)]
pub struct Said<'s> {
    /// The issuer of the token or of the user; may be empty.
    pub subject_issuer: &'s str,
    /// Why.
    pub reason: Option<&'s str>,
    /// The id of the signal.
    pub jti: Option<&'s str>,
    /// When the event happened, in unix seconds.
    pub at: u64,
}

impl ToHub {
    /// Whether a hub makes the signal.
    pub fn is_meant(&self) -> bool {
        self.hub.is_some()
    }

    /// Lets the hub make the signal.
    pub fn send(&self, event: &Event, said: &Said<'_>, console: &mut Console<'_>) -> Result<Exit, Failure> {
        if event.kind == VERIFICATION {
            let message = "a verification event is about the stream of a transmitter; push it with --key and --to";
            return Err(Failure::Usage(message.to_owned()));
        }
        let subject = event.subject.to_json();
        if names_no_issuer(&subject) {
            let message = "whose token or user is it? use `--subject-issuer URI`";
            return Err(Failure::Usage(message.to_owned()));
        }
        let url = self.hub.clone().filter(|url| !url.is_empty()).or_else(|| std::env::var("TASKFENCE_HUB").ok());
        let wanted = Wanted { url, profile: self.profile.clone(), token: self.hub_token.clone() };
        let client = hub_options::connect(&wanted)?;
        let feed = hub_options::feed(self.feed.as_deref(), &client)?;
        let mut details = event.details.clone();
        details.insert("event_timestamp".to_owned(), said.at.into());
        let issuer = Some(said.subject_issuer).filter(|issuer| !issuer.is_empty());
        let body = json!({
            "event": event.kind, "details": details, "subject": subject, "issuer": issuer,
            "reason": said.reason.unwrap_or_default(), "jti": said.jti,
        });
        let taken = client.post(&format!("/v1/feeds/{feed}/events"), &body)?;
        receipt::report(&client, &feed, taken, self.wait, self.output, console)
    }
}

/// Whether the subject needs an issuer and has none.
fn names_no_issuer(subject: &Value) -> bool {
    subject.get("iss").and_then(Value::as_str) == Some("")
}

//! `taskfence signal assurance`: the assurance level of a principal changed.

use clap::builder::NonEmptyStringValueParser as NonEmpty;
use clap::{Args, ValueEnum};
use serde_json::Map;

use super::sending::Sending;
use super::target::Target;
use crate::signing::set::{self, Event, Initiator};

/// Say that the assurance of a user, a session, a task or a token has fallen, or has risen again
///
/// Sends the CAEP event assurance-level-change. Where it fell to a level that a rule does not list in `acr`, the rule
/// refuses until it rises again. It never rises above the `acr` of the token: after a step-up the user needs a new token.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  taskfence signal assurance --user alice --level nist-aal1 --namespace NIST-AAL \\
      --direction decrease --subject-issuer https://jit.example --key hub.private.jwk \\
      --issuer https://idp.example --audience https://orders.mesh/signals \\
      --to http://127.0.0.1:10001/signals
  taskfence signal assurance --session sess-9 --level phr --direction increase \\
      --issuer https://idp.example --audience https://orders.mesh/signals --dry-run")]
pub struct Assurance {
    #[command(flatten)]
    target: Target,

    /// The level now, as rules list it in `acr`
    #[arg(long, value_parser = NonEmpty::new(), help_heading = "What happened")]
    level: String,

    /// Whose scale the level is on: NIST-AAL, NIST-IAL, RFC6711, or one that is agreed
    #[arg(long, value_name = "NAME", default_value = "acr", value_parser = NonEmpty::new(),
        help_heading = "What happened")]
    namespace: String,

    /// Whether it fell or rose
    #[arg(long, value_enum, help_heading = "What happened")]
    direction: Direction,

    #[command(flatten)]
    pub sending: Sending,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Direction {
    Increase,
    Decrease,
}

impl Assurance {
    /// What happened.
    pub fn event(&self) -> Event {
        let direction = match self.direction {
            Direction::Increase => "increase",
            Direction::Decrease => "decrease",
        };
        let members =
            [("namespace", self.namespace.as_str()), ("current_level", &self.level), ("change_direction", direction)];
        Event {
            kind: set::ASSURANCE_LEVEL,
            subject: self.target.subject(&self.sending),
            initiator: self.sending.initiator.unwrap_or(Initiator::Admin),
            details: Map::from_iter(members.map(|(name, value)| (name.to_owned(), value.into()))),
        }
    }
}

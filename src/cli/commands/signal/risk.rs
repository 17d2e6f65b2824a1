//! `taskfence signal risk`: the risk level of a principal.

use clap::builder::NonEmptyStringValueParser as NonEmpty;
use clap::{Args, ValueEnum};
use serde_json::Map;
use taskfence_core::state::fact;

use super::sending::Sending;
use crate::signing::set::{self, Event, Initiator};
use crate::signing::subject::Subject;

/// State the risk level of a user, a session or a device
///
/// Sends the CAEP event risk-level-change. Rules that ask for `risk` use the highest of the latest levels of the
/// user, the session or the device of a token.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  taskfence signal risk --user alice --level HIGH --subject-issuer https://jit.example \\
      --reason 'impossible travel' --key hub.private.jwk --issuer https://idp.example \\
      --audience https://orders.mesh/signals --to http://127.0.0.1:10001/signals
  taskfence signal risk --session sess-9 --level LOW --issuer https://idp.example \\
      --audience https://orders.mesh/signals --dry-run")]
pub struct Risk {
    #[command(flatten)]
    principal: Principal,

    /// The new level
    #[arg(long, value_enum, ignore_case = true, help_heading = "What happened")]
    level: Level,

    #[command(flatten)]
    pub sending: Sending,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct Principal {
    /// The `sub` of the user
    #[arg(long, value_name = "SUB", value_parser = NonEmpty::new(), help_heading = "What happened")]
    user: Option<String>,

    /// The `sid` of the session
    #[arg(long, value_name = "SID", value_parser = NonEmpty::new(), help_heading = "What happened")]
    session: Option<String>,

    /// The device, as the tokens name it
    #[arg(long, value_name = "ID", value_parser = NonEmpty::new(), help_heading = "What happened")]
    device: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Level {
    #[value(name = "LOW")]
    Low,
    #[value(name = "MEDIUM")]
    Medium,
    #[value(name = "HIGH")]
    High,
}

impl Level {
    fn risk(self) -> fact::Risk {
        match self {
            Self::Low => fact::Risk::Low,
            Self::Medium => fact::Risk::Medium,
            Self::High => fact::Risk::High,
        }
    }
}

impl Risk {
    /// What happened.
    pub fn event(&self) -> Event {
        let Principal { user, session, device } = &self.principal;
        let (word, subject) = match (session, device) {
            (Some(id), _) => ("SESSION", Subject::Session { id: id.clone() }),
            (_, Some(id)) => ("DEVICE", Subject::Device { issuer: None, id: id.clone() }),
            // The command line has exactly one of the three.
            (None, None) => {
                let issuer = self.sending.subject_issuer().to_owned();
                ("USER", Subject::User { issuer, subject: user.clone().unwrap_or_default() })
            }
        };
        let mut details = Map::new();
        details.insert("principal".to_owned(), word.into());
        details.insert("current_level".to_owned(), self.level.risk().as_str().into());
        if let Some(reason) = &self.sending.reason {
            details.insert("risk_reason".to_owned(), reason.clone().into());
        }
        Event { kind: set::RISK_LEVEL, subject, initiator: self.sending.initiator.unwrap_or(Initiator::Admin), details }
    }
}

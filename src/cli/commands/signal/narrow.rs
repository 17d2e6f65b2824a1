//! `taskfence signal narrow`: a grant is less than its token says.

use clap::Args;
use serde_json::{Map, Value};
use taskfence_core::token::detail::Detail;

use super::sending::Sending;
use super::target::Target;
use crate::failure::Failure;
use crate::signing::set::{self, Event, Initiator};

/// Narrow a grant to the scope and the details that are named; all others are taken away
///
/// Sends our event grant-narrowed. A request then needs its scope and detail in the token and in every narrowing. A
/// narrowing cannot be undone: a wider one later changes nothing.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  taskfence signal narrow --task task-42 --scope orders.read --key hub.private.jwk \\
      --issuer https://idp.example --audience https://orders.mesh/signals \\
      --to http://127.0.0.1:10001/signals
  taskfence signal narrow --token tok-1 --subject-issuer https://jit.example \\
      --details '[{\"type\":\"order\",\"actions\":[\"read\"],\"identifier\":\"1881\"}]' \\
      --issuer https://idp.example --audience https://orders.mesh/signals --dry-run")]
pub struct Narrow {
    #[command(flatten)]
    target: Target,

    /// The scope values that are left, divided by spaces; empty for none
    #[arg(long, required_unless_present = "details", help_heading = "What happened")]
    scope: Option<String>,

    /// The `authorization_details` that are left: a JSON array of whole objects, `[]` for none
    #[arg(long, value_name = "JSON", help_heading = "What happened")]
    details: Option<String>,

    #[command(flatten)]
    pub sending: Sending,
}

impl Narrow {
    /// What happened.
    pub fn event(&self) -> Result<Event, Failure> {
        let mut members = Map::new();
        if let Some(scope) = &self.scope {
            members.insert("scope".to_owned(), scope.clone().into());
        }
        if let Some(details) = &self.details {
            let value = serde_json::from_str::<Value>(details).ok().filter(|value| Detail::list(value).is_some());
            let wrong = || Failure::Usage("--details is not a JSON array of objects as in RFC 9396".to_owned());
            members.insert("authorization_details".to_owned(), value.ok_or_else(wrong)?);
        }
        Ok(Event {
            kind: set::GRANT_NARROWED,
            subject: self.target.subject(&self.sending),
            initiator: self.sending.initiator.unwrap_or(Initiator::Admin),
            details: members,
        })
    }
}

//! `taskfence signal claims`: claims have other values than the token says.

use clap::Args;
use serde_json::{Map, Value};

use super::sending::Sending;
use super::target::Target;
use crate::signing::set::{self, Event, Initiator};

/// Say that claims have other values than the tokens say
///
/// Sends the CAEP event token-claims-change. Rules that ask for `claims`, and conditions, use the latest value. The
/// claims that carry scope and details (`scope`, `scp`, `authorization_details`) can only be narrowed. Claims that
/// identify the token cannot be changed.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  taskfence signal claims --session sess-9 --set trusted_network=false --key hub.private.jwk \\
      --issuer https://idp.example --audience https://orders.mesh/signals \\
      --to http://127.0.0.1:10001/signals
  taskfence signal claims --user alice --subject-issuer https://jit.example \\
      --set role=auditor --set 'groups=[\"ops\"]' --issuer https://idp.example \\
      --audience https://orders.mesh/signals --dry-run")]
pub struct Claims {
    #[command(flatten)]
    target: Target,

    /// A claim and its value: JSON, or else a string; may be given more than once
    #[arg(long, value_name = "NAME=VALUE", required = true, value_parser = claim, help_heading = "What happened")]
    set: Vec<(String, Value)>,

    #[command(flatten)]
    pub sending: Sending,
}

impl Claims {
    /// What happened.
    pub fn event(&self) -> Event {
        let claims: Map<String, Value> = self.set.iter().cloned().collect();
        Event {
            kind: set::TOKEN_CLAIMS,
            subject: self.target.subject(&self.sending),
            initiator: self.sending.initiator.unwrap_or(Initiator::Admin),
            details: Map::from_iter([("claims".to_owned(), claims.into())]),
        }
    }
}

fn claim(text: &str) -> Result<(String, Value), &'static str> {
    let (name, value) = text.split_once('=').filter(|(name, _)| !name.is_empty()).ok_or("write NAME=VALUE")?;
    Ok((name.to_owned(), serde_json::from_str(value).unwrap_or_else(|_| value.into())))
}

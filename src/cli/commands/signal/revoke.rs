//! `taskfence signal revoke`: a grant is over.

use clap::Args;
use clap::builder::NonEmptyStringValueParser as NonEmpty;
use serde_json::Map;

use super::sending::Sending;
use crate::signing::set::{self, Event, Initiator};
use crate::signing::subject::Subject;

/// End one token, one session, or every session of a user that began up to now
///
/// Sends the CAEP event session-revoked.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  taskfence signal revoke --session sess-9 --key hub.private.jwk \\
      --issuer https://idp.example --audience https://orders.mesh/signals \\
      --to http://10.0.0.5:10001/signals --to http://10.0.0.6:10001/signals
  taskfence signal revoke --user alice --subject-issuer https://jit.example \\
      --reason 'laptop stolen' --issuer https://idp.example \\
      --audience https://orders.mesh/signals --dry-run")]
pub struct Revoke {
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    pub sending: Sending,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct Target {
    /// The `jti` of the token to end
    #[arg(long, value_name = "JTI", value_parser = NonEmpty::new(), help_heading = "What happened")]
    token: Option<String>,

    /// The `sid` of the session to end
    #[arg(long, value_name = "SID", value_parser = NonEmpty::new(), help_heading = "What happened")]
    session: Option<String>,

    /// The `sub` of the user whose sessions end
    #[arg(long, value_name = "SUB", value_parser = NonEmpty::new(), help_heading = "What happened")]
    user: Option<String>,
}

impl Revoke {
    /// What happened.
    pub fn event(&self) -> Event {
        let issuer = self.sending.subject_issuer().to_owned();
        let Target { token, session, user } = &self.target;
        let subject = match (token, session, user) {
            (Some(jti), _, _) => Subject::Token { issuer, jti: jti.clone() },
            (_, Some(id), _) => Subject::Session { id: id.clone() },
            // The command line has exactly one of the three.
            (_, _, user) => Subject::User { issuer, subject: user.clone().unwrap_or_default() },
        };
        Event {
            kind: set::SESSION_REVOKED,
            subject,
            initiator: self.sending.initiator.unwrap_or(Initiator::Admin),
            details: Map::new(),
        }
    }
}

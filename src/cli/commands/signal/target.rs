//! Whose grants a signal is about.

use clap::Args;
use clap::builder::NonEmptyStringValueParser as NonEmpty;

use super::sending::Sending;
use crate::signing::subject::Subject;

/// Whose grants a signal is about: exactly one of these.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub struct Target {
    /// The `jti` of the token
    #[arg(long, value_name = "JTI", value_parser = NonEmpty::new(), help_heading = "What happened")]
    token: Option<String>,

    /// The task, as the tokens name it in `txn`
    #[arg(long, value_parser = NonEmpty::new(), help_heading = "What happened")]
    task: Option<String>,

    /// The `sid` of the session
    #[arg(long, value_name = "SID", value_parser = NonEmpty::new(), help_heading = "What happened")]
    session: Option<String>,

    /// The `sub` of the user
    #[arg(long, value_name = "SUB", value_parser = NonEmpty::new(), help_heading = "What happened")]
    user: Option<String>,
}

impl Target {
    /// The subject, under the issuer that `sending` names.
    pub fn subject(&self, sending: &Sending) -> Subject {
        let issuer = sending.subject_issuer().to_owned();
        match (&self.token, &self.task, &self.session) {
            (Some(jti), _, _) => Subject::Token { issuer, jti: jti.clone() },
            (_, Some(id), _) => Subject::Task { id: id.clone() },
            (_, _, Some(id)) => Subject::Session { id: id.clone() },
            // The command line has exactly one of the four.
            (None, None, None) => Subject::User { issuer, subject: self.user.clone().unwrap_or_default() },
        }
    }
}

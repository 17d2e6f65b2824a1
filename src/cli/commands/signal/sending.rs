//! The options that all signals share: transmitter, receivers, and how the signal is sent.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use clap::builder::NonEmptyStringValueParser as NonEmpty;
use reqwest::Url;
use serde_json::Value;
use uuid::Uuid;

use crate::commands::signal::to_hub::{Said, ToHub};
use crate::failure::Failure;
use crate::signing::key::SigningKey;
use crate::signing::push::{Answer, Pusher};
use crate::signing::set::{self, Envelope, Event, Initiator};
use crate::terminal::console::Console;
use crate::terminal::exit::Exit;
use crate::terminal::time::{self, Moment};

/// Transmitter, receivers, and how the signal is sent.
#[derive(Debug, Args)]
pub struct Sending {
    /// The private key to sign with; the receivers know its public half; not needed with --dry-run
    #[arg(long, value_name = "FILE", required_unless_present_any = ["dry_run", "hub"], help_heading = "Transmitter")]
    key: Option<PathBuf>,

    /// The transmitter, as the receivers' configuration names it
    #[arg(long, value_name = "URI", required_unless_present = "hub", value_parser = NonEmpty::new(),
        help_heading = "Transmitter")]
    issuer: Option<String>,

    /// The issuer of the token or of the user; a session, task or device needs none [default: the value of --issuer]
    #[arg(long, value_name = "URI", value_parser = NonEmpty::new(), help_heading = "Transmitter")]
    subject_issuer: Option<String>,

    /// Who caused the event [default: system for complete, admin for the others]
    #[arg(long, value_name = "WHO", help_heading = "Signal")]
    pub initiator: Option<Initiator>,

    /// When the event happened: RFC 3339, unix seconds, or an offset like -10m
    #[arg(long, value_name = "TIME", default_value = "now", allow_hyphen_values = true, help_heading = "Signal")]
    at: Moment,

    /// Why, in English, for the receivers' logs
    #[arg(long, value_name = "TEXT", value_parser = NonEmpty::new(), help_heading = "Signal")]
    pub reason: Option<String>,

    /// The id of this signal; give that of an earlier one to repeat it [default: a new UUID]
    #[arg(long, value_parser = NonEmpty::new(), help_heading = "Signal")]
    jti: Option<String>,

    /// The id of its cause, when several signals have one cause [default: a new UUID]
    #[arg(long, value_parser = NonEmpty::new(), help_heading = "Signal")]
    txn: Option<String>,

    /// The audience, as the receivers' configuration names it; may be given more than once
    #[arg(long, value_name = "URI", required_unless_present = "hub", value_parser = NonEmpty::new(),
        help_heading = "Receivers")]
    audience: Vec<String>,

    /// Where to push it; may be given more than once, and left out with --dry-run and --print
    #[arg(long, value_name = "URL", required_unless_present_any = ["dry_run", "print", "hub"],
        value_parser = receiver,
        help_heading = "Receivers")]
    to: Vec<Url>,

    /// The value of the Authorization header that the receivers expect
    #[arg(
        long,
        value_name = "VALUE",
        env = "TASKFENCE_AUTHORIZATION",
        hide_env_values = true,
        help_heading = "Receivers"
    )]
    authorization: Option<String>,

    /// How long one receiver may take
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = time::duration, help_heading = "Receivers")]
    timeout: Duration,

    /// Print the signal as JSON; do not sign it and do not push it
    #[arg(long, conflicts_with = "print", help_heading = "Receivers")]
    dry_run: bool,

    /// Print the signed signal on the first line; push it only where --to says
    #[arg(long, help_heading = "Receivers")]
    print: bool,

    #[command(flatten)]
    hub: ToHub,
}

impl Sending {
    /// The issuer of the tokens that the signal is about.
    pub fn subject_issuer(&self) -> &str {
        self.subject_issuer.as_deref().or(self.issuer.as_deref()).unwrap_or_default()
    }

    /// Signs and pushes `event`, or prints it, as the command line says.
    pub fn send(&self, event: &Event, console: &mut Console<'_>) -> Result<Exit, Failure> {
        if self.hub.is_meant() {
            let said = Said {
                subject_issuer: self.subject_issuer(),
                reason: self.reason.as_deref(),
                jti: self.jti.as_deref(),
                at: self.at.resolve(console.now)?,
            };
            return self.hub.send(event, &said, console);
        }
        let envelope = self.envelope(console.now)?;
        let claims = set::claims(event, &envelope);
        // Without a key there is nothing but a dry run: the command line has seen to that.
        let Some(key) = self.key.as_deref().filter(|_| !self.dry_run) else {
            writeln!(console.out, "{}", serde_json::to_string_pretty(&Value::Object(claims))?)?;
            return Ok(Exit::Done);
        };
        let set = SigningKey::read(key)?.sign(set::TYP, &claims)?;
        if self.print {
            writeln!(console.out, "{set}")?;
        }
        if self.to.is_empty() {
            return Ok(Exit::Done);
        }
        let pusher = Pusher::new(&self.to, self.authorization.as_deref(), self.timeout)?;
        report(&self.to, &pusher.push(&set), &envelope, console)
    }

    fn envelope(&self, now: u64) -> Result<Envelope, Failure> {
        let id = |given: &Option<String>| given.clone().unwrap_or_else(|| Uuid::new_v4().to_string());
        Ok(Envelope {
            issuer: self.issuer.clone().unwrap_or_default(),
            audiences: self.audience.clone(),
            jti: id(&self.jti),
            txn: id(&self.txn),
            issued_at: now,
            event_time: self.at.resolve(now)?,
            reason: self.reason.clone(),
        })
    }
}

fn report(
    receivers: &[Url],
    answers: &[Answer],
    envelope: &Envelope,
    console: &mut Console<'_>,
) -> Result<Exit, Failure> {
    for (receiver, answer) in receivers.iter().zip(answers) {
        writeln!(console.out, "{receiver}: {answer}")?;
    }
    let missing = answers.iter().filter(|answer| **answer != Answer::Accepted).count();
    if missing == 0 {
        return Ok(Exit::Done);
    }
    let (jti, at) = (&envelope.jti, envelope.event_time);
    writeln!(
        console.err,
        "error: {missing} of {} did not accept the signal; to repeat it there, add `--jti {jti} --at {at}`",
        answers.len(),
    )?;
    Ok(Exit::Failed)
}

fn receiver(text: &str) -> Result<Url, &'static str> {
    let url: Url = text.parse().map_err(|_| "write a whole URL, like http://127.0.0.1:10001/signals")?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err("a receiver is reached by http or https");
    }
    // It would show in the report of every push.
    if !url.username().is_empty() || url.password().is_some() {
        return Err("put the credentials into --authorization instead");
    }
    Ok(url)
}

//! `taskfence signal`: tells the filters what has changed. Each subcommand is one kind of event in the operator's
//! words; what they share (who says it, to whom, how it is sent) is [`Sending`].

use std::path::PathBuf;
use std::time::Duration;

use clap::builder::NonEmptyStringValueParser as NonEmpty;
use clap::{Args, Subcommand, ValueEnum};
use reqwest::Url;
use serde_json::{Map, Value};
use uuid::Uuid;

use crate::console::Console;
use crate::exit::{Exit, Failure};
use crate::key::SigningKey;
use crate::push::{Answer, Pusher};
use crate::set::{self, Envelope, Event, Initiator};
use crate::subject::Subject;
use crate::time::{self, Moment};

/// Sign a signal and push it to the filters, which act on it at once
///
/// A signal is a security event token (RFC 8417), pushed as RFC 8935 says. A receiver answers 202 when it has taken
/// it; from then on no request passes against it.
#[derive(Debug, Subcommand)]
pub enum Signal {
    Revoke(Revoke),
    Complete(Complete),
}

impl Signal {
    /// Runs the command.
    pub fn run(&self, console: &mut Console<'_>) -> Result<Exit, Failure> {
        match self {
            Self::Revoke(revoke) => revoke.sending.send(&revoke.event(), console),
            Self::Complete(complete) => complete.sending.send(&complete.event(), console),
        }
    }
}

/// End one token, one session, or every session of a user that began up to now
///
/// Sends the CAEP event session-revoked.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  taskfence signal revoke --session sess-9 --key hub.private.jwk \\
      --issuer https://idp.example --audience https://orders.mesh/signals \\
      --to http://10.0.0.5:9901/signals --to http://10.0.0.6:9901/signals
  taskfence signal revoke --user alice --subject-issuer https://jit.example \\
      --reason 'laptop stolen' --issuer https://idp.example \\
      --audience https://orders.mesh/signals --dry-run")]
pub struct Revoke {
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    sending: Sending,
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
    fn event(&self) -> Event {
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

/// Say that a task is over: every token that was granted for it ends
///
/// Sends our event task-completed.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  taskfence signal complete --task task-42 --key hub.private.jwk \\
      --issuer https://idp.example --audience https://orders.mesh/signals \\
      --to http://127.0.0.1:9901/signals
  taskfence signal complete --task task-42 --outcome failure --key hub.private.jwk \\
      --issuer https://idp.example --audience https://orders.mesh/signals --print")]
pub struct Complete {
    /// The task, as the tokens name it in `txn`
    #[arg(long, value_parser = NonEmpty::new(), help_heading = "What happened")]
    task: String,

    /// How it ended
    #[arg(long, value_enum, default_value_t = Outcome::Success, help_heading = "What happened")]
    outcome: Outcome,

    #[command(flatten)]
    sending: Sending,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Outcome {
    Success,
    Failure,
    Cancelled,
}

impl Outcome {
    fn name(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Failure => "failure",
            Self::Cancelled => "cancelled",
        }
    }
}

impl Complete {
    fn event(&self) -> Event {
        let mut details = Map::new();
        details.insert("outcome".to_owned(), self.outcome.name().into());
        Event {
            kind: set::TASK_COMPLETED,
            subject: Subject::Task { id: self.task.clone() },
            initiator: self.sending.initiator.unwrap_or(Initiator::System),
            details,
        }
    }
}

/// Who says it, to whom, and how it gets there.
#[derive(Debug, Args)]
struct Sending {
    /// The private key to sign with; the receivers know its public half; not needed with --dry-run
    #[arg(long, value_name = "FILE", required_unless_present = "dry_run", help_heading = "Who says it")]
    key: Option<PathBuf>,

    /// Who says it: the transmitter, as the receivers' configuration names it
    #[arg(long, value_name = "URI", value_parser = NonEmpty::new(), help_heading = "Who says it")]
    issuer: String,

    /// The issuer of the token or user meant; a session or task needs none [default: the value of --issuer]
    #[arg(long, value_name = "URI", value_parser = NonEmpty::new(), help_heading = "Who says it")]
    subject_issuer: Option<String>,

    /// Who set it off [default: admin for revoke, system for complete]
    #[arg(long, value_name = "WHO", help_heading = "What it says")]
    initiator: Option<Initiator>,

    /// When it happened: RFC 3339, unix seconds, or an offset like -10m
    #[arg(long, value_name = "TIME", default_value = "now", allow_hyphen_values = true, help_heading = "What it says")]
    at: Moment,

    /// Why, in English, for the receivers' logs
    #[arg(long, value_name = "TEXT", value_parser = NonEmpty::new(), help_heading = "What it says")]
    reason: Option<String>,

    /// The id of this signal; give that of an earlier one to repeat it [default: a new UUID]
    #[arg(long, value_parser = NonEmpty::new(), help_heading = "What it says")]
    jti: Option<String>,

    /// The id of its cause, when several signals have one cause [default: a new UUID]
    #[arg(long, value_parser = NonEmpty::new(), help_heading = "What it says")]
    txn: Option<String>,

    /// For whom it is, as the receivers' configuration says; may be given more than once
    #[arg(long, value_name = "URI", required = true, value_parser = NonEmpty::new(), help_heading = "To whom")]
    audience: Vec<String>,

    /// Where to push it; may be given more than once, and left out with --dry-run and --print
    #[arg(long, value_name = "URL", required_unless_present_any = ["dry_run", "print"], value_parser = receiver,
        help_heading = "To whom")]
    to: Vec<Url>,

    /// The value of the Authorization header that the receivers expect
    #[arg(
        long,
        value_name = "VALUE",
        env = "TASKFENCE_AUTHORIZATION",
        hide_env_values = true,
        help_heading = "To whom"
    )]
    authorization: Option<String>,

    /// How long one receiver may take
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = time::duration, help_heading = "To whom")]
    timeout: Duration,

    /// Print the signal as JSON; do not sign it and do not push it
    #[arg(long, conflicts_with = "print", help_heading = "To whom")]
    dry_run: bool,

    /// Print the signed signal on the first line; push it only where --to says
    #[arg(long, help_heading = "To whom")]
    print: bool,
}

impl Sending {
    fn subject_issuer(&self) -> &str {
        self.subject_issuer.as_deref().unwrap_or(&self.issuer)
    }

    fn send(&self, event: &Event, console: &mut Console<'_>) -> Result<Exit, Failure> {
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
            issuer: self.issuer.clone(),
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
        "error: {missing} of {} did not take the signal; to repeat it there, add `--jti {jti} --at {at}`",
        answers.len(),
    )?;
    Ok(Exit::Failed)
}

fn receiver(text: &str) -> Result<Url, &'static str> {
    let url: Url = text.parse().map_err(|_| "write a whole URL, like http://127.0.0.1:9901/signals")?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err("a receiver is reached by http or https");
    }
    // It would show in the report of every push.
    if !url.username().is_empty() || url.password().is_some() {
        return Err("put the credentials into --authorization instead");
    }
    Ok(url)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::console::Capture;
    use crate::key::tests::{claims_of, header_of};
    use crate::push::tests::receiver as listen;
    use serde_json::json;
    use std::path::Path;

    const FROM: [&str; 4] = ["--issuer", "https://idp.example", "--audience", "https://orders.mesh/signals"];

    fn key_in(folder: &Path) -> String {
        let prefix = folder.join("k").to_str().unwrap().to_owned();
        let mut capture = Capture::default();
        assert_eq!(capture.run(&["keys", "new", "--alg", "EdDSA", "--kid", "k1", "--out", &prefix]), Exit::Done);
        format!("{prefix}.private.jwk")
    }

    fn dry_run(args: &[&str]) -> Value {
        let mut capture = Capture::default();
        let args = [&["signal"], args, &FROM, &["--dry-run"]].concat();
        assert_eq!(capture.run(&args), Exit::Done, "{}", capture.err());
        serde_json::from_str(capture.out()).unwrap()
    }

    #[test]
    fn each_command_makes_its_event() {
        let revoked =
            |who: &str| json!({set::SESSION_REVOKED: {"event_timestamp": Capture::NOW, "initiating_entity": who}});
        let completed = |outcome: &str| {
            json!({set::TASK_COMPLETED: {
                "event_timestamp": Capture::NOW, "initiating_entity": "system", "outcome": outcome}})
        };
        let table: &[(&[&str], Value, Value)] = &[
            (
                &["revoke", "--token", "tok-1"],
                json!({"format": "jwt_id", "iss": "https://idp.example", "jti": "tok-1"}),
                revoked("admin"),
            ),
            (
                &["revoke", "--token", "tok-1", "--subject-issuer", "https://jit.example", "--initiator", "policy"],
                json!({"format": "jwt_id", "iss": "https://jit.example", "jti": "tok-1"}),
                revoked("policy"),
            ),
            (
                &["revoke", "--session", "sess-9"],
                json!({"format": "complex", "session": {"format": "opaque", "id": "sess-9"}}),
                revoked("admin"),
            ),
            (
                &["revoke", "--user", "alice", "--subject-issuer", "https://jit.example"],
                json!({"format": "iss_sub", "iss": "https://jit.example", "sub": "alice"}),
                revoked("admin"),
            ),
            (
                &["complete", "--task", "task-42"],
                json!({"format": "complex", "task": {"format": "opaque", "id": "task-42"}}),
                completed("success"),
            ),
            (
                &["complete", "--task", "task-42", "--outcome", "cancelled"],
                json!({"format": "complex", "task": {"format": "opaque", "id": "task-42"}}),
                completed("cancelled"),
            ),
        ];
        for (args, subject, events) in table {
            let set = dry_run(args);
            assert_eq!((&set["sub_id"], &set["events"]), (subject, events), "{args:?}");
            assert_eq!(set["iss"], "https://idp.example");
            assert_eq!(set["aud"], "https://orders.mesh/signals");
            assert_eq!(set["iat"], Capture::NOW);
            assert!(set.get("sub").is_none() && set.get("exp").is_none(), "{set}");
            assert_eq!(Uuid::parse_str(set["jti"].as_str().unwrap()).unwrap().get_version_num(), 4);
            assert_ne!(set["jti"], set["txn"]);
        }
    }

    #[test]
    fn what_the_event_says_can_be_set() {
        let args =
            ["complete", "--task", "t", "--at", "-10m", "--reason", "done early", "--jti", "set-77", "--txn", "root-5"];
        let set = dry_run(&args);
        assert_eq!((&set["jti"], &set["txn"]), (&json!("set-77"), &json!("root-5")));
        let body = &set["events"][set::TASK_COMPLETED];
        assert_eq!(body["event_timestamp"], Capture::NOW - 600);
        assert_eq!(body["reason_admin"], json!({"en": "done early"}));
    }

    #[test]
    fn a_signal_is_signed_and_pushed() {
        let folder = tempfile::tempdir().unwrap();
        let key = key_in(folder.path());
        let (url, requests) = listen("HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n");
        let args = ["--key", &key, "--to", url.as_str(), "--print"];
        let mut capture = Capture::default();
        let exit = capture.run(&[&["signal", "complete", "--task", "t"], &FROM[..], &args].concat());
        assert_eq!(exit, Exit::Done, "{}", capture.err());

        let (set, answer) = capture.out().split_once('\n').unwrap();
        assert_eq!(answer, format!("{url}: 202 accepted\n"));
        assert_eq!(header_of(set), json!({"alg": "EdDSA", "kid": "k1", "typ": "secevent+jwt"}));
        assert_eq!(claims_of(set)["sub_id"]["task"]["id"], "t");
        assert!(requests.recv().unwrap().ends_with(&format!("\r\n\r\n{set}")), "what is printed is what was pushed");
    }

    #[test]
    fn one_refusal_fails_the_command() {
        let folder = tempfile::tempdir().unwrap();
        let key = key_in(folder.path());
        let (good, _kept) = listen("HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n");
        let (bad, _kept) = listen("HTTP/1.1 400 Bad Request\r\ncontent-length: 21\r\n\r\n{\"err\":\"invalid_key\"}");
        let args = ["--key", &key, "--to", bad.as_str(), "--to", good.as_str(), "--jti", "j", "--at", "1790000000"];
        let mut capture = Capture::default();
        let exit = capture.run(&[&["signal", "revoke", "--user", "u"], &FROM[..], &args].concat());
        assert_eq!(exit, Exit::Failed);
        assert_eq!(capture.out(), format!("{bad}: 400 invalid_key\n{good}: 202 accepted\n"));
        let expected = "error: 1 of 2 did not take the signal; to repeat it there, add `--jti j --at 1790000000`\n";
        assert_eq!(capture.err(), expected);
    }

    #[test]
    fn wrong_usage() {
        let table: &[&[&str]] = &[
            &["revoke", "--dry-run"],
            &["revoke", "--token", "a", "--session", "b", "--dry-run"],
            &["revoke", "--user", "", "--dry-run"],
            &["revoke", "--token", "a"],
            &["revoke", "--token", "a", "--to", "http://127.0.0.1:1/"],
            &["revoke", "--token", "a", "--key", "k"],
            &["revoke", "--token", "a", "--key", "k", "--to", "127.0.0.1:9901"],
            &["revoke", "--token", "a", "--key", "k", "--to", "file:///etc/passwd"],
            &["revoke", "--token", "a", "--key", "k", "--to", "http://user:secret@127.0.0.1/"],
            &["revoke", "--token", "a", "--at", "1790000000000", "--dry-run"],
            &["complete", "--task", "t", "--outcome", "great", "--dry-run"],
            &["complete", "--task", "t", "--dry-run", "--print"],
        ];
        for args in table {
            let mut capture = Capture::default();
            assert_eq!(capture.run(&[&["signal"], *args, &FROM].concat()), Exit::Usage, "{args:?}");
        }
    }
}

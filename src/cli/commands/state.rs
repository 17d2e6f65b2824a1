//! `taskfence state`: what stands against something.

use std::ffi::OsString;

use clap::Args;
use clap::builder::NonEmptyStringValueParser as NonEmpty;
use serde_json::Value;
use taskfence_core::time::Timestamp;

use crate::commands::hub_options::{HubOptions, Output};
use crate::commands::status::{list, text};
use crate::failure::Failure;
use crate::input::secret::Secret;
use crate::terminal::console::Console;
use crate::terminal::exit::Exit;
use crate::terminal::text::time_from;

/// Show what stands against a token, task, session, user, client, device or issuer, and since which signal
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  taskfence state --issuer https://jit.example --task task-42
  taskfence state --token @token.jwt
  taskfence state --issuer https://jit.example --output json")]
pub struct State {
    #[command(flatten)]
    target: Thing,
    /// A token, or @FILE; the hub reads its names and does not verify it
    #[arg(long, value_name = "TOKEN", conflicts_with_all = ["issuer", "token_id", "task", "session", "user", "client", "device"],
        value_parser = clap::builder::ValueParser::os_string(), help_heading = "About what")]
    token: Option<OsString>,
    #[command(flatten)]
    options: HubOptions,
}

/// What is meant: an issuer, or one thing that its tokens name.
#[derive(Debug, Args)]
pub struct Thing {
    /// The issuer of the tokens [default: the only one of the feed]
    #[arg(long, value_name = "URI", value_parser = NonEmpty::new(), help_heading = "About what")]
    pub issuer: Option<String>,

    /// The `jti` of a token
    #[arg(long, value_name = "JTI", value_parser = NonEmpty::new(), group = "thing", help_heading = "About what")]
    token_id: Option<String>,

    /// A task
    #[arg(long, value_parser = NonEmpty::new(), group = "thing", help_heading = "About what")]
    task: Option<String>,

    /// The `sid` of a session
    #[arg(long, value_name = "SID", value_parser = NonEmpty::new(), group = "thing", help_heading = "About what")]
    session: Option<String>,

    /// The `sub` of a user
    #[arg(long, value_name = "SUB", value_parser = NonEmpty::new(), group = "thing", help_heading = "About what")]
    user: Option<String>,

    /// The `client_id` of a client
    #[arg(long, value_name = "ID", value_parser = NonEmpty::new(), group = "thing", help_heading = "About what")]
    client: Option<String>,

    /// A device, by the name that the issuer gives it
    #[arg(long, value_name = "ID", value_parser = NonEmpty::new(), group = "thing", help_heading = "About what")]
    device: Option<String>,
}

impl Thing {
    /// What is named, in the words of the API; `None`: the issuer itself.
    pub fn named(&self) -> Option<(&'static str, &str)> {
        let all = [
            ("token", &self.token_id),
            ("task", &self.task),
            ("session", &self.session),
            ("user", &self.user),
            ("client", &self.client),
            ("device", &self.device),
        ];
        all.into_iter().find_map(|(what, name)| Some((what, name.as_deref()?)))
    }

    /// The issuer that is meant: the one that was named, or the only one of `feed`.
    pub fn issuer(&self, feed: &str, feeds: &Value) -> Result<String, Failure> {
        if let Some(issuer) = &self.issuer {
            return Ok(issuer.clone());
        }
        let known = list(feeds).iter().find(|known| known.get("name").and_then(Value::as_str) == Some(feed));
        let issuers = known.and_then(|feed| feed.get("issuers")).unwrap_or(&Value::Null);
        match list(issuers) {
            [only] => Ok(only.as_str().unwrap_or_default().to_owned()),
            _ => Err(Failure::Usage(format!("the feed `{feed}` has several issuers; use `--issuer URI`"))),
        }
    }
}

impl State {
    /// Runs the command.
    pub fn run(&self, console: &mut Console<'_>) -> Result<Exit, Failure> {
        let client = self.options.connect()?;
        let feed = self.options.feed(&client)?;
        let path = format!("/v1/feeds/{feed}/state");
        let state = match &self.token {
            Some(token) => client.get_about_token(&path, &Secret::from(token.clone()).read()?)?,
            None => {
                let issuer = self.target.issuer(&feed, &client.get("/v1/feeds", &[])?)?;
                let mut query = vec![("issuer", issuer.as_str())];
                query.extend(self.target.named());
                client.get(&path, &query)?
            }
        };
        match self.options.output {
            Output::Json => writeln!(console.out, "{}", serde_json::to_string_pretty(&state)?)?,
            Output::Human => print(&state, console)?,
        }
        Ok(Exit::Done)
    }
}

fn print(state: &Value, console: &mut Console<'_>) -> Result<(), Failure> {
    let about = list(state.get("about").unwrap_or(&Value::Null));
    let names: Vec<_> = about
        .iter()
        .map(|one| match text(one, "name") {
            name if name.is_empty() => format!("{} {}", text(one, "what"), text(one, "issuer")),
            name => format!("{} {name}", text(one, "what")),
        })
        .collect();
    writeln!(console.out, "about {}", names.join(", "))?;
    let entries = list(state.get("entries").unwrap_or(&Value::Null));
    if entries.is_empty() {
        writeln!(console.out, "nothing stands against it")?;
        return Ok(());
    }
    if state.get("restricted") != Some(&Value::Bool(true)) {
        writeln!(console.out, "nothing that restricts stands against it")?;
    }
    let now = Timestamp(console.now);
    for entry in entries {
        let signal = entry.get("signal").unwrap_or(&Value::Null);
        let value = match text(entry, "value") {
            value if value.is_empty() => String::new(),
            value => format!(" {value}"),
        };
        let undone = if entry.get("undone") == Some(&Value::Bool(true)) { ", undone" } else { "" };
        let time = |value: &Value, member: &str| value.get(member).and_then(Value::as_u64).map(Timestamp);
        let at = time(entry, "at").map(|at| time_from(at, now)).unwrap_or_default();
        writeln!(console.out, "\n{} {}{value}{undone}", text(entry, "what"), text(entry, "fact"))?;
        writeln!(console.out, "  since   {at}")?;
        if let Some(until) = time(entry, "until").filter(|until| *until < Timestamp::MAX) {
            writeln!(console.out, "  kept    until {}", time_from(until, now))?;
        }
        let id = signal.get("signal").and_then(Value::as_u64).unwrap_or_default();
        writeln!(console.out, "  signal  {id}, {}, jti {}", text(signal, "event"), text(signal, "jti"))?;
        writeln!(console.out, "  by      {}", maker(&text(signal, "by"), &text(signal, "transmitter")))?;
        let reason = text(signal, "reason");
        if !reason.is_empty() {
            writeln!(console.out, "  reason  {reason}")?;
        }
        if let Some(undone) = signal.get("undone").filter(|undone| !undone.is_null()) {
            let at = time(undone, "at_ms").map(|at| time_from(Timestamp(at.0 / 1000), now)).unwrap_or_default();
            writeln!(console.out, "  undone  by {}, {at}: {}", text(undone, "by"), text(undone, "reason"))?;
        }
    }
    Ok(())
}

/// Who made a signal. The streams of callers of the API have their names in them: `operator/alice`.
fn maker(by: &str, stream: &str) -> String {
    match stream.split_once('/') {
        Some((role @ ("operator" | "issuer"), name)) if name == by => format!("{by}, {role}"),
        _ => format!("{by} through {stream}"),
    }
}

//! `taskfence hub token`: bearer tokens, on the host of the hub. The hub may run meanwhile.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use clap::builder::NonEmptyStringValueParser as NonEmpty;
use clap::{Args, Subcommand};
use serde_json::json;
use taskfence_core::time::Timestamp;
use taskfence_hub::access::tokens::{self, TokenError};
use taskfence_hub::config::hub::Hub;
use taskfence_hub::config::role::Role;
use taskfence_hub::server;
use taskfence_hub::store::Store;

use crate::commands::hub::audit;
use crate::commands::hub_options::Output;
use crate::failure::Failure;
use crate::input::problem::count;
use crate::remote::table;
use crate::terminal::console::Console;
use crate::terminal::exit::Exit;
use crate::terminal::text::{printable, time_from};

/// Make, rotate, revoke and list the bearer tokens of a hub, on its host
///
/// A running hub knows of a change within a second. The first token for an operator is made here.
#[derive(Debug, Subcommand)]
pub enum Token {
    New(New),
    Rotate(Rotate),
    Revoke(Revoke),
    List(List),
}

/// Make the first token of a new name, and print it this once
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  taskfence hub token new --config hub.yaml --name ops --role operator
  taskfence hub token new --config hub.yaml --name mesh --role sidecar --feed main")]
pub struct New {
    #[command(flatten)]
    of: Of,
    /// The name; with the role issuer that of the issuer, as the feeds name it
    #[arg(long, value_parser = NonEmpty::new())]
    name: String,
    /// What the holder may do: sidecar, transmitter, issuer, operator or auditor
    #[arg(long, value_parser = role)]
    role: Role,
    /// A feed that it may use; may be given more than once [default: all]
    #[arg(long, value_name = "NAME")]
    feed: Vec<String>,
}

/// Make another token; the one before stays valid until it is revoked or the next rotation
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  taskfence hub token rotate --config hub.yaml --name mesh")]
pub struct Rotate {
    #[command(flatten)]
    of: Of,
    /// The name
    #[arg(long, value_parser = NonEmpty::new())]
    name: String,
}

/// Revoke all tokens of a name, or all but the newest
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  taskfence hub token revoke --config hub.yaml --name mesh --but-the-newest
  taskfence hub token revoke --config hub.yaml --name ops")]
pub struct Revoke {
    #[command(flatten)]
    of: Of,
    /// The name
    #[arg(long, value_parser = NonEmpty::new())]
    name: String,
    /// Keep the newest token: this ends a rotation
    #[arg(long)]
    but_the_newest: bool,
}

/// List who has tokens, and when each was made and last used
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  taskfence hub token list --config hub.yaml")]
pub struct List {
    #[command(flatten)]
    of: Of,
}

/// Which hub, and how to print.
#[derive(Debug, Args)]
struct Of {
    /// The configuration of the hub
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// How to print the answer
    #[arg(long, value_enum, default_value_t = Output::Human)]
    output: Output,
}

impl Of {
    fn open(&self) -> Result<(Hub, Arc<dyn Store>), Failure> {
        let (hub, _) = super::read(&self.config)?;
        let store = server::open_store(&hub).map_err(super::failed)?;
        Ok((hub, store))
    }

    fn print_token(&self, name: &str, token: &str, console: &mut Console<'_>) -> Result<Exit, Failure> {
        match self.output {
            Output::Json => writeln!(console.out, "{}", json!({"name": name, "token": token}))?,
            Output::Human => {
                writeln!(console.err, "the token of `{name}`, shown this once:")?;
                writeln!(console.out, "{token}")?;
            }
        }
        Ok(Exit::Done)
    }
}

impl Token {
    /// Runs the command.
    pub fn run(&self, console: &mut Console<'_>) -> Result<Exit, Failure> {
        match self {
            Self::New(new) => {
                let (hub, store) = new.of.open()?;
                if let Some(unknown) = new.feed.iter().find(|name| !hub.feeds.iter().any(|feed| feed.name == **name)) {
                    return Err(Failure::Usage(TokenError::Feed(unknown.clone()).to_string()));
                }
                let token = tokens::create(&*store, &new.name, new.role, &new.feed, now()).map_err(super::failed)?;
                let detail = json!({"name": new.name, "role": new.role.as_str(), "feeds": new.feed});
                audit::note(&*store, console.now, "hub token new", &detail)?;
                new.of.print_token(&new.name, &token, console)
            }
            Self::Rotate(rotate) => {
                let (_, store) = rotate.of.open()?;
                let token = tokens::rotate(&*store, &rotate.name, now()).map_err(super::failed)?;
                audit::note(&*store, console.now, "hub token rotate", &json!({"name": rotate.name}))?;
                rotate.of.print_token(&rotate.name, &token, console)
            }
            Self::Revoke(revoke) => {
                let (_, store) = revoke.of.open()?;
                tokens::revoke(&*store, &revoke.name, revoke.but_the_newest).map_err(super::failed)?;
                let detail = json!({"name": revoke.name, "but_the_newest": revoke.but_the_newest});
                audit::note(&*store, console.now, "hub token revoke", &detail)?;
                let which = if revoke.but_the_newest { "all but the newest token" } else { "all tokens" };
                writeln!(console.out, "revoked: {which} of `{}`", printable(&revoke.name))?;
                Ok(Exit::Done)
            }
            Self::List(list) => list.run(console),
        }
    }
}

impl List {
    fn run(&self, console: &mut Console<'_>) -> Result<Exit, Failure> {
        let (_, store) = self.of.open()?;
        let all = tokens::list(&*store).map_err(super::failed)?;
        if self.of.output == Output::Json {
            let used = |used: u64| Some(used).filter(|used| *used > 0);
            let all: Vec<_> = all
                .iter()
                .map(|info| {
                    let tokens: Vec<_> = info
                        .tokens
                        .iter()
                        .map(|(made, last)| json!({"made_ms": made, "used_ms": used(*last)}))
                        .collect();
                    json!({"name": info.name, "role": info.role, "feeds": info.feeds, "tokens": tokens})
                })
                .collect();
            writeln!(console.out, "{}", serde_json::to_string_pretty(&all)?)?;
            return Ok(Exit::Done);
        }
        let now = Timestamp(console.now);
        let time = |ms: u64| time_from(Timestamp(ms / 1000), now);
        let mut rows = Vec::new();
        for info in &all {
            let feeds = if info.feeds.is_empty() { "all".to_owned() } else { info.feeds.join(", ") };
            for (made, used) in &info.tokens {
                let used = if *used == 0 { "never".to_owned() } else { time(*used) };
                rows.push(vec![printable(&info.name), info.role.clone(), feeds.clone(), time(*made), used]);
            }
        }
        table::print(&["NAME", "ROLE", "FEEDS", "MADE", "LAST USED"], &rows, console.out)?;
        writeln!(console.err, "{}", count(rows.len(), "token"))?;
        Ok(Exit::Done)
    }
}

fn role(text: &str) -> Result<Role, String> {
    Role::from_name(text).ok_or_else(|| {
        let names: Vec<_> = Role::ALL.iter().map(|role| role.as_str()).collect();
        format!("the roles are {}", names.join(", "))
    })
}

/// Milliseconds since 1970.
fn now() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

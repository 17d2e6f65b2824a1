//! `taskfence hub keys`: the keys that a hub signs with, and their rotation, on its host. The hub may run meanwhile.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde_json::{Value, json};
use taskfence_hub::feed::keys;
use taskfence_hub::feed::known_keys::lacking;
use taskfence_hub::replicas::member;
use taskfence_hub::server;

use crate::commands::hub::{OfHub, audit, failed, read};
use crate::failure::Failure;
use crate::terminal::console::Console;
use crate::terminal::exit::Exit;

/// Print the public keys of a hub, for `signals.hub.keys` of the filters that follow it, or rotate them
#[derive(Debug, Args)]
#[command(
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true,
    after_help = "\
Examples:
  taskfence hub keys --config hub.yaml

A rotation has four steps:
  taskfence hub keys prepare --config hub.yaml
  taskfence hub keys --config hub.yaml                # give every filter what this prints
  taskfence hub keys switch --config hub.yaml
  taskfence hub keys retire OLD --config hub.yaml     # and take the old key out of the filters

A hub that runs knows of each step within a second."
)]
pub struct Keys {
    #[command(subcommand)]
    command: Option<Step>,

    /// The configuration of the hub
    #[arg(long, value_name = "FILE", required = true)]
    config: Option<PathBuf>,
}

/// A step of a rotation.
#[derive(Debug, Subcommand)]
enum Step {
    /// Make the next key; it is printed with the others, and signs nothing yet
    #[command(after_help = "\
Examples:
  taskfence hub keys prepare --config hub.yaml")]
    Prepare(OfHub),
    /// Sign with another key, if all live proxies know it
    #[command(after_help = "\
Examples:
  taskfence hub keys switch --config hub.yaml
  taskfence hub keys switch --config hub.yaml --force

It is refused while a live proxy does not know the key: such a proxy could not read the feed any more, and would close
itself. What a proxy reports is seen here some seconds later.")]
    Switch(Switch),
    /// Remove a key that signs nothing any more
    #[command(after_help = "\
Examples:
  taskfence hub keys retire KID --config hub.yaml")]
    Retire(Retire),
}

/// What `switch` takes.
#[derive(Debug, Args)]
struct Switch {
    #[command(flatten)]
    of: OfHub,
    /// The `kid` of the key [default: the only other key]
    kid: Option<String>,
    /// Switch although live proxies do not know the key: they close themselves until they get it
    #[arg(long)]
    force: bool,
}

/// What `retire` takes.
#[derive(Debug, Args)]
struct Retire {
    #[command(flatten)]
    of: OfHub,
    /// The `kid` of the key
    kid: String,
}

impl Keys {
    /// Runs the command.
    pub fn run(&self, console: &mut Console<'_>) -> Result<Exit, Failure> {
        match &self.command {
            None => {
                // The command line has seen to it that there is one.
                let keys = open(self.config.as_deref().unwrap_or(Path::new("")))?;
                writeln!(console.out, "{}", serde_json::to_string_pretty(&keys.jwks())?)?;
            }
            Some(Step::Prepare(of)) => {
                let kid = open(&of.config)?.prepare().map_err(failed)?;
                note(&of.config, "hub keys prepare", &json!({"kid": kid}), console)?;
                writeln!(console.out, "{kid}")?;
                writeln!(console.err, "made: give it to every filter, then switch to it")?;
            }
            Some(Step::Switch(switch)) => switch.run(console)?,
            Some(Step::Retire(retire)) => {
                let (hub, _) = read(&retire.of.config)?;
                let store = server::open_store(&hub).map_err(failed)?;
                member::check_unused(&*store, &retire.kid, |member| &member.feed_keys).map_err(failed)?;
                open(&retire.of.config)?.retire(&retire.kid).map_err(failed)?;
                note(&retire.of.config, "hub keys retire", &json!({"kid": retire.kid}), console)?;
                writeln!(console.out, "retired: `{}`; take it out of the filters", retire.kid)?;
            }
        }
        Ok(Exit::Done)
    }
}

impl Switch {
    fn run(&self, console: &mut Console<'_>) -> Result<(), Failure> {
        let keys = open(&self.of.config)?;
        let old = keys.current();
        let kid = match &self.kid {
            Some(kid) => kid.clone(),
            None => only_other(&keys)?,
        };
        let (hub, _) = read(&self.of.config)?;
        let store = server::open_store(&hub).map_err(failed)?;
        let feeds: Vec<_> = hub.feeds.iter().map(|feed| feed.name.as_str()).collect();
        let lacking = lacking(&*store, &feeds, &kid).map_err(failed)?;
        let not_known_by = lacking.len();
        if !self.force {
            member::check_held(&*store, &kid, |member| &member.feed_keys).map_err(failed)?;
        }
        keys.switch(&kid, lacking, self.force).map_err(failed)?;
        let detail = json!({"kid": kid, "old": old, "force": self.force, "not_known_by": not_known_by});
        audit::note(&*store, console.now, "hub keys switch", &detail)?;
        writeln!(console.out, "`{kid}` signs; retire `{old}` when the hub has logged that it read the keys again")?;
        Ok(())
    }
}

fn open(config: &Path) -> Result<keys::Keys, Failure> {
    let (hub, _) = read(config)?;
    if hub.follow.is_some() {
        return Err(Failure::Usage(
            "a relay signs nothing, so it has no keys: run this on the host of its hub".to_owned(),
        ));
    }
    server::make_data(&hub).map_err(failed)?;
    keys::Keys::open(&hub.data.join(server::KEYS)).map_err(failed)
}

fn note(config: &Path, call: &str, detail: &Value, console: &Console<'_>) -> Result<(), Failure> {
    let (hub, _) = read(config)?;
    let store = server::open_store(&hub).map_err(failed)?;
    audit::note(&*store, console.now, call, detail)
}

/// The one key that does not sign.
fn only_other(keys: &keys::Keys) -> Result<String, Failure> {
    let current = keys.current();
    let mut others = keys.kids();
    others.retain(|kid| *kid != current);
    match others.as_slice() {
        [only] => Ok(only.clone()),
        [] => Err(Failure::Usage("there is no other key: make one with `taskfence hub keys prepare`".to_owned())),
        several => Err(Failure::Usage(format!("which key? There are `{}`", several.join("`, `")))),
    }
}

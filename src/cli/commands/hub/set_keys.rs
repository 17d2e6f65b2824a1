//! `taskfence hub set-keys`: the keys that a hub signs SETs with, and their rotation, on its host. The hub may run meanwhile.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::{Args, Subcommand};
use serde_json::{Value, json};
use taskfence_hub::replicas::member;
use taskfence_hub::server;
use taskfence_hub::store::Store;
use taskfence_hub::streams::keys;

use crate::commands::hub::{OfHub, audit, failed, read};
use crate::failure::Failure;
use crate::terminal::console::Console;
use crate::terminal::exit::Exit;

/// Print the public keys that a hub signs SETs for receivers with, or rotate them
#[derive(Debug, Args)]
#[command(
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true,
    after_help = "\
Examples:
  taskfence hub set-keys --config hub.yaml

A rotation has three steps, and receivers read the keys at `jwks_uri` between them:
  taskfence hub set-keys prepare --config hub.yaml
  taskfence hub set-keys switch KID --config hub.yaml     # a day later
  taskfence hub set-keys retire OLD --config hub.yaml     # when no SET that it signed is on its way any more

A hub that runs knows of each step within a second."
)]
pub struct SetKeys {
    #[command(subcommand)]
    command: Option<Step>,

    /// The configuration of the hub
    #[arg(long, value_name = "FILE", required = true)]
    config: Option<PathBuf>,
}

/// A step of a rotation.
#[derive(Debug, Subcommand)]
enum Step {
    /// Make the next key; it is published with the others, and signs nothing yet
    #[command(after_help = "\
Examples:
  taskfence hub set-keys prepare --config hub.yaml")]
    Prepare(OfHub),
    /// Sign with another key
    #[command(after_help = "\
Examples:
  taskfence hub set-keys switch KID --config hub.yaml")]
    Switch(OfKey),
    /// Remove a key that signs nothing any more
    #[command(after_help = "\
Examples:
  taskfence hub set-keys retire KID --config hub.yaml")]
    Retire(OfKey),
}

/// Which key of which hub.
#[derive(Debug, Args)]
struct OfKey {
    #[command(flatten)]
    of: OfHub,
    /// The `kid` of the key
    kid: String,
}

impl SetKeys {
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
                note(&of.config, "hub set-keys prepare", &json!({"kid": kid}), console)?;
                writeln!(console.out, "{kid}")?;
                writeln!(console.err, "made: switch to it when receivers have read the keys again")?;
            }
            Some(Step::Switch(OfKey { of, kid })) => {
                let keys = open(&of.config)?;
                let old = keys.current();
                member::check_held(&*store(of)?, kid, |member| &member.set_keys).map_err(failed)?;
                keys.switch(kid, Vec::new(), false).map_err(failed)?;
                note(&of.config, "hub set-keys switch", &json!({"kid": kid, "old": old}), console)?;
                writeln!(
                    console.out,
                    "`{kid}` signs; retire `{old}` when no SET that it signed is on its way any more"
                )?;
            }
            Some(Step::Retire(OfKey { of, kid })) => {
                member::check_unused(&*store(of)?, kid, |member| &member.set_keys).map_err(failed)?;
                open(&of.config)?.retire(kid).map_err(failed)?;
                note(&of.config, "hub set-keys retire", &json!({"kid": kid}), console)?;
                writeln!(console.out, "retired: `{kid}`")?;
            }
        }
        Ok(Exit::Done)
    }
}

fn store(of: &OfHub) -> Result<Arc<dyn Store>, Failure> {
    let (hub, _) = read(&of.config)?;
    server::open_store(&hub).map_err(failed)
}

fn open(config: &Path) -> Result<keys::SetKeys, Failure> {
    let (hub, _) = read(config)?;
    server::make_data(&hub).map_err(failed)?;
    keys::SetKeys::open(&hub.data.join(server::KEYS)).map_err(failed)
}

fn note(config: &Path, call: &str, detail: &Value, console: &Console<'_>) -> Result<(), Failure> {
    let (hub, _) = read(config)?;
    let store = server::open_store(&hub).map_err(failed)?;
    audit::note(&*store, console.now, call, detail)
}

//! `taskfence hub`: runs a hub, and what is done on its host.

mod audit;
mod coverage;
mod keys;
mod set_keys;
mod streams;
mod token;
mod transmitter;

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand, ValueEnum};
use serde_json::{Value, json};
use taskfence_core::config::problem::Problem;
use taskfence_core::policy::policy::Policy;
use taskfence_core::time::Timestamp;
use taskfence_hub::config::compile::compile;
use taskfence_hub::config::hub::Hub as HubConfig;
use taskfence_hub::feed::keys::Keys;
use taskfence_hub::health::{self, Gap};
use taskfence_hub::replicas::configuration::accept_config;
use taskfence_hub::server::{self, LogFormat};
use taskfence_hub::store::open;

use crate::failure::Failure;
use crate::input::document;
use crate::input::file;
use crate::input::problem::{self, BadFile, count};
use crate::terminal::console::Console;
use crate::terminal::exit::Exit;
use crate::terminal::text;

/// Run a hub: it takes signals in once, keeps them, and brings every proxy up to date
#[derive(Debug, Args)]
#[command(
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true,
    after_help = "\
Examples:
  taskfence hub --config hub.yaml
  taskfence hub token new --config hub.yaml --name ops --role operator
  taskfence hub keys --config hub.yaml

SIGTERM ends it: it stops being ready, answers who waits, and ends when all is stored."
)]
pub struct Hub {
    #[command(subcommand)]
    command: Option<HubCommand>,

    /// The configuration of the hub
    #[arg(long, value_name = "FILE", required = true)]
    config: Option<PathBuf>,

    /// How to write the log to standard error
    #[arg(long, value_enum, default_value_t = Log::Text)]
    log_format: Log,

    /// How long requests may go on after SIGTERM while `/readyz` says no, before the hub stops to listen
    #[arg(long, value_name = "TIME", default_value = "3s", value_parser = crate::terminal::time::duration)]
    drain: std::time::Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Log {
    /// Lines to read
    Text,
    /// A JSON object for each line
    Json,
}

/// What is done on the host of a hub.
#[derive(Debug, Subcommand)]
enum HubCommand {
    #[command(subcommand)]
    Token(token::Token),
    #[command(subcommand)]
    Transmitter(transmitter::Transmitter),
    /// Check the configuration of a hub
    #[command(after_help = "\
Examples:
  taskfence hub check --config hub.yaml

Exits with 0 when the configuration is good, with 3 when it is not.")]
    Check(OfHub),
    Keys(keys::Keys),
    SetKeys(set_keys::SetKeys),
    Streams(Box<streams::Streams>),
    /// Copy the store of a hub into a new file, also while the hub runs; its keys are not in it
    #[command(after_help = "\
Examples:
  taskfence hub backup --config hub.yaml /backup/hub.sqlite")]
    Backup(Backup),
    /// Move the store of a hub that does not run into the database that its configuration names
    #[command(after_help = "\
Examples:
  taskfence hub move --config hub.yaml --from /var/lib/taskfence

End the hub, write `store.postgres` into its configuration, move, and start it again. Proxies go on
where they were. The database must be empty. Every row is compared with what was read. The old file
stays, and no hub starts with it any more.")]
    Move(Move),
    /// Make this configuration the current one, after a change of its name, its skew or its feeds
    #[command(after_help = "\
Examples:
  taskfence hub accept-config --config hub.yaml

A hub whose configuration is not the current one is not ready. Those that run look again each second.")]
    AcceptConfig(OfHub),
    /// After a restore: say that the loss was dealt with, or cut off all that began before
    #[command(after_help = "\
Examples:
  taskfence hub accept-loss --config hub.yaml --by alice
  taskfence hub accept-loss --config hub.yaml --by alice --cut-off

What was taken in after the backup is not in the store. A hub whose store was restored is not ready until somebody has
decided. With --cut-off, every grant of every issuer whose session began before the restore is refused: one signal for each
issuer, which `taskfence undo` can undo. The hub makes them within a second, or when it starts. The audit log names who
decided.")]
    AcceptLoss(AcceptLoss),
}

/// Which hub.
#[derive(Debug, Args)]
pub struct OfHub {
    /// The configuration of the hub
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
}

/// What `backup` takes.
#[derive(Debug, Args)]
struct Backup {
    #[command(flatten)]
    of: OfHub,
    /// The file to write; it must not exist
    to: PathBuf,
}

/// What `move` takes.
#[derive(Debug, Args)]
struct Move {
    #[command(flatten)]
    of: OfHub,
    /// The `data` of the hub until now, or a file in which a store is
    #[arg(long, value_name = "PATH")]
    from: PathBuf,
}

/// What `accept-loss` takes.
#[derive(Debug, Args)]
struct AcceptLoss {
    #[command(flatten)]
    of: OfHub,
    /// Who decides, for the audit log
    #[arg(long, value_name = "NAME", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    by: String,
    /// Refuse all that began before the restore
    #[arg(long)]
    cut_off: bool,
}

impl Hub {
    /// Runs the command.
    pub fn run(&self, console: &mut Console<'_>) -> Result<Exit, Failure> {
        match &self.command {
            None => self.serve(console),
            Some(HubCommand::Token(token)) => token.run(console),
            Some(HubCommand::Transmitter(transmitter)) => transmitter.run(console),
            Some(HubCommand::Check(of)) => {
                let text = file::read_or_input(&of.config, console.input)?;
                check(&of.config, &text, console)
            }
            Some(HubCommand::Keys(keys)) => keys.run(console),
            Some(HubCommand::SetKeys(keys)) => keys.run(console),
            Some(HubCommand::Streams(streams)) => streams.run(console),
            Some(HubCommand::Backup(backup)) => backup.run(console),
            Some(HubCommand::Move(one)) => one.run(console),
            Some(HubCommand::AcceptConfig(of)) => of.accept(console),
            Some(HubCommand::AcceptLoss(accept)) => accept.run(console),
        }
    }

    fn serve(&self, console: &mut Console<'_>) -> Result<Exit, Failure> {
        // The command line has seen to it that there is one.
        let path = self.config.clone().unwrap_or_default();
        let (hub, json) = read(&path)?;
        problem::print("warning", &hub.warnings, console.err)?;
        let format = match self.log_format {
            Log::Text => LogFormat::Text,
            Log::Json => LogFormat::Json,
        };
        server::run(hub, &health::config_hash(&json), format, self.drain).map_err(failed)?;
        Ok(Exit::Done)
    }
}

impl OfHub {
    fn accept(&self, console: &mut Console<'_>) -> Result<Exit, Failure> {
        let (hub, json) = read(&self.config)?;
        let store = server::open_store(&hub).map_err(failed)?;
        let hash = health::config_hash(&json);
        accept_config(&*store, &hash).map_err(failed)?;
        audit::note(&*store, console.now, "hub accept-config", &json!({"config": hash}))?;
        writeln!(console.out, "the configuration {hash} is current")?;
        Ok(Exit::Done)
    }
}

impl Move {
    fn run(&self, console: &mut Console<'_>) -> Result<Exit, Failure> {
        let (hub, _) = read(&self.of.config)?;
        server::make_data(&hub).map_err(failed)?;
        let moved = open::move_into(&hub, &self.from).map_err(failed)?;
        for (table, rows) in &moved {
            writeln!(console.out, "{table}: {rows} rows")?;
        }
        let keys = hub.data.join(server::KEYS);
        writeln!(console.err, "moved; the hub needs its old keys in `{}`", keys.display())?;
        let store = server::open_store(&hub).map_err(failed)?;
        let rows: serde_json::Map<_, _> =
            moved.iter().map(|(table, rows)| ((*table).to_owned(), json!(rows))).collect();
        audit::note(&*store, console.now, "hub move", &json!({"from": self.from, "rows": rows}))?;
        Ok(Exit::Done)
    }
}

impl AcceptLoss {
    fn run(&self, console: &mut Console<'_>) -> Result<Exit, Failure> {
        let (hub, _) = read(&self.of.config)?;
        let store = server::open_store(&hub).map_err(failed)?;
        let gap = if self.cut_off { Gap::CutOff } else { Gap::Accepted };
        let accepted = health::accept_loss(&*store, &self.by, gap, console.now.saturating_mul(1000)).map_err(failed)?;
        let lost = accepted.map(|at| text::time(Timestamp(at / 1000)));
        match lost {
            Some(_) if self.cut_off => {
                writeln!(
                    console.out,
                    "ordered: the hub cuts off all that began before the restore, and is ready then"
                )?;
            }
            Some(at) => writeln!(console.out, "accepted: what was taken in after {at} is not in the store")?,
            None => writeln!(console.out, "the store was not restored, so nothing is lost")?,
        }
        Ok(Exit::Done)
    }
}

impl Backup {
    fn run(&self, console: &mut Console<'_>) -> Result<Exit, Failure> {
        let (hub, _) = read(&self.of.config)?;
        file::check_free(&self.to, file::Existing::Keep)?;
        let store = server::open_store(&hub).map_err(failed)?;
        store.backup(&self.to).map_err(failed)?;
        writeln!(
            console.out,
            "{}: copied; keep the keys in `{}` too",
            self.to.display(),
            hub.data.join(server::KEYS).display()
        )?;
        Ok(Exit::Done)
    }
}

/// Whether a JSON value is the configuration of a hub, and not that of a filter.
pub fn is_one(value: &Value) -> bool {
    value.get("feeds").is_some() && value.get("rules").is_none()
}

/// Reads the configuration of a hub, with the JSON that it was read from.
pub fn read(path: &Path) -> Result<(HubConfig, Value), Failure> {
    let text = file::read(path)?;
    let (hub, json) = parse(&text).map_err(|problems| BadFile::new(path, problems))?;
    Ok((hub, json))
}

fn parse(text: &[u8]) -> Result<(HubConfig, Value), Vec<Problem>> {
    let json = document::to_json(text, "the configuration").map_err(|problem| vec![problem])?;
    let hub = compile(&json).map_err(|problems| problems.0)?;
    Ok((hub, serde_json::from_slice(&json).unwrap_or_default()))
}

/// What is wrong between a filter and the hub whose configuration stands at `path`.
pub fn compare_with(path: &Path, filter: &Policy) -> Result<Vec<Problem>, Failure> {
    let (hub, _) = read(path)?;
    let folder = hub.data.join(server::KEYS);
    // Elsewhere than on the host of the hub there are no keys to compare, and none must be made.
    let jwks = if folder.is_dir() { Some(Keys::open(&folder).map_err(failed)?.jwks()) } else { None };
    Ok(coverage::compare(filter, &hub, jwks.as_ref()))
}

/// Says what `taskfence check` says about the configuration of a hub.
pub fn check(path: &Path, text: &[u8], console: &mut Console<'_>) -> Result<Exit, Failure> {
    let (hub, _) = parse(text).map_err(|problems| BadFile::new(path, problems))?;
    problem::print("warning", &hub.warnings, console.err)?;
    let mut feeds: Vec<_> = hub.feeds.iter().map(|feed| describe(feed)).collect();
    if let Some(follow) = &hub.follow {
        feeds.extend(follow.feeds.iter().map(|name| format!("feed `{name}` as a relay")));
    }
    writeln!(
        console.out,
        "ok: {}: hub `{}` on {}, {}",
        problem::name(path),
        hub.name,
        hub.listen.address,
        feeds.join("; ")
    )?;
    Ok(Exit::Done)
}

/// The same as one JSON object.
pub fn check_json(text: &[u8], console: &mut Console<'_>) -> Result<Exit, Failure> {
    let list = |problems: &[Problem]| problems.iter().map(problem::to_json).collect::<Vec<_>>();
    let (report, exit) = match parse(text) {
        Ok((hub, _)) => {
            let summary = json!({"hub": hub.name, "feeds": hub.feed_names(), "relay": hub.follow.is_some()});
            (json!({"ok": true, "warnings": list(&hub.warnings), "summary": summary}), Exit::Done)
        }
        Err(problems) => (json!({"ok": false, "errors": list(&problems), "summary": null}), Exit::BadConfig),
    };
    writeln!(console.out, "{}", serde_json::to_string_pretty(&report)?)?;
    Ok(exit)
}

fn describe(feed: &taskfence_hub::config::hub::Feed) -> String {
    let policy = feed.policy();
    let issuers = count(policy.issuers().len(), "issuer");
    let transmitters = count(policy.signals().transmitters().len(), "transmitter");
    format!("feed `{}` with {issuers} and {transmitters}", feed.name)
}

fn failed(error: impl std::fmt::Display) -> Failure {
    Failure::Failed(error.to_string())
}

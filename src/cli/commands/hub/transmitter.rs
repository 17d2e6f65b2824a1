//! `taskfence hub transmitter`: streams at transmitters of signals (SSF 1.0), on the host of the hub.

mod add;
mod edit;
mod entry;

use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use clap::{Args, Subcommand};
use serde_json::{Value, json};
use taskfence_core::time::Timestamp;
use taskfence_hub::config::hub::Hub;
use taskfence_hub::config::ssf::{Delivery, ManagedStream};
use taskfence_hub::intake::verification_states::{self, Verifications};
use taskfence_hub::server;
use taskfence_hub::ssf::client::session::Session;
use taskfence_hub::ssf::client::status::{self, Said};
use taskfence_hub::ssf::client::streams;
use taskfence_hub::ssf::record::{self, StreamRecord};
use taskfence_hub::ssf::trial;
use taskfence_hub::store::Store;

use crate::commands::hub::audit;
use crate::commands::hub_options::Output;
use crate::failure::Failure;
use crate::input::problem::count;
use crate::remote::table;
use crate::terminal::console::Console;
use crate::terminal::exit::Exit;
use crate::terminal::text::{printable, time_from};

/// Make, look at, verify and remove streams at transmitters of signals (SSF 1.0)
///
/// The hub manages each transmitter that has `ssf` in hub.yaml by itself; these commands make the entry, and look at it.
#[derive(Debug, Subcommand)]
pub enum Transmitter {
    Add(Box<add::Add>),
    List(List),
    Status(Status),
    Verify(Verify),
    Remove(Remove),
}

/// List the streams that hub.yaml has, and what the hub knows of them
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  taskfence hub transmitter list --config hub.yaml")]
pub struct List {
    #[command(flatten)]
    of: Of,
}

/// Ask a transmitter for its stream and its status
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  taskfence hub transmitter status --config hub.yaml https://idp.example")]
pub struct Status {
    #[command(flatten)]
    which: Which,
}

/// Have a transmitter send a verification, and wait until the running hub has got it
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  taskfence hub transmitter verify --config hub.yaml https://idp.example")]
pub struct Verify {
    #[command(flatten)]
    which: Which,
    /// How long to wait
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = crate::terminal::time::duration)]
    wait: Duration,
}

/// Delete a stream at its transmitter
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  taskfence hub transmitter remove --config hub.yaml https://idp.example
  taskfence hub transmitter remove --config hub.yaml https://idp.example --stream-id f67e39a0

The hub makes no other stream for this entry. Take the entry out of hub.yaml, and start the hub again.")]
pub struct Remove {
    #[command(flatten)]
    which: Which,
    /// Another stream of the same credentials, which the hub does not use
    #[arg(long, value_name = "ID")]
    stream_id: Option<String>,
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

/// Which stream.
#[derive(Debug, Args)]
struct Which {
    #[command(flatten)]
    of: Of,
    /// `issuer` or `ssf.url` of the transmitter in hub.yaml
    transmitter: String,
    /// The feed [default: the only one with this transmitter]
    #[arg(long, value_name = "NAME")]
    feed: Option<String>,
    /// The audience, where the transmitter has several streams
    #[arg(long)]
    audience: Option<String>,
}

/// A hub with its store.
struct Opened {
    hub: Hub,
    store: Arc<dyn Store>,
}

impl Transmitter {
    /// Runs the command.
    pub fn run(&self, console: &mut Console<'_>) -> Result<Exit, Failure> {
        match self {
            Self::Add(add) => add.run(console),
            Self::List(list) => list.run(console),
            Self::Status(status) => status.run(console),
            Self::Verify(verify) => verify.run(console),
            Self::Remove(remove) => remove.run(console),
        }
    }
}

impl Of {
    fn open(&self) -> Result<Opened, Failure> {
        let (hub, _) = super::read(&self.config)?;
        let store = server::open_store(&hub).map_err(super::failed)?;
        Ok(Opened { hub, store })
    }
}

impl Which {
    fn stream<'h>(&self, hub: &'h Hub) -> Result<&'h ManagedStream, Failure> {
        let same = |text: &str| text.trim_end_matches('/') == self.transmitter.trim_end_matches('/');
        let fits = |one: &&ManagedStream| {
            (same(&one.issuer) || same(one.url.as_str()))
                && self.feed.as_ref().is_none_or(|feed| *feed == one.feed)
                && self.audience.as_ref().is_none_or(|audience| one.audiences.contains(audience))
        };
        let all: Vec<_> = hub.feeds.iter().flat_map(|feed| &feed.managed).filter(fits).collect();
        match all.as_slice() {
            [only] => Ok(only),
            [] => {
                let message = format!(
                    "no transmitter `{}` with `ssf` is in hub.yaml; `taskfence hub transmitter list` has those that are",
                    printable(&self.transmitter)
                );
                Err(Failure::Usage(message))
            }
            several => {
                let names: Vec<_> = several
                    .iter()
                    .map(|one| format!("--feed {} --audience {}", one.feed, one.audiences.join(",")))
                    .collect();
                Err(Failure::Usage(format!("which stream? use one of {}", names.join("; "))))
            }
        }
    }
}

impl List {
    fn run(&self, console: &mut Console<'_>) -> Result<Exit, Failure> {
        let opened = self.of.open()?;
        let (mut rows, mut all) = (Vec::new(), Vec::new());
        let now = Timestamp(console.now);
        for stream in opened.hub.feeds.iter().flat_map(|feed| &feed.managed) {
            let (known, verified) = known(&opened, stream)?;
            let status = condition(&known);
            let heard = match verified.heard {
                0 => "never".to_owned(),
                at => time_from(Timestamp(at / 1_000), now),
            };
            all.push(json!({
                "feed": stream.feed, "issuer": stream.issuer, "audiences": stream.audiences, "delivery": delivery(stream),
                "stream_id": known.id, "status": status, "verified_ms": Some(verified.heard).filter(|at| *at > 0),
                "events_delivered": known.delivered
            }));
            rows.push(vec![
                stream.feed.clone(),
                printable(&stream.issuer),
                printable(&stream.audiences.join(", ")),
                delivery(stream).to_owned(),
                printable(&known.id),
                status,
                heard,
            ]);
        }
        if self.of.output == Output::Json {
            writeln!(console.out, "{}", serde_json::to_string_pretty(&all)?)?;
            return Ok(Exit::Done);
        }
        table::print(&["FEED", "ISSUER", "AUDIENCE", "DELIVERY", "STREAM", "STATUS", "VERIFIED"], &rows, console.out)?;
        writeln!(console.err, "{}", count(rows.len(), "stream"))?;
        Ok(Exit::Done)
    }
}

impl Status {
    fn run(&self, console: &mut Console<'_>) -> Result<Exit, Failure> {
        let opened = self.which.of.open()?;
        let stream = self.which.stream(&opened.hub)?;
        let (known, verified) = known(&opened, stream)?;
        if known.id.is_empty() {
            let what = "the hub has no stream there yet; its log says why";
            return Err(Failure::Failed(format!("{}: {what}", printable(&stream.issuer))));
        }
        let (found, said) = run(async {
            let session = Session::open(stream).await?;
            let found = streams::get(&session, &known.id).await?;
            Ok((found, status::get(&session, &known.id).await?))
        })?;
        let Some(found) = found else {
            return Err(Failure::Failed(format!("the transmitter has no stream `{}` any more", printable(&known.id))));
        };
        let (status, reason) = match said {
            Said::Is(status, reason) => (status.as_str(), reason),
            Said::Unknown => ("unknown", None),
            Said::Missing => ("missing", None),
        };
        if self.which.of.output == Output::Json {
            let report = json!({
                "stream_id": found.id, "status": status, "reason": reason, "audiences": found.audiences,
                "events_delivered": found.delivered, "verified_ms": Some(verified.heard).filter(|at| *at > 0),
                "min_verification_interval": found.min_verification_interval,
                "inactivity_timeout": found.inactivity_timeout
            });
            writeln!(console.out, "{}", serde_json::to_string_pretty(&report)?)?;
        } else {
            let because = reason.map(|reason| format!(" ({})", printable(&reason))).unwrap_or_default();
            writeln!(console.out, "stream {}: {status}{because}", printable(&found.id))?;
            let heard = match verified.heard {
                0 => "never".to_owned(),
                at => time_from(Timestamp(at / 1_000), Timestamp(console.now)),
            };
            writeln!(console.out, "verified: {heard}")?;
            for event in &found.delivered {
                writeln!(console.out, "delivers {}", printable(event))?;
            }
        }
        Ok(if status == "enabled" || status == "unknown" { Exit::Done } else { Exit::Failed })
    }
}

impl Verify {
    fn run(&self, console: &mut Console<'_>) -> Result<Exit, Failure> {
        let opened = self.which.of.open()?;
        let stream = self.which.stream(&opened.hub)?;
        let (known, _) = known(&opened, stream)?;
        if known.id.is_empty() {
            return Err(Failure::Failed("the hub has no stream there yet; its log says why".to_owned()));
        }
        run(async {
            let session = Session::open(stream).await?;
            trial::by_hub(&session, stream, &known.id, &opened.store, now_ms(), self.wait).await
        })?;
        match self.which.of.output {
            Output::Json => writeln!(console.out, "{}", json!({"stream_id": known.id, "verified": true}))?,
            Output::Human => {
                writeln!(console.out, "the hub has got the verification of stream {}", printable(&known.id))?
            }
        }
        Ok(Exit::Done)
    }
}

impl Remove {
    fn run(&self, console: &mut Console<'_>) -> Result<Exit, Failure> {
        let opened = self.which.of.open()?;
        let stream = self.which.stream(&opened.hub)?;
        let (known, _) = known(&opened, stream)?;
        let id = self.stream_id.clone().unwrap_or_else(|| known.id.clone());
        if id.is_empty() {
            return Err(Failure::Failed("the hub has no stream there; name one with --stream-id".to_owned()));
        }
        let is_ours = id == known.id;
        let was_there = run(async {
            let session = Session::open(stream).await?;
            if is_ours {
                // First, so that the running hub makes no other.
                let removed = StreamRecord { removed: Some(now_ms()), ..known.clone() };
                record::save(&opened.store, stream, &removed).await?;
            }
            streams::delete(&session, &id).await
        })?;
        let detail = json!({"feed": stream.feed, "issuer": stream.issuer, "stream_id": id});
        audit::note(&*opened.store, console.now, "hub transmitter remove", &detail)?;
        let what = if was_there { "deleted" } else { "was not there any more" };
        match self.which.of.output {
            Output::Json => writeln!(console.out, "{}", json!({"stream_id": id, "was_there": was_there}))?,
            Output::Human => writeln!(console.out, "stream {}: {what}", printable(&id))?,
        }
        if is_ours {
            writeln!(console.err, "take its entry out of hub.yaml, and start the hub again")?;
        }
        Ok(Exit::Done)
    }
}

/// What the store knows of a stream.
fn known(opened: &Opened, stream: &ManagedStream) -> Result<(StreamRecord, Verifications), Failure> {
    let verified = verification_states::known(&*opened.store, &stream.key()).map_err(super::failed)?;
    let record = run(record::load(&opened.store, stream))?;
    Ok((record.unwrap_or_default(), verified))
}

fn condition(known: &StreamRecord) -> String {
    if known.removed.is_some() {
        return "removed".to_owned();
    }
    if known.id.is_empty() {
        "not made".to_owned()
    } else {
        known.status.clone().unwrap_or_else(|| "unknown".to_owned())
    }
}

fn delivery(stream: &ManagedStream) -> &'static str {
    match stream.delivery {
        Delivery::Poll { .. } => "poll",
        Delivery::Push { .. } => "push",
    }
}

/// Runs what waits for a transmitter.
fn run<T>(work: impl Future<Output = Result<T, taskfence_hub::ssf::client::failure::Failure>>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(super::failed)?;
    runtime.block_on(work).map_err(super::failed)
}

/// Milliseconds since 1970.
fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// A member of a JSON object, by its path.
fn member<'v>(value: &'v Value, path: &[&str]) -> Option<&'v Value> {
    path.iter().try_fold(value, |value, name| value.get(name))
}

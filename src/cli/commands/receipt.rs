//! What a hub took in, and on which proxies it is in force.

use std::time::{Duration, Instant};

use serde::Deserialize;
use serde_json::{Value, json};
use taskfence_core::time::Timestamp;

use crate::commands::hub_options::Output;
use crate::failure::Failure;
use crate::remote::client::Client;
use crate::terminal::console::Console;
use crate::terminal::exit::Exit;
use crate::terminal::text::{printable, time_from};

/// The hub answers a wait after at most so long; then it is asked again.
const ONE_WAIT: Duration = Duration::from_secs(25);

/// What the hub took in.
#[derive(Debug, Deserialize)]
struct Taken {
    signal: u64,
    jti: String,
    revision: String,
    entries: u64,
    repeated: bool,
    notes: Vec<String>,
}

#[derive(Debug, Deserialize)]
struct Receipt {
    confirmed: u64,
    // A hub of before relays says nothing about them.
    #[serde(default)]
    confirmed_by_relays: u64,
    #[serde(default)]
    relays: Vec<Relay>,
    starting: u64,
    complete: bool,
    slowest: Option<Slowest>,
    waiting: Vec<Waiting>,
    may_miss_until_ms: Option<u64>,
}

#[derive(Debug, Deserialize)]
struct Relay {
    relay: String,
    reports: bool,
}

#[derive(Debug, Deserialize)]
struct Slowest {
    node: String,
    after_ms: u64,
}

#[derive(Debug, Deserialize)]
struct Waiting {
    node: String,
    id: String,
    closes_at_ms: Option<u64>,
    never: Option<String>,
}

/// Prints what the hub took in. With `wait` it also prints the receipt, and is done only when that is complete.
pub fn report(
    client: &Client,
    feed: &str,
    taken: Value,
    wait: Option<Duration>,
    output: Output,
    console: &mut Console<'_>,
) -> Result<Exit, Failure> {
    let read: Taken = serde_json::from_value(taken.clone())?;
    if output == Output::Human {
        let revision = &read.revision;
        let (done, id) = match (read.jti.as_str(), read.repeated) {
            // An undo makes no signal of its own.
            ("", _) => ("undone", String::new()),
            (jti, true) => ("taken before", format!(", jti {}", printable(jti))),
            (jti, false) => ("taken in", format!(", jti {}", printable(jti))),
        };
        writeln!(console.out, "{done}: signal {}{id}, revision {revision}", read.signal)?;
        for note in &read.notes {
            writeln!(console.err, "note: {}", printable(note))?;
        }
        if read.entries == 0 && !read.repeated {
            writeln!(console.err, "note: no grant of this feed can be meant, so nothing changes")?;
        }
    }
    let receipt = wait.map(|wait| receipt(client, feed, &read.revision, wait)).transpose()?;
    if output == Output::Json {
        let all = json!({"taken": taken, "receipt": receipt});
        writeln!(console.out, "{}", serde_json::to_string_pretty(&all)?)?;
    }
    let Some(receipt) = receipt else { return Ok(Exit::Done) };
    let receipt: Receipt = serde_json::from_value(receipt)?;
    if output == Output::Human {
        print(&receipt, console)?;
    }
    Ok(if receipt.complete { Exit::Done } else { Exit::Failed })
}

/// Asks until the receipt is complete, or `wait` is over.
fn receipt(client: &Client, feed: &str, revision: &str, wait: Duration) -> Result<Value, Failure> {
    let end = Instant::now().checked_add(wait);
    let path = format!("/v1/feeds/{feed}/receipts/{revision}");
    loop {
        let left = end.map_or(ONE_WAIT, |end| end.saturating_duration_since(Instant::now()));
        let this = left.min(ONE_WAIT);
        // Rounded up: a wait below a second is still a wait.
        let seconds = this.as_millis().div_ceil(1000).to_string();
        let receipt = client.get_waiting(&path, &[("wait", &seconds)], this)?;
        if receipt.get("complete") == Some(&Value::Bool(true)) || left <= ONE_WAIT {
            return Ok(receipt);
        }
    }
}

fn print(receipt: &Receipt, console: &mut Console<'_>) -> Result<(), Failure> {
    let waiting = u64::try_from(receipt.waiting.len()).unwrap_or(u64::MAX);
    let all = receipt.confirmed.saturating_add(waiting);
    let slowest = match &receipt.slowest {
        Some(Slowest { node, after_ms }) => format!("; the slowest was {} after {after_ms} ms", printable(node)),
        None => String::new(),
    };
    let word = if all == 1 { "proxy" } else { "proxies" };
    writeln!(console.out, "in force on {} of {all} {word}{slowest}", receipt.confirmed)?;
    print_relays(receipt, console)?;
    if receipt.starting > 0 {
        writeln!(console.out, "  {} of them have confirmed nothing yet", receipt.starting)?;
    }
    for proxy in &receipt.waiting {
        let name = name(&proxy.node, &proxy.id);
        match (proxy.closes_at_ms, &proxy.never) {
            (Some(at), _) => {
                let at = Timestamp(at.div_ceil(1000));
                let word = if at.0 <= console.now { "has closed itself since" } else { "closes itself by" };
                writeln!(console.out, "  not on {name}: {word} {}", time_from(at, Timestamp(console.now)))?;
            }
            (None, why) => {
                let why =
                    why.as_deref().map(printable).unwrap_or_else(|| "its filter has no `signals.stale`".to_owned());
                writeln!(console.out, "  not on {name}: never closes itself: {why}")?;
            }
        }
    }
    if let Some(until) = receipt.may_miss_until_ms {
        let until = time_from(Timestamp(until.div_ceil(1000)), Timestamp(console.now));
        writeln!(
            console.err,
            "note: the hub or its store is new; there may be proxies that it does not know until {until}"
        )?;
    }
    Ok(())
}

/// What rests on the word of relays.
fn print_relays(receipt: &Receipt, console: &mut Console<'_>) -> Result<(), Failure> {
    if receipt.relays.is_empty() {
        return Ok(());
    }
    let names: Vec<_> = receipt.relays.iter().map(|relay| printable(&relay.relay)).collect();
    let word = if names.len() == 1 { "a relay" } else { "relays" };
    let count = receipt.confirmed_by_relays;
    writeln!(console.out, "  {count} of them by the word of {word}: {}", names.join(", "))?;
    for relay in receipt.relays.iter().filter(|relay| !relay.reports) {
        let name = printable(&relay.relay);
        writeln!(console.out, "  {name} does not say which proxies are behind it: nothing is known of them")?;
    }
    Ok(())
}

fn name(node: &str, id: &str) -> String {
    if node.is_empty() { printable(id) } else { printable(node) }
}

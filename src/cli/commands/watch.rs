//! `taskfence watch`: proxies and new signals, live.

use std::io::Write;
use std::thread::sleep;
use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};
use taskfence_core::time::Timestamp;

use crate::commands::hub_options::{HubOptions, Output};
use crate::commands::status::{PROXY_HEAD, list, proxy_row, text};
use crate::failure::Failure;
use crate::remote::client::Client;
use crate::remote::table;
use crate::terminal::console::Console;
use crate::terminal::exit::Exit;
use crate::terminal::text;
use crate::terminal::time;

/// So many of the last signals stand on the screen.
const SHOWN: usize = 15;

/// Moves to the upper left corner and clears the screen (ECMA-48).
const CLEAR: &str = "\x1b[H\x1b[2J";

/// Watch the proxies of a feed, and its signals as they come
///
/// On a terminal the screen is drawn again each time. Elsewhere each new signal is a line, and with `--output json` a
/// JSON object.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  taskfence watch
  taskfence watch --feed main --output json | jq .signal.event")]
pub struct Watch {
    /// How long to wait between two looks
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = time::duration)]
    every: Duration,

    /// Stop after so many looks [default: go on until interrupted]
    #[arg(long, value_name = "N")]
    looks: Option<u64>,

    #[command(flatten)]
    options: HubOptions,
}

impl Watch {
    /// Runs the command.
    pub fn run(&self, console: &mut Console<'_>) -> Result<Exit, Failure> {
        let client = self.options.connect()?;
        let feed = self.options.feed(&client)?;
        let live = console.colour && self.options.output == Output::Human;
        let mut latest = None;
        let mut look: u64 = 0;
        loop {
            let signals = signals(&client, &feed)?;
            // What was there before the first look is no news.
            let before = latest.unwrap_or_else(|| signals.iter().map(number).max().unwrap_or_default());
            let new: Vec<_> = signals.iter().rev().filter(|signal| number(signal) > before).collect();
            latest = new.iter().map(|signal| number(signal)).max().or(Some(before));
            if live {
                console.now = time::now();
                draw(&client, &feed, &signals, console)?;
            } else {
                for signal in new {
                    match self.options.output {
                        Output::Json => writeln!(console.out, "{}", json!({"feed": feed, "signal": signal}))?,
                        Output::Human => writeln!(console.out, "{}", row(signal).join("  "))?,
                    }
                }
                console.out.flush()?;
            }
            look = look.saturating_add(1);
            if self.looks.is_some_and(|looks| look >= looks) {
                return Ok(Exit::Done);
            }
            sleep(self.every);
        }
    }
}

fn signals(client: &Client, feed: &str) -> Result<Vec<Value>, Failure> {
    let signals = client.get(&format!("/v1/feeds/{feed}/signals"), &[("limit", "1000")])?;
    Ok(list(&signals).to_vec())
}

fn draw(client: &Client, feed: &str, signals: &[Value], console: &mut Console<'_>) -> Result<(), Failure> {
    let proxies = client.get(&format!("/v1/feeds/{feed}/proxies"), &[])?;
    let now = Timestamp(console.now);
    let mut screen = format!("{CLEAR}{}  feed {feed}  {}\n\n", client.address(), text::time(now)).into_bytes();
    let rows: Vec<_> = list(&proxies).iter().map(|proxy| proxy_row(feed, proxy, now)).collect();
    table::print(&PROXY_HEAD, &rows, &mut screen)?;
    writeln!(screen)?;
    let rows: Vec<_> = signals.iter().take(SHOWN).map(row).collect();
    table::print(&["SIGNAL", "TAKEN IN", "EVENT", "SUBJECT", "BY", "UNDONE"], &rows, &mut screen)?;
    console.out.write_all(&screen)?;
    console.out.flush()?;
    Ok(())
}

fn number(signal: &Value) -> u64 {
    signal.get("signal").and_then(Value::as_u64).unwrap_or_default()
}

fn row(signal: &Value) -> Vec<String> {
    let taken_in = signal.get("taken_in_ms").and_then(Value::as_u64).unwrap_or_default();
    let event = text(signal, "event");
    let event = event.rsplit(['/', ':']).next().unwrap_or_default().to_owned();
    let subject = signal.get("subject").map(Value::to_string).unwrap_or_default();
    let undone = signal.get("undone").filter(|undone| !undone.is_null());
    vec![
        number(signal).to_string(),
        text::time(Timestamp(taken_in / 1000)),
        event,
        text::printable(&subject),
        text(signal, "by"),
        undone.map(|undone| format!("by {}", text(undone, "by"))).unwrap_or_default(),
    ]
}

//! `taskfence hub streams`: the streams of receivers, whether each delivers, and how far it is behind.

use clap::Args;
use serde_json::Value;
use taskfence_core::time::Timestamp;

use crate::commands::hub_options::{HubOptions, Output};
use crate::commands::status::{list, text};
use crate::failure::Failure;
use crate::remote::table;
use crate::terminal::console::Console;
use crate::terminal::exit::Exit;

/// Show the streams that receivers have of a feed: status, and how far each is behind
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  taskfence hub streams
  taskfence hub streams --feed main --output json

Exits with 1 when a stream is paused.")]
pub struct Streams {
    #[command(flatten)]
    options: HubOptions,
}

impl Streams {
    /// Runs the command.
    pub fn run(&self, console: &mut Console<'_>) -> Result<Exit, Failure> {
        let client = self.options.connect()?;
        let feed = self.options.feed(&client)?;
        let streams = client.get(&format!("/v1/feeds/{feed}/streams"), &[])?;
        let is_paused = |stream: &Value| text(stream, "status") == "paused";
        let exit = if list(&streams).iter().any(is_paused) { Exit::Failed } else { Exit::Done };
        if self.options.output == Output::Json {
            writeln!(console.out, "{}", serde_json::to_string_pretty(&streams)?)?;
            return Ok(exit);
        }
        if list(&streams).is_empty() {
            writeln!(console.out, "no receiver has a stream of `{feed}`")?;
            return Ok(exit);
        }
        let now = Timestamp(console.now);
        let rows: Vec<_> = list(&streams).iter().map(|stream| row(stream, now)).collect();
        table::print(&["STREAM", "RECEIVER", "DELIVERY", "STATUS", "WAITING", "BEHIND", "SEEN"], &rows, console.out)?;
        for stream in list(&streams).iter().filter(|stream| is_paused(stream)) {
            writeln!(console.err, "paused: {}: {}", text(stream, "stream_id"), text(stream, "reason"))?;
        }
        Ok(exit)
    }
}

fn row(stream: &Value, now: Timestamp) -> Vec<String> {
    let number = |member: &str| stream.get(member).and_then(Value::as_u64).unwrap_or_default();
    let behind = taskfence_core::time::Span(number("behind_ms") / 1000);
    let endpoint = text(stream, "endpoint");
    let delivery = text(stream, "delivery");
    vec![
        text(stream, "stream_id"),
        text(stream, "principal"),
        if endpoint.is_empty() { delivery } else { format!("{delivery} {endpoint}") },
        text(stream, "status"),
        number("waiting").to_string(),
        if number("waiting") == 0 { String::new() } else { behind.to_string() },
        format!("{} ago", now.since(Timestamp(number("seen_ms") / 1000))),
    ]
}

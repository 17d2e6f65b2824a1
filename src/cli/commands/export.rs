//! `taskfence export`: single decisions as lines of JSON, for other systems.

use clap::Args;
use serde::Deserialize;
use taskfence_hub::api::records::Records;

use crate::commands::hub_options::HubChoice;
use crate::commands::window::WindowOptions;
use crate::export::Format;
use crate::failure::Failure;
use crate::input::problem::count;
use crate::terminal::console::Console;
use crate::terminal::exit::Exit;

/// So many decisions are asked for at once.
const PAGE: usize = 1000;

/// Write the single decisions of proxies as lines of JSON, in the format of another system
///
/// These are refusals of verified tokens, what shadow mode would have refused, uses by break-glass, and streams that were
/// ended. At the end it says on standard error after which position to go on the next time.
/// docs/decision-record-mapping.md has each member in each format.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  taskfence export --since 24h --format ocsf > decisions.jsonl
  taskfence export --since 30d --format ecs --after 4711
  taskfence export --since 1h --format otel > /var/log/taskfence/decisions.jsonl")]
pub struct Export {
    #[command(flatten)]
    window: WindowOptions,

    /// The format of each line
    #[arg(long, value_enum, default_value_t = Format::Json)]
    format: Format,

    /// Only what came after this position, as the last export said
    #[arg(long, value_name = "POSITION", default_value_t = 0)]
    after: u64,

    /// At most so many [default: all]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    limit: Option<u64>,

    #[command(flatten)]
    hub: HubChoice,
}

impl Export {
    /// Runs the command.
    pub fn run(&self, console: &mut Console<'_>) -> Result<Exit, Failure> {
        let window = self.window.query(console.now)?;
        let client = self.hub.connect()?;
        let path = format!("/v1/feeds/{}/records", self.hub.feed(&client)?);
        let (mut after, mut written) = (self.after, 0usize);
        let limit = self.limit.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX));
        while written < limit {
            let mut query = window.clone();
            query.push(("after", after.to_string()));
            query.push(("limit", PAGE.min(limit.saturating_sub(written)).to_string()));
            let query: Vec<_> = query.iter().map(|(name, value)| (*name, value.as_str())).collect();
            let page = Records::deserialize(client.get(&path, &query)?)?;
            if page.records.is_empty() {
                break;
            }
            for record in &page.records {
                writeln!(console.out, "{}", self.format.of(record)?)?;
                written = written.saturating_add(1);
            }
            console.out.flush()?;
            after = page.next;
        }
        writeln!(console.err, "exported {}; go on with `--after {after}`", count(written, "decision"))?;
        Ok(Exit::Done)
    }
}

//! `taskfence report`: how wide, how often and how long grants are, and who held what in a window of time.

mod alive;
mod csv;
mod human;
mod roles;
#[cfg(test)]
#[allow(clippy::arithmetic_side_effects, reason = "small numbers of a test")]
mod tests;

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use serde::Deserialize;
use serde_json::Value;
use taskfence_hub::evidence::report::{Alive, Report as Answer, Rollup};

use crate::commands::hub_options::HubChoice;
use crate::commands::window::{WindowOptions, ago, in_order, millis};
use crate::failure::Failure;
use crate::input::file::{self, Access, Existing};
use crate::remote::client::Client;
use crate::terminal::console::Console;
use crate::terminal::exit::Exit;
use crate::terminal::time::Moment;

/// Report how wide grants were, how often the same ones were asked for, and what went on after their end
///
/// docs/measures.md defines each figure. With --alive-between it shows instead which grants could be used between two
/// times.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  taskfence report --since 7d
  taskfence report --since 30d --by client --compare roles.yaml
  taskfence report --since 7d --output html --out report.html
  taskfence report --alive-between 2026-09-21T14:00:00Z 2026-09-21T16:00:00Z")]
pub struct Report {
    #[command(flatten)]
    window: WindowOptions,

    /// What to add grants up by
    #[arg(long, value_enum)]
    by: Option<By>,

    /// At most so many grants are listed, the worst first [default: that of the hub]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    limit: Option<u64>,

    /// The roles of the permanent path, to compare the grants with
    #[arg(long, value_name = "FILE")]
    compare: Option<PathBuf>,

    /// Show which grants could be used between two times, each written like --since
    #[arg(long, num_args = 2, value_names = ["FROM", "TO"], value_parser = ago, allow_hyphen_values = true,
        conflicts_with_all = ["since", "until", "by", "limit", "compare"])]
    alive_between: Option<Vec<Moment>>,

    /// Write into a file, and replace it
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,

    #[command(flatten)]
    hub: HubChoice,

    /// How to print the report
    #[arg(long, value_enum, default_value_t = Format::Human, help_heading = "Hub")]
    output: Format,
}

/// What grants are added up by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum By {
    /// The kind of task
    Kind,
    /// The client
    Client,
    /// The user
    Subject,
}

impl By {
    /// The rollups of `report`.
    fn rollups(self, report: &Answer) -> &[Rollup] {
        match self {
            By::Kind => &report.by_kind,
            By::Client => &report.by_client,
            By::Subject => &report.by_subject,
        }
    }

    fn as_str(self) -> &'static str {
        match self {
            By::Kind => "kind",
            By::Client => "client",
            By::Subject => "subject",
        }
    }
}

/// How to print a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// Tables to read
    #[value(alias = "text")]
    Human,
    /// JSON
    Json,
    /// Lines of comma-separated values (RFC 4180): a line for each grant, or with --by for each sum
    Csv,
    /// One page that needs nothing else
    Html,
}

impl Report {
    /// Runs the command.
    pub fn run(&self, console: &mut Console<'_>) -> Result<Exit, Failure> {
        let mut written = Vec::new();
        match &self.alive_between {
            Some(times) => self.alive(times, console, &mut written)?,
            None => self.report(console, &mut written)?,
        }
        match &self.out {
            Some(path) => {
                let text = String::from_utf8_lossy(&written);
                file::write(path, &text, Access::Everyone, Existing::Replace)?;
                writeln!(console.err, "wrote {}", path.display())?;
            }
            None => console.out.write_all(&written)?,
        }
        Ok(Exit::Done)
    }

    fn report(&self, console: &Console<'_>, out: &mut Vec<u8>) -> Result<(), Failure> {
        let mut query = self.window.query(console.now)?;
        query.extend(self.limit.map(|limit| ("limit", limit.to_string())));
        let roles = self.compare.as_deref().map(roles::read).transpose()?;
        let client = self.hub.connect()?;
        let path = format!("/v1/feeds/{}/report", self.hub.feed(&client)?);
        let answer = match roles {
            Some(roles) => client.post_waiting(&path, &body(&query, roles), WAIT)?,
            None => get(&client, &path, &query)?,
        };
        if self.output == Format::Json {
            return json(&answer, out);
        }
        let report = Answer::deserialize(answer)?;
        match (self.output, self.by) {
            (Format::Csv, by) => csv::print(&report, by, out)?,
            (Format::Html, _) => out.extend(crate::page::render(&report).into_bytes()),
            (_, by) => human::print(&report, by.unwrap_or(By::Kind), out)?,
        }
        Ok(())
    }

    fn alive(&self, times: &[Moment], console: &Console<'_>, out: &mut Vec<u8>) -> Result<(), Failure> {
        let &[from, to] = times else {
            return Err(Failure::Usage("--alive-between needs two times".to_owned()));
        };
        let (from, to) = (from.resolve(console.now)?, to.resolve(console.now)?);
        in_order(("the first of --alive-between", from), ("the second", to))?;
        if self.output == Format::Html {
            return Err(Failure::Usage(
                "--alive-between has no page; use `--output csv`, `json` or `human`".to_owned(),
            ));
        }
        let client = self.hub.connect()?;
        let path = format!("/v1/feeds/{}/alive", self.hub.feed(&client)?);
        let answer = get(&client, &path, &[("from", millis(from)), ("to", millis(to))])?;
        if self.output == Format::Json {
            return json(&answer, out);
        }
        let answer = Alive::deserialize(answer)?;
        match self.output {
            Format::Csv => csv::alive(&answer, out)?,
            _ => alive::print(&answer, out)?,
        }
        Ok(())
    }
}

fn get(client: &Client, path: &str, query: &[(&str, String)]) -> Result<Value, Failure> {
    let query: Vec<_> = query.iter().map(|(name, value)| (*name, value.as_str())).collect();
    Ok(client.get_waiting(path, &query, WAIT)?)
}

/// How long a report over many grants may take.
const WAIT: Duration = Duration::from_secs(60);

fn body(query: &[(&str, String)], roles: Value) -> Value {
    let numbers =
        query.iter().map(|(name, value)| ((*name).to_owned(), value.parse::<u64>().unwrap_or_default().into()));
    Value::Object(numbers.chain([("roles".to_owned(), roles)]).collect())
}

fn json(answer: &Value, out: &mut Vec<u8>) -> Result<(), Failure> {
    serde_json::to_writer_pretty(&mut *out, answer)?;
    out.push(b'\n');
    Ok(())
}

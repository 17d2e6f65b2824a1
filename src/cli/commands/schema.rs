//! `taskfence schema`: what a configuration may hold, for editors and for people.

use clap::{Args, ValueEnum};

use crate::commands::config_reference;
use crate::failure::Failure;
use crate::terminal::console::Console;
use crate::terminal::exit::Exit;

/// Print the JSON Schema of the configuration, or its reference
///
/// The schema (draft 2020-12) is made from the types that read the configuration. Point your editor at it, or check
/// configurations in a pipeline that has no `taskfence`. It describes shapes only: `taskfence check` finds more errors.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  taskfence schema > taskfence.schema.json
  taskfence schema --hub > hub.schema.json
  taskfence schema record > decision-record.schema.json
  taskfence schema --markdown > docs/configuration.md")]
pub struct Schema {
    /// What to describe [default: the configuration of a filter]
    #[arg(value_name = "WHAT", conflicts_with_all = ["markdown", "hub"])]
    what: Option<What>,

    /// Print the reference in Markdown: every key with its type, its default and its meaning
    #[arg(long)]
    markdown: bool,

    /// Print the schema of hub.yaml, the configuration of a hub
    #[arg(long, conflicts_with = "markdown")]
    hub: bool,
}

/// What has a schema beside configurations.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum What {
    /// The record of one decision, as the filter writes it to Envoy's log and to access logs
    Record,
}

impl Schema {
    /// Runs the command.
    pub fn run(&self, console: &mut Console<'_>) -> Result<Exit, Failure> {
        let schema = match (self.what, self.hub) {
            (Some(What::Record), _) => taskfence_core::decision::record::schema(),
            (None, true) => taskfence_hub::config::schema::schema(),
            (None, false) => taskfence_core::config::schema::schema(),
        };
        let text = match self.markdown {
            true => config_reference::markdown(schema.as_value()),
            false => serde_json::to_string_pretty(schema.as_value())? + "\n",
        };
        console.out.write_all(text.as_bytes())?;
        Ok(Exit::Done)
    }
}

//! Single decisions in the formats that others read.
//!
//! Each format has a place for each member of a record, as [`mapping`] lists them. A member without a place, or with a value
//! that its place does not take, goes into the part of the format for what is foreign to it, so that nothing is lost.

mod ecs;
mod mapping;
mod members;
mod ocsf;
mod otel;
#[cfg(test)]
#[allow(clippy::arithmetic_side_effects, reason = "small numbers of a test")]
mod tests;
mod tree;

use clap::ValueEnum;
use serde_json::Value;
use taskfence_hub::api::records::Record;

/// A format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// As the hub has it
    Json,
    /// Open Cybersecurity Schema Framework 1.5.0: API Activity
    Ocsf,
    /// Elastic Common Schema 9.4.0
    Ecs,
    /// OpenTelemetry logs as OTLP/JSON, semantic conventions 1.37.0
    Otel,
}

impl Format {
    /// `record` in this format.
    pub fn of(self, record: &Record) -> Result<Value, serde_json::Error> {
        Ok(match self {
            Format::Json => serde_json::to_value(record)?,
            Format::Ocsf => ocsf::event(record),
            Format::Ecs => ecs::document(record),
            Format::Otel => otel::logs(record),
        })
    }
}

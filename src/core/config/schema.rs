//! The JSON Schema of the configuration, generated from the types that read it.

use crate::config::model::{Config, TransmitterConfig};
use crate::config::schema_shapes::Effects;
use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema};

pub use crate::config::model::IssuerConfig;

/// The JSON Schema (draft 2020-12) of the configuration.
pub fn schema() -> Schema {
    SchemaSettings::draft2020_12().into_generator().into_root_schema_for::<Config>()
}

/// What a feed of a hub takes in: a part of `signals` of a filter.
#[derive(Debug, JsonSchema)]
#[schemars(deny_unknown_fields)]
#[allow(dead_code, reason = "it describes an object that the hub reads as part of a configuration")]
pub struct FeedSignals {
    /// The transmitters that may push signals. Default: none, and signals come from operators and issuers alone.
    transmitters: Option<Vec<TransmitterConfig>>,
    /// The effect of each event for which there is a choice. Default: the defaults below.
    effects: Option<Effects>,
}

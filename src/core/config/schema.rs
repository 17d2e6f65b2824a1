//! The JSON Schema of the configuration, generated from the types that read it.

use crate::config::model::Config;
use schemars::Schema;
use schemars::generate::SchemaSettings;

pub use crate::config::model::IssuerConfig;
pub use crate::config::schema_shapes::FeedSignals;

/// The JSON Schema (draft 2020-12) of the configuration.
pub fn schema() -> Schema {
    SchemaSettings::draft2020_12().into_generator().into_root_schema_for::<Config>()
}

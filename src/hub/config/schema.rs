//! The JSON Schema of `hub.yaml`, generated from the types that read it.

use crate::config::model::HubConfig;
use schemars::Schema;
use schemars::generate::SchemaSettings;

/// The JSON Schema (draft 2020-12) of the configuration of a hub.
pub fn schema() -> Schema {
    SchemaSettings::draft2020_12().into_generator().into_root_schema_for::<HubConfig>()
}

//! The JSON Schema of `hub.yaml`, generated from the types that read it.

use crate::config::model::HubConfig;
use crate::config::ssf_model::SsfConfig;
use schemars::Schema;
use schemars::generate::SchemaSettings;
use serde_json::Value;

/// The JSON Schema (draft 2020-12) of the configuration of a hub.
pub fn schema() -> Schema {
    let mut generator = SchemaSettings::draft2020_12().into_generator();
    let ssf = generator.subschema_for::<SsfConfig>();
    let mut schema = generator.into_root_schema_for::<HubConfig>();
    // The schema of a transmitter is that of a filter, which knows nothing of streams.
    let transmitter = schema.as_object_mut().and_then(|root| root.get_mut("$defs")?.get_mut("TransmitterConfig"));
    if let Some(properties) = transmitter.and_then(|one| one.get_mut("properties")).and_then(Value::as_object_mut) {
        properties.insert("ssf".to_owned(), ssf.to_value());
    }
    schema
}

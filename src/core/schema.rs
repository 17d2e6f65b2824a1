//! The JSON Schema of the configuration, generated from the types that read it.

use crate::config::Config;
use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use std::borrow::Cow;
use std::marker::PhantomData;

/// The JSON Schema (draft 2020-12) of the configuration.
pub fn schema() -> Schema {
    SchemaSettings::draft2020_12().into_generator().into_root_schema_for::<Config>()
}

/// A string for the short form, an object for the long one.
pub(crate) struct StringOr<T>(PhantomData<T>);

impl<T: JsonSchema> JsonSchema for StringOr<T> {
    fn schema_name() -> Cow<'static, str> {
        format!("StringOr{}", T::schema_name()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let long = generator.subschema_for::<T>();
        json_schema!({ "anyOf": [{ "type": "string" }, long] })
    }
}

/// A JWK Set (RFC 7517 §5).
pub(crate) struct JwkSet;

impl JsonSchema for JwkSet {
    fn schema_name() -> Cow<'static, str> {
        "JwkSet".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "object",
            "description": "A JWK Set (RFC 7517). Every key needs a `kid` and must be public.",
            "properties": { "keys": { "type": "array", "items": { "type": "object" }, "maxItems": crate::key::MAX_KEYS } },
            "required": ["keys"]
        })
    }
}

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

/// A short form or a long one.
pub(crate) struct Either<S, L>(PhantomData<(S, L)>);

impl<S: JsonSchema, L: JsonSchema> JsonSchema for Either<S, L> {
    fn schema_name() -> Cow<'static, str> {
        format!("{}Or{}", S::schema_name(), L::schema_name()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let (short, long) = (generator.subschema_for::<S>(), generator.subschema_for::<L>());
        json_schema!({ "anyOf": [short, long] })
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
            "description": "A JWK Set (RFC 7517).",
            "properties": {
                "keys": {
                    "type": "array",
                    "description": "JWKs. Each must be public, have a `kid`, and fit one of the `algorithms`.",
                    "items": { "type": "object" },
                    "maxItems": crate::key::MAX_KEYS
                }
            },
            "required": ["keys"]
        })
    }
}

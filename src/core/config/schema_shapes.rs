//! Parts of the JSON Schema that serde does not tell.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use std::borrow::Cow;
use std::marker::PhantomData;

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
                    "description": "JWKs. Each must be public; those that are for other uses than the `algorithms` are left out.",
                    "items": { "type": "object" },
                    "maxItems": crate::jose::key::MAX_KEYS
                }
            },
            "required": ["keys"]
        })
    }
}

/// What happens to a member before it leaves the proxy.
#[derive(Debug, JsonSchema)]
#[schemars(rename_all = "snake_case")]
#[allow(dead_code, reason = "it describes a value that is read by `compile_evidence`")]
pub(crate) enum MaskConfig {
    /// It is left out.
    Remove,
    /// It is replaced by `sha256:` and a hash. Equal values have equal hashes.
    Hash,
}

/// What events do that leave a choice: `end` what their subject names (a token, a task or a session for good, sessions
/// of a principal up to the event), `set` what they say, `set_and_end`, which ends only where the event is for the
/// worse, or `ignore` them. session-revoked and task-completed always end, grant-narrowed always narrows; all other
/// events change nothing.
#[derive(Debug, JsonSchema)]
#[schemars(deny_unknown_fields, rename_all = "kebab-case")]
#[allow(dead_code, reason = "it describes a map that is read by `hearing`")]
pub(crate) struct Effects {
    /// CAEP: claims of tokens have other values. `set` takes away the scope and the details that are not named any
    /// more, and gives other claims their new values. Default: set.
    token_claims_change: Option<Effect>,
    /// CAEP: a credential was revoked, updated or deleted. Default: end.
    credential_change: Option<Effect>,
    /// CAEP credential-change, where the credential is a new one. Default: ignore.
    credential_created: Option<Effect>,
    /// CAEP: the assurance is another. `set` refuses where a rule asks for an `acr` that it fell below.
    /// Default: set.
    assurance_level_change: Option<Effect>,
    /// CAEP: what `device` asks for. `not-compliant` is for the worse. Default: set.
    device_compliance_change: Option<Effect>,
    /// CAEP: when the session began, for tokens without `auth_time`. Default: set.
    session_established: Option<Effect>,
    /// CAEP: what `risk` asks for. `HIGH` is for the worse. Default: set.
    risk_level_change: Option<Effect>,
    /// RISC. Default: end.
    account_disabled: Option<Effect>,
    /// RISC. Default: end.
    account_purged: Option<Effect>,
    /// RISC. Default: end.
    credential_compromise: Option<Effect>,
    /// RISC. Default: end.
    sessions_revoked: Option<Effect>,
}

/// What an event does.
#[derive(Debug, JsonSchema)]
#[schemars(rename_all = "snake_case")]
#[allow(dead_code, reason = "it describes a string that is read by `hearing`")]
pub(crate) enum Effect {
    /// What its subject names ends.
    End,
    /// What it says is taken over.
    Set,
    /// What it says is taken over, and what its subject names ends where it is for the worse.
    SetAndEnd,
    /// Nothing.
    Ignore,
}

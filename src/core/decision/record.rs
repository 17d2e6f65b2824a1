//! What the operator sees of a decision: one JSON object with the members of [`Record`], on one line of printable ASCII. No
//! byte of a client can end the line or hide a part of it.

use crate::encoding::ascii::printable;
use crate::rules::mode::Mode;
use serde::Deserialize;
use serde_json::{Map, Value};

pub mod build;
mod member;
#[cfg(test)]
mod tests;

/// The record of one decision. A member that is not known is absent; one that was removed is named in `masked`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Record {
    /// The version of this schema. Members may be added to a version; a change of what a member means is a new version.
    pub schema: SchemaVersion,
    /// The id of the decision, a UUID (RFC 9562). A client that was refused finds it in `x-taskfence-decision`.
    #[cfg_attr(feature = "schema", schemars(regex(pattern = "^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$")))]
    pub decision: String,
    /// When it was made, in UTC, with milliseconds (RFC 3339).
    #[cfg_attr(
        feature = "schema",
        schemars(regex(pattern = r"^[0-9]{4}(-[0-9]{2}){2}T[0-9]{2}(:[0-9]{2}){2}\.[0-9]{3}Z$"))
    )]
    pub time: String,
    /// When it was made, in milliseconds since 1970.
    pub time_ms: u64,
    /// What was decided.
    pub verdict: VerdictName,
    /// Why not: a code of `docs/architecture.md`, "Reasons". Absent with `allowed`.
    #[cfg_attr(feature = "schema", schemars(regex(pattern = "^[a-z_]+$")))]
    pub reason: Option<String>,
    /// Whether the request passed only because break-glass lifted a requirement. Absent if not.
    #[serde(default)]
    pub break_glass: bool,
    /// The name of the rule that decided.
    #[cfg_attr(feature = "schema", schemars(length(max = 256)))]
    pub rule: Option<String>,
    /// Whether refusals by this rule are enforced.
    pub mode: Mode,
    /// The hash of the configuration of the filter.
    #[cfg_attr(feature = "schema", schemars(regex(pattern = "^[0-9a-f]{16}$")))]
    pub config: String,
    /// The pushed state that the decision used.
    pub state: Option<State>,
    /// `iss` of the verified token.
    #[cfg_attr(feature = "schema", schemars(length(max = 256)))]
    pub issuer: Option<String>,
    /// `sub` of the verified token.
    #[cfg_attr(feature = "schema", schemars(length(max = 256)))]
    pub subject: Option<String>,
    /// `sub` of the outermost `act`: who acts for the subject (RFC 8693).
    #[cfg_attr(feature = "schema", schemars(length(max = 256)))]
    pub actor: Option<String>,
    /// `sub` of each `act`, the current actor first. Absent if there is only one. At most 16.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schemars(length(max = 16), inner(length(max = 256))))]
    pub actors: Vec<String>,
    /// The client.
    #[cfg_attr(feature = "schema", schemars(length(max = 256)))]
    pub client: Option<String>,
    /// The task.
    #[cfg_attr(feature = "schema", schemars(length(max = 256)))]
    pub task: Option<String>,
    /// The session.
    #[cfg_attr(feature = "schema", schemars(length(max = 256)))]
    pub session: Option<String>,
    /// What identifies the token at its issuer: `jti`, or `sha256:` and a digest. Never the token.
    #[cfg_attr(feature = "schema", schemars(length(max = 256)))]
    pub token: Option<String>,
    /// The SHA-256 of the whole token, the first 16 bytes in hexadecimal.
    #[cfg_attr(feature = "schema", schemars(length(max = 64)))]
    pub fingerprint: Option<String>,
    /// The method, as received.
    #[cfg_attr(feature = "schema", schemars(length(max = 64)))]
    pub method: Option<String>,
    /// The host, as rules compare it: in lower case, without port.
    #[cfg_attr(feature = "schema", schemars(length(max = 256)))]
    pub host: Option<String>,
    /// The canonical path, without query. Absent if the path of the request was refused.
    #[cfg_attr(feature = "schema", schemars(length(max = 1024)))]
    pub path: Option<String>,
    /// The address of the client, as Envoy determined it.
    #[cfg_attr(feature = "schema", schemars(length(max = 64)))]
    pub source: Option<String>,
    /// The URI in the verified certificate of the client, such as its SPIFFE ID.
    #[cfg_attr(feature = "schema", schemars(length(max = 256)))]
    pub peer: Option<String>,
    /// The trace that the request is part of: of a valid `traceparent` (W3C Trace Context). The client says so.
    #[cfg_attr(feature = "schema", schemars(length(max = 64)))]
    pub trace_id: Option<String>,
    /// With `claim_invalid`: the claim that is missing or wrong.
    #[cfg_attr(feature = "schema", schemars(length(max = 256)))]
    pub claim: Option<String>,
    /// With `claim_invalid`: what is wrong with it, never its value.
    #[cfg_attr(feature = "schema", schemars(length(max = 256)))]
    pub fault: Option<String>,
    /// With `ended` and `would_end`: the stream.
    pub ended: Option<Ended>,
    /// The members that are known and were removed or hashed, as the configuration says.
    #[serde(default)]
    pub masked: Vec<String>,
    /// The members that were too long: only their beginning is here.
    #[serde(default)]
    pub cut: Vec<String>,
}

/// The version of the schema.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum SchemaVersion {
    /// The version that this page describes.
    #[default]
    #[serde(rename = "taskfence.decision/1")]
    V1,
}

/// What was decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum VerdictName {
    /// The request passed.
    Allowed,
    /// The request was refused.
    Denied,
    /// The request passed because of shadow mode.
    WouldDeny,
    /// A stream that was in progress was ended.
    Ended,
    /// A stream that was in progress goes on because of shadow mode.
    WouldEnd,
}

/// The pushed state.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct State {
    /// With a hub: the revision of its feed that this proxy had applied, `EPOCH.NUMBER.CHAIN`.
    #[cfg_attr(feature = "schema", schemars(regex(pattern = r"^[0-9a-f]{16}\.[0-9]+\.[0-9a-f]{16}$")))]
    pub revision: Option<String>,
    /// How long ago the transmitters, or the hub, were last heard of, in milliseconds. It is known in whole seconds.
    pub age_ms: Option<u64>,
}

/// A stream that was in progress.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Ended {
    /// From the signal that ended it, when this proxy had it, to this decision, in milliseconds. Absent if no signal woke
    /// the worker: the time of the grant was over, or the worker saw the change at its tick.
    pub delay_ms: Option<u64>,
    /// From the begin of the request, in milliseconds.
    pub lasted_ms: Option<u64>,
    /// The bytes of the body that came from the client, as the proxy has counted them.
    pub bytes_in: Option<u64>,
    /// The bytes of the body that went to the client, as the proxy has counted them.
    pub bytes_out: Option<u64>,
}

impl Record {
    /// The record on one line.
    pub fn line(&self) -> String {
        printable(self.value().to_string())
    }

    /// The record as JSON. Written by hand: generated code would be a noticeable part of the module.
    pub fn value(&self) -> Value {
        let mut members = Map::new();
        let mut add = |name: &str, value: Value| {
            members.insert(name.to_owned(), value);
        };
        add("schema", self.schema.as_str().into());
        add("time_ms", self.time_ms.into());
        add("verdict", self.verdict.as_str().into());
        add("mode", self.mode.as_str().into());
        if self.break_glass {
            add("break_glass", true.into());
        }
        for (name, text) in [("decision", &self.decision), ("time", &self.time), ("config", &self.config)] {
            add(name, text.as_str().into());
        }
        let optional = [
            ("reason", &self.reason),
            ("rule", &self.rule),
            ("issuer", &self.issuer),
            ("subject", &self.subject),
            ("actor", &self.actor),
            ("client", &self.client),
            ("task", &self.task),
            ("session", &self.session),
            ("token", &self.token),
            ("fingerprint", &self.fingerprint),
            ("method", &self.method),
            ("host", &self.host),
            ("path", &self.path),
            ("source", &self.source),
            ("peer", &self.peer),
            ("trace_id", &self.trace_id),
            ("claim", &self.claim),
            ("fault", &self.fault),
        ];
        for (name, text) in optional {
            if let Some(text) = text {
                add(name, text.as_str().into());
            }
        }
        for (name, list) in [("actors", &self.actors), ("masked", &self.masked), ("cut", &self.cut)] {
            if !list.is_empty() {
                add(name, list.iter().map(String::as_str).collect());
            }
        }
        if let Some(State { revision, age_ms }) = &self.state {
            add(
                "state",
                object([("revision", revision.as_deref().map(Value::from)), ("age_ms", age_ms.map(Value::from))]),
            );
        }
        if let Some(ended) = &self.ended {
            let Ended { delay_ms, lasted_ms, bytes_in, bytes_out } = ended;
            let numbers =
                [("delay_ms", delay_ms), ("lasted_ms", lasted_ms), ("bytes_in", bytes_in), ("bytes_out", bytes_out)];
            add("ended", object(numbers.map(|(name, number)| (name, number.map(Value::from)))));
        }
        Value::Object(members)
    }
}

/// An object of the members that are known.
fn object<const N: usize>(members: [(&str, Option<Value>); N]) -> Value {
    members.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect()
}

impl SchemaVersion {
    fn as_str(self) -> &'static str {
        match self {
            SchemaVersion::V1 => "taskfence.decision/1",
        }
    }
}

impl VerdictName {
    fn as_str(self) -> &'static str {
        match self {
            VerdictName::Allowed => "allowed",
            VerdictName::Denied => "denied",
            VerdictName::WouldDeny => "would_deny",
            VerdictName::Ended => "ended",
            VerdictName::WouldEnd => "would_end",
        }
    }
}

/// The JSON Schema (draft 2020-12) of a record. `docs/decision-record.schema.json` has it.
#[cfg(feature = "schema")]
pub fn schema() -> schemars::Schema {
    let settings = schemars::generate::SchemaSettings::draft2020_12();
    let settings = settings.with_transform(schemars::transform::RecursiveTransform(without_null));
    let mut schema = settings.into_generator().into_root_schema_for::<Record>();
    schema.insert("$id".to_owned(), "urn:taskfence:decision:1".into());
    schema
}

/// A member that is not known is absent, and never `null`.
#[cfg(feature = "schema")]
fn without_null(schema: &mut schemars::Schema) {
    let is_null = |one: &Value| one == "null" || one.get("type").is_some_and(|kind| kind == "null");
    for key in ["type", "anyOf"] {
        let Some(kinds) = schema.get_mut(key).and_then(Value::as_array_mut) else { continue };
        kinds.retain(|kind| !is_null(kind));
        if let ("type", [kind]) = (key, &kinds[..]) {
            let kind = kind.clone();
            schema.insert(key.to_owned(), kind);
        }
    }
}

//! `ssf` of a transmitter as it is written in `hub.yaml`.

use schemars::JsonSchema;
use serde::Deserialize;
use std::path::PathBuf;
use taskfence_core::time::Span;

/// The stream of a transmitter that the hub makes and keeps by itself (SSF 1.0 §8).
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SsfConfig {
    /// The issuer URL of the transmitter, from which its metadata is found. Default: `issuer` of the transmitter.
    #[serde(default)]
    pub url: Option<String>,
    /// How signals come: `poll` (RFC 8936) or `push` (RFC 8935). Default: poll.
    #[serde(default)]
    pub delivery: DeliveryConfig,
    /// With `push`: the URL of this hub's `/v1/feeds/NAME/signals`, as the transmitter reaches it.
    #[serde(default)]
    pub endpoint: Option<String>,
    /// How the hub authenticates at the transmitter.
    pub credentials: CredentialsConfig,
    /// The events that it asks for: names such as `session-revoked`, or URIs. Default: all that have an effect here.
    #[serde(default)]
    pub events: Option<Vec<String>>,
    /// A stream that exists and that nobody else uses; the hub takes it over. Default: the hub makes one.
    #[serde(default)]
    pub stream_id: Option<String>,
    /// How often the hub asks for a verification, which also proves that the transmitter is heard of; less often where
    /// the transmitter wants that. Default: 20s with `heartbeat`, otherwise 5m.
    #[serde(default)]
    pub verify: Option<Span>,
    /// With `poll`: how long a poll may wait for signals, between 1s and 5m. Default: 60s.
    #[serde(default)]
    pub wait: Option<Span>,
}

/// How signals come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum DeliveryConfig {
    /// The hub asks for them (RFC 8936).
    #[default]
    Poll,
    /// The transmitter pushes them (RFC 8935).
    Push,
}

/// How the hub authenticates: a bearer token in a file, or OAuth 2.0 client credentials.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CredentialsConfig {
    /// A file with a bearer token. It is read again for each request.
    pub token_file: Option<PathBuf>,
    /// The id of the hub at the authorization server.
    pub client_id: Option<String>,
    /// A file with the client secret.
    pub client_secret_file: Option<PathBuf>,
    /// A PEM file with the private key for `private_key_jwt` (PKCS #8: P-256, RSA or Ed25519).
    pub key_file: Option<PathBuf>,
    /// `kid` of that key at the authorization server. Default: none is sent.
    pub key_id: Option<String>,
    /// The token endpoint. Default: that of the transmitter's metadata (RFC 9728, RFC 8414).
    pub token_endpoint: Option<String>,
    /// How the client authenticates. Default: what the authorization server supports.
    pub method: Option<MethodConfig>,
}

/// How an OAuth client authenticates (RFC 8414 §2, `token_endpoint_auth_methods_supported`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum MethodConfig {
    /// The secret in the header.
    ClientSecretBasic,
    /// The secret in the body.
    ClientSecretPost,
    /// An assertion signed with the secret (HS256).
    ClientSecretJwt,
    /// An assertion signed with a private key.
    PrivateKeyJwt,
}

//! The configuration as it is written in `hub.yaml`.

use crate::config::role::Role;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::PathBuf;
use taskfence_core::config::schema::{FeedSignals, IssuerConfig};
use taskfence_core::time::Span;

/// The configuration of one hub.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HubConfig {
    /// The name that stands in its statements as `iss`. Default: `taskfence-hub`.
    #[serde(default = "default_name")]
    pub name: String,
    /// The directory that it keeps its store and its keys in. Only the hub may read it.
    pub data: PathBuf,
    /// Where it keeps signals, tokens and the audit log. Default: SQLite, in a file in `data`.
    #[serde(default)]
    pub store: StoreConfig,
    /// Where it listens.
    #[serde(default)]
    pub listen: ListenConfig,
    /// Who may call it by the SPIFFE id of a client certificate. Bearer tokens are made by `taskfence hub token new`.
    #[serde(default)]
    pub access: Vec<AccessConfig>,
    /// Where the clusters that key sets name are: the base URL of each, such as `https://idp.example`.
    #[serde(default)]
    pub clusters: BTreeMap<String, String>,
    /// How far the clocks of proxies may differ from that of the hub; added to the life of each entry. Default: 2m.
    #[serde(default = "default_skew")]
    pub skew: Span,
    /// How long each signal is kept, also when its entries have ended: when the configuration changes, entries are derived
    /// again from what is kept. Default: 25h.
    #[serde(default = "default_keep_signals")]
    pub keep_signals: Span,
    /// How much of the disk is kept for signals, in MiB, so that others cannot fill it. 0: nothing. Default: 256.
    #[serde(default = "default_reserve")]
    pub reserve_mib: u64,
    /// How much one caller may use.
    #[serde(default)]
    pub limits: LimitsConfig,
    /// How much of the audit log is kept.
    #[serde(default)]
    pub audit: AuditConfig,
    /// The feeds.
    pub feeds: Vec<FeedConfig>,
}

/// Where the hub keeps what must survive a crash.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StoreConfig {
    /// A database that several hubs may share. Default: none; then one hub has its store in `data`.
    #[serde(default)]
    pub postgres: Option<PostgresConfig>,
}

/// A database of PostgreSQL.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PostgresConfig {
    /// Where it is, as libpq writes it, without a password: `postgresql://hub@db.example:5432/taskfence?sslmode=require`.
    pub url: String,
    /// A file with the password, read at each connection. Default: none.
    #[serde(default)]
    pub password_file: Option<PathBuf>,
    /// The authorities of the certificate of the database, in PEM, read at each connection. Default: those of the system.
    #[serde(default)]
    pub ca: Option<PathBuf>,
}

/// How much of the audit log is kept: whichever is less.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AuditConfig {
    /// For so many days. Default: 400.
    pub days: u64,
    /// So many MiB. Default: 1024.
    pub mib: u64,
}

impl Default for AuditConfig {
    fn default() -> AuditConfig {
        AuditConfig { days: 400, mib: 1_024 }
    }
}

/// How much one caller may use. A principal is a SPIFFE id, or the name of a token.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LimitsConfig {
    /// So many proxies follow one feed. Default: 50000.
    pub followers: usize,
    /// So many of them are of one principal. Default: 25000.
    pub followers_per_principal: usize,
    /// So many proxies of one feed load a state of several pages at once. A principal may hold a quarter of these places,
    /// and more only where a quarter is free. Default: 16.
    pub full_states: usize,
    /// A principal of the role `sidecar` may make so many requests a second. Default: 20000.
    pub sidecar_requests: u64,
    /// A principal of the role `transmitter` may make so many requests a second. Default: 20000.
    pub transmitter_requests: u64,
    /// An address may hold so many connections; of public IPv6 addresses all of a /64 together. Default: 1000.
    pub connections_per_address: usize,
    /// The same for addresses of private networks, where a whole mesh may be behind one. Default: 10000.
    pub connections_per_private_address: usize,
}

impl Default for LimitsConfig {
    fn default() -> LimitsConfig {
        LimitsConfig {
            followers: 50_000,
            followers_per_principal: 25_000,
            full_states: 16,
            sidecar_requests: 20_000,
            transmitter_requests: 20_000,
            connections_per_address: 1_000,
            connections_per_private_address: 10_000,
        }
    }
}

/// Where the hub listens.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ListenConfig {
    /// Address and port. Default: `127.0.0.1:8500`. Anything but a loopback address needs `tls`.
    #[serde(default)]
    pub address: Option<String>,
    /// Its certificate. Default: none; then it may only listen on loopback.
    #[serde(default)]
    pub tls: Option<TlsConfig>,
}

/// Files in PEM, read again when they change.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TlsConfig {
    /// The certificate chain.
    pub certificate: PathBuf,
    /// The private key.
    pub key: PathBuf,
    /// The authorities whose client certificates are accepted. Default: none; then callers need bearer tokens.
    #[serde(default)]
    pub client_ca: Option<PathBuf>,
}

/// Who may do what, by the SPIFFE id of a client certificate.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AccessConfig {
    /// The SPIFFE id, or a trust domain such as `spiffe://mesh.example/` that all ids below it belong to.
    pub spiffe: String,
    /// `sidecar`, `transmitter`, `issuer`, `operator` or `auditor`.
    #[schemars(with = "Role")]
    pub role: String,
    /// The feeds that it may use. Default: all.
    #[serde(default)]
    pub feeds: Vec<String>,
    /// With the role `issuer`: which issuer it is, as the feeds name it.
    #[serde(default)]
    pub issuer: Option<String>,
}

/// One feed: a log with issuers, transmitters and roles of its own.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FeedConfig {
    /// Its name, which filters have in `signals.hub.feed`: lower-case letters, digits and `-`.
    pub name: String,
    /// The issuers that it covers, as in the configuration of a filter.
    #[schemars(with = "Vec<IssuerConfig>")]
    pub issuers: Value,
    /// Who may push signals, and what their events do: `transmitters` and `effects` as in the configuration of a filter.
    /// Default: operators alone.
    #[serde(default)]
    #[schemars(with = "Option<FeedSignals>")]
    pub signals: Value,
}

fn default_name() -> String {
    "taskfence-hub".to_owned()
}

fn default_reserve() -> u64 {
    256
}

fn default_keep_signals() -> Span {
    // The default of `max_session`, with its `max_lifetime` and `clock_skew`.
    Span::hours(25)
}

fn default_skew() -> Span {
    Span::minutes(2)
}

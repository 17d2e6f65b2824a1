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
    /// How much evidence is kept: uses of grants, what happened to them, and single decisions. It has a store of its own.
    #[serde(default)]
    pub evidence: Option<EvidenceConfig>,
    /// How the hub is a transmitter of the Shared Signals Framework, so that what operators and issuers end also reaches
    /// receivers that are no proxies. Default: it is none.
    #[serde(default)]
    pub streams: Option<StreamsConfig>,
    /// The hub that this one is a relay of. Default: none, and this hub takes signals in itself. The feeds of a relay have
    /// names only, and `name` is that of the hub.
    #[serde(default)]
    pub follow: Option<FollowConfig>,
    /// The feeds.
    pub feeds: Vec<FeedConfig>,
}

/// How the hub is a transmitter (SSF 1.0). Each feed is an issuer of its own: `ISSUER/feeds/NAME`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StreamsConfig {
    /// The address that receivers reach the hub at, such as `https://hub.example`, without a path.
    pub issuer: String,
    /// Private addresses that SETs may be pushed to, such as `10.20.0.0/16`. Default: none. A loopback address that is
    /// allowed here may be an `http://` URL.
    #[serde(default)]
    pub allow: Vec<String>,
    /// A PEM file with the authorities that certificates of receivers are verified with. Default: those of the system.
    #[serde(default)]
    pub ca: Option<PathBuf>,
    /// A stream whose receiver does nothing for so long is paused. Default: 30 days.
    #[serde(default = "default_inactivity")]
    pub inactivity_timeout: Span,
    /// A receiver may ask for a verification event so often. Default: 10s.
    #[serde(default = "default_verification")]
    pub min_verification_interval: Span,
    /// So many streams one principal may have in one feed. Default: 8.
    #[serde(default = "default_per_principal")]
    pub per_principal: usize,
}

/// What receivers get of a feed, beyond what operators and issuers say.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ReceiversConfig {
    /// Transmitters whose signals are sent on, by the names of their streams. Default: none.
    pub relay_from: Vec<String>,
}

/// The hub that a relay follows.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FollowConfig {
    /// The base URL of the hub, such as `https://hub.example`.
    pub url: String,
    /// The keys that statements of the hub may be signed with, as in `signals.hub.keys` of a filter.
    pub keys: FollowKeysConfig,
    /// The file of a bearer token of the role `relay`. It is read again when it changes.
    #[serde(default)]
    pub token_file: Option<PathBuf>,
    /// The client certificate chain in PEM, in place of a token; with `key`. Both are read again when they change.
    #[serde(default)]
    pub certificate: Option<PathBuf>,
    /// The private key of `certificate`, in PEM.
    #[serde(default)]
    pub key: Option<PathBuf>,
    /// The authorities that the certificate of the hub must come from, in PEM. Default: those of the system.
    #[serde(default)]
    pub ca: Option<PathBuf>,
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

/// The public keys of the hub that is followed.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FollowKeysConfig {
    /// A JWK Set (RFC 7517) of keys for ES256: what `taskfence hub keys` prints.
    pub inline: Value,
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

/// How much evidence is kept: whichever is less. Whole days go, the oldest first.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct EvidenceConfig {
    /// For so many days. 0: none is taken in and none is kept. Default: 90.
    pub days: u64,
    /// So many MiB. Default: 4096.
    pub mib: u64,
    /// A worker of a proxy sends what it has counted this often. Default: 10s.
    pub period: Span,
}

impl Default for EvidenceConfig {
    fn default() -> EvidenceConfig {
        EvidenceConfig { days: 90, mib: 4_096, period: Span(10) }
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
    /// `sidecar`, `relay`, `transmitter`, `issuer`, `operator`, `auditor` or `receiver`.
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
    /// The issuers that it covers, as in the configuration of a filter. Required, but not in a relay.
    #[serde(default)]
    #[schemars(with = "Vec<IssuerConfig>")]
    pub issuers: Value,
    /// Who may push signals, and what their events do: `transmitters` and `effects` as in the configuration of a filter.
    /// Default: operators alone.
    #[serde(default)]
    #[schemars(with = "Option<FeedSignals>")]
    pub signals: Value,
    /// What receivers of streams get of this feed. Needs `streams`.
    #[serde(default)]
    pub receivers: Option<ReceiversConfig>,
}

fn default_inactivity() -> Span {
    Span::hours(30 * 24)
}

fn default_verification() -> Span {
    Span(10)
}

fn default_per_principal() -> usize {
    8
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

//! The configuration as it is written: the shape of the JSON. [`crate::config::load::load`] compiles it into a policy.

use crate::config::issuers::profile::Profile;
#[cfg(feature = "schema")]
use crate::config::schema_shapes;
use crate::encoding::json::StrictValue;
use crate::encoding::secret::Secret;
use crate::http::host::Reading;
use crate::policy::policy::Role;
use crate::rules::mode::Mode;
use crate::state::fact::Risk;
use crate::time::Span;
use crate::token::confirmation::Binding;
use crate::token::dpop::Settings;
use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer};
use std::collections::BTreeMap;
use std::fmt;

/// The whole configuration.
#[derive(Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
pub struct Config {
    /// What the filter of this listener does. Default: filter.
    #[serde(default)]
    pub role: Role,
    /// Issuers whose tokens are accepted.
    pub issuers: Vec<IssuerConfig>,
    /// What may be done with a grant. The first rule that matches decides. A request that no rule matches is denied.
    /// Default: none.
    #[serde(default)]
    pub rules: Vec<RuleConfig>,
    /// Whether refusals are enforced, or only recorded. Default: enforce.
    #[serde(default)]
    pub mode: Mode,
    /// How hosts are read. Use `exact` behind a connection manager with `strip_any_host_port` and
    /// `strip_trailing_host_dot`.
    /// Default: folded.
    #[serde(default)]
    pub hosts: Reading,
    /// Headers that tell the upstream about the verified grant. The filter removes these headers from the request of
    /// the client.
    /// Default: none.
    #[serde(default)]
    pub identity: IdentityConfig,
    /// Whether the filter forwards the token to the upstream. Default: true.
    #[serde(default = "yes")]
    pub forward_token: bool,
    /// The names by which clients know this service as a protected resource (RFC 9728). Challenges to requests for a
    /// resource point to its metadata. Default: none.
    #[serde(default)]
    pub protected_resources: Vec<ResourceConfig>,
    /// The `realm` of challenges (RFC 6750 §3). Default: the first audience.
    #[serde(default)]
    pub realm: Option<String>,
    /// Which signals are accepted, and from whom. Default: no signal is accepted.
    #[serde(default)]
    pub signals: Option<SignalsConfig>,
    /// Limits of one worker thread. Default: the defaults below.
    #[serde(default)]
    pub limits: LimitsConfig,
    /// Which evidence of decisions leaves the proxy, and what is masked in it. Default: the defaults below.
    #[serde(default)]
    pub evidence: EvidenceConfig,
}

/// A protected resource (RFC 9728). A request belongs to it if it is for one of its hosts, and its path is the path of
/// the resource or lies below it. If it belongs to several, it is that with the longest path.
#[derive(Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct ResourceConfig {
    /// Its identifier: the URL under which clients know it, such as `https://orders.example/v1`, without query and
    /// fragment. The URL of its metadata has `/.well-known/oauth-protected-resource` between host and path.
    pub resource: String,
    /// The hosts of requests for it, without ports. Default: the host of `resource`.
    #[serde(default)]
    pub hosts: Option<Vec<String>>,
    /// Whether the filter answers GET and HEAD requests for its metadata, without a token and before any rule, also in
    /// shadow mode. If not, something else must serve it under that URL. Default: true.
    #[serde(default = "yes")]
    pub serve: bool,
    /// The issuers whose tokens are for it; its `authorization_servers` are those of them that are URLs. Default: every
    /// issuer.
    #[serde(default)]
    pub issuers: Option<Vec<String>>,
    /// Its `scopes_supported`. Default: the scopes that rules for its requests require.
    #[serde(default)]
    pub scopes: Option<Vec<String>>,
    /// Its `resource_name`, for people. Default: none.
    #[serde(default)]
    pub name: Option<String>,
    /// Its `resource_documentation`: the URL of a page for developers. Default: none.
    #[serde(default)]
    pub documentation: Option<String>,
}

/// Limits of one worker thread.
#[derive(Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct LimitsConfig {
    /// Memory for the cache of verified tokens, in bytes. When it is full, the least recently used token is dropped.
    /// Default: 16777216.
    #[serde(default = "default_token_cache")]
    pub token_cache: usize,
    /// How many bad signatures the filter checks for each source. Above this limit, new tokens of the source are
    /// answered with 429 and not checked. Default: the defaults below.
    #[serde(default)]
    pub bad_signatures: BadSignaturesConfig,
}

/// How many bad signatures one worker thread checks for each source. A source is an IPv4 address or an IPv6 /64
/// network; Envoy determines the address of the client.
#[derive(Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct BadSignaturesConfig {
    /// How many per second on average. Default: 10.
    #[serde(default = "default_per_second")]
    pub per_second: u32,
    /// How many at once, after a time without any. Default: 100.
    #[serde(default = "default_burst")]
    pub burst: u32,
}

impl Default for LimitsConfig {
    fn default() -> LimitsConfig {
        LimitsConfig { token_cache: default_token_cache(), bad_signatures: BadSignaturesConfig::default() }
    }
}

impl Default for BadSignaturesConfig {
    fn default() -> BadSignaturesConfig {
        BadSignaturesConfig { per_second: default_per_second(), burst: default_burst() }
    }
}

/// Which evidence of decisions leaves the proxy: records of single decisions, and counted uses of grants.
#[derive(Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct EvidenceConfig {
    /// Whether uses of grants are counted and sent to the hub. Without a hub nothing is counted. Default: true.
    #[serde(default = "yes")]
    pub uses: bool,
    /// Which part of the allowed requests gets a record, from 0 to 1. Refusals, uses of break-glass and ended streams
    /// always get one. Default: 0.
    #[serde(default)]
    pub allows: f64,
    /// Members of records and counted uses that are masked: `subject`, `actor` (and `actors`), `client`, `task`,
    /// `session`, `token` (`hash` only), `fingerprint`, `host`, `path`, `source`, `peer`, `trace_id`; of counted uses also
    /// `captures`, `scopes`, `details` and `key`. Default: none.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schemars(with = "BTreeMap<String, schema_shapes::MaskConfig>"))]
    pub mask: BTreeMap<String, String>,
    /// The key of hashed members, at least 32 characters, the same in all proxies. Without it everybody can compute the
    /// hash of a value that he guesses, such as an e-mail address. It can be read in Envoy's configuration dump. Default:
    /// none.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schemars(with = "Option<String>"))]
    pub mask_key: Option<Secret>,
}

impl Default for EvidenceConfig {
    fn default() -> EvidenceConfig {
        EvidenceConfig { uses: true, allows: 0.0, mask: BTreeMap::new(), mask_key: None }
    }
}

/// Names of the headers that carry verified facts to the upstream. A fact without a header name is not sent.
#[derive(Debug, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct IdentityConfig {
    /// The header for `iss`.
    #[serde(default)]
    pub issuer: Option<String>,
    /// The header for `sub`.
    #[serde(default)]
    pub subject: Option<String>,
    /// The header for the client.
    #[serde(default)]
    pub client: Option<String>,
    /// The header for the task.
    #[serde(default)]
    pub task: Option<String>,
    /// The header for the session.
    #[serde(default)]
    pub session: Option<String>,
    /// The header for the acting party: `sub` of the outermost `act`.
    #[serde(default)]
    pub actor: Option<String>,
    /// The header for `scope`: values separated by spaces.
    #[serde(default)]
    pub scope: Option<String>,
    /// The header for what identifies the token: its `jti`, or `sha256:` and its digest.
    #[serde(default)]
    pub token: Option<String>,
}

/// A token issuer.
#[derive(Debug, Clone, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct IssuerConfig {
    /// `iss` of its tokens, compared byte by byte. It may contain captures such as `{tenant}`, each with its values in
    /// `captures`.
    pub issuer: String,
    /// Defaults for the keys below, made for a common issuer. What is written here counts instead; `taskfence check
    /// --print` shows both together. Default: none.
    #[serde(default)]
    pub profile: Option<Profile>,
    /// For each capture in `issuer`, its accepted values. The entry stands for one issuer per value, each with its own
    /// grants; a capture may also stand in `keys.host` and `keys.path`. Default: none.
    #[serde(default)]
    pub captures: BTreeMap<String, Vec<String>>,
    /// Which claim names the issuer. Default: iss.
    #[serde(default)]
    pub issuer_from: IssuerFrom,
    /// `aud` of a token must contain one of these. Required, unless `audience_from` is `none`. Default: none.
    #[serde(default)]
    pub audiences: Vec<String>,
    /// A claim that names the audience instead of `aud`, or a list of claims, of which the first that is present
    /// counts. `none` says that tokens name no audience; then they must be bound to their presenter. Default: aud.
    #[serde(default)]
    pub audience_from: Option<NamesConfig>,
    /// Claims that a token must have, each with its value or a list of values; a claim that is a list must contain one
    /// of them. Use it to accept one kind of token of this issuer, and to tell several entries of one issuer apart.
    /// Default: none.
    #[serde(default, rename = "where")]
    #[cfg_attr(feature = "schema", schemars(with = "BTreeMap<String, serde_json::Value>"))]
    pub required: BTreeMap<String, StrictValue>,
    /// Its public keys.
    pub keys: KeysConfig,
    /// Accepted signature algorithms: RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384,
    /// ES512, EdDSA. Default: ES256 and RS256.
    #[serde(default = "default_algorithms")]
    pub algorithms: Vec<String>,
    /// Accepted `typ` values, with or without `application/`; `absent` accepts tokens without `typ`. Default: at+jwt.
    #[serde(default = "default_types")]
    pub types: Vec<String>,
    /// The longest lifetime of a token: a token with a greater `exp - iat` is refused. Default: 15m.
    #[serde(default = "default_max_lifetime")]
    pub max_lifetime: Span,
    /// The longest session: a token of a session that began longer ago is refused. Signals about sessions are kept at
    /// least this long. Default: 24h.
    #[serde(default = "default_max_session")]
    pub max_session: Span,
    /// How far the clock of the issuer and the clock of this proxy may differ. Default: 30s.
    #[serde(default = "default_clock_skew")]
    pub clock_skew: Span,
    /// The names of the claims that are read. Default: the defaults below.
    #[serde(default)]
    pub claims: ClaimsConfig,
    /// Where a request carries its tokens. Default: the header `authorization`, scheme `Bearer` or `DPoP`.
    #[serde(default)]
    pub token: Option<TokenConfig>,
    /// What its tokens must be bound to (`cnf`). A token that is bound to something is always checked against it.
    /// Default: none.
    #[serde(default)]
    pub binding: Binding,
    /// How DPoP proofs for its tokens are checked. Default: the defaults below.
    #[serde(default)]
    pub dpop: Option<DpopConfig>,
    /// The claim that contains the SPIFFE ID of the only workload that may present the token: `sub` (the subject),
    /// `client_id` (the client), `act.sub` (the acting party), or another claim. The first URI in the client's
    /// certificate must equal it.
    /// Default: none.
    #[serde(default)]
    pub peer_claim: Option<String>,
    /// How many parties a chain of `act` may contain. Rules use only the outermost one; a condition can read the others
    /// in `claims.act`. Default: 8.
    #[serde(default = "default_max_actors")]
    pub max_actors: usize,
}

impl IssuerConfig {
    /// Whether its tokens are accepted from their presenter only.
    pub(crate) fn binds(&self) -> bool {
        self.binding != Binding::None || self.peer_claim.is_some()
    }

    /// Whether its tokens stand elsewhere than in `authorization`.
    pub(crate) fn has_own_header(&self) -> bool {
        self.token.as_ref().is_some_and(|token| token.header.as_deref() != Some("authorization"))
    }
}

/// Public keys: `inline`, or one key as `pem`, or fetched through a cluster of Envoy with `cluster` and either `path` or
/// `discover`. All other settings except `kid` apply only to keys that are fetched.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct KeysConfig {
    /// A JWK Set (RFC 7517).
    #[serde(default)]
    #[cfg_attr(feature = "schema", schemars(with = "Option<schema_shapes::JwkSet>"))]
    pub inline: Option<StrictValue>,
    /// One public key as PEM: `PUBLIC KEY`, `RSA PUBLIC KEY` or `CERTIFICATE`. Of a certificate only the key is used, not
    /// its dates. Default: none.
    #[serde(default)]
    pub pem: Option<String>,
    /// The `kid` of the key in `pem`. Default: the key has none, and is tried whatever `kid` a token has.
    #[serde(default)]
    pub kid: Option<String>,
    /// The cluster of Envoy that serves the JWK Set. Configure TLS in the cluster.
    #[serde(default)]
    pub cluster: Option<String>,
    /// The path of the JWK Set on that cluster, with a query if the server needs one. With `discover` the path of the
    /// metadata. Default: with `discover` the well-known paths of the issuer, otherwise required.
    #[serde(default)]
    pub path: Option<String>,
    /// Whether the JWK Set is found through the metadata of the issuer (OpenID Connect Discovery 1.0, RFC 8414), which the
    /// cluster serves. Default: false.
    #[serde(default)]
    pub discover: bool,
    /// The only host at which the metadata may name the JWK Set (`jwks_uri`), such as `keys.example` or
    /// `10.0.0.1:6443`. Default: the host of the request for the metadata.
    #[serde(default)]
    pub jwks_host: Option<String>,
    /// The cluster of Envoy for `jwks_host`. It gets no `authorization`. Default: the same cluster.
    #[serde(default)]
    pub jwks_cluster: Option<String>,
    /// The `authorization` header of the requests to the cluster, such as `Bearer` and a token. It can be read in Envoy's
    /// configuration dump; prefer a credential that Envoy injects. Default: none.
    #[serde(default)]
    pub authorization: Option<String>,
    /// The path of a file with a token that the requests to the cluster carry as `Bearer`. Only a hub can read files; for
    /// a filter Envoy injects the credential. Default: none.
    #[serde(default)]
    pub authorization_file: Option<String>,
    /// The host of the request (`:authority`). Default: the host of the issuer's URL, or the name of the cluster if the
    /// issuer is not a URL.
    #[serde(default)]
    pub host: Option<String>,
    /// How often the JWK Set is fetched. Default: 5m.
    #[serde(default)]
    pub refresh: Option<Span>,
    /// How long a fetch may take. Default: 5s.
    #[serde(default)]
    pub timeout: Option<Span>,
    /// How long a request may wait for keys. A pushed signal never waits: its transmitter sends it again. Default: 2s.
    #[serde(default)]
    pub wait: Option<Span>,
    /// How long keys are used after the last successful fetch. Default: 24h.
    #[serde(default)]
    pub keep: Option<Span>,
    /// The shortest time between two fetches that tokens with an unknown `kid` cause. Default: 10s.
    #[serde(default)]
    pub refetch: Option<Span>,
}

/// The names of the claims that are read. Each is a name, or a list of names, of which the first that is present counts;
/// if another one in the list is present with another value, the token is refused, except for `scope`. A name is a path
/// into nested claims, such as `realm_access.roles`; a part with dots stands in double quotes, such as
/// `"kubernetes.io".pod.name`. A URI, such as `https://example.com/roles`, is one name. `none` says that tokens have no
/// such claim.
#[derive(Debug, Clone, Default)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "schema", schemars(deny_unknown_fields))]
pub struct ClaimsConfig {
    /// The claim that names the user or workload. Default: sub.
    #[cfg_attr(feature = "schema", schemars(default))]
    pub subject: Option<NamesConfig>,
    /// The claim that names the client. Default: `client_id`.
    #[cfg_attr(feature = "schema", schemars(default))]
    pub client: Option<NamesConfig>,
    /// The claim that identifies the token. With `none`, the SHA-256 digest of its signed bytes does. Default: jti.
    #[cfg_attr(feature = "schema", schemars(default))]
    pub token: Option<NamesConfig>,
    /// The claim that names the task. Default: txn.
    #[cfg_attr(feature = "schema", schemars(default))]
    pub task: Option<NamesConfig>,
    /// The claim that names the session; a token may lack it. Default: sid.
    #[cfg_attr(feature = "schema", schemars(default))]
    pub session: Option<NamesConfig>,
    /// The claim with scope values: one string with spaces between the values, or a list of strings. Of a list of
    /// names, only the first that is present counts. Default: scope.
    #[cfg_attr(feature = "schema", schemars(default))]
    pub scope: Option<NamesConfig>,
    /// The claim with objects of RFC 9396. Default: `authorization_details`.
    #[cfg_attr(feature = "schema", schemars(default))]
    pub details: Option<NamesConfig>,
    /// The claim that names the acting party, in the form of RFC 8693. Default: act.
    #[cfg_attr(feature = "schema", schemars(default))]
    pub actor: Option<NamesConfig>,
    /// The claim with the time at which the user was authenticated. Default: `auth_time`.
    #[cfg_attr(feature = "schema", schemars(default))]
    pub auth_time: Option<NamesConfig>,
    /// The claim with the authentication context class. Default: acr.
    #[cfg_attr(feature = "schema", schemars(default))]
    pub acr: Option<NamesConfig>,
    /// A claim that names the device, beside the member `device` of `sub_id`. Default: none.
    #[cfg_attr(feature = "schema", schemars(default))]
    pub device: Option<NamesConfig>,
    /// A claim that names the tenant, beside the member `tenant` of `sub_id`. Default: none.
    #[cfg_attr(feature = "schema", schemars(default))]
    pub tenant: Option<NamesConfig>,
    /// A claim that names the group, or a list of at most 256 groups, beside the member `group` of `sub_id`.
    /// Default: none.
    #[cfg_attr(feature = "schema", schemars(default))]
    pub group: Option<NamesConfig>,
    /// Which claims identify subjects of formats other than `jwt_id` and `iss_sub` of this issuer (RFC 9493). Default:
    /// none, and signals about such subjects change nothing.
    #[cfg_attr(feature = "schema", schemars(default))]
    pub subjects: SubjectsConfig,
}

impl<'de> Deserialize<'de> for ClaimsConfig {
    /// Reads all names in one place: a derived implementation is some 20 KB larger in the module.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Keys;

        impl<'de> Visitor<'de> for Keys {
            type Value = ClaimsConfig;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("struct ClaimsConfig")
            }

            fn visit_map<A: de::MapAccess<'de>>(self, mut map: A) -> Result<ClaimsConfig, A::Error> {
                let mut claims = ClaimsConfig::default();
                while let Some(key) = map.next_key::<String>()? {
                    if key == "subjects" {
                        claims.subjects = map.next_value()?;
                        continue;
                    }
                    let slot = claims.names_mut(&key).ok_or_else(|| de::Error::unknown_field(&key, &CLAIMS))?;
                    *slot = map.next_value()?;
                }
                Ok(claims)
            }
        }

        deserializer.deserialize_map(Keys)
    }
}

/// The keys of `claims`.
const CLAIMS: [&str; 14] = [
    "subject",
    "client",
    "token",
    "task",
    "session",
    "scope",
    "details",
    "actor",
    "auth_time",
    "acr",
    "device",
    "tenant",
    "group",
    "subjects",
];

impl ClaimsConfig {
    fn names_mut(&mut self, key: &str) -> Option<&mut Option<NamesConfig>> {
        Some(match key {
            "subject" => &mut self.subject,
            "client" => &mut self.client,
            "token" => &mut self.token,
            "task" => &mut self.task,
            "session" => &mut self.session,
            "scope" => &mut self.scope,
            "details" => &mut self.details,
            "actor" => &mut self.actor,
            "auth_time" => &mut self.auth_time,
            "acr" => &mut self.acr,
            "device" => &mut self.device,
            "tenant" => &mut self.tenant,
            "group" => &mut self.group,
            _ => return None,
        })
    }
}

/// How subjects of signals are found in tokens: for each subject format, the claim that contains the identifier. If the
/// claim is missing, empty or not a string, signals with that format do not affect the token.
#[derive(Debug, Clone, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct SubjectsConfig {
    /// The claim with the email address, compared without regard to case. Default: none.
    #[serde(default)]
    pub email: Option<NamesConfig>,
    /// The claim with the phone number, compared by its digits: `+1 (206) 555-0100` is `+12065550100`.
    /// Default: none.
    #[serde(default)]
    pub phone_number: Option<NamesConfig>,
    /// The claim with the account, with or without `acct:`; its host is compared without regard to case. Default: none.
    #[serde(default)]
    pub account: Option<NamesConfig>,
    /// The claim with the DID. A DID URL stands for its DID. Default: none.
    #[serde(default)]
    pub did: Option<NamesConfig>,
    /// The claim with the URI. Default: none.
    #[serde(default)]
    pub uri: Option<NamesConfig>,
    /// Other issuers whose `iss_sub` subjects identify users of these tokens, each with the claim that contains the
    /// `sub` of that issuer. Use it for an identity provider that sends signals about the users of this issuer.
    /// Default: none.
    #[serde(default)]
    pub iss_sub: BTreeMap<String, NamesConfig>,
    /// What an `opaque` subject identifies if it is the whole subject. Default: nothing, or the device in a
    /// device-compliance-change.
    #[serde(default)]
    pub opaque: Option<OpaqueConfig>,
}

/// What an `opaque` subject identifies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum OpaqueConfig {
    /// The session.
    Session,
    /// The user, by `sub`.
    User,
    /// The token, by `jti`.
    Token,
}

/// Which claim names the issuer of a token.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum IssuerFrom {
    /// `iss`.
    #[default]
    Iss,
    /// Tokens have no `iss`: scheme and authority of `sub`, such as `spiffe://td.example`, name the issuer.
    Sub,
}

/// A rule: which requests it matches, and what it requires. It has exactly one of `require`, `allow` and `deny`.
#[derive(Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct RuleConfig {
    /// The name of the rule in logs and explanations.
    pub name: String,
    /// Which requests the rule matches.
    #[serde(rename = "match")]
    pub matches: MatchConfig,
    /// What the rule requires of the grant and the request.
    #[serde(default)]
    pub require: Option<RequireConfig>,
    /// Lets requests pass without a token.
    #[serde(default)]
    pub allow: Option<AllowConfig>,
    /// Whether the rule denies every request that it matches. Default: false.
    #[serde(default)]
    pub deny: bool,
    /// A scope that lifts some requirements in an emergency. Every use is logged and counted. Default: none.
    #[serde(default)]
    pub break_glass: Option<BreakGlassConfig>,
    /// Whether refusals by this rule are enforced. Default: the top-level `mode`.
    #[serde(default)]
    pub mode: Option<Mode>,
    /// What happens to requests of this rule when the state is stale. Default: `signals.stale.then`.
    #[serde(default)]
    pub stale: Option<UnknownConfig>,
    /// Which part of the requests that this rule allows gets a record, from 0 to 1. Default: `evidence.allows`.
    #[serde(default)]
    pub record_allows: Option<f64>,
}

/// A scope that lifts requirements by name.
#[derive(Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct BreakGlassConfig {
    /// The scope value that the grant must contain.
    pub scope: String,
    /// The keys of `require` that it lifts. `state_age` also lifts the requirement of `signals.stale`.
    pub lifts: Vec<String>,
}

/// Which requests a rule matches. A key that is missing matches everything.
#[derive(Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct MatchConfig {
    /// HTTP methods, in upper case. A HEAD request is decided as GET, unless a rule that names `HEAD` matches it; then
    /// the first rule that matches HEAD decides. Default: every method.
    #[serde(default)]
    pub methods: Option<Vec<String>>,
    /// Hosts, without ports. Default: every host.
    #[serde(default)]
    pub hosts: Option<Vec<String>>,
    /// A path template: `{name}` matches one segment or a part of one, as in `{id}:cancel`, `{name}.pdf` and `v{major}`;
    /// `{name...}` matches the rest of the path. A segment may have one `{name}`, which is never empty. There are no
    /// other wildcards. If the path contains a `*`, or a `:`, `$`, `+` or bracket that another system reads as a pattern,
    /// write it percent-encoded, such as `%2A`. Default: every path.
    #[serde(default)]
    pub path: Option<String>,
    /// gRPC requests to a service, or to one method of it; use it instead of `path`. In a rule that denies, it matches
    /// every request to that path, because gRPC-Web, Connect and JSON call the same method. Default: every request.
    #[serde(default)]
    pub grpc: Option<GrpcConfig>,
    /// Metadata of Envoy's route in the namespace `taskfence`: names, and the string that each must equal. Default:
    /// every route.
    #[serde(default)]
    pub metadata: Option<BTreeMap<String, String>>,
}

/// A gRPC service.
#[derive(Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct GrpcConfig {
    /// The full name, such as `orders.v1.Orders`.
    pub service: String,
    /// One method. Default: every method.
    #[serde(default)]
    pub method: Option<String>,
}

/// What a rule requires of the grant and the request. A key that is missing requires nothing.
#[derive(Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct RequireConfig {
    /// Scope values separated by spaces, all of which the grant must contain; or an object with `all` and `any`.
    #[serde(default)]
    pub scope: Option<ScopeConfig>,
    /// An object that `authorization_details` must contain.
    #[serde(default)]
    pub detail: Option<DetailConfig>,
    /// `compliant`, or an object that also says what happens when no signal reported the status of the device.
    #[serde(default)]
    pub device: Option<DeviceConfig>,
    /// The highest risk that signals reported about the user, device, session, client, actor or tenant.
    #[serde(default)]
    pub risk: Option<RiskConfig>,
    /// Networks that the request may come from, in CIDR notation.
    #[serde(default)]
    pub source: Option<Vec<String>>,
    /// Workloads that the request may come from: SPIFFE IDs in the client's certificate. `*` as the last segment
    /// matches one or more segments.
    #[serde(default)]
    pub peer: Option<Vec<String>>,
    /// Whether a token can be used for one request only, on all workers of this proxy. Default: false.
    #[serde(default)]
    pub single_use: bool,
    /// Accepted values of `acr`, the preferred one first (RFC 9470).
    #[serde(default)]
    pub acr: Option<Vec<String>>,
    /// The longest time since the user authenticated (`auth_time`).
    #[serde(default)]
    pub auth_age: Option<Span>,
    /// Claims with exactly these values. A name is a path, as in `issuers[].claims`.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schemars(with = "Option<BTreeMap<String, serde_json::Value>>"))]
    pub claims: Option<BTreeMap<String, StrictValue>>,
    /// Who may act for the subject (RFC 8693).
    #[serde(default)]
    pub actor: Option<ActorConfig>,
    /// The longest time since the last signal of each transmitter with `heartbeat`.
    #[serde(default)]
    pub state_age: Option<Span>,
    /// A condition in CEL over `claims`, `grant`, `context`, `request`, `captures` and `now`.
    #[serde(default)]
    pub when: Option<String>,
}

/// Which scope values the grant must contain.
#[derive(Debug, Default)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "schema", schemars(with = "schema_shapes::Either<String, ScopeLists>"))]
pub struct ScopeConfig {
    /// The grant must contain all of these.
    pub all: Vec<String>,
    /// The grant must contain at least one of these; ignored if empty.
    pub any: Vec<String>,
}

/// Which scope values the grant must contain, as lists.
#[derive(Debug, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub(crate) struct ScopeLists {
    /// The grant must contain all of these. Default: none.
    #[serde(default)]
    pub all: Vec<String>,
    /// The grant must contain at least one of these. Default: none.
    #[serde(default)]
    pub any: Vec<String>,
}

/// What a rule requires of the device.
#[derive(Debug)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "schema", schemars(with = "schema_shapes::Either<DeviceStatus, DeviceRequirement>"))]
pub struct DeviceConfig {
    /// What happens when no signal reported the status of the device.
    pub unknown: UnknownConfig,
}

/// What a rule requires of the device.
#[derive(Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub(crate) struct DeviceRequirement {
    /// The status that the device must have.
    #[expect(dead_code, reason = "serde reads it: `compliant` is the only value")]
    pub status: DeviceStatus,
    /// What happens when no signal reported the status of the device. Default: deny.
    #[serde(default)]
    pub unknown: UnknownConfig,
}

/// The status that a device must have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub(crate) enum DeviceStatus {
    /// CAEP's `compliant`.
    Compliant,
}

/// What happens when a value is unknown, or when the state is stale.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum UnknownConfig {
    /// The request is refused.
    #[default]
    Deny,
    /// The request passes.
    Allow,
}

/// Which risk a rule accepts.
#[derive(Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct RiskConfig {
    /// The lowest level that is refused: every level below it passes.
    pub below: Risk,
    /// What happens when no signal reported a risk. Default: deny.
    #[serde(default)]
    pub unknown: UnknownConfig,
}

/// Who may act for the subject.
#[derive(Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct ActorConfig {
    /// Whether another party must act for the subject. Default: required.
    #[serde(default)]
    pub delegation: Delegation,
    /// Who may act: accepted values of `sub` of the outermost `act`. Default: every party.
    #[serde(default)]
    pub agents: Option<Vec<String>>,
}

/// Whether another party acts for the subject.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Delegation {
    /// The token must have an `act` claim.
    #[default]
    Required,
    /// The token must not have an `act` claim.
    None,
}

/// Reads a string as the short form and an object as the long form. It is not an untagged enum, because serde reports
/// every mistake inside such an object as "did not match any variant".
struct ShortOrLong<T> {
    expecting: &'static str,
    short: fn(&str) -> Result<T, String>,
    long: std::marker::PhantomData<T>,
}

impl<'de, T: Deserialize<'de>> Visitor<'de> for ShortOrLong<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.expecting)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
        (self.short)(text).map_err(E::custom)
    }

    fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
        T::deserialize(de::value::MapAccessDeserializer::new(map))
    }
}

impl<'de> Deserialize<'de> for ScopeConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let visitor = ShortOrLong {
            expecting: "scope values separated by spaces, or an object with `all` and `any`",
            short: |text: &str| {
                let all = text.split(' ').filter(|scope| !scope.is_empty()).map(str::to_owned).collect();
                Ok(ScopeLists { all, any: Vec::new() })
            },
            long: std::marker::PhantomData,
        };
        deserializer.deserialize_any(visitor).map(|lists| ScopeConfig { all: lists.all, any: lists.any })
    }
}

/// One name, or a list of them.
#[derive(Debug, Clone, Default)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "schema", schemars(with = "schema_shapes::Either<String, Vec<String>>"))]
pub struct AudienceConfig(pub Vec<String>);

/// The name of a claim, or a list of names.
#[derive(Debug, Clone)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "schema", schemars(with = "schema_shapes::Either<String, Vec<String>>"))]
pub struct NamesConfig(pub Vec<String>);

/// Reads a string, or a list of strings.
struct OneOrMany;

impl<'de> Visitor<'de> for OneOrMany {
    type Value = Vec<String>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string, or a list of strings")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Vec<String>, E> {
        Ok(vec![text.to_owned()])
    }

    fn visit_seq<A: de::SeqAccess<'de>>(self, seq: A) -> Result<Vec<String>, A::Error> {
        Vec::deserialize(de::value::SeqAccessDeserializer::new(seq))
    }
}

impl<'de> Deserialize<'de> for AudienceConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(OneOrMany).map(AudienceConfig)
    }
}

impl<'de> Deserialize<'de> for NamesConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(OneOrMany).map(NamesConfig)
    }
}

impl<'de> Deserialize<'de> for DeviceConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let visitor = ShortOrLong {
            expecting: "`compliant`, or an object with `status` and `unknown`",
            short: |text: &str| match text {
                "compliant" => Ok(DeviceRequirement { status: DeviceStatus::Compliant, unknown: UnknownConfig::Deny }),
                other => Err(format!("unknown variant `{other}`, expected `compliant`")),
            },
            long: std::marker::PhantomData,
        };
        deserializer.deserialize_any(visitor).map(|long| DeviceConfig { unknown: long.unknown })
    }
}

/// What one object of `authorization_details` must contain (RFC 9396). `{name}` stands for a capture of the path, and
/// `*` matches any value, including a missing one. If the object has a member that is missing here, it does not match.
#[derive(Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct DetailConfig {
    /// `type`.
    #[serde(rename = "type")]
    pub kind: String,
    /// One of `actions`.
    #[serde(default)]
    pub action: Option<String>,
    /// `identifier`.
    #[serde(default)]
    pub identifier: Option<String>,
    /// One of `locations`.
    #[serde(default)]
    pub location: Option<String>,
    /// One of `datatypes`.
    #[serde(default)]
    pub datatype: Option<String>,
    /// One of `privileges`.
    #[serde(default)]
    pub privilege: Option<String>,
}

/// Which requests pass without a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum AllowConfig {
    /// Every request that the rule matches. A token in the request is ignored.
    Anonymous,
}

/// Which signals are accepted, and from whom.
#[derive(Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(
    feature = "schema",
    schemars(extend("if" = {"not": {"required": ["hub"]}}, "then" = {"required": ["transmitters"]}))
)]
#[serde(deny_unknown_fields)]
pub struct SignalsConfig {
    /// The hub that this filter follows: it brings the signals of all transmitters, so no receiver is needed.
    /// Default: none, and signals come from a receiver.
    #[serde(default)]
    pub hub: Option<HubConfig>,
    /// Whether a filter with `hub` also acts on signals of a receiver in the same proxy. Then `transmitters` and
    /// `effects` are those of the receiver; otherwise they must be missing. Default: false.
    #[serde(default)]
    pub also_receiver: bool,
    /// The feed of the hub that the filters of this proxy follow, for a receiver beside them: names are stored under it.
    /// Every configuration that shares a state must name the same feed. With `hub` it is `hub.feed`. Default: none.
    #[serde(default)]
    pub feed: Option<String>,
    /// The path to which transmitters push SETs. Default: /signals.
    #[serde(default = "default_path")]
    pub path: String,
    /// The transmitters that may send signals. At least one is required, unless there is a `hub`. Default: none.
    #[serde(default)]
    pub transmitters: Vec<TransmitterConfig>,
    /// The effect of each event for which there is a choice. Default: the defaults below.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schemars(with = "Option<schema_shapes::Effects>"))]
    pub effects: BTreeMap<String, String>,
    /// What happens to requests when transmitters or the hub fall silent. Required with `hub`, where `never` says that
    /// silence never refuses requests. Default: nothing; a rule can still require `state_age`.
    #[serde(default)]
    pub stale: Option<StaleConfig>,
    /// Whether there may be no transmitter: not written, but said by who reads it.
    #[serde(skip)]
    pub operators_alone: bool,
}

impl SignalsConfig {
    /// The feed that the filters of this proxy follow.
    pub(crate) fn feed(&self) -> Option<&str> {
        self.hub.as_ref().map(|hub| hub.feed.as_str()).or(self.feed.as_deref())
    }

    /// `stale`, unless it is `never`.
    pub(crate) fn stale(&self) -> Option<&StaleLimit> {
        match self.stale.as_ref()? {
            StaleConfig::Never => None,
            StaleConfig::After(limit) => Some(limit),
        }
    }
}

/// The feed of a hub, which holds the signals about its issuers.
#[derive(Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct HubConfig {
    /// The name of the hub: `iss` of its statements. Default: taskfence-hub.
    #[serde(default = "default_hub")]
    pub name: String,
    /// The cluster of Envoy that leads to the hub or to a relay. Configure TLS in the cluster.
    pub cluster: String,
    /// The name of the feed: lower-case letters, digits and `-`.
    pub feed: String,
    /// The keys that statements of the hub may be signed with.
    pub keys: HubKeysConfig,
    /// The path of the feed on that cluster, without a query. Default: /v1/feeds/ and the name of the feed.
    #[serde(default)]
    pub path: Option<String>,
    /// The host of the requests (`:authority`). Default: the name of the cluster; of Istio's `outbound|PORT|SUBSET|HOST`
    /// the host in it.
    #[serde(default)]
    pub host: Option<String>,
    /// The `authorization` header of the requests. It can be read in Envoy's configuration dump; prefer the client
    /// certificate of the cluster. Default: none.
    #[serde(default)]
    pub authorization: Option<String>,
    /// How long the hub may hold a request when it has nothing new: at most 25s, and at most a third of
    /// `signals.stale.after` and of every `state_age`. Default: as long as it may be.
    #[serde(default)]
    pub wait: Option<Span>,
    /// Who else may say that this filter has caught up. Default: the hub alone, by a number that only this filter knows.
    #[serde(default)]
    pub caught_up: Option<CaughtUpConfig>,
}

/// Who may say that a filter has caught up, beside the hub.
#[derive(Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct CaughtUpConfig {
    /// A relay whose hub is gone may, by a statement of the hub that is at most so old: then the filter may lack what the
    /// hub took in since. At most `signals.stale.after`.
    pub relay: Span,
}

// `authorization` is a secret.
impl fmt::Debug for HubConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HubConfig").field("cluster", &self.cluster).finish_non_exhaustive()
    }
}

/// Public keys of a hub.
#[derive(Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct HubKeysConfig {
    /// A JWK Set (RFC 7517) of keys for ES256, at least one. Write the next key beside the current one before the hub
    /// changes its key; `taskfence hub keys` prints both.
    #[cfg_attr(feature = "schema", schemars(with = "schema_shapes::JwkSet"))]
    pub inline: StrictValue,
}

/// What happens to requests when transmitters or the hub fall silent.
#[derive(Debug)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "schema", schemars(with = "schema_shapes::Either<StaleNever, StaleLimit>"))]
pub enum StaleConfig {
    /// Silence never refuses requests.
    Never,
    /// After some time.
    After(StaleLimit),
}

/// The short form of `stale`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
#[cfg_attr(not(feature = "schema"), expect(dead_code, reason = "it describes a value in the schema"))]
pub(crate) enum StaleNever {
    /// Silence never refuses requests: they are judged with the last known state, however old it is.
    Never,
}

/// What happens to requests when transmitters or the hub fall silent.
#[derive(Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct StaleLimit {
    /// The longest time since the last signal of each transmitter with `heartbeat`. It applies to every rule without
    /// its own `state_age`. With `hub` at least 5s.
    pub after: Span,
    /// What happens to requests after that time: `deny` refuses them with 503, `allow` judges them with the last known
    /// state. Default: deny.
    #[serde(default)]
    pub then: UnknownConfig,
}

impl<'de> Deserialize<'de> for StaleConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NeverOrAfter;

        impl<'de> Visitor<'de> for NeverOrAfter {
            type Value = StaleConfig;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("`never`, or an object with `after` and `then`")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<StaleConfig, E> {
                match text {
                    "never" => Ok(StaleConfig::Never),
                    other => Err(E::unknown_variant(other, &["never"])),
                }
            }

            fn visit_seq<A: de::SeqAccess<'de>>(self, _: A) -> Result<StaleConfig, A::Error> {
                Err(de::Error::custom("is a list, and must be `never` or an object"))
            }

            fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<StaleConfig, A::Error> {
                StaleLimit::deserialize(de::value::MapAccessDeserializer::new(map)).map(StaleConfig::After)
            }
        }

        deserializer.deserialize_any(NeverOrAfter)
    }
}

/// One stream of a transmitter of signals. A transmitter may have several streams, which are distinguished by
/// `audience`, then by `authorization` and `keys`.
#[derive(Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct TransmitterConfig {
    /// `iss` of its SETs.
    pub issuer: String,
    /// `aud` of its SETs must contain this value, or one of these values. Required, unless there is
    /// a `logout_audience` or a `revocation_audience`. Default: it sends no SETs.
    #[serde(default)]
    pub audience: AudienceConfig,
    /// What it is: how its SETs deviate from the specifications. Its deviations are then not reported as odd, and an event
    /// that permits something is not refused because of them. Default: standard.
    #[serde(default)]
    pub profile: ProfileConfig,
    /// Its public keys.
    pub keys: KeysConfig,
    /// Accepted signature algorithms: RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384,
    /// ES512, EdDSA. Default: ES256 and RS256.
    #[serde(default = "default_algorithms")]
    pub algorithms: Vec<String>,
    /// The token issuers about whose subjects it may send signals. Default: the issuer of the same name.
    #[serde(default)]
    pub subjects: Option<Vec<String>>,
    /// Issuers that its subjects name, each with the token issuer whose `sub` has the same values: for one that signals under
    /// another name than it issues tokens under. Default: none.
    #[serde(default)]
    pub subject_issuers: BTreeMap<String, String>,
    /// `aud` of its logout tokens must contain this value, or one of these values: the client ids of the applications that it
    /// sends them for (OpenID Connect Back-Channel Logout 1.0). Only a hub takes them. Default: it sends none.
    #[serde(default)]
    pub logout_audience: AudienceConfig,
    /// `aud` of the JWT that authenticates a global token revocation must contain this value, or one of these values: the URL
    /// that it is sent to (draft-parecki-oauth-global-token-revocation). Only a hub takes them. Default: it sends none.
    #[serde(default)]
    pub revocation_audience: AudienceConfig,
    /// The `authorization` header that its pushes must carry (RFC 8935 §3). Default: none is required.
    #[serde(default)]
    pub authorization: Option<String>,
    /// Types of events that it may send, by the last part of their URI. Default: every type.
    #[serde(default)]
    pub events: Option<Vec<String>>,
    /// Event URIs that only this transmitter uses, each with the type of event that it stands for. Default: none.
    #[serde(default)]
    pub event_uris: BTreeMap<String, String>,
    /// Critical members of complex subjects: a signal with a critical member that cannot be matched is refused. Other
    /// members that cannot be matched are ignored, so the signal affects more grants. Default: task.
    #[serde(default)]
    pub critical_members: Option<Vec<String>>,
    /// Claims that its token-claims-change events may set. Default: all claims except those that identify the token.
    #[serde(default)]
    pub settable_claims: Option<Vec<String>>,
    /// The value that `state` of its verification events must have, if an event has `state`. Default: any value.
    #[serde(default)]
    pub verification_state: Option<String>,
    /// Whether the transmitter writes subjects as in drafts of the standards: inside the CAEP or RISC event instead of
    /// in `sub_id`, with `subject_type`, or complex without `format`. Such subjects are always read. If this is false,
    /// they are reported as odd, and an event that permits something is refused. Default: false.
    #[serde(default)]
    pub legacy_subject: bool,
    /// Whether the state becomes stale when this transmitter falls silent. Default: true.
    #[serde(default = "yes")]
    pub heartbeat: bool,
}

/// How the SETs of a transmitter deviate from the specifications.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum ProfileConfig {
    /// Not at all.
    #[default]
    Standard,
    /// Okta: subjects inside the event, texts without a language, free text for who acted.
    Okta,
    /// Google's Cross-Account Protection (RISC): `subject_type`, event types of its own, `https://accounts.google.com/` for
    /// the issuer of its tokens.
    GoogleRisc,
    /// Keycloak: texts without a language, statuses in other spellings.
    Keycloak,
}

// `authorization` is a secret.
impl fmt::Debug for TransmitterConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TransmitterConfig").field("issuer", &self.issuer).finish_non_exhaustive()
    }
}

fn yes() -> bool {
    true
}

fn default_algorithms() -> Vec<String> {
    vec!["ES256".to_owned(), "RS256".to_owned()]
}

fn default_proof_algorithms() -> Vec<String> {
    Settings::default().algorithms.iter().map(|algorithm| algorithm.name().to_owned()).collect()
}

fn default_types() -> Vec<String> {
    vec!["at+jwt".to_owned()]
}

fn default_max_lifetime() -> Span {
    Span::minutes(15)
}

fn default_max_session() -> Span {
    Span::hours(24)
}

fn default_clock_skew() -> Span {
    Span(30)
}

fn default_max_actors() -> usize {
    8
}

fn default_token_cache() -> usize {
    16 * 1024 * 1024
}

fn default_per_second() -> u32 {
    10
}

fn default_burst() -> u32 {
    100
}

fn default_hub() -> String {
    "taskfence-hub".to_owned()
}

fn default_path() -> String {
    "/signals".to_owned()
}

/// Where a request carries the token. Use exactly one of these.
#[derive(Debug, Clone, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct TokenConfig {
    /// The name of a header that contains the token, alone or after `Bearer` or `DPoP`. In `authorization` the scheme
    /// is required.
    #[serde(default)]
    pub header: Option<String>,
    /// The name of a cookie that contains the token.
    #[serde(default)]
    pub cookie: Option<String>,
}

/// How DPoP proofs are checked (RFC 9449).
#[derive(Debug, Clone, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct DpopConfig {
    /// The origins (scheme and authority) under which clients know this service, such as `https://api.example`. `htu`
    /// of a proof must be one of these with the path of the request. Default: scheme and authority of the request.
    #[serde(default)]
    pub origins: Option<Vec<String>>,
    /// The greatest age of a proof (`iat`). Default: 1m.
    #[serde(default = "default_window")]
    pub window: Span,
    /// Accepted signature algorithms: RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384,
    /// ES512, EdDSA. Default: ES256.
    #[serde(default = "default_proof_algorithms")]
    pub algorithms: Vec<String>,
    /// If set, proofs must carry a nonce of this proxy. A nonce is valid for at least this long and at most twice as
    /// long. Default: no nonce is required.
    #[serde(default)]
    pub nonce: Option<Span>,
}

impl Default for DpopConfig {
    fn default() -> DpopConfig {
        DpopConfig { origins: None, window: default_window(), algorithms: default_proof_algorithms(), nonce: None }
    }
}

pub(crate) fn default_window() -> Span {
    Settings::default().window
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::load::parse;

    fn problem(json: &str) -> String {
        parse::<Config>(json.as_bytes(), "the configuration").expect_err("refused").to_string()
    }

    #[test]
    fn names_the_place_and_the_nearest_key() {
        let issuer = r#"{"issuer":"i","audiences":["a"],"keys":{"inline":{}}}"#;
        for (json, message) in [
            (r#"{"isuers":[]}"#.to_owned(), "isuers: unknown key `isuers` (did you mean `issuers`?)"),
            (
                format!(r#"{{"issuers":[{issuer}],"rules":[{{"name":"r","match":{{"paht":"/"}}}}]}}"#),
                "rules[0].match.paht: unknown key `paht` (did you mean `path`?)",
            ),
            (
                format!(r#"{{"issuers":[{issuer}],"role":"filtr"}}"#),
                "role: unknown value `filtr` (did you mean `filter`?)",
            ),
            (r#"{}"#.to_owned(), "missing key `issuers`"),
            (
                r#"{"issuers":[{"issuer":"i","audiences":["a"],"keys":{"inline":{}},"max_lifetime":"soon"}]}"#
                    .to_owned(),
                "issuers[0].max_lifetime: `soon` is not a length of time such as `30s`, `15m` or `1h`",
            ),
            (r#"{"issuers":7}"#.to_owned(), "issuers: invalid type: integer `7`, expected a sequence"),
            (
                r#"{"issuers":[],"issuers":[]}"#.to_owned(),
                "issuers: not usable as JSON: duplicate name in an object at line 1 column 27",
            ),
        ] {
            assert_eq!(problem(&json), message);
        }
        assert!(problem("{").starts_with("not JSON: "), "{}", problem("{"));
        assert_eq!(problem("[]"), "the configuration is not a JSON object");
        assert!(problem("{\"issuers\":[]} x").starts_with("not one JSON document"));
    }
}

//! The configuration as it is typed: the shape of the JSON, not yet its meaning. [`load`] gives the meaning.

#[cfg(feature = "schema")]
use crate::config::schema_shapes;
use crate::encoding::json::StrictValue;
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
    /// What this listener's filter does. Default: filter.
    #[serde(default)]
    pub role: Role,
    /// Issuers whose tokens are accepted.
    pub issuers: Vec<IssuerConfig>,
    /// What may be done with a grant. The first rule that matches decides; nothing matched is denied.
    /// Default: none.
    #[serde(default)]
    pub rules: Vec<RuleConfig>,
    /// Whether refusals are enforced, or only recorded. Default: enforce.
    #[serde(default)]
    pub mode: Mode,
    /// How hosts are read: `exact` behind a connection manager with `strip_any_host_port` and `strip_trailing_host_dot`.
    /// Default: folded.
    #[serde(default)]
    pub hosts: Reading,
    /// Headers about the verified grant for the upstream. Whatever the client sends under these names is removed.
    /// Default: none.
    #[serde(default)]
    pub identity: IdentityConfig,
    /// Whether the upstream gets to see the token itself. Default: true.
    #[serde(default = "yes")]
    pub forward_token: bool,
    /// The `realm` of challenges (RFC 6750 §3). Default: the first audience.
    #[serde(default)]
    pub realm: Option<String>,
    /// Where signals come from. Default: none are taken.
    #[serde(default)]
    pub signals: Option<SignalsConfig>,
    /// What one worker spends on tokens. Default: those below.
    #[serde(default)]
    pub limits: LimitsConfig,
}

/// What one worker spends on tokens.
#[derive(Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct LimitsConfig {
    /// Memory for verified tokens, in bytes; the least recently used go first. Default: 16777216.
    #[serde(default = "default_token_cache")]
    pub token_cache: usize,
    /// Bad signatures that each source may have checked; beyond them its new tokens are answered 429 unchecked.
    /// Default: those below.
    #[serde(default)]
    pub bad_signatures: BadSignaturesConfig,
}

/// Bad signatures that each source may have checked, per worker. A source is an IPv4 address or an IPv6 /64, as Envoy
/// determines where a request comes from.
#[derive(Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct BadSignaturesConfig {
    /// In a second, in the long run. Default: 10.
    #[serde(default = "default_per_second")]
    pub per_second: u32,
    /// At once, after a quiet time. Default: 100.
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

/// Names of headers that carry verified facts to the upstream. What is left out is not sent.
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
    /// The header for `client_id`.
    #[serde(default)]
    pub client: Option<String>,
    /// The header for the task.
    #[serde(default)]
    pub task: Option<String>,
    /// The header for the session.
    #[serde(default)]
    pub session: Option<String>,
    /// The header for the acting party, by `sub` of the outermost `act`.
    #[serde(default)]
    pub actor: Option<String>,
    /// The header for `scope`, values divided by spaces.
    #[serde(default)]
    pub scope: Option<String>,
    /// The header for `jti`.
    #[serde(default)]
    pub token: Option<String>,
}

/// A token issuer.
#[derive(Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct IssuerConfig {
    /// `iss` of its tokens, compared byte by byte.
    pub issuer: String,
    /// `aud` of a token must hold one of these.
    pub audiences: Vec<String>,
    /// Its public keys.
    pub keys: KeysConfig,
    /// Accepted signature algorithms: RS256, RS384, RS512, PS256, ES256, ES384, EdDSA. Default: ES256 and RS256.
    #[serde(default = "default_algorithms")]
    pub algorithms: Vec<String>,
    /// Accepted `typ` values, with or without `application/`. Default: at+jwt.
    #[serde(default = "default_types")]
    pub types: Vec<String>,
    /// Tokens with a longer `exp - iat` are refused. Default: 15m.
    #[serde(default = "default_max_lifetime")]
    pub max_lifetime: Span,
    /// Sessions that began longer ago are refused, and signals about them are kept this long. Default: 24h.
    #[serde(default = "default_max_session")]
    pub max_session: Span,
    /// How far its clock and ours may lie apart. Default: 30s.
    #[serde(default = "default_clock_skew")]
    pub clock_skew: Span,
    /// Names of claims that issuers name differently. Default: those below.
    #[serde(default)]
    pub claims: ClaimsConfig,
    /// Where its tokens stand in a request. Default: the header `authorization`, scheme `Bearer` or `DPoP`.
    #[serde(default)]
    pub token: Option<TokenConfig>,
    /// What its tokens must be bound to (`cnf`). What a token is bound to is checked in any case. Default: none.
    #[serde(default)]
    pub binding: Binding,
    /// How DPoP proofs for its tokens are checked. Default: as below.
    #[serde(default)]
    pub dpop: Option<DpopConfig>,
    /// The claim that names, by its SPIFFE ID, the one workload that may present a token: the first URI in the client's
    /// certificate must be its value. `sub`, `client_id`, `act.sub` (the acting party), or another claim. Default:
    /// none.
    #[serde(default)]
    pub peer_claim: Option<String>,
    /// How many parties a chain of `act` may name. Only the outermost is authority; a condition sees the others in
    /// `claims.act`. Default: 8.
    #[serde(default = "default_max_actors")]
    pub max_actors: usize,
}

/// Public keys: `inline`, or fetched through a cluster of Envoy with `cluster` and `path`. The other keys are for fetched
/// ones.
#[derive(Debug, Default, PartialEq, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct KeysConfig {
    /// A JWK Set (RFC 7517).
    #[serde(default)]
    #[cfg_attr(feature = "schema", schemars(with = "Option<schema_shapes::JwkSet>"))]
    pub inline: Option<StrictValue>,
    /// The cluster of Envoy that serves the JWK Set. TLS is the cluster's matter.
    #[serde(default)]
    pub cluster: Option<String>,
    /// The path of the JWK Set there, with a query if it needs one.
    #[serde(default)]
    pub path: Option<String>,
    /// The host to ask for (`:authority`). Default: the host of the issuer's URL, or the name of the cluster where the
    /// issuer is no URL.
    #[serde(default)]
    pub host: Option<String>,
    /// How often it is fetched. Default: 5m.
    #[serde(default)]
    pub refresh: Option<Span>,
    /// How long a fetch may take. Default: 5s.
    #[serde(default)]
    pub timeout: Option<Span>,
    /// How long a request may wait for keys. A pushed signal never does; its transmitter repeats it. Default: 2s.
    #[serde(default)]
    pub wait: Option<Span>,
    /// How long keys are used after they were last fetched. Default: 24h.
    #[serde(default)]
    pub keep: Option<Span>,
    /// How long at least lies between fetches that tokens with an unknown `kid` ask for. Default: 10s.
    #[serde(default)]
    pub refetch: Option<Span>,
}

/// Names of claims that issuers name differently.
#[derive(Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct ClaimsConfig {
    /// The claim that names the task. Default: txn.
    #[serde(default = "default_task")]
    pub task: String,
    /// The claim that names the session. Default: sid.
    #[serde(default = "default_session")]
    pub session: String,
    /// A claim that names the device, beside the member `device` of `sub_id`. Default: none.
    #[serde(default)]
    pub device: Option<String>,
    /// A claim that names the tenant, beside the member `tenant` of `sub_id`. Default: none.
    #[serde(default)]
    pub tenant: Option<String>,
    /// A claim that names the group, or a list of at most 256 groups, beside the member `group` of `sub_id`.
    /// Default: none.
    #[serde(default)]
    pub group: Option<String>,
    /// What subjects of other formats than `jwt_id` and `iss_sub` of this issuer stand for (RFC 9493). Default: none, and
    /// signals about such subjects change nothing.
    #[serde(default)]
    pub subjects: SubjectsConfig,
}

/// What subjects of signals stand for in tokens: for each format the claim that holds what it names. A token in which
/// the claim is missing, an empty string or no string is not known by it.
#[derive(Debug, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct SubjectsConfig {
    /// The claim with the email address, compared in any case. Default: none.
    #[serde(default)]
    pub email: Option<String>,
    /// The claim with the phone number, compared by its digits: `+1 (206) 555-0100` is `+12065550100`.
    /// Default: none.
    #[serde(default)]
    pub phone_number: Option<String>,
    /// The claim with the account, with or without `acct:`, its host in any case. Default: none.
    #[serde(default)]
    pub account: Option<String>,
    /// The claim with the DID. A DID URL names its DID. Default: none.
    #[serde(default)]
    pub did: Option<String>,
    /// The claim with the URI. Default: none.
    #[serde(default)]
    pub uri: Option<String>,
    /// Other issuers whose `iss_sub` subjects are about users of these tokens, each with the claim that holds the `sub`
    /// it gave: an identity provider that signals about users for whom this issuer mints. Default: none.
    #[serde(default)]
    pub iss_sub: BTreeMap<String, String>,
    /// What an `opaque` subject names, where it is the whole subject. Default: nothing, or the device in a
    /// device-compliance-change.
    #[serde(default)]
    pub opaque: Option<OpaqueConfig>,
}

impl SubjectsConfig {
    /// The claims that are named, each with the key that names it.
    pub(crate) fn claims(&self) -> impl Iterator<Item = (String, &String)> {
        let SubjectsConfig { email, phone_number, account, did, uri, iss_sub, opaque: _ } = self;
        let formats =
            [("email", email), ("phone_number", phone_number), ("account", account), ("did", did), ("uri", uri)];
        let formats = formats.into_iter().filter_map(|(format, claim)| Some((format.to_owned(), claim.as_ref()?)));
        formats.chain(iss_sub.iter().map(|(issuer, claim)| (format!("iss_sub.{issuer}"), claim)))
    }
}

/// What an `opaque` subject names.
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

impl Default for ClaimsConfig {
    fn default() -> ClaimsConfig {
        ClaimsConfig {
            task: default_task(),
            session: default_session(),
            device: None,
            tenant: None,
            group: None,
            subjects: SubjectsConfig::default(),
        }
    }
}

/// A rule: what it is for, and what it asks. It says exactly one of `require`, `allow` and `deny`.
#[derive(Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct RuleConfig {
    /// Its name in logs and explanations.
    pub name: String,
    /// Which requests it is for.
    #[serde(rename = "match")]
    pub matches: MatchConfig,
    /// What the grant must hold.
    #[serde(default)]
    pub require: Option<RequireConfig>,
    /// Lets requests pass without a grant.
    #[serde(default)]
    pub allow: Option<AllowConfig>,
    /// Refuses all it matches. Default: false.
    #[serde(default)]
    pub deny: bool,
    /// A scope that lifts some of what is required, for emergencies. Every use is recorded and counted. Default: none.
    #[serde(default)]
    pub break_glass: Option<BreakGlassConfig>,
    /// Whether its refusals are enforced. Default: the overall `mode`.
    #[serde(default)]
    pub mode: Option<Mode>,
    /// What becomes of its requests when the state is stale. Default: as `signals.stale` says.
    #[serde(default)]
    pub stale: Option<UnknownConfig>,
}

/// A scope that lifts requirements by name.
#[derive(Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct BreakGlassConfig {
    /// The scope value that the grant must hold.
    pub scope: String,
    /// The keys of `require` that it lifts. `state_age` also stands for what `signals.stale` asks for.
    pub lifts: Vec<String>,
}

/// Which requests a rule is for. What is left out matches everything.
#[derive(Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct MatchConfig {
    /// HTTP methods, in upper case. Default: every method.
    #[serde(default)]
    pub methods: Option<Vec<String>>,
    /// Hosts, without ports. Default: every host.
    #[serde(default)]
    pub hosts: Option<Vec<String>>,
    /// A path template: `{name}` is one segment, `{name...}` all that is left. There are no other wildcards; where a path
    /// has a `*`, or a `:`, `$`, `+` or bracket that another system would read as a pattern, it stands escaped, as in
    /// `%2A`. Default: every path.
    #[serde(default)]
    pub path: Option<String>,
    /// gRPC requests to a service, or to one method of it; instead of `path`. In a rule that denies: every request to
    /// its path, for gRPC-Web, Connect and JSON call the same method. Default: gRPC or not.
    #[serde(default)]
    pub grpc: Option<GrpcConfig>,
    /// Metadata of Envoy's route, namespace `taskfence`: names and the strings that they must be.
    /// Default: any route.
    #[serde(default)]
    pub metadata: Option<BTreeMap<String, String>>,
}

/// A gRPC service.
#[derive(Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct GrpcConfig {
    /// The full name, as in `orders.v1.Orders`.
    pub service: String,
    /// One method. Default: every method.
    #[serde(default)]
    pub method: Option<String>,
}

/// What a grant must hold. What is left out is not asked for.
#[derive(Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct RequireConfig {
    /// Scope values that must all be there, divided by spaces; or an object with `all` and `any`.
    #[serde(default)]
    pub scope: Option<ScopeConfig>,
    /// An object of `authorization_details` that must be there.
    #[serde(default)]
    pub detail: Option<DetailConfig>,
    /// `compliant`, or an object that says what becomes of a device that nobody spoke about.
    #[serde(default)]
    pub device: Option<DeviceConfig>,
    /// The risk that a signal stated about the user, device, session, client, actor or tenant.
    #[serde(default)]
    pub risk: Option<RiskConfig>,
    /// Networks that the request may come from, in CIDR notation.
    #[serde(default)]
    pub source: Option<Vec<String>>,
    /// Workloads that the request may come from, by the SPIFFE ID in the client's certificate. `*` as the last segment
    /// stands for one or more segments.
    #[serde(default)]
    pub peer: Option<Vec<String>>,
    /// Whether a token counts for one request only, on whichever worker of this proxy. Default: false.
    #[serde(default)]
    pub single_use: bool,
    /// Accepted values of `acr`, the preferred one first (RFC 9470).
    #[serde(default)]
    pub acr: Option<Vec<String>>,
    /// How long ago the user may have been authenticated, by `auth_time`.
    #[serde(default)]
    pub auth_age: Option<Span>,
    /// Claims with exactly these values.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schemars(with = "Option<BTreeMap<String, serde_json::Value>>"))]
    pub claims: Option<BTreeMap<String, StrictValue>>,
    /// Who may act for the subject (RFC 8693).
    #[serde(default)]
    pub actor: Option<ActorConfig>,
    /// How long ago the transmitter of signals may last have been heard of.
    #[serde(default)]
    pub state_age: Option<Span>,
    /// A condition in CEL over `claims`, `grant`, `context`, `request`, `captures` and `now`.
    #[serde(default)]
    pub when: Option<String>,
}

/// Scope values.
#[derive(Debug, Default)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "schema", schemars(with = "schema_shapes::Either<String, ScopeLists>"))]
pub struct ScopeConfig {
    /// All of these.
    pub all: Vec<String>,
    /// One of these.
    pub any: Vec<String>,
}

/// Scope values in lists.
#[derive(Debug, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct ScopeLists {
    /// All of these. Default: none.
    #[serde(default)]
    pub all: Vec<String>,
    /// One of these. Default: none.
    #[serde(default)]
    pub any: Vec<String>,
}

/// What is asked of the device.
#[derive(Debug)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "schema", schemars(with = "schema_shapes::Either<DeviceStatus, DeviceRequirement>"))]
pub struct DeviceConfig {
    /// What becomes of a device that nobody spoke about.
    pub unknown: UnknownConfig,
}

/// What is asked of the device.
#[derive(Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct DeviceRequirement {
    /// The status that it must have.
    #[expect(dead_code, reason = "serde reads it: `compliant` is the only value")]
    pub status: DeviceStatus,
    /// What becomes of a device that nobody spoke about. Default: deny.
    #[serde(default)]
    pub unknown: UnknownConfig,
}

/// The status that a device must have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum DeviceStatus {
    /// CAEP's `compliant`.
    Compliant,
}

/// What becomes of what is not known, or not known to be still so.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum UnknownConfig {
    /// It is refused.
    #[default]
    Deny,
    /// It passes.
    Allow,
}

/// What is asked of the risk.
#[derive(Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct RiskConfig {
    /// The first level that is too high.
    pub below: Risk,
    /// What becomes of a risk that nobody stated. Default: deny.
    #[serde(default)]
    pub unknown: UnknownConfig,
}

/// Who may act for the subject.
#[derive(Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct ActorConfig {
    /// Whether somebody must act for the subject. Default: required.
    #[serde(default)]
    pub delegation: Delegation,
    /// Who may act, by `sub` of the outermost `act`. Default: anybody.
    #[serde(default)]
    pub agents: Option<Vec<String>>,
}

/// Whether somebody acts for the subject.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Delegation {
    /// Somebody does.
    #[default]
    Required,
    /// Nobody does.
    None,
}

/// A string stands for the short form, an object for the long one. Written by hand: an untagged enum would answer
/// every mistake inside the object with "did not match any variant".
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
            expecting: "scope values divided by spaces, or an object with `all` and `any`",
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
#[derive(Debug)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "schema", schemars(with = "schema_shapes::Either<String, Vec<String>>"))]
pub struct AudienceConfig(pub Vec<String>);

impl<'de> Deserialize<'de> for AudienceConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OneOrMany;

        impl<'de> Visitor<'de> for OneOrMany {
            type Value = AudienceConfig;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string, or a list of strings")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<AudienceConfig, E> {
                Ok(AudienceConfig(vec![text.to_owned()]))
            }

            fn visit_seq<A: de::SeqAccess<'de>>(self, seq: A) -> Result<AudienceConfig, A::Error> {
                Vec::deserialize(de::value::SeqAccessDeserializer::new(seq)).map(AudienceConfig)
            }
        }

        deserializer.deserialize_any(OneOrMany)
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

/// What one object of `authorization_details` must say (RFC 9396). `{name}` stands for a capture of the path, `*` for
/// any value. A member that the object has and that is left out here refuses.
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

/// Who passes without a grant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum AllowConfig {
    /// Everybody. A token in the request is not looked at.
    Anonymous,
}

/// Where signals come from.
#[derive(Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct SignalsConfig {
    /// The path that takes SETs. Default: /signals.
    #[serde(default = "default_path")]
    pub path: String,
    /// Who may send them.
    pub transmitters: Vec<TransmitterConfig>,
    /// What events do that leave a choice. Default: as below.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schemars(with = "Option<schema_shapes::Effects>"))]
    pub effects: BTreeMap<String, String>,
    /// What becomes of requests when transmitters fall silent. Default: nothing; a rule may ask for `state_age`.
    #[serde(default)]
    pub stale: Option<StaleConfig>,
}

/// What becomes of requests when transmitters fall silent.
#[derive(Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct StaleConfig {
    /// How long ago each transmitter with a `heartbeat` may last have been heard of, where a rule has no `state_age`
    /// of its own.
    pub after: Span,
    /// What becomes of requests then: refused with 503, or judged by what was heard before. Default: deny.
    #[serde(default)]
    pub then: UnknownConfig,
}

/// A stream of a transmitter of signals. A transmitter may have several, told apart by `audience`, else by
/// `authorization` and `keys`.
#[derive(Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct TransmitterConfig {
    /// `iss` of its SETs.
    pub issuer: String,
    /// `aud` of its SETs must hold this, or one of these.
    pub audience: AudienceConfig,
    /// Its public keys.
    pub keys: KeysConfig,
    /// Accepted signature algorithms: RS256, RS384, RS512, PS256, ES256, ES384, EdDSA. Default: ES256 and RS256.
    #[serde(default = "default_algorithms")]
    pub algorithms: Vec<String>,
    /// Token issuers about whose subjects it may speak. Default: itself.
    #[serde(default)]
    pub subjects: Option<Vec<String>>,
    /// The `authorization` header that its pushes must carry (RFC 8935 §3). Default: none is asked for.
    #[serde(default)]
    pub authorization: Option<String>,
    /// Types of events that it may send, by the last part of their URI. Default: every type.
    #[serde(default)]
    pub events: Option<Vec<String>>,
    /// Event URIs of its own, and the types that they stand for. Default: none.
    #[serde(default)]
    pub event_uris: BTreeMap<String, String>,
    /// Members of complex subjects that it calls critical: a signal with one that cannot be matched is refused. Others
    /// are left out of account, which makes the signal hit more. Default: task.
    #[serde(default = "default_critical")]
    pub critical_members: Vec<String>,
    /// Claims that its token-claims-change may set. Default: all but those that say what token it is.
    #[serde(default)]
    pub settable_claims: Option<Vec<String>>,
    /// The `state` that its verification events must have, where they have any. Default: any will do.
    #[serde(default)]
    pub verification_state: Option<String>,
    /// The transmitter writes subjects as drafts had them: inside the CAEP or RISC event instead of in `sub_id`, with
    /// `subject_type`, or complex without `format`. Such subjects are always read; without this they count as odd, and
    /// an event that permits something is refused. Default: false.
    #[serde(default)]
    pub legacy_subject: bool,
    /// Whether its silence makes the state stale. Default: true.
    #[serde(default = "yes")]
    pub heartbeat: bool,
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

fn default_task() -> String {
    "txn".to_owned()
}

fn default_session() -> String {
    "sid".to_owned()
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

fn default_critical() -> Vec<String> {
    vec!["task".to_owned()]
}

fn default_path() -> String {
    "/signals".to_owned()
}

/// Where a token stands: one of these.
#[derive(Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct TokenConfig {
    /// The header of that name: the token alone, or behind `Bearer` or `DPoP`. `authorization` always wants a scheme.
    #[serde(default)]
    pub header: Option<String>,
    /// The cookie of that name.
    #[serde(default)]
    pub cookie: Option<String>,
}

/// How DPoP proofs are checked (RFC 9449).
#[derive(Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct DpopConfig {
    /// Scheme and authority under which clients know this service, as in `https://api.example`: with the path of the
    /// request, `htu` must be one of these. Default: scheme and authority of the request.
    #[serde(default)]
    pub origins: Option<Vec<String>>,
    /// How old a proof may be, by `iat`. Default: 1m.
    #[serde(default = "default_window")]
    pub window: Span,
    /// Accepted signature algorithms: RS256, RS384, RS512, PS256, ES256, ES384, EdDSA. Default: ES256.
    #[serde(default = "default_proof_algorithms")]
    pub algorithms: Vec<String>,
    /// Proofs must carry a nonce of this proxy, which lives at least this long and at most twice as long. Default: none
    /// is asked for.
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

//! Describes an issuer in a draft, and fits the description to one of its tokens.

use reqwest::Url;
use serde_json::{Map, Value};
use taskfence_core::reason::Reason;
use taskfence_core::time::Timestamp;
use taskfence_core::token::claim_names::Names;
use taskfence_core::token::issuer::Issuer;
use taskfence_core::token::verify::{Rejected, examine};

use crate::drafting::draft::Draft;
use crate::drafting::metadata::Metadata;
use crate::drafting::yaml::{list, scalar};
use crate::failure::Failure;
use crate::input::configuration;
use crate::input::shared_issuer;
use crate::offline::token_report::UnverifiedToken;

/// How often the description is changed until the token fits. Each change is about another claim.
const MAX_CHANGES: usize = 16;

/// What is known of an issuer.
#[derive(Debug)]
pub struct KnownIssuer {
    /// `iss` of its tokens.
    pub name: String,
    /// The name of its profile.
    pub profile: Option<&'static str>,
    /// `aud` of tokens for this service.
    pub audiences: Vec<String>,
    /// Where its keys are.
    pub keys: Keys,
}

/// A token of an issuer. It is not verified.
#[derive(Debug)]
pub struct Sample {
    /// The token.
    pub bytes: Vec<u8>,
    /// What it says.
    pub says: UnverifiedToken,
}

impl Sample {
    /// Reads a token.
    pub fn read(bytes: Vec<u8>) -> Result<Sample, Failure> {
        let says = UnverifiedToken::parse(&bytes).map_err(|error| {
            let help = "an opaque token says nothing to a filter, and is never accepted; look for JWT access tokens at the issuer";
            Failure::Failed(format!("the token is no JWT: {error}; {help}"))
        })?;
        Ok(Sample { bytes, says })
    }

    /// When the token says that it was issued.
    fn issued_at(&self) -> Timestamp {
        self.says.time("iat").unwrap_or(Timestamp(0))
    }
}

/// Where the keys of an issuer are.
#[derive(Debug)]
pub enum Keys {
    /// Here.
    Inline(Value),
    /// At the issuer, a URL, with what was found there.
    Discover { issuer: Url, found: Option<Box<Metadata>> },
    /// Somewhere.
    Unknown,
}

/// The claim that names the audience of tokens with this profile; `None` if no claim does.
pub fn audience_claim(profile: Option<&str>) -> Option<&'static str> {
    match profile {
        Some("cognito") => Some("client_id"),
        Some("wimse") => None,
        _ => Some("aud"),
    }
}

/// The issuer that a token names: `iss`, or scheme and authority of a SPIFFE ID (JWT-SVIDs need no `iss`).
pub fn named_by(says: &UnverifiedToken) -> Option<String> {
    says.text("iss").or_else(|| {
        let subject = says.text("sub")?;
        let (domain, _) = subject.strip_prefix("spiffe://")?.split_once('/')?;
        Some(format!("spiffe://{domain}"))
    })
}

/// The audiences of a token, without those of the issuer's own services.
pub fn audiences(claims: &Map<String, Value>, profile: Option<&str>) -> Vec<String> {
    let named = match audience_claim(profile).and_then(|claim| claims.get(claim)) {
        Some(Value::String(one)) => vec![one.clone()],
        Some(Value::Array(list)) => list.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        _ => Vec::new(),
    };
    let userinfo = |audience: &String| audience == "account" || audience.ends_with("/userinfo");
    named.into_iter().filter(|audience| !userinfo(audience)).collect()
}

/// Writes what is known into `draft`, so that the filter can read `sample`.
pub fn describe(draft: &mut Draft, known: &KnownIssuer, sample: Option<&Sample>) {
    draft.issuer.clone_from(&known.name);
    if let Some(profile) = known.profile {
        draft.set(
            "profile",
            scalar(profile),
            Some("sets what the keys below do not say; `taskfence check --print` shows it"),
        );
    }
    let several = known.audiences.len() > 1;
    let why = several.then_some("a token needs only one of these: keep those that mean this service");
    if !known.audiences.is_empty() {
        draft.set("audiences", list(&known.audiences), why);
    }
    describe_keys(draft, &known.keys);
    describe_owner(draft, sample);
    if let Some(sample) = sample {
        fit(draft, sample);
    }
}

/// Says whose tokens are meant, where strangers have tokens of the issuer too.
fn describe_owner(draft: &mut Draft, sample: Option<&Sample>) {
    let Some(claim) = shared_issuer::owner_claim(&draft.issuer) else { return };
    match sample.and_then(|sample| sample.says.text(claim)) {
        Some(owner) => {
            let value = format!("{{{claim}: {}}}", scalar(&owner));
            draft.set("where", value, Some("anybody can get a token of this issuer for this audience: only these are meant"));
        }
        None => draft.notes.push(format!(
            "anybody can get a token of this issuer for this audience: write whose tokens are meant, `where: {{{claim}: ...}}`"
        )),
    }
}

fn describe_keys(draft: &mut Draft, keys: &Keys) {
    match keys {
        Keys::Inline(set) => draft.set("keys", format!("{{inline: {set}}}"), None),
        Keys::Discover { issuer, found } => {
            let own = issuer.host_str().unwrap_or_default();
            let other = found.as_ref().and_then(|found| found.jwks_uri.host_str()).filter(|host| *host != own);
            let mut value = format!("cluster: {}, discover: true", scalar(&cluster(own)));
            draft.needs.push(need(own, issuer.port()));
            if let (Some(host), Some(found)) = (other, found) {
                value.push_str(&format!(", jwks_cluster: {}, jwks_host: {}", scalar(&cluster(host)), scalar(host)));
                draft.needs.push(need(host, found.jwks_uri.port()));
            }
            draft.set("keys", format!("{{{value}}}"), None);
        }
        Keys::Unknown => {
            draft.set(
                "keys",
                "{cluster: issuer-keys, path: /jwks.json}".to_owned(),
                Some("where the JWK Set of the issuer is"),
            );
            draft.needs.push("a cluster `issuer-keys` that leads to the server of the issuer's JWK Set".to_owned());
        }
    }
}

/// The name of the cluster for a host.
fn cluster(host: &str) -> String {
    host.to_owned()
}

fn need(host: &str, port: Option<u16>) -> String {
    format!(
        "a cluster `{}` that leads to {host}, port {}, with TLS and its name checked",
        cluster(host),
        port.unwrap_or(443)
    )
}

/// Changes what `draft` says of the issuer until the filter takes the token, but for its signature.
fn fit(draft: &mut Draft, sample: &Sample) {
    let mut claims = Vec::new();
    for _ in 0..MAX_CHANGES {
        // Without keys, every other check is made first.
        let mut keyless = draft.clone();
        describe_keys(&mut keyless, &Keys::Unknown);
        let Ok(configuration) = configuration::parse(keyless.to_yaml().as_bytes()) else { return };
        let issuers = configuration.loaded.policy.issuers();
        let (Err(rejected), Some(issuer)) = (examine(&sample.bytes, issuers, sample.issued_at()), issuers.first())
        else {
            return;
        };
        if rejected.reason == Reason::KeysUnavailable {
            return;
        }
        if !change(draft, &mut claims, &rejected, issuer, &sample.says) {
            let claim = rejected.claim.map(|claim| format!(" ({claim})")).unwrap_or_default();
            let title = rejected.reason.title();
            draft.notes.push(format!("the token would be refused all the same: {title}{claim}"));
            return;
        }
    }
}

/// One change, if there is one that may help.
fn change(
    draft: &mut Draft,
    claims: &mut Vec<(&'static str, String)>,
    rejected: &Rejected,
    issuer: &Issuer,
    says: &UnverifiedToken,
) -> bool {
    match (rejected.reason, &rejected.claim) {
        (Reason::TokenType, None) if !draft.has("types") => {
            let typ = says.typ.as_deref().unwrap_or("absent");
            draft.set("types", list(&[typ]), Some("as the token has it; other JWTs of this issuer may have it too"));
            true
        }
        (Reason::AlgorithmRefused, _) if !draft.has("algorithms") => {
            let algorithm = says.algorithm;
            if let Some(algorithm) = algorithm {
                draft.set("algorithms", list(&[algorithm]), Some("as the token is signed"));
            }
            algorithm.is_some()
        }
        (Reason::LifetimeExceeded, _) if !draft.has("max_lifetime") => {
            let (Some(issued), Some(expires)) = (says.time("iat"), says.time("exp")) else { return false };
            let lifetime = expires.since(issued).to_string();
            draft.set("max_lifetime", scalar(&lifetime), Some("as long as the token lives; shorter is safer"));
            true
        }
        (Reason::ClaimInvalid, Some(refused)) => {
            let Some((key, value)) = other_claim(&refused.name, claims, issuer, says) else { return false };
            claims.push((key, value));
            let members: Vec<String> = claims.iter().map(|(key, value)| format!("{key}: {}", scalar(value))).collect();
            draft.set("claims", format!("{{{}}}", members.join(", ")), Some("as the token has them"));
            true
        }
        _ => false,
    }
}

/// Where else the token may say what the claim `missing` does not: the key in `claims`, and the name. `none` where tokens
/// need not say it.
fn other_claim(
    missing: &str,
    changed: &[(&'static str, String)],
    issuer: &Issuer,
    says: &UnverifiedToken,
) -> Option<(&'static str, String)> {
    let names = &issuer.claims;
    let known: [(&'static str, &Names, &[&str], bool); 4] = [
        ("client", &names.client, &["azp", "appid", "cid", "client_id"], true),
        ("token", &names.token, &["uti", "jti"], true),
        ("task", &names.task, &[], true),
        ("subject", &names.subject, &["oid", "email"], false),
    ];
    let is_new = |key: &str| !changed.iter().any(|(done, _)| *done == key);
    let (key, _, others, may_lack) =
        known.into_iter().find(|(key, names, ..)| names.to_string() == missing && is_new(key))?;
    let is_there = |name: &&&str| says.claims.get(**name).is_some_and(Value::is_string);
    let other = others.iter().find(is_there).map(|name| (*name).to_owned());
    Some((key, other.or_else(|| may_lack.then(|| "none".to_owned()))?))
}

//! Tokens and signals that a file of cases makes up: claims with what is missing filled in, under a header that names a
//! real key. They are not signed: only the run that made them accepts them.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value, json};
use taskfence_core::config::problem::Problem;
use taskfence_core::encoding::nearest::nearest;
use taskfence_core::jose::algorithm::Algorithm;
use taskfence_core::keys::keyring::Keyring;
use taskfence_core::policy::policy::Policy;
use taskfence_core::signal::transmitter::Transmitter;
use taskfence_core::time::{Span, Timestamp, numeric_date};

use crate::signing::set;
use crate::terminal::time::Moment;

/// How long a made-up token lives, where its issuer takes tokens that live so long.
const LIFETIME: Span = Span::minutes(5);

/// The claims that are times.
const TIMES: [&str; 5] = ["iat", "exp", "nbf", "auth_time", "toe"];

/// The access token called `name`. What `claims` leave out is filled in; null leaves a claim out.
pub fn token(name: &str, claims: &Map<String, Value>, policy: &Policy, now: Timestamp) -> Result<String, Problem> {
    let issuers = policy.issuers();
    let issuer = pick(claims, issuers, |issuer| &issuer.name, "issuers")?;
    let life = if issuer.max_lifetime < LIFETIME { issuer.max_lifetime } else { LIFETIME };
    let mut all = Map::new();
    if !issuer.is_in_subject {
        all.insert("iss".to_owned(), json!(issuer.name));
    }
    all.insert("iat".to_owned(), json!(now.0));
    let subject = match issuer.is_in_subject {
        true => format!("{}/{name}", issuer.name),
        false => name.to_owned(),
    };
    let names = &issuer.claims;
    for (names, value) in [
        (&names.audience, json!(issuer.audiences.first())),
        (&names.subject, json!(subject)),
        (&names.client, json!("test-client")),
        (&names.token, json!(name)),
        (&names.task, json!("test-task")),
    ] {
        // A claim that the case gives under another of its names is not made up.
        let is_given = names.paths().iter().any(|path| claims.contains_key(path.root()) || path.is_in(&all));
        if let Some(path) = names.paths().first().filter(|_| !is_given) {
            path.insert(&mut all, value);
        }
    }
    for (path, values) in &issuer.required {
        if let Some(value) = values.first().filter(|_| !path.is_in(&all)) {
            path.insert(&mut all, value.clone());
        }
    }
    merge(&mut all, claims, now)?;
    if !claims.contains_key("exp") {
        let issued = all.get("iat").and_then(numeric_date).unwrap_or(now);
        all.insert("exp".to_owned(), issued.plus(life).0.into());
    }
    compact(issuer.types.first().map(String::as_str), &all, &issuer.name, &issuer.keys, &issuer.algorithms)
}

/// The SET called `name`.
pub fn signal(name: &str, claims: &Map<String, Value>, policy: &Policy, now: Timestamp) -> Result<String, Problem> {
    let transmitters = policy.signals().transmitters();
    let transmitter = pick(claims, transmitters, |transmitter| &transmitter.name, "signals.transmitters")?;
    let mut all = Map::new();
    for (claim, value) in [
        ("iss", json!(transmitter.name)),
        ("aud", json!(transmitter.audiences.first())),
        ("iat", json!(now.0)),
        ("jti", json!(name)),
    ] {
        all.insert(claim.to_owned(), value);
    }
    merge(&mut all, claims, now)?;
    let Transmitter { name, keys, algorithms, .. } = transmitter;
    compact(Some(set::TYP), &all, name, keys, algorithms)
}

/// The issuer or transmitter that `claims` name, else the first there is.
fn pick<'t, T>(
    claims: &Map<String, Value>,
    all: &'t [T],
    name: impl Fn(&T) -> &String,
    what: &str,
) -> Result<&'t T, Problem> {
    let wanted = claims.get("iss").and_then(Value::as_str);
    let found = all.iter().find(|one| wanted.is_none_or(|wanted| name(one) == wanted));
    found.ok_or_else(|| match wanted {
        None => Problem::at("", format!("the configuration has no `{what}`")),
        Some(wanted) => {
            let known: Vec<&str> = all.iter().map(|one| name(one).as_str()).collect();
            let problem = Problem::at("claims.iss", format!("`{wanted}` is not one of `{what}` of the configuration"));
            match nearest(wanted, known.iter().copied()) {
                Some(near) => problem.help(format!("did you mean `{near}`?")),
                None => problem.help(format!("known: `{}`", known.join("`, `"))),
            }
        }
    })
}

fn merge(all: &mut Map<String, Value>, claims: &Map<String, Value>, now: Timestamp) -> Result<(), Problem> {
    for (claim, value) in claims {
        match value {
            Value::Null => {
                all.remove(claim);
            }
            Value::String(text) if TIMES.contains(&claim.as_str()) => {
                let time = text.parse::<Moment>().and_then(|moment| moment.resolve(now.0));
                let time = time
                    .map_err(|error| Problem::at(format!("claims.{claim}"), format!("`{text}` is no time: {error}")))?;
                all.insert(claim.clone(), time.into());
            }
            value => {
                all.insert(claim.clone(), value.clone());
            }
        }
    }
    Ok(())
}

/// A JWS in compact serialization whose signature is all zeros.
fn compact(
    typ: Option<&str>,
    claims: &Map<String, Value>,
    issuer: &str,
    keys: &Keyring,
    allowed: &[Algorithm],
) -> Result<String, Problem> {
    let usable = keys.last().iter().find_map(|key| {
        let algorithm = allowed.iter().find(|algorithm| key.verifier(**algorithm).is_some())?;
        Some((key.kid(), algorithm.name()))
    });
    let (kid, alg) = usable.ok_or_else(|| match keys.source() {
        None => Problem::at("", "its issuer has no key in the configuration"),
        Some(_) => Problem::at("", format!("the keys of `{issuer}` are fetched by the proxy, and are not known here"))
            .help(format!("give them with --jwks {issuer}=FILE, or with `jwks` in this file")),
    })?;
    let encode = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let named = [("typ", typ), ("alg", Some(alg)), ("kid", kid)];
    let named = named.into_iter().filter_map(|(name, value)| Some((name.to_owned(), Value::from(value?))));
    let header = encode(Value::Object(named.collect()));
    Ok(format!("{header}.{}.{}", encode(Value::Object(claims.clone())), URL_SAFE_NO_PAD.encode([0; 64])))
}

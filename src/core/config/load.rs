//! Reads the bytes of a configuration into a policy, or into a list of errors.

use crate::config::compile::Loaded;
use crate::config::compile::compile;
use crate::config::compile_hub;
use crate::config::issuers::profile;
use crate::config::model::Config;
use crate::config::problem::{Errors, Problem};
use crate::encoding::json::{self, JsonError};
use crate::encoding::nearest::nearest;
use crate::encoding::typed::{self, ReadError};
use crate::keys::keyring::{Authorization, Keyring};
use serde::de::{self};
use serde_json::Value;

mod json_path;

/// Reads a configuration from JSON.
///
/// An unknown key, a wrong type or a wrong value is an error with the path of the key.
pub fn load(json: &[u8]) -> Result<Loaded, Errors> {
    let loaded = load_with(json, false)?;
    let reads_file = |keys: &Keyring| {
        let authorization = keys.source().and_then(|source| source.authorization.as_ref());
        matches!(authorization, Some(Authorization::File(_)))
    };
    let with_files = loaded.policy.fetched_keys().filter(|(_, _, keys)| reads_file(keys));
    let errors: Vec<Problem> = with_files
        .map(|(owner, ..)| {
            let problem = Problem::at(
                format!("{owner}.keys.authorization_file"),
                "a filter runs in a machine that can read no files",
            );
            problem.help("let Envoy inject the credential into the requests of the cluster: see the operations guide")
        })
        .collect();
    if errors.is_empty() { Ok(loaded) } else { Err(Errors(errors)) }
}

/// Reads the feed of a hub, written as the configuration of a receiver. It needs no transmitters, since its signals may come
/// from operators alone, and may name files, since a hub can read them.
pub fn load_feed(json: &[u8]) -> Result<Loaded, Errors> {
    load_with(json, true)
}

fn load_with(json: &[u8], operators_alone: bool) -> Result<Loaded, Errors> {
    let refused = |problem| Errors(vec![problem]);
    let value = object(json, "the configuration").map_err(refused)?;
    let with_defaults = profile::with_defaults(&value);
    let whole = with_defaults.as_ref().unwrap_or(&value);
    let mut raw: Config = typed::read(whole).map_err(|misfit| refused(describe(&misfit)))?;
    if let Some(signals) = &mut raw.signals {
        signals.operators_alone = operators_alone;
    }
    let mut loaded = compile(&raw)?;
    loaded.config_hash = u64::from_be_bytes(compile_hub::short_hash(&value.to_string()));
    loaded.policy.config_hash = loaded.config_hash;
    if let Some(hub) = &mut loaded.policy.signals.hub {
        hub.config_hash = format!("{:016x}", loaded.config_hash);
    }
    loaded.with_defaults = with_defaults;
    Ok(loaded)
}

/// Reads one JSON object, with nothing after it, into a `T`. `what` is the name of the document in error messages.
///
/// A duplicate name in an object is an error, also in objects whose names are not known here.
pub fn parse<T: de::DeserializeOwned>(json: &[u8], what: &str) -> Result<T, Problem> {
    typed::read(&object(json, what)?).map_err(|misfit| describe(&misfit))
}

fn object(json: &[u8], what: &str) -> Result<Value, Problem> {
    if json.trim_ascii_start().first().is_some_and(|byte| *byte != b'{') {
        return Err(Problem::at("", format!("{what} is not a JSON object")));
    }
    json::value(json).map_err(|error| unreadable(json, &error))
}

pub(crate) fn unreadable(json: &[u8], error: &JsonError) -> Problem {
    let text = error.to_string();
    if text.starts_with("trailing characters") {
        return Problem::at("", format!("not one JSON document: {text}"));
    }
    match error.is_no_json() {
        true => Problem::at("", format!("not JSON: {text}")),
        false => Problem::at(json_path::of_repeated(json).unwrap_or_default(), format!("not usable as JSON: {text}")),
    }
}

/// Rewrites an error message of serde. The list in its `expected one of ...` gives the nearest known key.
pub(crate) fn describe(error: &ReadError) -> Problem {
    let (path, text) = (error.path(), error.message());
    for (lead, what) in [("unknown field `", "key"), ("unknown variant `", "value")] {
        if let Some((word, rest)) = text.strip_prefix(lead).and_then(|rest| rest.split_once('`')) {
            let known: Vec<&str> = rest.split('`').skip(1).step_by(2).collect();
            let help = match nearest(word, known.iter().copied()) {
                Some(near) => format!("did you mean `{near}`?"),
                None if known.is_empty() => "this object has no keys".to_owned(),
                None => format!("known: `{}`", known.join("`, `")),
            };
            return Problem::at(path, format!("unknown {what} `{word}`")).help(help);
        }
    }
    Problem::at(path, text.replacen("missing field", "missing key", 1))
}

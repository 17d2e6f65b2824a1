//! Keys that the proxy would fetch, from files: nothing is fetched here.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use taskfence_core::decision::verdict::Verdict;

use clap::Args;
use clap::builder::{OsStringValueParser, TypedValueParser};
use taskfence_core::config::problem::Problem;
use taskfence_core::encoding::nearest::nearest;
use taskfence_core::keys::keyring::{Keyring, Owner, read_jwks};
use taskfence_core::policy::policy::Policy;

use crate::failure::Failure;
use crate::input::file;
use crate::input::problem::{self, BadFile};
use crate::terminal::console::Console;

/// The option that gives keys.
#[derive(Debug, Args)]
pub struct Jwks {
    /// The JWK Set of an issuer or a transmitter whose keys the proxy fetches; may be given more than once
    #[arg(long, value_name = "ISSUER=FILE", value_parser = OsStringValueParser::new().try_map(Given::parse))]
    jwks: Vec<Given>,
}

/// A name, and the file with its keys.
#[derive(Debug, Clone)]
struct Given {
    issuer: String,
    file: PathBuf,
}

impl Given {
    fn parse(text: OsString) -> Result<Self, &'static str> {
        const WANTED: &str = "write ISSUER=FILE, like https://jit.example=jwks.json";
        let bytes = text.as_bytes();
        let at = bytes.iter().position(|byte| *byte == b'=').ok_or(WANTED)?;
        let (issuer, file) = bytes.split_at(at);
        let issuer = std::str::from_utf8(issuer).map_err(|_| WANTED)?.to_owned();
        let file = PathBuf::from(OsStr::from_bytes(file.strip_prefix(b"=").unwrap_or(file)));
        Ok(Self { issuer, file })
    }
}

impl Jwks {
    /// Gives the keys to `policy`, those of `more` (files in `folder`) first. Keys that cannot be used are named on
    /// standard error.
    pub fn supply(
        &self,
        policy: &mut Policy,
        folder: &Path,
        more: &BTreeMap<String, PathBuf>,
        console: &mut Console<'_>,
    ) -> Result<(), Failure> {
        for (issuer, file) in more {
            supply(policy, issuer, &folder.join(file), console)?;
        }
        for Given { issuer, file } in &self.jwks {
            supply(policy, issuer, file, console)?;
        }
        Ok(())
    }
}

fn supply(policy: &mut Policy, issuer: &str, file: &Path, console: &mut Console<'_>) -> Result<(), Failure> {
    let owners: Vec<Owner> =
        policy.fetched_keys().filter(|(_, name, _)| *name == issuer).map(|(owner, ..)| owner).collect();
    if owners.is_empty() {
        return Err(Failure::Usage(nobody(policy, issuer)));
    }
    let text = file::read(file)?;
    let jwks = read_jwks(&text).map_err(|error| BadFile::new(file, vec![Problem::at("", error.to_string())]))?;
    for owner in owners {
        let Some(keys) = policy.keyring_mut(owner) else { continue };
        let bad = keys.supply(&jwks).map_err(|error| BadFile::new(file, vec![Problem::at("", error.to_string())]))?;
        let name = file.display();
        let bad = bad.into_iter().map(|(at, error)| Problem::at(format!("{name}: keys[{at}]"), error.to_string()));
        problem::print("warning", &bad.collect::<Vec<_>>(), console.err)?;
    }
    Ok(())
}

/// The error for a name of which no issuer or transmitter has fetched keys.
fn nobody(policy: &Policy, issuer: &str) -> String {
    let known: Vec<&str> = policy.fetched_keys().map(|(_, name, _)| name).collect();
    let message = format!("--jwks {issuer}=...: no issuer or transmitter of this name has keys that are fetched");
    match nearest(issuer, known.iter().copied()) {
        Some(near) => format!("{message}; did you mean `{near}`?"),
        None if known.is_empty() => format!("{message}; all keys are inline in the configuration"),
        None => format!("{message}; the ones that have are `{}`", known.join("`, `")),
    }
}

/// The keys without which a request could not be judged under `policy`.
pub fn missing(policy: &Policy, verdict: &Verdict) -> Option<Failure> {
    let lacking = match verdict {
        Ok(permit) => permit.lacks_keys_of(),
        Err(refusal) => refusal.lacks_keys_of,
    };
    let owner = Owner::Issuer(lacking?);
    let (_, name, keys) = policy.fetched_keys().find(|(known, ..)| *known == owner)?;
    (keys.generation() == 0).then(|| needed(name, keys))
}

/// The keys of `name` are not known here.
pub fn needed(name: &str, keys: &Keyring) -> Failure {
    let cluster = keys.source().map_or("", |source| source.cluster.as_str());
    Failure::Usage(format!(
        "the keys of `{name}` are fetched by the proxy, from the cluster `{cluster}`, and are not known here: give them \
         with --jwks {name}=FILE"
    ))
}

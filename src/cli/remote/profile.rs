//! Profiles: which hubs there are and how to authenticate there, in `~/.config/taskfence/hub.yaml`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use taskfence_core::config::load;
use taskfence_core::encoding::secret::Secret;

use crate::input::document;
use crate::input::file;
use crate::input::problem::BadFile;

/// The file of profiles.
#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Profiles {
    /// The profile that is used when none is named.
    pub default: Option<String>,
    /// The profiles by name.
    pub profiles: BTreeMap<String, Profile>,
}

/// One hub.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Profile {
    /// Its address, such as `https://hub.example:8500`.
    pub url: String,
    /// The bearer token.
    pub token: Option<Secret>,
    /// A file that holds the bearer token.
    pub token_file: Option<PathBuf>,
    /// The authorities that its certificate may come from, in PEM; default: those of the system.
    pub ca: Option<PathBuf>,
    /// A client certificate with its chain, in PEM.
    pub certificate: Option<PathBuf>,
    /// The key of the client certificate, in PEM.
    pub key: Option<PathBuf>,
    /// The feed that commands are about; default: the only one.
    pub feed: Option<String>,
}

/// What was said about the hub on the command line and in the environment.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    /// `--hub` or `TASKFENCE_HUB`.
    pub url: Option<String>,
    /// `--profile`.
    pub profile: Option<String>,
    /// `TASKFENCE_HUB_TOKEN`.
    pub token: Option<Secret>,
}

/// Why there is no profile.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    File(#[from] file::Error),
    #[error(transparent)]
    Bad(#[from] BadFile),
    #[error("{0}")]
    Usage(String),
}

impl Profiles {
    /// Reads the file at `path`. No file is no profiles.
    pub fn read(path: &Path) -> Result<Profiles, Error> {
        if !path.exists() {
            return Ok(Profiles::default());
        }
        let text = file::read(path)?;
        let json =
            document::to_json(&text, "the file of profiles").map_err(|problem| BadFile::new(path, vec![problem]))?;
        let profiles = load::parse(&json, "the file of profiles");
        Ok(profiles.map_err(|problem| BadFile::new(path, vec![problem]))?)
    }

    /// The profile that `wanted` means. The token of a profile goes to the address of that profile only.
    pub fn choose(&self, wanted: &Wanted) -> Result<Profile, Error> {
        let named = match (&wanted.profile, &wanted.url) {
            (Some(name), _) => Some(self.profiles.get(name).ok_or_else(|| self.unknown(name))?),
            (None, Some(url)) => self.profiles.values().find(|profile| same_url(&profile.url, url)),
            (None, None) => match &self.default {
                Some(name) => Some(self.profiles.get(name).ok_or_else(|| self.unknown(name))?),
                None => self.only(),
            },
        };
        let mut profile = match (named, &wanted.url) {
            (Some(profile), Some(url)) if !same_url(&profile.url, url) => {
                let (other, name) = (&profile.url, wanted.profile.as_deref().unwrap_or_default());
                let message =
                    format!("--hub says `{url}`, and the profile `{name}` is about `{other}`; use one of them");
                return Err(Error::Usage(message));
            }
            (Some(profile), _) => profile.clone(),
            (None, Some(url)) => Profile { url: url.clone(), ..Profile::default() },
            (None, None) => return Err(no_hub()),
        };
        if wanted.token.is_some() {
            profile.token_file = None;
            profile.token.clone_from(&wanted.token);
        }
        Ok(profile)
    }

    fn only(&self) -> Option<&Profile> {
        let mut all = self.profiles.values();
        let only = all.next()?;
        all.next().is_none().then_some(only)
    }

    fn unknown(&self, name: &str) -> Error {
        let known: Vec<_> = self.profiles.keys().map(|name| format!("`{name}`")).collect();
        let known = if known.is_empty() { "there are none".to_owned() } else { format!("known: {}", known.join(", ")) };
        Error::Usage(format!("there is no profile `{name}` in {}; {known}", shown(&default_path())))
    }
}

impl Profile {
    /// The bearer token, from the profile or from its file.
    pub fn token(&self) -> Result<Option<String>, file::Error> {
        match (&self.token, &self.token_file) {
            (Some(token), _) => Ok(Some(token.reveal().to_owned())),
            (None, Some(path)) => {
                let bytes = file::read(path)?;
                Ok(Some(String::from_utf8_lossy(bytes.trim_ascii()).into_owned()))
            }
            (None, None) => Ok(None),
        }
    }
}

/// `~/.config/taskfence/hub.yaml`, or below `XDG_CONFIG_HOME`. `None` without a home.
pub fn default_path() -> Option<PathBuf> {
    let folder = match std::env::var_os("XDG_CONFIG_HOME").filter(|folder| !folder.is_empty()) {
        Some(folder) => PathBuf::from(folder),
        None => PathBuf::from(std::env::var_os("HOME")?).join(".config"),
    };
    Some(folder.join("taskfence/hub.yaml"))
}

fn shown(path: &Option<PathBuf>) -> String {
    path.as_ref().map_or_else(|| "`~/.config/taskfence/hub.yaml`".to_owned(), |path| format!("`{}`", path.display()))
}

fn no_hub() -> Error {
    let message = "which hub? use `--hub URL`, set TASKFENCE_HUB, or write a profile into";
    Error::Usage(format!("{message} {}", shown(&default_path())))
}

fn same_url(one: &str, other: &str) -> bool {
    one.trim_end_matches('/') == other.trim_end_matches('/')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn profiles() -> Profiles {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("hub.yaml");
        let text = "default: prod\nprofiles:\n  prod: {url: https://hub.example/, token: p}\n  test: {url: http://127.0.0.1:8500, token: t, feed: main}\n";
        std::fs::write(&path, text).unwrap();
        Profiles::read(&path).unwrap()
    }

    fn choose(
        url: Option<&str>,
        profile: Option<&str>,
        token: Option<&str>,
    ) -> Result<(String, Option<String>), String> {
        let own = |text: Option<&str>| text.map(str::to_owned);
        let wanted = Wanted { url: own(url), profile: own(profile), token: own(token).map(Secret::from) };
        let chosen = profiles().choose(&wanted).map_err(|failure| failure.to_string())?;
        Ok((chosen.url.clone(), chosen.token().unwrap()))
    }

    #[test]
    fn what_is_said_counts_before_what_is_written() {
        let good = |url: &str, token: Option<&str>| Ok((url.to_owned(), token.map(str::to_owned)));
        assert_eq!(choose(None, None, None), good("https://hub.example/", Some("p")));
        assert_eq!(choose(None, Some("test"), None), good("http://127.0.0.1:8500", Some("t")));
        assert_eq!(choose(Some("https://hub.example"), None, None), good("https://hub.example/", Some("p")));
        assert_eq!(choose(None, None, Some("e")), good("https://hub.example/", Some("e")));
    }

    #[test]
    fn a_token_goes_to_its_own_hub_only() {
        assert_eq!(choose(Some("https://other.example"), None, None), Ok(("https://other.example".to_owned(), None)));
        let error = choose(Some("https://other.example"), Some("prod"), None).unwrap_err();
        assert!(error.starts_with("--hub says `https://other.example`, and the profile `prod` is about"), "{error}");
        let error = choose(None, Some("prd"), None).unwrap_err();
        assert!(error.ends_with("known: `prod`, `test`"), "{error}");
    }

    #[test]
    fn a_wrong_file_names_the_place() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("hub.yaml");
        std::fs::write(&path, "profiles: {prod: {ulr: x}}\n").unwrap();
        let Error::Bad(bad) = Profiles::read(&path).unwrap_err() else { panic!("a bad file") };
        let mut shown = Vec::new();
        bad.print(&mut shown).unwrap();
        let shown = String::from_utf8(shown).unwrap();
        assert!(shown.starts_with("error: profiles.prod"), "{shown}");
        assert_eq!(Profiles::read(&folder.path().join("none.yaml")).unwrap(), Profiles::default());
    }
}

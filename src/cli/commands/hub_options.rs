//! The options of every command that calls a hub.

use std::time::Duration;
use taskfence_core::encoding::secret::Secret;

use clap::{Args, ValueEnum};
use serde_json::Value;

use crate::failure::Failure;
use crate::remote::client::Client;
use crate::remote::profile::{self, Profiles, Wanted};
use crate::terminal::time;

/// Which hub, and how to print what it answers.
#[derive(Debug, Args)]
pub struct HubOptions {
    #[command(flatten)]
    choice: HubChoice,

    /// How to print the answer
    #[arg(long, value_enum, default_value_t = Output::Human, help_heading = "Hub")]
    pub output: Output,
}

/// Which hub.
#[derive(Debug, Args)]
pub struct HubChoice {
    /// The address of the hub, such as https://hub.example:8500 [default: that of the profile]
    #[arg(long, value_name = "URL", env = "TASKFENCE_HUB", help_heading = "Hub")]
    hub: Option<String>,

    /// The profile in ~/.config/taskfence/hub.yaml [default: the one that the file names, or the only one]
    #[arg(long, value_name = "NAME", help_heading = "Hub")]
    profile: Option<String>,

    /// The bearer token; better in the environment or a profile than on the command line
    #[arg(long, value_name = "TOKEN", env = "TASKFENCE_HUB_TOKEN", hide_env_values = true, help_heading = "Hub")]
    hub_token: Option<Secret>,

    /// The feed [default: that of the profile, or the only one of the hub]
    #[arg(long, value_name = "NAME", help_heading = "Hub")]
    feed: Option<String>,
}

/// How to print an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// Lines to read
    #[value(alias = "text")]
    Human,
    /// JSON
    Json,
}

impl HubOptions {
    /// Whether the options or the environment name a hub.
    pub fn names_hub(&self) -> bool {
        self.choice.hub.is_some() || self.choice.profile.is_some()
    }

    /// The hub that the options, the environment and the profiles name.
    pub fn connect(&self) -> Result<Client, Failure> {
        self.choice.connect()
    }

    /// The feed that is meant.
    pub fn feed(&self, client: &Client) -> Result<String, Failure> {
        self.choice.feed(client)
    }
}

impl HubChoice {
    /// The hub that the options, the environment and the profiles name.
    pub fn connect(&self) -> Result<Client, Failure> {
        let wanted = Wanted { url: self.hub.clone(), profile: self.profile.clone(), token: self.hub_token.clone() };
        connect(&wanted)
    }

    /// The feed that is meant.
    pub fn feed(&self, client: &Client) -> Result<String, Failure> {
        feed(self.feed.as_deref(), client)
    }
}

/// The hub that `wanted` and the profiles name.
pub fn connect(wanted: &Wanted) -> Result<Client, Failure> {
    let profiles = profile::default_path().map_or_else(|| Ok(Profiles::default()), |path| Profiles::read(&path))?;
    Ok(Client::new(&profiles.choose(wanted)?)?)
}

/// The feed that is meant: the one that was named, that of the profile, or the only one of the hub.
pub fn feed(named: Option<&str>, client: &Client) -> Result<String, Failure> {
    if let Some(feed) = named.or(client.feed()) {
        return Ok(feed.to_owned());
    }
    let feeds = client.get("/v1/feeds", &[])?;
    let names = feeds.as_array().into_iter().flatten().filter_map(|feed| feed.get("name").and_then(Value::as_str));
    match names.collect::<Vec<_>>().as_slice() {
        [only] => Ok((*only).to_owned()),
        [] => Err(Failure::Usage("your token may use no feed of this hub; use `--feed NAME`".to_owned())),
        several => Err(Failure::Usage(format!("which feed? use `--feed NAME` with one of {}", several.join(", ")))),
    }
}

/// A value of `--wait`.
pub fn wait(text: &str) -> Result<Duration, time::Error> {
    time::duration(text)
}

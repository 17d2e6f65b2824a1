//! `taskfence explain`: one request before the judge of the data plane, and what led to the verdict.

mod alone;
mod human;
mod json;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::net::IpAddr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::builder::{NonEmptyStringValueParser as NonEmpty, OsStringValueParser, TypedValueParser};
use clap::{Args, ValueEnum};
use serde_json::json;
use taskfence_core::decision::answer::Answer;
use taskfence_core::decision::judge::Judge;
use taskfence_core::decision::metadata;
use taskfence_core::http::connection::parse_address;
use taskfence_core::policy::policy::Policy;
use taskfence_core::signal::accepted::Signal;
use taskfence_core::time::Timestamp;

use crate::failure::Failure;
use crate::input::configuration;
use crate::input::file;
use crate::input::secret::Secret;
use crate::offline::client_answer::ClientAnswer;
use crate::offline::evaluation::Evaluation;
use crate::offline::host::{OfflineConnection, OfflineHost};
use crate::offline::jwks_files::{self, Jwks};
use crate::offline::request_input::{self, Header, TypedRequest, Url};
use crate::signing::certificate;
use crate::terminal::console::Console;
use crate::terminal::exit::Exit;
use crate::terminal::time::{self, Moment};

macro_rules! examples {
    () => {
        "\
Examples:
  taskfence explain --config taskfence.yaml --token @token.jwt \\
      --method GET --url https://orders.mesh/v1/orders/1881
  taskfence explain --config taskfence.yaml --token @token.jwt \\
      --url /v1/orders/1881 --header host:orders.mesh --source 10.1.2.3 \\
      --signal revoked.jwt --at 2026-09-21T14:15:00Z
  taskfence explain --config taskfence.yaml --token @token.jwt --grpc \\
      --url https://orders.mesh/orders.v1.Orders/Get --output json
  taskfence explain --token @token.jwt

Exits with 0 when the request is allowed, with 2 when it is denied, with 3 when the configuration is bad."
    };
}

/// Say whether a request would pass, and why
///
/// Judges the request with the code that the filter runs. Prints each rule that was tried, each requirement with what it
/// asked and what was found, the verdict, and the answer that the client would get. The pushed state is empty at first:
/// give the signals that matter with --signal.
///
/// Without --config it says what a token is: what it says of itself, which profile fits its issuer, and what a
/// configuration must say so that the filter accepts it.
#[derive(Debug, Args)]
#[command(after_help = examples!(), after_long_help = LONG)]
pub struct Explain {
    /// The configuration: JSON when it begins with `{`, else YAML; `-` reads standard input
    #[arg(long, value_name = "CONFIG")]
    config: Option<PathBuf>,

    #[command(flatten)]
    jwks: Jwks,

    /// The access token, or `@FILE` to read it from a file; it is put into the header or cookie that its issuer's `token` key names
    #[arg(long, value_parser = OsStringValueParser::new().map(Secret::from), help_heading = "The request")]
    token: Option<Secret>,

    /// The DPoP proof that comes with it, or `@FILE`; the token then comes under the scheme DPoP
    #[arg(long, value_name = "PROOF", value_parser = OsStringValueParser::new().map(Secret::from),
        help_heading = "The request")]
    dpop: Option<Secret>,

    /// The method [default: GET, or POST with --grpc]
    #[arg(long, value_parser = NonEmpty::new(), help_heading = "The request")]
    method: Option<String>,

    /// Where it goes: scheme, host and path are taken exactly as typed; a path alone needs --header host:NAME
    #[arg(long, value_parser = OsStringValueParser::new().try_map(url), requires = "config", help_heading = "The request")]
    url: Option<Url>,

    /// A header; may be given more than once
    #[arg(long, value_name = "NAME:VALUE", value_parser = OsStringValueParser::new().try_map(header),
        help_heading = "The request")]
    header: Vec<Header>,

    /// It is a gRPC request
    #[arg(long, help_heading = "The request")]
    grpc: bool,

    /// The address that it comes from [default: not known]
    #[arg(long, value_name = "IP", value_parser = address, help_heading = "Context")]
    source: Option<IpAddr>,

    /// The certificate that the client showed in the TLS handshake, in PEM or DER [default: none]
    #[arg(long, value_name = "FILE", help_heading = "Context")]
    peer_certificate: Option<PathBuf>,

    /// The first URI in that certificate, the SPIFFE ID of the workload [default: none]
    #[arg(long, value_name = "ID", value_parser = NonEmpty::new(), help_heading = "Context")]
    peer_spiffe: Option<String>,

    /// Metadata of its route in Envoy, namespace `taskfence`; may be given more than once
    #[arg(long, value_name = "NAME=VALUE", value_parser = pair, help_heading = "Context")]
    metadata: Vec<(String, String)>,

    /// A signed signal that was received before, as `taskfence signal --print` prints it; may be given more than once
    #[arg(long, value_name = "FILE", help_heading = "Context")]
    signal: Vec<PathBuf>,

    /// How long ago a transmitter was last heard of [default: never; just now with --signal, or if a hub is followed]
    #[arg(long, value_name = "DURATION", value_parser = time::duration, help_heading = "Context")]
    state_age: Option<Duration>,

    /// When it comes: RFC 3339, unix seconds, or an offset from now like -10m
    #[arg(long, value_name = "TIME", default_value = "now", allow_hyphen_values = true, help_heading = "Context")]
    at: Moment,

    /// How to print the explanation
    #[arg(long, value_enum, default_value_t = Output::Human)]
    output: Output,
}

const LONG: &str = concat!(
    examples!(),
    "

The request is judged as the filter gets to see it: what Envoy normalises before (`normalize_path`, `merge_slashes`) \
is not normalised here. The role of the configuration does not matter. A filter that follows a hub is taken to have caught \
up with its feed, which covers every issuer and holds no signal.

The object that --output json prints has these members:
  verdict       `allowed`, `denied`, or `answered`: the request is for the metadata
                of a protected resource; then there are only `verdict` and `answer`
  reason        why it was refused, or under shadow would have been; or null
  title         the reason in a phrase
  why           the values behind the reason, where there is more to say
  shadow        whether it passes only because refusals are not enforced
  break_glass   whether it passes only because a scope lifted something
  at            the time of the request, in unix seconds
  request       method, authority, path, canonical_path (null: refused), grpc
  rule          index and name of the rule that matched, or null
  rules         the rules tried: index, name, and mismatch (path, method,
                host, grpc, metadata; null: it matched)
  captures      what the path of the rule captured
  token         status (not_looked_at, absent, ambiguous, unreadable, refused,
                verified) and what the token says; times in unix seconds
  requirements  name, outcome (met, unmet, lifted), reason, asked, found
  hub           the feed that the filter is taken to have caught up with: name and
                feed; or null
  signals       file, transmitter, id, event, entries left in the state, and what is odd
  answer        status, grpc_status, headers and body for the client, or null
  upstream      headers that are set and removed when it passes, or null"
);

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    /// Lines to read
    Human,
    /// One JSON object
    Json,
}

/// A signal that was received before the request.
struct ReceivedSignal<'a> {
    file: &'a Path,
    signal: Signal,
}

impl Explain {
    /// Shows the metadata of a protected resource, which the filter sends without a decision.
    fn show_metadata(&self, answer: &Answer, grpc: bool, console: &mut Console<'_>) -> Result<Exit, Failure> {
        match self.output {
            Output::Human => {
                let lines = ClientAnswer::new(answer, grpc).lines().join("\n");
                writeln!(
                    console.out,
                    "ANSWERED by the filter, before any rule: the metadata of a protected resource\n\n{lines}"
                )?;
            }
            Output::Json => {
                let object = json!({"verdict": "answered", "answer": json::answer(answer, grpc)});
                writeln!(console.out, "{}", serde_json::to_string_pretty(&object)?)?;
            }
        }
        Ok(Exit::Done)
    }

    /// Runs the command.
    pub fn run(&self, console: &mut Console<'_>) -> Result<Exit, Failure> {
        let now = Timestamp(self.at.resolve(console.now)?);
        let (config, url) = match (&self.config, &self.url, &self.token) {
            (Some(config), Some(url), _) => (config, url),
            (None, _, Some(token)) => return alone::explain(token.read()?, now, self.output, console),
            (Some(_), None, _) => return Err(Failure::Usage("say which request is meant with --url".to_owned())),
            (None, _, None) => {
                return Err(Failure::Usage("give a configuration with --config, or a token with --token".to_owned()));
            }
        };
        let typed = self.typed(url).map_err(|error| Failure::Usage(error.to_string()))?;
        let token = self.token.as_ref().map(Secret::read).transpose()?;
        let proof = self.dpop.as_ref().map(Secret::read).transpose()?;
        let mut policy = configuration::read(config, console.input)?.loaded.policy;
        self.jwks.supply(&mut policy, Path::new(""), &BTreeMap::new(), console)?;
        let mut judge = Judge::new(policy);
        let typed = proof.iter().fold(typed, |typed, proof| typed.proof(proof));
        let typed = token.iter().fold(typed, |typed, token| typed.present(token, judge.policy()));
        let request = typed.to_request(judge.policy().places());
        if let Some(answer) = metadata::answer(judge.policy(), &request) {
            return self.show_metadata(&answer, request.grpc, console);
        }
        let mut host = self.host(now, judge.policy())?;
        let mut signals = Vec::new();
        for file in &self.signal {
            let set = file::read(file)?;
            let signal = host.take_in(&file.display().to_string(), set.trim_ascii(), judge.policy(), now)?;
            signals.push(ReceivedSignal { file, signal });
        }
        let evaluation = Evaluation::new(&mut judge, &mut host, &typed, now);
        if let Some(failure) = jwks_files::missing(judge.policy(), &evaluation.verdict) {
            return Err(failure);
        }
        match self.output {
            Output::Human => human::write(&evaluation, &request, judge.policy(), &signals, console)?,
            Output::Json => {
                let object = json::object(&evaluation, &request, judge.policy(), &signals);
                writeln!(console.out, "{}", serde_json::to_string_pretty(&object)?)?;
            }
        }
        Ok(if evaluation.verdict.is_ok() { Exit::Done } else { Exit::Denied })
    }

    fn typed(&self, url: &Url) -> Result<TypedRequest, request_input::Error> {
        let method = self.method.as_deref().unwrap_or(if self.grpc { "POST" } else { "GET" });
        TypedRequest::new(method.as_bytes(), url, &self.header, self.grpc)
    }

    fn host(&self, now: Timestamp, policy: &Policy) -> Result<OfflineHost, Failure> {
        let mut host = OfflineHost::new()?;
        host.ports.connection = OfflineConnection {
            source: self.source,
            peer_certificate: self.peer_certificate.as_deref().map(certificate::digest).transpose()?,
            peer_uri: self.peer_spiffe.clone(),
            metadata: self.metadata.iter().cloned().collect(),
        };
        let heard_at = self.state_age.map(|age| Timestamp(now.0.saturating_sub(age.as_secs())));
        host.catch_up(heard_at.unwrap_or(now), policy)?;
        if let Some(at) = heard_at {
            host.heard_at(at, policy)?;
        }
        Ok(host)
    }
}

fn url(text: OsString) -> Result<Url, request_input::Error> {
    Url::parse(text.as_bytes())
}

fn header(text: OsString) -> Result<Header, request_input::Error> {
    Header::parse(text.as_bytes())
}

fn address(text: &str) -> Result<IpAddr, &'static str> {
    parse_address(text.as_bytes()).ok_or("write an address, like 10.1.2.3 or 2001:db8::1")
}

fn pair(text: &str) -> Result<(String, String), &'static str> {
    let (name, value) = text.split_once('=').ok_or("write NAME=VALUE, like tier=gold")?;
    Ok((name.to_owned(), value.to_owned()))
}

#[cfg(test)]
mod tests;

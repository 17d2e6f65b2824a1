//! `taskfence hub transmitter add`: from the URL of a transmitter to a stream that works, and its entry in hub.yaml.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::{Args, ValueEnum};
use reqwest::Url;
use serde_json::{Value, json};
use taskfence_hub::config::compile::compile;
use taskfence_hub::config::hub::{Feed, Hub};
use taskfence_hub::config::ssf::ManagedStream;
use taskfence_hub::server;
use taskfence_hub::ssf::client::session::Session;
use taskfence_hub::ssf::ensure::{Ensured, Home};
use taskfence_hub::ssf::{record, trial};
use taskfence_hub::store::Store;

use super::edit::{self, Addition};
use super::entry::{self, Entry, object};
use super::{Of, member, now_ms, run};
use crate::commands::hub::audit;
use crate::commands::hub_options::Output;
use crate::failure::Failure;
use crate::input::document;
use crate::input::file::{self, Access, Existing};
use crate::input::problem::BadFile;
use crate::terminal::console::Console;
use crate::terminal::exit::Exit;
use crate::terminal::text::printable;

/// The stream is made before its audience is known; this one stands in the configuration until then.
const PENDING: &str = "pending";

/// Make a stream at a transmitter, verify it, and write it into hub.yaml
///
/// A stream that is polled is verified at once. One that is pushed is verified by the running hub: start it again with the
/// new hub.yaml, then use `verify`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  taskfence hub transmitter add https://idp.example --config hub.yaml --feed main --token-file /etc/taskfence/idp-token
  taskfence hub transmitter add https://idp.example --config hub.yaml --feed main \\
      --push https://hub.example/v1/feeds/main/signals --client-id hub --client-secret-file /etc/taskfence/idp-secret")]
pub struct Add {
    /// The issuer URL of the transmitter
    url: String,
    #[command(flatten)]
    of: Of,
    /// The feed [default: the only one]
    #[arg(long, value_name = "NAME")]
    feed: Option<String>,
    /// Have the hub poll for signals (RFC 8936); this is the default
    #[arg(long, conflicts_with = "push")]
    poll: bool,
    /// Have the transmitter push signals (RFC 8935) to this URL of the hub
    #[arg(long, value_name = "URL")]
    push: Option<String>,
    /// A file with a bearer token for the transmitter
    #[arg(long, value_name = "FILE", conflicts_with_all = ["client_id"], required_unless_present = "client_id")]
    token_file: Option<PathBuf>,
    /// The id of the hub at the authorization server of the transmitter
    #[arg(long, value_name = "ID")]
    client_id: Option<String>,
    /// A file with the client secret
    #[arg(long, value_name = "FILE", requires = "client_id", conflicts_with = "key_file")]
    client_secret_file: Option<PathBuf>,
    /// A PEM file with the private key of the client
    #[arg(long, value_name = "FILE", requires = "client_id")]
    key_file: Option<PathBuf>,
    /// The `kid` of that key
    #[arg(long, value_name = "KID", requires = "key_file")]
    key_id: Option<String>,
    /// The token endpoint [default: that of the transmitter's metadata]
    #[arg(long, value_name = "URL", requires = "client_id")]
    token_endpoint: Option<String>,
    /// How the client authenticates [default: what the authorization server supports]
    #[arg(long, value_enum, requires = "client_id")]
    method: Option<Method>,
    /// An event to ask for, by its name or URI; may be given more than once [default: all that have an effect here]
    #[arg(long = "event", visible_alias = "events", value_name = "EVENT", value_delimiter = ',')]
    events: Vec<String>,
    /// An issuer of the feed that the signals may be about [default: the one of the same name, or all of the feed]
    #[arg(long = "subjects", value_name = "ISSUER")]
    subjects: Vec<String>,
    /// A stream that exists and that nobody else uses, to take over
    #[arg(long, value_name = "ID")]
    stream_id: Option<String>,
    /// How long to wait for the verification
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = crate::terminal::time::duration)]
    wait: Duration,
    /// Print the entry for hub.yaml, and change nothing there
    #[arg(long)]
    print: bool,
}

/// How an OAuth client authenticates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Method {
    #[value(name = "client_secret_basic")]
    Basic,
    #[value(name = "client_secret_post")]
    Post,
    #[value(name = "client_secret_jwt")]
    SecretJwt,
    #[value(name = "private_key_jwt")]
    KeyJwt,
}

impl Method {
    fn as_str(self) -> &'static str {
        match self {
            Self::Basic => "client_secret_basic",
            Self::Post => "client_secret_post",
            Self::SecretJwt => "client_secret_jwt",
            Self::KeyJwt => "private_key_jwt",
        }
    }
}

/// The stream that was made, and how it is written down.
struct Wired {
    ensured: Ensured,
    entry: Entry,
    cluster: Option<(String, String)>,
    verified: bool,
    /// Each event that is delivered: its URI, its name here, and whether it has an effect.
    events: Vec<(String, Option<(&'static str, bool)>)>,
}

impl Add {
    /// Runs the command.
    pub fn run(&self, console: &mut Console<'_>) -> Result<Exit, Failure> {
        let text = file::read(&self.of.config)?;
        let bad = |problem| Failure::from(BadFile::new(&self.of.config, vec![problem]));
        let json = document::to_json(&text, "the configuration").map_err(bad)?;
        let (hub, _) = super::super::read(&self.of.config)?;
        let config: Value = serde_json::from_slice(&json)?;
        let feed = self.feed(&hub)?;
        let store = server::open_store(&hub).map_err(super::super::failed)?;
        let wired = self.wire(&hub, &config, feed, &store)?;
        let detail = json!({"url": self.url, "stream_id": wired.ensured.record.id, "feed": self.feed_name(&hub, feed)});
        audit::note(&*store, console.now, "hub transmitter add", &detail)?;
        let written = self.write(&text, feed, &wired, console)?;
        self.report(&wired, written, console)
    }

    /// The position of the feed.
    fn feed(&self, hub: &Hub) -> Result<usize, Failure> {
        let names: Vec<_> = hub.feeds.iter().map(|feed| feed.name.as_str()).collect();
        let at = match &self.feed {
            Some(name) => names.iter().position(|known| known == name),
            None => (names.len() == 1).then_some(0),
        };
        at.ok_or_else(|| Failure::Usage(format!("which feed? use `--feed NAME` with one of {}", names.join(", "))))
    }

    fn feed_name<'h>(&self, hub: &'h Hub, at: usize) -> &'h str {
        hub.feeds.get(at).map_or("", |feed| feed.name.as_str())
    }

    /// `ssf` of the entry. `url` is left out where it is the issuer.
    fn ssf(&self, issuer: &str) -> Result<Value, Failure> {
        let path = |file: &Option<PathBuf>| -> Result<Option<Value>, Failure> {
            let Some(file) = file else { return Ok(None) };
            let whole = std::path::absolute(file).map_err(super::super::failed)?;
            Ok(Some(json!(whole.display().to_string())))
        };
        let text = |text: &Option<String>| text.as_ref().map(|text| json!(text));
        let credentials = object(vec![
            ("token_file", path(&self.token_file)?),
            ("client_id", text(&self.client_id)),
            ("client_secret_file", path(&self.client_secret_file)?),
            ("key_file", path(&self.key_file)?),
            ("key_id", text(&self.key_id)),
            ("token_endpoint", text(&self.token_endpoint)),
            ("method", self.method.map(|method| json!(method.as_str()))),
        ]);
        let is_same = self.url.trim_end_matches('/') == issuer.trim_end_matches('/');
        Ok(object(vec![
            ("url", (!is_same).then(|| json!(self.url))),
            ("delivery", Some(json!(if self.push.is_some() { "push" } else { "poll" }))),
            ("endpoint", text(&self.push)),
            ("credentials", Some(credentials)),
            ("events", (!self.events.is_empty()).then(|| json!(self.events))),
            ("stream_id", text(&self.stream_id)),
        ]))
    }

    /// Discovers, makes the stream, and verifies it where it is polled.
    fn wire(&self, hub: &Hub, config: &Value, feed: usize, store: &Arc<dyn Store>) -> Result<Wired, Failure> {
        let issuers: Vec<&str> = hub.feeds.get(feed).map(|feed| names(config, &feed.name)).unwrap_or_default();
        let subjects = |issuer: &str| match self.subjects.is_empty() {
            false => json!(self.subjects),
            true if issuers.contains(&issuer) => Value::Null,
            true => json!(issuers),
        };
        let draft = |issuer: &str, audience: Value, keys: Value| -> Result<Entry, Failure> {
            Ok(Entry::new(vec![
                ("issuer", json!(issuer)),
                ("audience", audience),
                ("keys", keys),
                ("subjects", subjects(issuer)),
                ("ssf", self.ssf(issuer)?),
            ]))
        };
        // The configuration is compiled as if the entry stood in it, so that everything in it is checked first.
        let pending = draft(&self.url, json!(PENDING), json!({"inline": placeholder()}))?;
        let (_, stream) = self.compiled(config, feed, &pending)?;
        let provisional = ManagedStream { issuer: String::new(), audiences: Vec::new(), ..stream };
        let home = Home { hub: hub.name.clone(), store: Arc::clone(store) };
        let (session, ensured) = run(async {
            let session = Session::open(&provisional).await?;
            // What an operator had removed is made again.
            record::forget(store, &provisional).await?;
            let ensured = home.ensure(&session, &provisional, now_ms()).await?;
            Ok((session, ensured))
        })?;
        let issuer = ensured.issuer.clone().unwrap_or_else(|| session.metadata.issuer.clone());
        let audience = match ensured.record.audiences.as_slice() {
            [] => {
                let what = "stream: the transmitter does not say for whom its SETs are (`aud`)";
                return Err(Failure::Failed(format!(
                    "{what}; write the entry by hand, with the `audience` that its documentation names"
                )));
            }
            [one] => json!(one),
            several => json!(several),
        };
        let jwks_uri = session.metadata.jwks_uri.clone().ok_or_else(|| {
            Failure::Failed(
                "discovery: the metadata has no `jwks_uri`; write the entry by hand, with `keys`".to_owned(),
            )
        })?;
        let (cluster, name) = cluster(config, &jwks_uri);
        let path = match jwks_uri.query() {
            Some(query) => format!("{}?{query}", jwks_uri.path()),
            None => jwks_uri.path().to_owned(),
        };
        let entry = draft(&issuer, audience.clone(), entry::keys(&name, &path))?;
        let jwks = run(session.keys(&jwks_uri))?;
        let with_keys = draft(&issuer, audience, json!({"inline": jwks}))?;
        let (compiled, stream) = self.compiled(config, feed, &with_keys)?;
        run(record::rename(store, &provisional, &stream))?;
        let events = {
            let policy = compiled.policy();
            let transmitter = policy.signals().transmitters().last();
            let effect = |uri: &String| transmitter.and_then(|one| one.permissions.effect_of(uri));
            ensured.record.delivered.iter().map(|uri| (uri.clone(), effect(uri))).collect()
        };
        let endpoint: Option<Url> = ensured.record.poll_endpoint.as_deref().and_then(|url| url.parse().ok());
        if let Some(endpoint) = &endpoint {
            let poll = async {
                let at = (ensured.record.id.as_str(), endpoint);
                trial::by_polling(&session, &compiled, at, now_ms(), self.wait).await
            };
            run(poll).map_err(|failure| self.undone(&ensured, failure))?;
        }
        Ok(Wired { ensured, entry, cluster, verified: endpoint.is_some(), events })
    }

    fn undone(&self, ensured: &Ensured, failure: Failure) -> Failure {
        let id = printable(&ensured.record.id);
        Failure::Failed(format!("{failure}\nthe stream `{id}` exists; the same command goes on with it"))
    }

    /// The feed and the stream of `entry`, as if it stood in `config`.
    fn compiled(&self, config: &Value, feed: usize, entry: &Entry) -> Result<(Arc<Feed>, ManagedStream), Failure> {
        let mut config = config.clone();
        let place = config.get_mut("feeds").and_then(|feeds| feeds.get_mut(feed)).and_then(Value::as_object_mut);
        let signals = place.map(|place| place.entry("signals").or_insert_with(|| json!({})));
        let list =
            signals.and_then(Value::as_object_mut).map(|all| all.entry("transmitters").or_insert_with(|| json!([])));
        if let Some(list) = list.and_then(Value::as_array_mut) {
            list.push(entry.to_json());
        }
        let hub = compile(config.to_string().as_bytes())
            .map_err(|problems| BadFile::new(Path::new("the new entry"), problems.0))?;
        let feed = hub.feeds.get(feed).cloned();
        let stream = feed.as_ref().and_then(|feed| feed.managed.last().cloned());
        let lost = || Failure::Failed("the entry has no stream".to_owned());
        feed.zip(stream).ok_or_else(lost)
    }

    /// Writes the entry, or prints it. Returns whether the file was changed.
    fn write(&self, text: &[u8], feed: usize, wired: &Wired, console: &mut Console<'_>) -> Result<bool, Failure> {
        let cluster = wired.cluster.as_ref().map(|(name, url)| (name.as_str(), url.as_str()));
        let addition = Addition { feed, entry: &wired.entry, cluster };
        let edited = std::str::from_utf8(text).ok().and_then(|text| edit::edit(text, &addition));
        if let (false, Some(edited)) = (self.print, &edited) {
            file::write(&self.of.config, edited, Access::Everyone, Existing::Replace)?;
            return Ok(true);
        }
        if !self.print {
            writeln!(console.err, "{} has a shape that is not changed here: add this to it", self.of.config.display())?;
        }
        if self.of.output == Output::Human {
            writeln!(console.out, "# in feeds[{feed}].signals.transmitters")?;
            for line in wired.entry.to_yaml() {
                writeln!(console.out, "{line}")?;
            }
            if let Some((name, url)) = cluster {
                writeln!(console.out, "# in clusters\n{name}: {url}")?;
            }
        }
        Ok(false)
    }

    fn report(&self, wired: &Wired, written: bool, console: &mut Console<'_>) -> Result<Exit, Failure> {
        let record = &wired.ensured.record;
        if self.of.output == Output::Json {
            let event = |(uri, known): &(String, Option<(&str, bool)>)| json!({"uri": uri, "name": known.map(|(name, _)| name), "has_effect": known.is_some_and(|(_, has)| has)});
            let report = json!({
                "stream_id": record.id, "is_new": wired.ensured.is_new, "verified": wired.verified, "written": written,
                "audiences": record.audiences, "events": wired.events.iter().map(event).collect::<Vec<_>>(),
                "missing": wired.ensured.missing, "entry": wired.entry.to_json(),
                "clusters": wired.cluster.iter().map(|(name, url)| json!({ "name": name, "url": url })).collect::<Vec<_>>(),
                "min_verification_interval": record.min_verification_interval
            });
            writeln!(console.out, "{}", serde_json::to_string_pretty(&report)?)?;
            return Ok(Exit::Done);
        }
        let made = if wired.ensured.is_new { "made" } else { "found" };
        let verified = if wired.verified { ", and verified" } else { "" };
        writeln!(
            console.out,
            "{made}{verified}: stream {} for {}",
            printable(&record.id),
            printable(&record.audiences.join(", "))
        )?;
        for (uri, known) in &wired.events {
            let what = match known {
                Some((name, true)) => format!("{name}: has an effect"),
                Some((name, false)) => format!("{name}: has no effect here"),
                None => "is not known here, and has no effect".to_owned(),
            };
            writeln!(console.out, "  sends {} ({what})", printable(uri))?;
        }
        for uri in &wired.ensured.missing {
            writeln!(console.out, "  does not send {}", printable(uri))?;
        }
        if let Some(seconds) = record.min_verification_interval {
            writeln!(
                console.out,
                "it sends a verification every {seconds} s at most: `signals.stale.after` of the filters must be longer"
            )?;
        }
        if written {
            let config = self.of.config.display();
            writeln!(
                console.out,
                "written into {config}; start the hub again, then `taskfence hub accept-config --config {config}`"
            )?;
        }
        if !wired.verified {
            writeln!(
                console.out,
                "then `taskfence hub transmitter verify --config {} {}`",
                self.of.config.display(),
                self.url
            )?;
        }
        Ok(Exit::Done)
    }
}

/// The issuers of a feed.
fn names<'c>(config: &'c Value, feed: &str) -> Vec<&'c str> {
    let feeds = config.get("feeds").and_then(Value::as_array).into_iter().flatten();
    let issuers = feeds.filter(|one| member(one, &["name"]).and_then(Value::as_str) == Some(feed));
    let issuers = issuers.filter_map(|one| one.get("issuers")?.as_array()).flatten();
    issuers.filter_map(|one| one.get("issuer").and_then(Value::as_str)).collect()
}

/// The cluster that leads to `url`: a new one, where none does, and its name.
fn cluster(config: &Value, url: &Url) -> (Option<(String, String)>, String) {
    let base = url.origin().ascii_serialization();
    let known = config.get("clusters").and_then(Value::as_object).into_iter().flatten();
    let found = known.filter(|(_, known)| known.as_str().map(|known| known.trim_end_matches('/')) == Some(&base));
    if let Some((name, _)) = found.into_iter().next() {
        return (None, name.clone());
    }
    let host = url.host_str().unwrap_or("transmitter");
    let host = if host.starts_with(|c: char| c.is_ascii_alphabetic()) {
        host.to_owned()
    } else {
        format!("transmitter-{host}")
    };
    let is_taken = |name: &str| member(config, &["clusters", name]).is_some();
    let mut name = host.clone();
    let mut number = 2_u32;
    while is_taken(&name) {
        name = format!("{host}-{number}");
        number = number.saturating_add(1);
    }
    (Some((name.clone(), base)), name)
}

/// A key that stands in the configuration until those of the transmitter are known (RFC 7517, appendix A.1).
fn placeholder() -> Value {
    json!({"keys": [{"kty": "EC", "crv": "P-256", "kid": "pending",
        "x": "MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4", "y": "4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM"}]})
}

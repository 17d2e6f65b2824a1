//! `taskfence check`: the judge's own reading of a configuration.

use std::path::{Path, PathBuf};
use taskfence_core::config::load;

use clap::{Args, ValueEnum};
use serde_json::{Value, json};
use taskfence_core::config::compile::Loaded;
use taskfence_core::config::problem::Problem;
use taskfence_core::encoding::nearest::nearest;
use taskfence_core::keys::keyring::{Discovery, Keyring, Owner, Source};
use taskfence_core::policy::policy::Policy;
use taskfence_core::policy::policy::Role;
use taskfence_core::signal::hub_source::HubSource;

use crate::commands::hub;
use crate::envoy::{Envoy, Plugin, Text};
use crate::envoy_checks::{self, Findings};
use crate::failure::Failure;
use crate::input::configuration::{self, Configuration};
use crate::input::document;
use crate::input::file;
use crate::input::problem::{self, BadFile, count};
use crate::input::yaml;
use crate::terminal::console::Console;
use crate::terminal::exit::Exit;

/// Check a configuration with the code that the filter runs
///
/// Prints a summary with warnings, or every error with its place and its remedy.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  taskfence check taskfence.yaml
  taskfence check taskfence.yaml --print > taskfence.json
  taskfence check /etc/envoy/envoy.yaml
  taskfence check hub.yaml
  taskfence check taskfence.yaml --hub hub.yaml
  taskfence check /etc/envoy/envoy.yaml --hub hub.yaml
  kubectl get cm taskfence -o jsonpath='{.data.config}' | taskfence check - --output json

Exits with 0 when the configuration is good, with 3 when it is not.")]
pub struct Check {
    /// The configuration of Taskfence, or of an Envoy that contains it: JSON when it begins with `{`, else YAML; `-` reads standard
    /// input
    config: PathBuf,

    /// How to print the findings
    #[arg(long, value_enum, default_value_t = Output::Human)]
    output: Output,

    /// The configuration of the hub that the filter follows: what the filter needs is compared with what the hub covers; in
    /// a file of Envoy, for each filter that follows a hub
    #[arg(long, value_name = "FILE")]
    hub: Option<PathBuf>,

    /// Print a good configuration as the JSON text that Envoy hands to the filter, and the findings to standard error
    #[arg(long, conflicts_with = "output")]
    print: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    /// Lines to read
    Human,
    /// One JSON object on standard output
    Json,
}

impl Check {
    /// Runs the command.
    pub fn run(&self, console: &mut Console<'_>) -> Result<Exit, Failure> {
        let text = file::read_or_input(&self.config, console.input)?;
        if let Ok(json) = document::to_json(&text, "the configuration")
            && let Ok(value) = serde_json::from_slice(&json)
        {
            if Envoy::is_one(&value) {
                return self.check_envoy(&Envoy::read(&value), console);
            }
            if hub::is_one(&value) {
                if self.hub.is_some() {
                    let file = problem::name(&self.config);
                    let message = format!("{file} is the configuration of a hub, and --hub compares a filter with one");
                    return Err(Failure::Usage(message));
                }
                return match self.output {
                    Output::Human => hub::check(&self.config, &text, console),
                    Output::Json => hub::check_json(&text, console),
                };
            }
        }
        let mut checked = configuration::parse(&text);
        if let (Some(path), Ok(configuration)) = (&self.hub, &checked) {
            let problems = hub::compare_with(path, &configuration.loaded.policy)?;
            if !problems.is_empty() {
                checked = Err(problems);
            }
        }
        match self.output {
            Output::Human => self.report(&checked, console)?,
            Output::Json => writeln!(console.out, "{}", serde_json::to_string_pretty(&report(&checked))?)?,
        }
        Ok(if checked.is_ok() { Exit::Done } else { Exit::BadConfig })
    }

    /// A whole configuration of Envoy: each of ours in it, and all that is around them.
    fn check_envoy(&self, envoy: &Envoy<'_>, console: &mut Console<'_>) -> Result<Exit, Failure> {
        if envoy.plugins.is_empty() {
            let problem = Problem::at("", "is a configuration of Envoy without one of Taskfence in it");
            let help = "a plugin's `configuration` is a google.protobuf.StringValue that holds JSON with `issuers`; what comes by discovery (LDS, ECDS) is not seen";
            return Err(BadFile::new(&self.config, vec![problem.help(help)]).into());
        }
        let mut all: Vec<_> = envoy.plugins.iter().map(|plugin| check_clusters(load_plugin(plugin), envoy)).collect();
        let policies: Vec<_> = all.iter().map(|one| one.as_ref().ok().map(|one| &one.loaded.policy)).collect();
        let mut around = envoy_checks::check(envoy, &policies);
        if let Some(path) = &self.hub {
            around.errors.extend(compare(path, &mut all)?);
        }
        let good = around.errors.is_empty() && all.iter().all(Result::is_ok);
        let mut reports = Vec::new();
        for (plugin, mut checked) in envoy.plugins.iter().zip(all) {
            let inside = |problem: &mut Problem| problem.path = join(&plugin.place, &problem.path);
            match &mut checked {
                Ok(Configuration { loaded, .. }) => {
                    loaded.warnings.iter_mut().chain(&mut loaded.notes).for_each(inside);
                }
                Err(problems) => problems.iter_mut().for_each(inside),
            }
            match self.output {
                Output::Human => self.report(&checked, console)?,
                Output::Json => reports.push(json!({"place": plugin.place, "report": report(&checked)})),
            }
        }
        match self.output {
            Output::Human => self.say_around(around, console)?,
            Output::Json => {
                let list = |problems: &[Problem]| problems.iter().map(problem::to_json).collect::<Vec<_>>();
                let Findings { errors, warnings, notes } = &around;
                let all = json!({
                    "ok": good, "configurations": reports,
                    "errors": list(errors), "warnings": list(warnings), "notes": list(notes),
                });
                writeln!(console.out, "{}", serde_json::to_string_pretty(&all)?)?;
            }
        }
        Ok(if good { Exit::Done } else { Exit::BadConfig })
    }

    fn say_around(&self, around: Findings, console: &mut Console<'_>) -> Result<(), Failure> {
        problem::print("warning", &around.warnings, console.err)?;
        problem::print("note", &around.notes, console.err)?;
        if !around.errors.is_empty() {
            BadFile::new(&self.config, around.errors).print(console.err)?;
        }
        Ok(())
    }

    fn report(&self, checked: &Result<Configuration, Vec<Problem>>, console: &mut Console<'_>) -> Result<(), Failure> {
        match checked {
            Err(problems) => BadFile::new(&self.config, problems.clone()).print(console.err)?,
            Ok(Configuration { loaded, json }) => {
                problem::print("warning", &loaded.warnings, console.err)?;
                problem::print("note", &notes(loaded), console.err)?;
                let summary = Summary::of(&loaded.policy).to_line();
                let warnings = match loaded.warnings.len() {
                    0 => String::new(),
                    several => format!(", {}", count(several, "warning")),
                };
                let line = format!("ok: {}: {summary}{warnings}", problem::name(&self.config));
                if self.print {
                    writeln!(console.err, "{line}")?;
                    if holds_secret(&loaded.policy) {
                        let note = "note: what is printed holds the value of `authorization`: keep it as the secret that it is";
                        writeln!(console.err, "{note}")?;
                    }
                    match &loaded.with_defaults {
                        Some(whole) => console.out.write_all(serde_json::to_string_pretty(whole)?.as_bytes())?,
                        None => console.out.write_all(json.trim_ascii_end())?,
                    }
                    writeln!(console.out)?;
                } else {
                    writeln!(console.out, "{line}")?;
                }
            }
        }
        Ok(())
    }
}

/// Whether the configuration has a value of `authorization`. It must be in what goes into Envoy.
pub fn holds_secret(policy: &Policy) -> bool {
    let signals = policy.signals();
    signals.hub().is_some_and(|hub| hub.authorization.is_some())
        || signals.transmitters().iter().any(|stream| stream.authorization.is_some())
}

/// Reads the text of a plugin as the filter would: Envoy hands it over as it is, so it is JSON or refused.
pub fn load_plugin(plugin: &Plugin<'_>) -> Result<Configuration, Vec<Problem>> {
    let text = match &plugin.text {
        Text::Known(text) => text,
        Text::Unknown(kind) => {
            let problem = Problem::at("", format!("is a `{kind}`, whose bytes are no JSON"));
            return Err(vec![problem.help("write it as a google.protobuf.StringValue")]);
        }
    };
    if plugin.json().is_none() && yaml::to_json(text).is_ok_and(|json| json.starts_with('{')) {
        let problem = Problem::at("", "is YAML, and Envoy hands it to the filter as it is, which reads JSON");
        return Err(vec![problem.help("`taskfence check FILE --print` turns a YAML file into the JSON to put here")]);
    }
    let loaded = load::load(text.as_bytes()).map_err(|errors| errors.0)?;
    Ok(Configuration { loaded, json: text.clone().into_bytes() })
}

/// Compares each plugin that follows a hub with the hub whose configuration stands at `path`. What is wrong takes the place
/// of the plugin. Returns a problem if none follows a hub.
fn compare(path: &Path, all: &mut [Result<Configuration, Vec<Problem>>]) -> Result<Option<Problem>, Failure> {
    let mut has_follower = false;
    for checked in all.iter_mut() {
        let Ok(Configuration { loaded, .. }) = checked else { continue };
        if loaded.policy.signals().hub().is_none() {
            continue;
        }
        has_follower = true;
        let problems = hub::compare_with(path, &loaded.policy)?;
        if !problems.is_empty() {
            *checked = Err(problems);
        }
    }
    // One that cannot be read may be the one that follows.
    let none = !has_follower && all.iter().all(Result::is_ok);
    let help = "add `signals.hub` with `cluster`, `feed` and `keys` to a filter, or leave `--hub` out";
    Ok(none.then(|| Problem::at("", "no filter in this file follows a hub").help(help)))
}

/// Whether keys are fetched from clusters that Envoy has, and the hub is one of them.
fn check_clusters(
    checked: Result<Configuration, Vec<Problem>>,
    envoy: &Envoy<'_>,
) -> Result<Configuration, Vec<Problem>> {
    let clusters = envoy.clusters();
    let mut configuration = checked?;
    let mut problems = Vec::new();
    let policy = &configuration.loaded.policy;
    let keys = policy.fetched_keys().filter_map(|(owner, _, keys)| Some((owner, keys.source()?)));
    let keys = keys.flat_map(|(owner, source)| {
        // Without a `jwks_cluster` it is the same one.
        let jwks = source.discovery.as_ref().map(|discovery| ("jwks_cluster", &discovery.keys_cluster));
        let jwks = jwks.filter(|(_, cluster)| **cluster != source.cluster);
        let named = std::iter::once(("cluster", &source.cluster)).chain(jwks);
        named.map(move |(key, cluster)| (format!("{}.{key}", place(owner, policy)), cluster))
    });
    let keys = keys.map(|(place, cluster)| (place, cluster, "so its keys may never come", "the key server wants it"));
    let hub = policy.signals().hub().map(|hub| ("signals.hub.cluster".to_owned(), &hub.cluster));
    let hub = hub.map(|(place, cluster)| {
        (place, cluster, "so no signal may ever come, and every token is refused", "the hub wants it")
    });
    for (place, cluster, effect, wants) in keys.chain(hub) {
        if clusters.contains(&cluster.as_str()) {
            continue;
        }
        let message = format!("`{cluster}` is not one of the clusters in this file, {effect}");
        let problem = Problem::at(place, message);
        problems.push(match nearest(cluster, clusters.iter().copied()) {
            Some(near) => problem.help(format!("did you mean `{near}`?")),
            None => problem.help(format!("add it to the clusters, with TLS where {wants}")),
        });
    }
    match (problems.is_empty(), envoy.may_get_clusters()) {
        (true, _) => Ok(configuration),
        (false, true) => {
            configuration.loaded.warnings.extend(problems);
            Ok(configuration)
        }
        (false, false) => Err(problems),
    }
}

/// Where the keys of `owner` stand in a configuration.
fn place(owner: Owner, policy: &Policy) -> String {
    match owner {
        Owner::Issuer(at) => {
            let entry = policy.issuer(at).map_or(at.position(), |issuer| issuer.entry);
            format!("issuers[{entry}].keys")
        }
        Owner::Transmitter(at) => format!("signals.transmitters[{at}].keys"),
    }
}

/// Notes: what is not wrong but worth knowing, and what cannot be checked offline.
fn notes(loaded: &Loaded) -> Vec<Problem> {
    let note = |(owner, _, keys): (Owner, &str, &Keyring)| {
        let source = keys.source()?;
        let Source { cluster, host, path, .. } = source;
        let message = match &source.discovery {
            None => format!("fetched from the cluster `{cluster}` as {host}{path}, not looked at here"),
            Some(Discovery { keys_cluster, keys_host, .. }) => format!(
                "discovered through the cluster `{cluster}` as {host}{path}, and fetched from {keys_host} through the cluster `{keys_cluster}`, not looked at here"
            ),
        };
        Some(Problem::at(place(owner, &loaded.policy), message))
    };
    let hub = loaded.policy.signals().hub().map(|hub| {
        let HubSource { cluster, host, path, .. } = hub;
        let message = format!("followed through the cluster `{cluster}` as {host}{path}, not looked at here");
        Problem::at("signals.hub", message)
    });
    loaded.notes.iter().cloned().chain(loaded.policy.fetched_keys().filter_map(note)).chain(hub).collect()
}

fn join(place: &str, path: &str) -> String {
    if path.is_empty() { place.to_owned() } else { format!("{place}: {path}") }
}

fn report(checked: &Result<Configuration, Vec<Problem>>) -> Value {
    let list = |problems: &[Problem]| problems.iter().map(problem::to_json).collect::<Vec<_>>();
    let (summary, errors, warnings, notes) = match checked {
        Ok(Configuration { loaded, .. }) => {
            (Some(Summary::of(&loaded.policy)), &[][..], &loaded.warnings[..], notes(loaded))
        }
        Err(problems) => (None, &problems[..], &[][..], Vec::new()),
    };
    json!({
        "ok": summary.is_some(),
        "summary": summary.map(|summary| summary.to_json()),
        "errors": list(errors),
        "warnings": list(warnings),
        "notes": list(&notes),
    })
}

/// How much a valid configuration contains.
struct Summary {
    role: &'static str,
    issuers: usize,
    rules: usize,
    transmitters: usize,
    /// The feed of a hub that it follows.
    feed: Option<String>,
}

impl Summary {
    fn of(policy: &Policy) -> Self {
        let role = match policy.role() {
            Role::Filter => "filter",
            Role::Receiver => "receiver",
        };
        let transmitters = policy.signals().transmitters().len();
        let feed = policy.signals().hub().map(|hub| format!("{} of {}", hub.feed, hub.hub));
        Self { role, issuers: policy.issuers().len(), rules: policy.rules().len(), transmitters, feed }
    }

    fn to_line(&self) -> String {
        let Self { role, issuers, rules, transmitters, feed } = self;
        let counts = [count(*issuers, "issuer"), count(*rules, "rule"), count(*transmitters, "transmitter")];
        let feed = feed.as_ref().map(|feed| format!(", feed {feed}")).unwrap_or_default();
        format!("role {role}, {}{feed}", counts.join(", "))
    }

    fn to_json(&self) -> Value {
        let Self { role, issuers, rules, transmitters, feed } = self;
        let mut summary = json!({"role": role, "issuers": issuers, "rules": rules, "transmitters": transmitters});
        if let (Some(members), Some(feed)) = (summary.as_object_mut(), feed) {
            members.insert("feed".to_owned(), feed.clone().into());
        }
        summary
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signing::key::{Algorithm, SigningKey};
    use crate::terminal::console::Capture;

    fn good() -> String {
        let key = SigningKey::generate(Algorithm::Es256, Some("k1".to_owned())).unwrap();
        let keys = json!({"keys": [key.public_jwk().unwrap()]});
        format!(
            "
issuers:
  - issuer: https://jit.example
    audiences: [https://orders.mesh]
    keys: {{ inline: {keys} }}
    algorithms: [ES256]
    max_lifetime: 15m
rules:
  - name: read-order
    match: {{ methods: [GET], path: '/v1/orders/{{order}}' }}
    require: {{ scope: orders.read, detail: {{ type: order, action: read, identifier: '{{order}}' }} }}
  - name: health
    match: {{ path: /healthz }}
    allow: anonymous
"
        )
    }

    fn check_text(text: &str, args: &[&str]) -> (Exit, Capture) {
        let mut capture = Capture::reading(text);
        let exit = capture.run(&[&["check", "-"], args].concat());
        (exit, capture)
    }

    #[test]
    fn a_good_configuration() {
        let (exit, capture) = check_text(&good(), &[]);
        assert_eq!(exit, Exit::Done, "{}", capture.err());
        assert!(
            capture.out().starts_with("ok: standard input: role filter, 1 issuer, 2 rules, 0 transmitters"),
            "{}",
            capture.out()
        );
    }

    #[test]
    fn yaml_and_json_say_the_same() {
        let as_json = yaml::to_json(&good()).unwrap();
        let (exit, capture) = check_text(&as_json, &["--output", "json"]);
        assert_eq!(exit, Exit::Done, "{}", capture.err());
        let report: Value = serde_json::from_str(capture.out()).unwrap();
        assert_eq!(report["ok"], true);
        assert_eq!(report["summary"], json!({"role": "filter", "issuers": 1, "rules": 2, "transmitters": 0}));
        assert_eq!(report["errors"], json!([]));
    }

    #[test]
    fn a_filter_that_follows_a_hub() {
        let key = SigningKey::generate(Algorithm::Es256, Some("h1".to_owned())).unwrap();
        let keys = json!({"keys": [key.public_jwk().unwrap()]});
        let hub = |stale: &str| {
            let hub = format!("{{ cluster: hub, feed: main, keys: {{ inline: {keys} }} }}");
            format!("{}signals:\n  hub: {hub}\n  stale: {stale}\n", good())
        };
        let (exit, capture) = check_text(&hub("{ after: 30s }"), &[]);
        let line = "ok: standard input: role filter, 1 issuer, 2 rules, 0 transmitters, feed main of taskfence-hub\n";
        assert_eq!((exit, capture.out()), (Exit::Done, line), "{}", capture.err());
        let note = "note: signals.hub: followed through the cluster `hub` as hub/v1/feeds/main, not looked at here\n";
        assert_eq!(capture.err(), note);
        let (exit, capture) = check_text(&hub("never"), &["--output", "json"]);
        let report: Value = serde_json::from_str(capture.out()).unwrap();
        assert_eq!((exit, &report["summary"]["feed"]), (Exit::Done, &json!("main of taskfence-hub")));
        assert_eq!(report["warnings"][0]["path"], "signals.stale");
    }

    #[test]
    fn printing_gives_the_text_for_envoy() {
        let (exit, capture) = check_text(&good(), &["--print"]);
        assert_eq!(exit, Exit::Done, "{}", capture.err());
        assert!(capture.err().contains("ok: standard input: role filter"), "{}", capture.err());
        let printed = capture.out().to_owned();
        assert!(printed.starts_with("{\n  \"issuers\": ["), "{printed}");
        // What is JSON already is printed as it is.
        let (exit, capture) = check_text(&printed, &["--print"]);
        assert_eq!((exit, capture.out()), (Exit::Done, printed.as_str()));
        assert!(!capture.err().contains("authorization"));
        let key = SigningKey::generate(Algorithm::Es256, Some("h1".to_owned())).unwrap();
        let keys = json!({"keys": [key.public_jwk().unwrap()]});
        let hub = format!("{{ cluster: hub, feed: main, authorization: Bearer agreed, keys: {{ inline: {keys} }} }}");
        let (_, capture) =
            check_text(&format!("{}signals:\n  hub: {hub}\n  stale: {{ after: 30s }}\n", good()), &["--print"]);
        assert!(
            capture.err().contains("note: what is printed holds the value of `authorization`"),
            "{}",
            capture.err()
        );
        assert!(!capture.err().contains("agreed"));
        let (exit, capture) = check_text("{}", &["--print"]);
        assert_eq!((exit, capture.out()), (Exit::BadConfig, ""));
    }

    #[test]
    fn a_configuration_of_envoy() {
        let envoy = |text: &str| {
            let text = yaml::to_json(text).unwrap();
            let plugin = json!({"vm_config": {"vm_id": "v"}, "configuration": {
                "@type": "type.googleapis.com/google.protobuf.StringValue", "value": text}});
            json!({"static_resources": [plugin]}).to_string()
        };
        let (exit, capture) = check_text(&envoy(&good()), &[]);
        assert_eq!(exit, Exit::Done, "{}", capture.err());
        assert!(capture.out().starts_with("ok: standard input: role filter, 1 issuer"), "{}", capture.out());
        let bad = envoy(&good().replace("15m", "soon"));
        let (exit, capture) = check_text(&bad, &[]);
        assert_eq!(exit, Exit::BadConfig);
        let place = "error: static_resources[0].configuration.value: issuers[0].max_lifetime: ";
        assert!(capture.err().starts_with(place), "{}", capture.err());
        let (exit, capture) = check_text(&bad, &["--output", "json"]);
        let report: Value = serde_json::from_str(capture.out()).unwrap();
        assert_eq!((exit, &report["configurations"][0]["report"]["ok"]), (Exit::BadConfig, &json!(false)));
        let (exit, capture) = check_text("static_resources: {}", &[]);
        assert_eq!(exit, Exit::BadConfig, "{}", capture.err());
    }

    #[test]
    fn every_error_names_its_place() {
        let text = good()
            .replace("[ES256]", "[ES256, ES265]")
            .replace("15m", "0s")
            .replace("{ path: /healthz }", "{ path: healthz }");
        let (exit, capture) = check_text(&text, &[]);
        assert_eq!(exit, Exit::BadConfig);
        assert_eq!(capture.out(), "");
        for expected in
            ["error: issuers[0].algorithms[1]: ", "error: issuers[0].max_lifetime: ", "error: rules[1].match.path: "]
        {
            assert!(capture.err().contains(expected), "{expected}: {}", capture.err());
        }
        assert!(capture.err().contains("\n  help: did you mean `ES256`?\n"), "{}", capture.err());
        assert!(capture.err().ends_with("standard input: 3 errors\n"), "{}", capture.err());

        let (exit, capture) = check_text(&text, &["--output", "json"]);
        assert_eq!(exit, Exit::BadConfig);
        let report: Value = serde_json::from_str(capture.out()).unwrap();
        assert_eq!((&report["ok"], &report["summary"]), (&json!(false), &Value::Null));
        assert!(report["errors"][0]["message"].is_string(), "{report}");
    }

    #[test]
    fn what_cannot_be_read_at_all() {
        for text in ["", "- 1", "a: 1\na: 2\n", "{\"issuers\": [}", "just words"] {
            let (exit, capture) = check_text(text, &[]);
            assert_eq!(exit, Exit::BadConfig, "{text}");
            assert!(capture.err().starts_with("error: "), "{text}: {}", capture.err());
        }
        let mut capture = Capture::reading([b'a', 0xe9]);
        assert_eq!(capture.run(&["check", "-"]), Exit::BadConfig);
        assert!(capture.err().contains("not UTF-8 after byte 1"), "{}", capture.err());
    }
}

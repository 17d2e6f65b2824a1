//! `taskfence check`: the judge's own reading of a configuration.

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use serde_json::{Value, json};
use taskfence_core::config::{self, Role};
use taskfence_core::policy::Policy;
use taskfence_core::problem::Problem;

use crate::console::Console;
use crate::exit::{Exit, Failure};
use crate::{file, yaml};

/// Check a configuration with the code that the filter runs
///
/// Prints what the configuration holds and what is doubtful in it, or every error with its place and what to do.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  taskfence check taskfence.yaml
  kubectl get cm taskfence -o jsonpath='{.data.config}' | taskfence check - --output json

Exits with 0 when the configuration is good, with 3 when it is not.")]
pub struct Check {
    /// The configuration: JSON when it begins with `{`, else YAML; `-` reads standard input
    config: PathBuf,

    /// How to print the findings
    #[arg(long, value_enum, default_value_t = Output::Human)]
    output: Output,
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
        let findings = check(&text);
        match self.output {
            Output::Human => findings.print(&self.config, console)?,
            Output::Json => writeln!(console.out, "{}", serde_json::to_string_pretty(&findings.to_json())?)?,
        }
        Ok(if findings.summary.is_some() { Exit::Done } else { Exit::BadConfig })
    }
}

/// What there is to say about one configuration.
struct Findings {
    /// Only of a good configuration.
    summary: Option<Summary>,
    errors: Vec<Finding>,
    warnings: Vec<Finding>,
}

struct Summary {
    role: &'static str,
    issuers: usize,
    rules: usize,
    transmitters: usize,
}

struct Finding {
    /// Where in the configuration; empty when it is about the text as a whole.
    path: String,
    message: String,
    help: Option<String>,
}

fn check(text: &[u8]) -> Findings {
    match to_json(text) {
        Err(finding) => Findings { summary: None, errors: vec![finding], warnings: Vec::new() },
        Ok(json) => match config::load(&json) {
            Ok(loaded) => Findings {
                summary: Some(Summary::of(&loaded.policy)),
                errors: Vec::new(),
                warnings: loaded.warnings.into_iter().map(Finding::from).collect(),
            },
            Err(errors) => Findings {
                summary: None,
                errors: errors.0.into_iter().map(Finding::from).collect(),
                warnings: Vec::new(),
            },
        },
    }
}

/// The bytes that the filter would get. JSON stays as it is: its mistakes are the judge's to find.
fn to_json(text: &[u8]) -> Result<Vec<u8>, Finding> {
    if text.trim_ascii_start().starts_with(b"{") {
        return Ok(text.to_vec());
    }
    let text = std::str::from_utf8(text).map_err(|error| {
        Finding::of_text(format!("the configuration is not UTF-8 after byte {}", error.valid_up_to()))
    })?;
    let value = yaml::to_json(text)
        .map_err(|error| Finding::of_text(format!("the configuration cannot be read as YAML: {error}")))?;
    Ok(value.to_string().into_bytes())
}

impl Summary {
    fn of(policy: &Policy) -> Self {
        let role = match policy.role() {
            Role::Filter => "filter",
            Role::Receiver => "receiver",
        };
        let transmitters = policy.signals().transmitters().len();
        Self { role, issuers: policy.issuers().len(), rules: policy.rules().len(), transmitters }
    }

    fn to_json(&self) -> Value {
        let Self { role, issuers, rules, transmitters } = self;
        json!({"role": role, "issuers": issuers, "rules": rules, "transmitters": transmitters})
    }
}

impl Finding {
    fn of_text(message: String) -> Self {
        Self { path: String::new(), message, help: None }
    }

    fn to_json(&self) -> Value {
        json!({"path": self.path, "message": self.message, "help": self.help})
    }
}

impl From<Problem> for Finding {
    fn from(problem: Problem) -> Self {
        Self { path: problem.path, message: problem.message, help: problem.help }
    }
}

impl Findings {
    fn print(&self, path: &Path, console: &mut Console<'_>) -> Result<(), Failure> {
        for (word, findings) in [("error", &self.errors), ("warning", &self.warnings)] {
            for Finding { path, message, help } in findings {
                let place = if path.is_empty() { String::new() } else { format!("{path}: ") };
                writeln!(console.err, "{word}: {place}{message}")?;
                if let Some(help) = help {
                    writeln!(console.err, "  help: {help}")?;
                }
            }
        }
        let warnings = match self.warnings.len() {
            0 => String::new(),
            several => format!(", {}", count(several, "warning")),
        };
        let path = if path == Path::new("-") { Path::new("standard input") } else { path }.display();
        match &self.summary {
            Some(Summary { role, issuers, rules, transmitters }) => {
                let parts = [
                    format!("role {role}"),
                    count(*issuers, "issuer"),
                    count(*rules, "rule"),
                    count(*transmitters, "transmitter"),
                ];
                writeln!(console.out, "ok: {path}: {}{warnings}", parts.join(", "))?;
            }
            None => writeln!(console.err, "{path}: {}{warnings}", count(self.errors.len(), "error"))?,
        }
        Ok(())
    }

    fn to_json(&self) -> Value {
        let list = |findings: &[Finding]| findings.iter().map(Finding::to_json).collect::<Vec<_>>();
        let summary = self.summary.as_ref();
        json!({
            "ok": summary.is_some(),
            "summary": summary.map(Summary::to_json),
            "errors": list(&self.errors),
            "warnings": list(&self.warnings),
        })
    }
}

fn count(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::console::Capture;
    use crate::key::{Algorithm, SigningKey};

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
        let as_json = yaml::to_json(&good()).unwrap().to_string();
        let (exit, capture) = check_text(&as_json, &["--output", "json"]);
        assert_eq!(exit, Exit::Done, "{}", capture.err());
        let report: Value = serde_json::from_str(capture.out()).unwrap();
        assert_eq!(report["ok"], true);
        assert_eq!(report["summary"], json!({"role": "filter", "issuers": 1, "rules": 2, "transmitters": 0}));
        assert_eq!(report["errors"], json!([]));
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

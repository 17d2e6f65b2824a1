//! An explanation for people: the verdict first, then what led to it, each thing at its place.

use taskfence_core::http::request::Request;
use taskfence_core::policy::policy::Policy;
use taskfence_core::rules::requirement::Outcome;
use taskfence_core::rules::rule::{Effect, Mismatch};
use taskfence_core::signal::hub_source::HubSource;
use taskfence_core::time::Timestamp;

use super::ReceivedSignal;
use crate::failure::Failure;
use crate::input::problem::count;
use crate::offline::client_answer::ClientAnswer;
use crate::offline::evaluation::{Change, Evaluation};
use crate::offline::requirement_report::RequirementReport;
use crate::offline::token_report::{Credential, Fact};
use crate::terminal::console::Console;
use crate::terminal::text::{printable, printable_bytes, time, time_from};

/// With more rules than this, those for other paths are only counted.
const MANY_RULES: usize = 20;

/// Writes it to standard output.
pub fn write(
    evaluation: &Evaluation,
    request: &Request<'_>,
    policy: &Policy,
    signals: &[ReceivedSignal<'_>],
    console: &mut Console<'_>,
) -> Result<(), Failure> {
    let mut page = Page::default();
    page.section("request", request_lines(evaluation, request));
    page.section("at", vec![time(evaluation.now)]);
    page.section("hub", policy.signals().hub().iter().map(|hub| hub_line(hub)).collect());
    page.section("signals", signals.iter().map(signal_line).collect());
    page.section("rules", rule_lines(evaluation, policy));
    page.section("token", token_lines(&evaluation.credential, evaluation.now));
    page.section("requires", requirement_lines(evaluation, policy));
    page.section("upstream", evaluation.upstream.iter().map(change_line).collect());
    let answer = if evaluation.is_shadowed() { "would get" } else { "answer" };
    page.section(
        answer,
        evaluation.answer.iter().flat_map(|answer| ClientAnswer::new(answer, request.grpc).lines()).collect(),
    );
    let verdict = verdict_lines(evaluation, policy, console.colour).join("\n");
    write!(console.out, "{verdict}\n\n{}", page.text)?;
    Ok(())
}

/// Sections with their names in one column and their lines in another.
#[derive(Default)]
pub struct Page {
    pub text: String,
}

impl Page {
    /// Adds a section, unless it has no lines.
    pub fn section(&mut self, name: &str, lines: Vec<String>) {
        for (at, line) in lines.iter().enumerate() {
            let name = if at == 0 { name } else { "" };
            self.text.push_str(format!("{name:<9}  {line}").trim_end());
            self.text.push('\n');
        }
    }
}

fn verdict_lines(evaluation: &Evaluation, policy: &Policy, colour: bool) -> Vec<String> {
    let mut lines = Vec::new();
    match (&evaluation.verdict, evaluation.refusal()) {
        (Ok(permit), None) => {
            let glass = if permit.broken_glass() { ", by break-glass" } else { "" };
            lines.push(format!("{}{glass}", paint("ALLOWED", GREEN, colour)));
        }
        (verdict, Some(refusal)) => {
            let word = match verdict {
                Ok(_) => format!("{} in shadow, would be denied:", paint("ALLOWED", YELLOW, colour)),
                Err(_) => paint("DENIED", RED, colour),
            };
            let reason = refusal.reason;
            lines.push(format!("{word} {} {}: {}", reason.class().status(), reason.code(), reason.title()));
        }
        // A verdict against a request is a refusal.
        (Err(_), None) => {}
    }
    lines.extend(evaluation.why.iter().map(|why| format!("  {}", printable(why))));
    let rule = evaluation.rule().and_then(|at| Some((at, policy.rule(at)?)));
    lines.push(match rule {
        Some((at, rule)) => format!("  by rules[{at}] {}", printable(rule.name())),
        None => "  by no rule".to_owned(),
    });
    lines
}

const RED: &str = "\x1b[1;31m";
const GREEN: &str = "\x1b[1;32m";
const YELLOW: &str = "\x1b[1;33m";

fn paint(word: &str, sequence: &str, colour: bool) -> String {
    if colour { format!("{sequence}{word}\x1b[0m") } else { word.to_owned() }
}

fn request_lines(evaluation: &Evaluation, request: &Request<'_>) -> Vec<String> {
    let raw = printable_bytes(request.path);
    let grpc = if request.grpc { " (gRPC)" } else { "" };
    let (method, authority) = (printable_bytes(request.method), printable_bytes(request.authority));
    let mut lines = vec![format!("{method} {raw} on {authority}{grpc}")];
    let before_query = request.path.split(|byte| *byte == b'?').next().unwrap_or_default();
    if let Some(path) = evaluation.path.as_ref().filter(|path| path.as_bytes() != before_query) {
        lines.push(format!("rules see {path}"));
    }
    lines
}

fn hub_line(hub: &HubSource) -> String {
    let HubSource { hub, feed, .. } = hub;
    format!("taken as caught up with the feed {feed} of {}; no signal of the feed is known here", printable(hub))
}

fn signal_line(received: &ReceivedSignal<'_>) -> String {
    let signal = &received.signal;
    let event = signal.event().rsplit(['/', ':']).next().unwrap_or_default();
    let entries = match signal.entries().len() {
        0 if signal.notes().unknown_subject => "changes nothing: no grant is known by its subject".to_owned(),
        0 => "changes nothing".to_owned(),
        1 => "1 entry".to_owned(),
        several => format!("{several} entries"),
    };
    let file = printable(&received.file.display().to_string());
    let odd: Vec<&str> = signal.notes().oddities.iter().collect();
    let odd = if odd.is_empty() { String::new() } else { format!("; odd: {}", printable(&odd.join(", "))) };
    format!("{file}: {} of {}, {entries}{odd}", printable(event), printable(signal.transmitter()))
}

fn rule_lines(evaluation: &Evaluation, policy: &Policy) -> Vec<String> {
    let short = evaluation.tried.len() > MANY_RULES;
    let mut omitted = 0_usize;
    let mut rows = Vec::new();
    for (at, (mismatch, rule)) in evaluation.tried.iter().zip(policy.rules()).enumerate() {
        if short && *mismatch == Some(Mismatch::Path) {
            omitted = omitted.saturating_add(1);
            continue;
        }
        rows.push((format!("[{at}] {}", printable(rule.name())), words(*mismatch, rule.effect(), evaluation)));
    }
    let width = rows.iter().map(|(name, _)| name.chars().count()).max().unwrap_or_default();
    let mut lines: Vec<String> = rows.into_iter().map(|(name, words)| format!("{name:<width$}  {words}")).collect();
    if omitted > 0 {
        lines.insert(0, format!("{} for other paths, which --output json lists", count(omitted, "rule")));
    }
    if !evaluation.tried.is_empty() && evaluation.rule().is_none() {
        lines.push("none matches, so it is denied".to_owned());
    }
    if policy.rules().is_empty() {
        lines.push("there is none, so everything is denied".to_owned());
    }
    lines
}

fn words(mismatch: Option<Mismatch>, effect: &Effect, evaluation: &Evaluation) -> String {
    let Some(mismatch) = mismatch else {
        let does = match effect {
            Effect::Require(_) => "matches",
            Effect::Anonymous => "matches, and allows anonymous requests",
            Effect::Deny => "matches, and denies",
        };
        let captures = evaluation.captures.iter().map(|(name, value)| format!(", {name} = {}", printable(value)));
        return captures.fold(does.to_owned(), |line, capture| line + &capture);
    };
    match mismatch {
        Mismatch::Path => "another path",
        Mismatch::Method => "another method",
        Mismatch::Host => "another host",
        Mismatch::Grpc => "not a gRPC request",
        Mismatch::Metadata => "other metadata of the route",
    }
    .to_owned()
}

fn token_lines(credential: &Credential, now: Timestamp) -> Vec<String> {
    let head = match credential {
        Credential::NotLookedAt => return vec!["not looked at".to_owned()],
        Credential::Absent => return vec!["none".to_owned()],
        Credential::Ambiguous => return vec!["more than one credential".to_owned()],
        Credential::Unreadable(_) => return vec!["cannot be read".to_owned()],
        Credential::Refused(_) => "refused; its own statements, not verified:",
        Credential::Verified(_) => "verified",
    };
    let facts = credential.facts().into_iter().map(|(name, fact)| {
        let value = match fact {
            Fact::Text(text) => printable(&text),
            Fact::Time(at) => time_from(at, now),
        };
        format!("{name:<8}  {value}")
    });
    std::iter::once(head.to_owned()).chain(facts).collect()
}

fn requirement_lines(evaluation: &Evaluation, policy: &Policy) -> Vec<String> {
    let rule = evaluation.rule().and_then(|at| policy.rule(at));
    let Some(Effect::Require(requirement)) = rule.map(|rule| rule.effect()) else { return Vec::new() };
    if requirement.checks().is_empty() {
        return vec!["a valid token and nothing else".to_owned()];
    }
    if evaluation.requirements.is_empty() {
        let names: Vec<&str> = requirement.checks().iter().map(|check| check.name()).collect();
        return vec![format!("not evaluated: {}", names.join(", "))];
    }
    let scope = requirement.break_glass().map(|glass| glass.scope()).unwrap_or_default();
    evaluation.requirements.iter().flat_map(|report| report_lines(report, scope)).collect()
}

fn report_lines(report: &RequirementReport, scope: &str) -> Vec<String> {
    let RequirementReport { name, asked, found, outcome } = report;
    let word = match outcome {
        Outcome::Met => "met",
        Outcome::Unmet(_) => "NOT MET",
        Outcome::Lifted(_) => "LIFTED",
    };
    let by = match outcome {
        Outcome::Lifted(_) => format!(" (lifted by scope {scope})"),
        Outcome::Met | Outcome::Unmet(_) => String::new(),
    };
    vec![
        format!("{word:<7}  {name:<9}  asked  {}", printable(asked)),
        format!("{:<7}  {:<9}  found  {}{}", "", "", printable(found), printable(&by)),
    ]
}

fn change_line(change: &Change) -> String {
    match change {
        Change::Remove(name) => format!("without  {}", printable(name)),
        Change::Set(name, value) => format!("with     {name}: {}", printable(value)),
    }
}

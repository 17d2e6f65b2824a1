//! `taskfence test`: a table of requests with their expected verdicts, for a team's CI.

use std::path::{Path, PathBuf};
use taskfence_core::config::load;

use clap::Args;
use taskfence_core::config::problem::Problem;
use taskfence_core::decision::judge::Judge;

use crate::failure::Failure;
use crate::input::configuration;
use crate::input::document;
use crate::input::file;
use crate::input::problem::{BadFile, count};
use crate::offline::case_file::{Expected, File, Verdict};
use crate::offline::case_suite::{PreparedCase, Suite};
use crate::offline::client_answer::ClientAnswer;
use crate::offline::evaluation::Evaluation;
use crate::offline::host::{OfflineConnection, OfflineHost};
use crate::offline::jwks_files::{self, Jwks};
use crate::terminal::console::Console;
use crate::terminal::exit::Exit;
use crate::terminal::text::printable;

macro_rules! examples {
    () => {
        "\
Examples:
  taskfence test cases.yaml

Exits with 0 when every case went as expected, with 1 when one did not, with 3 when the cases or their configuration \
are bad."
    };
}

/// Judge a table of requests under a configuration, and compare the verdicts with the expected ones
///
/// Judges each request with the code that the filter runs. The pushed state is empty before each case; a filter that follows
/// a hub is taken to have caught up with it. Prints a line for
/// each case, and for a failed case what was expected.
#[derive(Debug, Args)]
#[command(after_help = examples!(), after_long_help = LONG)]
pub struct Test {
    /// The cases: JSON when it begins with `{`, else YAML; `-` reads standard input
    cases: PathBuf,

    #[command(flatten)]
    jwks: Jwks,
}

const LONG: &str = concat!(
    examples!(),
    "

A file of cases:

  config: taskfence.yaml                 # relative to this file
  now: 2026-09-21T14:13:20Z              # when the requests come [default: the clock]
  jwks: {'https://jit.example': jwks.json}   # keys that the proxy fetches; also --jwks
  tokens:
    alice:
      claims:                            # no key is needed: this run takes it as signed
        scope: orders.read
        authorization_details: [{type: order, actions: [read], identifier: '1881'}]
    tired: {claims: {auth_time: -2h}}
    from-the-issuer: {file: token.jwt}   # or {compact: eyJ...}
  signals:
    done:
      claims:
        sub_id: {format: complex, task: {format: opaque, id: test-task}}
        events: {'urn:taskfence:secevent:task-completed': {}}
  cases:
    - name: alice reads her order
      request: {method: GET, url: 'https://orders.mesh/v1/orders/1881'}
      token: alice
      expect: {verdict: allow, rule: read-order}
    - name: alice reads another order
      request: {url: 'https://orders.mesh/v1/orders/1882', headers: {x-tenant: red}}
      token: alice
      expect: {verdict: deny, reason: detail_insufficient, status: 403}
    - name: her task is over
      request: {url: 'https://orders.mesh/v1/orders/1881'}
      token: alice
      signals: [done]                    # received before the request
      now: +1m                           # as --at of `explain`, from the time above
      expect: {verdict: deny, reason: task_completed}

`claims` of a token are filled in with iss (the first issuer), aud (its first audience), sub and jti (the name of the \
token), client_id `test-client`, the task `test-task`, iat (now) and exp (5m later, or the issuer's max_lifetime where \
that is shorter). Those of a signal are filled in with iss (the first transmitter), aud, iat and jti. null leaves a \
claim out; iat, exp, nbf and auth_time may be written as times.

A request may also have `grpc: true`, `source: IP`, `metadata: {NAME: VALUE}`, `state_age: DURATION`, `peer: SPIFFE-ID` \
and `certificate: FILE` (what the client showed in the TLS handshake), and `proof_key: FILE` (a private JWK; the request \
then carries a DPoP proof by it). `expect` has a \
verdict, and may have a reason, a rule, a status and a grpc_status; of an allowed request the reason is what shadow mode would have \
refused it for."
);

impl Test {
    /// Runs the command.
    pub fn run(&self, console: &mut Console<'_>) -> Result<Exit, Failure> {
        let text = file::read_or_input(&self.cases, console.input)?;
        let what = "the file of cases";
        let file = document::to_json(&text, what).and_then(|json| load::parse::<File>(&json, what));
        let file = file.map_err(|problem| self.bad(vec![problem]))?;
        let folder = self.cases.parent().unwrap_or(Path::new(""));
        let mut policy = match configuration::read(&folder.join(&file.config), console.input) {
            Ok(configuration) => configuration.loaded.policy,
            Err(configuration::Error::File(error)) => {
                return Err(self.bad(vec![Problem::at("config", error.to_string())]));
            }
            Err(other) => return Err(other.into()),
        };
        self.jwks.supply(&mut policy, folder, &file.jwks, console)?;
        let suite = Suite::new(file, folder, &policy, console.now).map_err(|problems| self.bad(problems))?;
        let mut judge = Judge::new(policy);
        let mut failed = 0_usize;
        for case in &suite.cases {
            let evaluation = self.evaluate(&mut judge, case, &suite)?;
            let differences = differences(&case.expect, &evaluation, &judge);
            let word = if differences.is_empty() { "ok  " } else { "FAIL" };
            writeln!(console.out, "{word}  {}", printable(&case.name))?;
            for line in &differences {
                writeln!(console.out, "      {line}")?;
            }
            failed = failed.saturating_add(usize::from(!differences.is_empty()));
            // What one case left in the judge's memory must not decide about the next.
            judge = Judge::new(judge.into_policy());
        }
        let all = count(suite.cases.len(), "case");
        match failed {
            0 => writeln!(console.out, "{all}, all as expected")?,
            some => writeln!(console.out, "{all}, {some} not as expected")?,
        }
        Ok(if failed == 0 { Exit::Done } else { Exit::Failed })
    }

    fn bad(&self, problems: Vec<Problem>) -> Failure {
        BadFile::new(&self.cases, problems).into()
    }

    fn evaluate(&self, judge: &mut Judge, case: &PreparedCase, suite: &Suite) -> Result<Evaluation, Failure> {
        let mut host = OfflineHost::new()?;
        host.ports.connection = OfflineConnection {
            source: case.source,
            peer_certificate: case.peer_certificate,
            peer_uri: case.peer_uri.clone(),
            metadata: case.metadata.clone(),
        };
        host.ports.signatures.made_up = suite.made_up.iter().cloned().collect();
        host.catch_up(case.heard_at.unwrap_or(case.now), judge.policy())?;
        if let Some(at) = case.heard_at {
            host.heard_at(at, judge.policy())?;
        }
        for (name, set) in &case.signals {
            host.take_in(name, set, judge.policy(), case.now).map_err(|failure| match failure {
                Failure::Signal { name, err, description } => {
                    self.bad(vec![Problem::at(format!("signals.{name}"), format!("is refused: {err}: {description}"))])
                }
                other => other,
            })?;
        }
        let evaluation = Evaluation::new(judge, &mut host, &case.typed, case.now);
        jwks_files::missing(judge.policy(), &evaluation.verdict).map_or(Ok(evaluation), Err)
    }
}

/// One line for each value that differs from what `expect` says, and one line with the actual verdict.
fn differences(expect: &Expected, evaluation: &Evaluation, judge: &Judge) -> Vec<String> {
    let verdict = if evaluation.verdict.is_ok() { Verdict::Allow } else { Verdict::Deny };
    let reason = evaluation.refusal().map(|refusal| refusal.reason.code());
    let rule = evaluation.rule().and_then(|at| judge.policy().rule(at)).map(|rule| rule.name());
    let refused = evaluation.answer.as_ref().filter(|_| evaluation.verdict.is_err());
    let sent = refused.map(|answer| ClientAnswer::new(answer, evaluation.grpc));
    let status = sent.as_ref().map(|sent| sent.status.to_string());
    let grpc_status = sent.as_ref().and_then(|sent| sent.grpc_status).map(|status| status.to_string());
    let compared = [
        ("verdict", Some(expect.verdict.as_str().to_owned()), Some(verdict.as_str().to_owned())),
        ("reason", expect.reason.clone(), reason.map(str::to_owned)),
        ("rule", expect.rule.clone(), rule.map(str::to_owned)),
        ("status", expect.status.map(|status| status.to_string()), status),
        ("grpc", expect.grpc_status.map(|status| status.to_string()), grpc_status),
    ];
    let lines = compared.into_iter().filter_map(|(what, expected, got)| {
        let expected = expected.filter(|expected| Some(expected) != got.as_ref())?;
        let got = got.as_deref().map_or_else(|| "none".to_owned(), printable);
        Some(format!("{what:<7}  expected {}, got {got}", printable(&expected)))
    });
    let mut lines: Vec<String> = lines.collect();
    if !lines.is_empty() {
        lines.extend(evaluation.refusal().map(|refusal| format!("{:<7}  {}", "because", refusal.reason.title())));
        lines.extend(evaluation.why.iter().map(|why| format!("{:<7}  {}", "", printable(why))));
    }
    lines
}

#[cfg(test)]
mod tests;

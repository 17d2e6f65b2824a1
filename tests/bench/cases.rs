//! Measures cases in turns: in each round each of them runs once, so that what changes on the machine meanwhile does
//! not fall on one of them. What they are compared with runs more often, so that it is never long ago.

use std::{
    io::{IsTerminal, Write},
    time::{Duration, Instant},
};

use taskfence_tests::client::Request;

use crate::{
    Result,
    load::Traffic,
    options::Options,
    proxy::Proxy,
    report::{Expected, Load, Spread},
};

/// One thing to measure.
pub struct Case<'p> {
    /// What it is called in the table.
    pub name: String,
    /// The proxy.
    pub proxy: &'p Proxy,
    /// What else works for it; its CPU counts.
    pub helper: Option<&'p Proxy>,
    /// The listener.
    pub listener: String,
    /// The requests.
    pub traffic: Traffic,
    /// What each answer has to be.
    pub answer: Answer,
    /// The case without a filter that it is compared with; the first, unless it says another.
    pub against: Option<String>,
}

/// What an answer has to be.
#[derive(Clone, Copy, Debug)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// The reason code, of a refusal.
    pub reason: Option<&'static str>,
    /// Whether the cache of jwt_authn has to know every token, or none, where there is one.
    pub cached: Option<bool>,
}

/// 200.
pub const OK: Answer = Answer { status: 200, reason: None, cached: None };

/// So many cases run between two runs of what they are compared with.
const BETWEEN: usize = 4;

/// A round counts if the case without a filter took at most so many times its least beside it: then the machine was calm.
const CALM: f64 = 1.15;

/// So many rounds count in any case, the calmest.
const FEWEST: usize = 3;

/// What one round of one case gave.
#[derive(Clone, Copy)]
struct Round {
    cpu: f64,
    /// What the case without a filter took, just before and after.
    reference: f64,
    p50: f64,
    p99: f64,
    answers: u64,
}

impl<'p> Case<'p> {
    /// A case whose answers are all 200.
    pub fn new(name: &str, proxy: &'p Proxy, listener: &str, traffic: &Traffic) -> Self {
        let (name, listener) = (name.to_owned(), listener.to_owned());
        Self { name, proxy, helper: None, listener, traffic: traffic.clone(), answer: OK, against: None }
    }

    /// With other answers.
    pub fn answered(mut self, answer: Answer) -> Self {
        self.answer = answer;
        self
    }

    /// Compared with the case of this name, which is the same but for the filter.
    pub fn against(mut self, name: &str) -> Self {
        self.against = Some(name.to_owned());
        self
    }

    /// With something beside the proxy whose CPU counts.
    pub fn with(mut self, helper: &'p Proxy) -> Self {
        self.helper = Some(helper);
        self
    }

    fn cpu(&self) -> Result<Duration> {
        let helper = self.helper.map_or(Ok(Duration::ZERO), Proxy::cpu)?;
        Ok(self.proxy.cpu()? + helper)
    }

    /// One round, or what was wrong with its answers.
    async fn round(&mut self, time: Duration) -> Result<std::result::Result<Round, String>> {
        if let Some(wrong) = self.probe().await? {
            return Ok(Err(wrong));
        }
        let before = self.proxy.answers(&self.listener).await?;
        let cpu = self.cpu()?;
        let run = self.traffic.run(self.proxy.address(&self.listener)?, time)?;
        let cpu = self.cpu()?.saturating_sub(cpu);
        let after = self.proxy.answers(&self.listener).await?;
        let by_class = [after.good - before.good, after.refused - before.refused, after.failed - before.failed];
        let class = match self.answer.status {
            400.. => 1,
            _ => 0,
        };
        let others: u64 = by_class.iter().enumerate().filter(|(at, _)| *at != class).map(|(_, count)| count).sum();
        let unexpected = if class == 0 { run.refused } else { run.answers.abs_diff(run.refused) };
        if run.answers == 0 || others > 0 || unexpected > 0 || run.lost > 0 {
            let [good, refused, failed] = by_class;
            return Ok(Err(format!(
                "of {} answers, each of which had to be {}, {good} were 2xx, {refused} 4xx, {failed} 5xx; {} were lost",
                run.answers, self.answer.status, run.lost
            )));
        }
        let hits = after.cache_hits - before.cache_hits;
        match self.answer.cached {
            Some(true) if hits < run.answers => {
                return Ok(Err(format!("of {} tokens the cache of jwt_authn knew only {hits}", run.answers)));
            }
            Some(false) if hits > 0 => return Ok(Err(format!("the cache of jwt_authn knew {hits} tokens"))),
            _ => {}
        }
        let cpu = cpu.as_secs_f64() * 1e6 / run.answers as f64;
        Ok(Ok(Round { cpu, reference: cpu, p50: run.p50 as f64, p99: run.p99 as f64, answers: run.answers }))
    }

    /// The answer to one request, looked at closely.
    async fn probe(&self) -> Result<Option<String>> {
        let tokens = std::fs::read_to_string(&self.traffic.tokens);
        let tokens = tokens.map_err(crate::Error::doing(self.traffic.tokens.display()))?;
        // Not the first, which comes next, but the last of those that were sent, which would be the last to come again.
        let at = (self.traffic.sent + self.traffic.count - 1) % self.traffic.count.max(1);
        let token = tokens.lines().nth(at).unwrap_or_default();
        let answer = self.proxy.ask(&self.listener, &Request::get(&self.traffic.path).bearer(token)).await?;
        let fits = answer.status == self.answer.status && answer.reason().as_deref() == self.answer.reason;
        Ok((!fits).then(|| format!("a request was answered `{}`", answer.line())))
    }
}

/// Runs all cases in turns. The first is the one that the others are compared with.
pub async fn measure(
    section: &str,
    mut cases: Vec<Case<'_>>,
    options: &Options,
    progress: &mut Progress,
) -> Result<Vec<Load>> {
    let (rounds, time) = (options.rounds(), options.time());
    let mut measured: Vec<Vec<Round>> = cases.iter().map(|_| Vec::new()).collect();
    let mut wrong: Vec<Option<String>> = cases.iter().map(|_| None).collect();
    // What is done once, such as compiling what turns out to be hot, is done before. A quick run leaves that to its first
    // round, which the median passes over.
    let cold = if options.quick { 0 } else { cases.len() };
    for (case, wrong) in cases.iter_mut().zip(&mut wrong).take(cold) {
        progress.say(&format!("{section}: warming {}", case.name));
        *wrong = case.round(Duration::from_secs(1)).await?.err();
    }
    let mut least = f64::INFINITY;
    for round in 1..=rounds {
        // What the first case took, by how many cases had run before.
        let mut references = Vec::new();
        let mut others = Vec::new();
        for at in 0..cases.len() {
            // A quick run has no time for it.
            if !options.quick && at > 1 && at % BETWEEN == 1 {
                progress.say(&format!("{section}: round {round} of {rounds}, between"));
                references.extend(run(&mut cases, &mut wrong, 0, time).await?.map(|one| (at, one.cpu)));
            }
            progress.say(&format!("{section}: round {round} of {rounds}, {}", cases[at].name));
            let Some(one) = run(&mut cases, &mut wrong, at, time).await? else { continue };
            match at {
                0 => references.push((0, one.cpu)),
                _ => others.push((at, one)),
            }
            measured[at].push(one);
        }
        least = references.iter().map(|(_, cpu)| *cpu).fold(least, f64::min);
        for (at, one) in others {
            if let Some(last) = measured[at].last_mut() {
                last.reference = beside(&references, at).unwrap_or(one.cpu);
            }
        }
    }
    let whole = |at: usize| measured.get(at).filter(|measured| measured.len() == rounds);
    let load = |((case, measured), wrong): ((&Case<'_>, &Vec<Round>), Option<String>)| {
        let calm = calm(measured, least);
        let of = |pick: fn(&Round) -> f64| Spread::of(calm.iter().filter_map(|at| measured.get(*at)).map(pick));
        let answers = measured.iter().map(|round| round.answers).sum();
        // The rounds of a reference of its own, which runs once in each round.
        let own = case.against.as_ref().map(|name| cases.iter().position(|other| other.name == *name).and_then(whole));
        let above = match own {
            None => whole(0).and_then(|_| of(|round| round.cpu - round.reference)),
            Some(own) => {
                let above = |own: &Vec<Round>, at: usize| Some(measured.get(at)?.cpu - own.get(at)?.cpu);
                own.and_then(|own| Spread::of(calm.iter().filter_map(|at| above(own, *at))))
            }
        };
        let base = match own {
            None => Some(least),
            Some(own) => own.and_then(|own| own.iter().map(|round| round.cpu).reduce(f64::min)),
        };
        let cpu = of(|round| round.cpu);
        let lowest = measured.iter().map(|round| round.cpu).reduce(f64::min);
        Load {
            name: case.name.clone(),
            cpu,
            added: above.filter(|_| wrong.is_none()),
            added_least: lowest.zip(base).map(|(lowest, base)| lowest - base).filter(|_| wrong.is_none()),
            counted: calm.len(),
            p50: of(|round| round.p50),
            p99: of(|round| round.p99),
            answers,
            expected: Expected { answer: case.answer.text(), seen: answers },
            void: wrong,
        }
    };
    Ok(cases.iter().zip(&measured).zip(wrong).map(load).collect())
}

/// One run of the case at that place, unless its answers were wrong, which is noted.
async fn run(cases: &mut [Case<'_>], wrong: &mut [Option<String>], at: usize, time: Duration) -> Result<Option<Round>> {
    match cases[at].round(time).await? {
        Ok(one) => Ok(Some(one)),
        Err(text) => {
            wrong[at].get_or_insert(text);
            Ok(None)
        }
    }
}

/// The places of the rounds that count. Which they are is up to the machine and not to the case: to what the case without
/// a filter took beside it.
fn calm(measured: &[Round], least: f64) -> Vec<usize> {
    let mut places: Vec<usize> = (0..measured.len()).collect();
    places.sort_by(|one, other| measured[*one].reference.total_cmp(&measured[*other].reference));
    let calm = places.iter().filter(|at| measured[**at].reference <= CALM * least).count();
    places.truncate(calm.max(FEWEST));
    places
}

/// What the reference took beside the case at that place: on the line between the last run before it and the first after
/// it.
fn beside(references: &[(usize, f64)], at: usize) -> Option<f64> {
    let before = references.iter().rev().find(|(place, _)| *place <= at);
    let after = references.iter().find(|(place, _)| *place > at);
    match (before, after) {
        (Some((from, low)), Some((to, high))) => Some(low + (high - low) * (at - from) as f64 / (to - from) as f64),
        (before, after) => before.or(after).map(|(_, cpu)| *cpu),
    }
}

impl Answer {
    fn text(self) -> String {
        match self.reason {
            Some(reason) => format!("{} {reason}", self.status),
            None => self.status.to_string(),
        }
    }
}

/// One line that says what is being done: over itself on a terminal, from section to section elsewhere.
pub struct Progress {
    began: Instant,
    terminal: bool,
}

impl Progress {
    /// Begins to count the time.
    pub fn new() -> Self {
        Self { began: Instant::now(), terminal: std::io::stderr().is_terminal() }
    }

    /// Says it.
    pub fn say(&mut self, what: &str) {
        if self.terminal {
            let seconds = self.began.elapsed().as_secs();
            eprint!("\r\x1b[2K{:>3}:{:02} {what}", seconds / 60, seconds % 60);
            let _ = std::io::stderr().flush();
        }
    }

    /// Says it on a line that stays.
    pub fn begin(&mut self, what: &str) {
        let seconds = self.began.elapsed().as_secs();
        let over = if self.terminal { "\r\x1b[2K" } else { "" };
        eprintln!("{over}{:>3}:{:02} {what}", seconds / 60, seconds % 60);
    }
}

impl Default for Progress {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reference_lies_between_its_neighbours() {
        let references = [(0, 20.0), (5, 30.0)];
        assert_eq!([1, 4, 5, 7].map(|at| beside(&references, at)), [Some(22.0), Some(28.0), Some(30.0), Some(30.0)]);
        assert_eq!(beside(&[], 1), None);
    }

    #[test]
    fn rounds_count_while_the_machine_is_calm() {
        let round = |reference| Round { cpu: 50.0, reference, p50: 0.0, p99: 0.0, answers: 1 };
        let calm = |references: &[f64]| calm(&references.iter().map(|one| round(*one)).collect::<Vec<_>>(), 20.0);
        assert_eq!(calm(&[20.0, 36.0, 22.0, 21.0, 23.0, 24.0]), [0, 3, 2, 4]);
        assert_eq!(calm(&[36.0, 20.0, 35.0, 34.0]), [1, 3, 2], "three at least");
        assert_eq!(calm(&[36.0]), [0]);
    }
}

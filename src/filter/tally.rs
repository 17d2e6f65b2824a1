//! What is counted at each request without a call to the proxy: a request adds to numbers in the memory of its worker, and
//! each tick brings what was added to the proxy's metrics.

use crate::host::{Counter, Gauge};
use crate::metrics::metric_name;
use std::cell::Cell;
use taskfence_core::decision::authenticate::TokenCounts;
use taskfence_core::index::RuleIndex;
use taskfence_core::policy::policy::Policy;
use taskfence_core::rules::mode::Mode;

/// So many rules of a configuration have a name of their own in metrics, the first ones. The rest are counted as
/// `other`, and requests without a rule as `none`, so that a configuration cannot make more metrics than this.
const MAX_NAMES: usize = 64;

/// A name of a rule is cut to so many letters.
const MAX_LETTERS: usize = 64;

/// The ends of the names of the four counters of a rule, in the order of [`column`].
const COLUMNS: [&str; 4] = ["enforce.allowed", "enforce.denied", "shadow.allowed", "shadow.denied"];

/// What one worker has counted under one configuration.
#[derive(Debug)]
pub struct Tally {
    /// One for each rule with a name of its own, then `other`, then `none`.
    rules: Vec<Row>,
    warm: Counter,
    cold: Counter,
    entries: Gauge,
    bytes: Gauge,
    live: Gauge,
    /// What the proxy was told last.
    told: Cell<Told>,
}

/// What the proxy was told last of one worker.
#[derive(Debug, Default, Clone, Copy)]
struct Told {
    tokens: TokenCounts,
    live: u64,
}

/// The counters of one rule.
#[derive(Debug)]
struct Row {
    name: String,
    cells: [Cell<Count>; COLUMNS.len()],
}

/// One counter. The proxy gets to know it when there is something to count, so that rules that no request reached cost
/// no metric.
#[derive(Debug, Default, Clone, Copy)]
struct Count {
    since_tick: u64,
    counter: Option<Counter>,
}

impl Tally {
    /// Counts nothing yet.
    pub fn new(policy: &Policy) -> Tally {
        let names = policy
            .rules()
            .iter()
            .take(MAX_NAMES)
            .map(|rule| metric_name(rule.name()).chars().take(MAX_LETTERS).collect::<String>());
        let names = names.chain(["other".to_owned(), "none".to_owned()]);
        Tally {
            rules: names.map(|name| Row { name, cells: Default::default() }).collect(),
            warm: Counter::define("taskfence.tokens_warm"),
            cold: Counter::define("taskfence.tokens_cold"),
            entries: Gauge::define("taskfence.token_cache_entries"),
            bytes: Gauge::define("taskfence.token_cache_bytes"),
            live: Gauge::define("taskfence.streams_live"),
            told: Cell::default(),
        }
    }

    /// A request was decided by that rule, or by none. `denied` in shadow mode: it passed and would have been refused.
    pub fn decided(&self, rule: Option<RuleIndex>, mode: Mode, denied: bool) {
        let last = self.rules.len().saturating_sub(1);
        let row = rule.map_or(last, |rule| rule.position().min(last.saturating_sub(1)));
        if let Some(cell) = self.rules.get(row).and_then(|row| row.cells.get(column(mode, denied))) {
            let count = cell.get();
            cell.set(Count { since_tick: count.since_tick.saturating_add(1), ..count });
        }
    }

    /// Brings to the proxy what was counted since the last tick. `live`: the streams that are alive.
    pub fn flush(&self, tokens: TokenCounts, live: usize) {
        for row in &self.rules {
            for (cell, column) in row.cells.iter().zip(COLUMNS) {
                let Count { since_tick, counter } = cell.get();
                if since_tick > 0 {
                    let define = || Counter::define(&format!("taskfence.rule_decisions.{}.{column}", row.name));
                    let counter = counter.unwrap_or_else(define);
                    counter.add(since_tick);
                    cell.set(Count { since_tick: 0, counter: Some(counter) });
                }
            }
        }
        self.tell(Told { tokens, live: u64::try_from(live).unwrap_or(u64::MAX) });
    }

    /// Takes this worker's part out of the gauges: its configuration ends.
    pub fn withdraw(&self) {
        let Told { tokens, .. } = self.told.get();
        self.tell(Told { tokens: TokenCounts { entries: 0, bytes: 0, ..tokens }, live: 0 });
    }

    fn tell(&self, now: Told) {
        let told = self.told.replace(now);
        for (counter, before, after) in
            [(self.warm, told.tokens.warm, now.tokens.warm), (self.cold, told.tokens.cold, now.tokens.cold)]
        {
            if after > before {
                counter.add(after.saturating_sub(before));
            }
        }
        self.entries.shift(told.tokens.entries, now.tokens.entries);
        self.bytes.shift(told.tokens.bytes, now.tokens.bytes);
        self.live.shift(told.live, now.live);
    }
}

/// Which of the four counters.
fn column(mode: Mode, denied: bool) -> usize {
    match (mode, denied) {
        (Mode::Enforce, false) => 0,
        (Mode::Enforce, true) => 1,
        (Mode::Shadow, false) => 2,
        (Mode::Shadow, true) => 3,
    }
}

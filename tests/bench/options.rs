//! What the bench is asked to do.

use std::time::Duration;

use clap::Parser;

/// Measures what Taskfence costs, beside its peers, in one run.
#[derive(Clone, Debug, Parser)]
#[command(name = "scripts/bench")]
pub struct Options {
    /// Fewer and shorter rounds: some ten minutes in all, and coarser figures
    #[arg(long)]
    pub quick: bool,

    /// Write docs/performance.md and its charts from this run
    #[arg(long, conflicts_with = "only")]
    pub publish: bool,

    /// Measure these sections only
    #[arg(long, value_delimiter = ',', value_name = "SECTION")]
    pub only: Vec<Section>,

    /// Rounds [default: 9, with --quick 3]
    #[arg(long)]
    pub rounds: Option<usize>,

    /// Seconds that each case runs in each round [default: 2, with --quick 1]
    #[arg(long)]
    pub seconds: Option<u64>,

    /// How many proxies follow the hub in the section `hub`
    #[arg(long, default_value_t = 10_000)]
    pub followers: usize,

    /// Measure these parts of the section `hub` only
    #[arg(long, value_delimiter = ',', value_name = "PART")]
    pub hub: Vec<HubPart>,
}

/// A part of the section `hub`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum HubPart {
    /// Many followers
    Followers,
    /// The same with TLS and client certificates
    Mtls,
    /// How soon a signal is in force on one proxy
    Proxy,
    /// Signals taken in
    Intake,
    /// A fresh proxy before a large state
    CatchUp,
    /// A warm request while following
    Warm,
    /// Two replicas over one PostgreSQL
    Replicas,
    /// Uses that are counted, taken in and reported
    Evidence,
    /// The report about a million grants, on each engine.
    Report,
}

/// A part of the bench that can run by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Section {
    /// Taskfence beside what else guards a service in Envoy
    Peers,
    /// The same request with more rules, and with larger tokens
    Rules,
    /// With more entries in the pushed state
    State,
    /// With more tokens in the cache
    Tokens,
    /// While more streams are open
    Streams,
    /// With more workers
    Workers,
    /// What it takes of memory
    Memory,
    /// How soon a signal acts, and what signals cost
    Propagation,
    /// The hub: how soon a signal is in force on many proxies, and what following costs
    Hub,
    /// A hub with relays and 100,000 followers, in model time
    Tree,
    /// Calls of the host for one request, and the size of the module
    Calls,
}

impl Options {
    /// Whether this section is asked for.
    pub fn wants(&self, section: Section) -> bool {
        self.only.is_empty() || self.only.contains(&section)
    }

    /// Whether this part of the section `hub` is asked for.
    pub fn wants_of_hub(&self, part: HubPart) -> bool {
        self.hub.is_empty() || self.hub.contains(&part)
    }

    /// For the rows that are compared with each other only: a quick run has one round less for them.
    pub fn for_scaling(&self) -> Self {
        let fewer = (self.quick && self.rounds.is_none()).then(|| self.rounds().saturating_sub(1));
        Self { rounds: fewer.or(self.rounds), ..self.clone() }
    }

    /// How many rounds.
    pub fn rounds(&self) -> usize {
        self.rounds.unwrap_or(if self.quick { 3 } else { 9 }).max(1)
    }

    /// How long each case runs in each round.
    pub fn time(&self) -> Duration {
        Duration::from_secs(self.seconds.unwrap_or(if self.quick { 1 } else { 2 }).max(1))
    }
}

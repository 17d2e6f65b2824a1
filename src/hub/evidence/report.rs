//! The report about grants of a feed in a window, as `GET /v1/feeds/NAME/report` answers it and `taskfence report` reads
//! it. `docs/measures.md` defines each figure. Times are in milliseconds since 1970, spans in seconds.

use crate::evidence::model::{GapRow, Losses, Window};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

/// The report.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Report {
    /// The name of the hub.
    pub hub: String,
    /// The feed.
    pub feed: String,
    /// The beginning of the window.
    pub since: u64,
    /// The end of the window.
    pub until: u64,
    /// The beginning of the first day of which the hub keeps evidence, of any feed; absent: it keeps none, or has not looked yet. What was
    /// before is in no figure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kept_since: Option<u64>,
    /// All grants together.
    pub total: Rollup,
    /// By kind of task, the one with the most grants first.
    pub by_kind: Vec<Rollup>,
    /// By client.
    pub by_client: Vec<Rollup>,
    /// By subject.
    pub by_subject: Vec<Rollup>,
    /// How widths, residuals, lifetimes and uses are spread.
    pub spread: Spread,
    /// The grants that stand out, the worst first: see `Query::limit` of the report.
    pub grants: Vec<GrantMeasures>,
    /// Who asks for the same again and again, the worst first.
    pub repeats: Vec<Repeat>,
    /// What may be missing.
    pub gaps: Vec<GapRow>,
    /// What was not kept one by one.
    pub losses: Losses,
    /// The permanent path to compare with, if one was given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comparison: Option<Comparison>,
}

/// The three measures and sharing over several grants.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Rollup {
    /// Of which kind, client or subject; empty of all.
    pub name: String,
    /// How many grants.
    pub grants: u64,
    /// How many of them were never used.
    pub unused: u64,
    /// Permitted requests.
    pub permitted: u64,
    /// Refused requests.
    pub refused: u64,
    /// Permitted requests by break-glass.
    pub break_glass: u64,
    /// Grants with an unbounded width.
    pub unbounded: u64,
    /// Grants with a width that is not known, such as those of a configuration whose rules did not come.
    #[serde(default)]
    pub unknown: u64,
    /// Of the grants with a bounded width: the median share of what was allowed that was used, from 0 to 1.
    pub used_share: Option<f64>,
    /// Cells that bounded grants allowed.
    pub allowed_cells: u64,
    /// Cells of bounded grants that were used.
    pub used_cells: u64,
    /// Grants that are routine repeats.
    pub repeated: u64,
    /// Grants that were used after their task had ended.
    pub with_residual: u64,
    /// The median residual of the grants whose task ended, in seconds.
    pub residual_median: Option<f64>,
    /// The longest residual, in seconds.
    pub residual_longest: Option<f64>,
    /// Attempts after the end.
    pub attempts_after_end: u64,
    /// Grants that more than one workload used.
    pub shared: u64,
    /// The median lifetime by the token, in seconds.
    pub lifetime_median: Option<f64>,
    /// The median time from the first to the last use, in seconds.
    pub in_use_median: Option<f64>,
}

/// Histograms over all grants of the window.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Spread {
    /// Shares of what was allowed that was used: ten bars from 0 to 1, then one for unbounded grants.
    pub used_share: Vec<Bar>,
    /// Residuals in seconds.
    pub residual: Vec<Bar>,
    /// Lifetimes by the token, in seconds.
    pub lifetime: Vec<Bar>,
    /// Time from the first to the last use, in seconds.
    pub in_use: Vec<Bar>,
    /// Grants by the hour or the day, in UTC, in which they were first used in the window: each hour of a window of up to
    /// three days, each day of a longer one, also those without any grant.
    pub over_time: Vec<Bar>,
}

/// One bar.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Bar {
    /// What it is about, to be shown.
    pub label: String,
    /// How many grants.
    pub grants: u64,
}

/// What is known about one grant.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct GrantMeasures {
    /// Its id in the store.
    pub id: String,
    /// Its issuer.
    pub issuer: String,
    /// The id of the token.
    pub token: String,
    /// The user.
    pub subject: String,
    /// The client.
    pub client: Option<String>,
    /// The task.
    pub task: Option<String>,
    /// The kind of task.
    pub kind: String,
    /// `iat`, in milliseconds as all times here.
    pub issued_at: u64,
    /// `exp`, in milliseconds.
    pub expires_at: u64,
    /// When a request was first permitted; 0 if never.
    pub first: u64,
    /// When one was last permitted; 0 if never.
    pub last: u64,
    /// Permitted requests.
    pub permitted: u64,
    /// Refused requests.
    pub refused: u64,
    /// Permitted requests by break-glass.
    pub break_glass: u64,
    /// Its width.
    pub width: Width,
    /// Its residual, if its task ended in the window.
    pub residual: Option<Residual>,
    /// Who used it.
    pub sharing: Sharing,
    /// Whether it is one of a routine: see [`Report::repeats`].
    pub repeated: bool,
}

/// What a grant allowed against what was used.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Width {
    /// What it allowed: rule x action x identifier. At most 100 cells are listed.
    pub allowed: Vec<Cell>,
    /// How many cells it allowed; `None`: unbounded.
    pub allowed_cells: Option<u64>,
    /// How many of them were used.
    pub used_cells: u64,
    /// Why the width is not known, such as a configuration whose rules did not come.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unknown: Option<String>,
    /// Scopes that no use needed.
    pub unused_scopes: Vec<String>,
    /// The narrower grant: scopes that were needed.
    pub narrower_scopes: Vec<String>,
    /// The narrower grant: ready `authorization_details` (RFC 9396) for what was used.
    pub narrower_details: Vec<Value>,
    /// The narrower rules: `rules` of a filter that allow what was used and no more.
    pub narrower_rules: Vec<Value>,
    /// What the proposals cannot express, in words.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

/// One thing that a grant allows.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
pub struct Cell {
    /// The rule.
    pub rule: String,
    /// The action, or the method where the rule asks for no action.
    pub action: String,
    /// The identifier; `None`: any.
    pub identifier: Option<String>,
    /// Whether it was used.
    pub used: bool,
}

/// What went on after the end of a task.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Residual {
    /// When the task ended.
    pub ended_at: u64,
    /// What ended it: the kind of event, or `expired`.
    pub ended_by: String,
    /// From the end to the last permitted use or the end of the last stream, in seconds. 0 if there was none.
    pub seconds: f64,
    /// Permitted requests after the end.
    pub permitted_after: u64,
    /// Attempts after the end that were refused.
    pub attempts_after: u64,
    /// Streams that were ended.
    pub streams_ended: u64,
}

/// Who used a grant.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Sharing {
    /// The distinct URIs in client certificates that were seen.
    pub peers: Vec<String>,
    /// The distinct addresses that were seen.
    pub sources: Vec<String>,
    /// The distinct keys that were seen.
    pub keys: Vec<String>,
    /// Whether more than one workload used it: more than one peer, or, without peers, more than one key.
    pub shared: bool,
}

/// The same subject, kind and shape again and again.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Repeat {
    /// The user.
    pub subject: String,
    /// The client.
    pub client: Option<String>,
    /// The kind of task.
    pub kind: String,
    /// The shape: scopes and details without identifiers.
    pub shape: String,
    /// How many grants.
    pub grants: u64,
    /// The median time between two, in seconds.
    pub every: f64,
    /// How regular: the coefficient of variation of the times between two. 0: like a clock.
    pub irregularity: f64,
    /// Whether it is routine: often and regular enough, as `docs/measures.md` says.
    pub routine: bool,
    /// Whether it is broad: unbounded, or less than half of what was allowed was used in the median.
    pub broad: bool,
}

/// The width of the permanent path beside that of the grants.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Comparison {
    /// Each role of the permanent path.
    pub roles: Vec<RoleWidth>,
}

/// One role.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RoleWidth {
    /// Its name.
    pub name: String,
    /// How many cells it allows for as long as somebody has it; `None`: unbounded.
    pub allowed_cells: Option<u64>,
    /// Why that is not known, if so: `allowed_cells` says nothing then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unknown: Option<String>,
    /// Who has it.
    pub subjects: Vec<String>,
    /// How long it allowed that in the window, in seconds: the whole window for each subject.
    pub seconds: f64,
    /// Grants of these subjects in the window.
    pub grants: u64,
    /// How long these grants allowed something, in seconds: the sum of their lifetimes in the window.
    pub grant_seconds: f64,
    /// The largest number of cells of one of these grants, of those with a known width; `None`: unbounded.
    pub grant_cells: Option<u64>,
    /// Those of these grants with a width that is not known.
    #[serde(default)]
    pub unknown_grants: u64,
}

/// Who held what in a window: `GET /v1/feeds/NAME/alive`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Alive {
    /// The feed.
    pub feed: String,
    /// The beginning.
    pub since: u64,
    /// The end.
    pub until: u64,
    /// The grants that could be used at some moment in it, by the time at which they began.
    pub grants: Vec<AliveGrant>,
    /// Whether there were more.
    pub cut: bool,
}

/// One of them.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct AliveGrant {
    /// The issuer.
    pub issuer: String,
    /// The id of the token.
    pub token: String,
    /// The user.
    pub subject: String,
    /// The client.
    pub client: Option<String>,
    /// The task.
    pub task: Option<String>,
    /// The scopes.
    pub scopes: Vec<String>,
    /// `authorization_details`.
    pub details: Vec<Value>,
    /// From when on it could be used.
    pub from: u64,
    /// Until when: its expiry, or when it was ended.
    pub to: u64,
    /// What ended it: `expired`, or the kind of event.
    pub ended_by: String,
    /// Permitted requests in the window.
    pub permitted: u64,
    /// Whether the hub saw its use, or only heard of its issuance.
    pub seen: bool,
}

impl Report {
    /// The window.
    pub fn window(&self) -> Window {
        Window { since: self.since, until: self.until }
    }

    /// From when on the hub keeps evidence, if the window begins before.
    pub fn begins_late(&self) -> Option<u64> {
        self.kept_since.filter(|kept| *kept > self.since)
    }
}

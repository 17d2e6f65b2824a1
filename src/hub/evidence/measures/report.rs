//! The report: one pass over the events, one over the grants, and one more over the events if some grants were never
//! used.

use crate::evidence::measures::catalog::Catalog;
use crate::evidence::measures::comparison::{Comparing, Role};
use crate::evidence::measures::lifecycle::{Ended, Lifecycle};
use crate::evidence::measures::read_ahead::read_ahead;
use crate::evidence::measures::repeat::{Repeats, Series};
use crate::evidence::measures::rollup::{Measured, Row, Rows};
use crate::evidence::measures::spread::Histograms;
use crate::evidence::measures::unused::Unused;
use crate::evidence::measures::width::{Counted, Widths};
use crate::evidence::measures::{kind, residual, sharing};
use crate::evidence::model::{EventKind, EventRow, GrantId, GrantRow, Selector, Window};
use crate::evidence::report::{GrantMeasures, Report};
use crate::evidence::store::EvidenceStore;
use crate::store::model::StoreError;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashSet};

/// An end so long before the window still counts, in milliseconds: one day. An attempt that comes later than this after
/// the end of its task is seen only if the token has expired.
pub const LOOK_BACK: u64 = 86_400_000;

/// So many grants are listed if nobody says how many.
pub const DEFAULT_LIMIT: usize = 50;

/// At most so many are.
pub const MOST_LISTED: usize = 1_000;

/// Single decisions of one grant that are read to tell which attempts came after the end.
const MOST_RECORDS: usize = 10_000;

/// What is asked for.
#[derive(Debug, Clone, Default)]
pub struct Query {
    /// The name of the hub.
    pub hub: String,
    /// The feed.
    pub feed: String,
    /// The beginning, in milliseconds since 1970.
    pub since: u64,
    /// The end.
    pub until: u64,
    /// How many grants to list.
    pub limit: usize,
    /// The permanent path to compare with.
    pub roles: Option<Vec<Role>>,
}

/// Makes the report. `None`: `go_on`, which is asked from time to time, said no.
pub fn report(
    store: &dyn EvidenceStore,
    query: &Query,
    go_on: &dyn Fn() -> bool,
) -> Result<Option<Report>, StoreError> {
    let window = Window { since: query.since, until: query.until };
    let feed = query.feed.as_str();
    let catalog = Catalog::new(store.configs(feed)?);
    let Some((lifecycle, mut unused)) = events(store, feed, window, LOOK_BACK, go_on)? else { return Ok(None) };
    let mut report = Making::new(&catalog, &lifecycle, window, query);
    let mut goes_on = true;
    read_ahead(|each| store.grants(feed, window, each), &mut |grant: &GrantRow| {
        unused.seen(grant.id);
        // The store has seen the other ones at some other time.
        report.add(grant, grant.first > 0);
        goes_on = go_on();
        goes_on
    })?;
    if goes_on && !unused.is_empty() {
        store.events(feed, window, Some(EventKind::Issued), &mut |event| {
            if let Some(grant) = unused.take(&event) {
                report.add(&grant, true);
            }
            goes_on = go_on();
            goes_on
        })?;
    }
    if !goes_on {
        return Ok(None);
    }
    let (mut report, listed) = report.finish(query);
    for one in listed {
        if !go_on() {
            return Ok(None);
        }
        report.grants.push(one.measure(store, &catalog, query)?);
    }
    report.gaps = store.gaps(feed, window)?;
    report.losses = store.losses(feed, window)?;
    Ok(Some(report))
}

/// Reads the events of the window and of `look_back` milliseconds before it. `None`: told to stop.
pub(crate) fn events(
    store: &dyn EvidenceStore,
    feed: &str,
    window: Window,
    look_back: u64,
    go_on: &dyn Fn() -> bool,
) -> Result<Option<(Lifecycle, Unused)>, StoreError> {
    let (mut lifecycle, mut unused) = (Lifecycle::default(), Unused::default());
    let mut goes_on = true;
    let wide = Window { since: window.since.saturating_sub(look_back), until: window.until };
    read_ahead(|each| store.events(feed, wide, None, each), &mut |event: &EventRow| {
        lifecycle.add(event);
        if event.at >= window.since {
            unused.add(event);
        }
        goes_on = go_on();
        goes_on
    })?;
    Ok(goes_on.then_some((lifecycle, unused)))
}

/// A report while grants are read.
struct Making<'r> {
    lifecycle: &'r Lifecycle,
    window: Window,
    widths: Widths<'r>,
    total: Row,
    kinds: Rows,
    clients: Rows,
    subjects: Rows,
    histograms: Histograms,
    repeats: Repeats,
    comparing: Option<Comparing>,
    worst: BinaryHeap<Reverse<Listed>>,
    limit: usize,
}

/// A grant that may be listed.
struct Listed {
    rank: Rank,
    grant: GrantRow,
    kind: String,
    series: Series,
    ended: Ended,
    repeated: bool,
}

/// What stands out most is greatest: use after the end, sharing, attempts after the end, what was allowed and not used
/// (unbounded more than any number), then the permitted requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Rank {
    after_end: bool,
    shared: bool,
    attempts: bool,
    not_used: u64,
    permitted: u64,
    id: GrantId,
}

impl<'r> Making<'r> {
    fn new(catalog: &'r Catalog, lifecycle: &'r Lifecycle, window: Window, query: &Query) -> Making<'r> {
        let mut widths = Widths::new(catalog);
        let comparing = query.roles.as_ref().map(|roles| Comparing::new(roles, &mut widths, window));
        Making {
            lifecycle,
            window,
            widths,
            total: Row::default(),
            kinds: Rows::default(),
            clients: Rows::default(),
            subjects: Rows::default(),
            histograms: Histograms::new(window),
            repeats: Repeats::default(),
            comparing,
            worst: BinaryHeap::new(),
            limit: query.limit.min(MOST_LISTED),
        }
    }

    /// Adds a grant. `here`: if it was not used in the window, it was never used.
    fn add(&mut self, grant: &GrantRow, here: bool) {
        let counted = self.widths.count(grant);
        let ended = self.lifecycle.end(&grant.info);
        let residual = residual::residual(grant, ended, self.window);
        let mut measured = Measured::new(grant, counted, residual, sharing::is_shared(grant));
        measured.unused &= here;
        let info = &grant.info;
        let kind = kind::kind(info, self.lifecycle);
        let series = Series {
            kind: self.kinds.number(&kind),
            client: self.clients.number(info.client.as_deref().unwrap_or_default()),
            subject: self.subjects.number(&info.subject),
            shape: self.repeats.shape(&kind::shape(info)),
            issuer: self.repeats.issuer(&info.issuer),
        };
        self.total.add(&measured);
        self.kinds.row(series.kind).add(&measured);
        self.clients.row(series.client).add(&measured);
        self.subjects.row(series.subject).add(&measured);
        self.histograms.add(&measured);
        self.repeats.add(series, info.issued_at, counted);
        if let Some(comparing) = &mut self.comparing {
            comparing.add(grant, counted, ended.at);
        }
        let rank = Rank::new(grant.id, &measured);
        let is_worse = self.worst.peek().is_none_or(|Reverse(least)| rank > least.rank);
        if self.limit > 0 && (self.worst.len() < self.limit || is_worse) {
            if self.worst.len() >= self.limit {
                self.worst.pop();
            }
            let (grant, kind) = (grant.clone(), kind.into_owned());
            self.worst.push(Reverse(Listed { rank, grant, kind, series, ended, repeated: false }));
        }
    }

    /// The report without the list of grants, and what is to be listed, the worst first.
    fn finish(self, query: &Query) -> (Report, Vec<Listed>) {
        let Making { mut total, mut kinds, mut clients, mut subjects, repeats, worst, .. } = self;
        let mut routine = Vec::new();
        let found = repeats.finish((&kinds, &clients, &subjects), |series, grants, _| routine.push((series, grants)));
        for (series, grants) in &routine {
            total.add_repeated(*grants);
            kinds.row(series.kind).add_repeated(*grants);
            clients.row(series.client).add_repeated(*grants);
            subjects.row(series.subject).add_repeated(*grants);
        }
        let routine: HashSet<Series> = routine.into_iter().map(|(series, _)| series).collect();
        // Ascending by `Reverse`: the worst first.
        let listed = worst.into_sorted_vec().into_iter().map(|Reverse(one)| {
            let repeated = routine.contains(&one.series);
            Listed { repeated, ..one }
        });
        let listed = listed.collect();
        let report = Report {
            hub: query.hub.clone(),
            feed: query.feed.clone(),
            since: query.since,
            until: query.until,
            total: total.finish(String::new()),
            by_kind: kinds.finish(),
            by_client: clients.finish(),
            by_subject: subjects.finish(),
            spread: self.histograms.finish(),
            repeats: found.into_iter().map(|one| one.repeat).collect(),
            comparison: self.comparing.map(Comparing::finish),
            ..Report::default()
        };
        (report, listed)
    }
}

impl Listed {
    /// All about the grant.
    fn measure(self, store: &dyn EvidenceStore, catalog: &Catalog, query: &Query) -> Result<GrantMeasures, StoreError> {
        let Listed { grant, kind, ended, repeated, .. } = self;
        let window = Window { since: query.since, until: query.until };
        let mut residual = residual::residual(&grant, ended, window);
        if let Some(residual) = residual.as_mut().filter(|residual| residual::is_uncertain(residual, &grant)) {
            let token = Selector::Token(grant.info.token.clone());
            let found = store.find(&query.feed, &token, Some(&grant.info.issuer), window, MOST_RECORDS)?;
            if !found.cut {
                residual::refine(residual, &grant, &found.records);
            }
        }
        let measured = Measured::new(&grant, Counted::Unknown, None, false);
        let info = &grant.info;
        Ok(GrantMeasures {
            id: grant.id.to_string(),
            issuer: info.issuer.clone(),
            token: info.token.clone(),
            subject: info.subject.clone(),
            client: info.client.clone(),
            task: info.task.clone(),
            kind,
            issued_at: info.issued_at.saturating_mul(1_000),
            expires_at: info.expires_at.saturating_mul(1_000),
            first: measured.used.map_or(0, |(first, _)| first),
            last: measured.used.map_or(0, |(_, last)| last),
            permitted: measured.permitted,
            refused: measured.refused,
            break_glass: measured.break_glass,
            width: Widths::new(catalog).width(&grant),
            residual,
            sharing: sharing::sharing(&grant),
            repeated,
        })
    }
}

impl Rank {
    fn new(id: GrantId, measured: &Measured) -> Rank {
        let residual = measured.residual.as_ref();
        Rank {
            after_end: residual.is_some_and(|residual| residual.permitted_after > 0),
            shared: measured.shared,
            attempts: residual.is_some_and(|residual| residual.attempts_after > 0),
            not_used: match measured.counted {
                Counted::Bounded { allowed, used } => allowed.saturating_sub(used),
                Counted::Unbounded { .. } => u64::MAX,
                Counted::Unknown => 0,
            },
            permitted: measured.permitted,
            id,
        }
    }
}

impl PartialEq for Listed {
    fn eq(&self, other: &Listed) -> bool {
        self.rank == other.rank
    }
}

impl Eq for Listed {}

impl PartialOrd for Listed {
    fn partial_cmp(&self, other: &Listed) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Listed {
    fn cmp(&self, other: &Listed) -> std::cmp::Ordering {
        self.rank.cmp(&other.rank)
    }
}

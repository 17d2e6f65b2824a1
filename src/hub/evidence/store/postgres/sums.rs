//! What several batches have counted, added up, in the order of the keys of the tables.

use crate::evidence::model::{BatchWrite, GrantId};
use crate::evidence::store::day::HOUR;
use crate::evidence::store::postgres::text::{Key, key};
use crate::evidence::store::value::int;
use std::collections::BTreeMap;
use taskfence_core::uses::batch::{GrantInfo, GrantUses, Permitted, Refused, RuleRef, Seen, SeenKind};

/// Feed, grant, what, day.
type Of<'w, K> = (&'w str, GrantId, K, i32);

/// The sums of batches.
#[derive(Default)]
pub(super) struct Sums<'w> {
    pub(super) days: BTreeMap<i32, Span>,
    pub(super) grants: BTreeMap<Of<'w, ()>, &'w GrantInfo>,
    pub(super) uses: BTreeMap<Of<'w, Key>, (Use<'w>, Sum)>,
    pub(super) others: BTreeMap<Of<'w, i64>, Sum>,
    pub(super) refusals: BTreeMap<Of<'w, Key>, (Refusal<'w>, Sum)>,
    pub(super) sightings: BTreeMap<Of<'w, Key>, (&'w Seen, Sum)>,
}

/// How often, from when to when.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sum {
    pub(super) count: i64,
    pub(super) break_glass: i64,
    pub(super) first: i64,
    pub(super) last: i64,
}

/// What was permitted.
pub(super) struct Use<'w> {
    pub(super) node: &'w str,
    pub(super) rule: &'w RuleRef,
    pub(super) of: &'w Permitted,
}

/// What was refused.
pub(super) struct Refusal<'w> {
    pub(super) node: &'w str,
    pub(super) rule: &'w RuleRef,
    pub(super) of: &'w Refused,
}

/// What queries must know of a day to look at it, see [`crate::evidence::store::postgres::schema`].
#[derive(Debug, Clone, Copy)]
pub(super) struct Span {
    pub(super) since: i64,
    pub(super) issued_from: i64,
    pub(super) issued_to: i64,
}

/// A rule that a batch does not name.
static NONE: RuleRef = RuleRef { config: String::new(), name: String::new() };

impl<'w> Sums<'w> {
    /// The sums of `batches`, each with its day.
    pub(super) fn of(batches: &[(&'w BatchWrite, i32)]) -> Sums<'w> {
        let mut sums = Sums::default();
        for (batch, day) in batches {
            for uses in &batch.batch.grants {
                sums.add(batch, uses, *day);
            }
            let times = batch.batch.records.iter().filter_map(|record| record.get("time_ms")?.as_u64());
            let since = times.fold(batch.batch.since.min(batch.batch.until), u64::min);
            sums.span(*day).see(since);
        }
        sums
    }

    fn add(&mut self, batch: &'w BatchWrite, uses: &'w GrantUses, day: i32) {
        let (feed, id) = (batch.feed.as_str(), GrantId::new(&uses.grant.issuer, &uses.grant.token));
        self.grants.entry((feed, id, (), day)).or_insert(&uses.grant);
        let rule = |at: Option<u32>| {
            let at = at.and_then(|at| usize::try_from(at).ok());
            at.and_then(|at| batch.batch.rules.get(at)).unwrap_or(&NONE)
        };
        let node = batch.node.as_str();
        let mut whole = None::<Sum>;
        for of in &uses.permitted {
            let (rule, sum) = (rule(Some(of.rule)), Sum::of(of.count, of.break_glass, of.first, of.last));
            let mut parts = vec![node, &rule.config, &rule.name, &of.method];
            parts.extend(of.captures.iter().map(String::as_str));
            let key = hourly(of.first, &parts);
            let place = self.uses.entry((feed, id, key, day)).or_insert_with(|| (Use { node, rule, of }, Sum::NONE));
            place.1.add(sum);
            whole.get_or_insert(sum).widen(sum);
        }
        for of in &uses.refused {
            let (rule, sum) = (rule(of.rule), Sum::of(of.count, 0, of.first, of.last));
            let (shadow, ended) = (if of.shadow { "s" } else { "" }, if of.ended { "e" } else { "" });
            let key = hourly(of.first, &[node, &rule.config, &rule.name, &of.reason, shadow, ended]);
            let place =
                self.refusals.entry((feed, id, key, day)).or_insert_with(|| (Refusal { node, rule, of }, Sum::NONE));
            place.1.add(sum);
            whole.get_or_insert(sum).widen(sum);
        }
        for of in &uses.seen {
            let kind = kind(of.kind);
            let place = self.sightings.entry((feed, id, hourly(of.first, &[kind, &of.value]), day));
            place.or_insert((of, Sum::NONE)).1.add(Sum::of(of.count, 0, of.first, of.last));
            self.span(day).see(of.first);
        }
        if uses.other > 0 {
            // It has no time of its own.
            let span = Sum::of(0, 0, batch.batch.since.min(batch.batch.until), batch.batch.until);
            let sum = Sum { count: int(uses.other), break_glass: 0, ..whole.unwrap_or(span) };
            let hour = sum.first.checked_div(int(HOUR)).unwrap_or_default();
            self.others.entry((feed, id, hour, day)).or_insert(Sum::NONE).add(sum);
        }
        let span = self.span(day);
        span.see(whole.map_or(u64::MAX, |whole| u64::try_from(whole.first).unwrap_or(0)));
        let issued = int(uses.grant.issued_at.saturating_mul(1_000));
        span.issued_from = span.issued_from.min(issued);
        span.issued_to = span.issued_to.max(issued);
    }

    fn span(&mut self, day: i32) -> &mut Span {
        self.days.entry(day).or_insert(Span { since: i64::MAX, issued_from: i64::MAX, issued_to: 0 })
    }
}

impl Span {
    fn see(&mut self, at: u64) {
        self.since = self.since.min(int(at));
    }

    /// The same with bounds at full hours, so that they seldom change.
    pub(super) fn rounded(self) -> Span {
        let hour = int(HOUR);
        let down = |at: i64| at.saturating_sub(at.checked_rem(hour).unwrap_or_default());
        Span {
            since: down(self.since),
            issued_from: down(self.issued_from),
            issued_to: down(self.issued_to).saturating_add(hour),
        }
    }
}

impl Sum {
    const NONE: Sum = Sum { count: 0, break_glass: 0, first: i64::MAX, last: 0 };

    fn of(count: u64, break_glass: u64, first: u64, last: u64) -> Sum {
        Sum { count: int(count), break_glass: int(break_glass), first: int(first), last: int(last) }
    }

    fn add(&mut self, other: Sum) {
        self.count = self.count.saturating_add(other.count);
        self.break_glass = self.break_glass.saturating_add(other.break_glass);
        self.widen(other);
    }

    fn widen(&mut self, other: Sum) {
        self.first = self.first.min(other.first);
        self.last = self.last.max(other.last);
    }
}

/// The name of a kind, as the column has it.
pub(super) fn kind(kind: SeenKind) -> &'static str {
    match kind {
        SeenKind::Peer => "peer",
        SeenKind::Source => "source",
        SeenKind::Key => "key",
    }
}

/// What is added up: these texts, in the hour of `first`.
fn hourly(first: u64, parts: &[&str]) -> Key {
    let hour = (first / HOUR).to_string();
    let mut all = vec![hour.as_str()];
    all.extend_from_slice(parts);
    key(&all)
}

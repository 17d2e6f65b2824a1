//! A store of evidence in memory, for tests.

use crate::evidence::model::{
    BatchWrite, EventKind, EventRow, Found, GapRow, GrantId, GrantRow, Losses, NodeRow, PermittedRow, RecordRow,
    RefusedRow, SeenRow, Selector, Usage, Window, Write, Written,
};
use crate::evidence::store::EvidenceStore;
use crate::store::model::StoreError;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use taskfence_core::uses::batch::RuleRef;
use taskfence_core::uses::outline::Outline;

/// A store that forgets everything when it is dropped.
#[derive(Debug, Default)]
pub struct MemoryStore(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    known: HashSet<String>,
    batches: Vec<BatchWrite>,
    events: Vec<EventRow>,
    gaps: Vec<(String, GapRow)>,
    configs: Vec<(String, Outline)>,
    values: HashMap<String, String>,
    transactions: u64,
    fails: Option<StoreError>,
    refused: Option<String>,
}

impl MemoryStore {
    /// From now on it fails with `error`; `None`: no more.
    pub fn fail(&self, error: Option<StoreError>) {
        self.state().fails = error;
    }

    /// From now on a transaction fails that has a batch of this node.
    pub fn refuse(&self, node: &str) {
        self.state().refused = Some(node.to_owned());
    }

    /// The batches, in the order in which they came.
    pub fn batches(&self) -> Vec<BatchWrite> {
        self.state().batches.clone()
    }

    /// The events of a feed, in the order in which they came.
    pub fn all_events(&self, feed: &str) -> Vec<EventRow> {
        self.state().events.iter().filter(|event| event.feed == feed).cloned().collect()
    }

    /// How many transactions were made.
    pub fn transactions(&self) -> u64 {
        self.state().transactions
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl EvidenceStore for MemoryStore {
    fn write(&self, writes: &[Write]) -> Result<Vec<Written>, StoreError> {
        let mut state = self.state();
        if let Some(error) = &state.fails {
            return Err(error.clone());
        }
        let is_refused =
            |write: &Write| matches!((write, &state.refused), (Write::Batch(one), Some(node)) if one.node == *node);
        if writes.iter().any(is_refused) {
            return Err(StoreError::Failed("it refuses this node".to_owned()));
        }
        state.transactions = state.transactions.saturating_add(1);
        Ok(writes.iter().map(|write| state.put(write)).collect())
    }

    fn grants(&self, feed: &str, window: Window, each: &mut dyn FnMut(GrantRow) -> bool) -> Result<(), StoreError> {
        let rows = self.state().grants(feed, window);
        rows.into_values().all(each);
        Ok(())
    }

    fn events(
        &self,
        feed: &str,
        window: Window,
        kind: Option<EventKind>,
        each: &mut dyn FnMut(EventRow) -> bool,
    ) -> Result<(), StoreError> {
        let mut events = self.all_events(feed);
        events.retain(|event| holds(window, event.at) && (kind.is_none() || event.kind == kind));
        events.sort_by_key(|event| event.at);
        events.into_iter().all(each);
        Ok(())
    }

    fn find(
        &self,
        feed: &str,
        selector: &Selector,
        issuer: Option<&str>,
        window: Window,
        limit: usize,
    ) -> Result<Found, StoreError> {
        let mut found = Found::default();
        let of_issuer = |name: &str| issuer.is_none_or(|issuer| issuer == name);
        self.grants(feed, window, &mut |row| {
            let info = &row.info;
            let is_it = match selector {
                Selector::Task(name) => info.task.as_ref() == Some(name),
                Selector::Session(name) => info.session.as_ref() == Some(name),
                Selector::Subject(name) => info.subject == *name,
                Selector::Client(name) => info.client.as_ref() == Some(name),
                Selector::Token(name) => info.token == *name || info.fingerprint == *name,
            };
            if is_it && of_issuer(&info.issuer) {
                found.grants.push(row);
            }
            true
        })?;
        self.events(feed, window, None, &mut |event| {
            let (name, own) = match selector {
                Selector::Task(name) => (name, &event.task),
                Selector::Session(name) => (name, &event.session),
                Selector::Subject(name) => (name, &event.subject),
                Selector::Client(name) => (name, &event.client),
                Selector::Token(name) => (name, &event.token),
            };
            if own.as_ref() == Some(name) && of_issuer(&event.issuer) {
                found.events.push(event);
            }
            true
        })?;
        found.records = self.records(feed, 0, window, usize::MAX)?;
        found.records.retain(|record| found.grants.iter().any(|grant| grant.id == record.grant));
        found.cut = found.records.len() > limit;
        found.records.truncate(limit);
        found.gaps = self.gaps(feed, window)?;
        let state = self.state();
        let of_feed = state.batches.iter().filter(|write| write.feed == feed && holds(window, write.batch.until));
        found.nodes = NodeRow::of(of_feed.map(|write| (write.node.clone(), write.principal.clone())).collect());
        Ok(found)
    }

    fn records(&self, feed: &str, after: u64, window: Window, limit: usize) -> Result<Vec<RecordRow>, StoreError> {
        let state = self.state();
        let of_feed = state.batches.iter().filter(|write| write.feed == feed);
        let records = of_feed.flat_map(|write| write.batch.records.iter().map(move |record| (write, record)));
        let rows = (1..).zip(records).map(|(position, (write, record))| {
            let text = |name: &str| record.get(name).and_then(|value| value.as_str()).unwrap_or_default();
            let at = record.get("time_ms").and_then(|value| value.as_u64()).unwrap_or(write.batch.until);
            let grant = GrantId::new(text("issuer"), text("token"));
            let (principal, node) = (write.principal.clone(), write.node.clone());
            RecordRow { position, principal, node, at, grant, record: record.clone() }
        });
        Ok(rows.filter(|row| row.position > after && holds(window, row.at)).take(limit).collect())
    }

    fn gaps(&self, feed: &str, window: Window) -> Result<Vec<GapRow>, StoreError> {
        let state = self.state();
        let gaps = state.gaps.iter().filter(|(own, _)| own == feed).map(|(_, gap)| gap.clone());
        Ok(gaps.filter(|gap| gap.since < window.until && gap.until >= window.since).collect())
    }

    fn losses(&self, feed: &str, window: Window) -> Result<Losses, StoreError> {
        let mut losses = Losses::default();
        for write in self.state().batches.iter().filter(|write| write.feed == feed) {
            let batch = &write.batch;
            if holds(window, batch.until) {
                losses.other_permitted = losses.other_permitted.saturating_add(batch.other_permitted);
                losses.other_refused = losses.other_refused.saturating_add(batch.other_refused);
                losses.records_dropped = losses.records_dropped.saturating_add(batch.records_dropped);
            }
        }
        Ok(losses)
    }

    fn configs(&self, feed: &str) -> Result<Vec<Outline>, StoreError> {
        let state = self.state();
        Ok(state.configs.iter().filter(|(own, _)| own == feed).map(|(_, outline)| outline.clone()).collect())
    }

    fn get(&self, name: &str) -> Result<Option<String>, StoreError> {
        let state = self.state();
        match &state.fails {
            Some(error) => Err(error.clone()),
            None => Ok(state.values.get(name).cloned()),
        }
    }

    fn set(&self, name: &str, value: &str) -> Result<(), StoreError> {
        let mut state = self.state();
        if let Some(error) = &state.fails {
            return Err(error.clone());
        }
        state.values.insert(name.to_owned(), value.to_owned());
        Ok(())
    }

    fn prune(&self, _: u64) -> Result<u64, StoreError> {
        Ok(0)
    }

    fn usage(&self) -> Result<Usage, StoreError> {
        let grants = self.state().batches.iter().map(|write| write.batch.grants.len()).sum::<usize>();
        Ok(Usage { bytes: 0, first_day: 0, grants: u64::try_from(grants).unwrap_or(u64::MAX) })
    }
}

impl State {
    fn put(&mut self, write: &Write) -> Written {
        let name = match write {
            Write::Batch(one) => format!("batch {} {} {} {}", one.feed, one.principal, one.batch.vm, one.batch.number),
            Write::Event(one) => format!("event {} {} {}", one.feed, one.source, one.id),
            Write::Gap { feed, gap, .. } => format!("gap {feed} {}", gap.vm),
            Write::Config { feed, outline } => format!("config {feed} {}", outline.config),
        };
        if !self.known.insert(name) {
            return Written::Repeated;
        }
        match write {
            Write::Batch(one) => self.batches.push((**one).clone()),
            Write::Event(one) => self.events.push((**one).clone()),
            Write::Gap { feed, node, gap } => {
                let row = GapRow { node: node.clone(), vm: gap.vm.clone(), since: gap.since, until: gap.until };
                self.gaps.push((feed.clone(), row));
            }
            Write::Config { feed, outline } => self.configs.push((feed.clone(), outline.clone())),
        }
        Written::Stored
    }

    /// The grants of the batches that end in the window, each batch as one row of each use.
    fn grants(&self, feed: &str, window: Window) -> BTreeMap<GrantId, GrantRow> {
        let mut rows = BTreeMap::<GrantId, GrantRow>::new();
        for write in self.batches.iter().filter(|write| write.feed == feed && holds(window, write.batch.until)) {
            let rule = |at: u32| {
                let at = usize::try_from(at).unwrap_or(usize::MAX);
                write.batch.rules.get(at).cloned().unwrap_or_default()
            };
            let node = &write.node;
            for uses in &write.batch.grants {
                let id = GrantId::new(&uses.grant.issuer, &uses.grant.token);
                let row = rows.entry(id).or_insert_with(|| GrantRow { id, first: u64::MAX, ..GrantRow::default() });
                row.info = uses.grant.clone();
                row.other = row.other.saturating_add(uses.other);
                for one in &uses.permitted {
                    let RuleRef { config, name } = rule(one.rule);
                    let (method, captures) = (one.method.clone(), one.captures.clone());
                    let (count, break_glass, first, last) = (one.count, one.break_glass, one.first, one.last);
                    (row.first, row.last) = (row.first.min(first), row.last.max(last));
                    let (node, rule) = (node.clone(), name);
                    row.permitted.push(PermittedRow {
                        node,
                        config,
                        rule,
                        method,
                        captures,
                        count,
                        break_glass,
                        first,
                        last,
                    });
                }
                for one in &uses.refused {
                    let RuleRef { config, name } = one.rule.map(rule).unwrap_or_default();
                    let (node, rule, reason) = (node.clone(), name, one.reason.clone());
                    let (shadow, ended, count, first, last) = (one.shadow, one.ended, one.count, one.first, one.last);
                    (row.first, row.last) = (row.first.min(first), row.last.max(last));
                    row.refused.push(RefusedRow { node, config, rule, reason, shadow, ended, count, first, last });
                }
                row.seen.extend(uses.seen.iter().map(|one| SeenRow {
                    kind: one.kind,
                    value: one.value.clone(),
                    count: one.count,
                    first: one.first,
                    last: one.last,
                }));
            }
        }
        rows
    }
}

fn holds(window: Window, at: u64) -> bool {
    (window.since..window.until).contains(&at)
}

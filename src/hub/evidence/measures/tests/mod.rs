//! The measures over a store in memory.

mod ends;
mod example;
mod large;
mod narrower;
mod untold;
mod windows;

use crate::evidence::measures::report::{Query, report};
use crate::evidence::model::{BatchWrite, EventKind, EventRow, Write, Written};
use crate::evidence::report::{GrantMeasures, Report};
use crate::evidence::store::EvidenceStore;
use crate::evidence::testing::MemoryStore;
use serde_json::{Value, json};
use taskfence_core::uses::batch::{Batch, GrantInfo, GrantUses, Permitted, Refused, RuleRef, Seen, SeenKind};
use taskfence_core::uses::outline::{DetailOutline, Outline, RuleOutline};

/// The feed of all tests.
pub(super) const FEED: &str = "main";

/// 2026-11-28 12:00:00 UTC, in milliseconds.
pub(super) const NOON: u64 = 1_795_867_200_000;

/// The hash of the configuration of all tests.
pub(super) const CONFIG: &str = "00000000000000aa";

pub(super) const MINUTE: u64 = 60_000;
pub(super) const HOUR: u64 = 60 * MINUTE;

/// Read and refund orders that the grant names, and a list of all orders.
pub(super) fn rules() -> Vec<RuleOutline> {
    let detail = |action: &str, identifier: &str| {
        Some(DetailOutline {
            kind: "order".to_owned(),
            action: Some(action.to_owned()),
            identifier: Some(identifier.to_owned()),
            ..DetailOutline::default()
        })
    };
    let rule = |name: &str, method: &str, path: &str, scope: &str| RuleOutline {
        name: name.to_owned(),
        effect: "require".to_owned(),
        methods: vec![method.to_owned()],
        path: Some(path.to_owned()),
        captures: path.contains('{').then(|| "order".to_owned()).into_iter().collect(),
        scopes: vec![scope.to_owned()],
        ..RuleOutline::default()
    };
    vec![
        RuleOutline { detail: detail("read", "{order}"), ..rule("read", "GET", "/orders/{order}", "orders") },
        RuleOutline {
            detail: detail("refund", "{order}"),
            ..rule("refund", "POST", "/orders/{order}/refund", "orders")
        },
        RuleOutline { detail: detail("list", "*"), ..rule("list", "GET", "/orders", "orders") },
        rule("health", "GET", "/health", "ops"),
    ]
}

pub(super) fn store(rules: Vec<RuleOutline>) -> MemoryStore {
    let store = MemoryStore::default();
    let outline = Outline { config: CONFIG.to_owned(), rules };
    write(&store, Write::Config { feed: FEED.to_owned(), outline });
    store
}

pub(super) fn write(store: &MemoryStore, one: Write) {
    assert_eq!(store.write(&[one]).unwrap(), [Written::Stored]);
}

/// A grant of ten minutes.
pub(super) fn grant(token: &str, issued_at: u64, scopes: &[&str], details: Value) -> GrantInfo {
    GrantInfo {
        issuer: "https://jit.example".to_owned(),
        token: token.to_owned(),
        fingerprint: format!("f-{token}"),
        subject: "alice".to_owned(),
        client: Some("agent".to_owned()),
        task: Some(format!("task-{token}")),
        scopes: scopes.iter().map(|&scope| scope.to_owned()).collect(),
        details: details.as_array().cloned().unwrap_or_default(),
        issued_at: issued_at / 1_000,
        expires_at: issued_at / 1_000 + 600,
        ..GrantInfo::default()
    }
}

/// An order with actions.
pub(super) fn order(actions: &[&str], identifier: &str) -> Value {
    json!({"type": "order", "actions": actions, "identifier": identifier})
}

pub(super) fn permitted(rule: u32, method: &str, order: &str, count: u64, (first, last): (u64, u64)) -> Permitted {
    let captures = if order.is_empty() { Vec::new() } else { vec![order.to_owned()] };
    Permitted { rule, method: method.to_owned(), captures, count, break_glass: 0, first, last }
}

pub(super) fn refused(reason: &str, count: u64, (first, last): (u64, u64)) -> Refused {
    Refused { rule: Some(0), reason: reason.to_owned(), count, first, last, ..Refused::default() }
}

pub(super) fn seen(kind: SeenKind, value: &str, at: u64) -> Seen {
    Seen { kind, value: value.to_owned(), count: 1, first: at, last: at }
}

/// Stores uses as one batch, which is cut at `until`.
pub(super) fn batch(store: &MemoryStore, number: u64, until: u64, grants: Vec<GrantUses>, records: Vec<Value>) {
    let rule = |rule: RuleOutline| RuleRef { config: CONFIG.to_owned(), name: rule.name };
    let outlines = store.configs(FEED).unwrap();
    let rules = outlines.into_iter().flat_map(|outline| outline.rules).map(rule).collect();
    let batch = Batch { vm: "vm".to_owned(), number, since: until, until, rules, grants, records, ..Batch::default() };
    let (feed, node) = (FEED.to_owned(), "node".to_owned());
    write(
        store,
        Write::Batch(Box::new(BatchWrite {
            feed,
            principal: "mesh".to_owned(),
            proxy: "proxy".to_owned(),
            node,
            at: until,
            batch,
        })),
    );
}

/// An event about the grant, by its token and its task.
pub(super) fn event(kind: EventKind, at: u64, grant: &GrantInfo) -> EventRow {
    EventRow {
        feed: FEED.to_owned(),
        source: "jit".to_owned(),
        id: format!("{kind:?}-{}-{at}", grant.token),
        kind: Some(kind),
        at,
        heard_at: at,
        issuer: grant.issuer.clone(),
        task: grant.task.clone(),
        subject: Some(grant.subject.clone()),
        client: grant.client.clone(),
        token: Some(grant.token.clone()),
        ..EventRow::default()
    }
}

/// The report about the hour that ends at `until`.
pub(super) fn report_of(store: &MemoryStore, since: u64, until: u64) -> Report {
    let query = Query { hub: "hub".to_owned(), feed: FEED.to_owned(), since, until, limit: 100, roles: None };
    report(store, &query, &|| true).unwrap().unwrap()
}

pub(super) fn of<'r>(report: &'r Report, token: &str) -> &'r GrantMeasures {
    report.grants.iter().find(|grant| grant.token == token).unwrap()
}

//! Evidence and stores of it for tests.

use crate::config::hub::Postgres;
use crate::evidence::model::{
    BatchWrite, EventKind, EventRow, GrantId, GrantRow, RecordRow, Selector, Window, Write, Written,
};
use crate::evidence::store::EvidenceStore;
use crate::evidence::store::day::DAY;
use crate::evidence::store::kept::Kept;
use crate::evidence::store::postgres::PostgresEvidence;
use crate::evidence::store::sqlite::SqliteEvidence;
use crate::store::testing::server;
use serde_json::{Value, json};
use std::sync::Arc;
use taskfence_core::uses::batch::{Batch, Gap, GrantInfo, GrantUses, Permitted, Refused, RuleRef, Seen, SeenKind};
use tempfile::TempDir;

/// The feed of these tests.
pub const FEED: &str = "main";

/// The issuer of all grants.
pub const ISSUER: &str = "https://jit.example";

/// Midnight of a day: 2024-10-04.
pub const MIDNIGHT: u64 = 20_000 * DAY;

/// All of time.
pub const ALWAYS: Window = Window { since: 0, until: 40_000 * DAY };

/// Where a store is, of any engine.
pub struct Home {
    /// The folder of the hub.
    pub folder: TempDir,
    /// The database, with its URL; `None`: SQLite in the folder.
    pub postgres: Option<(Postgres, String)>,
    /// How much is kept.
    pub kept: Kept,
}

impl Home {
    /// A store in files.
    pub fn sqlite() -> Home {
        Home { folder: tempfile::tempdir().unwrap(), postgres: None, kept: Kept { days: 90, bytes: u64::MAX } }
    }

    /// A store in an empty database; `None`: PostgreSQL is not installed.
    pub fn postgres(test: &str) -> Option<Home> {
        Some(Home::at(&server::database(test)?))
    }

    /// A store in the database of the URL.
    pub fn at(url: &str) -> Home {
        let postgres = Postgres { url: url.parse().unwrap(), password_file: None, ca: None, tls: false };
        Home { postgres: Some((postgres, url.to_owned())), ..Home::sqlite() }
    }

    /// Runs SQL in its database.
    pub fn run(&self, sql: &str) -> String {
        server::run(&self.postgres.as_ref().unwrap().1, sql)
    }

    /// Opens it, or creates it.
    pub fn open(&self) -> Arc<dyn EvidenceStore> {
        match &self.postgres {
            None => Arc::new(SqliteEvidence::open(&self.folder.path().join("evidence"), self.kept).unwrap()),
            Some((postgres, _)) => Arc::new(PostgresEvidence::open(postgres, self.kept).unwrap()),
        }
    }
}

/// A batch of one VM on the proxy `node`, cut at `until`.
pub fn batch(node: &str, vm: &str, number: u64, until: u64, grants: Vec<GrantUses>) -> BatchWrite {
    let rules = ["read", "write"].map(|name| RuleRef { config: "c0ffee".to_owned(), name: name.to_owned() });
    let since = grants.iter().flat_map(|uses| uses.permitted.iter().map(|p| p.first)).min().unwrap_or(until);
    let batch = Batch {
        vm: vm.to_owned(),
        number,
        since: since.min(until),
        until,
        rules: rules.into(),
        grants,
        ..Batch::default()
    };
    let (feed, proxy, node) = (FEED.to_owned(), format!("follower-of-{node}"), node.to_owned());
    BatchWrite { feed, principal: "mesh".to_owned(), proxy, node, at: until + 50, batch }
}

/// Writes it; it must be new.
pub fn add(store: &dyn EvidenceStore, batch: BatchWrite) {
    assert_eq!(write(store, Write::Batch(Box::new(batch))), Written::Stored);
}

/// Writes one thing.
pub fn write(store: &dyn EvidenceStore, write: Write) -> Written {
    store.write(&[write]).unwrap().remove(0)
}

/// A grant, issued an hour before [`MIDNIGHT`] for two hours.
pub fn grant(token: &str) -> GrantInfo {
    GrantInfo {
        issuer: ISSUER.to_owned(),
        token: token.to_owned(),
        fingerprint: GrantId::new("fingerprint", token).to_string(),
        subject: "ann".to_owned(),
        client: Some("agent".to_owned()),
        task: Some(format!("task-of-{token}")),
        session: Some(format!("session-of-{token}")),
        actors: vec!["agent-7".to_owned(), "orchestrator".to_owned()],
        scopes: vec!["orders.read".to_owned(), "orders.refund".to_owned()],
        details: vec![json!({"type": "order", "actions": ["refund"], "identifier": "1881"})],
        issued_at: MIDNIGHT / 1_000 - 3_600,
        expires_at: MIDNIGHT / 1_000 + 3_600,
        cut: false,
        masked: Vec::new(),
    }
}

/// The uses of a grant: `count` permitted requests by the rule `read`, from `first` to `last`.
pub fn uses(info: GrantInfo, count: u64, first: u64, last: u64) -> GrantUses {
    GrantUses { grant: info, permitted: vec![permitted(0, &["1881"], count, first, last)], ..GrantUses::default() }
}

/// Requests that were permitted.
pub fn permitted(rule: u32, captures: &[&str], count: u64, first: u64, last: u64) -> Permitted {
    let captures = captures.iter().map(|&capture| capture.to_owned()).collect();
    Permitted { rule, method: "GET".to_owned(), captures, count, break_glass: 0, first, last }
}

/// Requests that were refused.
pub fn refused(rule: Option<u32>, reason: &str, count: u64, first: u64, last: u64) -> Refused {
    Refused { rule, reason: reason.to_owned(), shadow: false, ended: false, count, first, last }
}

/// From where a grant was used.
pub fn seen(kind: SeenKind, value: &str, count: u64, first: u64, last: u64) -> Seen {
    Seen { kind, value: value.to_owned(), count, first, last }
}

/// A single decision about the grant `token`.
pub fn record(token: &str, at: u64) -> Value {
    json!({"schema": "taskfence.decision/1", "time_ms": at, "verdict": "denied", "issuer": ISSUER, "token": token})
}

/// An event about a task.
pub fn event(id: &str, kind: EventKind, task: &str, at: u64) -> EventRow {
    EventRow {
        feed: FEED.to_owned(),
        source: "jit".to_owned(),
        id: id.to_owned(),
        kind: Some(kind),
        at,
        heard_at: at + 20,
        issuer: ISSUER.to_owned(),
        task: Some(task.to_owned()),
        ..EventRow::default()
    }
}

/// The write of an event.
pub fn of_event(event: EventRow) -> Write {
    Write::Event(Box::new(event))
}

/// The write of a gap.
pub fn of_gap(node: &str, vm: &str, since: u64, until: u64) -> Write {
    let gap = Gap { vm: vm.to_owned(), since, until };
    Write::Gap { feed: FEED.to_owned(), node: node.to_owned(), gap }
}

/// From `since` on, before `until`.
pub fn window(since: u64, until: u64) -> Window {
    Window { since, until }
}

/// All grants of the window.
pub fn grants(store: &dyn EvidenceStore, window: Window) -> Vec<GrantRow> {
    let mut all = Vec::new();
    let each = &mut |row| {
        all.push(row);
        true
    };
    store.grants(FEED, window, each).unwrap();
    all
}

/// The tokens of grants, sorted.
pub fn tokens(grants: &[GrantRow]) -> Vec<&str> {
    let mut tokens: Vec<_> = grants.iter().map(|row| row.info.token.as_str()).collect();
    tokens.sort_unstable();
    tokens
}

/// All permitted requests of the window.
pub fn count(store: &dyn EvidenceStore, window: Window) -> u64 {
    grants(store, window).iter().flat_map(|row| &row.permitted).map(|row| row.count).sum()
}

/// The ids of all events of the window.
pub fn events(store: &dyn EvidenceStore, window: Window) -> Vec<String> {
    let mut all = Vec::new();
    let each = &mut |row: EventRow| {
        all.push(row.id);
        true
    };
    store.events(FEED, window, None, each).unwrap();
    all
}

/// The tokens of the records after a position, with the last position.
pub fn records(store: &dyn EvidenceStore, after: u64, window: Window, limit: usize) -> (Vec<String>, u64) {
    let rows = store.records(FEED, after, window, limit).unwrap();
    assert!(rows.is_sorted_by(|a, b| a.position < b.position));
    (rows.iter().map(token_of).collect(), rows.last().map_or(after, |row| row.position))
}

/// The token that a record is about.
pub fn token_of(row: &RecordRow) -> String {
    row.record["token"].as_str().unwrap_or_default().to_owned()
}

/// What is found about the task.
pub fn task(name: &str) -> Selector {
    Selector::Task(name.to_owned())
}

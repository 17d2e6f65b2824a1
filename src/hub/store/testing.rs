//! Signals and stores for tests.

use crate::config::hub::Postgres;
use crate::store::Store;
use crate::store::model::{Change, NewEntry, NewSignal, Outcome, StoreError, StoredEntry};
use crate::store::postgres::PostgresStore;
use crate::store::prune::WINDOW;
use crate::store::retention::{AUDIT, Kept, Retention};
use crate::store::sqlite::SqliteStore;
use std::path::PathBuf;
use std::sync::Arc;
use taskfence_core::feed::entry::FeedEntry;
use taskfence_core::feed::revision::Revision;
use taskfence_core::state::bucket::{Entry, SourceTag};
use taskfence_core::state::fact::Fact;
use taskfence_core::state::freshness::TransmitterId;
use taskfence_core::state::key::{Kind, StateKey};
use taskfence_core::time::{Span, Timestamp};
use tempfile::TempDir;

#[path = "../../../tests/harness/postgres.rs"]
#[allow(dead_code, reason = "the tests in a real hub use all of it")]
pub mod server;

/// The feed of these tests.
pub const FEED: &str = "main";

/// The issuer of all keys.
pub const ISSUER: &str = "https://jit.example";

/// A store in a folder that is removed with it.
pub fn store() -> (SqliteStore, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder);
    store.open_feed(FEED, 7).unwrap();
    (store, folder)
}

/// The store in the folder.
pub fn open(folder: &TempDir) -> SqliteStore {
    SqliteStore::open(&folder.path().join("hub.sqlite")).unwrap()
}

/// Where a store is, of either engine.
pub struct Home {
    /// The folder of the hub.
    pub folder: TempDir,
    /// The database, with its URL; `None`: SQLite in the folder.
    pub postgres: Option<(Postgres, String)>,
    /// For how long signals are kept.
    pub keep: Span,
    /// How much of the audit log is kept.
    pub audit: Retention,
    /// Of how many numbers the chain is kept.
    pub window: u64,
}

impl Home {
    /// A store in a file.
    pub fn sqlite() -> Home {
        Home { folder: tempfile::tempdir().unwrap(), postgres: None, keep: Span(0), audit: AUDIT, window: WINDOW }
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

    /// Opens it, with the feed of these tests.
    pub fn store(&self) -> Arc<dyn Store> {
        let store = self.open();
        store.open_feed(FEED, 7).unwrap();
        store
    }

    /// Opens it.
    pub fn open(&self) -> Arc<dyn Store> {
        match &self.postgres {
            None => {
                let store = open(&self.folder).with_signals_kept(self.keep).with_audit_kept(self.audit);
                Arc::new(store.with_window(self.window))
            }
            Some(_) => Arc::new(self.try_open().unwrap()),
        }
    }

    /// Opens the database.
    pub fn try_open(&self) -> Result<PostgresStore, StoreError> {
        let kept = Kept { signals: self.keep, audit: self.audit };
        let postgres = &self.postgres.as_ref().unwrap().0;
        Ok(PostgresStore::open(postgres, kept, self.folder.path())?.with_window(self.window))
    }

    /// Runs SQL in its database.
    pub fn run(&self, sql: &str) -> String {
        server::run(&self.postgres.as_ref().unwrap().1, sql)
    }

    /// Copies all of it, as `n`.
    pub fn copy(&self, store: &dyn Store, n: u64) {
        if self.postgres.is_none() {
            return store.backup(&self.copied(n)).unwrap();
        }
        self.run(&format!(
            "DO $$ DECLARE t text; BEGIN CREATE SCHEMA copy_{n};
             FOR t IN SELECT tablename FROM pg_tables WHERE schemaname = 'taskfence' LOOP
                EXECUTE format('CREATE TABLE copy_{n}.%I AS TABLE taskfence.%I', t, t); END LOOP; END $$"
        ));
    }

    /// Puts the copy `n` in the place of the store, which is not open.
    pub fn set_back(&self, n: u64) {
        if self.postgres.is_none() {
            for file in ["hub.sqlite-wal", "hub.sqlite-shm"] {
                drop(std::fs::remove_file(self.folder.path().join(file)));
            }
            std::fs::copy(self.copied(n), self.folder.path().join("hub.sqlite")).unwrap();
            return;
        }
        self.run(&format!(
            "DO $$ DECLARE t text; BEGIN
             FOR t IN SELECT tablename FROM pg_tables WHERE schemaname = 'taskfence' LOOP
                EXECUTE format('TRUNCATE taskfence.%I CASCADE', t); END LOOP;
             FOR t IN SELECT tablename FROM pg_tables WHERE schemaname = 'taskfence' ORDER BY 1 LOOP
                EXECUTE format('INSERT INTO taskfence.%I OVERRIDING SYSTEM VALUE SELECT * FROM copy_{n}.%I', t, t);
             END LOOP; END $$"
        ));
    }

    fn copied(&self, n: u64) -> PathBuf {
        self.folder.path().join(format!("copy-{n}"))
    }
}

/// The key of a task.
pub fn task(name: &str) -> StateKey {
    StateKey::new(Kind::Task, ISSUER, name)
}

/// An entry of `transmitter`.
pub fn entry(transmitter: &str, key: StateKey, fact: Fact, until: u64) -> NewEntry {
    entry_with(transmitter, (key, Vec::new()), fact, until)
}

/// An entry that blocks one client on a condition: those with another `n` have another place, all in one bucket.
pub fn block(transmitter: &str, n: usize) -> NewEntry {
    let key = StateKey::new(Kind::Client, ISSUER, "agent");
    let condition = StateKey::new(Kind::User, ISSUER, &n.to_string());
    entry_with(transmitter, (key, vec![condition]), Fact::Blocked, 9_000)
}

/// An entry about `key` with those conditions.
fn entry_with(transmitter: &str, (key, conditions): (StateKey, Vec<StateKey>), fact: Fact, until: u64) -> NewEntry {
    let entry = Entry {
        key,
        fact,
        at: Timestamp(1_000),
        until: Timestamp(until),
        conditions,
        data: Vec::new(),
        source: SourceTag::new(FEED, transmitter, 0),
        lifted: false,
    };
    let mut bytes = Vec::new();
    FeedEntry { entry, by: TransmitterId::new(transmitter) }.encode(&mut bytes);
    NewEntry { bytes, key: key.encode().to_vec(), bucket: key.bucket(), until: Timestamp(until) }
}

/// A signal that completes tasks, each until the time beside it.
pub fn signal(transmitter: &str, jti: &str, tasks: &[(&str, u64)]) -> NewSignal {
    let entries = tasks.iter().map(|(name, until)| entry(transmitter, task(name), Fact::Completed, *until));
    NewSignal {
        feed: FEED.to_owned(),
        transmitter: transmitter.to_owned(),
        jti: jti.to_owned(),
        fingerprint: vec![1],
        event: "https://taskfence.example/event".to_owned(),
        subject: r#"{"format":"opaque"}"#.to_owned(),
        claims: r#"{"iat":1000}"#.to_owned(),
        by: transmitter.to_owned(),
        reason: "done".to_owned(),
        at: Timestamp(1_000),
        taken_in: 1_000_000,
        entries: entries.collect(),
    }
}

/// Stores one change.
pub fn commit(store: &dyn Store, change: Change) -> Outcome {
    store.commit(&[change]).unwrap().remove(0)
}

/// The lift of a signal.
pub fn lift(signal: u64) -> Change {
    let (feed, by, reason) = (FEED.to_owned(), "ann".to_owned(), "mistake".to_owned());
    Change::Lift { feed, signal, by, reason, at: 2_000_000 }
}

/// What was stored: the signal, the revision and the new entries.
pub fn stored(outcome: Outcome) -> (u64, Revision, Vec<StoredEntry>) {
    match outcome {
        Outcome::Stored { signal, revision, entries } => (signal, revision, entries),
        other => panic!("{other:?}"),
    }
}

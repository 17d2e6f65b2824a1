//! The tables of the files, and how they came about: one step for each version of a schema.
//!
//! A step only adds (tables, columns with a default, indexes, views), so that the hub of the version before can still read
//! what it knows. `PRAGMA user_version` is the number of steps that were taken.

use crate::store::model::StoreError;
use rusqlite::Connection;

/// What is in a file.
pub struct Schema {
    /// Tells it from other databases: `PRAGMA application_id`.
    application: u32,
    steps: &'static [&'static str],
}

/// A file of one day.
///
/// - `name` holds text that repeats: feeds, nodes, issuers, hashes of configurations, names of rules, methods, reasons.
/// - `grant_id` gives the order of the ids; `permitted`, `refused`, `seen` and `other` are sorted by it too, so that all of
///   them are read from the beginning to the end. `grant.more` is JSON of the members that are not searched.
/// - `permitted`, `refused`, `seen` and `other` are sums of one hour: `hour` is that of the first use, since 1970.
/// - `batch` has one row for numbers of a VM that came one after the other in one hour.
/// - `sender` has who sent evidence under the name of which node.
/// - `span.first` is the time of the oldest use: a batch may have been cut days after it.
///
/// The views are for people: see `docs/evidence-store.md`.
pub const DAY: Schema = Schema {
    // "TFev"
    application: 0x5446_6576,
    steps: &["
    CREATE TABLE span (id INTEGER PRIMARY KEY CHECK (id = 1), first INTEGER NOT NULL) STRICT;
    INSERT INTO span VALUES (1, 9223372036854775807);
    CREATE TABLE issuer (issuer INTEGER PRIMARY KEY) STRICT;
    CREATE TABLE name (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE) STRICT;
    CREATE TABLE cell (
        id INTEGER PRIMARY KEY,
        config INTEGER NOT NULL,
        rule INTEGER NOT NULL,
        method INTEGER NOT NULL,
        UNIQUE (config, rule, method)
    ) STRICT;
    CREATE TABLE cause (
        id INTEGER PRIMARY KEY,
        config INTEGER NOT NULL,
        rule INTEGER NOT NULL,
        reason INTEGER NOT NULL,
        shadow INTEGER NOT NULL,
        ended INTEGER NOT NULL,
        UNIQUE (config, rule, reason, shadow, ended)
    ) STRICT;
    CREATE TABLE \"grant\" (
        n INTEGER PRIMARY KEY,
        feed INTEGER NOT NULL,
        id BLOB NOT NULL,
        issuer INTEGER NOT NULL,
        token TEXT NOT NULL,
        fingerprint ANY NOT NULL,
        subject TEXT NOT NULL,
        client TEXT,
        task TEXT,
        session TEXT,
        issued INTEGER NOT NULL,
        expires INTEGER NOT NULL,
        more TEXT NOT NULL
    ) STRICT;
    CREATE UNIQUE INDEX grant_id ON \"grant\" (feed, id);
    CREATE INDEX grant_issued ON \"grant\" (feed, issued);
    CREATE INDEX grant_fingerprint ON \"grant\" (feed, fingerprint);
    CREATE INDEX grant_subject ON \"grant\" (feed, subject);
    CREATE INDEX grant_client ON \"grant\" (feed, client) WHERE client IS NOT NULL;
    CREATE INDEX grant_task ON \"grant\" (feed, task) WHERE task IS NOT NULL;
    CREATE INDEX grant_session ON \"grant\" (feed, session) WHERE session IS NOT NULL;
    CREATE TABLE permitted (
        feed INTEGER NOT NULL,
        \"grant\" BLOB NOT NULL,
        cell INTEGER NOT NULL,
        node INTEGER NOT NULL,
        captures TEXT NOT NULL,
        hour INTEGER NOT NULL,
        count INTEGER NOT NULL,
        break_glass INTEGER NOT NULL,
        first INTEGER NOT NULL,
        last INTEGER NOT NULL,
        PRIMARY KEY (feed, \"grant\", cell, node, captures, hour)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE refused (
        feed INTEGER NOT NULL,
        \"grant\" BLOB NOT NULL,
        cause INTEGER NOT NULL,
        node INTEGER NOT NULL,
        hour INTEGER NOT NULL,
        count INTEGER NOT NULL,
        first INTEGER NOT NULL,
        last INTEGER NOT NULL,
        PRIMARY KEY (feed, \"grant\", cause, node, hour)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE seen (
        feed INTEGER NOT NULL,
        \"grant\" BLOB NOT NULL,
        kind INTEGER NOT NULL,
        value TEXT NOT NULL,
        hour INTEGER NOT NULL,
        count INTEGER NOT NULL,
        first INTEGER NOT NULL,
        last INTEGER NOT NULL,
        PRIMARY KEY (feed, \"grant\", kind, value, hour)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE other (
        feed INTEGER NOT NULL,
        \"grant\" BLOB NOT NULL,
        hour INTEGER NOT NULL,
        count INTEGER NOT NULL,
        first INTEGER NOT NULL,
        last INTEGER NOT NULL,
        PRIMARY KEY (feed, \"grant\", hour)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE record (
        position INTEGER PRIMARY KEY,
        feed INTEGER NOT NULL,
        node INTEGER NOT NULL,
        at INTEGER NOT NULL,
        \"grant\" BLOB NOT NULL,
        record TEXT NOT NULL,
        principal INTEGER NOT NULL
    ) STRICT;
    CREATE INDEX record_feed ON record (feed);
    CREATE INDEX record_grant ON record (\"grant\");
    CREATE TABLE event (
        n INTEGER PRIMARY KEY,
        feed INTEGER NOT NULL,
        source TEXT NOT NULL,
        id TEXT NOT NULL,
        kind TEXT,
        at INTEGER NOT NULL,
        heard_at INTEGER NOT NULL,
        issuer TEXT NOT NULL,
        task TEXT,
        session TEXT,
        subject TEXT,
        client TEXT,
        token TEXT,
        task_kind TEXT,
        by TEXT,
        reason TEXT,
        data TEXT NOT NULL
    ) STRICT;
    CREATE UNIQUE INDEX event_id ON event (feed, source, id);
    CREATE INDEX event_at ON event (feed, at);
    CREATE INDEX event_task ON event (feed, task) WHERE task IS NOT NULL;
    CREATE INDEX event_session ON event (feed, session) WHERE session IS NOT NULL;
    CREATE INDEX event_subject ON event (feed, subject) WHERE subject IS NOT NULL;
    CREATE INDEX event_client ON event (feed, client) WHERE client IS NOT NULL;
    CREATE INDEX event_token ON event (feed, token) WHERE token IS NOT NULL;
    CREATE TABLE gap (
        feed INTEGER NOT NULL,
        vm TEXT NOT NULL,
        since INTEGER NOT NULL,
        until INTEGER NOT NULL,
        node INTEGER NOT NULL,
        PRIMARY KEY (feed, vm, since)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE batch (
        feed INTEGER NOT NULL,
        vm TEXT NOT NULL,
        first INTEGER NOT NULL,
        last INTEGER NOT NULL,
        hour INTEGER NOT NULL,
        proxy INTEGER NOT NULL,
        node INTEGER NOT NULL,
        since INTEGER NOT NULL,
        until INTEGER NOT NULL,
        other_permitted INTEGER NOT NULL,
        other_refused INTEGER NOT NULL,
        records_dropped INTEGER NOT NULL,
        principal INTEGER NOT NULL,
        PRIMARY KEY (feed, principal, vm, first)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE sender (
        feed INTEGER NOT NULL,
        node INTEGER NOT NULL,
        principal INTEGER NOT NULL,
        PRIMARY KEY (feed, node, principal)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE dropped (
        feed INTEGER NOT NULL,
        hour INTEGER NOT NULL,
        count INTEGER NOT NULL,
        PRIMARY KEY (feed, hour)
    ) STRICT, WITHOUT ROWID;
    CREATE VIEW grants AS SELECT
        f.name AS feed, lower(hex(g.id)) AS \"grant\", i.name AS issuer, g.token,
        CASE typeof(g.fingerprint) WHEN 'blob' THEN lower(hex(g.fingerprint)) ELSE g.fingerprint END AS fingerprint,
        g.subject, g.client, g.task, g.session, g.issued * 1000 AS issued_ms, g.expires * 1000 AS expires_ms,
        g.more ->> '$.actors' AS actors, g.more ->> '$.scopes' AS scopes, g.more ->> '$.details' AS details,
        g.more ->> '$.masked' AS masked, coalesce(g.more ->> '$.cut', 0) AS cut,
        (SELECT coalesce(sum(count), 0) FROM other o WHERE o.feed = g.feed AND o.\"grant\" = g.id) AS other
        FROM \"grant\" g JOIN name f ON f.id = g.feed JOIN name i ON i.id = g.issuer;
    CREATE VIEW uses AS SELECT
        f.name AS feed, lower(hex(p.\"grant\")) AS \"grant\", n.name AS node, c.name AS config, r.name AS rule, m.name AS method,
        p.captures, p.hour * 3600000 AS hour_ms, p.count, p.break_glass, p.first AS first_ms, p.last AS last_ms
        FROM permitted p JOIN name f ON f.id = p.feed JOIN cell ON cell.id = p.cell
        JOIN name n ON n.id = p.node JOIN name c ON c.id = cell.config JOIN name r ON r.id = cell.rule
        JOIN name m ON m.id = cell.method;
    CREATE VIEW refusals AS SELECT
        f.name AS feed, lower(hex(p.\"grant\")) AS \"grant\", n.name AS node, c.name AS config, r.name AS rule, e.name AS reason,
        cause.shadow, cause.ended, p.hour * 3600000 AS hour_ms, p.count, p.first AS first_ms, p.last AS last_ms
        FROM refused p JOIN name f ON f.id = p.feed JOIN cause ON cause.id = p.cause
        JOIN name n ON n.id = p.node JOIN name c ON c.id = cause.config JOIN name r ON r.id = cause.rule
        JOIN name e ON e.id = cause.reason;
    CREATE VIEW sightings AS SELECT
        f.name AS feed, lower(hex(s.\"grant\")) AS \"grant\",
        CASE s.kind WHEN 0 THEN 'peer' WHEN 1 THEN 'source' ELSE 'key' END AS kind, s.value,
        s.hour * 3600000 AS hour_ms, s.count, s.first AS first_ms, s.last AS last_ms
        FROM seen s JOIN name f ON f.id = s.feed;
    CREATE VIEW records AS SELECT
        r.position, f.name AS feed, n.name AS node, r.at AS at_ms, lower(hex(r.\"grant\")) AS \"grant\", r.record,
        s.name AS principal
        FROM record r JOIN name f ON f.id = r.feed JOIN name n ON n.id = r.node JOIN name s ON s.id = r.principal;
    CREATE VIEW events AS SELECT
        f.name AS feed, e.source, e.id, e.kind, e.at AS at_ms, e.heard_at AS heard_at_ms, e.issuer, e.task, e.session,
        e.subject, e.client, e.token, e.task_kind, e.by, e.reason, e.data
        FROM event e JOIN name f ON f.id = e.feed;
    CREATE VIEW gaps AS SELECT f.name AS feed, n.name AS node, g.vm, g.since AS since_ms, g.until AS until_ms
        FROM gap g JOIN name f ON f.id = g.feed JOIN name n ON n.id = g.node;
    CREATE VIEW batches AS SELECT
        f.name AS feed, b.vm, b.first AS first_number, b.last AS last_number, p.name AS proxy, n.name AS node,
        b.since AS since_ms, b.until AS until_ms, b.other_permitted, b.other_refused, b.records_dropped,
        s.name AS principal
        FROM batch b JOIN name f ON f.id = b.feed JOIN name p ON p.id = b.proxy JOIN name n ON n.id = b.node
        JOIN name s ON s.id = b.principal;
    "],
};

/// The file `index.sqlite`, with what is not of one day. `config.unnamed` is since when no day names a configuration.
pub const INDEX: Schema = Schema {
    // "TFei"
    application: 0x5446_6569,
    steps: &["
    CREATE TABLE value (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;
    CREATE TABLE kept (id INTEGER PRIMARY KEY CHECK (id = 1), day INTEGER NOT NULL, position INTEGER NOT NULL) STRICT;
    INSERT INTO kept VALUES (1, 0, 0);
    CREATE TABLE config (
        feed TEXT NOT NULL,
        hash TEXT NOT NULL,
        outline TEXT NOT NULL,
        unnamed INTEGER,
        PRIMARY KEY (feed, hash)
    ) STRICT, WITHOUT ROWID;
    CREATE VIEW configs AS SELECT
        c.feed, c.hash AS config, r.key AS position, r.value ->> '$.name' AS rule, r.value ->> '$.effect' AS effect,
        r.value ->> '$.methods' AS methods, r.value ->> '$.path' AS path, r.value ->> '$.captures' AS captures,
        r.value ->> '$.scopes' AS scopes, r.value ->> '$.detail' AS detail, coalesce(r.value ->> '$.shadow', 0) AS shadow
        FROM config c JOIN json_each(c.outline, '$.rules') r;
    "],
};

impl Schema {
    /// Brings the database to this schema.
    ///
    /// [`StoreError::Newer`]: a newer hub has written it. [`StoreError::Damaged`]: something else than a hub has.
    pub fn migrate(&self, connection: &Connection) -> Result<(), StoreError> {
        self.migrate_by(connection, self.steps)
    }

    fn migrate_by(&self, connection: &Connection, steps: &[&str]) -> Result<(), StoreError> {
        let (found, application) = (pragma(connection, "user_version")?, pragma(connection, "application_id")?);
        let known = u32::try_from(steps.len()).unwrap_or(u32::MAX);
        let is_empty: bool = connection.query_row("SELECT count(*) = 0 FROM sqlite_schema", [], |row| row.get(0))?;
        if application != self.application && !is_empty {
            return Err(StoreError::Damaged("the file is a database of another program".to_owned()));
        }
        match found {
            _ if found > known => return Err(StoreError::Newer { found, known }),
            _ if found == known => return Ok(()),
            _ => {}
        }
        let transaction = connection.unchecked_transaction()?;
        for step in steps.iter().skip(usize::try_from(found).unwrap_or(usize::MAX)) {
            transaction.execute_batch(step)?;
        }
        transaction.pragma_update(None, "application_id", self.application)?;
        transaction.pragma_update(None, "user_version", known)?;
        Ok(transaction.commit()?)
    }
}

fn pragma(connection: &Connection, name: &str) -> Result<u32, StoreError> {
    Ok(connection.pragma_query_value(None, name, |row| row.get(0))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_a_newer_hub_is_refused_and_left_alone() {
        for schema in [DAY, INDEX] {
            let connection = Connection::open_in_memory().unwrap();
            let newer = [schema.steps, &["CREATE TABLE more (id INTEGER)"]].concat();
            schema.migrate_by(&connection, &newer).unwrap();
            let (found, known) = (u32::try_from(newer.len()).unwrap(), u32::try_from(schema.steps.len()).unwrap());
            assert_eq!(schema.migrate(&connection), Err(StoreError::Newer { found, known }));
            assert_eq!(pragma(&connection, "user_version"), Ok(found));
        }
    }

    #[test]
    fn an_older_file_is_brought_up_to_date_and_keeps_its_rows() {
        let connection = Connection::open_in_memory().unwrap();
        DAY.migrate(&connection).unwrap();
        connection.execute("INSERT INTO gap VALUES (1, 'vm', 2, 3, 4)", []).unwrap();
        let newer = [DAY.steps, &["ALTER TABLE gap ADD COLUMN more INTEGER NOT NULL DEFAULT 5"]].concat();
        DAY.migrate_by(&connection, &newer).unwrap();
        DAY.migrate_by(&connection, &newer).unwrap();
        let more: i64 = connection.query_row("SELECT more FROM gap WHERE vm = 'vm'", [], |row| row.get(0)).unwrap();
        assert_eq!((more, pragma(&connection, "user_version")), (5, Ok(u32::try_from(newer.len()).unwrap())));
    }

    #[test]
    fn a_step_that_fails_changes_nothing() {
        let connection = Connection::open_in_memory().unwrap();
        assert!(DAY.migrate_by(&connection, &["CREATE TABLE a (id INTEGER)", "CREATE TABLE a (id INTEGER)"]).is_err());
        assert_eq!(pragma(&connection, "user_version"), Ok(0));
        DAY.migrate(&connection).unwrap();
    }

    #[test]
    fn the_database_of_another_program_is_not_touched() {
        let connection = Connection::open_in_memory().unwrap();
        connection.execute_batch("CREATE TABLE theirs (id INTEGER)").unwrap();
        assert!(matches!(DAY.migrate(&connection), Err(StoreError::Damaged(_))));
        INDEX.migrate(&Connection::open_in_memory().unwrap()).unwrap();
    }
}

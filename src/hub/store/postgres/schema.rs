//! The tables, and how they came about: one step for each version of the schema.
//!
//! They stand in a schema of their own, `taskfence`; [evidence](crate::evidence::store) has another one. A step only adds
//! (tables, columns with a default, indexes), so that the hub of the version before can go on with what it knows.

use crate::store::model::StoreError;
use crate::store::postgres::session::Session;

/// A schema of the database, as this hub knows it.
#[derive(Debug, Clone, Copy)]
pub struct Schema {
    /// Its name.
    pub name: &'static str,
    /// A table of its first step: one that stands in a schema without a version is of another program.
    pub table: &'static str,
    /// One step for each version.
    pub steps: &'static [&'static str],
    /// The advisory lock: of several replicas that start at once, one changes the schema.
    pub lock: i64,
}

/// The schema of the store of signals.
pub const SIGNALS: Schema = Schema { name: "taskfence", table: "signal", steps: STEPS, lock: 0x5446_6862_0001 };

/// The tables have the names and columns of those of SQLite, see there.
///
/// - `signal_id` gives the ids of signals, under the locked row of a feed, so that they become visible in order.
/// - `attempt` has a row for each commit of a group: whoever lost the connection at COMMIT reads it, to know.
/// - `origin` says which server, in which history, wrote the store; `began` counts how often that changed.
const STEPS: &[&str] = &["
    CREATE TABLE taskfence.feed (
        id bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
        name text COLLATE \"C\" NOT NULL UNIQUE,
        epoch bigint NOT NULL,
        number bigint NOT NULL,
        chain bytea NOT NULL,
        cleared bigint NOT NULL
    );
    CREATE SEQUENCE taskfence.signal_id;
    CREATE TABLE taskfence.signal (
        id bigint PRIMARY KEY,
        feed bigint NOT NULL,
        transmitter text COLLATE \"C\" NOT NULL,
        jti text COLLATE \"C\" NOT NULL,
        fingerprint bytea NOT NULL,
        event text NOT NULL,
        subject text NOT NULL,
        claims text NOT NULL,
        by text NOT NULL,
        reason text NOT NULL,
        at bigint NOT NULL,
        taken_in bigint NOT NULL,
        first bigint NOT NULL,
        number bigint NOT NULL,
        chain bytea NOT NULL,
        ends bigint NOT NULL,
        lifted_by text,
        lifted_reason text,
        lifted_at bigint
    );
    CREATE UNIQUE INDEX signal_jti ON taskfence.signal (feed, transmitter, jti);
    CREATE INDEX signal_transmitter ON taskfence.signal (feed, transmitter, id);
    CREATE INDEX signal_feed ON taskfence.signal (feed, id);
    CREATE INDEX signal_ends ON taskfence.signal (ends, id);
    CREATE INDEX signal_stop ON taskfence.signal (feed, id) WHERE event = 'stop' AND lifted_at IS NULL;
    CREATE TABLE taskfence.entry (
        feed bigint NOT NULL,
        bucket int NOT NULL,
        key bytea NOT NULL,
        number bigint NOT NULL,
        signal bigint NOT NULL,
        until bigint NOT NULL,
        bytes bytea NOT NULL,
        own_at bigint NOT NULL,
        own_until bigint NOT NULL,
        PRIMARY KEY (feed, bucket, key, number)
    );
    CREATE TABLE taskfence.log (
        feed bigint NOT NULL,
        number bigint NOT NULL,
        chain bytea NOT NULL,
        bucket int NOT NULL,
        key bytea NOT NULL,
        PRIMARY KEY (feed, number)
    );
    CREATE TABLE taskfence.clock (
        id int PRIMARY KEY CHECK (id = 1),
        latest bigint NOT NULL
    );
    INSERT INTO taskfence.clock VALUES (1, 0);
    CREATE TABLE taskfence.audit (
        id bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
        at bigint NOT NULL,
        by text NOT NULL,
        call text NOT NULL,
        status int NOT NULL,
        detail text NOT NULL
    );
    CREATE TABLE taskfence.principal (
        name text COLLATE \"C\" PRIMARY KEY,
        role text NOT NULL,
        feeds text NOT NULL
    );
    CREATE TABLE taskfence.token (
        principal text COLLATE \"C\" NOT NULL REFERENCES taskfence.principal (name) ON DELETE CASCADE,
        hash bytea NOT NULL,
        made bigint NOT NULL,
        used bigint NOT NULL,
        PRIMARY KEY (principal, hash)
    );
    CREATE TABLE taskfence.follower (
        feed text COLLATE \"C\" NOT NULL,
        id text COLLATE \"C\" NOT NULL,
        principal text NOT NULL,
        report text NOT NULL,
        applied text NOT NULL,
        seen bigint NOT NULL,
        statement_at bigint NOT NULL,
        replica text NOT NULL,
        relay text NOT NULL,
        PRIMARY KEY (feed, id)
    );
    CREATE TABLE taskfence.value (
        name text COLLATE \"C\" PRIMARY KEY,
        value text NOT NULL
    );
    CREATE TABLE taskfence.attempt (
        id bigint PRIMARY KEY,
        at timestamptz NOT NULL DEFAULT now()
    );
    CREATE TABLE taskfence.origin (
        id int PRIMARY KEY CHECK (id = 1),
        system bigint NOT NULL,
        timeline bigint NOT NULL
    );
    CREATE TABLE taskfence.probe (
        id bigint PRIMARY KEY,
        n bigint NOT NULL,
        at timestamptz NOT NULL DEFAULT now()
    );
"];

impl Schema {
    /// Brings the database to the schema of this hub, in the transaction of `session`.
    ///
    /// [`StoreError::Newer`]: a newer hub has written it. [`StoreError::Damaged`]: the schema is that of another program.
    pub fn migrate(&self, session: &mut Session) -> Result<(), StoreError> {
        let Schema { name, table, steps, lock } = *self;
        session.rows("SELECT pg_advisory_xact_lock($1)", &[&lock])?;
        let is_there = |session: &mut Session, name: &str| -> Result<bool, StoreError> {
            let row = session.row("SELECT to_regclass($1::text) IS NOT NULL", &[&name])?;
            Ok(row.is_some_and(|row| row.try_get(0).unwrap_or(false)))
        };
        if session.row("SELECT 1 FROM pg_namespace WHERE nspname = $1::text", &[&name])?.is_none() {
            session.batch(&format!("CREATE SCHEMA {name}"))?;
        }
        if !is_there(session, &format!("{name}.version"))? {
            if is_there(session, &format!("{name}.{table}"))? {
                return Err(StoreError::Damaged(format!("the schema `{name}` is that of another program")));
            }
            session.batch(&format!(
                "CREATE TABLE {name}.version (version int NOT NULL); INSERT INTO {name}.version VALUES (0)"
            ))?;
        }
        let row = session.row(&format!("SELECT version FROM {name}.version FOR UPDATE"), &[])?;
        let found: i32 = row.map(|row| row.try_get(0)).transpose()?.unwrap_or_default();
        let found = u32::try_from(found).map_err(|_| StoreError::Damaged(format!("the version {found}")))?;
        let known = u32::try_from(steps.len()).unwrap_or(u32::MAX);
        if found > known {
            return Err(StoreError::Newer { found, known });
        }
        for step in steps.iter().skip(usize::try_from(found).unwrap_or(usize::MAX)) {
            session.batch(step)?;
        }
        if found < known {
            let known = i32::try_from(known).unwrap_or(i32::MAX);
            session.execute(&format!("UPDATE {name}.version SET version = $1"), &[&known])?;
        }
        Ok(())
    }
}

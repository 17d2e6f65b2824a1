//! Takes over a store of SQLite, with everything that it has: ids, numbers, chains and epochs stay.

use crate::store::model::StoreError;
use crate::store::postgres::PostgresStore;
use crate::store::postgres::session::Session;
use crate::store::postgres::text::stored;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, OpenFlags};
use sha2::{Digest, Sha256};
use std::path::Path;
use tokio_postgres::types::ToSql;

/// So many rows are sent at once.
const BATCH: usize = 1_000;

/// A table: its name, the order of its rows, and its columns.
struct Table(&'static str, &'static str, &'static [(&'static str, Kind)]);

/// What is in a column.
#[derive(Clone, Copy)]
enum Kind {
    /// `bigint`.
    Int,
    /// `int`.
    Small,
    /// `text`.
    Text,
    /// `bytea`.
    Bytes,
}

use Kind::{Bytes, Int, Small, Text};

/// All tables but the clock, which has one row already.
const TABLES: &[Table] = &[
    Table(
        "feed",
        "id",
        &[("id", Int), ("name", Text), ("epoch", Int), ("number", Int), ("chain", Bytes), ("cleared", Int)],
    ),
    Table(
        "signal",
        "id",
        &[
            ("id", Int),
            ("feed", Int),
            ("transmitter", Text),
            ("jti", Text),
            ("fingerprint", Bytes),
            ("event", Text),
            ("subject", Text),
            ("claims", Text),
            ("by", Text),
            ("reason", Text),
            ("at", Int),
            ("taken_in", Int),
            ("first", Int),
            ("number", Int),
            ("chain", Bytes),
            ("ends", Int),
            ("lifted_by", Text),
            ("lifted_reason", Text),
            ("lifted_at", Int),
        ],
    ),
    Table(
        "entry",
        "feed, bucket, key, number",
        &[
            ("feed", Int),
            ("bucket", Small),
            ("key", Bytes),
            ("number", Int),
            ("signal", Int),
            ("until", Int),
            ("bytes", Bytes),
            ("own_at", Int),
            ("own_until", Int),
        ],
    ),
    Table(
        "log",
        "feed, number",
        &[("feed", Int), ("number", Int), ("chain", Bytes), ("bucket", Small), ("key", Bytes)],
    ),
    Table(
        "audit",
        "id",
        &[("id", Int), ("at", Int), ("by", Text), ("call", Text), ("status", Small), ("detail", Text)],
    ),
    Table("principal", "name", &[("name", Text), ("role", Text), ("feeds", Text)]),
    Table("token", "principal, hash", &[("principal", Text), ("hash", Bytes), ("made", Int), ("used", Int)]),
    Table(
        "follower",
        "feed, id",
        &[
            ("feed", Text),
            ("id", Text),
            ("principal", Text),
            ("report", Text),
            ("applied", Text),
            ("seen", Int),
            ("statement_at", Int),
            ("replica", Text),
            ("relay", Text),
        ],
    ),
    Table("value", "name", &[("name", Text), ("value", Text)]),
];

/// How many rows of each table were moved.
pub type Moved = Vec<(&'static str, u64)>;

impl PostgresStore {
    /// Copies the store in the file `from`, which no hub uses, into this one, which must be empty: all of it or nothing.
    /// Every row is read back and compared. Blocks.
    pub fn import(&self, from: &Path) -> Result<Moved, StoreError> {
        let source = Connection::open_with_flags(from, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        source.execute_batch("BEGIN")?;
        self.write(|session| {
            session.batch(
                "SET LOCAL statement_timeout = '30min'; SET LOCAL idle_in_transaction_session_timeout = '30min';
                 LOCK TABLE taskfence.feed, taskfence.value, taskfence.principal IN ACCESS EXCLUSIVE MODE",
            )?;
            let text = "SELECT EXISTS (SELECT FROM taskfence.feed) OR EXISTS (SELECT FROM taskfence.value)
                OR EXISTS (SELECT FROM taskfence.principal)";
            if session.row(text, &[])?.is_none_or(|row| row.try_get(0).unwrap_or(true)) {
                return Err(StoreError::Failed(
                    "the database has a store already: name an empty one, or drop its schema `taskfence`".to_owned(),
                ));
            }
            let moved = TABLES.iter().map(|table| Ok((table.0, table.copy(&source, session)?)));
            let moved = moved.collect::<Result<Moved, StoreError>>()?;
            let latest: i64 = source.query_row("SELECT latest FROM clock", [], |row| row.get(0))?;
            session.execute("UPDATE taskfence.clock SET latest = $1", &[&latest])?;
            go_on(&source, session)?;
            Ok(moved)
        })
    }
}

/// New ids come after those that were given, also after those whose rows are gone.
fn go_on(source: &Connection, session: &mut Session) -> Result<(), StoreError> {
    let last = |table: &str| -> Result<i64, StoreError> {
        // Where a table has had no row, its ids begin at 1.
        let text = "SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = ?";
        Ok(source.query_row(text, [table], |row| row.get(0))?)
    };
    let feeds: i64 = source.query_row("SELECT coalesce(max(id), 0) FROM feed", [], |row| row.get(0))?;
    let all = [
        ("taskfence.signal_id".to_owned(), last("signal")?),
        (sequence(session, "taskfence.audit")?, last("audit")?),
        (sequence(session, "taskfence.feed")?, feeds),
    ];
    for (name, last) in all {
        session.rows("SELECT setval($1::text::regclass, $2::bigint + 1, false)", &[&name, &last])?;
    }
    Ok(())
}

/// The sequence that gives the ids of a table.
fn sequence(session: &mut Session, table: &str) -> Result<String, StoreError> {
    let row = session.row("SELECT pg_get_serial_sequence($1, 'id')", &[&table])?;
    row.map_or_else(|| Err(StoreError::Damaged(format!("{table} has no ids"))), |row| Ok(row.try_get(0)?))
}

impl Table {
    /// Copies all rows, reads them back, and returns how many there are.
    fn copy(&self, source: &Connection, session: &mut Session) -> Result<u64, StoreError> {
        let Table(name, order, columns) = self;
        let names: Vec<_> = columns.iter().map(|(name, _)| *name).collect();
        let names = names.join(", ");
        let arrays = columns.iter().zip(1..).map(|((_, kind), at)| format!("${at}::{}[]", kind.sql()));
        let arrays: Vec<_> = arrays.collect();
        let insert = format!(
            "INSERT INTO taskfence.{name} ({names}) OVERRIDING SYSTEM VALUE SELECT * FROM unnest({})",
            arrays.join(", ")
        );
        let mut select = source.prepare(&format!("SELECT {names} FROM {name} ORDER BY {order}"))?;
        let mut rows = select.query([])?;
        let (mut read, mut batch) = (Check::new(), Batch::new(columns));
        while let Some(row) = rows.next()? {
            for (at, column) in batch.columns.iter_mut().enumerate() {
                let value = column.push(row.get_ref(at)?);
                read.add(&value.map_err(|kind| {
                    StoreError::Damaged(format!("a column of {name} has a value of another kind: {kind}"))
                })?);
            }
            read.rows = read.rows.saturating_add(1);
            batch.rows = batch.rows.saturating_add(1);
            if batch.rows == BATCH {
                session.execute(&insert, &batch.params())?;
                batch = Batch::new(columns);
            }
        }
        session.execute(&insert, &batch.params())?;
        let mut written = Check::new();
        session.each_row(&format!("SELECT {names} FROM taskfence.{name} ORDER BY {order}"), &[], &mut |row| {
            for (at, (_, kind)) in columns.iter().enumerate() {
                written.add(&kind.read(row, at)?);
            }
            written.rows = written.rows.saturating_add(1);
            Ok(true)
        })?;
        let rows = read.rows;
        if (rows, read.hash.finalize()) != (written.rows, written.hash.finalize()) {
            return Err(StoreError::Failed(format!("the rows of `{name}` do not come back as they were written")));
        }
        Ok(rows)
    }
}

/// The rows that were read: how many, and a hash of all.
struct Check {
    rows: u64,
    hash: Sha256,
}

impl Check {
    fn new() -> Check {
        Check { rows: 0, hash: Sha256::new() }
    }

    /// Adds a value, as bytes; `None`: NULL.
    fn add(&mut self, value: &Option<Vec<u8>>) {
        let length = value.as_ref().map_or(u64::MAX, |bytes| u64::try_from(bytes.len()).unwrap_or(u64::MAX));
        self.hash.update(length.to_be_bytes());
        self.hash.update(value.as_deref().unwrap_or_default());
    }
}

/// Rows that are to be sent, by column.
struct Batch {
    columns: Vec<Column>,
    rows: usize,
}

enum Column {
    Int(Vec<Option<i64>>),
    Small(Vec<Option<i32>>),
    Text(Vec<Option<String>>),
    Bytes(Vec<Option<Vec<u8>>>),
}

impl Batch {
    fn new(columns: &[(&str, Kind)]) -> Batch {
        let column = |(_, kind): &(&str, Kind)| match kind {
            Int => Column::Int(Vec::new()),
            Small => Column::Small(Vec::new()),
            Text => Column::Text(Vec::new()),
            Bytes => Column::Bytes(Vec::new()),
        };
        Batch { columns: columns.iter().map(column).collect(), rows: 0 }
    }

    fn params(&self) -> Vec<&(dyn ToSql + Sync)> {
        self.columns.iter().map(Column::param).collect()
    }
}

impl Column {
    fn param(&self) -> &(dyn ToSql + Sync) {
        match self {
            Column::Int(values) => values,
            Column::Small(values) => values,
            Column::Text(values) => values,
            Column::Bytes(values) => values,
        }
    }

    /// Adds a value of SQLite, and returns it as bytes. The error is what it is instead.
    fn push(&mut self, value: ValueRef<'_>) -> Result<Option<Vec<u8>>, String> {
        let value = match value {
            ValueRef::Null => None,
            other => Some(other),
        };
        let other = |value: ValueRef<'_>| value.data_type().to_string();
        match self {
            Column::Int(values) => {
                let value = value.map(|value| value.as_i64().map_err(|_| other(value))).transpose()?;
                values.push(value);
                Ok(value.map(|value| value.to_be_bytes().to_vec()))
            }
            Column::Small(values) => {
                let small = |value: ValueRef<'_>| {
                    value.as_i64().ok().and_then(|value| i32::try_from(value).ok()).ok_or_else(|| other(value))
                };
                let value = value.map(small).transpose()?;
                values.push(value);
                Ok(value.map(|value| i64::from(value).to_be_bytes().to_vec()))
            }
            Column::Text(values) => {
                let value = value.map(|value| value.as_str().map_err(|_| other(value))).transpose()?;
                let value = value.map(|value| stored(value).into_owned());
                let bytes = value.as_ref().map(|value| value.as_bytes().to_vec());
                values.push(value);
                Ok(bytes)
            }
            Column::Bytes(values) => {
                let value = value.map(|value| value.as_blob().map_err(|_| other(value))).transpose()?;
                let value = value.map(<[u8]>::to_vec);
                values.push(value.clone());
                Ok(value)
            }
        }
    }
}

impl Kind {
    fn sql(self) -> &'static str {
        match self {
            Int => "bigint",
            Small => "int",
            Text => "text",
            Bytes => "bytea",
        }
    }

    /// A value of PostgreSQL as bytes.
    fn read(self, row: &tokio_postgres::Row, at: usize) -> Result<Option<Vec<u8>>, StoreError> {
        let int = |value: Option<i64>| value.map(|value| value.to_be_bytes().to_vec());
        Ok(match self {
            Int => int(row.try_get(at)?),
            Small => int(row.try_get::<_, Option<i32>>(at)?.map(i64::from)),
            Text => row.try_get::<_, Option<String>>(at)?.map(String::into_bytes),
            Bytes => row.try_get(at)?,
        })
    }
}

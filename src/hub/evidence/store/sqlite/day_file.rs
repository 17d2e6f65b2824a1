//! The file of one day, open to write.

use super::folder::{Folder, Which};
use super::info;
use super::names::{Numbers, remember};
use crate::evidence::model::{BatchWrite, EventKind, EventRow, GrantId};
use crate::evidence::store::day::{Day, HOUR};
use crate::evidence::store::value::int;
use crate::store::model::StoreError;
use rusqlite::{Connection, OptionalExtension, ToSql, params};
use serde_json::Value;
use std::collections::{HashMap, HashSet};
use taskfence_core::uses::batch::{Batch, Gap, GrantInfo, GrantUses, Permitted, Refused, RuleRef, Seen, SeenKind};

/// Of so many grants the numbers are remembered.
const GRANTS: usize = 200_000;

/// So many senders are remembered.
const SENDERS: usize = 50_000;

/// Adds counts: what does not fit stays the greatest number.
macro_rules! sum {
    ($column:literal) => {
        concat!(
            $column,
            " = CASE WHEN ",
            $column,
            " > 9223372036854775807 - excluded.",
            $column,
            " THEN 9223372036854775807 ELSE ",
            $column,
            " + excluded.",
            $column,
            " END"
        )
    };
}

/// The stretch from the first to the last time.
macro_rules! stretch {
    () => {
        "first = min(first, excluded.first), last = max(last, excluded.last)"
    };
}

const PERMITTED: &str = concat!(
    "INSERT INTO permitted VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET ",
    sum!("count"),
    ", ",
    sum!("break_glass"),
    ", ",
    stretch!()
);
const REFUSED: &str = concat!(
    "INSERT INTO refused VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET ",
    sum!("count"),
    ", ",
    stretch!()
);
const SEEN: &str = concat!(
    "INSERT INTO seen VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET ",
    sum!("count"),
    ", ",
    stretch!()
);
const OTHER: &str =
    concat!("INSERT INTO other VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET ", sum!("count"), ", ", stretch!());
const BATCH: &str = concat!(
    "UPDATE batch SET last = ?4, since = min(since, ?5), until = max(until, ?6), other_permitted = ",
    "min(other_permitted, 9223372036854775807 - ?7) + ?7, other_refused = min(other_refused, 9223372036854775807 - ?8) + ",
    "?8, records_dropped = min(records_dropped, 9223372036854775807 - ?9) + ?9 WHERE feed = ?1 AND vm = ?2 AND first = ?3 AND principal = ?10"
);

/// The file.
pub struct DayFile {
    day: Day,
    connection: Connection,
    numbers: Numbers,
    /// The numbers of grants, by feed and id.
    grants: HashMap<(i64, GrantId), i64>,
    /// Feed, node and principal of the senders that are noted.
    senders: HashSet<(i64, i64, i64)>,
    /// The time of the oldest use in the file.
    first: i64,
    is_in_transaction: bool,
}

/// The batch whose uses are written, in numbers.
struct Context<'b> {
    feed: i64,
    principal: i64,
    node: i64,
    batch: &'b Batch,
    /// The configuration and the name of each rule.
    rules: Vec<(i64, i64)>,
    /// Of a rule that the batch does not name.
    unnamed: i64,
}

impl Context<'_> {
    fn rule(&self, position: u32) -> (i64, i64) {
        let position = usize::try_from(position).unwrap_or(usize::MAX);
        self.rules.get(position).copied().unwrap_or((self.unnamed, self.unnamed))
    }
}

impl DayFile {
    /// Opens it, or creates it.
    pub fn open(folder: &Folder, day: Day) -> Result<DayFile, StoreError> {
        let connection = folder.open(Which::Of(day))?;
        let first = connection.query_row("SELECT first FROM span", [], |row| row.get(0))?;
        let (numbers, grants, senders) = (Numbers::default(), HashMap::new(), HashSet::new());
        Ok(DayFile { day, connection, numbers, grants, senders, first, is_in_transaction: false })
    }

    /// The day.
    pub fn day(&self) -> Day {
        self.day
    }

    /// Begins a transaction, if there is none.
    pub fn begin(&mut self) -> Result<(), StoreError> {
        if !self.is_in_transaction {
            self.connection.execute_batch("BEGIN IMMEDIATE")?;
            self.is_in_transaction = true;
        }
        Ok(())
    }

    /// Whether a transaction is open.
    pub fn is_in_transaction(&self) -> bool {
        self.is_in_transaction
    }

    /// Makes what was written durable. After an error nothing is known about it, and the file must be closed.
    pub fn commit(&mut self) -> Result<(), StoreError> {
        self.connection.execute_batch("COMMIT")?;
        self.is_in_transaction = false;
        Ok(())
    }

    /// Closes the file: its log is copied into it, and removed.
    pub fn close(self) -> Result<(), StoreError> {
        self.connection.close().map_err(|(_, error)| error.into())
    }

    /// Copies all of the log into the file and syncs that.
    pub fn checkpoint(&self) -> Result<(), StoreError> {
        let busy: i64 = self.connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0))?;
        if busy != 0 {
            return Err(StoreError::Unavailable("the log is in use".to_owned()));
        }
        Ok(())
    }

    /// The file takes so many pages, or as many as it has.
    #[cfg(test)]
    pub fn limit_pages(&self, pages: i64) {
        self.connection.pragma_update(None, "max_page_count", pages).unwrap();
    }

    /// The greatest position of a record.
    pub fn last_position(connection: &Connection) -> Result<u64, StoreError> {
        let last: Option<i64> = connection.query_row("SELECT max(position) FROM record", [], |row| row.get(0))?;
        Ok(last.map_or(0, crate::evidence::store::value::uint))
    }

    /// Writes a batch, with records from `position` on. Returns whether it is new.
    pub fn add_batch(&mut self, write: &BatchWrite, position: &mut u64) -> Result<bool, StoreError> {
        let batch = &write.batch;
        let feed = self.name(&write.feed)?;
        let node = self.name(&write.node)?;
        let principal = self.name(&write.principal)?;
        if !self.note_batch(write, (feed, principal, node))? {
            return Ok(false);
        }
        self.note_sender((feed, node, principal))?;
        let mut rules = Vec::with_capacity(batch.rules.len());
        for RuleRef { config, name } in &batch.rules {
            rules.push((self.name(config)?, self.name(name)?));
        }
        let context = Context { feed, principal, node, batch, rules, unnamed: self.name("")? };
        for uses in &batch.grants {
            self.add_uses(&context, uses)?;
        }
        for record in &batch.records {
            self.add_record(&context, record, *position)?;
            *position = position.saturating_add(1);
        }
        Ok(true)
    }

    /// Notes that the batch is here. Returns whether it is new.
    fn note_batch(&mut self, write: &BatchWrite, (feed, principal, node): (i64, i64, i64)) -> Result<bool, StoreError> {
        let batch = &write.batch;
        let (number, hour) = (int(batch.number), int(batch.until / HOUR));
        let losses = [batch.other_permitted, batch.other_refused, batch.records_dropped].map(int);
        let known = self
            .connection
            .prepare_cached(
                "SELECT first, last, hour FROM batch WHERE feed = ? AND principal = ? AND vm = ? AND first <= ?
                 ORDER BY first DESC LIMIT 1",
            )?
            .query_row(params![feed, principal, batch.vm, number], |row| <(i64, i64, i64)>::try_from(row))
            .optional()?;
        let [permitted, refused, dropped] = losses;
        let (since, until) = (int(batch.since), int(batch.until));
        match known {
            Some((_, last, _)) if number <= last => return Ok(false),
            Some((first, last, in_hour)) if last.checked_add(1) == Some(number) && in_hour == hour => {
                let mut update = self.connection.prepare_cached(BATCH)?;
                update.execute(params![
                    feed, batch.vm, first, number, since, until, permitted, refused, dropped, principal
                ])?;
            }
            _ => {
                let proxy = self.name(&write.proxy)?;
                let mut insert = self
                    .connection
                    .prepare_cached("INSERT INTO batch VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)")?;
                insert.execute(params![
                    feed, batch.vm, number, number, hour, proxy, node, since, until, permitted, refused, dropped,
                    principal
                ])?;
            }
        }
        self.note_first(since)?;
        Ok(true)
    }

    /// Notes who sends evidence under the name of a node.
    fn note_sender(&mut self, sender: (i64, i64, i64)) -> Result<(), StoreError> {
        if self.senders.contains(&sender) {
            return Ok(());
        }
        let add = "INSERT INTO sender VALUES (?, ?, ?) ON CONFLICT DO NOTHING";
        self.connection.prepare_cached(add)?.execute(sender)?;
        if self.senders.len() >= SENDERS {
            self.senders.clear();
        }
        self.senders.insert(sender);
        Ok(())
    }

    fn add_uses(&mut self, context: &Context<'_>, uses: &GrantUses) -> Result<(), StoreError> {
        let grant = self.grant(context.feed, &uses.grant)?;
        for permitted in &uses.permitted {
            self.add_permitted(context, grant, permitted)?;
        }
        for refused in &uses.refused {
            self.add_refused(context, grant, refused)?;
        }
        for Seen { kind, value, count, first, last } in &uses.seen {
            let kind = match kind {
                SeenKind::Peer => 0,
                SeenKind::Source => 1,
                SeenKind::Key => 2,
            };
            let values =
                params![context.feed, grant.0, kind, value, int(first / HOUR), int(*count), int(*first), int(*last)];
            self.connection.prepare_cached(SEEN)?.execute(values)?;
        }
        if uses.other > 0 {
            let Batch { since, until, .. } = context.batch;
            // The proxy does not say when they were.
            let values = params![context.feed, grant.0, int(since / HOUR), int(uses.other), int(*since), int(*until)];
            self.connection.prepare_cached(OTHER)?.execute(values)?;
        }
        Ok(())
    }

    fn add_permitted(&mut self, context: &Context<'_>, grant: GrantId, uses: &Permitted) -> Result<(), StoreError> {
        let (config, rule) = context.rule(uses.rule);
        let method = self.name(&uses.method)?;
        let cell = self.numbers.cell(&self.connection, (config, rule, method))?;
        let captures = match uses.captures.is_empty() {
            true => String::new(),
            false => json(&uses.captures)?,
        };
        let Permitted { count, break_glass, first, last, .. } = uses;
        self.connection.prepare_cached(PERMITTED)?.execute(params![
            context.feed,
            grant.0,
            cell,
            context.node,
            captures,
            int(first / HOUR),
            int(*count),
            int(*break_glass),
            int(*first),
            int(*last)
        ])?;
        self.note_first(int(*first))
    }

    fn add_refused(&mut self, context: &Context<'_>, grant: GrantId, uses: &Refused) -> Result<(), StoreError> {
        let (config, rule) = uses.rule.map_or((context.unnamed, context.unnamed), |rule| context.rule(rule));
        let reason = self.name(&uses.reason)?;
        let cause = self.numbers.cause(&self.connection, (config, rule, reason, uses.shadow, uses.ended))?;
        let Refused { count, first, last, .. } = uses;
        let values = params![
            context.feed,
            grant.0,
            cause,
            context.node,
            int(first / HOUR),
            int(*count),
            int(*first),
            int(*last)
        ];
        self.connection.prepare_cached(REFUSED)?.execute(values)?;
        self.note_first(int(*first))
    }

    fn add_record(&mut self, context: &Context<'_>, record: &Value, position: u64) -> Result<(), StoreError> {
        let text = |name: &str| record.get(name).and_then(Value::as_str).unwrap_or_default();
        let at = record.get("time_ms").and_then(Value::as_u64).unwrap_or(context.batch.until);
        let grant = GrantId::new(text("issuer"), text("token"));
        let mut insert = self.connection.prepare_cached("INSERT INTO record VALUES (?, ?, ?, ?, ?, ?, ?)")?;
        let (feed, node, principal) = (context.feed, context.node, context.principal);
        insert.execute(params![int(position), feed, node, int(at), grant.0, json(record)?, principal])?;
        drop(insert);
        self.note_first(int(at))
    }

    /// Writes the grant, if it is not there. What was written about it first stays.
    fn grant(&mut self, feed: i64, grant: &GrantInfo) -> Result<GrantId, StoreError> {
        let id = GrantId::new(&grant.issuer, &grant.token);
        if self.grants.contains_key(&(feed, id)) {
            return Ok(id);
        }
        let mut find = self.connection.prepare_cached("SELECT n FROM \"grant\" WHERE feed = ? AND id = ?")?;
        let found = find.query_row(params![feed, id.0], |row| row.get(0)).optional()?;
        drop(find);
        let n = match found {
            Some(n) => n,
            None => {
                let issuer = self.name(&grant.issuer)?;
                let add = "INSERT INTO issuer VALUES (?) ON CONFLICT DO NOTHING";
                self.connection.prepare_cached(add)?.execute([issuer])?;
                let fingerprint = info::fingerprint(&grant.fingerprint);
                let mut insert = self.connection.prepare_cached(
                    "INSERT INTO \"grant\" (feed, id, issuer, token, fingerprint, subject, client, task, session, issued,
                     expires, more) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                )?;
                insert.insert(params![
                    feed,
                    id.0,
                    issuer,
                    grant.token,
                    fingerprint,
                    grant.subject,
                    grant.client,
                    grant.task,
                    grant.session,
                    int(grant.issued_at),
                    int(grant.expires_at),
                    info::more(grant)?
                ])?
            }
        };
        remember(&mut self.grants, (feed, id), n, GRANTS);
        Ok(id)
    }

    /// Whether the file has the event.
    pub fn has_event(&mut self, event: &EventRow) -> Result<bool, StoreError> {
        let Some(feed) = super::names::find(&self.connection, &event.feed)? else { return Ok(false) };
        let find = "SELECT 1 FROM event WHERE feed = ? AND source = ? AND id = ?";
        Ok(self.connection.prepare_cached(find)?.exists(params![feed, event.source, event.id])?)
    }

    /// Writes an event. Returns whether it is new.
    pub fn add_event(&mut self, event: &EventRow) -> Result<bool, StoreError> {
        let feed = self.name(&event.feed)?;
        let (kind, data) = (event.kind.map(EventKind::name), json(&event.data)?);
        let (at, heard_at) = (int(event.at), int(event.heard_at));
        let values: [&dyn ToSql; 16] = [
            &feed,
            &event.source,
            &event.id,
            &kind,
            &at,
            &heard_at,
            &event.issuer,
            &event.task,
            &event.session,
            &event.subject,
            &event.client,
            &event.token,
            &event.task_kind,
            &event.by,
            &event.reason,
            &data,
        ];
        let mut insert = self.connection.prepare_cached(
            "INSERT INTO event (feed, source, id, kind, at, heard_at, issuer, task, session, subject, client, token,
             task_kind, by, reason, data) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
        )?;
        Ok(insert.execute(values)? == 1)
    }

    /// Writes a gap. Returns whether it is new.
    pub fn add_gap(&mut self, feed: &str, node: &str, gap: &Gap) -> Result<bool, StoreError> {
        let (feed, node) = (self.name(feed)?, self.name(node)?);
        let mut insert =
            self.connection.prepare_cached("INSERT INTO gap VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING")?;
        Ok(insert.execute(params![feed, gap.vm, int(gap.since), int(gap.until), node])? == 1)
    }

    /// Counts a batch that was dropped at the time `at`.
    pub fn count_dropped(&mut self, feed: &str, at: u64) -> Result<(), StoreError> {
        let feed = self.name(feed)?;
        let add = "INSERT INTO dropped VALUES (?, ?, 1) ON CONFLICT DO UPDATE SET count = count + 1";
        self.connection.prepare_cached(add)?.execute(params![feed, int(at / HOUR)])?;
        Ok(())
    }

    fn note_first(&mut self, first: i64) -> Result<(), StoreError> {
        if first < self.first {
            self.connection.prepare_cached("UPDATE span SET first = ?")?.execute([first])?;
            self.first = first;
        }
        Ok(())
    }

    fn name(&mut self, name: &str) -> Result<i64, StoreError> {
        self.numbers.name(&self.connection, name)
    }
}

fn json<T: serde::Serialize>(value: &T) -> Result<String, StoreError> {
    serde_json::to_string(value).map_err(|error| StoreError::Failed(error.to_string()))
}

//! The rows about one grant, from one file and from several.

use super::rows::damaged;
use crate::evidence::model::{GrantId, GrantRow, PermittedRow, RefusedRow, SeenRow};
use crate::evidence::store::bounded::Bounded;
use crate::evidence::store::value::uint;
use crate::store::model::StoreError;
use rusqlite::{Connection, OptionalExtension, Row};
use std::collections::HashMap;
use taskfence_core::uses::batch::{GrantInfo, SeenKind};

/// The columns of each table, as the functions of [`Gathered`] expect them. The first one is the grant.
pub const PERMITTED: &str = "p.\"grant\", p.cell, p.node, p.captures, p.count, p.break_glass, p.first, p.last";
/// See [`PERMITTED`].
pub const REFUSED: &str = "p.\"grant\", p.cause, p.node, p.count, p.first, p.last";
/// See [`PERMITTED`].
pub const SEEN: &str = "p.\"grant\", p.kind, p.value, p.count, p.first, p.last";
/// See [`PERMITTED`].
pub const OTHER: &str = "p.\"grant\", p.count, p.first, p.last";

/// Rows of which a window has something: `?2` is its beginning, `?3` its end.
pub const IN_WINDOW: &str = "p.first < ?3 AND p.last >= ?2";

/// What the numbers in one file stand for.
pub struct Lookup<'c> {
    connection: &'c Connection,
    names: HashMap<i64, String>,
    cells: HashMap<i64, [String; 3]>,
    causes: HashMap<i64, ([String; 3], bool, bool)>,
}

impl<'c> Lookup<'c> {
    /// Of the file.
    pub fn new(connection: &'c Connection) -> Lookup<'c> {
        Lookup { connection, names: HashMap::new(), cells: HashMap::new(), causes: HashMap::new() }
    }

    /// The text.
    pub fn name(&mut self, id: i64) -> Result<&str, StoreError> {
        if !self.names.contains_key(&id) {
            let mut find = self.connection.prepare_cached("SELECT name FROM name WHERE id = ?")?;
            let name: Option<String> = find.query_row([id], |row| row.get(0)).optional()?;
            self.names.insert(id, name.ok_or_else(|| missing(id))?);
        }
        self.names.get(&id).map(String::as_str).ok_or_else(|| missing(id))
    }

    /// Configuration, rule and method.
    fn cell(&mut self, id: i64) -> Result<&[String; 3], StoreError> {
        if !self.cells.contains_key(&id) {
            let mut find = self.connection.prepare_cached("SELECT config, rule, method FROM cell WHERE id = ?")?;
            let ids: Option<(i64, i64, i64)> = find.query_row([id], |row| <_>::try_from(row)).optional()?;
            let names = self.three(ids.ok_or_else(|| missing(id))?)?;
            self.cells.insert(id, names);
        }
        self.cells.get(&id).ok_or_else(|| missing(id))
    }

    /// Configuration, rule and reason; whether it was shadow mode; whether a stream was ended.
    fn cause(&mut self, id: i64) -> Result<&([String; 3], bool, bool), StoreError> {
        if !self.causes.contains_key(&id) {
            let find = "SELECT config, rule, reason, shadow, ended FROM cause WHERE id = ?";
            let mut find = self.connection.prepare_cached(find)?;
            let ids: Option<(i64, i64, i64, bool, bool)> = find.query_row([id], |row| <_>::try_from(row)).optional()?;
            let (config, rule, reason, shadow, ended) = ids.ok_or_else(|| missing(id))?;
            let names = self.three((config, rule, reason))?;
            self.causes.insert(id, (names, shadow, ended));
        }
        self.causes.get(&id).ok_or_else(|| missing(id))
    }

    fn three(&mut self, (a, b, c): (i64, i64, i64)) -> Result<[String; 3], StoreError> {
        Ok([self.name(a)?.to_owned(), self.name(b)?.to_owned(), self.name(c)?.to_owned()])
    }
}

fn missing(id: i64) -> StoreError {
    StoreError::Damaged(format!("the text number {id} is missing"))
}

/// What was found about one grant.
#[derive(Debug, Default)]
pub struct Gathered {
    row: GrantRow,
    bounded: Bounded,
    /// From the first to the last use that has no row of its own.
    other: Option<(u64, u64)>,
    /// In how many files something was.
    files: usize,
    /// The last row of `permitted`, in the numbers of its file.
    permitted: Option<(i64, i64, String)>,
    /// The last row of `refused`, in the numbers of its file.
    refused: Option<(i64, i64)>,
}

impl Gathered {
    /// Whether nothing was found.
    pub fn is_empty(&self) -> bool {
        let GrantRow { permitted, refused, seen, .. } = &self.row;
        permitted.is_empty() && refused.is_empty() && seen.is_empty() && self.other.is_none()
    }

    /// About how many bytes the rows take.
    pub fn bytes(&self) -> usize {
        self.bounded.bytes()
    }

    /// What follows is from another file.
    pub fn next_file(&mut self) {
        (self.permitted, self.refused) = (None, None);
        self.files = self.files.saturating_add(1);
    }

    /// Adds a row of `permitted`. Rows with the same key come one after the other.
    pub fn add_permitted(&mut self, lookup: &mut Lookup<'_>, row: &Row<'_>) -> Result<(), StoreError> {
        let (cell, node) = (row.get(1)?, row.get(2)?);
        let captures = row.get_ref(3)?.as_str().map_err(|error| damaged(&error))?;
        let (count, break_glass) = (uint(row.get(4)?), uint(row.get(5)?));
        let (first, last) = (uint(row.get(6)?), uint(row.get(7)?));
        let sums = PermittedRow { count, break_glass, first, last, ..PermittedRow::default() };
        let is_same =
            self.permitted.as_ref().is_some_and(|key| (key.0, key.1, key.2.as_str()) == (cell, node, captures));
        if let (true, Some(into)) = (is_same, self.row.permitted.last_mut()) {
            add_permitted(into, &sums);
            return Ok(());
        }
        let node_name = lookup.name(node)?.to_owned();
        let [config, rule, method] = lookup.cell(cell)?.clone();
        let parsed = match captures {
            "" => Vec::new(),
            json => serde_json::from_str(json).map_err(|error| damaged(&error))?,
        };
        let row = PermittedRow { node: node_name, config, rule, method, captures: parsed, ..sums };
        let has_row = self.bounded.permitted(&mut self.row, row);
        self.permitted = has_row.then(|| (cell, node, captures.to_owned()));
        if !has_row {
            self.note_other(first, last);
        }
        Ok(())
    }

    /// Adds a row of `refused`. Rows with the same key come one after the other.
    pub fn add_refused(&mut self, lookup: &mut Lookup<'_>, row: &Row<'_>) -> Result<(), StoreError> {
        let (cause, node) = (row.get(1)?, row.get(2)?);
        let (count, first, last) = (uint(row.get(3)?), uint(row.get(4)?), uint(row.get(5)?));
        let sums = RefusedRow { count, first, last, ..RefusedRow::default() };
        if let (true, Some(into)) = (self.refused == Some((cause, node)), self.row.refused.last_mut()) {
            add_refused(into, &sums);
            return Ok(());
        }
        let node_name = lookup.name(node)?.to_owned();
        let ([config, rule, reason], shadow, ended) = lookup.cause(cause)?.clone();
        let row = RefusedRow { node: node_name, config, rule, reason, shadow, ended, ..sums };
        self.refused = self.bounded.refused(&mut self.row, row).then_some((cause, node));
        Ok(())
    }

    /// Adds a row of `seen`. Rows with the same key come one after the other.
    pub fn add_seen(&mut self, row: &Row<'_>) -> Result<(), StoreError> {
        let kind = match row.get::<_, i64>(1)? {
            0 => SeenKind::Peer,
            1 => SeenKind::Source,
            _ => SeenKind::Key,
        };
        let value = row.get_ref(2)?.as_str().map_err(|error| damaged(&error))?;
        let (count, first, last) = (uint(row.get(3)?), uint(row.get(4)?), uint(row.get(5)?));
        match self.row.seen.last_mut() {
            Some(into) if into.kind == kind && into.value == value => add_seen(into, (count, first, last)),
            _ => {
                let row = SeenRow { kind, value: value.to_owned(), count, first, last };
                self.bounded.seen(&mut self.row, row);
            }
        }
        Ok(())
    }

    /// Adds a row of `other`.
    pub fn add_other(&mut self, row: &Row<'_>) -> Result<(), StoreError> {
        let (first, last) = (uint(row.get(2)?), uint(row.get(3)?));
        self.row.other = self.row.other.saturating_add(uint(row.get(1)?));
        self.note_other(first, last);
        Ok(())
    }

    fn note_other(&mut self, first: u64, last: u64) {
        self.other = Some(self.other.map_or((first, last), |other| (other.0.min(first), other.1.max(last))));
    }

    /// The grant, with its sums over all files.
    pub fn finish(self, id: GrantId, info: GrantInfo) -> GrantRow {
        let GrantRow { mut permitted, mut refused, mut seen, other, .. } = self.row;
        if self.files > 1 {
            permitted.sort_unstable_by(|a, b| key_of_permitted(a).cmp(&key_of_permitted(b)));
            permitted.dedup_by(|from, into| {
                let is_same = key_of_permitted(from) == key_of_permitted(into);
                if is_same {
                    add_permitted(into, from);
                }
                is_same
            });
            refused.sort_unstable_by(|a, b| key_of_refused(a).cmp(&key_of_refused(b)));
            refused.dedup_by(|from, into| {
                let is_same = key_of_refused(from) == key_of_refused(into);
                if is_same {
                    add_refused(into, from);
                }
                is_same
            });
            seen.sort_unstable_by(|a, b| (a.kind, &a.value).cmp(&(b.kind, &b.value)));
            seen.dedup_by(|from, into| {
                let is_same = (from.kind, &from.value) == (into.kind, &into.value);
                if is_same {
                    add_seen(into, (from.count, from.first, from.last));
                }
                is_same
            });
        }
        let stretches = permitted.iter().map(|row| (row.first, row.last));
        let stretches = stretches.chain(refused.iter().map(|row| (row.first, row.last)));
        let whole = stretches.reduce(|a, b| (a.0.min(b.0), a.1.max(b.1)));
        let (first, last) = whole.or(self.other).unwrap_or_default();
        GrantRow { id, info, first, last, permitted, other, refused, seen }
    }
}

fn key_of_permitted(row: &PermittedRow) -> (&str, &str, &str, &str, &[String]) {
    (&row.node, &row.config, &row.rule, &row.method, &row.captures)
}

fn key_of_refused(row: &RefusedRow) -> (&str, &str, &str, &str, bool, bool) {
    (&row.node, &row.config, &row.rule, &row.reason, row.shadow, row.ended)
}

fn add_permitted(into: &mut PermittedRow, from: &PermittedRow) {
    into.count = into.count.saturating_add(from.count);
    into.break_glass = into.break_glass.saturating_add(from.break_glass);
    (into.first, into.last) = (into.first.min(from.first), into.last.max(from.last));
}

fn add_refused(into: &mut RefusedRow, from: &RefusedRow) {
    into.count = into.count.saturating_add(from.count);
    (into.first, into.last) = (into.first.min(from.first), into.last.max(from.last));
}

fn add_seen(into: &mut SeenRow, (count, first, last): (u64, u64, u64)) {
    into.count = into.count.saturating_add(count);
    (into.first, into.last) = (into.first.min(first), into.last.max(last));
}

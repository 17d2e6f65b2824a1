//! Text that repeats is stored once in each file, and named by a number.

use crate::store::model::StoreError;
use rusqlite::{Connection, OptionalExtension, params};
use std::collections::HashMap;
use std::hash::Hash;

/// Of so many texts the numbers are remembered.
const REMEMBERED: usize = 50_000;

/// Longer text, in bytes, is looked up each time.
const SHORT: usize = 256;

/// The number of the text; `None`: the file does not have it.
pub fn find(connection: &Connection, name: &str) -> Result<Option<i64>, StoreError> {
    let mut find = connection.prepare_cached("SELECT id FROM name WHERE name = ?")?;
    Ok(find.query_row([name], |row| row.get(0)).optional()?)
}

/// The numbers that a writer has given. After a rollback they are not true any more.
#[derive(Debug, Default)]
pub struct Numbers {
    names: HashMap<String, i64>,
    cells: HashMap<(i64, i64, i64), i64>,
    causes: HashMap<(i64, i64, i64, bool, bool), i64>,
}

impl Numbers {
    /// The number of the text.
    pub fn name(&mut self, connection: &Connection, name: &str) -> Result<i64, StoreError> {
        if let Some(id) = self.names.get(name) {
            return Ok(*id);
        }
        let id = match find(connection, name)? {
            Some(id) => id,
            None => connection.prepare_cached("INSERT INTO name (name) VALUES (?)")?.insert([name])?,
        };
        if name.len() <= SHORT {
            remember(&mut self.names, name.to_owned(), id, REMEMBERED);
        }
        Ok(id)
    }

    /// The number of a rule with a method, of their numbers.
    pub fn cell(&mut self, connection: &Connection, cell: (i64, i64, i64)) -> Result<i64, StoreError> {
        if let Some(id) = self.cells.get(&cell) {
            return Ok(*id);
        }
        let find = "SELECT id FROM cell WHERE config = ? AND rule = ? AND method = ?";
        let id = match connection.prepare_cached(find)?.query_row(cell, |row| row.get(0)).optional()? {
            Some(id) => id,
            None => {
                connection.prepare_cached("INSERT INTO cell (config, rule, method) VALUES (?, ?, ?)")?.insert(cell)?
            }
        };
        remember(&mut self.cells, cell, id, REMEMBERED);
        Ok(id)
    }

    /// The number of a rule with a reason, of their numbers, for shadow mode, for an ended stream.
    pub fn cause(&mut self, connection: &Connection, cause: (i64, i64, i64, bool, bool)) -> Result<i64, StoreError> {
        if let Some(id) = self.causes.get(&cause) {
            return Ok(*id);
        }
        let find = "SELECT id FROM cause WHERE config = ? AND rule = ? AND reason = ? AND shadow = ? AND ended = ?";
        let add = "INSERT INTO cause (config, rule, reason, shadow, ended) VALUES (?, ?, ?, ?, ?)";
        let (config, rule, reason, shadow, ended) = cause;
        let values = params![config, rule, reason, shadow, ended];
        let id = match connection.prepare_cached(find)?.query_row(values, |row| row.get(0)).optional()? {
            Some(id) => id,
            None => connection.prepare_cached(add)?.insert(values)?,
        };
        remember(&mut self.causes, cause, id, REMEMBERED);
        Ok(id)
    }
}

/// Remembers a number, and at most so many: then all others are forgotten.
pub fn remember<K: Eq + Hash>(numbers: &mut HashMap<K, i64>, key: K, id: i64, most: usize) {
    if numbers.len() >= most {
        numbers.clear();
    }
    numbers.insert(key, id);
}

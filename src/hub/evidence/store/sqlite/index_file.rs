//! The file `index.sqlite`: named values, the rules of configurations, and what is kept.

use super::folder::{Folder, Which};
use crate::evidence::store::day::Day;
use crate::evidence::store::value::{int, uint};
use crate::store::model::StoreError;
use rusqlite::{Connection, OptionalExtension, Row, params};
use std::collections::HashSet;
use taskfence_core::uses::outline::Outline;

/// The file, open to read and to write.
pub struct IndexFile(Connection);

impl IndexFile {
    /// Opens it, or creates it. One that is damaged is set aside.
    pub fn open(folder: &Folder) -> Result<IndexFile, StoreError> {
        match folder.open(Which::Index) {
            Err(error @ StoreError::Damaged(_)) => {
                folder.set_aside(Which::Index, &error)?;
                folder.open(Which::Index).map(IndexFile)
            }
            opened => opened.map(IndexFile),
        }
    }

    /// The first day that is kept, and a position after which no record was given one.
    pub fn kept(&self) -> Result<(Day, u64), StoreError> {
        let kept = self.0.query_row("SELECT day, position FROM kept", [], |row| <(i64, i64)>::try_from(row))?;
        Ok((Day(uint(kept.0)), uint(kept.1)))
    }

    /// Sets what [`IndexFile::kept`] says.
    pub fn keep(&self, first: Day, position: u64) -> Result<(), StoreError> {
        self.0.execute("UPDATE kept SET day = ?, position = ?", [int(first.0), int(position)])?;
        Ok(())
    }

    /// See `EvidenceStore::get`.
    pub fn get(&self, name: &str) -> Result<Option<String>, StoreError> {
        let mut find = self.0.prepare_cached("SELECT value FROM value WHERE name = ?")?;
        Ok(find.query_row([name], |row| row.get(0)).optional()?)
    }

    /// See `EvidenceStore::set`.
    pub fn set(&self, name: &str, value: &str) -> Result<(), StoreError> {
        let set = "INSERT INTO value VALUES (?, ?) ON CONFLICT DO UPDATE SET value = excluded.value";
        self.0.prepare_cached(set)?.execute([name, value])?;
        Ok(())
    }

    /// Stores the rules of configurations. Says of each whether it is new.
    pub fn add_configs(&self, configs: &[(&str, &Outline)]) -> Result<Vec<bool>, StoreError> {
        let transaction = self.0.unchecked_transaction()?;
        let mut added = Vec::with_capacity(configs.len());
        for (feed, outline) in configs {
            let json = serde_json::to_string(outline).map_err(|error| StoreError::Failed(error.to_string()))?;
            let add = "INSERT INTO config (feed, hash, outline) VALUES (?, ?, ?) ON CONFLICT DO NOTHING";
            added.push(transaction.prepare_cached(add)?.execute(params![feed, outline.config, json])? == 1);
        }
        transaction.commit()?;
        Ok(added)
    }

    /// See `EvidenceStore::configs`.
    pub fn configs(&self, feed: &str) -> Result<Vec<Outline>, StoreError> {
        let mut find = self.0.prepare_cached("SELECT outline FROM config WHERE feed = ? ORDER BY hash")?;
        let mut rows = find.query([feed])?;
        let mut configs = Vec::new();
        while let Some(row) = rows.next()? {
            let json = row.get_ref(0)?.as_str().map_err(|error| super::rows::damaged(&error))?;
            configs.push(serde_json::from_str(json).map_err(|error| super::rows::damaged(&error))?);
        }
        Ok(configs)
    }

    /// Removes the configurations that no day has named for `after` milliseconds. `named` are those that one names now.
    pub fn prune_configs(&self, named: &HashSet<String>, now: u64, after: u64) -> Result<(), StoreError> {
        let transaction = self.0.unchecked_transaction()?;
        let find = "SELECT feed, hash, unnamed FROM config";
        let read = |row: &Row<'_>| Ok(<(String, String, Option<i64>)>::try_from(row)?);
        for (feed, hash, unnamed) in super::reads::all(&transaction, find, &[], read)? {
            let (is_named, key) = (named.contains(&hash), params![feed, hash]);
            match unnamed.map(uint) {
                Some(_) if is_named => {
                    transaction.execute("UPDATE config SET unnamed = NULL WHERE feed = ? AND hash = ?", key)?;
                }
                None if !is_named => {
                    let set = "UPDATE config SET unnamed = ? WHERE feed = ? AND hash = ?";
                    transaction.execute(set, params![int(now), feed, hash])?;
                }
                Some(since) if now.saturating_sub(since) >= after => {
                    transaction.execute("DELETE FROM config WHERE feed = ? AND hash = ?", key)?;
                }
                _ => {}
            }
        }
        Ok(transaction.commit()?)
    }
}

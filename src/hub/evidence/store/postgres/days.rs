//! The partitions of the tables: each day has its own, made when its first row comes, and removed as a whole.

use crate::evidence::model::Window;
use crate::evidence::store::day::Day;
use crate::evidence::store::postgres::schema::DAILY;
use crate::evidence::store::value::int;
use crate::store::model::StoreError;
use crate::store::postgres::pool::Pool;
use crate::store::postgres::session::{CommitError, Session};
use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

/// The advisory lock of who makes partitions, or says which days are kept: several replicas do so at once.
const LOCK: i64 = 0x5446_6865_0002;

/// The days whose partitions this process knows to be there.
#[derive(Default)]
pub(super) struct Known(Mutex<BTreeSet<i32>>);

impl Known {
    /// Makes the partitions of `days` that are not there, in a transaction of their own. Days that are not kept any more get
    /// none.
    pub(super) fn make(&self, pool: &Pool, days: &BTreeSet<i32>) -> Result<(), CommitError> {
        let missing: Vec<i32> = {
            let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            days.difference(&known).copied().collect()
        };
        if missing.is_empty() {
            return Ok(());
        }
        let made = pool.write(|session| {
            lock(session)?;
            let kept = first_kept(session)?;
            let there = all(session)?;
            let kept: Vec<i32> = missing.iter().copied().filter(|day| *day >= kept).collect();
            for day in kept.iter().filter(|day| !there.contains(day)) {
                make_one(session, *day)?;
            }
            Ok(kept)
        })?;
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend(made);
        Ok(())
    }

    /// Forgets all: another replica has removed some.
    pub(super) fn forget(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

/// A table is made beside its parent and then joined to it: that waits for nobody who reads or writes.
fn make_one(session: &mut Session, day: i32) -> Result<(), StoreError> {
    for table in DAILY {
        let name = partition(table, day);
        // Sums change in place.
        session.batch(&format!(
            "CREATE TABLE {name} (LIKE evidence.{table} INCLUDING ALL) WITH (fillfactor = 85);
             ALTER TABLE evidence.{table} ATTACH PARTITION {name} FOR VALUES IN ({day})"
        ))?;
    }
    // No grant is in it yet.
    let insert = "INSERT INTO evidence.day (day, since, issued_from, issued_to) VALUES ($1::int, $1::int * 86400000::bigint, $2, 0)";
    session.execute(insert, &[&day, &i64::MAX])?;
    Ok(())
}

/// Removes the partitions of a day, each in a transaction of its own: who removes one waits for all that read or write that
/// table, and they wait meanwhile, so it does not wait long.
///
/// [`StoreError::Unavailable`]: a query goes on for long. It is tried again when it is pruned the next time.
pub(super) fn remove(pool: &Pool, day: i32) -> Result<(), CommitError> {
    for table in DAILY {
        let name = partition(table, day);
        pool.write(|session| session.batch(&format!("SET LOCAL lock_timeout = '1s'; DROP TABLE IF EXISTS {name}")))?;
    }
    pool.write(|session| session.execute("DELETE FROM evidence.day WHERE day = $1", &[&day])).map(drop)
}

/// From now on nothing is taken that is before `day`.
pub(super) fn keep_from(session: &mut Session, day: i32) -> Result<(), StoreError> {
    lock(session)?;
    session.execute("UPDATE evidence.kept SET day = greatest(day, $1)", &[&day]).map(drop)
}

/// The first day that is kept.
pub(super) fn first_kept(session: &mut Session) -> Result<i32, StoreError> {
    let row = session.row("SELECT day FROM evidence.kept", &[])?;
    Ok(row.map(|row| row.try_get(0)).transpose()?.unwrap_or_default())
}

/// All days that have partitions, in order.
pub(super) fn all(session: &mut Session) -> Result<Vec<i32>, StoreError> {
    let rows = session.rows("SELECT day FROM evidence.day ORDER BY day", &[])?;
    Ok(rows.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?)
}

/// The days that may have something that happened in the window, in order.
pub(super) fn of_uses(session: &mut Session, window: Window) -> Result<Vec<i32>, StoreError> {
    let text = "SELECT day FROM evidence.day WHERE since < $1 AND (day + 1) * 86400000::bigint > $2 ORDER BY day";
    let rows = session.rows(text, &[&int(window.until), &int(window.since)])?;
    Ok(rows.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?)
}

/// The same, and the days that may have grants that were issued in the window.
pub(super) fn of_grants(session: &mut Session, window: Window) -> Result<Vec<i32>, StoreError> {
    let text = "SELECT day FROM evidence.day WHERE (since < $1 AND (day + 1) * 86400000::bigint > $2)
        OR (issued_from < $1 AND issued_to >= $2) ORDER BY day";
    let rows = session.rows(text, &[&int(window.until), &int(window.since)])?;
    Ok(rows.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?)
}

/// The name of the partition: `evidence.use_day_20261128`.
fn partition(table: &str, day: i32) -> String {
    let day = Day(u64::try_from(day).unwrap_or(0));
    format!("evidence.{table}_{}", day.to_string().replace('-', ""))
}

fn lock(session: &mut Session) -> Result<(), StoreError> {
    session.rows("SELECT pg_advisory_xact_lock($1)", &[&LOCK]).map(drop)
}

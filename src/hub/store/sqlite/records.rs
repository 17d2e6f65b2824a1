//! What is not a signal: the audit log, principals, followers and named values.

use crate::store::model::{Audit, FollowerRecord, PrincipalRecord, StoreError};
use crate::store::sqlite::retention;
use crate::store::sqlite::transaction;
use crate::store::value::{int, uint};
use rusqlite::{Connection, OptionalExtension, params};

/// See `Store::audit`.
pub fn audit(connection: &Connection, records: &[Audit]) -> Result<(), StoreError> {
    transaction::write(connection, |connection| {
        records.iter().try_for_each(|record| retention::count(connection, record))?;
        let mut insert =
            connection.prepare_cached("INSERT INTO audit (at, by, call, status, detail) VALUES (?, ?, ?, ?, ?)")?;
        for Audit { at, by, call, status, detail } in records {
            insert.execute(params![int(*at), by, call, status, detail])?;
        }
        note_time(connection, records.iter().map(|record| record.at).max().unwrap_or_default())
    })
}

/// See `Store::audits`.
pub fn audits(connection: &Connection, before: Option<u64>, limit: usize) -> Result<Vec<(u64, Audit)>, StoreError> {
    let mut select = connection
        .prepare_cached("SELECT id, at, by, call, status, detail FROM audit WHERE id < ? ORDER BY id DESC LIMIT ?")?;
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let mut rows = select.query([before.map_or(i64::MAX, int), limit])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        let audit = Audit {
            at: uint(row.get(1)?)?,
            by: row.get(2)?,
            call: row.get(3)?,
            status: row.get(4)?,
            detail: row.get(5)?,
        };
        found.push((uint(row.get(0)?)?, audit));
    }
    Ok(found)
}

/// See `Store::principals`.
pub fn principals(connection: &Connection) -> Result<Vec<PrincipalRecord>, StoreError> {
    let mut select = connection.prepare_cached("SELECT name, role, feeds FROM principal ORDER BY name")?;
    let mut tokens =
        connection.prepare_cached("SELECT hash, made, used FROM token WHERE principal = ? ORDER BY made, hash")?;
    let mut rows = select.query([])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        let feeds: String = row.get(2)?;
        let feeds = serde_json::from_str(&feeds).map_err(|error| StoreError::Damaged(error.to_string()))?;
        let mut principal = PrincipalRecord { name: row.get(0)?, role: row.get(1)?, feeds, tokens: Vec::new() };
        let mut own = tokens.query([&principal.name])?;
        while let Some(token) = own.next()? {
            principal.tokens.push((token.get(0)?, uint(token.get(1)?)?, uint(token.get(2)?)?));
        }
        found.push(principal);
    }
    Ok(found)
}

/// See `Store::put_principal`.
pub fn put_principal(connection: &Connection, principal: &PrincipalRecord) -> Result<(), StoreError> {
    let PrincipalRecord { name, role, feeds, tokens } = principal;
    let feeds = serde_json::to_string(feeds).map_err(|error| StoreError::Failed(error.to_string()))?;
    transaction::write(connection, |connection| {
        connection
            .prepare_cached(
                "INSERT INTO principal (name, role, feeds) VALUES (?, ?, ?)
                 ON CONFLICT DO UPDATE SET role = excluded.role, feeds = excluded.feeds",
            )?
            .execute(params![name, role, feeds])?;
        connection.prepare_cached("DELETE FROM token WHERE principal = ?")?.execute([name])?;
        for (hash, made, used) in tokens {
            connection
                .prepare_cached("INSERT INTO token (principal, hash, made, used) VALUES (?, ?, ?, ?)")?
                .execute(params![name, hash, int(*made), int(*used)])?;
            note_time(connection, (*made).max(*used))?;
        }
        Ok(())
    })
}

/// See `Store::remove_principal`.
pub fn remove_principal(connection: &Connection, name: &str) -> Result<bool, StoreError> {
    transaction::write(connection, |connection| {
        connection.prepare_cached("DELETE FROM token WHERE principal = ?")?.execute([name])?;
        Ok(connection.prepare_cached("DELETE FROM principal WHERE name = ?")?.execute([name])? > 0)
    })
}

/// See `Store::put_followers`.
pub fn put_followers(connection: &Connection, followers: &[FollowerRecord]) -> Result<(), StoreError> {
    transaction::write(connection, |connection| {
        let mut put = connection.prepare_cached(
            "INSERT INTO follower (feed, id, principal, report, applied, seen, statement_at, replica, relay)
             VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
             ON CONFLICT DO UPDATE SET principal = excluded.principal, report = excluded.report,
                applied = excluded.applied, seen = excluded.seen, statement_at = excluded.statement_at,
                replica = excluded.replica, relay = excluded.relay WHERE excluded.seen >= follower.seen",
        )?;
        let mut latest = 0;
        for follower in followers {
            let FollowerRecord { feed, id, principal, report, applied, seen, statement_at, replica, relay } = follower;
            latest = latest.max(*seen).max(*statement_at);
            let (applied, seen, statement_at) = (applied.to_string(), int(*seen), int(*statement_at));
            put.execute(params![feed, id, principal, report, applied, seen, statement_at, replica, relay])?;
        }
        note_time(connection, latest)
    })
}

/// See `Store::followers`.
pub fn followers(connection: &Connection, feed: &str) -> Result<Vec<FollowerRecord>, StoreError> {
    let mut select = connection.prepare_cached(
        "SELECT id, principal, report, applied, seen, statement_at, replica, relay FROM follower
         WHERE feed = ? ORDER BY id",
    )?;
    let mut rows = select.query([feed])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        let applied: String = row.get(3)?;
        found.push(FollowerRecord {
            feed: feed.to_owned(),
            id: row.get(0)?,
            principal: row.get(1)?,
            report: row.get(2)?,
            applied: applied.parse().map_err(|_| StoreError::Damaged(format!("the revision `{applied}`")))?,
            seen: uint(row.get(4)?)?,
            statement_at: uint(row.get(5)?)?,
            replica: row.get(6)?,
            relay: row.get(7)?,
        });
    }
    Ok(found)
}

/// See `Store::remove_followers`.
pub fn remove_followers(connection: &Connection, feed: &str, ids: &[String]) -> Result<(), StoreError> {
    transaction::write(connection, |connection| {
        let mut delete = connection.prepare_cached("DELETE FROM follower WHERE feed = ? AND id = ?")?;
        for id in ids {
            delete.execute([feed, id])?;
        }
        Ok(())
    })
}

/// See `Store::set`.
pub fn set(connection: &Connection, name: &str, value: &str) -> Result<(), StoreError> {
    transaction::write(connection, |connection| put(connection, name, value))
}

fn put(connection: &Connection, name: &str, value: &str) -> Result<(), StoreError> {
    let text = "INSERT INTO value (name, value) VALUES (?, ?) ON CONFLICT DO UPDATE SET value = excluded.value";
    connection.prepare_cached(text)?.execute([name, value])?;
    Ok(())
}

/// See `Store::get`.
pub fn get(connection: &Connection, name: &str) -> Result<Option<String>, StoreError> {
    let mut select = connection.prepare_cached("SELECT value FROM value WHERE name = ?")?;
    Ok(select.query_row([name], |row| row.get(0)).optional()?)
}

/// See `Store::values`.
pub fn values(connection: &Connection, prefix: &str) -> Result<Vec<(String, String)>, StoreError> {
    let mut select = connection
        .prepare_cached("SELECT name, value FROM value WHERE substr(name, 1, length(?1)) = ?1 ORDER BY name")?;
    let rows = select.query_map([prefix], |row| Ok((row.get(0)?, row.get(1)?)))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// See `Store::swap`.
pub fn swap(
    connection: &Connection,
    name: &str,
    expected: Option<&str>,
    new: Option<&str>,
) -> Result<bool, StoreError> {
    transaction::write(connection, |connection| {
        if get(connection, name)?.as_deref() != expected {
            return Ok(false);
        }
        match new {
            Some(value) => put(connection, name, value)?,
            None => drop(connection.prepare_cached("DELETE FROM value WHERE name = ?")?.execute([name])?),
        }
        Ok(true)
    })
}

/// Notes a time that is stored, in milliseconds since 1970.
pub fn note_time(connection: &Connection, time: u64) -> Result<(), StoreError> {
    connection.prepare_cached("UPDATE clock SET latest = ? WHERE latest < ?")?.execute([int(time), int(time)])?;
    Ok(())
}

/// See `Store::latest_time`.
pub fn latest_time(connection: &Connection) -> Result<u64, StoreError> {
    uint(connection.prepare_cached("SELECT latest FROM clock")?.query_row([], |row| row.get(0))?)
}

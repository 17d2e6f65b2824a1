//! What is not a signal: the audit log, principals, followers and named values.

use crate::store::model::{Audit, FollowerRecord, PrincipalRecord, StoreError};
use crate::store::postgres::retention;
use crate::store::postgres::session::Session;
use crate::store::postgres::text::stored;
use crate::store::value::{int, uint};

/// See `Store::audit`.
pub fn audit(session: &mut Session, records: &[Audit]) -> Result<(), StoreError> {
    retention::count(session, records)?;
    let texts = |text: fn(&Audit) -> &String| records.iter().map(|one| stored(text(one))).collect::<Vec<_>>();
    let (by, call, detail) = (texts(|one| &one.by), texts(|one| &one.call), texts(|one| &one.detail));
    let (by, call, detail) = (refs(&by), refs(&call), refs(&detail));
    let at: Vec<i64> = records.iter().map(|one| int(one.at)).collect();
    let status: Vec<i32> = records.iter().map(|one| i32::from(one.status)).collect();
    session.execute(
        "INSERT INTO taskfence.audit (at, by, call, status, detail)
         SELECT at, by, call, status, detail
         FROM unnest($1::bigint[], $2::text[], $3::text[], $4::int[], $5::text[]) WITH ORDINALITY
            AS new (at, by, call, status, detail, n) ORDER BY n",
        &[&at, &by, &call, &status, &detail],
    )?;
    note_time(session, records.iter().map(|record| record.at).max().unwrap_or_default())
}

/// The texts as parameters.
pub fn refs<'t>(texts: &'t [std::borrow::Cow<'_, str>]) -> Vec<&'t str> {
    texts.iter().map(AsRef::as_ref).collect()
}

/// See `Store::audits`.
pub fn audits(session: &mut Session, before: Option<u64>, limit: usize) -> Result<Vec<(u64, Audit)>, StoreError> {
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let text = "SELECT id, at, by, call, status, detail FROM taskfence.audit WHERE id < $1 ORDER BY id DESC LIMIT $2";
    let read = |row: &tokio_postgres::Row| {
        let status: i32 = row.try_get(4)?;
        let audit = Audit {
            at: uint(row.try_get(1)?)?,
            by: row.try_get(2)?,
            call: row.try_get(3)?,
            status: u16::try_from(status).map_err(|_| StoreError::Damaged(format!("the status {status}")))?,
            detail: row.try_get(5)?,
        };
        Ok((uint(row.try_get(0)?)?, audit))
    };
    session.rows(text, &[&before.map_or(i64::MAX, int), &limit])?.iter().map(read).collect()
}

/// See `Store::principals`.
pub fn principals(session: &mut Session) -> Result<Vec<PrincipalRecord>, StoreError> {
    let text = "SELECT name, role, feeds, hash, made, used FROM taskfence.principal
         LEFT JOIN taskfence.token ON token.principal = principal.name ORDER BY name, made, hash";
    let mut found: Vec<PrincipalRecord> = Vec::new();
    for row in session.rows(text, &[])? {
        let name: String = row.try_get(0)?;
        if found.last().is_none_or(|last| last.name != name) {
            let feeds: &str = row.try_get(2)?;
            let feeds = serde_json::from_str(feeds).map_err(|error| StoreError::Damaged(error.to_string()))?;
            found.push(PrincipalRecord { name, role: row.try_get(1)?, feeds, tokens: Vec::new() });
        }
        if let (Some(hash), Some(last)) = (row.try_get::<_, Option<Vec<u8>>>(3)?, found.last_mut()) {
            last.tokens.push((hash, uint(row.try_get(4)?)?, uint(row.try_get(5)?)?));
        }
    }
    Ok(found)
}

/// See `Store::put_principal`.
pub fn put_principal(session: &mut Session, principal: &PrincipalRecord) -> Result<(), StoreError> {
    let PrincipalRecord { name, role, feeds, tokens } = principal;
    let feeds = serde_json::to_string(feeds).map_err(|error| StoreError::Failed(error.to_string()))?;
    session.execute(
        "INSERT INTO taskfence.principal (name, role, feeds) VALUES ($1, $2, $3)
         ON CONFLICT (name) DO UPDATE SET role = excluded.role, feeds = excluded.feeds",
        &[name, role, &feeds],
    )?;
    session.execute("DELETE FROM taskfence.token WHERE principal = $1", &[name])?;
    for (hash, made, used) in tokens {
        session.execute(
            "INSERT INTO taskfence.token (principal, hash, made, used) VALUES ($1, $2, $3, $4)",
            &[name, hash, &int(*made), &int(*used)],
        )?;
        note_time(session, (*made).max(*used))?;
    }
    Ok(())
}

/// See `Store::remove_principal`.
pub fn remove_principal(session: &mut Session, name: &str) -> Result<bool, StoreError> {
    Ok(session.execute("DELETE FROM taskfence.principal WHERE name = $1", &[&name])? > 0)
}

/// See `Store::put_followers`.
pub fn put_followers(session: &mut Session, followers: &[FollowerRecord]) -> Result<(), StoreError> {
    // In the order of their ids, so that two replicas never wait for each other; and the last of each alone.
    let sorted: std::collections::BTreeMap<_, _> =
        followers.iter().map(|one| ((one.feed.as_str(), one.id.as_str()), one)).collect();
    let all: Vec<_> = sorted.into_values().collect();
    let texts = |text: fn(&FollowerRecord) -> &String| all.iter().map(|one| stored(text(one))).collect::<Vec<_>>();
    let columns = [
        texts(|one| &one.feed),
        texts(|one| &one.id),
        texts(|one| &one.principal),
        texts(|one| &one.report),
        texts(|one| &one.replica),
        texts(|one| &one.relay),
    ];
    let [feed, id, principal, report, replica, relay] = columns.each_ref().map(|column| refs(column));
    let applied: Vec<String> = all.iter().map(|one| one.applied.to_string()).collect();
    let seen: Vec<i64> = all.iter().map(|one| int(one.seen)).collect();
    let statement_at: Vec<i64> = all.iter().map(|one| int(one.statement_at)).collect();
    session.execute(
        "INSERT INTO taskfence.follower (feed, id, principal, report, applied, seen, statement_at, replica, relay)
         SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::bigint[], $7::bigint[],
            $8::text[], $9::text[])
         ON CONFLICT (feed, id) DO UPDATE SET principal = excluded.principal, report = excluded.report,
            applied = excluded.applied, seen = excluded.seen, statement_at = excluded.statement_at,
            replica = excluded.replica, relay = excluded.relay WHERE excluded.seen >= follower.seen",
        &[&feed, &id, &principal, &report, &applied, &seen, &statement_at, &replica, &relay],
    )?;
    note_time(session, all.iter().map(|one| one.seen.max(one.statement_at)).max().unwrap_or_default())
}

/// See `Store::followers`.
pub fn followers(session: &mut Session, feed: &str) -> Result<Vec<FollowerRecord>, StoreError> {
    followers_seen(session, feed, None, 0)
}

/// See `Store::followers_seen`. `but`: not those of this replica.
pub fn followers_seen(
    session: &mut Session,
    feed: &str,
    but: Option<&str>,
    since: u64,
) -> Result<Vec<FollowerRecord>, StoreError> {
    let text = "SELECT id, principal, report, applied, seen, statement_at, replica, relay FROM taskfence.follower
         WHERE feed = $1 AND replica IS DISTINCT FROM $2 AND seen >= $3 ORDER BY id";
    let read = |row: &tokio_postgres::Row| {
        let applied: &str = row.try_get(3)?;
        Ok(FollowerRecord {
            feed: feed.to_owned(),
            id: row.try_get(0)?,
            principal: row.try_get(1)?,
            report: row.try_get(2)?,
            applied: applied.parse().map_err(|_| StoreError::Damaged(format!("the revision `{applied}`")))?,
            seen: uint(row.try_get(4)?)?,
            statement_at: uint(row.try_get(5)?)?,
            replica: row.try_get(6)?,
            relay: row.try_get(7)?,
        })
    };
    session.rows(text, &[&feed, &but, &int(since)])?.iter().map(read).collect()
}

/// See `Store::remove_followers`.
pub fn remove_followers(session: &mut Session, feed: &str, ids: &[String]) -> Result<(), StoreError> {
    session.execute("DELETE FROM taskfence.follower WHERE feed = $1 AND id = ANY ($2)", &[&feed, &ids])?;
    Ok(())
}

/// See `Store::set`.
pub fn set(session: &mut Session, name: &str, value: &str) -> Result<(), StoreError> {
    session.execute(
        "INSERT INTO taskfence.value (name, value) VALUES ($1, $2)
         ON CONFLICT (name) DO UPDATE SET value = excluded.value",
        &[&name, &stored(value).as_ref()],
    )?;
    Ok(())
}

/// See `Store::get`.
pub fn get(session: &mut Session, name: &str) -> Result<Option<String>, StoreError> {
    let row = session.row("SELECT value FROM taskfence.value WHERE name = $1", &[&name])?;
    Ok(row.map(|row| row.try_get(0)).transpose()?)
}

/// See `Store::values`.
pub fn values(session: &mut Session, prefix: &str) -> Result<Vec<(String, String)>, StoreError> {
    let text = "SELECT name, value FROM taskfence.value WHERE starts_with(name, $1) ORDER BY name";
    session.rows(text, &[&prefix])?.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect()
}

/// See `Store::swap`.
pub fn swap(session: &mut Session, name: &str, expected: Option<&str>, new: Option<&str>) -> Result<bool, StoreError> {
    let expected = expected.map(stored);
    let new = new.map(stored);
    let (expected, new) = (expected.as_deref(), new.as_deref());
    let changed = match (expected, new) {
        (None, Some(new)) => {
            let text = "INSERT INTO taskfence.value (name, value) VALUES ($1, $2) ON CONFLICT (name) DO NOTHING";
            session.execute(text, &[&name, &new])?
        }
        (Some(expected), Some(new)) => {
            let text = "UPDATE taskfence.value SET value = $3 WHERE name = $1 AND value = $2";
            session.execute(text, &[&name, &expected, &new])?
        }
        (Some(expected), None) => {
            session.execute("DELETE FROM taskfence.value WHERE name = $1 AND value = $2", &[&name, &expected])?
        }
        (None, None) => return Ok(get(session, name)?.is_none()),
    };
    Ok(changed > 0)
}

/// Notes a time that is stored, in milliseconds since 1970.
pub fn note_time(session: &mut Session, time: u64) -> Result<(), StoreError> {
    session.execute("UPDATE taskfence.clock SET latest = $1 WHERE latest < $1", &[&int(time)])?;
    Ok(())
}

/// See `Store::latest_time`.
pub fn latest_time(session: &mut Session) -> Result<u64, StoreError> {
    let row = session.row("SELECT latest FROM taskfence.clock", &[])?;
    row.map_or(Ok(0), |row| uint(row.try_get(0)?))
}

/// The clock of the database, in milliseconds since 1970.
pub fn now(session: &mut Session) -> Result<u64, StoreError> {
    let row = session.row("SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint", &[])?;
    row.map_or(Ok(0), |row| uint(row.try_get(0)?))
}

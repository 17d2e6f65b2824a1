//! Proves on the real database what the numbers of feeds stand on: that a locked row makes the next transaction wait, and
//! that this one then sees what the first has committed. A pooler that gives each statement another connection fails it, and
//! so may a database that only speaks the protocol of PostgreSQL.

use crate::store::model::StoreError;
use crate::store::postgres::pool::Pool;
use crate::store::postgres::session::Session;
use std::thread;
use std::time::Duration;

/// A transaction that does not wait for the lock goes on within this time.
const PAUSE: Duration = Duration::from_millis(150);

const READ: &str = "SELECT n FROM taskfence.probe WHERE id = $1 FOR UPDATE";

/// Fails with the remedy where the database does not do what is needed.
pub fn prove(pool: &Pool) -> Result<(), StoreError> {
    let id = getrandom::u64().map_err(|error| StoreError::Failed(error.to_string()))?.cast_signed();
    let (mut first, mut second) = (pool.connect()?, pool.connect()?);
    first.execute("INSERT INTO taskfence.probe (id, n) VALUES ($1, 0)", &[&id])?;
    let own = [pid(&mut first)?, pid(&mut first)?];
    first.begin_write()?;
    let within = pid(&mut first)?;
    if own != [within; 2] || within == pid(&mut second)? {
        return Err(refused("it gives the statements of one connection to several sessions"));
    }
    let setting = first.row("SELECT current_setting('synchronous_commit')", &[])?;
    let setting: String = setting.map(|row| row.try_get(0)).transpose()?.unwrap_or_default();
    if !matches!(setting.as_str(), "on" | "remote_apply") {
        return Err(refused("it does not let `synchronous_commit` be set"));
    }
    read(&mut first, id)?;
    second.begin_write()?;
    let seen = thread::scope(|scope| -> Result<Option<i64>, StoreError> {
        let waiting = scope.spawn(|| read(&mut second, id));
        thread::sleep(PAUSE);
        let has_waited = !waiting.is_finished();
        write(&mut first, id, 1)?;
        first.commit().map_err(|error| StoreError::Unavailable(error.to_string()))?;
        let seen = waiting.join().map_err(|_| StoreError::Failed("a test of the order broke off".to_owned()))??;
        Ok(Some(seen).filter(|_| has_waited))
    })?;
    match seen {
        None => return Err(refused("a transaction does not wait for a row that another one has locked")),
        Some(1) => {}
        Some(_) => return Err(refused("a transaction does not see what the one before it has committed")),
    }
    write(&mut second, id, 2)?;
    second.commit().map_err(|error| StoreError::Unavailable(error.to_string()))?;
    if read(&mut first, id)? != 2 {
        return Err(refused("what was committed is not seen afterwards"));
    }
    first.execute("DELETE FROM taskfence.probe WHERE id = $1", &[&id])?;
    Ok(())
}

fn pid(session: &mut Session) -> Result<i32, StoreError> {
    let row = session.row("SELECT pg_backend_pid()", &[])?;
    row.map_or(Ok(0), |row| Ok(row.try_get(0)?))
}

fn read(session: &mut Session, id: i64) -> Result<i64, StoreError> {
    let row = session.row(READ, &[&id])?.ok_or_else(|| refused("a row that was written is not there"))?;
    Ok(row.try_get(0)?)
}

fn write(session: &mut Session, id: i64, n: i64) -> Result<(), StoreError> {
    session.execute("UPDATE taskfence.probe SET n = $2 WHERE id = $1", &[&id, &n])?;
    Ok(())
}

fn refused(why: &str) -> StoreError {
    StoreError::Failed(format!(
        "the database cannot keep revocations in order: {why}; connect to PostgreSQL itself, not to a pooler in statement \
         or transaction mode, nor to another engine"
    ))
}

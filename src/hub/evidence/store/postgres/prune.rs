//! Removes whole days.

use crate::evidence::store::day::Day;
use crate::evidence::store::kept::Kept;
use crate::evidence::store::postgres::{days, reads};
use crate::store::model::StoreError;
use crate::store::postgres::pool::Pool;
use crate::store::postgres::session::{CommitError, Session};

/// See `EvidenceStore::prune`. Of several replicas that do it at once, each removes what the others have not.
pub(super) fn prune(pool: &Pool, kept: Kept, now: u64) -> Result<u64, CommitError> {
    let today = Day::of(now);
    let first = days_of(today.before(kept.days.saturating_sub(1)));
    pool.write(|session| days::keep_from(session, first))?;
    let mut removed = 0u64;
    loop {
        let (first, days, bytes) =
            pool.write(|session| Ok((days::first_kept(session)?, days::all(session)?, reads::bytes(session)?)))?;
        // The newest day stays, unless it is too old.
        let Some(oldest) = days.first().copied() else { break };
        if oldest >= first {
            if bytes <= kept.bytes || days.len() < 2 {
                break;
            }
            pool.write(|session| days::keep_from(session, oldest.saturating_add(1)))?;
        }
        days::remove(pool, oldest)?;
        removed = removed.saturating_add(1);
    }
    pool.write(|session| rest(session, days_of(today), i32::try_from(kept.days).unwrap_or(i32::MAX)))?;
    Ok(removed)
}

/// Removes what is not in a partition.
fn rest(session: &mut Session, today: i32, days: i32) -> Result<(), StoreError> {
    let first = days::first_kept(session)?;
    session.execute("DELETE FROM evidence.gap WHERE day < $1", &[&first])?;
    session.execute("DELETE FROM evidence.sender WHERE day < $1", &[&first])?;
    session.execute("DELETE FROM evidence.dropped WHERE hour < $1::int * 24::bigint", &[&first])?;
    session
        .execute("UPDATE evidence.config SET unnamed = NULL WHERE named >= $1 AND unnamed IS NOT NULL", &[&first])?;
    session.execute(
        "UPDATE evidence.config SET unnamed = $2 WHERE (named >= $1) IS NOT TRUE AND unnamed IS NULL",
        &[&first, &today],
    )?;
    session.execute("DELETE FROM evidence.config WHERE unnamed <= $1", &[&today.saturating_sub(days)])?;
    Ok(())
}

fn days_of(day: Day) -> i32 {
    i32::try_from(day.0).unwrap_or(i32::MAX)
}

//! The tables that a group of changes reads and writes.

use crate::store::model::{NewSignal, StoreError, StoredEntry};
use crate::store::sqlite::{prune, reads, records};
use crate::store::tables::{EachRow, EachSaid, Key, KnownSignal, NumberedRow, Numbers, Own, Tables};
use crate::store::value::{self, int, uint};
use rusqlite::{Connection, OptionalExtension, Row, params};
use taskfence_core::feed::revision::Revision;
use taskfence_core::time::Timestamp;

/// The tables of a database that is in a transaction.
pub struct SqliteTables<'c>(pub &'c Connection);

impl Tables for SqliteTables<'_> {
    fn feed(&mut self, name: &str) -> Result<(i64, Revision), StoreError> {
        reads::feed(self.0, name)
    }

    fn set_head(&mut self, feed: i64, head: Revision) -> Result<(), StoreError> {
        self.0
            .prepare_cached("UPDATE feed SET number = ?, chain = ? WHERE id = ? AND number < ?")?
            .execute(params![int(head.number), head.chain.0, feed, int(head.number)])?;
        Ok(())
    }

    fn signal_of(&mut self, feed: i64, transmitter: &str, jti: &str) -> Result<Option<KnownSignal>, StoreError> {
        let mut select = self.0.prepare_cached(
            "SELECT id, fingerprint, number, chain, lifted_at IS NOT NULL FROM signal
             WHERE feed = ? AND transmitter = ? AND jti = ?",
        )?;
        select.query_row(params![feed, transmitter, jti], known).optional()?.transpose()
    }

    fn signal(&mut self, feed: i64, signal: i64) -> Result<Option<KnownSignal>, StoreError> {
        let mut select = self.0.prepare_cached(
            "SELECT id, fingerprint, number, chain, lifted_at IS NOT NULL FROM signal WHERE id = ? AND feed = ?",
        )?;
        select.query_row([signal, feed], known).optional()?.transpose()
    }

    fn add_signal(&mut self, feed: i64, new: &NewSignal) -> Result<i64, StoreError> {
        let mut insert = self.0.prepare_cached(
            "INSERT INTO signal (feed, transmitter, jti, fingerprint, event, subject, claims, by, reason, at, taken_in,
                first, number, chain, ends) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 0, 0, x'', 0)",
        )?;
        Ok(insert.insert(params![
            feed,
            new.transmitter,
            new.jti,
            new.fingerprint,
            new.event,
            new.subject,
            new.claims,
            new.by,
            new.reason,
            int(new.at.0),
            int(new.taken_in),
        ])?)
    }

    fn renumber(&mut self, signal: i64, numbers: Numbers, ends: Option<i64>) -> Result<(), StoreError> {
        let Numbers { first, last, chain } = numbers;
        self.0
            .prepare_cached("UPDATE signal SET first = ?, number = ?, chain = ?, ends = ifnull(?, ends) WHERE id = ?")?
            .execute(params![first, last, chain.0, ends, signal])?;
        Ok(())
    }

    fn mark_lifted(&mut self, signal: i64, (by, reason, at): (&str, &str, u64)) -> Result<(), StoreError> {
        self.0
            .prepare_cached("UPDATE signal SET lifted_by = ?, lifted_reason = ?, lifted_at = ? WHERE id = ?")?
            .execute(params![by, reason, int(at), signal])?;
        Ok(())
    }

    fn entries_of(&mut self, feed: i64, signal: i64) -> Result<Vec<StoredEntry>, StoreError> {
        reads::entries_of(self.0, feed, uint(signal)?)
    }

    fn newest(&mut self, key: Key<'_>, each: &mut EachRow<'_>) -> Result<(), StoreError> {
        let mut select = self.0.prepare_cached(
            "SELECT number, bytes FROM entry WHERE feed = ? AND bucket = ? AND key = ? ORDER BY number DESC",
        )?;
        let mut rows = select.query(params![key.feed, key.bucket, key.key])?;
        while let Some(row) = rows.next()? {
            if !each(row.get(0)?, row.get_ref(1)?.as_blob().map_err(reads::wrong)?)? {
                break;
            }
        }
        Ok(())
    }

    fn standing(
        &mut self,
        key: Key<'_>,
        except: i64,
        now: Timestamp,
        each: &mut EachSaid<'_>,
    ) -> Result<(), StoreError> {
        let mut select = self.0.prepare_cached(
            "SELECT entry.bytes, entry.own_at, entry.own_until FROM entry CROSS JOIN signal ON signal.id = entry.signal
             WHERE entry.feed = ? AND entry.bucket = ? AND entry.key = ? AND entry.own_until > ?
                AND entry.signal <> ? AND signal.lifted_at IS NULL",
        )?;
        let mut rows = select.query(params![key.feed, key.bucket, key.key, int(now.0), except])?;
        while let Some(row) = rows.next()? {
            let own = Own { at: Timestamp(uint(row.get(1)?)?), until: Timestamp(uint(row.get(2)?)?) };
            each(row.get_ref(0)?.as_blob().map_err(reads::wrong)?, own)?;
        }
        Ok(())
    }

    fn add_entry(&mut self, feed: i64, signal: i64, row: &NumberedRow<'_>) -> Result<(), StoreError> {
        let NumberedRow { number, chain, entry, own } = row;
        let (own_at, own_until) = (int(own.at.0), int(own.until.0));
        self.0
            .prepare_cached(
                "INSERT INTO entry (feed, bucket, key, number, signal, until, bytes, own_at, own_until)
                 VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            )?
            .execute(params![
                feed,
                entry.bucket,
                entry.key,
                number,
                signal,
                int(entry.until.0),
                entry.bytes,
                own_at,
                own_until
            ])?;
        self.0
            .prepare_cached("INSERT INTO log (feed, number, chain, bucket, key) VALUES (?, ?, ?, ?, ?)")?
            .execute(params![feed, number, chain.0, entry.bucket, entry.key])?;
        Ok(())
    }

    fn shorten(&mut self, key: Key<'_>, number: i64, until: Timestamp, bytes: Vec<u8>) -> Result<(), StoreError> {
        self.0
            .prepare_cached(
                "UPDATE entry SET until = ?, bytes = ? WHERE feed = ? AND bucket = ? AND key = ? AND number = ?",
            )?
            .execute(params![int(until.0), bytes, key.feed, key.bucket, key.key, number])?;
        Ok(())
    }

    fn remove_entry(&mut self, key: Key<'_>, number: i64) -> Result<(), StoreError> {
        prune::remove_entry(self.0, key.feed, key.bucket, key.key, number)
    }

    fn note_time(&mut self, time: u64) -> Result<(), StoreError> {
        records::note_time(self.0, time)
    }

    fn latest_time(&mut self) -> Result<u64, StoreError> {
        records::latest_time(self.0)
    }
}

/// The columns id, fingerprint, number, chain, whether it is lifted.
fn known(row: &Row<'_>) -> rusqlite::Result<Result<KnownSignal, StoreError>> {
    let (id, fingerprint, number, is_lifted) = (row.get(0)?, row.get(1)?, row.get(2)?, row.get(4)?);
    let chain = value::chain(row.get_ref(3)?.as_blob()?);
    Ok(chain.map(|chain| KnownSignal { id, fingerprint, number, chain, is_lifted }))
}

//! What a group of changes writes, column by column: each table gets one statement, however many rows there are.

use crate::store::postgres::rows::{KeyId, Rows, Signal, State};
use crate::store::postgres::text::stored;
use crate::store::tables::Numbers;
use crate::store::value::int;
use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use taskfence_core::feed::revision::{Chain, Revision};
use tokio_postgres::types::ToSql;

/// A statement and its parameters.
pub(super) type Call<'c> = (&'static str, Vec<&'c (dyn ToSql + Sync)>);

/// The columns of the signals that are new.
#[derive(Default)]
pub(super) struct Inserted<'w> {
    id: Vec<i64>,
    feed: Vec<i64>,
    texts: [Vec<Cow<'w, str>>; 7],
    fingerprint: Vec<&'w [u8]>,
    at: Vec<i64>,
    taken_in: Vec<i64>,
    first: Vec<i64>,
    number: Vec<i64>,
    chain: Vec<&'w [u8]>,
    ends: Vec<i64>,
    lifted_by: Vec<Option<Cow<'w, str>>>,
    lifted_reason: Vec<Option<Cow<'w, str>>>,
    lifted_at: Vec<Option<i64>>,
}

impl<'w> Inserted<'w> {
    pub(super) fn of(signals: &'w HashMap<i64, Signal>) -> Inserted<'w> {
        let mut all = Inserted::default();
        for signal in signals.values() {
            let Some(new) = &signal.new else { continue };
            let (numbers, ends) = signal.renumbered.unwrap_or((NO_NUMBERS, None));
            all.id.push(signal.known.id);
            all.feed.push(signal.feed);
            let texts = [&new.transmitter, &new.jti, &new.event, &new.subject, &new.claims, &new.by, &new.reason];
            all.texts.iter_mut().zip(texts).for_each(|(column, text)| column.push(stored(text)));
            all.fingerprint.push(&new.fingerprint);
            all.at.push(int(new.at.0));
            all.taken_in.push(int(new.taken_in));
            all.first.push(numbers.first);
            all.number.push(numbers.last);
            all.chain.push(&signal.known.chain.0);
            all.ends.push(ends.unwrap_or_default());
            let lifted = signal.lifted.as_ref();
            all.lifted_by.push(lifted.map(|(by, _, _)| stored(by)));
            all.lifted_reason.push(lifted.map(|(_, reason, _)| stored(reason)));
            all.lifted_at.push(lifted.map(|(_, _, at)| int(*at)));
        }
        all
    }

    pub(super) fn push<'c>(&'c self, calls: &mut Vec<Call<'c>>) {
        if self.id.is_empty() {
            return;
        }
        let mut params: Vec<&'c (dyn ToSql + Sync)> = vec![&self.id, &self.feed];
        for column in &self.texts {
            params.push(column);
        }
        let more: [&'c (dyn ToSql + Sync); 10] = [
            &self.fingerprint,
            &self.at,
            &self.taken_in,
            &self.first,
            &self.number,
            &self.chain,
            &self.ends,
            &self.lifted_by,
            &self.lifted_reason,
            &self.lifted_at,
        ];
        params.extend(more);
        let text = "INSERT INTO taskfence.signal (id, feed, transmitter, jti, event, subject, claims, by, reason,
                fingerprint, at, taken_in, first, number, chain, ends, lifted_by, lifted_reason, lifted_at)
             SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::text[], $4::text[], $5::text[], $6::text[],
                $7::text[], $8::text[], $9::text[], $10::bytea[], $11::bigint[], $12::bigint[], $13::bigint[],
                $14::bigint[], $15::bytea[], $16::bigint[], $17::text[], $18::text[], $19::bigint[])";
        calls.push((text, params));
    }
}

const NO_NUMBERS: Numbers = Numbers { first: 0, last: 0, chain: Chain([0; 8]) };

/// The columns of the signals that were there, and have changed.
#[derive(Default)]
pub(super) struct ChangedSignals<'w> {
    id: Vec<i64>,
    first: Vec<Option<i64>>,
    number: Vec<Option<i64>>,
    chain: Vec<Option<&'w [u8]>>,
    ends: Vec<Option<i64>>,
    lifted_by: Vec<Option<Cow<'w, str>>>,
    lifted_reason: Vec<Option<Cow<'w, str>>>,
    lifted_at: Vec<Option<i64>>,
}

impl<'w> ChangedSignals<'w> {
    pub(super) fn of(signals: &'w HashMap<i64, Signal>) -> ChangedSignals<'w> {
        let mut all = ChangedSignals::default();
        for signal in signals.values().filter(|signal| signal.new.is_none()) {
            if signal.renumbered.is_none() && signal.lifted.is_none() {
                continue;
            }
            all.id.push(signal.known.id);
            let numbers = signal.renumbered.as_ref();
            all.first.push(numbers.map(|(numbers, _)| numbers.first));
            all.number.push(numbers.map(|(numbers, _)| numbers.last));
            all.chain.push(numbers.map(|(numbers, _)| numbers.chain.0.as_slice()));
            all.ends.push(numbers.and_then(|(_, ends)| *ends));
            let lifted = signal.lifted.as_ref();
            all.lifted_by.push(lifted.map(|(by, _, _)| stored(by)));
            all.lifted_reason.push(lifted.map(|(_, reason, _)| stored(reason)));
            all.lifted_at.push(lifted.map(|(_, _, at)| int(*at)));
        }
        all
    }

    pub(super) fn push<'c>(&'c self, calls: &mut Vec<Call<'c>>) {
        if self.id.is_empty() {
            return;
        }
        let text = "UPDATE taskfence.signal SET first = coalesce(new.first, signal.first),
                number = coalesce(new.number, signal.number), chain = coalesce(new.chain, signal.chain),
                ends = coalesce(new.ends, signal.ends), lifted_by = coalesce(new.lifted_by, signal.lifted_by),
                lifted_reason = coalesce(new.lifted_reason, signal.lifted_reason),
                lifted_at = coalesce(new.lifted_at, signal.lifted_at)
             FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bytea[], $5::bigint[], $6::text[], $7::text[],
                $8::bigint[]) AS new (id, first, number, chain, ends, lifted_by, lifted_reason, lifted_at)
             WHERE signal.id = new.id";
        let params: Vec<&'c (dyn ToSql + Sync)> = vec![
            &self.id,
            &self.first,
            &self.number,
            &self.chain,
            &self.ends,
            &self.lifted_by,
            &self.lifted_reason,
            &self.lifted_at,
        ];
        calls.push((text, params));
    }
}

/// The columns of the entries that are new.
#[derive(Default)]
pub(super) struct Entries<'w> {
    feed: Vec<i64>,
    bucket: Vec<i32>,
    key: Vec<&'w [u8]>,
    number: Vec<i64>,
    signal: Vec<i64>,
    until: Vec<i64>,
    bytes: Vec<&'w [u8]>,
    own_at: Vec<i64>,
    own_until: Vec<i64>,
}

impl<'w> Entries<'w> {
    pub(super) fn of(keys: &'w HashMap<KeyId, Rows>) -> Entries<'w> {
        let mut all = Entries::default();
        for (key, rows) in keys {
            for (number, row) in rows.rows.iter().filter(|(_, row)| row.state == State::New) {
                all.feed.push(key.0);
                all.bucket.push(i32::from(key.1));
                all.key.push(&key.2);
                all.number.push(*number);
                all.signal.push(row.signal);
                all.until.push(int(row.entry.until.0));
                all.bytes.push(&row.entry.bytes);
                all.own_at.push(int(row.own.at.0));
                all.own_until.push(int(row.own.until.0));
            }
        }
        all
    }

    pub(super) fn push<'c>(&'c self, calls: &mut Vec<Call<'c>>) {
        if self.feed.is_empty() {
            return;
        }
        let text = "INSERT INTO taskfence.entry (feed, bucket, key, number, signal, until, bytes, own_at, own_until)
             SELECT * FROM unnest($1::bigint[], $2::int[], $3::bytea[], $4::bigint[], $5::bigint[], $6::bigint[],
                $7::bytea[], $8::bigint[], $9::bigint[])";
        let params: Vec<&'c (dyn ToSql + Sync)> = vec![
            &self.feed,
            &self.bucket,
            &self.key,
            &self.number,
            &self.signal,
            &self.until,
            &self.bytes,
            &self.own_at,
            &self.own_until,
        ];
        calls.push((text, params));
    }
}

/// The columns of the entries that go.
#[derive(Default)]
pub(super) struct Removed<'w> {
    feed: Vec<i64>,
    bucket: Vec<i32>,
    key: Vec<&'w [u8]>,
    number: Vec<i64>,
}

impl<'w> Removed<'w> {
    pub(super) fn of(keys: &'w HashMap<KeyId, Rows>) -> Removed<'w> {
        let mut all = Removed::default();
        for (key, rows) in keys {
            for number in &rows.removed {
                all.feed.push(key.0);
                all.bucket.push(i32::from(key.1));
                all.key.push(&key.2);
                all.number.push(*number);
            }
        }
        all
    }

    pub(super) fn push<'c>(&'c self, calls: &mut Vec<Call<'c>>) {
        if self.feed.is_empty() {
            return;
        }
        let text = "DELETE FROM taskfence.entry USING unnest($1::bigint[], $2::int[], $3::bytea[], $4::bigint[])
                AS gone (feed, bucket, key, number)
             WHERE entry.feed = gone.feed AND entry.bucket = gone.bucket AND entry.key = gone.key
                AND entry.number = gone.number";
        calls.push((text, vec![&self.feed, &self.bucket, &self.key, &self.number]));
        let text = "DELETE FROM taskfence.log USING unnest($1::bigint[], $2::bigint[]) AS gone (feed, number),
                taskfence.feed
             WHERE feed.id = gone.feed AND log.feed = gone.feed AND log.number = gone.number
                AND gone.number <= feed.cleared";
        calls.push((text, vec![&self.feed, &self.number]));
    }
}

/// The columns of the entries that get another end.
#[derive(Default)]
pub(super) struct Shortened<'w> {
    feed: Vec<i64>,
    bucket: Vec<i32>,
    key: Vec<&'w [u8]>,
    number: Vec<i64>,
    until: Vec<i64>,
    bytes: Vec<&'w [u8]>,
}

impl<'w> Shortened<'w> {
    pub(super) fn of(keys: &'w HashMap<KeyId, Rows>) -> Shortened<'w> {
        let mut all = Shortened::default();
        for (key, rows) in keys {
            for (number, row) in rows.rows.iter().filter(|(_, row)| row.state == State::Changed) {
                all.feed.push(key.0);
                all.bucket.push(i32::from(key.1));
                all.key.push(&key.2);
                all.number.push(*number);
                all.until.push(int(row.entry.until.0));
                all.bytes.push(&row.entry.bytes);
            }
        }
        all
    }

    pub(super) fn push<'c>(&'c self, calls: &mut Vec<Call<'c>>) {
        if self.feed.is_empty() {
            return;
        }
        let text = "UPDATE taskfence.entry SET until = new.until, bytes = new.bytes
             FROM unnest($1::bigint[], $2::int[], $3::bytea[], $4::bigint[], $5::bigint[], $6::bytea[])
                AS new (feed, bucket, key, number, until, bytes)
             WHERE entry.feed = new.feed AND entry.bucket = new.bucket AND entry.key = new.key
                AND entry.number = new.number";
        let params: Vec<&'c (dyn ToSql + Sync)> =
            vec![&self.feed, &self.bucket, &self.key, &self.number, &self.until, &self.bytes];
        calls.push((text, params));
    }
}

/// The columns of the new numbers.
#[derive(Default)]
pub(super) struct Log<'w> {
    feed: Vec<i64>,
    number: Vec<i64>,
    chain: Vec<&'w [u8]>,
    bucket: Vec<i32>,
    key: Vec<&'w [u8]>,
}

impl<'w> Log<'w> {
    pub(super) fn of(log: &'w [(KeyId, i64, Chain)]) -> Log<'w> {
        let mut all = Log::default();
        for (key, number, chain) in log {
            all.feed.push(key.0);
            all.number.push(*number);
            all.chain.push(&chain.0);
            all.bucket.push(i32::from(key.1));
            all.key.push(&key.2);
        }
        all
    }

    pub(super) fn push<'c>(&'c self, calls: &mut Vec<Call<'c>>) {
        if self.feed.is_empty() {
            return;
        }
        let text = "INSERT INTO taskfence.log (feed, number, chain, bucket, key)
             SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::bytea[], $4::int[], $5::bytea[])";
        calls.push((text, vec![&self.feed, &self.number, &self.chain, &self.bucket, &self.key]));
    }
}

/// The columns of the heads that have moved.
#[derive(Default)]
pub(super) struct Heads<'w> {
    feed: Vec<i64>,
    number: Vec<i64>,
    chain: Vec<&'w [u8]>,
}

impl<'w> Heads<'w> {
    pub(super) fn of(heads: &'w BTreeMap<i64, Revision>) -> Heads<'w> {
        let mut all = Heads::default();
        for (feed, head) in heads {
            all.feed.push(*feed);
            all.number.push(int(head.number));
            all.chain.push(&head.chain.0);
        }
        all
    }

    pub(super) fn push<'c>(&'c self, calls: &mut Vec<Call<'c>>) {
        let text = "UPDATE taskfence.feed SET number = new.number, chain = new.chain
             FROM unnest($1::bigint[], $2::bigint[], $3::bytea[]) AS new (id, number, chain)
             WHERE feed.id = new.id AND feed.number < new.number";
        calls.push((text, vec![&self.feed, &self.number, &self.chain]));
    }
}

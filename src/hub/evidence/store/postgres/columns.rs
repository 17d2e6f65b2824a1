//! The sums of a group of batches, as columns that one statement for each table writes.

use crate::evidence::store::postgres::hours::{Call, Hour};
use crate::evidence::store::postgres::sums::{Span, Sum, Sums, kind};
use crate::evidence::store::postgres::text::{Key, json};
use crate::evidence::store::value::int;
use crate::store::model::StoreError;
use crate::store::postgres::session::Session;
use crate::store::postgres::text::stored;
use std::borrow::Cow;
use std::collections::BTreeMap;
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

type Texts<'w> = Vec<Cow<'w, str>>;
type Params<'c> = Vec<&'c (dyn ToSql + Sync)>;

/// The hours of VMs.
#[derive(Default)]
pub(super) struct Batches<'w> {
    day: Vec<i32>,
    feed: Vec<&'w str>,
    key: Vec<&'w [u8]>,
    hour: Vec<i64>,
    numbers: Vec<String>,
    texts: [Texts<'w>; 4],
    since: Vec<i64>,
    until: Vec<i64>,
    lost: [Vec<i64>; 3],
}

impl<'w> Batches<'w> {
    /// Those that have changed.
    pub(super) fn of(hours: &'w BTreeMap<(&'w str, Key, i64, i32), Hour<'w>>) -> Batches<'w> {
        Batches::with(hours.iter().filter(|(_, hour)| hour.since < u64::MAX))
    }

    fn with<'h>(hours: impl Iterator<Item = (&'w (&'h str, Key, i64, i32), &'w Hour<'h>)>) -> Batches<'w>
    where
        'h: 'w,
    {
        let mut all = Batches::default();
        for ((feed, key, at, day), hour) in hours {
            all.day.push(*day);
            all.feed.push(feed);
            all.key.push(key);
            all.hour.push(*at);
            all.numbers.push(hour.numbers.to_string());
            let texts = [&hour.of.batch.vm, &hour.of.proxy, &hour.of.node, &hour.of.principal];
            all.texts.iter_mut().zip(texts).for_each(|(column, text)| column.push(stored(text)));
            all.since.push(int(hour.since));
            all.until.push(int(hour.until));
            let lost = [hour.other_permitted, hour.other_refused, hour.records_dropped];
            all.lost.iter_mut().zip(lost).for_each(|(column, count)| column.push(count));
        }
        all
    }

    /// Makes the rows that are not there, locks all of them, and returns feed, VM, hour, day and numbers of each.
    pub(super) fn lock(
        hours: &BTreeMap<(&str, Key, i64, i32), Hour<'_>>,
        session: &mut Session,
    ) -> Result<Vec<Row>, StoreError> {
        let all = Batches::with(hours.iter());
        let [vm, proxy, node, principal] = &all.texts;
        let text = "INSERT INTO evidence.batch_day AS b (day, feed, key, hour, vm, proxy, node, numbers, since, until,
                other_permitted, other_refused, records_dropped, principal)
             SELECT day, feed, key, hour, vm, proxy, node, '{}', since, until, 0, 0, 0, principal
             FROM unnest($1::int[], $2::text[], $3::bytea[], $4::bigint[], $5::text[], $6::text[], $7::text[],
                $8::bigint[], $9::bigint[], $10::text[])
                AS new (day, feed, key, hour, vm, proxy, node, since, until, principal)
             ON CONFLICT (feed, key, hour, day) DO UPDATE SET vm = EXCLUDED.vm
             RETURNING feed, key, hour, day, numbers::text";
        let Batches { day, feed, key, hour, since, until, .. } = &all;
        session.rows(text, &[day, feed, key, hour, vm, proxy, node, since, until, principal])
    }

    pub(super) fn push<'c>(&'c self, calls: &mut Vec<Call<'c>>) {
        let [_, proxy, node, _] = &self.texts;
        let [permitted, refused, records] = &self.lost;
        let text = "UPDATE evidence.batch_day AS b SET numbers = new.numbers::int8multirange, proxy = new.proxy,
                node = new.node, since = least(b.since, new.since), until = greatest(b.until, new.until),
                other_permitted = evidence.add(b.other_permitted, new.permitted),
                other_refused = evidence.add(b.other_refused, new.refused),
                records_dropped = evidence.add(b.records_dropped, new.records)
             FROM unnest($1::int[], $2::text[], $3::bytea[], $4::bigint[], $5::text[], $6::text[], $7::text[],
                $8::bigint[], $9::bigint[], $10::bigint[], $11::bigint[], $12::bigint[])
                AS new (day, feed, key, hour, numbers, proxy, node, since, until, permitted, refused, records)
             WHERE b.feed = new.feed AND b.key = new.key AND b.hour = new.hour AND b.day = new.day";
        let params: Params<'c> = vec![
            &self.day,
            &self.feed,
            &self.key,
            &self.hour,
            &self.numbers,
            proxy,
            node,
            &self.since,
            &self.until,
            permitted,
            refused,
            records,
        ];
        push(calls, text, params, self.day.len());
    }
}

/// What queries must know of a day.
pub(super) fn push_day<'c>(day: &'c i32, span: &'c [i64; 3], calls: &mut Vec<Call<'c>>) {
    let text = "UPDATE evidence.day SET since = least(since, $2), issued_from = least(issued_from, $3),
            issued_to = greatest(issued_to, $4)
         WHERE day = $1 AND (since > $2 OR issued_from > $3 OR issued_to < $4)";
    let [since, from, to] = span;
    calls.push((text, vec![day, since, from, to]));
}

/// Where the rows of one table belong.
#[derive(Default)]
struct Places<'w> {
    day: Vec<i32>,
    feed: Vec<&'w str>,
    id: Vec<&'w [u8]>,
}

/// The sums of the rows of one table.
#[derive(Default)]
struct Counts {
    count: Vec<i64>,
    break_glass: Vec<i64>,
    first: Vec<i64>,
    last: Vec<i64>,
}

impl Counts {
    fn push(&mut self, sum: &Sum) {
        self.count.push(sum.count);
        self.break_glass.push(sum.break_glass);
        self.first.push(sum.first);
        self.last.push(sum.last);
    }
}

/// The grants.
#[derive(Default)]
pub(super) struct Grants<'w> {
    places: Places<'w>,
    texts: [Texts<'w>; 4],
    optional: [Vec<Option<Cow<'w, str>>>; 3],
    issued: Vec<i64>,
    expires: Vec<i64>,
    lists: [Vec<String>; 4],
    cut: Vec<bool>,
}

impl<'w> Grants<'w> {
    pub(super) fn of(sums: &'w Sums<'w>) -> Result<Grants<'w>, StoreError> {
        let mut all = Grants::default();
        for ((feed, id, (), day), info) in &sums.grants {
            all.places.day.push(*day);
            all.places.feed.push(feed);
            all.places.id.push(&id.0);
            let texts = [&info.issuer, &info.token, &info.fingerprint, &info.subject];
            all.texts.iter_mut().zip(texts).for_each(|(column, text)| column.push(stored(text)));
            let optional = [&info.client, &info.task, &info.session];
            let optional = optional.map(|text| text.as_deref().map(stored));
            all.optional.iter_mut().zip(optional).for_each(|(column, text)| column.push(text));
            all.issued.push(int(info.issued_at));
            all.expires.push(int(info.expires_at));
            let lists = [json(&info.actors)?, json(&info.scopes)?, json(&info.details)?, json(&info.masked)?];
            all.lists.iter_mut().zip(lists).for_each(|(column, list)| column.push(list));
            all.cut.push(info.cut);
        }
        Ok(all)
    }

    pub(super) fn push<'c>(&'c self, calls: &mut Vec<Call<'c>>) {
        let text = "INSERT INTO evidence.grant_day (day, feed, id, issuer, token, fingerprint, subject, client, task,
                session, issued, expires, actors, scopes, details, masked, cut)
             SELECT day, feed, id, issuer, token, fingerprint, subject, client, task, session, issued, expires,
                actors::jsonb, scopes::jsonb, details::jsonb, masked::jsonb, cut
             FROM unnest($1::int[], $2::text[], $3::bytea[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[],
                $9::text[], $10::text[], $11::bigint[], $12::bigint[], $13::text[], $14::text[], $15::text[],
                $16::text[], $17::boolean[])
                AS new (day, feed, id, issuer, token, fingerprint, subject, client, task, session, issued, expires,
                actors, scopes, details, masked, cut)
             ON CONFLICT DO NOTHING";
        let mut params: Params<'c> = vec![&self.places.day, &self.places.feed, &self.places.id];
        self.texts.iter().for_each(|column| params.push(column));
        self.optional.iter().for_each(|column| params.push(column));
        let times: [&'c (dyn ToSql + Sync); 2] = [&self.issued, &self.expires];
        params.extend(times);
        self.lists.iter().for_each(|column| params.push(column));
        params.push(&self.cut);
        push(calls, text, params, self.issued.len());
    }
}

/// What was permitted.
#[derive(Default)]
pub(super) struct Uses<'w> {
    places: Places<'w>,
    key: Vec<&'w [u8]>,
    texts: [Texts<'w>; 4],
    captures: Vec<String>,
    counts: Counts,
}

impl<'w> Uses<'w> {
    pub(super) fn of(sums: &'w Sums<'w>) -> Result<Uses<'w>, StoreError> {
        let mut all = Uses::default();
        for ((feed, id, key, day), (of, sum)) in &sums.uses {
            all.places.day.push(*day);
            all.places.feed.push(feed);
            all.places.id.push(&id.0);
            all.key.push(key);
            let texts = [of.node, &of.rule.config, &of.rule.name, &of.of.method];
            all.texts.iter_mut().zip(texts).for_each(|(column, text)| column.push(stored(text)));
            all.captures.push(json(&of.of.captures)?);
            all.counts.push(sum);
        }
        Ok(all)
    }

    pub(super) fn push<'c>(&'c self, calls: &mut Vec<Call<'c>>) {
        let text = "INSERT INTO evidence.use_day AS old (day, feed, id, key, node, config, rule, method, captures, count,
                break_glass, first, last)
             SELECT day, feed, id, key, node, config, rule, method, captures::jsonb, count, break_glass, first, last
             FROM unnest($1::int[], $2::text[], $3::bytea[], $4::bytea[], $5::text[], $6::text[], $7::text[], $8::text[],
                $9::text[], $10::bigint[], $11::bigint[], $12::bigint[], $13::bigint[])
                AS new (day, feed, id, key, node, config, rule, method, captures, count, break_glass, first, last)
             ON CONFLICT (feed, id, key, day) DO UPDATE SET count = evidence.add(old.count, EXCLUDED.count),
                break_glass = evidence.add(old.break_glass, EXCLUDED.break_glass),
                first = least(old.first, EXCLUDED.first), last = greatest(old.last, EXCLUDED.last)";
        let mut params: Params<'c> = vec![&self.places.day, &self.places.feed, &self.places.id, &self.key];
        self.texts.iter().for_each(|column| params.push(column));
        params.push(&self.captures);
        let counts: [&'c (dyn ToSql + Sync); 4] =
            [&self.counts.count, &self.counts.break_glass, &self.counts.first, &self.counts.last];
        params.extend(counts);
        push(calls, text, params, self.key.len());
    }
}

/// Uses that have no place of their own.
#[derive(Default)]
pub(super) struct Others<'w> {
    places: Places<'w>,
    hour: Vec<i64>,
    counts: Counts,
}

impl<'w> Others<'w> {
    pub(super) fn of(sums: &'w Sums<'w>) -> Others<'w> {
        let mut all = Others::default();
        for ((feed, id, hour, day), sum) in &sums.others {
            all.places.day.push(*day);
            all.places.feed.push(feed);
            all.places.id.push(&id.0);
            all.hour.push(*hour);
            all.counts.push(sum);
        }
        all
    }

    pub(super) fn push<'c>(&'c self, calls: &mut Vec<Call<'c>>) {
        let text = "INSERT INTO evidence.other_day AS old (day, feed, id, hour, count, first, last)
             SELECT * FROM unnest($1::int[], $2::text[], $3::bytea[], $4::bigint[], $5::bigint[], $6::bigint[],
                $7::bigint[])
             ON CONFLICT (feed, id, hour, day) DO UPDATE SET count = evidence.add(old.count, EXCLUDED.count),
                first = least(old.first, EXCLUDED.first), last = greatest(old.last, EXCLUDED.last)";
        let params: Params<'c> = vec![
            &self.places.day,
            &self.places.feed,
            &self.places.id,
            &self.hour,
            &self.counts.count,
            &self.counts.first,
            &self.counts.last,
        ];
        push(calls, text, params, self.hour.len());
    }
}

/// What was refused.
#[derive(Default)]
pub(super) struct Refusals<'w> {
    places: Places<'w>,
    key: Vec<&'w [u8]>,
    texts: [Texts<'w>; 4],
    shadow: Vec<bool>,
    ended: Vec<bool>,
    counts: Counts,
}

impl<'w> Refusals<'w> {
    pub(super) fn of(sums: &'w Sums<'w>) -> Refusals<'w> {
        let mut all = Refusals::default();
        for ((feed, id, key, day), (of, sum)) in &sums.refusals {
            all.places.day.push(*day);
            all.places.feed.push(feed);
            all.places.id.push(&id.0);
            all.key.push(key);
            let texts = [of.node, &of.rule.config, &of.rule.name, &of.of.reason];
            all.texts.iter_mut().zip(texts).for_each(|(column, text)| column.push(stored(text)));
            all.shadow.push(of.of.shadow);
            all.ended.push(of.of.ended);
            all.counts.push(sum);
        }
        all
    }

    pub(super) fn push<'c>(&'c self, calls: &mut Vec<Call<'c>>) {
        let text =
            "INSERT INTO evidence.refusal_day AS old (day, feed, id, key, node, config, rule, reason, shadow, ended,
                count, first, last)
             SELECT * FROM unnest($1::int[], $2::text[], $3::bytea[], $4::bytea[], $5::text[], $6::text[], $7::text[],
                $8::text[], $9::boolean[], $10::boolean[], $11::bigint[], $12::bigint[], $13::bigint[])
             ON CONFLICT (feed, id, key, day) DO UPDATE SET count = evidence.add(old.count, EXCLUDED.count),
                first = least(old.first, EXCLUDED.first), last = greatest(old.last, EXCLUDED.last)";
        let mut params: Params<'c> = vec![&self.places.day, &self.places.feed, &self.places.id, &self.key];
        self.texts.iter().for_each(|column| params.push(column));
        let more: [&'c (dyn ToSql + Sync); 5] =
            [&self.shadow, &self.ended, &self.counts.count, &self.counts.first, &self.counts.last];
        params.extend(more);
        push(calls, text, params, self.key.len());
    }
}

/// From where grants were used.
#[derive(Default)]
pub(super) struct Sightings<'w> {
    places: Places<'w>,
    key: Vec<&'w [u8]>,
    kind: Vec<&'w str>,
    value: Texts<'w>,
    counts: Counts,
}

impl<'w> Sightings<'w> {
    pub(super) fn of(sums: &'w Sums<'w>) -> Sightings<'w> {
        let mut all = Sightings::default();
        for ((feed, id, key, day), (seen, sum)) in &sums.sightings {
            all.places.day.push(*day);
            all.places.feed.push(feed);
            all.places.id.push(&id.0);
            all.key.push(key);
            all.kind.push(kind(seen.kind));
            all.value.push(stored(&seen.value));
            all.counts.push(sum);
        }
        all
    }

    pub(super) fn push<'c>(&'c self, calls: &mut Vec<Call<'c>>) {
        let text = "INSERT INTO evidence.sighting_day AS old (day, feed, id, key, kind, value, count, first, last)
             SELECT * FROM unnest($1::int[], $2::text[], $3::bytea[], $4::bytea[], $5::text[], $6::text[], $7::bigint[],
                $8::bigint[], $9::bigint[])
             ON CONFLICT (feed, id, key, day) DO UPDATE SET count = evidence.add(old.count, EXCLUDED.count),
                first = least(old.first, EXCLUDED.first), last = greatest(old.last, EXCLUDED.last)";
        let params: Params<'c> = vec![
            &self.places.day,
            &self.places.feed,
            &self.places.id,
            &self.key,
            &self.kind,
            &self.value,
            &self.counts.count,
            &self.counts.first,
            &self.counts.last,
        ];
        push(calls, text, params, self.key.len());
    }
}

/// A statement for so many rows.
fn push<'c>(calls: &mut Vec<Call<'c>>, text: &'c str, params: Params<'c>, rows: usize) {
    if rows > 0 {
        calls.push((text, params));
    }
}

impl Span {
    /// Its columns.
    pub(super) fn columns(self) -> [i64; 3] {
        let Span { since, issued_from, issued_to } = self.rounded();
        [since, issued_from, issued_to]
    }
}

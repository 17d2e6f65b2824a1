//! One group of writes, in one transaction.
//!
//! Replicas write at the same time: each of them writes the tables in the same order, and the rows of a table in the order
//! of their keys, so that none waits for another one that waits for it.

use crate::evidence::model::{BatchWrite, EventRow, Write, Written};
use crate::evidence::store::day::{DAY, HOUR};
use crate::evidence::store::postgres::columns::{Batches, Grants, Others, Refusals, Sightings, Uses, push_day};
use crate::evidence::store::postgres::hours::{BatchKey, Hour};
use crate::evidence::store::postgres::numbers::Numbers;
use crate::evidence::store::postgres::sums::Sums;
use crate::evidence::store::postgres::text::{json, key};
use crate::evidence::store::postgres::{days, events, records};
use crate::evidence::store::value::int;
use crate::store::model::StoreError;
use crate::store::postgres::session::Session;
use crate::store::postgres::text::stored;
use std::collections::{BTreeMap, BTreeSet};
use taskfence_core::uses::batch::Gap;
use taskfence_core::uses::outline::Outline;

/// The days whose partitions `writes` need.
pub(super) fn days_of(writes: &[Write]) -> BTreeSet<i32> {
    let day = |write: &Write| match write {
        Write::Batch(batch) if !is_ahead(batch.batch.until, batch.at) => day(batch.batch.until),
        Write::Event(event) if !is_ahead(event.at, event.heard_at) => day(event.at),
        Write::Batch(_) | Write::Event(_) | Write::Gap { .. } | Write::Config { .. } => None,
    };
    writes.iter().filter_map(day).collect()
}

/// Writes all of them, in the transaction of `session`. The partitions of [`days_of`] are there, or not kept.
pub(super) fn write(session: &mut Session, writes: &[Write]) -> Result<Vec<Written>, StoreError> {
    let kept = days::first_kept(session)?;
    let mut written = vec![Written::Dropped; writes.len()];
    let mut set = |at: usize, what: Written| {
        if let Some(place) = written.get_mut(at) {
            *place = what;
        }
    };
    let new = batches(session, writes, kept, &mut set)?;
    let (mut gaps, mut configs, mut said) = (Vec::new(), Vec::new(), Vec::new());
    for (at, one) in writes.iter().enumerate() {
        match one {
            Write::Batch(_) => {}
            Write::Event(event) => {
                let day = day(event.at).filter(|day| *day >= kept && !is_ahead(event.at, event.heard_at));
                said.extend(day.map(|day| (at, &**event, day)));
            }
            Write::Gap { feed, node, gap } => {
                let day = day(gap.until).filter(|day| *day >= kept);
                gaps.extend(day.map(|day| (at, feed.as_str(), node.as_str(), gap, day)));
            }
            Write::Config { feed, outline } => configs.push((at, feed.as_str(), outline)),
        }
    }
    self::configs(session, &configs, &mut set)?;
    name_configs(session, &new)?;
    senders(session, &new)?;
    self::gaps(session, &gaps, &mut set)?;
    last(session, &new, &said, &mut set)?;
    Ok(written)
}

/// Stores what the batches have counted that were not there, and returns these.
fn batches<'w>(
    session: &mut Session,
    writes: &'w [Write],
    kept: i32,
    set: &mut impl FnMut(usize, Written),
) -> Result<Vec<(&'w BatchWrite, i32)>, StoreError> {
    let (mut dropped, mut taken) = (BTreeMap::<(&str, i64), i64>::new(), Vec::new());
    for (at, one) in writes.iter().enumerate() {
        let Write::Batch(batch) = one else { continue };
        let until = batch.batch.until;
        match day(until).filter(|day| *day >= kept && !is_ahead(until, batch.at)) {
            Some(day) => {
                let hour = int(until / HOUR);
                taken.push((at, &**batch, (batch.feed.as_str(), key(&[&batch.principal, &batch.batch.vm]), hour, day)));
            }
            None => {
                let count = dropped.entry((&batch.feed, int(batch.at / HOUR))).or_default();
                *count = count.saturating_add(1);
            }
        }
    }
    drop_count(session, &dropped)?;
    if taken.is_empty() {
        return Ok(Vec::new());
    }
    let mut hours = locked(session, &taken)?;
    let mut new = Vec::new();
    for (at, batch, of) in taken {
        let hour = hours.get_mut(&of).ok_or_else(|| StoreError::Damaged("a row of a batch is missing".to_owned()))?;
        if hour.add(batch) {
            set(at, Written::Stored);
            new.push((batch, of.3));
        } else {
            set(at, Written::Repeated);
        }
    }
    let sums = Sums::of(&new);
    let batches = Batches::of(&hours);
    let (grants, uses, others) = (Grants::of(&sums)?, Uses::of(&sums)?, Others::of(&sums));
    let (refusals, sightings) = (Refusals::of(&sums), Sightings::of(&sums));
    let spans: Vec<(i32, [i64; 3])> = sums.days.iter().map(|(day, span)| (*day, span.columns())).collect();
    let mut calls = Vec::new();
    batches.push(&mut calls);
    spans.iter().for_each(|(day, span)| push_day(day, span, &mut calls));
    grants.push(&mut calls);
    uses.push(&mut calls);
    others.push(&mut calls);
    refusals.push(&mut calls);
    sightings.push(&mut calls);
    session.execute_all(&calls)?;
    Ok(new)
}

/// The rows of the hours of these VMs, which nobody else changes meanwhile.
fn locked<'w>(
    session: &mut Session,
    taken: &[(usize, &'w BatchWrite, BatchKey<'w>)],
) -> Result<BTreeMap<BatchKey<'w>, Hour<'w>>, StoreError> {
    let mut hours: BTreeMap<BatchKey<'w>, Hour<'w>> = BTreeMap::new();
    for (_, of, key) in taken {
        hours.entry(*key).or_insert_with(|| Hour::new(of));
    }
    let feeds: BTreeSet<&'w str> = hours.keys().map(|(feed, ..)| *feed).collect();
    let rows = Batches::lock(&hours, session)?;
    for row in rows {
        let (feed, vm, hour, day): (&str, &[u8], i64, i32) =
            (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?, row.try_get(3)?);
        let vm = vm.try_into().map_err(|_| StoreError::Damaged("the key of a batch".to_owned()))?;
        if let Some(feed) = feeds.get(feed)
            && let Some(found) = hours.get_mut(&(*feed, vm, hour, day))
        {
            found.numbers = Numbers::parse(row.try_get(4)?)?;
        }
    }
    Ok(hours)
}

fn drop_count(session: &mut Session, dropped: &BTreeMap<(&str, i64), i64>) -> Result<(), StoreError> {
    for ((feed, hour), count) in dropped {
        let text = "INSERT INTO evidence.dropped AS d (feed, hour, count) VALUES ($1, $2, $3)
            ON CONFLICT (feed, hour) DO UPDATE SET count = evidence.add(d.count, EXCLUDED.count)";
        session.execute(text, &[feed, hour, count])?;
    }
    Ok(())
}

fn configs(
    session: &mut Session,
    all: &[(usize, &str, &Outline)],
    set: &mut impl FnMut(usize, Written),
) -> Result<(), StoreError> {
    let mut sorted: Vec<_> =
        all.iter().map(|(at, feed, outline)| (*feed, key(&[&outline.config]), *at, outline)).collect();
    sorted.sort_by_key(|(feed, key, at, _)| (*feed, *key, *at));
    for (feed, key, at, outline) in sorted {
        let text =
            "INSERT INTO evidence.config (feed, key, outline) VALUES ($1, $2, $3::text::jsonb) ON CONFLICT DO NOTHING";
        let new = session.execute(text, &[&feed, &key.as_slice(), &json(outline)?])? > 0;
        set(at, if new { Written::Stored } else { Written::Repeated });
    }
    Ok(())
}

/// Notes who has sent evidence under the name of which node.
fn senders(session: &mut Session, new: &[(&BatchWrite, i32)]) -> Result<(), StoreError> {
    let mut all = BTreeMap::new();
    for (batch, day) in new {
        let known = key(&[&batch.node, &batch.principal]);
        all.insert((batch.feed.as_str(), known, *day), (stored(&batch.node), stored(&batch.principal)));
    }
    if all.is_empty() {
        return Ok(());
    }
    let feeds: Vec<&str> = all.keys().map(|(feed, ..)| *feed).collect();
    let keys: Vec<&[u8]> = all.keys().map(|(_, key, _)| key.as_slice()).collect();
    let days: Vec<i32> = all.keys().map(|(.., day)| *day).collect();
    let (nodes, principals): (Vec<_>, Vec<_>) = all.values().cloned().unzip();
    let text = "INSERT INTO evidence.sender (feed, key, day, node, principal)
         SELECT * FROM unnest($1::text[], $2::bytea[], $3::int[], $4::text[], $5::text[]) ON CONFLICT DO NOTHING";
    session.execute(text, &[&feeds, &keys, &days, &nodes, &principals]).map(drop)
}

/// Notes on which day the rules of the configurations were last named.
fn name_configs(session: &mut Session, new: &[(&BatchWrite, i32)]) -> Result<(), StoreError> {
    let mut named = BTreeMap::new();
    for (batch, day) in new {
        for rule in &batch.batch.rules {
            let last = named.entry((batch.feed.as_str(), rule.config.as_str())).or_insert(*day);
            *last = *day.max(last);
        }
    }
    let mut named: Vec<_> = named.into_iter().map(|((feed, config), day)| (feed, key(&[config]), day)).collect();
    named.sort_unstable();
    for (feed, key, day) in named {
        let text = "UPDATE evidence.config SET named = $3 WHERE feed = $1 AND key = $2 AND (named < $3) IS NOT FALSE";
        session.execute(text, &[&feed, &key.as_slice(), &day])?;
    }
    Ok(())
}

fn gaps(
    session: &mut Session,
    all: &[(usize, &str, &str, &Gap, i32)],
    set: &mut impl FnMut(usize, Written),
) -> Result<(), StoreError> {
    let known = |gap: &Gap| key(&[&gap.vm, &gap.since.to_string()]);
    let mut sorted: Vec<_> = all.iter().map(|one| ((one.1, known(one.3), one.0), one)).collect();
    sorted.sort_by_key(|(key, _)| *key);
    for ((feed, key, at), (_, _, node, gap, day)) in sorted {
        let text =
            "INSERT INTO evidence.gap (feed, key, day, node, vm, since, until) VALUES ($1, $2, $3, $4, $5, $6, $7)
            ON CONFLICT DO NOTHING";
        let (node, vm, since, until) = (stored(node), stored(&gap.vm), int(gap.since), int(gap.until));
        let new = session.execute(text, &[&feed, &key.as_slice(), day, &node, &vm, &since, &until])? > 0;
        set(at, if new { Written::Stored } else { Written::Repeated });
    }
    Ok(())
}

/// Events and records: under the lock of their feeds.
fn last(
    session: &mut Session,
    new: &[(&BatchWrite, i32)],
    said: &[(usize, &EventRow, i32)],
    set: &mut impl FnMut(usize, Written),
) -> Result<(), StoreError> {
    let with_records: Vec<_> = new.iter().filter(|(batch, _)| !batch.batch.records.is_empty()).copied().collect();
    let mut feeds: BTreeSet<&str> = said.iter().map(|(_, event, _)| event.feed.as_str()).collect();
    feeds.extend(with_records.iter().map(|(batch, _)| batch.feed.as_str()));
    if feeds.is_empty() {
        return Ok(());
    }
    let feeds: Vec<&str> = feeds.into_iter().collect();
    session.execute(
        "INSERT INTO evidence.feed (name, position) SELECT name, 0 FROM unnest($1::text[]) AS new (name) ORDER BY name
         ON CONFLICT DO NOTHING",
        &[&feeds],
    )?;
    let text = "SELECT name, position FROM evidence.feed WHERE name = ANY ($1) ORDER BY name FOR UPDATE";
    let mut positions = BTreeMap::new();
    for row in session.rows(text, &[&feeds])? {
        positions.insert(row.try_get::<_, String>(0)?, row.try_get::<_, i64>(1)?);
    }
    events::write(session, said, set)?;
    records::write(session, &with_records, &positions)
}

/// The day of a time; `None`: no database has it.
pub(super) fn day(at: u64) -> Option<i32> {
    i32::try_from(at / DAY).ok()
}

/// Whether it is more than a day after the time of the hub, if that is known.
fn is_ahead(at: u64, now: u64) -> bool {
    now > 0 && at > now.saturating_add(DAY)
}

//! Events: written once, and read in the order of their times.

use crate::evidence::model::{EventKind, EventRow, Window, Written};
use crate::evidence::store::postgres::days;
use crate::evidence::store::postgres::text::{Key, from_json, json, key};
use crate::evidence::store::value::{int, uint};
use crate::store::model::StoreError;
use crate::store::postgres::session::Session;
use crate::store::postgres::text::stored;
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use tokio_postgres::Row;

/// The columns that [`row`] reads.
pub(super) const COLUMNS: &str =
    "source, id, kind, at, heard_at, issuer, task, session, subject, client, token, task_kind,
    by, reason, data::text";

/// Writes the events that are not there on their day, the day before or the day after. The rows of their feeds are locked.
pub(super) fn write(
    session: &mut Session,
    said: &[(usize, &EventRow, i32)],
    set: &mut impl FnMut(usize, Written),
) -> Result<(), StoreError> {
    if said.is_empty() {
        return Ok(());
    }
    let mut known = known(session, said)?;
    let mut new = Vec::new();
    for (at, event, day) in said {
        let key = key_of(event);
        let days = known.entry((event.feed.clone(), key)).or_default();
        let is_known = (day.saturating_sub(1)..=day.saturating_add(1)).any(|day| days.contains(&day));
        if is_known {
            set(*at, Written::Repeated);
        } else {
            days.insert(*day);
            set(*at, Written::Stored);
            new.push((*event, key, *day));
        }
    }
    insert(session, &new)
}

/// Shows `each` the events of the window; `kind`: only those of this kind.
pub(super) fn each(
    session: &mut Session,
    feed: &str,
    window: Window,
    kind: Option<EventKind>,
    each: &mut dyn FnMut(EventRow) -> bool,
) -> Result<(), StoreError> {
    let days = days::of_uses(session, window)?;
    let text = format!(
        "SELECT {COLUMNS} FROM evidence.event_day WHERE feed = $1 AND day = ANY ($2) AND at >= $3 AND at < $4
            AND ($5::text IS NULL OR kind = $5) ORDER BY at, source, id"
    );
    let kind = kind.map(EventKind::name);
    let params: [&(dyn tokio_postgres::types::ToSql + Sync); 5] =
        [&feed, &days, &int(window.since), &int(window.until), &kind];
    session.each_row(&text, &params, &mut |row_of| Ok(each(row(feed, row_of)?)))
}

/// Reads a row of [`COLUMNS`].
pub(super) fn row(feed: &str, row: &Row) -> Result<EventRow, StoreError> {
    let kind: Option<&str> = row.try_get(2)?;
    Ok(EventRow {
        feed: feed.to_owned(),
        source: row.try_get(0)?,
        id: row.try_get(1)?,
        // A kind that only a newer hub knows is none.
        kind: kind.and_then(EventKind::named),
        at: uint(row.try_get(3)?),
        heard_at: uint(row.try_get(4)?),
        issuer: row.try_get(5)?,
        task: row.try_get(6)?,
        session: row.try_get(7)?,
        subject: row.try_get(8)?,
        client: row.try_get(9)?,
        token: row.try_get(10)?,
        task_kind: row.try_get(11)?,
        by: row.try_get(12)?,
        reason: row.try_get(13)?,
        data: from_json(row.try_get(14)?)?,
    })
}

fn key_of(event: &EventRow) -> Key {
    key(&[&event.source, &event.id])
}

/// On which days events of these sources and ids are there.
fn known(
    session: &mut Session,
    said: &[(usize, &EventRow, i32)],
) -> Result<BTreeMap<(String, Key), BTreeSet<i32>>, StoreError> {
    let mut known: BTreeMap<(String, Key), BTreeSet<i32>> = BTreeMap::new();
    let days: BTreeSet<i32> =
        said.iter().flat_map(|(_, _, day)| day.saturating_sub(1)..=day.saturating_add(1)).collect();
    let days: Vec<i32> = days.into_iter().collect();
    let feeds: BTreeSet<&str> = said.iter().map(|(_, event, _)| event.feed.as_str()).collect();
    for feed in feeds {
        let of_feed = said.iter().filter(|(_, event, _)| event.feed == feed);
        let keys: Vec<Vec<u8>> = of_feed.map(|(_, event, _)| key_of(event).to_vec()).collect();
        let text = "SELECT key, day FROM evidence.event_day WHERE feed = $1 AND key = ANY ($2) AND day = ANY ($3)";
        for row in session.rows(text, &[&feed, &keys, &days])? {
            let key: &[u8] = row.try_get(0)?;
            let key = key.try_into().map_err(|_| StoreError::Damaged("the key of an event".to_owned()))?;
            known.entry((feed.to_owned(), key)).or_default().insert(row.try_get(1)?);
        }
    }
    Ok(known)
}

fn insert(session: &mut Session, new: &[(&EventRow, Key, i32)]) -> Result<(), StoreError> {
    if new.is_empty() {
        return Ok(());
    }
    let texts = |of: fn(&EventRow) -> &str| new.iter().map(|(event, _, _)| stored(of(event))).collect::<Vec<_>>();
    let optional = |of: fn(&EventRow) -> &Option<String>| {
        new.iter().map(|(event, _, _)| of(event).as_deref().map(stored)).collect::<Vec<Option<Cow<'_, str>>>>()
    };
    let day: Vec<i32> = new.iter().map(|(_, _, day)| *day).collect();
    let feed: Vec<&str> = new.iter().map(|(event, _, _)| event.feed.as_str()).collect();
    let key: Vec<&[u8]> = new.iter().map(|(_, key, _)| key.as_slice()).collect();
    let kinds: Vec<Option<&str>> = new.iter().map(|(event, _, _)| event.kind.map(EventKind::name)).collect();
    let at: Vec<i64> = new.iter().map(|(event, _, _)| int(event.at)).collect();
    let heard_at: Vec<i64> = new.iter().map(|(event, _, _)| int(event.heard_at)).collect();
    let data: Vec<String> = new.iter().map(|(event, _, _)| json(&event.data)).collect::<Result<_, _>>()?;
    let text = "INSERT INTO evidence.event_day (day, feed, key, source, id, kind, at, heard_at, issuer, task, session,
            subject, client, token, task_kind, by, reason, data)
         SELECT day, feed, key, source, id, kind, at, heard_at, issuer, task, session, subject, client, token, task_kind,
            by, reason, data::jsonb
         FROM unnest($1::int[], $2::text[], $3::bytea[], $4::text[], $5::text[], $6::text[], $7::bigint[], $8::bigint[],
            $9::text[], $10::text[], $11::text[], $12::text[], $13::text[], $14::text[], $15::text[], $16::text[],
            $17::text[], $18::text[])
            AS new (day, feed, key, source, id, kind, at, heard_at, issuer, task, session, subject, client, token,
            task_kind, by, reason, data)";
    session.execute(
        text,
        &[
            &day,
            &feed,
            &key,
            &texts(|event| &event.source),
            &texts(|event| &event.id),
            &kinds,
            &at,
            &heard_at,
            &texts(|event| &event.issuer),
            &optional(|event| &event.task),
            &optional(|event| &event.session),
            &optional(|event| &event.subject),
            &optional(|event| &event.client),
            &optional(|event| &event.token),
            &optional(|event| &event.task_kind),
            &optional(|event| &event.by),
            &optional(|event| &event.reason),
            &data,
        ],
    )?;
    Ok(())
}

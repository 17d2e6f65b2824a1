//! What is known about a task, a session, a user, a client or a token.

use crate::evidence::model::{EventRow, Found, GrantRow, NodeRow, Selector, Window};
use crate::evidence::store::about::Subjects;
use crate::evidence::store::bounded::{MOST_OF_ALL, weigh};
use crate::evidence::store::postgres::{days, events, grants, reads, records};
use crate::evidence::store::value::int;
use crate::store::model::StoreError;
use crate::store::postgres::session::Session;
use crate::store::postgres::text::stored;
use std::collections::{BTreeSet, HashSet};
use tokio_postgres::types::ToSql;

/// The ids of so many grants are looked up at once.
const STEP: usize = 500;

/// So many characters are in the indexes.
const INDEXED: usize = 100;

/// See `EvidenceStore::find`.
pub(super) fn find(
    session: &mut Session,
    feed: &str,
    selector: &Selector,
    issuer: Option<&str>,
    window: Window,
    limit: usize,
) -> Result<Found, StoreError> {
    let mut found = Found::default();
    if window.since >= window.until {
        return Ok(found);
    }
    let is_full;
    (found.grants, is_full) = grants_of(session, feed, selector, issuer, window, limit.saturating_add(1))?;
    let is_cut = is_full || found.grants.len() > limit;
    found.grants.truncate(limit);
    found.events = events_of(session, feed, (selector, issuer), window, &found.grants, limit.saturating_add(1))?;
    let ids: Vec<&[u8]> = found.grants.iter().map(|row| row.id.0.as_slice()).collect();
    let is_long;
    (found.records, is_long) = records::of_grants(session, feed, &ids, window, limit.saturating_add(1))?;
    found.cut = is_cut || is_long || found.events.len() > limit || found.records.len() > limit;
    found.events.truncate(limit);
    found.records.truncate(limit);
    let mut nodes = BTreeSet::new();
    for row in &found.grants {
        nodes.extend(row.permitted.iter().map(|row| row.node.as_str()));
        nodes.extend(row.refused.iter().map(|row| row.node.as_str()));
    }
    found.gaps = reads::gaps(session, feed, window)?;
    found.gaps.retain(|gap| nodes.contains(gap.node.as_str()));
    found.nodes = senders(session, feed, &nodes, window)?;
    Ok(found)
}

/// Who has sent evidence under the names of these nodes.
fn senders(
    session: &mut Session,
    feed: &str,
    nodes: &BTreeSet<&str>,
    window: Window,
) -> Result<Vec<NodeRow>, StoreError> {
    let days = days::of_uses(session, window)?;
    let nodes: Vec<&str> = nodes.iter().copied().collect();
    let starts: Vec<String> = nodes.iter().map(|node| node.chars().take(INDEXED).collect()).collect();
    let text = format!(
        "SELECT DISTINCT node, principal FROM evidence.sender
         WHERE feed = $1 AND left(node, {INDEXED}) = ANY ($2) AND node = ANY ($3) AND day = ANY ($4)"
    );
    let rows = session.rows(&text, &[&feed, &starts, &nodes, &days])?;
    let pairs = rows.iter().map(|row| Ok::<_, StoreError>((row.try_get(0)?, row.try_get(1)?)));
    Ok(NodeRow::of(pairs.collect::<Result<BTreeSet<(String, String)>, StoreError>>()?))
}

/// The column that a selector names, and what stands in it.
fn column(selector: &Selector) -> (&'static str, &str) {
    match selector {
        Selector::Task(name) => ("task", name),
        Selector::Session(name) => ("session", name),
        Selector::Subject(name) => ("subject", name),
        Selector::Client(name) => ("client", name),
        Selector::Token(name) => ("token", name),
    }
}

/// The grants, and whether there are more than memory should hold.
fn grants_of(
    session: &mut Session,
    feed: &str,
    selector: &Selector,
    issuer: Option<&str>,
    window: Window,
    limit: usize,
) -> Result<(Vec<GrantRow>, bool), StoreError> {
    let days = days::of_grants(session, window)?;
    let (column, name) = column(selector);
    let (name, issuer) = (stored(name), issuer.map(stored));
    let by = |column: &str| format!("(left({column}, {INDEXED}) = left($3, {INDEXED}) AND {column} = $3)");
    let named = match selector {
        Selector::Token(_) => format!("({} OR {})", by("token"), by("fingerprint")),
        _ => by(column),
    };
    let text = format!(
        "SELECT DISTINCT id FROM evidence.grant_day WHERE feed = $1 AND day = ANY ($2) AND {named}
            AND ($4::text IS NULL OR issuer = $4) ORDER BY id"
    );
    let params: [&(dyn ToSql + Sync); 4] = [&feed, &days, &name, &issuer];
    let mut ids: Vec<Vec<u8>> = Vec::new();
    session.each_row(&text, &params, &mut |row| {
        ids.push(row.try_get(0)?);
        Ok(true)
    })?;
    let (mut found, mut bytes) = (Vec::new(), 0usize);
    for step in ids.chunks(STEP) {
        grants::each(session, feed, window, Some(step), &mut |row| {
            bytes = bytes.saturating_add(weigh(&row));
            found.push(row);
            bytes <= MOST_OF_ALL
        })?;
        if found.len() >= limit || bytes > MOST_OF_ALL {
            break;
        }
    }
    Ok((found, bytes > MOST_OF_ALL))
}

/// The first events that name the selector, or are about the grants.
fn events_of(
    session: &mut Session,
    feed: &str,
    (selector, issuer): (&Selector, Option<&str>),
    window: Window,
    grants: &[GrantRow],
    limit: usize,
) -> Result<Vec<EventRow>, StoreError> {
    let days = days::of_uses(session, window)?;
    let (column, name) = column(selector);
    let (name, issuer) = (stored(name), issuer.map(stored));
    let mut about = Subjects::default();
    grants.iter().for_each(|row| about.add(&row.info));
    let start = |all: &HashSet<(String, String)>| {
        let starts: BTreeSet<String> = all.iter().map(|(_, name)| name.chars().take(INDEXED).collect()).collect();
        starts.into_iter().collect::<Vec<String>>()
    };
    let (tokens, tasks, sessions) = (start(&about.tokens), start(&about.tasks), start(&about.sessions));
    let (subjects, clients) = (start(&about.subjects), start(&about.clients));
    let text = format!(
        "SELECT {} FROM evidence.event_day WHERE feed = $1 AND day = ANY ($2) AND at >= $3 AND at < $4 AND (
            left({column}, {INDEXED}) = left($5, {INDEXED}) OR left(token, {INDEXED}) = ANY ($6)
            OR token IS NULL AND left(task, {INDEXED}) = ANY ($7)
            OR token IS NULL AND task IS NULL AND left(session, {INDEXED}) = ANY ($8)
            OR token IS NULL AND task IS NULL AND session IS NULL
                AND (left(subject, {INDEXED}) = ANY ($9) OR left(client, {INDEXED}) = ANY ($10))
        ) ORDER BY at, source, id",
        events::COLUMNS
    );
    let (since, until) = (int(window.since), int(window.until));
    let params: [&(dyn ToSql + Sync); 10] =
        [&feed, &days, &since, &until, &name, &tokens, &tasks, &sessions, &subjects, &clients];
    let mut found = Vec::new();
    session.each_row(&text, &params, &mut |row| {
        let event = events::row(feed, row)?;
        let named = match selector {
            Selector::Task(_) => &event.task,
            Selector::Session(_) => &event.session,
            Selector::Subject(_) => &event.subject,
            Selector::Client(_) => &event.client,
            Selector::Token(_) => &event.token,
        };
        let is_named = named.as_deref() == Some(&*name) && issuer.as_ref().is_none_or(|issuer| *issuer == event.issuer);
        if is_named || about.include(&event) {
            found.push(event);
        }
        Ok(found.len() < limit)
    })?;
    Ok(found)
}

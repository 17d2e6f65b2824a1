//! What is known about a task, a session, a subject, a client or a token.

use super::folder::{Folder, Which};
use super::gathering::{Gathered, IN_WINDOW, Lookup, OTHER, PERMITTED, REFUSED, SEEN};
use super::source::{self, Faults, Source, issued};
use super::{info, reads, rows};
use crate::evidence::model::{EventRow, Found, GrantId, GrantRow, NodeRow, RecordRow, Selector, Window};
use crate::evidence::store::about::Subjects;
use crate::evidence::store::bounded::MOST_OF_ALL;
use crate::evidence::store::value::{int, uint};
use crate::store::model::StoreError;
use rusqlite::{OptionalExtension, Row, params};
use std::collections::{BTreeMap, BTreeSet, HashSet};

/// What is asked for.
pub struct Search<'a> {
    /// The feed.
    pub feed: &'a str,
    /// Whose evidence.
    pub selector: &'a Selector,
    /// Only of this issuer.
    pub issuer: Option<&'a str>,
    /// When.
    pub window: Window,
    /// At most so many of each.
    pub limit: usize,
}

/// So many of the smallest keys are kept.
struct Smallest<K, V> {
    kept: BTreeMap<K, V>,
    limit: usize,
    /// Whether there were more.
    is_cut: bool,
}

impl<K: Ord, V> Smallest<K, V> {
    fn new(limit: usize) -> Smallest<K, V> {
        Smallest { kept: BTreeMap::new(), limit, is_cut: false }
    }

    /// Whether one with this key would be kept.
    fn takes(&self, key: &K) -> bool {
        self.kept.len() < self.limit || self.kept.last_key_value().is_some_and(|(last, _)| key <= last)
    }

    fn add(&mut self, key: K, value: V) {
        self.kept.insert(key, value);
        if self.kept.len() > self.limit {
            self.kept.pop_last();
            self.is_cut = true;
        }
    }
}

/// Searches the files. A file that turns out to be damaged is noted in `faults`, and left.
pub fn find(folder: &Folder, search: &Search<'_>, faults: &mut Faults) -> Result<Found, StoreError> {
    let sources = source::of_uses(folder, search.feed, search.window, faults)?;
    let mut grants = Smallest::new(search.limit);
    for source in &sources {
        let read = grants_of(source, search, &mut grants).map_err(|error| folder.named(Which::Of(source.day), error));
        faults.pass(source.day, read)?;
    }
    let cut = grants.is_cut;
    let grants: Vec<GrantRow> = grants.kept.into_iter().map(|(id, (found, info))| found.finish(id, info)).collect();

    let (mut records, mut bytes) = (Smallest::new(search.limit), 0);
    for source in sources.iter().filter(|source| source.has_uses) {
        let read = records_of(source, search.window, &grants, (&mut records, &mut bytes));
        faults.pass(source.day, read.map_err(|error| folder.named(Which::Of(source.day), error)))?;
    }
    let mut subjects = Subjects::default();
    grants.iter().for_each(|row| subjects.add(&row.info));
    let mut events = Smallest::new(search.limit);
    for source in reads::events_in(folder, search.feed, search.window, faults)? {
        let read = events_of(&source, search, &subjects, &mut events);
        faults.pass(source.day, read.map_err(|error| folder.named(Which::Of(source.day), error)))?;
    }

    let permitted = grants.iter().flat_map(|row| row.permitted.iter().map(|row| row.node.as_str()));
    let refused = grants.iter().flat_map(|row| row.refused.iter().map(|row| row.node.as_str()));
    let nodes: HashSet<&str> = permitted.chain(refused).collect();
    let mut gaps = reads::gaps(folder, search.feed, search.window, faults)?;
    // Those without a node are days that cannot be read.
    gaps.retain(|gap| gap.node.is_empty() || nodes.contains(gap.node.as_str()));

    let mut senders = BTreeSet::new();
    for source in &sources {
        let read = senders_of(source, &nodes, &mut senders).map_err(|error| folder.named(Which::Of(source.day), error));
        faults.pass(source.day, read)?;
    }
    let cut = cut || records.is_cut || events.is_cut;
    let events = events.kept.into_values().collect();
    let records = records.kept.into_values().map(|(record, _)| record).collect();
    drop(nodes);
    Ok(Found { grants, events, records, gaps, nodes: NodeRow::of(senders), cut })
}

type Grants = Smallest<GrantId, (Gathered, taskfence_core::uses::batch::GrantInfo)>;

/// Adds the grants of one file. Files come in the order of their days, and the newest one says what the token says.
fn grants_of(source: &Source, search: &Search<'_>, into: &mut Grants) -> Result<(), StoreError> {
    let (since, until) = issued(search.window);
    let mut bytes = into.kept.values().map(|(gathered, _)| gathered.bytes()).fold(0, usize::saturating_add);
    let mut lookup = Lookup::new(&source.connection);
    let find = format!("SELECT g.id, g.issued >= ? AND g.issued < ?, {} FROM \"grant\" g WHERE g.n = ?", info::COLUMNS);
    let mut find = source.connection.prepare(&find)?;
    for n in numbers_of(source, search)? {
        let mut rows = find.query(params![since, until, n])?;
        let Some(row) = rows.next()? else { continue };
        let (id, is_issued): (_, bool) = (GrantId(row.get(0)?), row.get(1)?);
        if into.is_cut && !into.takes(&id) {
            continue;
        }
        let info = info::read(&mut lookup, row, 2)?;
        if bytes > MOST_OF_ALL {
            into.is_cut = true;
            break;
        }
        let known = into.kept.remove(&id);
        let is_known = known.is_some();
        let (mut gathered, _) = known.unwrap_or_default();
        let before = gathered.bytes();
        let read = gather(source, &mut lookup, id, search.window, &mut gathered);
        bytes = bytes.saturating_add(gathered.bytes().saturating_sub(before));
        if is_known || is_issued || !gathered.is_empty() {
            into.add(id, (gathered, info));
        }
        read?;
    }
    Ok(())
}

/// The numbers of the grants in one file that are asked for.
fn numbers_of(source: &Source, search: &Search<'_>) -> Result<Vec<i64>, StoreError> {
    let issuer = match search.issuer {
        Some(issuer) => match super::names::find(&source.connection, issuer)? {
            Some(issuer) => Some(issuer),
            None => return Ok(Vec::new()),
        },
        None => None,
    };
    let (column, name) = match search.selector {
        Selector::Task(name) => ("task", name),
        Selector::Session(name) => ("session", name),
        Selector::Subject(name) => ("subject", name),
        Selector::Client(name) => ("client", name),
        Selector::Token(name) => return numbers_of_token(source, name, issuer),
    };
    let find = format!(
        "SELECT n FROM \"grant\" INDEXED BY grant_{column} WHERE feed = ? AND {column} = ? AND issuer = coalesce(?, issuer)
         ORDER BY id"
    );
    reads::all(&source.connection, &find, params![source.feed, name, issuer], |row| Ok(row.get(0)?))
}

/// The numbers of the grants with the token, or with the fingerprint.
fn numbers_of_token(source: &Source, token: &str, issuer: Option<i64>) -> Result<Vec<i64>, StoreError> {
    let by_fingerprint = "SELECT n FROM \"grant\" INDEXED BY grant_fingerprint
                          WHERE feed = ? AND fingerprint = ? AND issuer = coalesce(?, issuer)";
    let values = params![source.feed, info::fingerprint(token), issuer];
    let mut numbers: Vec<i64> = reads::all(&source.connection, by_fingerprint, values, |row| Ok(row.get(0)?))?;
    // The id of a grant is made of its issuer and its token; there are few issuers.
    let issuers = "SELECT name FROM issuer JOIN name ON id = issuer WHERE issuer = coalesce(?, issuer)";
    let issuers = reads::all(&source.connection, issuers, params![issuer], |row| Ok(row.get::<_, String>(0)?))?;
    for issuer in issuers {
        let find = "SELECT n FROM \"grant\" WHERE feed = ? AND id = ?";
        let id = GrantId::new(&issuer, token);
        let mut find = source.connection.prepare_cached(find)?;
        let n = find.query_row(params![source.feed, id.0], |row| row.get(0)).optional()?;
        numbers.extend(n.filter(|n| !numbers.contains(n)));
    }
    Ok(numbers)
}

/// Adds what one file says about one grant.
fn gather(
    source: &Source,
    lookup: &mut Lookup<'_>,
    id: GrantId,
    window: Window,
    into: &mut Gathered,
) -> Result<(), StoreError> {
    into.next_file();
    if !source.has_uses {
        return Ok(());
    }
    let each = |table: &str, columns: &str, add: &mut dyn FnMut(&Row<'_>) -> Result<(), StoreError>| {
        let find = format!("SELECT {columns} FROM {table} p WHERE p.\"grant\" = ?1 AND {IN_WINDOW} AND p.feed = ?4");
        let mut find = source.connection.prepare_cached(&find)?;
        let mut rows = find.query(params![id.0, int(window.since), int(window.until), source.feed])?;
        while let Some(row) = rows.next()? {
            add(row)?;
        }
        Ok::<_, StoreError>(())
    };
    each("permitted", PERMITTED, &mut |row| into.add_permitted(lookup, row))?;
    each("refused", REFUSED, &mut |row| into.add_refused(lookup, row))?;
    each("seen", SEEN, &mut |row| into.add_seen(row))?;
    each("other", OTHER, &mut |row| into.add_other(row))
}

/// Records by time and position, with the bytes that each takes.
type Records = Smallest<(u64, u64), (RecordRow, usize)>;

/// Adds the records about the grants in one file, the first ones.
fn records_of(
    source: &Source,
    window: Window,
    grants: &[GrantRow],
    (into, bytes): (&mut Records, &mut usize),
) -> Result<(), StoreError> {
    let find = format!(
        "SELECT {} FROM record r INDEXED BY record_grant
         WHERE r.\"grant\" = ? AND r.feed = ? AND r.at >= ? AND r.at < ?",
        rows::RECORD
    );
    let mut find = source.connection.prepare(&find)?;
    for grant in grants {
        let mut found = find.query(params![grant.id.0, source.feed, int(window.since), int(window.until)])?;
        while let Some(row) = found.next()? {
            let key = (uint(row.get(2)?), uint(row.get(0)?));
            match into.takes(&key) {
                true => {
                    let (record, more) = rows::record(row)?;
                    *bytes = bytes.saturating_add(more);
                    into.add(key, (record, more));
                }
                false => into.is_cut = true,
            }
            while *bytes > MOST_OF_ALL && into.kept.len() > 1 {
                let Some((_, (_, less))) = into.kept.pop_last() else { break };
                *bytes = bytes.saturating_sub(less);
                (into.limit, into.is_cut) = (into.kept.len(), true);
            }
        }
    }
    Ok(())
}

/// Adds who has sent evidence under the names of these nodes in one file.
fn senders_of(source: &Source, nodes: &HashSet<&str>, into: &mut BTreeSet<(String, String)>) -> Result<(), StoreError> {
    let find = "SELECT name FROM sender JOIN name ON name.id = principal WHERE feed = ? AND node = ?";
    for node in nodes {
        let Some(number) = super::names::find(&source.connection, node)? else { continue };
        let found: Vec<String> =
            reads::all(&source.connection, find, params![source.feed, number], |row| Ok(row.get(0)?))?;
        into.extend(found.into_iter().map(|principal| ((*node).to_owned(), principal)));
    }
    Ok(())
}

/// Adds the events of one file that name the selector or are about the grants.
fn events_of(
    source: &Source,
    search: &Search<'_>,
    subjects: &Subjects,
    into: &mut Smallest<(u64, String, String), EventRow>,
) -> Result<(), StoreError> {
    let is_of_issuer = |event: &EventRow| search.issuer.is_none_or(|issuer| issuer == event.issuer);
    let (column, name) = match search.selector {
        Selector::Task(name) => ("task", name),
        Selector::Session(name) => ("session", name),
        Selector::Subject(name) => ("subject", name),
        Selector::Client(name) => ("client", name),
        Selector::Token(name) => ("token", name),
    };
    events_with(source, search, column, name, into, &is_of_issuer)?;
    for (column, names) in [
        ("token", &subjects.tokens),
        ("task", &subjects.tasks),
        ("session", &subjects.sessions),
        ("subject", &subjects.subjects),
        ("client", &subjects.clients),
    ] {
        let names: HashSet<&str> = names.iter().map(|(_, name)| name.as_str()).collect();
        for name in names {
            events_with(source, search, column, name, into, &|event| subjects.include(event))?;
        }
    }
    Ok(())
}

/// Adds the events with `name` in the column that `is_wanted` accepts.
fn events_with(
    source: &Source,
    search: &Search<'_>,
    column: &str,
    name: &str,
    into: &mut Smallest<(u64, String, String), EventRow>,
    is_wanted: &dyn Fn(&EventRow) -> bool,
) -> Result<(), StoreError> {
    let find = format!(
        "SELECT {} FROM event e INDEXED BY event_{column} WHERE e.feed = ? AND e.{column} = ? AND e.at >= ? AND e.at < ?",
        rows::EVENT
    );
    let Window { since, until } = search.window;
    let mut find = source.connection.prepare_cached(&find)?;
    let mut found = find.query(params![source.feed, name, int(since), int(until)])?;
    while let Some(row) = found.next()? {
        let event = rows::event(search.feed, row)?;
        if !is_wanted(&event) {
            continue;
        }
        let key = (event.at, event.source.clone(), event.id.clone());
        match into.takes(&key) {
            true => into.add(key, event),
            false => into.is_cut = true,
        }
    }
    Ok(())
}

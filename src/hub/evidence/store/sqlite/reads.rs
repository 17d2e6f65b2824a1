//! What is read file by file: events, records, gaps and losses.

use super::folder::{Damaged, Folder, Which};
use super::rows;
use super::source::{self, Faults, Source};
use crate::evidence::model::{EventKind, EventRow, GapRow, Losses, RecordRow, Window};
use crate::evidence::store::bounded::MOST_OF_ALL;
use crate::evidence::store::day::{Day, HOUR};
use crate::evidence::store::value::{int, uint};
use crate::store::model::StoreError;
use rusqlite::{Connection, Row, ToSql, params};
use std::collections::BTreeMap;

/// The last day that there can be.
const LAST: Day = Day(u64::MAX);

/// Shows `each` the events of the window; `kind`: only those of this kind. They are in the files of their days.
pub fn events(
    folder: &Folder,
    feed: &str,
    window: Window,
    kind: Option<EventKind>,
    faults: &mut Faults,
    each: &mut dyn FnMut(EventRow) -> bool,
) -> Result<(), StoreError> {
    for source in events_in(folder, feed, window, faults)? {
        let read =
            show_events(&source, feed, window, kind, each).map_err(|error| folder.named(Which::Of(source.day), error));
        if faults.pass(source.day, read)? == Some(false) {
            break;
        }
    }
    Ok(())
}

/// The files that have events of the window.
pub fn events_in(folder: &Folder, feed: &str, window: Window, faults: &mut Faults) -> Result<Vec<Source>, StoreError> {
    match window.until.checked_sub(1) {
        Some(last) if window.since <= last => {
            source::of_days(folder, feed, (Day::of(window.since), Day::of(last)), faults)
        }
        _ => Ok(Vec::new()),
    }
}

/// Returns whether to go on.
fn show_events(
    source: &Source,
    feed: &str,
    window: Window,
    kind: Option<EventKind>,
    each: &mut dyn FnMut(EventRow) -> bool,
) -> Result<bool, StoreError> {
    let find = format!(
        "SELECT {} FROM event e INDEXED BY event_at
         WHERE e.feed = ? AND e.at >= ? AND e.at < ? AND (?4 IS NULL OR e.kind = ?4) ORDER BY e.at, e.n",
        rows::EVENT
    );
    let kind = kind.map(EventKind::name);
    let mut find = source.connection.prepare(&find)?;
    let mut found = find.query(params![source.feed, int(window.since), int(window.until), kind])?;
    while let Some(row) = found.next()? {
        if !each(rows::event(feed, row)?) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// See `EvidenceStore::records`.
pub fn records(
    folder: &Folder,
    feed: &str,
    after: u64,
    window: Window,
    limit: usize,
    faults: &mut Faults,
) -> Result<Vec<RecordRow>, StoreError> {
    let mut next = Page { records: BTreeMap::new(), limit, bytes: 0 };
    if limit == 0 {
        return Ok(Vec::new());
    }
    for source in source::of_uses(folder, feed, window, faults)? {
        let read = records_of(&source, after, window, &mut next);
        faults.pass(source.day, read.map_err(|error| folder.named(Which::Of(source.day), error)))?;
    }
    Ok(next.records.into_values().map(|(record, _)| record).collect())
}

/// The next records, with what each takes.
struct Page {
    records: BTreeMap<u64, (RecordRow, usize)>,
    limit: usize,
    bytes: usize,
}

impl Page {
    /// Adds one, and takes out the last ones that there is no room for. Returns whether there was room for it.
    fn add(&mut self, (record, bytes): (RecordRow, usize)) -> bool {
        let position = record.position;
        self.records.insert(position, (record, bytes));
        self.bytes = self.bytes.saturating_add(bytes);
        while self.records.len() > self.limit || (self.bytes > MOST_OF_ALL && self.records.len() > 1) {
            let Some((_, (_, bytes))) = self.records.pop_last() else { break };
            self.bytes = self.bytes.saturating_sub(bytes);
            // What comes after one that was taken out must not come before it.
            self.limit = self.limit.min(self.records.len());
        }
        self.records.contains_key(&position)
    }
}

/// Adds the next records of one file.
fn records_of(source: &Source, after: u64, window: Window, next: &mut Page) -> Result<(), StoreError> {
    let find = format!(
        "SELECT {} FROM record r INDEXED BY record_feed WHERE r.feed = ? AND r.position > ? AND r.at >= ? AND r.at < ?
         ORDER BY r.position LIMIT ?",
        rows::RECORD
    );
    let mut find = source.connection.prepare(&find)?;
    let most = i64::try_from(next.limit).unwrap_or(i64::MAX);
    let mut found = find.query(params![source.feed, int(after), int(window.since), int(window.until), most])?;
    while let Some(row) = found.next()? {
        if !next.add(rows::record(row)?) {
            break;
        }
    }
    Ok(())
}

/// The gaps that overlap the window, with the files that were set aside.
pub fn gaps(folder: &Folder, feed: &str, window: Window, faults: &mut Faults) -> Result<Vec<GapRow>, StoreError> {
    if window.since >= window.until {
        return Ok(Vec::new());
    }
    let mut gaps = Vec::new();
    // A gap is in the file of the day on which it ended.
    for source in source::of_days(folder, feed, (Day::of(window.since), LAST), faults)? {
        let find = format!("SELECT {} FROM gap g WHERE g.feed = ?1 AND g.since < ?3 AND g.until >= ?2", rows::GAP);
        let values = params![source.feed, int(window.since), int(window.until)];
        let read = all(&source.connection, &find, values, rows::gap);
        gaps.extend(faults.pass(source.day, read)?.into_iter().flatten());
    }
    let damaged = folder.damaged()?.into_iter().map(gap_of).collect::<Vec<_>>();
    gaps.extend(damaged.into_iter().filter(|gap| gap.since < window.until && gap.until >= window.since));
    gaps.sort_by(|a, b| (a.since, &a.vm).cmp(&(b.since, &b.vm)));
    Ok(gaps)
}

/// What a file that was set aside may have held.
fn gap_of(Damaged { day, name }: Damaged) -> GapRow {
    GapRow {
        node: String::new(),
        vm: format!("damaged {name}"),
        since: day.begin(),
        until: day.end().saturating_sub(1),
    }
}

/// See `EvidenceStore::losses`.
pub fn losses(folder: &Folder, feed: &str, window: Window, faults: &mut Faults) -> Result<Losses, StoreError> {
    let mut sum = Losses::default();
    if window.since >= window.until {
        return Ok(sum);
    }
    for source in source::of_days(folder, feed, (Day::of(window.since), LAST), faults)? {
        let read = losses_of(&source, window).map_err(|error| folder.named(Which::Of(source.day), error));
        let Some([permitted, refused, records, batches]) = faults.pass(source.day, read)? else { continue };
        sum.other_permitted = sum.other_permitted.saturating_add(permitted);
        sum.other_refused = sum.other_refused.saturating_add(refused);
        sum.records_dropped = sum.records_dropped.saturating_add(records);
        sum.batches_dropped = sum.batches_dropped.saturating_add(batches);
    }
    Ok(sum)
}

fn losses_of(source: &Source, window: Window) -> Result<[u64; 4], StoreError> {
    let (since, until) = (int(window.since), int(window.until));
    let find = "SELECT other_permitted, other_refused, records_dropped FROM batch
                WHERE feed = ?1 AND since < ?3 AND until >= ?2 AND other_permitted + other_refused + records_dropped <> 0";
    let lost = all(&source.connection, find, params![source.feed, since, until], |row| {
        Ok([uint(row.get(0)?), uint(row.get(1)?), uint(row.get(2)?)])
    })?;
    let [mut permitted, mut refused, mut records] = [0u64; 3];
    for [more_permitted, more_refused, more_records] in lost {
        permitted = permitted.saturating_add(more_permitted);
        refused = refused.saturating_add(more_refused);
        records = records.saturating_add(more_records);
    }
    let find = "SELECT count FROM dropped WHERE feed = ?1 AND hour >= ?2 AND hour <= ?3";
    let hours = params![source.feed, int(window.since / HOUR), int(window.until.saturating_sub(1) / HOUR)];
    let dropped = all(&source.connection, find, hours, |row| Ok(uint(row.get(0)?)))?;
    Ok([permitted, refused, records, dropped.into_iter().fold(0, u64::saturating_add)])
}

/// All rows.
pub fn all<T>(
    connection: &Connection,
    find: &str,
    values: &[&dyn ToSql],
    read: impl Fn(&Row<'_>) -> Result<T, StoreError>,
) -> Result<Vec<T>, StoreError> {
    let mut find = connection.prepare_cached(find)?;
    let mut rows = find.query(values)?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        found.push(read(row)?);
    }
    Ok(found)
}

//! All grants of a window in the order of their ids: the files are read beside each other, one grant at a time, so that
//! memory does not grow with the number of grants.

use super::gathering::{Gathered, IN_WINDOW, Lookup, OTHER, PERMITTED, REFUSED, SEEN};
use super::info;
use super::source::{Faults, Source, issued};
use crate::evidence::model::{GrantId, GrantRow, Window};
use crate::evidence::store::value::int;
use crate::store::model::StoreError;
use rusqlite::fallible_streaming_iterator::FallibleStreamingIterator;
use rusqlite::{Row, Rows, Statement, params};

/// Shows `each` the grants of the files. A file that turns out to be damaged is noted in `faults`, and left.
pub fn grants(
    sources: &[Source],
    window: Window,
    faults: &mut Faults,
    each: &mut dyn FnMut(GrantRow) -> bool,
) -> Result<(), StoreError> {
    let mut prepared = Vec::with_capacity(sources.len());
    for source in sources {
        prepared.extend(faults.pass(source.day, Statements::prepare(source))?);
    }
    let mut cursors = Vec::with_capacity(prepared.len());
    for statements in &mut prepared {
        let day = statements.source.day;
        cursors.extend(faults.pass(day, Cursor::new(statements, window))?);
    }
    loop {
        let Some(id) = cursors.iter().filter_map(|cursor| cursor.head).min() else { return Ok(()) };
        let (mut gathered, mut is_issued, mut info) = (Gathered::default(), false, None);
        // The newest file last: what it says about the token stays.
        for cursor in cursors.iter_mut().filter(|cursor| cursor.head == Some(id)) {
            let read = cursor.gather(&mut gathered, &mut is_issued);
            let read = read.and_then(|()| if gathered.is_empty() && !is_issued { Ok(None) } else { cursor.info() });
            let read = read.and_then(|read| {
                info = read.or(info.take());
                cursor.advance()
            });
            if faults.pass(cursor.source.day, read)?.is_none() {
                cursor.head = None;
            }
        }
        let Some(info) = info else { continue };
        if !each(gathered.finish(id, info)) {
            return Ok(());
        }
    }
}

/// The statements of one file.
struct Statements<'c> {
    source: &'c Source,
    grants: Statement<'c>,
    permitted: Option<Statement<'c>>,
    refused: Option<Statement<'c>>,
    seen: Option<Statement<'c>>,
    other: Option<Statement<'c>>,
}

impl<'c> Statements<'c> {
    fn prepare(source: &'c Source) -> Result<Statements<'c>, StoreError> {
        let columns = info::COLUMNS;
        let grants = match source.has_uses {
            true => format!(
                "SELECT g.id, g.issued >= ?2 AND g.issued < ?3, {columns} FROM \"grant\" g INDEXED BY grant_id
                 WHERE g.feed = ?1 ORDER BY g.id"
            ),
            false => format!(
                "SELECT g.id, 1, {columns} FROM \"grant\" g INDEXED BY grant_issued
                 WHERE g.feed = ?1 AND g.issued >= ?2 AND g.issued < ?3 ORDER BY g.id"
            ),
        };
        Ok(Statements {
            source,
            grants: source.connection.prepare(&grants)?,
            permitted: children(source, "permitted", PERMITTED)?,
            refused: children(source, "refused", REFUSED)?,
            seen: children(source, "seen", SEEN)?,
            other: children(source, "other", OTHER)?,
        })
    }
}

/// Reads a table in the order of the grants; `None`: it is empty.
fn children<'c>(source: &'c Source, table: &str, columns: &str) -> Result<Option<Statement<'c>>, StoreError> {
    if !source.has_uses || !source.connection.prepare(&format!("SELECT 1 FROM {table} LIMIT 1"))?.exists([])? {
        return Ok(None);
    }
    let read = format!("SELECT {columns} FROM {table} p WHERE p.feed = ?1 AND {IN_WINDOW} ORDER BY p.\"grant\"");
    Ok(Some(source.connection.prepare(&read)?))
}

/// Where the reading of one file is.
struct Cursor<'s> {
    source: &'s Source,
    lookup: Lookup<'s>,
    grants: Rows<'s>,
    /// The grant at which it is; `None`: there are no more.
    head: Option<GrantId>,
    permitted: Children<'s>,
    refused: Children<'s>,
    seen: Children<'s>,
    other: Children<'s>,
}

impl<'s> Cursor<'s> {
    fn new(statements: &'s mut Statements<'_>, window: Window) -> Result<Cursor<'s>, StoreError> {
        let source = statements.source;
        let (since, until) = issued(window);
        let mut cursor = Cursor {
            source,
            lookup: Lookup::new(&source.connection),
            grants: statements.grants.query(params![source.feed, since, until])?,
            head: None,
            permitted: Children::new(statements.permitted.as_mut(), source.feed, window)?,
            refused: Children::new(statements.refused.as_mut(), source.feed, window)?,
            seen: Children::new(statements.seen.as_mut(), source.feed, window)?,
            other: Children::new(statements.other.as_mut(), source.feed, window)?,
        };
        cursor.advance()?;
        Ok(cursor)
    }

    /// Goes to the next grant.
    fn advance(&mut self) -> Result<(), StoreError> {
        self.head = None;
        if let Some(row) = self.grants.next()? {
            self.head = Some(GrantId(row.get(0)?));
        }
        Ok(())
    }

    /// Adds what the file says about the grant.
    fn gather(&mut self, into: &mut Gathered, is_issued: &mut bool) -> Result<(), StoreError> {
        into.next_file();
        let (Some(id), lookup) = (self.head, &mut self.lookup) else { return Ok(()) };
        self.permitted.each(id, |row| into.add_permitted(lookup, row))?;
        self.refused.each(id, |row| into.add_refused(lookup, row))?;
        self.seen.each(id, |row| into.add_seen(row))?;
        self.other.each(id, |row| into.add_other(row))?;
        if let Some(row) = self.grants.get() {
            *is_issued |= row.get::<_, bool>(1)?;
        }
        Ok(())
    }

    /// What its token says.
    fn info(&mut self) -> Result<Option<taskfence_core::uses::batch::GrantInfo>, StoreError> {
        let lookup = &mut self.lookup;
        self.grants.get().map(|row| info::read(lookup, row, 2)).transpose()
    }
}

/// The rows of a table, in the order of the grants.
struct Children<'s> {
    rows: Option<Rows<'s>>,
    /// The grant that the current row is about.
    head: Option<GrantId>,
}

impl<'s> Children<'s> {
    fn new(statement: Option<&'s mut Statement<'_>>, feed: i64, window: Window) -> Result<Children<'s>, StoreError> {
        let values = params![feed, int(window.since), int(window.until)];
        let rows = statement.map(|statement| statement.query(values)).transpose()?;
        let mut children = Children { rows, head: None };
        children.advance()?;
        Ok(children)
    }

    fn advance(&mut self) -> Result<(), StoreError> {
        self.head = match &mut self.rows {
            Some(rows) => rows.next()?.map(|row| row.get(0).map(GrantId)).transpose()?,
            None => None,
        };
        Ok(())
    }

    /// Shows `body` the rows about a grant, if they come next.
    fn each(
        &mut self,
        id: GrantId,
        mut body: impl FnMut(&Row<'_>) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        while self.head == Some(id) {
            if let Some(row) = self.rows.as_ref().and_then(|rows| rows.get()) {
                body(row)?;
            }
            self.advance()?;
        }
        Ok(())
    }
}

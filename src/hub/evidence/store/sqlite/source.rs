//! The files that a call reads.

use super::folder::{Folder, Which};
use super::names;
use crate::evidence::model::Window;
use crate::evidence::store::day::Day;
use crate::evidence::store::value::{int, uint};
use crate::store::model::StoreError;
use rusqlite::{Connection, params};

/// So many KiB of pages are kept in memory for all files of a question together, and at least and at most so many for one.
/// A file that has little is slower, not wrong.
const CACHE: i64 = 128 * 1024;
const LEAST_CACHE: i64 = 512;
const MOST_CACHE: i64 = 16 * 1024;

/// A file that is open to read, with one feed. All that is read is of one moment.
pub struct Source {
    /// The day.
    pub day: Day,
    /// The file.
    pub connection: Connection,
    /// The number of the feed.
    pub feed: i64,
    /// Whether uses or records in the window may be in it. If not, it has grants that were issued in the window.
    pub has_uses: bool,
}

/// What cannot be read.
#[derive(Debug, Default)]
pub struct Faults(pub Vec<(Day, StoreError)>);

impl Faults {
    /// Takes the result of reading a file: that of a damaged one is noted, and the others can be read on.
    pub fn pass<T>(&mut self, day: Day, read: Result<T, StoreError>) -> Result<Option<T>, StoreError> {
        match read {
            Ok(value) => Ok(Some(value)),
            Err(error @ StoreError::Damaged(_)) => {
                self.0.push((day, error));
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }
}

/// Seconds since 1970 in which tokens of the window were issued: from the first on, before the second.
pub fn issued(window: Window) -> (i64, i64) {
    (int(window.since.div_ceil(1_000)), int(window.until.div_ceil(1_000)))
}

/// The files in which uses of the window may be, or grants that were issued in it, in the order of their days. A batch is
/// in the file of the day on which it was cut, so uses may be in later files than that of their own day.
pub fn of_uses(folder: &Folder, feed: &str, window: Window, faults: &mut Faults) -> Result<Vec<Source>, StoreError> {
    let mut sources = Vec::new();
    for day in folder.days()?.into_iter().filter(|day| *day >= Day::of(window.since)) {
        if window.since >= window.until {
            break;
        }
        let Some(Some(mut source)) = faults.pass(day, open(folder, day, feed))? else { continue };
        let look = look_for_uses(&mut source, window).map_err(|error| folder.named(Which::Of(day), error));
        if faults.pass(day, look)?.is_some_and(|is_wanted| is_wanted) {
            sources.push(source);
        }
    }
    share_cache(&sources)?;
    Ok(sources)
}

/// Gives each file its share of the memory.
fn share_cache(sources: &[Source]) -> Result<(), StoreError> {
    let each = share_of(sources.len());
    for source in sources {
        // Negative: in KiB, not in pages.
        source.connection.pragma_update(None, "cache_size", each.saturating_neg())?;
    }
    Ok(())
}

/// The share of one of so many files, in KiB.
fn share_of(files: usize) -> i64 {
    let files = i64::try_from(files).unwrap_or(i64::MAX);
    CACHE.checked_div(files).unwrap_or(CACHE).clamp(LEAST_CACHE, MOST_CACHE)
}

fn look_for_uses(source: &mut Source, window: Window) -> Result<bool, StoreError> {
    let first: i64 = source.connection.query_row("SELECT first FROM span", [], |row| row.get(0))?;
    source.has_uses = uint(first) < window.until;
    let (since, until) = issued(window);
    let find = "SELECT 1 FROM \"grant\" WHERE feed = ? AND issued >= ? AND issued < ?";
    Ok(source.has_uses || source.connection.prepare_cached(find)?.exists(params![source.feed, since, until])?)
}

/// The files of the days from that of `since` on, up to that in which `until` is.
pub fn of_days(
    folder: &Folder,
    feed: &str,
    (since, until): (Day, Day),
    faults: &mut Faults,
) -> Result<Vec<Source>, StoreError> {
    let mut sources = Vec::new();
    for day in folder.days()?.into_iter().filter(|day| (since..=until).contains(day)) {
        sources.extend(faults.pass(day, open(folder, day, feed))?.flatten());
    }
    share_cache(&sources)?;
    Ok(sources)
}

/// Opens the file; `None`: there is none, or it does not know the feed.
fn open(folder: &Folder, day: Day, feed: &str) -> Result<Option<Source>, StoreError> {
    let Some(connection) = folder.reader(Which::Of(day))? else { return Ok(None) };
    let read = || {
        connection.execute_batch("BEGIN")?;
        names::find(&connection, feed)
    };
    match read() {
        Ok(Some(feed)) => Ok(Some(Source { day, connection, feed, has_uses: true })),
        Ok(None) => Ok(None),
        Err(error) => Err(folder.named(Which::Of(day), error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_files_take_no_more_memory_than_a_few() {
        assert_eq!([0, 1, 7, 16, 90, 400].map(share_of), [16_384, 16_384, 16_384, 8_192, 1_456, 512]);
    }
}

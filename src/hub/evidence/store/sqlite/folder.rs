//! The folder with the files of the days and the index.
//!
//! A file that is damaged is renamed to `NAME.damaged-N`, with its log, so that nobody reads it by mistake and nothing of
//! it is lost. It counts as a file of its day and goes with it.

use super::schema::{DAY, INDEX, Schema};
use crate::evidence::store::day::Day;
use crate::store::model::StoreError;
use rusqlite::{Connection, OpenFlags};
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long a call waits for another process, such as somebody who looks into a file.
const BUSY: Duration = Duration::from_secs(10);

/// The page cache of a connection that writes, in KiB.
const WRITER_CACHE: i64 = 64 * 1024;

/// The page cache of a connection that reads, in KiB.
const READER_CACHE: i64 = 1024;

/// After so many pages the log is copied into the file.
const CHECKPOINT: i64 = 4_000;

/// A log that grew larger is cut to so many bytes once it has been copied.
const LOG_KEPT: i64 = 32 * 1024 * 1024;

/// How many statements a connection keeps compiled.
const STATEMENTS: usize = 64;

/// What the files are called beside the database.
const LOGS: [&str; 2] = ["-wal", "-shm"];

/// The folder of a store.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
}

/// Which file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Which {
    /// What is not of one day.
    Index,
    /// A day.
    Of(Day),
}

impl Which {
    fn name(self) -> String {
        match self {
            Which::Index => "index.sqlite".to_owned(),
            Which::Of(day) => format!("{day}.sqlite"),
        }
    }

    fn schema(self) -> Schema {
        match self {
            Which::Index => INDEX,
            Which::Of(_) => DAY,
        }
    }
}

/// A file of a day that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Damaged {
    /// The day.
    pub day: Day,
    /// Its name in the folder.
    pub name: String,
}

impl Folder {
    /// Uses the folder, and creates it if it does not exist; then only its owner may read it.
    pub fn new(path: &Path) -> Result<Folder, StoreError> {
        let mut builder = fs::DirBuilder::new();
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder.recursive(true).create(path).map_err(|error| failed(path, &error))?;
        let folder = Folder { path: path.to_owned() };
        folder.tidy().map_err(|error| failed(path, &error))?;
        Ok(folder)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The days of which there is a file, in order.
    pub fn days(&self) -> Result<Vec<Day>, StoreError> {
        let names = self.names().map_err(|error| failed(&self.path, &error))?;
        let days: BTreeSet<Day> = names.iter().filter_map(|name| Day::parse(name.strip_suffix(".sqlite")?)).collect();
        Ok(days.into_iter().collect())
    }

    /// The files of days that were set aside, in order.
    pub fn damaged(&self) -> Result<Vec<Damaged>, StoreError> {
        let names = self.names().map_err(|error| failed(&self.path, &error))?;
        let read = |name: String| {
            let (day, number) = name.split_once(".sqlite.damaged-")?;
            let day = Day::parse(day)?;
            number.bytes().all(|byte| byte.is_ascii_digit()).then_some(Damaged { day, name })
        };
        let mut damaged: Vec<_> = names.into_iter().filter_map(read).collect();
        damaged.sort();
        Ok(damaged)
    }

    /// The bytes of all files but those of `days`.
    pub fn bytes_without(&self, days: &[Day]) -> Result<u64, StoreError> {
        let names = self.names().map_err(|error| failed(&self.path, &error))?;
        let is_left_out = |name: &str| days.iter().any(|day| is_file_of(name, Which::Of(*day)));
        let counted = names.iter().filter(|name| !is_left_out(name));
        Ok(counted.fold(0, |sum: u64, name| sum.saturating_add(self.size(name))))
    }

    /// The bytes of the file of the day, with its log.
    pub fn bytes_of(&self, day: Day) -> u64 {
        let name = Which::Of(day).name();
        let logs = LOGS.iter().map(|log| self.size(&format!("{name}{log}")));
        logs.fold(self.size(&name), u64::saturating_add)
    }

    fn size(&self, name: &str) -> u64 {
        // One that was removed meanwhile takes no bytes.
        fs::metadata(self.path.join(name)).map_or(0, |file| file.len())
    }

    /// Whether the file is there.
    pub fn has(&self, which: Which) -> bool {
        self.path.join(which.name()).exists()
    }

    /// Opens the file to write. It is created if it does not exist, and brought to the schema of this hub.
    pub fn open(&self, which: Which) -> Result<Connection, StoreError> {
        if !self.has(which) {
            self.create(which)?;
        }
        let connection = self.connect(which, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        let open = || {
            connection.pragma_update(None, "journal_mode", "WAL")?;
            // What is answered is on the disk.
            connection.pragma_update(None, "synchronous", "FULL")?;
            connection.pragma_update(None, "cache_size", -WRITER_CACHE)?;
            connection.pragma_update(None, "wal_autocheckpoint", CHECKPOINT)?;
            connection.pragma_update(None, "journal_size_limit", LOG_KEPT)?;
            which.schema().migrate(&connection)
        };
        open().map_err(|error| self.named(which, error))?;
        Ok(connection)
    }

    /// Opens the file to read. `None`: there is none.
    pub fn reader(&self, which: Which) -> Result<Option<Connection>, StoreError> {
        // Not as read-only: the last one to close a file must tidy up its log.
        let connection = match self.connect(which, OpenFlags::SQLITE_OPEN_READ_WRITE) {
            Ok(connection) => connection,
            Err(_) if !self.has(which) => return Ok(None),
            Err(error) => return Err(error),
        };
        let set = || {
            connection.pragma_update(None, "query_only", true)?;
            // Not mapped into memory: a page that the disk cannot read is then an error, and not the end of the process.
            connection.pragma_update(None, "mmap_size", 0)?;
            connection.pragma_update(None, "cache_size", -READER_CACHE)
        };
        set().map_err(|error| self.named(which, error.into()))?;
        Ok(Some(connection))
    }

    /// Creates the file with its tables: under its name it is always complete.
    fn create(&self, which: Which) -> Result<(), StoreError> {
        let path = self.path.join(which.name());
        let new = path.with_added_extension("new");
        let failed = |error: io::Error| failed(&new, &error);
        let mut options = OpenOptions::new();
        options.create(true).truncate(true).write(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        options.open(&new).map_err(failed)?;
        let connection = Connection::open_with_flags(&new, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        which.schema().migrate(&connection)?;
        // Closing the only connection moves the log into the file, and syncs it.
        connection.close().map_err(|(_, error)| error)?;
        fs::rename(&new, &path).map_err(failed)?;
        self.sync().map_err(failed)
    }

    fn connect(&self, which: Which, flags: OpenFlags) -> Result<Connection, StoreError> {
        // A connection is used by one thread at a time: it needs no lock of its own, which each read of a value would take.
        let flags = flags | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(self.path.join(which.name()), flags);
        let connection = connection.map_err(|error| self.named(which, error.into()))?;
        connection.busy_timeout(BUSY)?;
        connection.set_prepared_statement_cache_capacity(STATEMENTS);
        Ok(connection)
    }

    /// The error with the name of the file.
    pub fn named(&self, which: Which, error: StoreError) -> StoreError {
        let path = self.path.join(which.name());
        let named = |why: String| format!("{}: {why}", path.display());
        match error {
            StoreError::Failed(why) => StoreError::Failed(named(why)),
            StoreError::Unavailable(why) | StoreError::Uncertain(why) => StoreError::Unavailable(named(why)),
            StoreError::Full(why) => StoreError::Full(named(why)),
            StoreError::Damaged(why) => StoreError::Damaged(named(why)),
            error @ (StoreError::NoFeed(_) | StoreError::Newer { .. }) => error,
        }
    }

    /// Renames a file that is damaged for the reason `why`, so that a new one can take its place. The caller has closed
    /// its connection to it.
    pub fn set_aside(&self, which: Which, why: &StoreError) -> Result<(), StoreError> {
        let name = which.name();
        if !self.has(which) {
            return Ok(());
        }
        let free = |number: &u64| !self.path.join(format!("{name}.damaged-{number}")).exists();
        let number = (1..).find(free).unwrap_or(u64::MAX);
        let aside = format!("{name}.damaged-{number}");
        // The log first: without it the file would be read as it was some time ago.
        for log in LOGS.into_iter().chain([""]) {
            match fs::rename(self.path.join(format!("{name}{log}")), self.path.join(format!("{aside}{log}"))) {
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(failed(&self.path, &error)),
                _ => {}
            }
        }
        self.sync().map_err(|error| failed(&self.path, &error))?;
        let file = self.path.join(&aside);
        tracing::error!(
            file = %file.display(),
            %why,
            "a file of the evidence is damaged and was set aside; what it holds is missing in reports: check the disk, \
             read what is left with `sqlite3 FILE .recover`, or delete it"
        );
        Ok(())
    }

    /// Removes all files of the day, also those that were set aside.
    pub fn remove(&self, day: Day) -> Result<(), StoreError> {
        let remove = || {
            for name in self.names()? {
                if !is_file_of(&name, Which::Of(day)) {
                    continue;
                }
                if name.contains(".damaged-") {
                    tracing::warn!(file = %self.path.join(&name).display(), "a damaged file is removed with its day");
                }
                match fs::remove_file(self.path.join(&name)) {
                    Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
                    _ => {}
                }
            }
            self.sync()
        };
        remove().map_err(|error| failed(&self.path, &error))
    }

    /// Removes what a process left behind that was killed: files that were not complete, and logs without a file.
    fn tidy(&self) -> io::Result<()> {
        for name in self.names()? {
            let is_new = name.contains(".sqlite.new");
            let is_stray = LOGS.iter().any(|log| name.strip_suffix(log).is_some_and(|of| !self.path.join(of).exists()));
            if is_new || is_stray {
                fs::remove_file(self.path.join(&name))?;
            }
        }
        Ok(())
    }

    fn names(&self) -> io::Result<Vec<String>> {
        let name = |file: io::Result<fs::DirEntry>| file.map(|file| file.file_name());
        let names = fs::read_dir(&self.path)?.map(name).collect::<io::Result<Vec<OsString>>>()?;
        // The store writes no other names.
        Ok(names.into_iter().filter_map(|name| name.into_string().ok()).collect())
    }

    fn sync(&self) -> io::Result<()> {
        File::open(&self.path)?.sync_all()
    }
}

/// Whether it is the file, its log, or one that was set aside.
fn is_file_of(name: &str, which: Which) -> bool {
    let rest = name.strip_prefix(which.name().as_str());
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['-', '.']))
}

fn failed(path: &Path, error: &io::Error) -> StoreError {
    let why = format!("{}: {error}", path.display());
    match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => StoreError::Full(why),
        _ => StoreError::Failed(why),
    }
}

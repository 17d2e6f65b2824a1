//! A copy of the store while it is in use.

use crate::store::BACKUP;
use crate::store::model::StoreError;
use crate::store::sqlite::records;
use rusqlite::Connection;
use rusqlite::backup::{Backup, StepResult};
use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::Path;

/// Copies the database into the new file `to`. The copy is of one moment; writers do not wait for it. A file under the
/// name `to` is always complete and on the disk: until then it is called `TO.partial`.
pub fn backup(from: &Connection, to: &Path) -> Result<(), StoreError> {
    let failed = |error: io::Error| StoreError::Failed(format!("{}: {error}", to.display()));
    if to.exists() {
        return Err(failed(io::ErrorKind::AlreadyExists.into()));
    }
    let partial = to.with_added_extension("partial");
    if let Err(error) = fs::remove_file(&partial)
        && error.kind() != io::ErrorKind::NotFound
    {
        return Err(failed(error));
    }
    let mut options = OpenOptions::new();
    options.create_new(true).write(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(&partial).map_err(failed)?;
    copy(from, &partial)?;
    File::open(&partial).and_then(|file| file.sync_all()).map_err(failed)?;
    fs::rename(&partial, to).map_err(failed)?;
    let folder = to.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed)
}

fn copy(from: &Connection, to: &Path) -> Result<(), StoreError> {
    let mut target = Connection::open(to)?;
    let copy = Backup::new(from, &mut target)?;
    // All pages in one step are of one moment: a step holds one read transaction.
    match copy.step(-1)? {
        StepResult::Done => {}
        other => return Err(StoreError::Failed(format!("the copy ended with {other:?}"))),
    }
    drop(copy);
    let time = records::latest_time(&target)?;
    records::set(&target, BACKUP, &time.to_string())?;
    // The copy is one file, without a log beside it.
    target.pragma_update(None, "journal_mode", "DELETE")?;
    target.close().map_err(|(_, error)| error.into())
}

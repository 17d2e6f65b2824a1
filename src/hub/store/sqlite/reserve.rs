//! Room on the disk that is kept for signals: a file beside the database that is given up when the disk is full.
//!
//! Others fill the disk: records of other parts of the hub, or other programs. Then the reserve is what the store goes on
//! with until somebody has made room. Its blocks are allocated, so that they are really there.

use rustix::fs::{FallocateFlags, fallocate, statvfs};
use std::fs::{self, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

/// The reserve of one store.
#[derive(Debug)]
pub struct Reserve {
    path: PathBuf,
    bytes: u64,
}

impl Reserve {
    /// The reserve for the database `database`. Nothing is allocated yet.
    pub fn new(database: &Path, bytes: u64) -> Reserve {
        Reserve { path: database.with_extension("reserve"), bytes }
    }

    /// Whether it is there.
    pub fn is_kept(&self) -> bool {
        self.bytes == 0 || self.path.exists()
    }

    /// Allocates it, if it is not there and the disk has twice as much free: a disk that is nearly full must not be
    /// filled by this. Returns whether it is there.
    pub fn keep(&self) -> io::Result<bool> {
        if self.is_kept() {
            return Ok(true);
        }
        let folder = self.path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let disk = statvfs(folder)?;
        if disk.f_bavail.saturating_mul(disk.f_frsize) < self.bytes.saturating_mul(2) {
            return Ok(false);
        }
        let partial = self.path.with_added_extension("partial");
        let file = OpenOptions::new().create(true).truncate(true).write(true).open(&partial)?;
        let allocated = fallocate(&file, FallocateFlags::empty(), 0, self.bytes).map_err(io::Error::from);
        if let Err(error) = allocated.and_then(|()| fs::rename(&partial, &self.path)) {
            fs::remove_file(&partial)?;
            return Err(error);
        }
        Ok(true)
    }

    /// Gives it up. Returns whether it was there.
    pub fn give_up(&self) -> io::Result<bool> {
        match fs::remove_file(&self.path) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }
}

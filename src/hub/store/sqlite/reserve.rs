//! Room on the disk that is kept for signals: a file beside the database that is given up when the disk is full.
//!
//! Others fill the disk: records of other parts of the hub, or other programs. Then the reserve is what the store goes on
//! with until somebody has made room. Its blocks are allocated, so that they are really there.

use crate::store::model::StoreError;
use rustix::fs::{FallocateFlags, fallocate, statvfs};
use std::fs::{self, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

/// What is written, in the order in which it may use the last of the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Use {
    /// Everything that is not about signals.
    Other,
    /// Signals of transmitters, and what must be stored to take them.
    Signals,
    /// Signals of operators, and what they undo: the last tenth of the reserve is theirs.
    Operators,
    /// Removes more than it adds.
    Removal,
}

impl Use {
    fn may_end_reserve(self) -> bool {
        matches!(self, Use::Signals | Use::Operators)
    }

    /// While the reserve is not there, the disk must have so many bytes left for it.
    fn leaves(self, reserve: u64) -> u64 {
        match self {
            Use::Other => reserve,
            Use::Signals => reserve / 10,
            Use::Operators | Use::Removal => 0,
        }
    }
}

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
    /// filled by this.
    pub fn keep(&self) -> io::Result<()> {
        if self.is_kept() {
            return Ok(());
        }
        if self.available()? < self.bytes.saturating_mul(2) {
            return Err(io::Error::new(io::ErrorKind::StorageFull, "the disk has too little room"));
        }
        let partial = self.path.with_added_extension("partial");
        let file = OpenOptions::new().create(true).truncate(true).write(true).open(&partial)?;
        let allocated = fallocate(&file, FallocateFlags::empty(), 0, self.bytes).map_err(io::Error::from);
        if let Err(error) = allocated.and_then(|()| fs::rename(&partial, &self.path)) {
            fs::remove_file(&partial)?;
            return Err(error);
        }
        Ok(())
    }

    /// Whether `user` may write now. While the reserve is not there, what is left of the disk stands for it.
    ///
    /// [`StoreError::Full`]: what is left is for others.
    pub fn admit(&self, user: Use) -> Result<(), StoreError> {
        let leaves = user.leaves(self.bytes);
        // A disk that does not say how full it is says so when it is written.
        if leaves == 0 || self.is_kept() || self.available().unwrap_or(u64::MAX) >= leaves {
            return Ok(());
        }
        let (kept, whose) = match user {
            Use::Signals => (leaves, "signals of operators"),
            Use::Other | Use::Operators | Use::Removal => (leaves, "signals"),
        };
        Err(StoreError::Full(format!("the last {} KiB are kept for {whose}: make room on it", kept / 1024)))
    }

    /// Gives it up for `user`. Returns whether it was there, and `user` may have it.
    pub fn give_up(&self, user: Use) -> io::Result<bool> {
        if !user.may_end_reserve() {
            return Ok(false);
        }
        match fs::remove_file(&self.path) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// How many bytes of the disk are free.
    fn available(&self) -> io::Result<u64> {
        let folder = self.path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let disk = statvfs(folder)?;
        Ok(disk.f_bavail.saturating_mul(disk.f_frsize))
    }
}

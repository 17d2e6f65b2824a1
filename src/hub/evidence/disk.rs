//! Whether the disk has room for evidence: signals come first.

use rustix::fs::statvfs;
use std::path::PathBuf;

/// So many bytes beyond the reserve of the signals stay free: what the store of signals writes beside its reserve.
const MARGIN: u64 = 64 * 1024 * 1024;

/// The disk that evidence shares with signals.
#[derive(Debug, Clone)]
pub struct Disk {
    folder: PathBuf,
    keep: u64,
}

/// The disk has too little room.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the disk has {free} MiB left, and the last {kept} MiB are not for evidence: make room on it, or lower `evidence.mib`"
)]
pub struct Full {
    free: u64,
    kept: u64,
}

impl Disk {
    /// The disk of `folder`, on which `reserve` bytes are for signals alone.
    pub fn new(folder: PathBuf, reserve: u64) -> Disk {
        Disk { folder, keep: reserve.saturating_add(MARGIN) }
    }

    /// Whether evidence may be written. A disk that does not say how full it is says so when it is written.
    pub fn admit(&self) -> Result<(), Full> {
        let Ok(disk) = statvfs(&self.folder) else { return Ok(()) };
        let free = disk.f_bavail.saturating_mul(disk.f_frsize);
        if free >= self.keep {
            return Ok(());
        }
        Err(Full { free: mebibytes(free), kept: mebibytes(self.keep) })
    }
}

fn mebibytes(bytes: u64) -> u64 {
    bytes / (1024 * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reserve_and_a_margin_are_for_signals() {
        let folder = tempfile::tempdir().unwrap();
        let admit = |reserve| Disk::new(folder.path().to_owned(), reserve).admit();
        assert_eq!(admit(0), Ok(()));
        let full = admit(u64::MAX / 2).unwrap_err();
        assert!(full.to_string().starts_with("the disk has "), "{full}");
        assert_eq!(Disk::new(folder.path().join("none"), u64::MAX).admit(), Ok(()), "nobody knows");
    }
}

//! How much evidence is kept.

/// The bounds of a store. Whole days go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kept {
    /// So many days: today, and those before it.
    pub days: u64,
    /// So many bytes on the disk.
    pub bytes: u64,
}

impl Default for Kept {
    fn default() -> Kept {
        Kept { days: 90, bytes: 4096 * 1024 * 1024 }
    }
}

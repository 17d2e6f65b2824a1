//! Numbers, as databases hold them: they have signed integers of 64 bits only.

/// A number or a time. What does not fit is stored as the greatest number; no real one is that large.
pub fn int(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// Reads what [`int`] made.
pub fn uint(stored: i64) -> u64 {
    u64::try_from(stored).unwrap_or(0)
}

//! Limits of what one worker keeps.

/// How many bad signatures each source may have checked, per worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit {
    /// In one second, in the long run.
    pub per_second: u32,
    /// At once, after a quiet time.
    pub burst: u32,
}

/// What one worker spends on tokens.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Memory for verified tokens, in bytes.
    pub(crate) token_cache: usize,
    /// Bad signatures that each source may have checked.
    pub(crate) bad_signatures: Limit,
}

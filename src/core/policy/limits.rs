//! Limits of one worker.

/// How many bad signatures one worker checks for each source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Limit {
    /// How many per second on average.
    pub per_second: u32,
    /// How many at once, after a time without any.
    pub burst: u32,
}

/// Limits of one worker.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Memory for the cache of verified tokens, in bytes.
    pub(crate) token_cache: usize,
    /// How many bad signatures are checked for each source.
    pub(crate) bad_signatures: Limit,
}

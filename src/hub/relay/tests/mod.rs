//! What a relay holds, on disk and in memory; and many followers that start at once.

mod kept;
pub mod load;

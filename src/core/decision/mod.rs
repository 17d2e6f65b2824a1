//! From a request to a verdict, and from a verdict to an answer and a record.

pub mod answer;
pub mod authenticate;
pub(crate) mod bad_signatures;
pub mod captured;
pub mod evaluate;
pub(crate) mod flood;
pub mod judge;
pub mod metadata;
pub mod push_record;
pub mod record;
pub(crate) mod session;
pub(crate) mod token_cache;
pub mod verdict;

//! Streams that were admitted: when they are decided again, and how they end.

pub mod admitted;
pub(crate) mod reevaluate;
pub mod streams;
pub mod wake_roster;

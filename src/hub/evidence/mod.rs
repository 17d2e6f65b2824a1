//! Evidence: who asked for which grant, how it was used, and when it ended. It has a store of its own, so that it can
//! never hold up a signal.

pub mod assemble;
pub mod check;
pub mod copy;
pub mod counters;
pub mod disk;
#[cfg(any(test, feature = "fixture"))]
pub mod fixture;
pub mod measures;
pub mod model;
pub mod open;
pub mod queue;
pub mod report;
pub mod senders;
pub mod service;
pub mod signal_event;
pub mod store;
#[cfg(test)]
pub mod testing;
pub mod timeline;
pub mod upkeep;
pub mod uses;
pub mod weight;

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects, reason = "small numbers of a test")]
mod tests;

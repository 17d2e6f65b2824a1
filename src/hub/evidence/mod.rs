//! Evidence: who asked for which grant, how it was used, and when it ended. It has a store of its own, so that it can
//! never hold up a signal.

pub mod assemble;
pub mod counters;
pub mod disk;
pub mod model;
pub mod open;
pub mod queue;
pub mod report;
pub mod service;
pub mod store;
pub mod testing;
pub mod timeline;

//! Evidence: who asked for which grant, how it was used, and when it ended. It has a store of its own, so that it can
//! never hold up a signal.

pub mod assemble;
pub mod model;
pub mod report;
pub mod store;
pub mod timeline;

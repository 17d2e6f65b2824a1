//! The pushed state: its keys, its entries, its stored formats, and how workers share it.

pub mod bucket;
mod corrupt;
pub mod coverage;
pub mod fact;
pub mod freshness;
pub mod key;
pub mod log;
pub(crate) mod payload;
pub mod revocations;
pub mod room;
pub(crate) mod seen_sets;
pub(crate) mod single_use;
pub mod store;
pub mod view;

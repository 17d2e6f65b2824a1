//! The pushed state: its keys, its entries, its stored formats, and how workers share it.

pub(crate) mod bucket;
pub mod fact;
pub mod freshness;
pub mod key;
pub(crate) mod log;
pub(crate) mod payload;
pub mod revocations;
pub(crate) mod room;
pub(crate) mod seen_sets;
pub(crate) mod single_use;
pub mod store;
pub(crate) mod view;

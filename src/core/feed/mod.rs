//! The feed of a hub: its pages, as the hub writes them and the proxy reads them, and how a proxy follows it.

pub mod entry;
pub mod page;
pub mod revision;
pub mod statement;

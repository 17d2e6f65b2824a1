//! The feed of a hub: its pages, as the hub writes them and the proxy reads them, and how a proxy follows it.

pub mod apply;
pub mod entry;
pub mod failure;
pub mod follower;
pub mod lease;
#[cfg(test)]
mod model;
pub mod page;
pub mod position;
pub mod report;
pub mod revision;
pub(crate) mod rule;
pub mod statement;

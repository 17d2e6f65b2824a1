//! The commands, a file each.

pub mod check;
pub mod completions;
pub mod config_reference;
pub mod explain;
pub mod keys;
pub mod man;
mod proof;
pub mod schema;
pub mod signal;
pub mod test;
pub mod token;

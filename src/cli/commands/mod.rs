//! The commands, a file each.

pub mod capabilities;
pub mod check;
pub mod completions;
pub mod config_reference;
pub mod doctor;
pub mod explain;
pub mod export;
pub mod hub;
pub mod hub_options;
pub mod init;
pub mod keys;
pub mod man;
mod proof;
mod receipt;
pub mod render;
pub mod report;
pub mod schema;
pub mod signal;
pub mod state;
pub mod status;
pub mod stop;
pub mod test;
pub mod timeline;
pub mod token;
pub mod undo;
pub mod watch;
mod window;

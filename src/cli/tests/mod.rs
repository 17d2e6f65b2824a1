//! Tests of the command line as a whole.

pub mod agreement;
pub mod command_line;
pub mod examples;
pub mod help;
pub mod hub;
pub mod init;
pub mod messages;
pub mod render;
pub mod snapshot;

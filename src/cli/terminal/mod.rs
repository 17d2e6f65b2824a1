//! The console: text, times, exit codes.

pub mod console;
pub mod exit;
pub mod text;
pub mod time;

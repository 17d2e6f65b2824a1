//! A hub, called over its API: which one, with whose token, and tables of what it answers.

pub mod client;
pub mod profile;
pub mod table;

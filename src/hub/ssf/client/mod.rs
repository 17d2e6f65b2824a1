//! What is asked of a transmitter, and how its answers are read. Nothing here keeps anything.

mod assertion;
pub mod authorization;
pub mod discovery;
pub mod failure;
pub mod http;
mod page;
pub mod poll;
pub mod session;
pub mod status;
pub mod streams;
pub mod verification;

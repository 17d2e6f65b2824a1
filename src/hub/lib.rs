//! The hub: takes signals in once, keeps them, and brings every proxy up to date.
//!
//! ```text
//! transmitters, operators ─► intake ─► store ─► feed ─► proxies
//!                                        │        │
//!                                        └─► api ◄┘ (state, undo, receipts)
//! ```

#![forbid(unsafe_code)]
#![cfg_attr(
    test,
    allow(clippy::arithmetic_side_effects, reason = "a test may panic, and clippy sees no test in proptest!")
)]

pub mod access;
pub mod api;
pub mod config;
pub mod connection;
pub mod evidence;
pub mod feed;
pub mod health;
pub mod histogram;
pub mod intake;
pub mod metrics;
pub mod operations;
pub mod parking;
pub mod problem;
pub mod relay;
pub mod repeated;
pub mod replicas;
pub mod resolver;
pub mod serve;
pub mod server;
pub mod ssf;
pub mod store;
pub mod streams;
#[cfg(test)]
mod testing;
pub mod tls;

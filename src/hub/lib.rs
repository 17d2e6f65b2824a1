//! The hub: takes signals in once, keeps them, and brings every proxy up to date.
//!
//! ```text
//! transmitters, operators ─► intake ─► store ─► feed ─► proxies
//!                                        │        │
//!                                        └─► api ◄┘ (state, undo, receipts)
//! ```

#![forbid(unsafe_code)]

pub mod access;
pub mod api;
pub mod config;
pub mod health;
pub mod intake;
pub mod listener;
pub mod problem;
pub mod feed;
pub mod serve;
pub mod store;
pub mod tls;
#[cfg(test)]
mod testing;

//! The hub as a transmitter of the Shared Signals Framework (SSF 1.0): what operators and issuers end also reaches
//! receivers that are no proxies, by push (RFC 8935) or poll (RFC 8936).
//!
//! ```text
//! receiver ─► management ─► record (in the store) ◄─ position ─┐
//!                                                              │
//! store, signals after the position ─► backlog ─► outgoing ─► sets ─► push ─► receiver
//!                                                               └──► poll ◄── receiver
//! ```

pub mod answers;
mod backlog;
mod body;
pub mod counters;
mod delivery_url;
pub mod follow_up;
pub mod keys;
pub mod management;
pub mod metadata;
pub(crate) mod outgoing;
pub mod paths;
pub mod poll;
mod push;
mod record;
mod records;
pub mod routes;
pub mod service;
pub mod status;
mod subject_match;
pub mod subjects;
pub mod verification;
mod waiting;

#[cfg(test)]
mod tests;

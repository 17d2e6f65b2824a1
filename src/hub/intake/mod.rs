//! Takes signals in: what transmitters push (RFC 8935), and what operators say.
//!
//! ```text
//! push ─► Head::check ─► set::read ─┐
//!                                   ├─► derive ─► writer ─► 202
//! operator ─► words ─► claims ──────┘        ▲
//! stored signals ─► rederive, renewal ───────┘
//! ```

pub mod aws_lc;
pub mod counters;
mod coverage;
pub mod cut_off;
mod derive;
mod freshness;
mod key_request;
mod keys;
pub mod operator;
mod operator_error;
pub mod push;
mod rederive;
mod renewal;
pub mod service;
pub mod upkeep;
mod words;

pub use key_request::KeyFailure;
pub use push::router;

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

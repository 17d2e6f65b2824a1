//! Takes signals in: what transmitters push (RFC 8935), what identity providers say in other ways, and what operators say.
//!
//! ```text
//! push ─► Head::check ─► set::read ─┐
//!                                   ├─► derive ─► writer ─► 202
//! logout, global_revocation ─► told ┤        ▲
//! operator ─► words ─► claims ──────┘        │
//! stored signals ─► rederive, renewal ───────┘
//! ```

pub mod aws_lc;
pub mod counters;
mod coverage;
pub mod cut_off;
mod derive;
mod freshness;
pub mod global_revocation;
mod key_request;
mod keys;
pub mod logout;
pub mod managed;
pub mod operator;
mod operator_error;
pub mod push;
mod rederive;
mod renewal;
pub mod service;
mod told;
mod upkeep;
pub mod verification_states;
mod words;

pub use key_request::KeyFailure;

use axum::Router;

/// The routes of the intake.
pub fn router(intake: service::Intake) -> Router {
    push::router(intake.clone()).merge(logout::router(intake))
}

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

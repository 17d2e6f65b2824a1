//! The judge of Taskfence: it says whether a request lies inside the task that its token was granted for.
//!
//! Pure: bytes and the time come in, verdicts go out. Core has no clock, does no I/O and does not know the proxy. What
//! the judge needs from its host comes in as [`ports::Ports`].
//!
//! ```text
//! token bytes ─► jws::Unverified ─► token::Verified ─► grant::Grant ─┐
//! request    ─► path::Canonical ─► policy::Rule ─────────────────────┼─► judge ─► Verdict ─► answer
//! signal     ─► accepted::Signal ─► state ─► GrantStatus ─────────────┘
//!                                     ▲
//! page       ─► feed::Page ───────────┘
//! ```

#![forbid(unsafe_code)]
#![cfg_attr(
    test,
    allow(clippy::arithmetic_side_effects, reason = "a test may panic, and clippy sees no test in proptest!")
)]

pub mod config;
pub mod decision;
pub mod encoding;
pub mod feed;
pub mod http;
pub mod index;
pub mod jose;
pub mod keys;
pub mod live;
pub mod policy;
pub mod ports;
pub mod reason;
pub mod rules;
pub mod signal;
pub mod state;
#[cfg(test)]
mod testing;
pub mod time;
pub mod token;
pub mod uses;

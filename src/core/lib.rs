//! The judge of Taskfence: it says whether a request lies inside the task that its token was granted for.
//!
//! Pure: bytes and the time come in, verdicts go out. There is no clock, no I/O and no proxy in here; what the judge
//! needs of them stands behind [`state::Store`] and [`signature::CheckSignature`].
//!
//! ```text
//! token bytes ─► jws::Unverified ─► token::Verified ─► grant::Grant ─┐
//! request    ─► path::Canonical ─► policy::Rule ─────────────────────┼─► judge ─► Verdict ─► answer
//! signal     ─► signal::Signal ─► state ─► standing::Standing ───────┘
//! ```

#![cfg_attr(
    test,
    allow(clippy::arithmetic_side_effects, reason = "a test may panic, and clippy sees no test in proptest!")
)]

#[cfg(test)]
mod annex;
pub mod answer;
pub mod authority;
mod bytes;
pub mod cache;
pub mod carriers;
pub mod change;
mod compile;
pub mod condition;
pub mod config;
pub mod confirmation;
pub mod coverage;
mod demand;
pub mod detail;
#[cfg(test)]
mod doubt;
pub mod dpop;
pub mod duplicate;
pub mod effect;
pub mod event;
pub mod evidence;
pub mod fact;
pub mod fetch;
#[cfg(test)]
mod fixture;
pub mod flood;
mod foreign;
pub mod freshness;
pub mod grant;
mod hearing;
mod identifier;
pub mod identity;
pub mod issuer;
mod json;
mod json_path;
pub mod judge;
mod jwk;
pub mod jws;
pub mod key;
pub mod keyring;
mod keys;
mod lessen;
mod literal;
pub mod nonce;
pub mod oddity;
mod order;
mod overlap;
pub mod path;
pub mod peer;
pub mod place;
pub mod policy;
mod predicate;
pub mod presentation;
mod presentation_config;
pub mod problem;
mod raw;
pub mod reason;
pub mod receiver;
pub mod record;
mod refused;
pub mod remit;
pub mod replay;
pub mod request;
pub mod requirement;
pub mod review;
pub mod room;
pub mod routes;
#[cfg(feature = "schema")]
pub mod schema;
pub mod signal;
mod signal_time;
pub mod signature;
pub mod standing;
pub mod state;
pub mod statekey;
pub mod streams;
mod strictness;
pub mod subject;
pub mod surroundings;
pub mod table;
pub mod template;
pub mod time;
pub mod token;
mod tokens;
mod typed;
mod uri;
pub mod waiting;
pub mod waking;

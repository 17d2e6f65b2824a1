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

#[cfg(test)]
mod annex;
pub mod answer;
pub mod authority;
pub mod cache;
pub mod change;
mod compile;
pub mod condition;
pub mod config;
pub mod coverage;
mod demand;
pub mod detail;
pub mod duplicate;
pub mod effect;
pub mod event;
pub mod evidence;
pub mod fact;
#[cfg(test)]
mod fixture;
pub mod freshness;
pub mod grant;
mod hearing;
pub mod identity;
pub mod issuer;
mod json;
pub mod judge;
pub mod jws;
pub mod key;
mod overlap;
pub mod path;
pub mod policy;
pub mod problem;
pub mod reason;
pub mod receiver;
pub mod record;
pub mod remit;
pub mod request;
pub mod requirement;
pub mod routes;
#[cfg(feature = "schema")]
pub mod schema;
pub mod signal;
pub mod signature;
pub mod standing;
pub mod state;
pub mod statekey;
pub mod subject;
pub mod surroundings;
pub mod table;
pub mod template;
pub mod time;
pub mod token;
mod uri;

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

pub mod answer;
pub mod authority;
pub mod cache;
mod compile;
pub mod condition;
pub mod config;
pub mod confirmation;
pub mod coverage;
mod demand;
pub mod detail;
pub mod dpop;
pub mod evidence;
pub mod fact;
#[cfg(test)]
mod fixture;
pub mod grant;
pub mod identity;
pub mod issuer;
mod json;
mod json_path;
pub mod judge;
pub mod jws;
pub mod key;
pub mod nonce;
mod overlap;
pub mod path;
pub mod peer;
pub mod place;
pub mod policy;
pub mod presentation;
mod presentation_config;
pub mod problem;
mod raw;
pub mod reason;
pub mod receiver;
pub mod record;
pub mod replay;
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

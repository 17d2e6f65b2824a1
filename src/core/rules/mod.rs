//! What a rule matches, what it requires, and how a grant meets it.

pub(crate) mod cel_claims;
pub mod condition;
pub(crate) mod condition_fast_path;
pub mod detail_match;
pub mod evidence;
pub(crate) mod grant_changes;
pub(crate) mod grant_status;
pub(crate) mod lessen;
pub mod mode;
pub(crate) mod overlap;
pub mod rate;
pub mod requirement;
pub mod routes;
pub mod rule;
pub(crate) mod strictness;

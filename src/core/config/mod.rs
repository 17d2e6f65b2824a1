//! The configuration as it is written: parsed, checked and compiled to a policy.

pub(crate) mod checks;
pub mod compile;
pub(crate) mod compile_evidence;
mod compile_hub;
pub(crate) mod compile_keys;
pub(crate) mod compile_presentation;
pub(crate) mod compile_require;
pub(crate) mod compile_resources;
pub(crate) mod compile_signals;
pub mod issuers;
pub(crate) mod literal;
pub mod load;
pub(crate) mod model;
pub mod problem;
pub(crate) mod rule_order;
#[cfg(feature = "schema")]
pub mod schema;
#[cfg(feature = "schema")]
pub(crate) mod schema_shapes;

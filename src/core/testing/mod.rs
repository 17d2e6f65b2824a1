//! What the tests of several rooms share.

pub(crate) mod fixture;
mod hub_agreement;
mod named_claims;
pub(crate) mod odd_signals;
pub(crate) mod ports;
pub(crate) mod signal_semantics;
mod token_shapes;
mod transmitter_profiles;

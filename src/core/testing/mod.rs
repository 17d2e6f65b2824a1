//! What the tests of several rooms share.

pub(crate) mod doubt;
pub(crate) mod fixture;
mod hub_agreement;
pub(crate) mod ports;
pub(crate) mod signal_semantics;

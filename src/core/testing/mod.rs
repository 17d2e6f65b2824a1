//! What the tests of several rooms share.

pub(crate) mod doubt;
pub(crate) mod fixture;
pub(crate) mod ports;
pub(crate) mod signal_semantics;

//! The whole configuration as the data plane reads it.

pub mod identity_headers;
pub mod limits;
pub mod policy;

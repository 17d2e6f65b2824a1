//! The whole configuration as the data plane reads it.

pub mod evidence;
pub mod identity_headers;
pub(crate) mod limits;
#[expect(clippy::module_inception, reason = "the room is named after what it holds")]
pub mod policy;
pub(crate) mod resource;

//! Reading and comparing bytes: strict JSON, digests, the nearest known name. Independent of the rest of the project.

pub(crate) mod ascii;
pub mod bytes;
pub mod digest;
pub(crate) mod json;
pub mod nearest;
pub mod secret;
pub(crate) mod typed;

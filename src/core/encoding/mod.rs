//! Reading and comparing bytes: strict JSON, digests, the nearest known word. Nothing of this project is known here.

pub(crate) mod bytes;
pub mod digest;
pub(crate) mod json;
pub mod nearest;
pub(crate) mod typed;

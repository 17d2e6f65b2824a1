//! What `taskfence init` makes a first configuration from, and how it writes it.

pub mod ask;
pub mod draft;
pub mod guess;
pub mod issuer;
pub mod losses;
pub mod metadata;
pub mod openapi;
pub mod route;
pub mod yaml;

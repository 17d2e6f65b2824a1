//! Reads files, documents, configurations and secrets.

pub mod configuration;
pub mod document;
pub mod file;
pub mod problem;
pub mod secret;
pub mod shared_issuer;
pub mod yaml;

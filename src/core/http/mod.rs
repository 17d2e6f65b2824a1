//! The parts of one request: path, host, headers and connection. Each can be read in one way only.

pub mod connection;
pub mod credential_location;
pub(crate) mod foreign_pattern;
pub mod header_name;
pub mod host;
pub mod method;
pub mod path;
pub mod path_template;
pub mod request;
pub mod spiffe;
pub(crate) mod uri;

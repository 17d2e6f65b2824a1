//! The parts of one request: path, host, headers and connection. Each can be read in one way only.

pub mod connection;
pub mod credential_location;
pub(crate) mod foreign_pattern;
pub(crate) mod header_name;
pub mod host;
pub(crate) mod method;
pub mod path;
pub(crate) mod path_template;
pub mod request;
pub(crate) mod segment_pattern;
pub mod spiffe;
pub mod trace_context;
pub(crate) mod uri;

//! The harness of the end-to-end tests: a real Envoy with the filter in it, a small upstream behind it, clients
//! in front of it, and tokens and signals made by a library that the filter does not use.
//!
//! ```text
//! client ──► Envoy, app listener (role filter) ──► upstream     what a request may do
//! client ──► Envoy, signals listener (role receiver)            what changes meanwhile
//! ```
//! A test asks [`sidecar::Sidecar`] for a running pair and speaks to it with [`client`]; [`orders`] is the sample
//! service that all of them use, [`grants`] has grants for tests of signals, [`refusal`] checks answers.

pub mod artefacts;
pub mod bootstrap;
pub mod capabilities;
pub mod client;
pub mod collector;
pub mod discovered;
pub mod envoy;
pub mod frames;
pub mod grants;
pub mod grpc;
pub mod hub;
pub mod in_process;
pub mod jwks;
pub mod mint;
pub mod oauth;
pub mod orders;
pub mod postgres;
pub mod process;
pub mod prometheus;
pub mod raw;
pub mod refusal;
pub mod registry;
pub mod release;
pub mod services;
pub mod sidecar;
pub mod socket;
pub mod ssf_receiver;
pub mod ssf_transmitter;
pub mod stand_in;
pub mod streaming;
pub mod tamper;
pub mod tls;
pub mod upstream;
pub mod uses_hub;
pub mod wire;

use std::fmt;

/// What went wrong in the harness, ready to be read by a person.
///
/// `Debug` prints the text as it is, so that an `unwrap` in a test shows the log of Envoy with its line breaks.
pub struct Error(String);

/// The result of everything in the harness.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// An error with this text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// For `map_err`: the cause, with what was being done in front of it.
    pub fn doing<E: fmt::Display>(what: impl fmt::Display) -> impl FnOnce(E) -> Self {
        move |cause| Self(format!("{what}: {cause}"))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

impl std::error::Error for Error {}

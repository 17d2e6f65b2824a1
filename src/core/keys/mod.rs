//! Fetched key sets: the current keys, who fetches them and when, and the requests that wait for them.

pub mod fetch;
pub(crate) mod gzip;
pub(crate) mod key_url;
pub mod keyring;
pub mod parked;
pub mod retrieval;

//! Fetched key sets: the current keys, who fetches them and when, and the requests that wait for them.

pub mod fetch;
pub mod keyring;
pub mod parked;

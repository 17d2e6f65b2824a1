//! Key sets that are fetched: which keys are current, who fetches when, and which requests wait.

pub mod fetch;
pub mod keyring;
pub mod parked;

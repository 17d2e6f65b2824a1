//! SSF as a client (SSF 1.0 §8): the hub makes streams at transmitters, keeps them, verifies them, and polls them.
//!
//! ```text
//! manager ─► lease ─► discovery ─► ensure ─┬─► upkeep: verifications, status, inactivity
//!                        ▲                 └─► polling ─► intake ─► acknowledged
//!                        └── the stream is gone, or differs ──┘
//! ```

pub mod client;
pub mod condition;
pub mod ensure;
pub mod manager;
mod pace;
mod polling;
pub mod record;
pub mod trial;
mod upkeep;

#[cfg(test)]
mod tests;

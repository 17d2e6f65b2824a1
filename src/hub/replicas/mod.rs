//! The replicas of a hub: processes over one store that are one hub together.
//!
//! Each says every second, in the store, that it lives, and with which configuration and keys. Only one with the accepted
//! configuration stores signals and signs statements; see [`standing`].

pub mod configuration;
pub mod member;
pub mod standing;
pub mod turn;

//! A relay: a hub that takes nothing in. It follows another hub, and hands on what that has signed, byte for byte.
//!
//! ```text
//! hub ◄── one request a second and feed ── relay ◄── proxies
//!   pages ─► verified ─► kept, also on disk ─► served as they are
//!   what proxies say ──────────────────────◄── reported upward in batches
//!   what proxies have counted ─────────────◄── handed on, one call for each
//! ```

pub mod disk;
pub mod feed;
pub mod follow;
pub mod kept;
pub mod line;
pub mod passed;
pub mod reporter;
pub mod routes;
pub mod server;
pub mod status;
pub mod upstream;
pub mod uses;

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects, clippy::as_conversions, reason = "small numbers of a test")]
mod tests;

//! Who may call the hub, and as what.

pub mod activity;
pub mod authenticate;
pub mod bearer;
pub mod certificate;
pub mod known_tokens;
pub mod note;
pub mod peer;
pub mod principal;
pub mod rate_limit;
pub mod sources;
pub mod tokens;

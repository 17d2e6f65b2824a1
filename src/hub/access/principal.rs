//! A caller that was authenticated.

use crate::config::role::Role;

/// A caller that was authenticated by its certificate or its bearer token. Handlers find it in the extensions of the
/// request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Principal {
    /// Its name: a SPIFFE id, or the name of its token.
    pub name: String,
    /// What it may do.
    pub role: Role,
    /// The feeds that it may use; empty: all.
    pub feeds: Vec<String>,
}

impl Principal {
    /// Whether it may use `feed` in one of `roles`.
    pub fn may(&self, roles: &[Role], feed: &str) -> bool {
        roles.contains(&self.role) && (self.feeds.is_empty() || self.feeds.iter().any(|own| own == feed))
    }
}

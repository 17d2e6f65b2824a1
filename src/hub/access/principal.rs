//! A caller that was authenticated.

/// What a principal may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Role {
    /// Reads feeds: a proxy.
    Sidecar,
    /// Pushes signals.
    Transmitter,
    /// Completes and revokes what it granted: an issuer of tokens.
    Issuer,
    /// Reads and changes everything: signals, stops, undo, tokens.
    Operator,
    /// Reads everything and changes nothing.
    Auditor,
}

impl Role {
    /// All roles.
    pub const ALL: [Role; 5] = [Role::Sidecar, Role::Transmitter, Role::Issuer, Role::Operator, Role::Auditor];

    /// The name in configurations, tokens and the audit log.
    pub fn as_str(self) -> &'static str {
        match self {
            Role::Sidecar => "sidecar",
            Role::Transmitter => "transmitter",
            Role::Issuer => "issuer",
            Role::Operator => "operator",
            Role::Auditor => "auditor",
        }
    }

    /// Parses the name.
    pub fn from_name(name: &str) -> Option<Role> {
        Role::ALL.into_iter().find(|role| role.as_str() == name)
    }
}

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

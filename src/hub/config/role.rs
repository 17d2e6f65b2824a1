//! What callers of the hub may do: the roles that configuration, tokens and certificates name.

/// What a caller may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, schemars::JsonSchema)]
#[schemars(rename_all = "lowercase")]
pub enum Role {
    /// Reads feeds: a proxy.
    Sidecar,
    /// Reads feeds, hands them on, and reports the proxies behind it.
    Relay,
    /// Pushes signals.
    Transmitter,
    /// Completes and revokes what it granted: an issuer of tokens.
    Issuer,
    /// Reads and changes everything: signals, stops, undo, tokens.
    Operator,
    /// Reads everything and changes nothing.
    Auditor,
    /// Has streams of its own (SSF 1.0 §8), and gets what they deliver.
    Receiver,
}

impl Role {
    /// All roles.
    pub const ALL: [Role; 7] =
        [Role::Sidecar, Role::Relay, Role::Transmitter, Role::Issuer, Role::Operator, Role::Auditor, Role::Receiver];

    /// The name in configurations, tokens and the audit log.
    pub fn as_str(self) -> &'static str {
        match self {
            Role::Sidecar => "sidecar",
            Role::Relay => "relay",
            Role::Transmitter => "transmitter",
            Role::Issuer => "issuer",
            Role::Operator => "operator",
            Role::Auditor => "auditor",
            Role::Receiver => "receiver",
        }
    }

    /// Parses the name.
    pub fn from_name(name: &str) -> Option<Role> {
        Role::ALL.into_iter().find(|role| role.as_str() == name)
    }
}

//! The claims of an issuer's tokens that carry the scope and the details of a grant.
//!
//! Issuers use different names for them, and some write the same information under two names. A signal that narrows a
//! grant narrows it under each of these names, whichever claim a rule reads.

/// The names of the claims.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Carriers {
    /// Claims with scope values: one string with spaces between the values, or a list of strings.
    pub scope: Vec<String>,
    /// Claims with objects of RFC 9396.
    pub details: Vec<String>,
}

impl Default for Carriers {
    /// `scope` (RFC 8693 §4.2), which some issuers call `scp`, and `authorization_details` (RFC 9396 §9.1).
    fn default() -> Carriers {
        Carriers {
            scope: vec!["scope".to_owned(), "scp".to_owned()],
            details: vec!["authorization_details".to_owned()],
        }
    }
}

impl Carriers {
    /// What the claim `name` carries; `None` if it carries neither.
    pub(crate) fn role(&self, name: &str) -> Option<Role> {
        let among = |names: &[String]| names.iter().any(|known| known == name);
        match (among(&self.scope), among(&self.details)) {
            (true, _) => Some(Role::Scope),
            (_, true) => Some(Role::Details),
            _ => None,
        }
    }
}

/// What a claim carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// Scope values.
    Scope,
    /// Objects of RFC 9396.
    Details,
}

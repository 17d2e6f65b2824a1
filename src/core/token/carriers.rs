//! The claims of an issuer's tokens that carry the scope and the details of a grant.
//!
//! Issuers use different names for them, and some write the same information under two names. A signal that narrows a
//! grant narrows it under each of these names, whichever claim a rule reads.

use crate::token::claim_names::ClaimNames;
use crate::token::claim_path::ClaimPath;

/// The names of the claims.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Carriers {
    /// Claims with scope values: one string with spaces between the values, or a list of strings.
    pub scope: Vec<ClaimPath>,
    /// Claims with objects of RFC 9396.
    pub details: Vec<ClaimPath>,
}

impl Default for Carriers {
    /// `scope` (RFC 8693 §4.2), which some issuers call `scp`, and `authorization_details` (RFC 9396 §9.1).
    fn default() -> Carriers {
        Carriers {
            scope: vec![ClaimPath::top("scope"), ClaimPath::top("scp")],
            details: vec![ClaimPath::top("authorization_details")],
        }
    }
}

impl Carriers {
    /// The default ones, and those that `names` names.
    pub(crate) fn new(names: &ClaimNames) -> Carriers {
        let mut carriers = Carriers::default();
        for (known, named) in [(&mut carriers.scope, &names.scope), (&mut carriers.details, &names.details)] {
            for path in named.paths() {
                if !known.contains(path) {
                    known.push(path.clone());
                }
            }
        }
        carriers
    }

    /// What the top-level claim `name` carries; `None` if it carries neither.
    pub(crate) fn role(&self, name: &str) -> Option<Role> {
        self.inside(name).find(|(path, _)| !path.is_nested()).map(|(_, role)| role)
    }

    /// What the top-level claim `name` carries, or contains: each path through it, and what it carries.
    pub(crate) fn inside<'c>(&'c self, name: &'c str) -> impl Iterator<Item = (&'c ClaimPath, Role)> {
        let scope = self.scope.iter().map(|path| (path, Role::Scope));
        let details = self.details.iter().map(|path| (path, Role::Details));
        scope.chain(details).filter(move |(path, _)| path.root() == name)
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

//! What a transmitter may say, and what that does.

use crate::signal::effect::Effects;
use crate::signal::event::Type;

/// What one transmitter may say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Permissions {
    /// Types of events that it may send beside those about its stream; `None`: all.
    pub events: Option<Vec<Type>>,
    /// URIs of its own, and the types that they stand for.
    pub uris: Vec<(String, Type)>,
    /// Members of complex subjects that it has published as critical.
    pub critical: Vec<String>,
    /// Claims that its token-claims-change may set; `None`: all that any may.
    pub claims: Option<Vec<String>>,
    /// What the `state` of its verification events must be, where they have one.
    pub verification_state: Option<String>,
    /// Whether it is known to write subjects as drafts had them, so that they are not odd.
    pub legacy_subject: bool,
    /// Whether its silence makes the state stale.
    pub heartbeat: bool,
    /// What its events do.
    pub effects: Effects,
}

impl Default for Permissions {
    fn default() -> Permissions {
        Permissions {
            events: None,
            uris: Vec::new(),
            critical: Vec::new(),
            claims: None,
            verification_state: None,
            legacy_subject: false,
            heartbeat: true,
            effects: Effects::default(),
        }
    }
}

impl Permissions {
    /// The type of the event `uri`, where it is one that is understood.
    pub fn type_of(&self, uri: &str) -> Option<Type> {
        let own = self.uris.iter().find(|(known, _)| known == uri);
        own.map(|(_, kind)| *kind).or_else(|| Type::from_uri(uri))
    }

    /// Whether it may send events of that type. About its own stream everybody may.
    pub fn may_send(&self, kind: Type) -> bool {
        kind.is_of_the_stream() || self.events.as_ref().is_none_or(|events| events.contains(&kind))
    }
}

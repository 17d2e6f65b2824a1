//! What a transmitter is allowed to send, and the effects of its events.

use crate::signal::effect::Effects;
use crate::signal::event::Type;

/// What one transmitter is allowed to send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Permissions {
    /// Types of events that it may send in addition to those about its stream; `None`: all.
    pub events: Option<Vec<Type>>,
    /// URIs of its own event types, and the type that each stands for.
    pub uris: Vec<(String, Type)>,
    /// Members of complex subjects that it declares critical (`critical_subject_members`, SSF 1.0 §7.1).
    pub critical: Vec<String>,
    /// Claims that its token-claims-change may set; `None`: all that may be changed at all.
    pub claims: Option<Vec<String>>,
    /// The `state` that its verification events must have, if they have one.
    pub verification_state: Option<String>,
    /// Whether it writes subjects as drafts did; then this is not recorded as an oddity.
    pub legacy_subject: bool,
    /// Whether it is known to write members without effect in its own way; then this is not recorded as an oddity.
    pub tolerant: bool,
    /// Issuers that its subjects name, and the token issuer that each stands for.
    pub subject_issuers: Vec<(String, String)>,
    /// Whether the state becomes stale when it sends nothing.
    pub heartbeat: bool,
    /// The effects of its events.
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
            tolerant: false,
            subject_issuers: Vec::new(),
            heartbeat: true,
            effects: Effects::default(),
        }
    }
}

impl Permissions {
    /// The type of the event `uri`, if it is supported.
    pub(crate) fn type_of(&self, uri: &str) -> Option<Type> {
        let own = self.uris.iter().find(|(known, _)| known == uri);
        own.map(|(_, kind)| *kind).or_else(|| Type::from_uri(uri))
    }

    /// Whether it may send events of that type. Every transmitter may send events about its own stream.
    pub(crate) fn may_send(&self, kind: Type) -> bool {
        kind.is_of_the_stream() || self.events.as_ref().is_none_or(|events| events.contains(&kind))
    }
}

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

    /// The URIs of the events that it may send and that have an effect here, without those about its stream: what to
    /// ask a transmitter for. Its own URIs come last.
    pub fn effective_uris(&self) -> Vec<String> {
        let is_wanted = |kind: Type| !kind.is_of_the_stream() && self.may_send(kind) && self.effects.is_effective(kind);
        let standard = Type::ALL.into_iter().filter(|kind| is_wanted(*kind)).map(Type::uri);
        let own = self.uris.iter().filter(|(_, kind)| is_wanted(*kind)).map(|(uri, _)| uri.clone());
        standard.chain(own).collect()
    }

    /// What the event `uri` of this transmitter is called in the configuration, and whether it has an effect here.
    /// `None`: it is not one that is known, or not one that this transmitter may send.
    pub fn effect_of(&self, uri: &str) -> Option<(&'static str, bool)> {
        let kind = self.type_of(uri).filter(|kind| self.may_send(*kind))?;
        Some((kind.name(), kind.is_of_the_stream() || self.effects.is_effective(kind)))
    }

    /// Whether it may send events of that type. Every transmitter may send events about its own stream.
    pub(crate) fn may_send(&self, kind: Type) -> bool {
        kind.is_of_the_stream() || self.events.as_ref().is_none_or(|events| events.contains(&kind))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signal::effect::Effect;

    #[test]
    fn what_to_ask_for_is_what_has_an_effect() {
        let all = Permissions::default().effective_uris();
        let has = |all: &[String], name: &str| all.iter().any(|uri| uri.ends_with(&format!("/{name}")));
        assert!(has(&all, "session-revoked") && has(&all, "account-disabled"), "{all:?}");
        for without in ["verification", "stream-updated", "session-presented", "account-enabled"] {
            assert!(!has(&all, without), "{without}");
        }
        let own = "urn:idp:locked".to_owned();
        let effects = Effects { account_disabled: Effect::Ignore, ..Effects::default() };
        let some = Permissions {
            events: Some(vec![Type::SessionRevoked, Type::AccountDisabled, Type::AccountPurged]),
            uris: vec![(own.clone(), Type::AccountPurged), ("urn:idp:off".to_owned(), Type::AccountDisabled)],
            effects,
            ..Permissions::default()
        };
        assert_eq!(some.effective_uris(), [Type::SessionRevoked.uri(), Type::AccountPurged.uri(), own.clone()]);
        assert_eq!(some.effect_of(&own), Some(("account-purged", true)));
        assert_eq!(some.effect_of("urn:idp:off"), Some(("account-disabled", false)));
        assert_eq!(some.effect_of(&Type::TaskCompleted.uri()), None);
    }
}

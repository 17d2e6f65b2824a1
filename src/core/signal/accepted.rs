//! An authenticated signal, and the notes about it for the operator.

use crate::signal::oddity::Oddities;
use crate::state::bucket::Entry;
use crate::state::freshness::Heartbeat;
use crate::state::seen_sets::Fingerprint;

/// A signal whose signature, type, issuer and audience were verified. [`crate::signal::set::read`]
/// makes one; [`crate::signal::operator`] makes those of operators, who were authenticated in another way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signal {
    pub(crate) origin: Origin,
    pub(crate) heartbeat: Heartbeat,
    pub(crate) fingerprint: Fingerprint,
    pub(crate) entries: Vec<Entry>,
    pub(crate) notes: Notes,
    pub(crate) dated_ahead: bool,
}

/// The names that identify an authenticated signal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// The transmitter: `iss`.
    pub transmitter: String,
    /// The id of the SET: `jti`.
    pub id: String,
    /// The URI of the event.
    pub event: String,
}

/// Notes for the operator about a signal that was accepted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Notes {
    /// Members of the subject that were ignored: the signal affects more grants than the transmitter may have intended.
    pub unmatched: Vec<String>,
    /// The event would change something, but no grant can match its subject.
    pub unknown_subject: bool,
    /// The time of the event is in the future; it was treated as now.
    pub future: bool,
    /// What is irregular about it.
    pub oddities: Oddities,
}

impl Notes {
    /// Whether it may affect more than the transmitter intended: log it as a warning.
    pub fn is_alarming(&self) -> bool {
        !self.unmatched.is_empty() || self.future
    }

    /// Whether there is anything to log for an operator.
    pub fn is_notable(&self) -> bool {
        self.is_alarming() || self.unknown_subject || !self.oddities.is_empty()
    }
}

impl Signal {
    /// The transmitter: `iss`.
    pub fn transmitter(&self) -> &str {
        &self.origin.transmitter
    }

    /// The id of the SET: `jti`.
    pub fn id(&self) -> &str {
        &self.origin.id
    }

    /// The URI of the event.
    pub fn event(&self) -> &str {
        &self.origin.event
    }

    /// The entries that it adds to the state. Empty when the event has no effect here.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The heartbeat that it is for its transmitter.
    pub fn heartbeat(&self) -> &Heartbeat {
        &self.heartbeat
    }

    /// The fingerprint, by which another SET with the same `jti` and other contents is recognized.
    pub fn fingerprint(&self) -> &Fingerprint {
        &self.fingerprint
    }

    /// The notes for the operator.
    pub fn notes(&self) -> &Notes {
        &self.notes
    }

    /// Whether its entries have the time of reading, because the SET is dated in the future. The same SET read later
    /// has entries with a later time.
    pub(crate) fn is_dated_ahead(&self) -> bool {
        self.dated_ahead
    }
}

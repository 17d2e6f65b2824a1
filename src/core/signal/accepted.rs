//! A signal that is authentic, and what an operator should hear of it.

use crate::signal::oddity::Oddities;
use crate::state::bucket::Entry;
use crate::state::freshness::Heartbeat;
use crate::state::seen_sets::Fingerprint;

/// A signal whose signature, type, issuer and audience were checked. Only [`read`] makes one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signal {
    pub(crate) origin: Origin,
    pub(crate) heartbeat: Heartbeat,
    pub(crate) fingerprint: Fingerprint,
    pub(crate) entries: Vec<Entry>,
    pub(crate) notes: Notes,
    pub(crate) dated_ahead: bool,
}

/// What an authentic signal is called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// `iss`.
    pub transmitter: String,
    /// `jti`.
    pub id: String,
    /// The URI of the event.
    pub event: String,
}

/// What an operator should hear of in a signal that was good otherwise.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Notes {
    /// Members of its subject that were left out of account: it hits more than it may have meant to.
    pub unmatched: Vec<String>,
    /// It would change something, and its subject names nothing that grants are known by.
    pub nobody: bool,
    /// Its event is said to lie in the future, and counts as now.
    pub future: bool,
    /// What is odd about it.
    pub oddities: Oddities,
}

impl Notes {
    /// Whether it hits more than it may have meant to.
    pub fn is_alarming(&self) -> bool {
        !self.unmatched.is_empty() || self.future
    }

    /// Whether somebody should look at it.
    pub fn is_notable(&self) -> bool {
        self.is_alarming() || self.nobody || !self.oddities.is_empty()
    }
}

impl Signal {
    /// `iss`.
    pub fn transmitter(&self) -> &str {
        &self.origin.transmitter
    }

    /// `jti`.
    pub fn id(&self) -> &str {
        &self.origin.id
    }

    /// The URI of the event.
    pub fn event(&self) -> &str {
        &self.origin.event
    }

    /// What it leaves behind in the state. Nothing, when the event is not one that we act on.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The sign of life that it is.
    pub fn heartbeat(&self) -> &Heartbeat {
        &self.heartbeat
    }

    /// By which another of its name that says something else is known.
    pub fn fingerprint(&self) -> &Fingerprint {
        &self.fingerprint
    }

    /// What an operator should hear of.
    pub fn notes(&self) -> &Notes {
        &self.notes
    }

    /// Whether its entries are dated by when it was read, since it is dated ahead of our clock. The same SET read later
    /// has later entries.
    pub fn is_dated_ahead(&self) -> bool {
        self.dated_ahead
    }
}

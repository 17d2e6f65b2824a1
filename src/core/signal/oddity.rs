//! Irregularities of an authenticated signal: members of the wrong shape, missing members, old spellings.
//!
//! A *fault* refuses a signal that permits something. A signal that revokes or narrows is applied in spite of faults,
//! as long as it can be understood. A *note* is about something that has only one possible meaning, such as a time in
//! milliseconds; it refuses nothing.

/// A signal records this many oddities. A SET of 64 KiB has room for thousands.
const MOST: usize = 16;

/// Each oddity has at most this many characters, because some repeat text of the SET.
const LONGEST: usize = 200;

/// The oddities of one signal.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Oddities {
    all: Vec<String>,
    first_fault: Option<String>,
    tolerant: bool,
}

impl Oddities {
    /// Of a signal whose transmitter is known to write members without effect in its own way, if `tolerant`.
    pub(crate) fn of(tolerant: bool) -> Oddities {
        Oddities { tolerant, ..Oddities::default() }
    }

    /// Records an irregularity that refuses a signal which permits something.
    pub(crate) fn fault(&mut self, text: impl Into<String>) {
        let text = shortened(text.into());
        self.first_fault.get_or_insert_with(|| text.clone());
        self.note(text);
    }

    /// Records an irregularity that has no effect, or only one possible meaning: nothing, if the transmitter is known for
    /// it; else a fault.
    pub(crate) fn harmless(&mut self, text: impl Into<String>) {
        if !self.tolerant {
            self.fault(text);
        }
    }

    /// Records an irregularity for the operator's log only.
    pub(crate) fn note(&mut self, text: impl Into<String>) {
        let text = shortened(text.into());
        if self.all.len() < MOST && !self.all.contains(&text) {
            self.all.push(text);
        }
    }

    /// The first fault.
    pub(crate) fn first_fault(&self) -> Option<&str> {
        self.first_fault.as_deref()
    }

    /// All of them, in the order in which they were recorded.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.all.iter().map(String::as_str)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }
}

fn shortened(text: String) -> String {
    if text.len() <= LONGEST { text } else { text.chars().take(LONGEST).collect() }
}

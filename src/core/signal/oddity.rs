//! What is odd about an authentic signal: members of the wrong shape, members that are missing, old spellings.
//!
//! Doubt on the revoking side revokes: a signal that ends or narrows is applied whatever is odd about it, as long as it
//! can be understood. A signal that permits is refused for the first doubt. A remark is about something that has only one
//! possible meaning, such as a time in milliseconds; it keeps nothing from being applied.

/// A signal tells of this many oddities. A SET of 64 KiB has room for thousands.
const MOST: usize = 16;

/// And of each in so many characters, since some repeat what the SET says.
const LONGEST: usize = 200;

/// What is odd about one signal.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Oddities {
    all: Vec<String>,
    doubt: Option<String>,
}

impl Oddities {
    /// Something that keeps a signal that permits from being applied.
    pub fn doubt(&mut self, text: impl Into<String>) {
        let text = shortened(text.into());
        self.doubt.get_or_insert_with(|| text.clone());
        self.remark(text);
    }

    /// Something that an operator should know of.
    pub fn remark(&mut self, text: impl Into<String>) {
        let text = shortened(text.into());
        if self.all.len() < MOST && !self.all.contains(&text) {
            self.all.push(text);
        }
    }

    /// The first doubt.
    pub fn first_doubt(&self) -> Option<&str> {
        self.doubt.as_deref()
    }

    /// All of them, in the order in which they were met.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.all.iter().map(String::as_str)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }
}

fn shortened(text: String) -> String {
    if text.len() <= LONGEST { text } else { text.chars().take(LONGEST).collect() }
}

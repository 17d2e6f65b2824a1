//! What a signal leaves behind: endings for good, and facts that the latest word decides.

use serde::Deserialize;

/// What is known about a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fact {
    /// Revoked for good.
    Revoked,
    /// The task is done, for good.
    Completed,
    /// Sessions that began at or before the time are refused.
    CutOff,
    /// How the device stands (CAEP device-compliance-change).
    Device(Compliance),
    /// How risky the principal is (CAEP risk-level-change).
    Risk(Risk),
    /// The grant is no more than this: see [`crate::rules::grant_changes`].
    Narrowed,
    /// A claim has another value than the token says: see [`crate::rules::grant_changes`].
    Claim(Claim),
    /// The assurance is another than the token says: see [`crate::rules::grant_changes`].
    Assurance(Claim),
    /// The session began at that time (CAEP session-established).
    Began,
}

/// What was said about something that has no order of strictness.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Claim {
    /// One thing.
    Set,
    /// Two different things for the same second: nobody knows which holds.
    Conflicting,
}

/// The compliance of a device (CAEP 1.0).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Compliance {
    /// `compliant`
    Compliant,
    /// `not-compliant`
    NotCompliant,
}

/// The risk of a principal (CAEP 1.0), the lowest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "UPPERCASE")]
pub enum Risk {
    /// `LOW`
    Low,
    /// `MEDIUM`
    Medium,
    /// `HIGH`
    High,
}

impl Compliance {
    /// CAEP's word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Compliance::Compliant => "compliant",
            Compliance::NotCompliant => "not-compliant",
        }
    }

    /// The compliance of that word.
    pub fn from_word(word: &str) -> Option<Compliance> {
        [Compliance::Compliant, Compliance::NotCompliant].into_iter().find(|status| status.as_str() == word)
    }
}

impl Risk {
    /// CAEP's word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Risk::Low => "LOW",
            Risk::Medium => "MEDIUM",
            Risk::High => "HIGH",
        }
    }

    /// The risk of that word.
    pub fn from_word(word: &str) -> Option<Risk> {
        [Risk::Low, Risk::Medium, Risk::High].into_iter().find(|risk| risk.as_str() == word)
    }
}

impl Fact {
    /// Facts of one family replace each other; facts of two stand side by side.
    pub fn same_family(self, other: Fact) -> bool {
        self.encode().0 == other.encode().0
    }

    /// Whether it ends or restricts, so that doubt about whom it hits counts as a hit.
    pub fn restricts(self) -> bool {
        !matches!(self, Fact::Device(Compliance::Compliant) | Fact::Risk(Risk::Low) | Fact::Began)
    }

    /// What is left of two facts of one family, known at `self_at` and `other_at`: for good stays for good; else the
    /// later word counts, and of two at one time the stricter. A session began when it was first heard to have begun.
    pub fn outweighs(self, self_at: u64, other: Fact, other_at: u64) -> bool {
        match self {
            Fact::Began => self_at < other_at,
            _ => (self_at, self.encode().1) > (other_at, other.encode().1),
        }
    }

    /// What becomes of it when something else is said for the same time, where neither is the stricter.
    pub fn disputed(self) -> Option<Fact> {
        match self {
            Fact::Claim(_) => Some(Fact::Claim(Claim::Conflicting)),
            Fact::Assurance(_) => Some(Fact::Assurance(Claim::Conflicting)),
            _ => None,
        }
    }

    /// Whether an entry of it carries data beside.
    pub fn has_data(self) -> bool {
        matches!(self, Fact::Narrowed | Fact::Claim(_) | Fact::Assurance(_))
    }

    /// Whether it is about tokens of sessions as they were, so that under the key of a principal it is not about
    /// sessions that begin later. What is about the principal itself goes on.
    pub fn is_of_its_time(self) -> bool {
        matches!(self, Fact::CutOff | Fact::Narrowed | Fact::Claim(_) | Fact::Assurance(_))
    }

    /// The stored form: family and value. A stricter value is a higher number.
    pub fn encode(self) -> (u8, u8) {
        match self {
            Fact::Revoked => (1, 0),
            Fact::Completed => (2, 0),
            Fact::CutOff => (3, 0),
            Fact::Device(Compliance::Compliant) => (4, 0),
            Fact::Device(Compliance::NotCompliant) => (4, 1),
            Fact::Risk(Risk::Low) => (5, 0),
            Fact::Risk(Risk::Medium) => (5, 1),
            Fact::Risk(Risk::High) => (5, 2),
            Fact::Narrowed => (6, 0),
            Fact::Claim(Claim::Set) => (7, 0),
            Fact::Claim(Claim::Conflicting) => (7, 1),
            Fact::Assurance(Claim::Set) => (8, 0),
            Fact::Assurance(Claim::Conflicting) => (8, 1),
            Fact::Began => (9, 0),
        }
    }

    /// Reads the stored form.
    pub fn decode(family: u8, value: u8) -> Option<Fact> {
        const ALL: [Fact; 14] = [
            Fact::Revoked,
            Fact::Completed,
            Fact::CutOff,
            Fact::Device(Compliance::Compliant),
            Fact::Device(Compliance::NotCompliant),
            Fact::Risk(Risk::Low),
            Fact::Risk(Risk::Medium),
            Fact::Risk(Risk::High),
            Fact::Narrowed,
            Fact::Claim(Claim::Set),
            Fact::Claim(Claim::Conflicting),
            Fact::Assurance(Claim::Set),
            Fact::Assurance(Claim::Conflicting),
            Fact::Began,
        ];
        ALL.into_iter().find(|fact| fact.encode() == (family, value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_caeps() {
        assert_eq!(Compliance::from_word("not-compliant"), Some(Compliance::NotCompliant));
        assert_eq!(Risk::from_word("HIGH"), Some(Risk::High));
        assert_eq!(Risk::from_word("high"), None);
    }

    #[test]
    fn the_later_word_counts_and_of_two_at_once_the_stricter() {
        let (good, bad) = (Fact::Device(Compliance::Compliant), Fact::Device(Compliance::NotCompliant));
        assert!(good.outweighs(2, bad, 1));
        assert!(!good.outweighs(1, bad, 2));
        assert!(bad.outweighs(1, good, 1));
        assert!(!good.outweighs(1, bad, 1));
        assert!(good.same_family(bad) && !good.same_family(Fact::Revoked));
    }
}

//! The facts that an entry of the state holds: permanent ones (revoked, completed), and ones that a later event
//! replaces.

use serde::Deserialize;

/// What is known about a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fact {
    /// Revoked permanently.
    Revoked,
    /// The task is completed, permanently.
    Completed,
    /// Sessions that began at or before the time of the entry are refused.
    CutOff,
    /// The compliance status of the device (CAEP device-compliance-change).
    Device(Compliance),
    /// The risk level of the principal (CAEP risk-level-change).
    Risk(Risk),
    /// The grant is limited to this: see [`crate::rules::grant_changes`].
    Narrowed,
    /// A claim has a value that differs from the token: see [`crate::rules::grant_changes`].
    Claim(Claim),
    /// The assurance level differs from the token: see [`crate::rules::grant_changes`].
    Assurance(Claim),
    /// The session began at the time of the entry (CAEP session-established).
    Began,
    /// Refused until an operator lifts it, whatever began when.
    Blocked,
}

/// Whether the value of a claim or an assurance is known. Neither of two values is stricter, so they cannot be ordered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Claim {
    /// One value.
    Set,
    /// Two different values for the same second: it is not known which one is right.
    Conflicting,
}

/// The compliance status of a device (CAEP 1.0).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Compliance {
    /// `compliant`
    Compliant,
    /// `not-compliant`
    NotCompliant,
}

/// The risk level of a principal (CAEP 1.0), in ascending order.
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
    /// The value as CAEP writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Compliance::Compliant => "compliant",
            Compliance::NotCompliant => "not-compliant",
        }
    }

    /// Parses the value as CAEP writes it.
    pub fn from_name(word: &str) -> Option<Compliance> {
        [Compliance::Compliant, Compliance::NotCompliant].into_iter().find(|status| status.as_str() == word)
    }
}

impl Risk {
    /// The value as CAEP writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Risk::Low => "LOW",
            Risk::Medium => "MEDIUM",
            Risk::High => "HIGH",
        }
    }

    /// Parses the value as CAEP writes it.
    pub fn from_name(word: &str) -> Option<Risk> {
        [Risk::Low, Risk::Medium, Risk::High].into_iter().find(|risk| risk.as_str() == word)
    }
}

impl Fact {
    /// Whether the two facts are of one family. Facts of one family replace each other; facts of different families are
    /// kept side by side.
    pub fn same_family(self, other: Fact) -> bool {
        self.encode().0 == other.encode().0
    }

    /// Whether it revokes or restricts. Such a fact also applies where it is uncertain whether a grant is meant.
    pub fn restricts(self) -> bool {
        !matches!(self, Fact::Device(Compliance::Compliant) | Fact::Risk(Risk::Low) | Fact::Began)
    }

    /// Whether this fact, known at `self_at`, replaces `other` of the same family, known at `other_at`: the later one
    /// wins, and of two at the same second the stricter. For the beginning of a session the earliest time wins.
    pub fn replaces(self, self_at: u64, other: Fact, other_at: u64) -> bool {
        match self {
            Fact::Began => self_at < other_at,
            _ => (self_at, self.encode().1) > (other_at, other.encode().1),
        }
    }

    /// What it becomes when a different value comes for the same second and neither is stricter; `None` where one is
    /// always stricter.
    pub fn conflicting(self) -> Option<Fact> {
        match self {
            Fact::Claim(_) => Some(Fact::Claim(Claim::Conflicting)),
            Fact::Assurance(_) => Some(Fact::Assurance(Claim::Conflicting)),
            _ => None,
        }
    }

    /// Whether a signal can be lifted, and entries of different streams are kept apart for that: what ends, blocks or
    /// narrows. Of every other fact the last word counts, whichever signal said it, and another word takes it back.
    pub fn is_kept_by_signal(self) -> bool {
        matches!(self, Fact::Revoked | Fact::Completed | Fact::CutOff | Fact::Blocked | Fact::Narrowed)
    }

    /// Whether an entry with this fact has data.
    pub fn has_data(self) -> bool {
        matches!(self, Fact::Narrowed | Fact::Claim(_) | Fact::Assurance(_))
    }

    /// Whether it applies only to sessions that began before it, when its key is a principal. Facts about the principal
    /// itself (device, risk) apply to later sessions too.
    pub fn only_for_earlier_sessions(self) -> bool {
        matches!(self, Fact::CutOff | Fact::Narrowed | Fact::Claim(_) | Fact::Assurance(_))
    }

    /// The stored form: family and value. A stricter value has a higher number.
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
            Fact::Blocked => (10, 0),
        }
    }

    /// Reads the stored form.
    pub fn decode(family: u8, value: u8) -> Option<Fact> {
        Fact::ALL.into_iter().find(|fact| fact.encode() == (family, value))
    }

    /// Reads the form in a page, which a newer version may have written: the strictest known fact of the family for a
    /// value that is not known. `None` for a family that is not known.
    pub fn decode_or_stricter(family: u8, value: u8) -> Option<Fact> {
        let of_family = || Fact::ALL.into_iter().filter(|fact| fact.encode().0 == family);
        Fact::decode(family, value).or_else(|| of_family().max_by_key(|fact| fact.encode().1))
    }

    const ALL: [Fact; 15] = [
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
        Fact::Blocked,
    ];
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_caeps() {
        assert_eq!(Compliance::from_name("not-compliant"), Some(Compliance::NotCompliant));
        assert_eq!(Risk::from_name("HIGH"), Some(Risk::High));
        assert_eq!(Risk::from_name("high"), None);
    }

    #[test]
    fn the_later_word_counts_and_of_two_at_once_the_stricter() {
        let (good, bad) = (Fact::Device(Compliance::Compliant), Fact::Device(Compliance::NotCompliant));
        assert!(good.replaces(2, bad, 1));
        assert!(!good.replaces(1, bad, 2));
        assert!(bad.replaces(1, good, 1));
        assert!(!good.replaces(1, bad, 1));
        assert!(good.same_family(bad) && !good.same_family(Fact::Revoked));
    }
}

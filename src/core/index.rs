//! Positions in the lists of a policy, one type for each list, so that an index into one list cannot be used with
//! another. An index is valid only for the policy that it was made for.

use std::fmt;

macro_rules! index {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(usize);

        impl $name {
            /// The index of the item at `position`, counted from 0.
            pub const fn new(position: usize) -> $name {
                $name(position)
            }

            /// Each item of `list` with its index.
            pub fn enumerate<T>(list: &[T]) -> impl Iterator<Item = ($name, &T)> {
                list.iter().enumerate().map(|(position, item)| ($name(position), item))
            }

            /// The item of `list` at this index; `None` if the list is shorter.
            pub fn of<T>(self, list: &[T]) -> Option<&T> {
                list.get(self.0)
            }

            /// The position, counted from 0, as it is written in `rules[0]` or `issuers[0]`.
            pub const fn position(self) -> usize {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

index! {
    /// Which token issuer: its position in `issuers` of the configuration, counted from 0.
    IssuerIndex
}

index! {
    /// Which rule: its position in `rules` of the configuration, counted from 0. The rule with the lower index is tried
    /// first.
    RuleIndex
}

index! {
    /// Which protected resource: its position in `protected_resources` of the configuration, counted from 0.
    ResourceIndex
}

index! {
    /// Which stream of signals: its position in `signals.transmitters` of the configuration, counted from 0.
    TransmitterIndex
}

impl RuleIndex {
    /// Greater than the index of any rule.
    pub(crate) const AFTER_ALL: RuleIndex = RuleIndex(usize::MAX);
}

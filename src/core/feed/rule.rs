//! The rules that a follower keeps. Tests switch one off at a time, to see that the model of the feed notices.

/// A rule that a follower keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rule {
    /// A page of changes begins and ends with the own chain where it has the own number.
    Chain,
    /// `at` never goes back.
    AtGoesOn,
    /// `at` is at most 60 s ahead of the own clock.
    AtIsNotAhead,
    /// Only a statement with the own nonce says what must be applied to be caught up.
    Nonce,
    /// What must be applied to be caught up is applied.
    Target,
    /// A page that begins after the position is a gap.
    Gap,
    /// Only what was applied is acknowledged.
    Acknowledge,
    /// A state is as old as the last statement whose head was applied.
    Head,
    /// The position moves after the entries.
    EntriesFirst,
    /// The parts of a full state come in order, and are of one revision.
    Parts,
    /// A full state begins with the position at the start.
    Restart,
}

/// Whether the rule is kept: always, outside of tests.
#[cfg(not(test))]
pub(crate) const fn keeps(_: Rule) -> bool {
    true
}

/// Whether the rule is kept.
#[cfg(test)]
pub(crate) fn keeps(rule: Rule) -> bool {
    tests::OFF.get() != Some(rule)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::Rule;
    use std::cell::Cell;

    thread_local! {
        pub(crate) static OFF: Cell<Option<Rule>> = const { Cell::new(None) };
    }

    impl Rule {
        pub(crate) const ALL: [Rule; 11] = [
            Rule::Chain,
            Rule::AtGoesOn,
            Rule::AtIsNotAhead,
            Rule::Nonce,
            Rule::Target,
            Rule::Gap,
            Rule::Acknowledge,
            Rule::Head,
            Rule::EntriesFirst,
            Rule::Parts,
            Rule::Restart,
        ];
    }

    /// Runs `action` with `rule` switched off.
    pub(crate) fn without<T>(rule: Rule, action: impl FnOnce() -> T) -> T {
        OFF.set(Some(rule));
        let result = action();
        OFF.set(None);
        result
    }
}

//! The rules of generations. Tests switch one off at a time, to see that their model notices.

/// A rule that the store keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rule {
    /// A row says all that stands in its place.
    Union,
    /// An undo begins a higher generation.
    Next,
    /// An undo says what still stands.
    Standing,
    /// The last row of a place outlives those before it.
    Outlive,
    /// A generation is at least the time.
    Time,
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
        pub(crate) const ALL: [Rule; 5] = [Rule::Union, Rule::Next, Rule::Standing, Rule::Outlive, Rule::Time];
    }

    /// Runs `action` with `rule` switched off.
    pub(crate) fn without<T>(rule: Rule, action: impl FnOnce() -> T) -> T {
        OFF.set(Some(rule));
        let result = action();
        OFF.set(None);
        result
    }
}

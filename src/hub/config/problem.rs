//! Problems of a configuration. They are those of a filter's configuration: a path, what is wrong, and the remedy.

pub use taskfence_core::config::problem::{Errors as Problems, Problem};
use taskfence_core::encoding::nearest::nearest;

/// What a configuration is found to have, while it is compiled.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// What makes it unusable.
    pub(super) errors: Vec<Problem>,
    /// What is allowed but unsafe.
    pub(super) warnings: Vec<Problem>,
}

impl Found {
    /// Adds an error with its remedy.
    pub(super) fn error(&mut self, path: impl Into<String>, message: impl Into<String>, help: impl Into<String>) {
        self.errors.push(Problem::at(path, message).help(help));
    }
}

/// The remedy for a name that is not one of `known`: the nearest one, or all.
pub(crate) fn known<'k>(typed: &str, known: impl IntoIterator<Item = &'k str> + Clone) -> Option<String> {
    if let Some(near) = nearest(typed, known.clone()) {
        return Some(format!("did you mean `{near}`?"));
    }
    let all: Vec<&str> = known.into_iter().collect();
    (!all.is_empty()).then(|| format!("known: `{}`", all.join("`, `")))
}

//! Checks of strings that are compared literally, where the author may have meant a wildcard or a path.

use crate::config::problem::Problem;
use crate::config::problem::Problems;

/// What to report for a string that is only a wildcard, such as `*`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LoneWildcard {
    /// An error: no real value looks like this.
    Error,
    /// A warning: an issuer could use such a value.
    Warning,
}

/// Reports a `*` in `text`, which is compared literally. `help` says what to write to match any value.
pub(crate) fn check_wildcard(
    text: &str,
    lone: LoneWildcard,
    path: impl Into<String>,
    help: &str,
    problems: &mut Problems,
) {
    let is_wildcard_only = is_wildcard(text);
    if !is_wildcard_only && !text.contains('*') {
        return;
    }
    let message = format!("`{}` is compared literally: `*` is not a wildcard here", text.escape_debug());
    let problem = Problem::at(path, message).help(help);
    match is_wildcard_only && lone == LoneWildcard::Error {
        true => problems.errors.push(problem),
        false => problems.warnings.push(problem),
    }
}

/// [`check_wildcard`] for each string of a list at `path`.
pub(crate) fn check_wildcards(texts: &[String], lone: LoneWildcard, path: &str, help: &str, problems: &mut Problems) {
    for (at, text) in texts.iter().enumerate() {
        check_wildcard(text, lone, format!("{path}[{at}]"), help, problems);
    }
}

/// Whether `text` is a pattern that matches any value in other systems.
pub(crate) fn is_wildcard(text: &str) -> bool {
    matches!(text, "*" | "**" | ".*" | ".+")
}

/// Warns about a claim name that looks like a path: only top-level claims can be named.
pub(crate) fn check_claim_name(name: &str, path: impl Into<String>, help: &str, problems: &mut Problems) {
    let is_uri = name.contains("://") || name.starts_with("urn:");
    let is_path = name.contains(['.', '[']) || name.starts_with(['/', '$']);
    if is_path && !is_uri {
        let message = format!(
            "`{}` is read as the name of one top-level claim, not as a path to a nested claim",
            name.escape_debug()
        );
        problems.warnings.push(Problem::at(path, message).help(help));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wildcards() {
        for (text, lone, errors, warnings) in [
            ("*", LoneWildcard::Error, 1, 0),
            (".*", LoneWildcard::Error, 1, 0),
            ("*", LoneWildcard::Warning, 0, 1),
            ("orders/*", LoneWildcard::Error, 0, 1),
            ("orders.read", LoneWildcard::Error, 0, 0),
        ] {
            let mut problems = Problems::default();
            check_wildcard(text, lone, "here", "help", &mut problems);
            assert_eq!((problems.errors.len(), problems.warnings.len()), (errors, warnings), "{text}");
        }
    }

    #[test]
    fn names_of_claims() {
        for (name, warned) in [
            ("sid", false),
            ("https://example.com/roles", false),
            ("urn:example:a.b", false),
            ("cognito:groups", false),
            ("realm_access.roles", true),
            ("/realm_access/roles", true),
            ("$.roles", true),
            ("roles[0]", true),
        ] {
            let mut problems = Problems::default();
            check_claim_name(name, "here", "help", &mut problems);
            assert_eq!(!problems.warnings.is_empty(), warned, "{name}");
        }
    }
}

//! Strings of a configuration that are compared letter by letter, where somebody may have meant a wildcard or a path.

use crate::config::problem::Problem;
use crate::config::problem::Problems;

/// Whether a string that is nothing but a wildcard can be meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LoneWildcard {
    /// It is an error: nobody has such a value.
    Error,
    /// It is worth a warning: an issuer may have such a value.
    Warning,
}

/// Looks at a string that is compared letter by letter for a `*`. `help` says what to write where any value is meant.
pub fn check_wildcard(text: &str, alone: LoneWildcard, path: impl Into<String>, help: &str, problems: &mut Problems) {
    let is_alone = is_wildcard(text);
    if !is_alone && !text.contains('*') {
        return;
    }
    let message = format!("`{}` is compared literally: `*` is not a wildcard here", text.escape_debug());
    let problem = Problem::at(path, message).help(help);
    match is_alone && alone == LoneWildcard::Error {
        true => problems.errors.push(problem),
        false => problems.warnings.push(problem),
    }
}

/// The same for each of a list at `path`.
pub fn check_wildcards(texts: &[String], alone: LoneWildcard, path: &str, help: &str, problems: &mut Problems) {
    for (at, text) in texts.iter().enumerate() {
        check_wildcard(text, alone, format!("{path}[{at}]"), help, problems);
    }
}

/// What any value is elsewhere.
pub fn is_wildcard(text: &str) -> bool {
    matches!(text, "*" | "**" | ".*" | ".+")
}

/// Looks at a name of a claim for what would be a path elsewhere: only claims at the top of a token are read by name.
pub fn check_claim_name(name: &str, path: impl Into<String>, help: &str, problems: &mut Problems) {
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
        for (text, alone, errors, warnings) in [
            ("*", LoneWildcard::Error, 1, 0),
            (".*", LoneWildcard::Error, 1, 0),
            ("*", LoneWildcard::Warning, 0, 1),
            ("orders/*", LoneWildcard::Error, 0, 1),
            ("orders.read", LoneWildcard::Error, 0, 0),
        ] {
            let mut problems = Problems::default();
            check_wildcard(text, alone, "here", "help", &mut problems);
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

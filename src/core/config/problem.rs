//! Problems of a configuration, written for the person who has to fix them.

use std::fmt;

/// One error, warning or note about one key of a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The path of the key, such as `rules[2].match.path`. Empty for the whole text.
    pub path: String,
    /// What is wrong: lower case, no full stop, quoted input in backticks. The path is its subject.
    pub message: String,
    /// How to fix it.
    pub help: Option<String>,
}

impl Problem {
    /// A problem at `path`.
    pub fn at(path: impl Into<String>, message: impl Into<String>) -> Problem {
        Problem { path: path.into(), message: message.into(), help: None }
    }

    /// Adds how to fix it.
    pub fn help(mut self, help: impl Into<String>) -> Problem {
        self.help = Some(help.into());
        self
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        f.write_str(&self.message)?;
        match &self.help {
            Some(help) => write!(f, " ({help})"),
            None => Ok(()),
        }
    }
}

/// All errors of a configuration that cannot be used. Never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Errors(pub Vec<Problem>);

impl fmt::Display for Errors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, problem) in self.0.iter().enumerate() {
            if at > 0 {
                f.write_str("; ")?;
            }
            write!(f, "{problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Errors {}

#[derive(Default)]
pub(crate) struct Problems {
    pub(in crate::config) errors: Vec<Problem>,
    pub(in crate::config) warnings: Vec<Problem>,
    pub(in crate::config) notes: Vec<Problem>,
}

impl Problems {
    /// Adds those of `found` that are not known yet.
    pub(in crate::config) fn add_new(&mut self, found: Problems) {
        let Problems { errors, warnings, notes } = found;
        for (known, found) in [(&mut self.errors, errors), (&mut self.warnings, warnings), (&mut self.notes, notes)] {
            for problem in found {
                if !known.contains(&problem) {
                    known.push(problem);
                }
            }
        }
    }

    pub(in crate::config) fn error(&mut self, path: impl Into<String>, message: impl Into<String>) {
        self.errors.push(Problem::at(path, message));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encoding::nearest::nearest;

    #[test]
    fn prints_place_fault_and_remedy() {
        let problem = Problem::at("rules[0].mtch", "unknown key `mtch`").help("did you mean `match`?");
        assert_eq!(problem.to_string(), "rules[0].mtch: unknown key `mtch` (did you mean `match`?)");
        assert_eq!(Problem::at("", "not JSON").to_string(), "not JSON");
    }

    #[test]
    fn guesses_only_near_words() {
        assert_eq!(nearest("isuers", ["rules", "issuers"]), Some("issuers"));
        assert_eq!(nearest("zzz", ["rules", "issuers"]), None);
    }
}

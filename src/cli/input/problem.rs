//! Prints the errors in a file, so that its author can correct them.

use std::io::{self, Write};
use std::path::Path;

use serde_json::{Value, json};
use taskfence_core::config::problem::Problem;

/// Writes each problem with its place, and its remedy on a line below. `word` is the severity.
pub fn print(word: &str, problems: &[Problem], err: &mut dyn Write) -> io::Result<()> {
    for Problem { path, message, help } in problems {
        let place = if path.is_empty() { String::new() } else { format!("{path}: ") };
        writeln!(err, "{word}: {place}{message}")?;
        if let Some(help) = help {
            writeln!(err, "  help: {help}")?;
        }
    }
    Ok(())
}

/// A problem as JSON, for programs.
pub fn to_json(problem: &Problem) -> Value {
    json!({"path": problem.path, "message": problem.message, "help": problem.help})
}

/// A file that cannot be used, with all that is wrong with it.
#[derive(Debug, thiserror::Error)]
#[error("{name}: {}", count(problems.len(), "error"))]
pub struct BadFile {
    /// What the file is called in messages.
    name: String,
    problems: Vec<Problem>,
}

impl BadFile {
    /// The file at `path`, with `problems`.
    pub fn new(path: &Path, problems: Vec<Problem>) -> Self {
        Self { name: name(path), problems }
    }

    /// Writes every problem and then how many there are, and where.
    pub fn print(&self, err: &mut dyn Write) -> io::Result<()> {
        print("error", &self.problems, err)?;
        writeln!(err, "{self}")
    }
}

/// What a file is called in messages.
pub fn name(path: &Path) -> String {
    if path == Path::new("-") { "standard input".to_owned() } else { path.display().to_string() }
}

/// A number with its noun, in the singular or plural.
pub fn count(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

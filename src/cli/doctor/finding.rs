//! What the doctor found.

use serde_json::{Value, json};
use taskfence_core::config::problem::Problem;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The filter does not do its work, or requests are refused that should pass.
    Error,
    /// It works, and something will become worse, or cannot be seen.
    Warning,
    /// Something that is as it should be, or worth knowing.
    Note,
}

/// One finding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// What it is about: `plugin`, `hub`, `cluster NAME`, a place in the configuration, and so on.
    pub about: String,
    /// What was found.
    pub message: String,
    /// What to do.
    pub remedy: Option<String>,
}

impl Finding {
    /// An error with its remedy.
    pub fn error(about: impl Into<String>, message: impl Into<String>, remedy: impl Into<String>) -> Finding {
        Finding::new(Severity::Error, about, message, Some(remedy.into()))
    }

    /// A warning with its remedy.
    pub fn warning(about: impl Into<String>, message: impl Into<String>, remedy: impl Into<String>) -> Finding {
        Finding::new(Severity::Warning, about, message, Some(remedy.into()))
    }

    /// A note.
    pub fn note(about: impl Into<String>, message: impl Into<String>) -> Finding {
        Finding::new(Severity::Note, about, message, None)
    }

    /// A problem of the configuration.
    pub fn of(severity: Severity, problem: Problem) -> Finding {
        let Problem { path, message, help } = problem;
        Finding::new(severity, if path.is_empty() { "configuration".to_owned() } else { path }, message, help)
    }

    fn new(
        severity: Severity,
        about: impl Into<String>,
        message: impl Into<String>,
        remedy: Option<String>,
    ) -> Finding {
        Finding { severity, about: about.into(), message: message.into(), remedy }
    }

    /// As JSON.
    pub fn to_json(&self) -> Value {
        let Finding { severity, about, message, remedy } = self;
        json!({"severity": severity.as_str(), "about": about, "message": message, "remedy": remedy})
    }
}

impl Severity {
    /// `error`, `warning` or `note`.
    pub fn as_str(self) -> &'static str {
        match self {
            Severity::Error => "error",
            Severity::Warning => "warning",
            Severity::Note => "note",
        }
    }
}

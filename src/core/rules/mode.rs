//! Whether refusals are enforced.

use serde::Deserialize;

/// Whether refusals are enforced.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Refusals are answered.
    #[default]
    Enforce,
    /// Refusals are recorded, and the request passes.
    Shadow,
}

impl Mode {
    /// Its name, as in the configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Mode::Enforce => "enforce",
            Mode::Shadow => "shadow",
        }
    }
}

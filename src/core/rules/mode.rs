//! Whether refusals are enforced.

use serde::{Deserialize, Serialize};

/// Whether refusals are enforced.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Refusals are answered.
    #[default]
    Enforce,
    /// Refusals are recorded, and the request passes.
    Shadow,
}

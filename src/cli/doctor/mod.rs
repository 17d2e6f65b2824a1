//! Looks at a running Envoy, and at the hub that it follows, and says what is wrong with each, and what to do.
//!
//! ```text
//! admin ─► running (the configuration as a file would say it) ─► the checks of `taskfence check`
//!       └► statistics, clusters, process ──────────────────────► findings ─► report
//! hub ──────────────────────────────────────────────────────────┘
//! ```

pub mod admin;
pub mod feeding;
pub mod finding;
pub mod process;
pub mod running;
pub mod statistics;

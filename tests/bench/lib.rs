//! What Taskfence costs, beside its peers, in one run: `scripts/bench`.
//!
//! ```text
//! wrk, on one core ──► Envoy, on another: one listener for each case ──► a fixed answer
//! ```
//! The headline is CPU per request of the proxy's process. Wall time would measure how two processes share a machine;
//! the CPU that a request takes is what an operator pays for in every sidecar. Cases are measured in turns, round by
//! round, so that what disturbs the machine disturbs all of them, and the differences are taken within a round.
//!
//! [`cases`] measures, [`peers`] and [`scaling`] say what, [`memory`], [`propagation`] and [`calls`] measure what is no
//! load, [`hub`] measures the hub and who follows it, and [`report`], [`chart`] and [`page`] show it.

pub mod calls;
pub mod cases;
pub mod chart;
pub mod hub;
pub mod live;
pub mod load;
pub mod machine;
pub mod memory;
pub mod operations;
pub mod options;
pub mod page;
pub mod peers;
pub mod process;
pub mod propagation;
pub mod proxy;
pub mod report;
pub mod scaling;
pub mod service;
pub mod state;
pub mod tokens;
pub mod tree;

pub use taskfence_tests::{Error, Result};

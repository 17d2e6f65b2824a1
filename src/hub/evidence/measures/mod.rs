//! What the report and the list of living grants say, computed from what the store of evidence has. `docs/measures.md`
//! defines each figure.
//!
//! [`report`] reads the events first, into compact maps, and then each grant once. What it keeps of a grant is a place in
//! some histograms, twelve bytes for the repeats, and the whole grant only if it is one of the worst.

pub mod alive;
pub mod catalog;
pub mod comparison;
pub mod kind;
pub mod lifecycle;
pub mod look;
pub mod narrower;
pub mod read_ahead;
pub mod repeat;
pub mod report;
pub mod residual;
pub mod rollup;
pub mod sharing;
pub mod sketch;
pub mod spread;
pub mod unused;
pub mod watch;
pub mod width;

#[cfg(test)]
mod tests;

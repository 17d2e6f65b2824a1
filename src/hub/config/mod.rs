//! The configuration of the hub: typed as it is written, then compiled.

pub mod model;

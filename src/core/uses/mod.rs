//! What passed and what was refused, counted for each grant, and how a proxy tells its hub.

pub mod allowance;
pub mod batch;
pub mod outline;

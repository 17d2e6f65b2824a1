//! What passed and what was refused, counted for each grant, and how a proxy tells its hub.

pub mod allowance;
pub mod batch;
pub(crate) mod cut;
pub mod grant_info;
pub(crate) mod json_text;
pub mod outbox;
pub mod outline;
pub mod roster;
pub mod row;
pub mod sender;
pub mod table;
#[cfg(test)]
mod tests;

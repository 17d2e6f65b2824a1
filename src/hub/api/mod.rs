//! The API of operators: `/v1/...`, described by `/openapi.json`.

pub mod audit_log;
pub mod audit_trail;
pub mod call;
pub mod events;
pub mod feeds;
pub mod global_revocation;
pub mod lifecycle;
pub mod model;
pub mod openapi;
pub mod operations;
pub mod proxies;
pub mod receipts;
pub mod records;
pub mod report;
pub mod routes;
pub mod signals;
pub mod state;
pub mod streams;
pub mod timeline;
pub mod tokens;
pub mod undo;

#[cfg(test)]
mod report_tests;
#[cfg(test)]
mod revocation_tests;
#[cfg(test)]
mod tests;

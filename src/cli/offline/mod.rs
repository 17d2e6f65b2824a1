//! The data plane without a proxy: the same judge, and reports on what it decided.

pub mod case_file;
pub mod case_suite;
pub mod client_answer;
mod diagnosis;
pub mod evaluation;
pub mod host;
pub mod jwks_files;
pub mod request_input;
pub mod requirement_report;
pub mod token_report;
pub mod unsigned;

//! The configuration of the hub: typed as it is written, then compiled.

pub mod cluster;
pub mod compile;
mod compile_access;
mod compile_evidence;
mod compile_feed;
mod compile_follow;
mod compile_listen;
mod compile_ssf;
mod compile_store;
mod compile_streams;
pub mod hub;
pub mod model;
mod name;
pub mod network;
pub mod problem;
pub mod role;
pub mod schema;
pub mod ssf;
pub mod ssf_model;

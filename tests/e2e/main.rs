//! End to end: real requests and real signals through a real Envoy, a module per theme.

mod answers;
mod at_once;
mod bad_input;
mod binding;
mod boundary;
mod config;
mod crash;
mod demonstration;
mod differential;
mod doorbell;
mod flood;
mod keys;
mod live;
mod no_panic;
mod oauth_server;
mod other_libraries;
mod paths;
mod ready_made;
mod requirements;
mod signals;
mod signatures;
mod surroundings;
mod token_source;
mod tokens;

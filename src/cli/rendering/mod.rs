//! Makes the resources of many services from a base and one small file for each of them, and compares them with what is
//! deployed.
//!
//! ```text
//! base ─┐
//!       ├─► configuration ─► checks over all ─► resources ─► files, or the difference to what is deployed
//! service ┘
//! ```

pub mod alike;
pub mod base;
pub mod block;
pub mod catalogue;
pub mod deployed;
pub mod difference;
pub mod merge;
pub mod resource;
pub mod service;
pub mod variables;

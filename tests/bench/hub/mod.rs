//! The hub: what it costs to have many proxies follow it, and how soon a signal is in force on all of them.

pub mod answers;
pub mod followers;
pub mod pages;

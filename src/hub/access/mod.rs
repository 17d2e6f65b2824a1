//! Who may call the hub, and as what.

pub mod principal;

//! The protocol as followers see it, and measurements with many of them.

mod load;
mod protocol;
mod relayed;
mod replicas;

//! One Security Event Token: from bytes to the entries that it leaves in the state.

pub mod accepted;
pub(crate) mod effect;
pub mod event;
pub mod hub_source;
pub(crate) mod interpret;
pub(crate) mod oddity;
pub mod operator;
pub(crate) mod permissions;
pub mod provider;
pub mod receiver;
pub mod set;
pub mod set_error;
pub(crate) mod signal_time;
pub(crate) mod signals;
pub mod stored;
pub(crate) mod subject;
pub mod transmitter;

//! One Security Event Token: from bytes to the entries that it leaves in the state.

pub mod accepted;
pub mod effect;
pub mod event;
pub mod interpret;
pub mod oddity;
pub mod permissions;
pub mod receiver;
pub mod set;
pub mod set_error;
pub(crate) mod signal_time;
pub mod signals;
pub mod subject;
pub mod transmitter;

//! What becomes of a request that waits for keys.

use std::any::Any;
use std::cell::{Cell, RefCell};

/// Whether a request that waits is admitted, or refused, from elsewhere.
#[derive(Debug, Default)]
pub struct Waited {
    /// Whether it was let on.
    pub admitted: Cell<bool>,
    /// Whether its trailers came meanwhile. The proxy does not show them again.
    pub has_trailers: Cell<bool>,
    /// Keeps the stream among those that are followed, once it goes on.
    pub followed: RefCell<Option<Box<dyn Any>>>,
}

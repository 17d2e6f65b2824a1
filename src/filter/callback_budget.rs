//! How many streams one callback of a root context may answer or resume.
//!
//! Envoy answers and resumes streams after the callback, and these calls are nested: each begins inside the one before.
//! A few hundred of them overflow the stack of the VM, whichever plugins the streams belong to.

/// At most so many streams are answered or resumed in one callback. The next callbacks do the others.
const MAX_STREAMS: usize = 100;

/// How many more streams the current callback may answer or resume. All plugins of the VM share it.
#[derive(Debug)]
pub struct CallbackBudget {
    left: usize,
}

impl CallbackBudget {
    /// The budget at the beginning of a callback.
    pub fn new() -> CallbackBudget {
        CallbackBudget { left: MAX_STREAMS }
    }

    /// How many streams are left.
    pub fn left(&self) -> usize {
        self.left
    }

    /// Counts the effective stream, which was resumed.
    pub fn spend_on_resumed(&mut self) {
        self.left = self.left.saturating_sub(1);
    }

    /// Counts the effective stream, which goes on and got a record: a record takes several calls to the proxy.
    pub fn spend_on_noted(&mut self) {
        self.left = self.left.saturating_sub(1);
    }

    /// Counts the effective stream, which was answered.
    pub fn spend_on_answered(&mut self) {
        self.left = self.left.saturating_sub(1);
    }
}

//! How many streams one callback of a root context may answer or resume.
//!
//! Envoy answers and resumes after the callback, each stream from within the one before. A few hundred of them overflow the
//! stack of the VM, whichever plugins they belong to.

/// At most so many streams are answered or resumed in one callback; the others in the next.
const MAX_STREAMS: usize = 100;

/// What is left of the streams that the current callback may answer or resume. All plugins of the VM share it.
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

    /// Counts the effective stream, which was answered.
    pub fn spend_on_answered(&mut self) {
        self.left = self.left.saturating_sub(1);
    }
}

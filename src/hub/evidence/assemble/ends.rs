//! When grants ended, as the report has it.

use crate::evidence::measures::lifecycle::Lifecycle;
use crate::evidence::model::{EventRow, GrantRow};

/// Events that end grants, and those that lift them.
pub struct Ends(Lifecycle);

impl Ends {
    /// Of these events, which are in the order of their times.
    pub fn of(events: &[EventRow]) -> Ends {
        let mut lifecycle = Lifecycle::default();
        events.iter().for_each(|event| lifecycle.add(event));
        Ends(lifecycle)
    }

    /// When the grant ended: by the first event about it that nobody lifted, or by its expiry. In milliseconds since 1970.
    pub fn of_grant(&self, grant: &GrantRow) -> Option<u64> {
        Some(self.0.end(&grant.info).at).filter(|at| *at > 0)
    }
}

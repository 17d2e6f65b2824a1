//! Grants that were issued and that no proxy ever saw: only events know them.

use crate::evidence::measures::lifecycle;
use crate::evidence::model::{EventRow, GrantId, GrantRow};
use std::collections::HashSet;

/// The grants that events said were issued, and that did not turn up among the uses so far. It takes 16 bytes for each.
#[derive(Debug, Default)]
pub struct Unused {
    issued: HashSet<GrantId>,
}

impl Unused {
    /// Takes in an event, before the uses are read.
    pub fn add(&mut self, event: &EventRow) {
        self.issued.extend(lifecycle::issued_id(event));
    }

    /// Proxies saw this grant.
    pub fn seen(&mut self, id: GrantId) {
        self.issued.remove(&id);
    }

    /// Whether some are left.
    pub fn is_empty(&self) -> bool {
        self.issued.is_empty()
    }

    /// The grant that `event` issued, once, if it is one of those that are left. After the uses were read.
    pub fn take(&mut self, event: &EventRow) -> Option<GrantRow> {
        let id = lifecycle::issued_id(event)?;
        if self.issued.remove(&id) { lifecycle::issued(event) } else { None }
    }
}

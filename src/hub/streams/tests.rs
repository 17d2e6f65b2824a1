//! What the unit tests of the streams share.

use crate::streams::record::{Delivery, Status, StreamRecord};
use std::collections::BTreeSet;

/// A new stream that is polled.
pub fn record(feed: &str, id: &str) -> StreamRecord {
    StreamRecord {
        id: id.to_owned(),
        feed: feed.to_owned(),
        principal: "orders".to_owned(),
        delivery: Delivery::Poll,
        events_requested: None,
        description: None,
        status: Status::Enabled,
        reason: None,
        after: 0,
        complete_until: 0,
        acknowledged: BTreeSet::new(),
        removed_subjects: Vec::new(),
        about_stream: Vec::new(),
        seen: 0,
        verified: 0,
    }
}

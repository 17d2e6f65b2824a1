//! Opens the store of evidence of a hub.

use crate::config::hub::Hub;
use crate::evidence::disk::Disk;
use crate::evidence::service::{Evidence, Open};
use crate::evidence::testing::MemoryStore;
use crate::feed::Now;
use std::sync::Arc;

/// The evidence of `hub`, by the clock `now`.
pub fn start(hub: &Hub, now: Now) -> std::io::Result<Arc<Evidence>> {
    let feeds: Vec<_> = hub.feeds.iter().map(|feed| feed.name.clone()).collect();
    // A database has a disk of its own.
    let disk = hub.postgres.is_none().then(|| Disk::new(hub.data.clone(), hub.reserve));
    let open: Open = Box::new(|| Ok(Arc::new(MemoryStore::default())));
    Evidence::start(hub.evidence.clone(), &feeds, now, disk, open)
}

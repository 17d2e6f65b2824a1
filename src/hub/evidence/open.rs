//! Opens the store of evidence of a hub.

use crate::config::hub::Hub;
use crate::evidence::disk::Disk;
use crate::evidence::service::{Evidence, Open};
use crate::evidence::store::kept::Kept;
use crate::evidence::store::sqlite::SqliteEvidence;
use crate::feed::Now;
use std::sync::Arc;

/// The folder of the evidence, below `data`.
const FOLDER: &str = "evidence";

/// The evidence of `hub`, by the clock `now`. The store is opened later, and again where that fails: a hub takes signals also
/// without it.
pub fn start(hub: &Hub, now: Now) -> std::io::Result<Arc<Evidence>> {
    let feeds: Vec<_> = hub.feeds.iter().map(|feed| feed.name.clone()).collect();
    // A database has a disk of its own.
    let disk = hub.postgres.is_none().then(|| Disk::new(hub.data.clone(), hub.reserve));
    let kept = Kept { days: hub.evidence.days, bytes: hub.evidence.mib.saturating_mul(1024 * 1024) };
    let folder = hub.data.join(FOLDER);
    let open: Open = Box::new(move || Ok(Arc::new(SqliteEvidence::open(&folder, kept)?)));
    Evidence::start(hub.evidence.clone(), &feeds, now, disk, open)
}

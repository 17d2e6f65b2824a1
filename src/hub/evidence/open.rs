//! Opens the store of evidence of a hub.

use crate::config::hub::Hub;
use crate::evidence::disk::Disk;
use crate::evidence::service::{Evidence, Open};
use crate::evidence::store::kept::Kept;
use crate::evidence::store::postgres::PostgresEvidence;
use crate::evidence::store::sqlite::SqliteEvidence;
use crate::feed::Now;
use crate::store::model::StoreError;
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
    let room = disk.clone();
    let (folder, database) = (hub.data.join(FOLDER), hub.postgres.clone());
    let open: Open = Box::new(move || match &database {
        Some(database) => Ok(Arc::new(PostgresEvidence::open(database, kept)?)),
        None => {
            // A store that is there may have days to remove. A new one takes room that signals may need.
            if let Some(room) = room.as_ref().filter(|_| !folder.exists()) {
                room.admit().map_err(|full| StoreError::Full(full.to_string()))?;
            }
            Ok(Arc::new(SqliteEvidence::open(&folder, kept)?))
        }
    });
    Evidence::start(hub.evidence.clone(), &feeds, now, disk, open)
}

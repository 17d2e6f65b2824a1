//! Which proxies know a key of the hub, as the store has them.

use crate::feed::report::Report;
use crate::store::Store;
use crate::store::model::StoreError;

/// The live followers of `feeds` that do not report the key `kid`: their nodes, or their ids where they report none.
///
/// A follower is in the store before it gets its first page, and until it has left. That it knows another key is written
/// within seconds.
pub fn lacking(store: &dyn Store, feeds: &[&str], kid: &str) -> Result<Vec<String>, StoreError> {
    let mut lacking = Vec::new();
    for feed in feeds {
        for record in store.followers(feed)? {
            match Report::parse_stored(record.report.as_bytes()) {
                Ok(report) if report.kids.iter().any(|known| **known == *kid) => {}
                Ok(report) => lacking.push(report.name().to_owned()),
                Err(_) => lacking.push(record.id),
            }
        }
    }
    Ok(lacking)
}

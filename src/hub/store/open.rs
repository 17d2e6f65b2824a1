//! Opens the store that the configuration names.

use crate::config::hub::Hub;
use crate::store::Store;
use crate::store::model::StoreError;
use crate::store::postgres::{Kept, PostgresStore};
use crate::store::retention::Retention;
use crate::store::sqlite::SqliteStore;
use std::sync::Arc;
use taskfence_core::time::Span;

/// What a store is opened for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum For {
    /// A hub that runs.
    Hub,
    /// A command on its host, beside a hub that may run.
    Command,
}

/// Opens the store of `hub`, and creates it if it does not exist. Blocks.
pub fn open(hub: &Hub, user: For) -> Result<Arc<dyn Store>, StoreError> {
    let audit = Retention {
        age: Span::hours(hub.audit.days.saturating_mul(24)),
        bytes: hub.audit.mib.saturating_mul(1024 * 1024),
    };
    if let Some(postgres) = &hub.postgres {
        let kept = Kept { signals: hub.keep_signals, audit };
        let store = PostgresStore::open(postgres, kept, &hub.data)?;
        return Ok(Arc::new(if user == For::Hub { store.for_hub()? } else { store }));
    }
    let store = SqliteStore::open(&hub.data.join("hub.sqlite"))?;
    let store = store.with_signals_kept(hub.keep_signals).with_audit_kept(audit);
    Ok(Arc::new(if user == For::Hub { store.with_reserve(hub.reserve) } else { store }))
}

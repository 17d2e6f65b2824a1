//! Which configuration is the accepted one: its hash stands in the store.

use crate::store::Store;
use crate::store::model::StoreError;

/// The name in the store of the hash of the accepted configuration.
const CONFIG: &str = "config-hash";

/// The hash in the store if it is not `own`. An empty store takes `own`.
pub fn other_config(store: &dyn Store, own: &str) -> Result<Option<String>, StoreError> {
    loop {
        match store.get(CONFIG)? {
            Some(stored) => return Ok(Some(stored).filter(|stored| stored != own)),
            // Of several replicas that find an empty store, one is first.
            None if store.swap(CONFIG, None, Some(own))? => return Ok(None),
            None => {}
        }
    }
}

/// Makes the configuration with the hash `own` the accepted one.
pub fn accept_config(store: &dyn Store, own: &str) -> Result<(), StoreError> {
    store.set(CONFIG, own)
}

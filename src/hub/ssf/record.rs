//! What the store keeps of a managed stream, under [`ManagedStream::key`].

use crate::config::ssf::ManagedStream;
use crate::intake::managed::token_name;
use crate::ssf::client::failure::{Failure, Step};
use crate::store::Store;
use crate::store::model::{PrincipalRecord, StoreError};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// What is known of a stream that the hub has made or taken over. All times are in milliseconds since 1970.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct StreamRecord {
    /// `stream_id`.
    pub id: String,
    /// `aud` of its SETs.
    pub audiences: Vec<String>,
    /// The events that were asked for the last time.
    pub asked: Vec<String>,
    /// `events_delivered`.
    pub delivered: Vec<String>,
    /// Where to poll; `None`: it is pushed.
    pub poll_endpoint: Option<String>,
    /// `min_verification_interval` in seconds.
    pub min_verification_interval: Option<u64>,
    /// `inactivity_timeout` in seconds.
    pub inactivity_timeout: Option<u64>,
    /// Since when.
    pub since: u64,
    /// The last status that the transmitter told: `enabled`, `paused` or `disabled`.
    pub status: Option<String>,
    /// Why.
    pub reason: Option<String>,
    /// When the stream was found paused, disabled or deleted, unless a verification has come since it was enabled again.
    pub trouble: Option<u64>,
    /// When an operator had it deleted: the hub makes no other.
    pub removed: Option<u64>,
}

/// Reads the record of a stream. One that cannot be read is none: the stream is then found by its description.
pub async fn load(store: &Arc<dyn Store>, stream: &ManagedStream) -> Result<Option<StreamRecord>, Failure> {
    let key = stream.key();
    let text = in_store(store, move |store| store.get(&key)).await?;
    Ok(text.and_then(|text| serde_json::from_str(&text).ok()))
}

/// Writes the record of a stream.
pub async fn save(store: &Arc<dyn Store>, stream: &ManagedStream, record: &StreamRecord) -> Result<(), Failure> {
    let key = stream.key();
    let text = serde_json::to_string(record).map_err(|error| Failure::new(Step::Store, error.to_string(), ""))?;
    in_store(store, move |store| store.set_for_signals(&key, &text)).await
}

/// Moves what is known of a stream from the name that it has as `from` to that of `to`, with the token of its pushes.
pub async fn rename(store: &Arc<dyn Store>, from: &ManagedStream, to: &ManagedStream) -> Result<(), Failure> {
    if let Some(record) = load(store, from).await? {
        save(store, to, &record).await?;
    }
    let (old, new) = (token_name(from), token_name(to));
    in_store(store, move |store| {
        let principals = store.principals()?;
        if let Some(principal) = principals.into_iter().find(|principal| principal.name == old) {
            store.put_principal(&PrincipalRecord { name: new, ..principal })?;
            store.remove_principal(&old)?;
        }
        Ok(())
    })
    .await?;
    forget(store, from).await
}

/// Forgets a stream.
pub async fn forget(store: &Arc<dyn Store>, stream: &ManagedStream) -> Result<(), Failure> {
    let key = stream.key();
    in_store(store, move |store| {
        let old = store.get(&key)?;
        if old.is_some() {
            store.swap(&key, old.as_deref(), None)?;
        }
        Ok(())
    })
    .await
}

/// Calls the store on a thread of its own.
pub async fn in_store<T: Send + 'static>(
    store: &Arc<dyn Store>,
    call: impl FnOnce(&dyn Store) -> Result<T, StoreError> + Send + 'static,
) -> Result<T, Failure> {
    let store = Arc::clone(store);
    let done = tokio::task::spawn_blocking(move || call(&*store)).await;
    let failed = |why: String| Failure::new(Step::Store, why, "look at the store of the hub");
    done.map_err(|error| failed(error.to_string()))?.map_err(|error| failed(error.to_string()))
}

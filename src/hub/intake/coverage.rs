//! What statements say about the spans of issuers: no more than what the stored entries keep.
//!
//! When the configuration changes, entries of stored signals are derived again. Until that is done, an issuer is stated
//! with its spans of before, and one that is new, or has other claims, with spans of 0: proxies apply its entries and do
//! not rely on them yet. Signals that were removed before cannot be derived again, so a span that reaches back beyond them
//! grows with the time.

use crate::config::hub::Feed;
use crate::store::model::{SignalQuery, StoreError};
use crate::store::{PRUNED, Store};
use serde::{Deserialize, Serialize};
use std::sync::{Mutex, MutexGuard, PoisonError};
use taskfence_core::signal::hub_source::covered;
use taskfence_core::state::coverage::{CoveredIssuer, IssuerId};
use taskfence_core::time::{Span, Timestamp};

/// What one feed covers.
#[derive(Debug)]
pub(super) struct Coverage {
    /// The name of the value in the store.
    name: String,
    /// The hash of the configuration that is covered in the end.
    config: String,
    stated: Mutex<Stated>,
}

/// As it is stored.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Stated {
    /// The hash of the configuration that entries were derived for; empty while that is being done.
    config: String,
    /// In the order of the configuration.
    issuers: Vec<StatedIssuer>,
}

/// The spans of one issuer. All are in seconds, the times since 1970.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct StatedIssuer {
    id: [u8; 8],
    token: u64,
    session: u64,
    /// What was stated before.
    token_before: u64,
    session_before: u64,
    /// Entries of all signals that were taken in after this are kept for `token` and `session`. `None`: of none yet.
    since: Option<u64>,
}

impl Coverage {
    /// What `store` covers of `feed`. `config` is the hash of the configuration of today; `is_accepted`: it is the accepted one.
    /// What is stated from now on is stored when this returns: if the hub ends before all is derived, the next one knows.
    pub(super) fn load(
        feed: &Feed,
        (config, is_accepted): (&str, bool),
        store: &dyn Store,
        now: Timestamp,
    ) -> Result<Coverage, StoreError> {
        let name = format!("covered/{}", feed.name);
        let coverage = Coverage { name, config: config.to_owned(), stated: Mutex::default() };
        // A replica whose configuration is not accepted states nothing.
        if is_accepted {
            coverage.load_again(feed, store, now)?;
        }
        Ok(coverage)
    }

    /// The same again: the configuration is accepted now, and was not before.
    pub(super) fn load_again(&self, feed: &Feed, store: &dyn Store, now: Timestamp) -> Result<(), StoreError> {
        let stored = self.stored(store)?;
        let before = stored.clone().unwrap_or_default();
        let issuers: Vec<_> = feed.policy().issuers().iter().map(covered).collect();
        let is_same = before.config == self.config && before.covers(&issuers);
        // Another replica has begun.
        let is_begun = before.config.is_empty() && before.covers(&issuers);
        let mut stated = match is_same || is_begun {
            true => before,
            false => {
                let of = |wanted: CoveredIssuer| {
                    let known = before.issuers.iter().find(|known| known.id == wanted.id.0);
                    StatedIssuer::pending(wanted, known.map(|known| known.at(now)))
                };
                Stated { config: String::new(), issuers: issuers.into_iter().map(of).collect() }
            }
        };
        let any = SignalQuery { limit: 1, ..SignalQuery::default() };
        if !is_same && store.signals(&feed.name, &any)?.is_empty() {
            stated.complete(&self.config, 0);
        }
        if stored.as_ref() != Some(&stated) {
            save(&self.name, &stated, store)?;
        }
        *self.lock() = stated;
        Ok(())
    }

    /// Takes over what another replica has stored, if it has derived all for the same configuration. Returns whether it has.
    pub(super) fn refresh(&self, store: &dyn Store) -> Result<bool, StoreError> {
        let stored = self.stored(store)?.filter(|stored| stored.config == self.config);
        if let Some(stored) = &stored {
            *self.lock() = stored.clone();
        }
        Ok(stored.is_some())
    }

    fn stored(&self, store: &dyn Store) -> Result<Option<Stated>, StoreError> {
        Ok(store.get(&self.name)?.and_then(|text| serde_json::from_str::<Stated>(&text).ok()))
    }

    /// Whether entries of stored signals are to be derived again.
    pub(super) fn is_pending(&self) -> bool {
        self.lock().config != self.config
    }

    /// All entries were derived again, and are stored.
    pub(super) fn complete(&self, store: &dyn Store) -> Result<(), StoreError> {
        let pruned = store.get(PRUNED)?.and_then(|at| at.parse::<u64>().ok()).unwrap_or_default();
        let mut stated = self.lock().clone();
        stated.complete(&self.config, pruned.div_ceil(1_000));
        save(&self.name, &stated, store)?;
        *self.lock() = stated;
        Ok(())
    }

    /// What statements say at `now`, for each issuer in the order of the configuration.
    pub(super) fn at(&self, now: Timestamp) -> Vec<CoveredIssuer> {
        self.lock().issuers.iter().map(|issuer| issuer.at(now)).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Stated> {
        self.stated.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn save(name: &str, stated: &Stated, store: &dyn Store) -> Result<(), StoreError> {
    let text = serde_json::to_string(stated).map_err(|error| StoreError::Failed(error.to_string()))?;
    store.set(name, &text)
}

impl Stated {
    fn covers(&self, issuers: &[CoveredIssuer]) -> bool {
        self.issuers.iter().map(StatedIssuer::wanted).eq(issuers.iter().copied())
    }

    fn complete(&mut self, config: &str, since: u64) {
        config.clone_into(&mut self.config);
        self.issuers.iter_mut().for_each(|issuer| issuer.since = Some(since));
    }
}

impl StatedIssuer {
    fn pending(wanted: CoveredIssuer, before: Option<CoveredIssuer>) -> StatedIssuer {
        let (token, session) = (wanted.token_retention.0, wanted.session_retention.0);
        StatedIssuer {
            id: wanted.id.0,
            token,
            session,
            token_before: before.map_or(0, |before| before.token_retention.0).min(token),
            session_before: before.map_or(0, |before| before.session_retention.0).min(session),
            since: None,
        }
    }

    fn wanted(&self) -> CoveredIssuer {
        self.with(self.token, self.session)
    }

    fn at(&self, now: Timestamp) -> CoveredIssuer {
        let reached = self.since.map_or(0, |since| now.0.saturating_sub(since));
        let grown = |wanted: u64, before: u64| wanted.min(before.max(reached));
        self.with(grown(self.token, self.token_before), grown(self.session, self.session_before))
    }

    fn with(&self, token: u64, session: u64) -> CoveredIssuer {
        CoveredIssuer { id: IssuerId(self.id), token_retention: Span(token), session_retention: Span(session) }
    }
}

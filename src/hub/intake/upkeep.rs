//! What the intake does beside taking signals in: derives entries again when the configuration has changed, renews words,
//! cuts off after a restore, and removes what has ended.

use crate::intake::rederive;
use crate::intake::renewal;
use crate::intake::service::{FeedIntake, Intake, blocking};
use crate::store::model::{Change, SignalQuery, StoreError};
use crate::store::writer::SubmitError;
use futures_util::future::try_join_all;
use std::sync::Arc;
use std::time::Duration;
use taskfence_core::time::Timestamp;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};

/// Orders of an operator on the host are looked for this often.
const TICK: Duration = Duration::from_secs(1);

/// What has ended is removed from the store this often.
const PRUNE: Duration = Duration::from_secs(60);

/// Words about devices and risks are looked at this often. They are renewed some days before they end.
const RENEW: Duration = Duration::from_secs(6 * 60 * 60);

/// So many signals are derived again at once. Signals that come meanwhile wait behind them at most.
const BATCH: usize = 500;

/// The pause while too many signals wait to be stored.
const BUSY: Duration = Duration::from_millis(100);

/// The pause after the store has failed.
const PAUSE: Duration = Duration::from_secs(1);

impl Intake {
    /// Looks after the store until the task is ended. Calls `covers` when statements have come to cover more.
    /// `removable` says until when what has ended may be removed now; `None`: nothing may.
    pub async fn look_after<F: Future<Output = ()>>(
        self,
        covers: impl Fn() -> F,
        mut removable: impl FnMut() -> Option<Timestamp>,
    ) {
        // Before anything is removed: what is derived again may be needed longer.
        if self.feeds().iter().any(|feed| feed.coverage.is_pending()) {
            while let Err(error) = self.derive_again().await {
                tracing::error!(%error, "entries of stored signals cannot be derived again; the next try is in a second");
                sleep(PAUSE).await;
            }
            covers().await;
        }
        while let Err(error) = self.renew_words(Timestamp(0)).await {
            tracing::error!(%error, "words about devices and risks cannot be renewed; the next try is in a second");
            sleep(PAUSE).await;
        }
        let (mut renewed, mut pruned) = (Instant::now(), Instant::now());
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            if let Err(error) = self.cut_off_as_ordered().await {
                tracing::error!(%error, "what began before the restore cannot be cut off");
            }
            if renewed.elapsed() >= RENEW {
                renewed = Instant::now();
                if let Err(error) = self.renew_words(self.clock().now()).await {
                    tracing::error!(%error, "words about devices and risks cannot be renewed");
                }
            }
            if pruned.elapsed() >= PRUNE {
                if let Some(until) = removable() {
                    self.prune(until).await;
                }
                pruned = Instant::now();
            }
        }
    }

    /// Derives the entries of stored signals again, in feeds where that is to be done. Then these feeds cover what the
    /// configuration says. Returns how many signals have changed.
    pub async fn derive_again(&self) -> Result<u64, SubmitError> {
        let mut changed = 0u64;
        for feed in self.feeds().iter().filter(|feed| feed.coverage.is_pending()) {
            let begin = Instant::now();
            tracing::info!(feed = feed.feed.name, "the configuration has changed: entries are derived again");
            let (mut before, mut looked, mut of_feed) = (None, 0usize, 0usize);
            loop {
                let (found, changes, last) = self.next_to_derive(feed, before).await?;
                looked = looked.saturating_add(found);
                of_feed = of_feed.saturating_add(self.submit_all(changes).await?);
                let Some(last) = last else { break };
                before = Some(last);
            }
            let (done, store) = (Arc::clone(feed), Arc::clone(self.store()));
            blocking(move || done.coverage.complete(&*store)).await?;
            let ms = u64::try_from(begin.elapsed().as_millis()).unwrap_or(u64::MAX);
            tracing::info!(feed = feed.feed.name, looked, changed = of_feed, ms, "entries were derived again");
            changed = changed.saturating_add(u64::try_from(of_feed).unwrap_or(u64::MAX));
        }
        Ok(changed)
    }

    /// Of the signals before the id, the newest: how many they are, what changes, and the id of the oldest. `None`: these
    /// are the last.
    async fn next_to_derive(
        &self,
        feed: &Arc<FeedIntake>,
        before: Option<u64>,
    ) -> Result<(usize, Vec<Change>, Option<u64>), StoreError> {
        let (feed, store) = (Arc::clone(feed), Arc::clone(self.store()));
        let (skew, now) = (self.skew(), self.clock().now());
        blocking(move || {
            let query = SignalQuery { before, limit: BATCH, ..SignalQuery::default() };
            let records = store.signals(&feed.feed.name, &query)?;
            let mut changes = Vec::new();
            for record in &records {
                let had = store.entries_of(&feed.feed.name, record.id)?;
                let entries = rederive::again(&feed.feed, record, &had, skew, now);
                changes.extend(entries.map(|entries| Change::Derive {
                    feed: feed.feed.name.clone(),
                    signal: record.id,
                    entries,
                }));
            }
            Ok((records.len(), changes, records.last().map(|record| record.id)))
        })
        .await
    }

    /// Renews the words about devices and risks that stand. `since`: entries that ended after this are looked at. Returns
    /// how many signals were renewed.
    pub async fn renew_words(&self, since: Timestamp) -> Result<usize, SubmitError> {
        let mut renewed = 0usize;
        for feed in self.feeds() {
            let (skew, now) = (self.skew(), self.clock().now());
            let (of, store) = (Arc::clone(feed), Arc::clone(self.store()));
            let due = blocking(move || renewal::due(&of.feed, &*store, skew, (since, now))).await?;
            for due in due.chunks(BATCH) {
                let (of, store, due) = (Arc::clone(feed), Arc::clone(self.store()), due.to_vec());
                let changes = blocking(move || {
                    let changes = due.iter().map(|due| renewal::renew(&of.feed, &*store, *due));
                    changes.filter_map(Result::transpose).collect::<Result<Vec<_>, _>>()
                });
                renewed = renewed.saturating_add(self.submit_all(changes.await?).await?);
            }
        }
        if renewed > 0 {
            tracing::info!(renewed, "words about devices and risks were renewed");
        }
        Ok(renewed)
    }

    /// Submits changes at once; how many there were.
    async fn submit_all(&self, changes: Vec<Change>) -> Result<usize, SubmitError> {
        let count = changes.len();
        try_join_all(changes.into_iter().map(|change| self.submit_patiently(change))).await?;
        Ok(count)
    }

    /// Signals that are taken in go first: where too many wait, this waits.
    async fn submit_patiently(&self, change: Change) -> Result<(), SubmitError> {
        loop {
            match self.writer().submit(change.clone()).await {
                Err(SubmitError::Overloaded) => sleep(BUSY).await,
                done => return done.map(drop),
            }
        }
    }

    async fn prune(&self, until: Timestamp) {
        let store = Arc::clone(self.store());
        match blocking(move || store.prune(until)).await {
            Ok(removed) if removed > 0 => tracing::info!(removed, "entries that have ended were removed"),
            Ok(_) => {}
            Err(error) => tracing::error!(%error, "entries that have ended cannot be removed"),
        }
    }
}

//! What the intake does beside taking signals in: derives entries again when the configuration has changed, renews words,
//! cuts off after a restore, and removes what has ended.

use crate::intake::rederive;
use crate::intake::renewal;
use crate::intake::service::{FeedIntake, Intake, blocking};
use crate::replicas::turn::Turn;
use crate::store::model::{Change, SignalQuery, StoreError};
use crate::store::writer::SubmitError;
use futures_util::future::try_join_all;
use std::sync::Arc;
use std::time::Duration;
use taskfence_core::time::Timestamp;
use tokio::sync::watch;
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

/// What the upkeep needs of the hub around it.
pub struct Surroundings<C, R> {
    /// Called when statements have come to cover more.
    pub covers: C,
    /// Until when what has ended may be removed now; `None`: nothing may.
    pub removable: R,
    /// Of several replicas one does all this.
    pub turn: Turn,
    /// Whether the configuration of this replica is the accepted one.
    pub accepted: watch::Receiver<bool>,
    /// How long after it was accepted others may still store what is derived for another one.
    pub settle: Duration,
    /// Begins a new epoch where an issuer has come in; see `feed::coverage`. Blocks.
    pub renew_epochs: Arc<dyn Fn() -> Result<(), StoreError> + Send + Sync>,
}

impl<C, R> Surroundings<C, R> {
    /// Those of a hub of one process.
    pub fn alone(covers: C, removable: R) -> Surroundings<C, R> {
        Surroundings {
            covers,
            removable,
            turn: Turn::alone(),
            accepted: watch::channel(true).1,
            settle: Duration::ZERO,
            renew_epochs: Arc::new(|| Ok(())),
        }
    }
}

impl Intake {
    /// Looks after the store until the task is ended.
    pub async fn look_after<C, F, R>(self, mut hub: Surroundings<C, R>)
    where
        C: Fn() -> F,
        F: Future<Output = ()>,
        R: FnMut() -> Option<Timestamp>,
    {
        let (mut accepted, mut is_settled) = (None, false);
        let (mut renewed, mut pruned) = (None, Instant::now());
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            if !*hub.accepted.borrow() {
                (accepted, is_settled) = (None, false);
                continue;
            }
            if accepted.is_none() {
                if let Err(error) = self.load_coverage().await {
                    tracing::error!(%error, "what the feeds cover cannot be read; the next try is in a second");
                    continue;
                }
                accepted = Some(Instant::now());
            }
            if !is_settled {
                match self.settle(&hub, accepted.map_or(Duration::ZERO, |at| at.elapsed())).await {
                    Ok(settled) => is_settled = settled,
                    Err(error) => {
                        tracing::error!(%error, "entries of stored signals cannot be derived again; the next try is in a second");
                    }
                }
                // Before anything is removed: what is derived again may be needed longer.
                if !is_settled {
                    continue;
                }
            }
            if !hub.turn.is_mine() {
                // Whoever had it may have ended in between: all is looked at when it is the turn of this one.
                renewed = None;
                continue;
            }
            if let Err(error) = self.cut_off_as_ordered().await {
                tracing::error!(%error, "what began before the restore cannot be cut off");
            }
            if renewed.is_none_or(|at: Instant| at.elapsed() >= RENEW) {
                // The first time with those that have ended meanwhile.
                let since = if renewed.is_none() { Timestamp(0) } else { self.clock().now() };
                match self.renew_words(since).await {
                    Ok(_) => renewed = Some(Instant::now()),
                    Err(error) => {
                        tracing::error!(%error, "words about devices and risks cannot be renewed; the next try is in a second");
                    }
                }
            }
            if pruned.elapsed() >= PRUNE {
                if let Some(until) = (hub.removable)() {
                    self.prune(until).await;
                }
                let intake = self.clone();
                if let Err(error) = blocking(move || intake.take_over()).await {
                    tracing::error!(%error, "what replicas have left behind cannot be taken over");
                }
                pruned = Instant::now();
            }
        }
    }

    /// Brings the entries up to the configuration, which was accepted `since` ago, or finds that another replica has done
    /// that. Returns whether it is done.
    async fn settle<C, F, R>(&self, hub: &Surroundings<C, R>, since: Duration) -> Result<bool, SubmitError>
    where
        C: Fn() -> F,
        F: Future<Output = ()>,
    {
        let is_pending = || self.feeds().iter().any(|feed| feed.coverage.is_pending());
        let was_pending = is_pending();
        if hub.turn.is_mine() && (!was_pending || since >= hub.settle) {
            let renew = Arc::clone(&hub.renew_epochs);
            blocking(move || renew()).await?;
            if was_pending {
                self.derive_again().await?;
            }
        } else if was_pending {
            let intake = self.clone();
            blocking(move || {
                let mut pending = intake.feeds().iter().filter(|feed| feed.coverage.is_pending());
                pending.try_for_each(|feed| feed.coverage.refresh(&**intake.store()).map(drop))
            })
            .await?;
        }
        if is_pending() {
            return Ok(false);
        }
        if was_pending {
            (hub.covers)().await;
        }
        Ok(true)
    }

    async fn load_coverage(&self) -> Result<(), StoreError> {
        let intake = self.clone();
        blocking(move || {
            let now = intake.clock().now();
            intake.feeds().iter().try_for_each(|feed| feed.coverage.load_again(&feed.feed, &**intake.store(), now))
        })
        .await
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

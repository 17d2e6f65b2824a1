//! One task for each managed stream. Of several replicas the one that holds the lease of a stream does its work.

use crate::config::hub::Hub;
use crate::config::ssf::{Delivery, ManagedStream};
use crate::intake::service::Intake;
use crate::repeated::Repeated;
use crate::ssf::client::failure::{Failure, Step};
use crate::ssf::client::poll::Report;
use crate::ssf::client::session::Session;
use crate::ssf::condition::{Condition, Phase};
use crate::ssf::ensure::Home;
use crate::ssf::pace::Backoff;
use crate::ssf::polling::Polling;
use crate::ssf::upkeep::Upkeep;
use crate::store::Store;
use crate::store::clock::Clock;
use crate::store::lease::Lease;
use std::sync::Arc;
use std::time::Duration;
use taskfence_core::state::freshness::Status;
use taskfence_core::time::Timestamp;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

/// A lease is held for so long.
const LEASE: Duration = Duration::from_secs(9);

/// How often it is renewed, and how often another replica looks whether it has ended.
const RENEW: Duration = Duration::from_secs(3);

/// The tasks of all managed streams. Dropping it ends them.
pub struct ManagedStreams {
    conditions: Vec<Arc<Condition>>,
    tasks: Vec<JoinHandle<()>>,
    leases: Vec<Lease>,
}

impl ManagedStreams {
    /// Starts to manage the streams of `hub`. `replica` is the name of this process among those over one store.
    pub fn start(hub: &Hub, replica: &str, store: &Arc<dyn Store>, intake: &Intake, clock: &Clock) -> ManagedStreams {
        let (mut conditions, mut tasks, mut leases) = (Vec::new(), Vec::new(), Vec::new());
        for stream in hub.feeds.iter().flat_map(|feed| &feed.managed) {
            let condition = Arc::new(Condition::new(&stream.feed, &stream.name));
            let lease = Lease::new(Arc::clone(store), &stream.key(), replica);
            let manager = Manager {
                home: Home { hub: hub.name.clone(), store: Arc::clone(store) },
                stream: stream.clone(),
                intake: intake.clone(),
                clock: clock.clone(),
                condition: Arc::clone(&condition),
                lease: lease.clone(),
                managing: Repeated::new("a stream of a transmitter cannot be managed; it is tried again"),
                polling: Repeated::new("a stream of a transmitter cannot be polled; it is tried again"),
                keeping: Repeated::new("a stream of a transmitter cannot be looked after; it is tried again"),
                leasing: Repeated::new("the lease of a stream cannot be read or written"),
                stream_updated: Notify::new(),
            };
            conditions.push(condition);
            leases.push(lease);
            tasks.push(tokio::spawn(manager.run()));
        }
        ManagedStreams { conditions, tasks, leases }
    }

    /// How each stream does.
    pub fn conditions(&self) -> &[Arc<Condition>] {
        &self.conditions
    }

    /// Ends the tasks, and lets another replica go on at once.
    pub async fn stop(&self) {
        self.tasks.iter().for_each(JoinHandle::abort);
        let leases = self.leases.clone();
        let released = tokio::task::spawn_blocking(move || leases.iter().try_for_each(Lease::release)).await;
        if !matches!(released, Ok(Ok(()))) {
            tracing::warn!("leases of streams were not given up: another replica goes on in some seconds");
        }
    }
}

impl Drop for ManagedStreams {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

/// What manages one stream.
struct Manager {
    home: Home,
    stream: ManagedStream,
    intake: Intake,
    clock: Clock,
    condition: Arc<Condition>,
    lease: Lease,
    managing: Repeated,
    polling: Repeated,
    keeping: Repeated,
    leasing: Repeated,
    stream_updated: Notify,
}

impl Manager {
    async fn run(self) {
        loop {
            if self.hold().await {
                tokio::select! {
                    () = self.keep_lease() => {}
                    () = self.manage() => {}
                }
                tracing::info!(
                    feed = self.stream.feed,
                    stream = self.stream.name,
                    "another replica manages the stream"
                );
            }
            self.condition.note(|now| now.phase = Phase::Standby);
            tokio::time::sleep(RENEW).await;
        }
    }

    /// Takes or renews the lease. A store that fails says no: what another replica does then is not known.
    async fn hold(&self) -> bool {
        let (lease, now) = (self.lease.clone(), self.clock.now_ms());
        let held = tokio::task::spawn_blocking(move || lease.hold(now, LEASE)).await;
        match held {
            Ok(held) => {
                self.leasing.note(&self.stream.name, &held);
                held.unwrap_or_default()
            }
            Err(_) => false,
        }
    }

    /// Renews the lease until it is lost.
    async fn keep_lease(&self) {
        let mut failed = 0_u32;
        while failed < 2 {
            tokio::time::sleep(RENEW).await;
            failed = if self.hold().await { 0 } else { failed.saturating_add(1) };
        }
    }

    async fn manage(&self) {
        let mut backoff = Backoff::default();
        loop {
            self.condition.note(|now| now.phase = Phase::Seeking);
            match self.once().await {
                Ok(()) => {
                    backoff.reset();
                    tracing::warn!(
                        feed = self.stream.feed,
                        stream = self.stream.name,
                        "the stream is gone, or was changed: the hub looks for it"
                    );
                }
                Err(failure) => {
                    self.condition.failed(failure.step);
                    self.condition.note(|now| now.phase = Phase::Failing);
                    self.managing.failed(&self.stream.name, &failure);
                    tokio::time::sleep(backoff.next(failure.retry_after)).await;
                }
            }
        }
    }

    /// From discovery until the stream is gone or something fails for long.
    async fn once(&self) -> Result<(), Failure> {
        let session = Session::open(&self.stream).await?;
        let ensured = self.home.ensure(&session, &self.stream, self.clock.now_ms()).await?;
        let (feed, stream, id) = (&self.stream.feed, &self.stream.name, &ensured.record.id);
        if ensured.was_deleted {
            // What was to come in the old stream is lost.
            let now = Timestamp(self.clock.now_ms() / 1_000);
            let noted = self.intake.note_stream(&self.stream, Status::Disabled, now).await;
            noted.map_err(|error| Failure::new(Step::Store, error.to_string(), ""))?;
            tracing::error!(
                feed,
                stream,
                id,
                "the stream was deleted at the transmitter, and the hub made another: signals may be lost"
            );
        } else if ensured.is_new {
            tracing::info!(feed, stream, id, "the hub made a stream");
        }
        let missing = ensured.missing.join(" ");
        if ensured.record.delivered.is_empty() {
            tracing::warn!(feed, stream, missing, "the transmitter delivers none of the events that were asked for");
        } else if !missing.is_empty() {
            tracing::info!(feed, stream, missing, "the transmitter does not deliver all events that were asked for");
        }
        self.managing.went_well(&self.stream.name);
        self.condition.note(|now| now.phase = Phase::Unverified);
        let upkeep = Upkeep {
            intake: &self.intake,
            session: &session,
            stream: &self.stream,
            store: &self.home.store,
            clock: &self.clock,
            condition: &self.condition,
            stream_updated: &self.stream_updated,
            repeated: &self.keeping,
            record: ensured.record.clone(),
        };
        let Delivery::Poll { wait } = self.stream.delivery else { return upkeep.run().await };
        let bad = || Failure::new(Step::Poll, "the stream has no URL to poll", "");
        let endpoint = ensured.record.poll_endpoint.as_deref().and_then(|url| url.parse().ok()).ok_or_else(bad)?;
        let polling = Polling {
            intake: &self.intake,
            session: &session,
            clock: &self.clock,
            condition: &self.condition,
            feed: &self.stream.feed,
            name: &self.stream.name,
            endpoint,
            wait,
            stream_updated: &self.stream_updated,
            repeated: &self.polling,
            report: Report::default(),
        };
        tokio::select! {
            ended = upkeep.run() => ended,
            ended = polling.run() => ended,
        }
    }
}

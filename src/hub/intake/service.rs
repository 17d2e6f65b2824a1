//! The intake of a hub: verifies signals, stores them, and remembers when transmitters were heard of.

use crate::config::hub::{Feed, Hub};
use crate::intake::aws_lc::AwsLc;
use crate::intake::counters::Counters;
use crate::intake::coverage::Coverage;
use crate::intake::derive::{self, Origin};
use crate::intake::freshness::FeedFreshness;
use crate::intake::key_request::KeyFailure;
use crate::intake::keys::Keys;
use crate::repeated::Repeated;
use crate::replicas::configuration::other_config;
use crate::replicas::member;
use crate::store::Store;
use crate::store::clock::Clock;
use crate::store::model::{Change, Outcome, StoreError};
use crate::store::writer::{SubmitError, Writer};
use bytes::Bytes;
use std::sync::Arc;
use std::time::Duration;
use taskfence_core::feed::statement::IssuerStatus;
use taskfence_core::signal::accepted::Signal;
use taskfence_core::signal::receiver::{self, Received};
use taskfence_core::signal::set;
use taskfence_core::signal::set_error::{SetError, SetErrorCode};
use taskfence_core::state::freshness::TransmitterId;
use taskfence_core::state::store::StoreError as StateError;
use taskfence_core::time::{Span, Timestamp};
use tokio::task::AbortHandle;

/// How often the times at which transmitters were heard of are written.
const SAVE: Duration = Duration::from_secs(1);

/// A SET that only says that its stream works (SSF 1.0 §8.1.4). It is not stored.
const VERIFICATION: &str = "https://schemas.openid.net/secevent/ssf/event-type/verification";

/// The intake of a hub. Clones are the same intake.
#[derive(Clone)]
pub struct Intake(Arc<Inner>);

struct Inner {
    feeds: Vec<Arc<FeedIntake>>,
    keys: Keys,
    signatures: AwsLc,
    store: Arc<dyn Store>,
    writer: Writer,
    clock: Clock,
    skew: Span,
    replica: Option<String>,
    saving: AbortHandle,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.saving.abort();
    }
}

/// The intake of one feed.
pub(super) struct FeedIntake {
    pub(super) feed: Arc<Feed>,
    pub(super) counters: Arc<Counters>,
    pub(super) coverage: Coverage,
    freshness: FeedFreshness,
    storing: Repeated,
}

/// Why the intake cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The store cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Keys cannot be fetched.
    #[error("keys of transmitters cannot be fetched: {0}")]
    Keys(#[from] KeyFailure),
}

impl Intake {
    /// Starts the intake of `hub`, and fetches the keys of its transmitters from now on. Needs a tokio runtime. `config` is
    /// the hash of the configuration of `hub`. `writer` was started with its feeds, over `store` and with `clock`.
    pub fn start(
        hub: &Hub,
        config: &str,
        store: Arc<dyn Store>,
        writer: Writer,
        clock: Clock,
    ) -> Result<Intake, StartError> {
        Intake::start_as(None, (hub, config), store, writer, clock)
    }

    /// The same for the replica of this name, where there may be others.
    pub fn start_as(
        replica: Option<&str>,
        (hub, config): (&Hub, &str),
        store: Arc<dyn Store>,
        writer: Writer,
        clock: Clock,
    ) -> Result<Intake, StartError> {
        let is_accepted = replica.is_none() || other_config(&*store, config)?.is_none();
        let mut feeds = Vec::new();
        for feed in &hub.feeds {
            let freshness = FeedFreshness::load(&feed.name, replica, &*store)?;
            let coverage = Coverage::load(feed, (config, is_accepted), &*store, clock.now())?;
            feeds.push(Arc::new(FeedIntake {
                feed: feed.clone(),
                counters: Arc::default(),
                coverage,
                freshness,
                storing: storing(),
            }));
        }
        let counters: Vec<_> = feeds.iter().map(|feed| feed.counters.clone()).collect();
        let keys = Keys::start(hub, &counters, &clock)?;
        let saving = tokio::spawn(keep_saving(feeds.clone(), store.clone())).abort_handle();
        let signatures = AwsLc::default();
        let (replica, skew) = (replica.map(str::to_owned), hub.skew);
        Ok(Intake(Arc::new(Inner { feeds, keys, signatures, store, writer, clock, skew, replica, saving })))
    }

    /// What statements say about each issuer of the feed at `now`, in the order of the configuration: up to when all its
    /// transmitters with `heartbeat` were heard of (`now`, if it has none), and whether one of them has disabled its
    /// stream. Empty for a feed that is not configured.
    pub fn issuer_status(&self, feed: &str, now: Timestamp) -> Vec<IssuerStatus> {
        let intake = self.feed(feed);
        let status = |intake: &Arc<FeedIntake>| intake.freshness.issuers(&intake.feed, intake.coverage.at(now), now);
        intake.map(status).unwrap_or_default()
    }

    /// The same, with what other replicas have stored up to now. Blocks.
    pub fn issuer_status_of_all(&self, feed: &str, now: Timestamp) -> Result<Vec<IssuerStatus>, StoreError> {
        if let Some(intake) = self.feed(feed) {
            intake.freshness.read_others(&*self.0.store)?;
        }
        Ok(self.issuer_status(feed, now))
    }

    /// Takes over what replicas that do not live any more have stored about transmitters. Blocks.
    pub(super) fn take_over(&self) -> Result<(), StoreError> {
        let Some(own) = &self.0.replica else { return Ok(()) };
        let now = self.0.clock.now_ms();
        member::forget_old(&*self.0.store, now)?;
        let others = member::others(&*self.0.store, own)?;
        let is_alive = |name: &str| others.iter().any(|other| other.name == name && other.is_alive(now));
        self.0.feeds.iter().try_for_each(|intake| intake.freshness.take_over(&*self.0.store, is_alive))
    }

    /// The counters of each feed, by its name.
    pub fn counters(&self) -> impl Iterator<Item = (&str, &Counters)> {
        self.0.feeds.iter().map(|intake| (intake.feed.name.as_str(), &*intake.counters))
    }

    /// Writes when transmitters were last heard of. Call it before the process ends; otherwise the last second is lost,
    /// and the transmitters count as silent since then.
    pub async fn save(&self) -> Result<(), StoreError> {
        let (feeds, store) = (self.0.feeds.clone(), self.0.store.clone());
        blocking(move || feeds.iter().try_for_each(|intake| intake.freshness.save(&*store))).await
    }

    pub(super) fn feed(&self, name: &str) -> Option<&Arc<FeedIntake>> {
        self.0.feeds.iter().find(|intake| intake.feed.name == name)
    }

    pub(super) fn feeds(&self) -> &[Arc<FeedIntake>] {
        &self.0.feeds
    }

    pub(super) fn store(&self) -> &Arc<dyn Store> {
        &self.0.store
    }

    pub(super) fn writer(&self) -> &Writer {
        &self.0.writer
    }

    pub(super) fn clock(&self) -> &Clock {
        &self.0.clock
    }

    pub(super) fn skew(&self) -> Span {
        self.0.skew
    }

    /// Verifies the SET `body`, which was pushed into the feed with that `authorization` header, and stores it.
    pub(super) async fn take_in(&self, feed: &Arc<FeedIntake>, authorization: Option<&[u8]>, body: Bytes) -> Received {
        let received = match self.read(feed, authorization, &body).await {
            Ok(signal) => self.keep(feed, signal, &body).await,
            Err(error) => Received::Refused(error),
        };
        log(&feed.feed.name, &received);
        count(&feed.counters, &received);
        received
    }

    /// Reads a SET. If its key is not known, the keys are fetched first, where that may bring more.
    async fn read(&self, feed: &FeedIntake, authorization: Option<&[u8]>, body: &[u8]) -> Result<Signal, SetError> {
        let read = self.read_now(feed, authorization, body);
        let Err(SetError { code: SetErrorCode::KeysUnavailable, .. }) = &read else { return read };
        let owner = receiver::lacks_keys_of(feed.feed.policy().signals(), body);
        match owner {
            Some(owner) if self.0.keys.refetch(&feed.feed, owner, self.0.clock.now_ms()).await => {
                self.read_now(feed, authorization, body)
            }
            _ => read,
        }
    }

    /// Reads a SET on the thread of the caller. That takes 0.05 ms for a common SET, and 0.5 ms for one of 54 KiB, the most
    /// work that one can make: no other task of the thread waits long.
    fn read_now(&self, feed: &FeedIntake, authorization: Option<&[u8]>, body: &[u8]) -> Result<Signal, SetError> {
        let policy = feed.feed.policy();
        let (transmitters, issuers) = (policy.signals().transmitters(), policy.issuers());
        let mut signatures = self.0.signatures.clone();
        set::read(body, authorization, transmitters, issuers, &mut signatures, self.0.clock.now())
    }

    /// Stores a signal. Then its transmitter was heard of.
    async fn keep(&self, feed: &Arc<FeedIntake>, signal: Signal, set: &[u8]) -> Received {
        let now = self.0.clock.now_ms();
        let heartbeat = *signal.heartbeat();
        if !(signal.event() == VERIFICATION && signal.entries().is_empty()) {
            let stream = stream_of(feed, heartbeat.transmitter);
            let Some((stream, claims)) = stream.zip(derive::claims(set)) else {
                return Received::Failed(signal, StateError::Corrupt);
            };
            let by = signal.transmitter();
            let (feed_name, share) = (&feed.feed.name, &stream);
            let origin = Origin { feed: feed_name, stream: &stream, by, share, now, skew: self.0.skew };
            let record = origin.record(&signal, claims);
            match self.0.writer.submit(Change::Signal(record)).await {
                Ok(Outcome::Stored { .. }) => feed.storing.went_well(&feed.feed.name),
                Ok(Outcome::Repeated { .. }) => feed.counters.repeated.add(),
                Ok(Outcome::Contradicts { .. }) => return Received::Contradicts(signal),
                Ok(Outcome::Unknown) => return Received::Failed(signal, StateError::Corrupt),
                Err(error) => return not_stored(feed, signal, &error),
            }
        }
        feed.freshness.note(&heartbeat, Timestamp(now / 1_000));
        // A stream that was disabled must still be known as such after a crash.
        if heartbeat.stream.is_some() {
            let (feed, store) = (feed.clone(), self.0.store.clone());
            if let Err(error) = blocking(move || feed.freshness.save(&*store)).await {
                tracing::error!(%error, "the status of a stream was not stored");
                return Received::Failed(signal, StateError::Failed);
            }
        }
        Received::Applied(signal)
    }
}

/// The name of the stream with that id.
fn stream_of(feed: &FeedIntake, id: TransmitterId) -> Option<String> {
    let policy = feed.feed.policy();
    let mut transmitters = policy.signals().transmitters().iter();
    transmitters.find(|one| TransmitterId::new(&one.stream) == id).map(|one| one.stream.clone())
}

fn storing() -> Repeated {
    Repeated::new("signals were not stored: their transmitters must push them again")
}

/// Every one of these errors may pass, so each is answered with 503.
fn not_stored(feed: &FeedIntake, signal: Signal, error: &SubmitError) -> Received {
    let (counter, state) = match error {
        SubmitError::Overloaded => (&feed.counters.overloaded, StateError::Contended),
        SubmitError::NoRoom { .. } => (&feed.counters.no_room, StateError::Saturated),
        SubmitError::Store(_) => (&feed.counters.failed, StateError::Failed),
    };
    counter.add();
    let (transmitter, event, jti) = (signal.transmitter(), signal.event(), signal.id());
    tracing::debug!(feed = feed.feed.name, transmitter, event, jti, %error, "a signal was not stored");
    feed.storing.failed(&feed.feed.name, error);
    Received::Failed(signal, state)
}

fn count(counters: &Counters, received: &Received) {
    match received {
        Received::Applied(signal) => {
            let notes = signal.notes();
            let had_effect = !signal.entries().is_empty();
            if had_effect {
                counters.taken.add()
            } else {
                counters.without_effect.add()
            }
            let marks = [
                (notes.is_alarming(), &counters.alarming),
                (!notes.oddities.is_empty(), &counters.odd),
                (notes.unknown_subject, &counters.unknown_subject),
            ];
            marks.into_iter().filter(|(is, _)| *is).for_each(|(_, counter)| counter.add());
        }
        Received::Refused(error) => counters.refused(error.code).add(),
        Received::Contradicts(_) => counters.contradicted.add(),
        // Counted by its cause.
        Received::Failed(..) => {}
        Received::NotAPush(_) => counters.not_a_push.add(),
    }
}

fn log(feed: &str, received: &Received) {
    match received {
        Received::Applied(signal) => {
            let (transmitter, event, jti) = (signal.transmitter(), signal.event(), signal.id());
            let notes = signal.notes();
            if notes.is_notable() {
                let (ignored, ahead, unknown_subject) =
                    (notes.unmatched.join(", "), notes.future, notes.unknown_subject);
                let odd: Vec<&str> = notes.oddities.iter().collect();
                let odd = odd.join("; ");
                tracing::warn!(
                    feed,
                    transmitter,
                    event,
                    jti,
                    odd,
                    ignored,
                    ahead,
                    unknown_subject,
                    "a signal with irregularities was taken in"
                );
            } else {
                tracing::debug!(feed, transmitter, event, jti, "a signal was taken in");
            }
        }
        Received::Contradicts(signal) => {
            let (transmitter, event, jti) = (signal.transmitter(), signal.event(), signal.id());
            tracing::warn!(
                feed,
                transmitter,
                event,
                jti,
                "a signal was refused: its `jti` was used before for something else"
            );
        }
        // What is not authentic may come from anybody, and as often as anybody likes.
        Received::Refused(error) => match &error.origin {
            Some(origin) => {
                let (transmitter, event, jti) = (&origin.transmitter, &origin.event, &origin.id);
                tracing::info!(feed, transmitter, event, jti, code = error.code.code(), %error, "a signal was refused");
            }
            None => tracing::debug!(feed, code = error.code.code(), %error, "a push was refused"),
        },
        Received::Failed(..) | Received::NotAPush(_) => {}
    }
}

async fn keep_saving(feeds: Vec<Arc<FeedIntake>>, store: Arc<dyn Store>) {
    let saving = Repeated::new("when transmitters were heard of was not stored; it is tried again");
    let mut ticks = tokio::time::interval(SAVE);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let (feeds, store) = (feeds.clone(), store.clone());
        let saved = blocking(move || feeds.iter().try_for_each(|intake| intake.freshness.save(&*store)));
        saving.note("", &saved.await);
    }
}

/// Runs what blocks on a thread of its own.
pub(super) async fn blocking<T: Send + 'static>(
    call: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    tokio::task::spawn_blocking(call).await.map_err(|error| StoreError::Failed(error.to_string()))?
}

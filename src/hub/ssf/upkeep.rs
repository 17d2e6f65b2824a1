//! Keeps a stream that exists: asks for verifications, looks whether it is still there and enabled, and has it enabled
//! again. All of that counts as activity for the `inactivity_timeout` of the transmitter.

use crate::config::ssf::ManagedStream;
use crate::intake::service::Intake;
use crate::intake::verification_states;
use crate::repeated::Repeated;
use crate::ssf::client::failure::{Failure, Step};
use crate::ssf::client::session::Session;
use crate::ssf::client::status::{self, Said};
use crate::ssf::client::streams;
use crate::ssf::client::verification::{self, Asked};
use crate::ssf::condition::{Condition, Phase};
use crate::ssf::pace::{Backoff, jittered};
use crate::ssf::record::{self, StreamRecord, in_store};
use crate::store::Store;
use crate::store::clock::Clock;
use std::sync::Arc;
use std::time::Duration;
use taskfence_core::state::freshness::Status;
use taskfence_core::time::Timestamp;
use tokio::sync::Notify;
use tokio::time::Instant;
use uuid::Uuid;

/// How often it is looked whether a verification has come.
const TICK: Duration = Duration::from_millis(500);

/// How often the stream and its status are read, unless the transmitter wants more activity.
const CHECK: Duration = Duration::from_secs(60);

/// The same while the stream is not known to work.
const CHECK_IN_TROUBLE: Duration = Duration::from_secs(5);

/// A verification is asked for at least so often, whatever interval the transmitter wants.
const LONGEST_INTERVAL: Duration = Duration::from_secs(24 * 60 * 60);

/// A verification may take this long beyond three of the usual intervals.
const PATIENCE: Duration = Duration::from_secs(30);

/// After so many failures in a row the transmitter is discovered again.
const FAILURES: u32 = 5;

/// What the upkeep of one stream needs.
pub(super) struct Upkeep<'u> {
    pub(super) intake: &'u Intake,
    pub(super) session: &'u Session,
    pub(super) stream: &'u ManagedStream,
    pub(super) store: &'u Arc<dyn Store>,
    pub(super) clock: &'u Clock,
    pub(super) condition: &'u Condition,
    pub(super) stream_updated: &'u Notify,
    pub(super) repeated: &'u Repeated,
    pub(super) record: StreamRecord,
}

impl Upkeep<'_> {
    /// Keeps the stream until it is gone or differs (`Ok`), or until a step fails again and again.
    pub(super) async fn run(mut self) -> Result<(), Failure> {
        let every = self.verify_every();
        let (mut verify_at, mut check_at) = (Some(Instant::now()), Instant::now());
        let mut backoff = Backoff::default();
        let mut told = 0;
        loop {
            let step = self.step(&mut verify_at, &mut check_at, every, &mut told).await;
            match step {
                Ok(Next::Go) => backoff.reset(),
                Ok(Next::Wait) => {}
                Ok(Next::Gone) => return Ok(()),
                Err(failure) => {
                    self.condition.failed(failure.step);
                    self.repeated.failed(&self.stream.name, &failure);
                    if failure.is(401) || failure.is(403) || backoff.failures() >= FAILURES {
                        return Err(failure);
                    }
                    let pause = backoff.next(failure.retry_after);
                    let later = Instant::now().checked_add(pause);
                    match failure.step {
                        Step::Verification => {
                            let soonest = after(every.checked_div(4).unwrap_or_default());
                            verify_at = verify_at.and(later).map(|later| later.max(soonest));
                        }
                        _ => check_at = later.unwrap_or(check_at),
                    }
                }
            }
            tokio::select! {
                () = tokio::time::sleep(TICK) => {}
                () = self.stream_updated.notified() => check_at = Instant::now(),
            }
        }
    }

    async fn step(
        &mut self,
        verify_at: &mut Option<Instant>,
        check_at: &mut Instant,
        every: Duration,
        told: &mut u64,
    ) -> Result<Next, Failure> {
        let mut next = Next::Wait;
        if *check_at <= Instant::now() {
            if !self.check().await? {
                return Ok(Next::Gone);
            }
            *check_at = after(jittered(self.check_every()));
            next = Next::Go;
        }
        if verify_at.is_some_and(|at| at <= Instant::now()) {
            *verify_at = Some(after(every));
            match self.verify().await? {
                Asked::Yes => next = Next::Go,
                Asked::Missing => return Ok(Next::Gone),
                Asked::Impossible => {
                    tracing::warn!(
                        feed = self.stream.feed,
                        stream = self.stream.name,
                        "the transmitter sends no verifications: whether the stream works shows only when signals come"
                    );
                    *verify_at = None;
                }
            }
        }
        self.hear(every, told).await?;
        Ok(next)
    }

    /// Asks for a verification with a state that nobody can guess.
    async fn verify(&self) -> Result<Asked, Failure> {
        let state = Uuid::new_v4().simple().to_string();
        let (key, now) = (self.stream.key(), self.clock.now_ms());
        let asked = state.clone();
        // First, for the event may come before the answer.
        in_store(self.store, move |store| verification_states::ask(store, &key, &asked, now)).await?;
        verification::ask(self.session, &self.record.id, &state).await
    }

    /// Looks whether a verification has come, and whether one is overdue.
    async fn hear(&mut self, every: Duration, told: &mut u64) -> Result<(), Failure> {
        let key = self.stream.key();
        let known = in_store(self.store, move |store| verification_states::known(store, &key)).await?;
        let is_new = known.heard > self.condition.snapshot().verified;
        if is_new {
            self.condition.note(|now| now.verified = known.heard);
            self.repeated.went_well(&self.stream.name);
        }
        // The stream was made or found after older ones were answered.
        let works = known.answered >= self.record.since && known.answered > 0;
        if let Some(trouble) = self.record.trouble
            && known.answered > trouble
            && matches!(self.record.status.as_deref(), None | Some("enabled"))
        {
            self.note_status(Status::Enabled, known.answered).await?;
            self.record.trouble = None;
            record::save(self.store, self.stream, &self.record).await?;
            tracing::info!(feed = self.stream.feed, stream = self.stream.name, "the stream works again");
        }
        let phase = match self.record.status.as_deref() {
            Some("paused") => Phase::Paused,
            Some("disabled") => Phase::Disabled,
            _ if works => Phase::Enabled,
            _ => Phase::Unverified,
        };
        self.condition.note(|now| now.phase = phase);
        let late = every.saturating_mul(3).saturating_add(PATIENCE);
        let waited = self.clock.now_ms().saturating_sub(known.heard.max(self.record.since).max(*told));
        if known.asked > known.heard && Duration::from_millis(waited) > late {
            *told = self.clock.now_ms();
            let what = format!("no verification has come for {} s", waited / 1_000);
            return Err(Failure::new(
                Step::Verification,
                what,
                "ask the operator of the transmitter whether the stream works",
            ));
        }
        Ok(())
    }

    /// Reads the stream and its status. Returns whether it is as it should be.
    async fn check(&mut self) -> Result<bool, Failure> {
        let now = self.clock.now_ms();
        let Some(found) = streams::get(self.session, &self.record.id).await? else {
            self.note_status(Status::Disabled, now).await?;
            return Ok(false);
        };
        let endpoint = found.endpoint.as_ref().map(|url| url.to_string());
        if self.record.poll_endpoint.is_some() && endpoint != self.record.poll_endpoint {
            return Ok(false);
        }
        self.record.delivered = found.delivered;
        let said = match status::get(self.session, &self.record.id).await? {
            Said::Is(status, reason) if status != Status::Enabled => {
                self.note(status, reason, now).await?;
                // Perhaps the hub was silent for too long. A transmitter that wants it so keeps its status.
                match status::enable(self.session, &self.record.id).await {
                    Ok(said) => said,
                    Err(failure) => {
                        self.condition.failed(failure.step);
                        self.repeated.failed(&self.stream.name, &failure);
                        Said::Unknown
                    }
                }
            }
            said => said,
        };
        match said {
            Said::Missing => {
                self.note_status(Status::Disabled, now).await?;
                return Ok(false);
            }
            Said::Is(status, reason) => self.note(status, reason, now).await?,
            Said::Unknown => {}
        }
        // It said so by an event, and may be enabled again without one: a verification shows whether it works.
        if self.record.trouble.is_none() && self.intake.stream_status(self.stream) != Status::Enabled {
            self.record.trouble = Some(now);
        }
        record::save(self.store, self.stream, &self.record).await?;
        Ok(true)
    }

    /// Notes a status that the transmitter told.
    async fn note(&mut self, status: Status, reason: Option<String>, now: u64) -> Result<(), Failure> {
        if self.record.status.as_deref() != Some(status.as_str()) {
            let (feed, name, because) = (&self.stream.feed, &self.stream.name, reason.clone().unwrap_or_default());
            match status {
                Status::Enabled => tracing::info!(feed, stream = name, because, "the stream is enabled"),
                _ => tracing::warn!(
                    feed,
                    stream = name,
                    status = status.as_str(),
                    because,
                    "the transmitter has stopped the stream"
                ),
            }
        }
        if status != Status::Enabled {
            self.note_status(status, now).await?;
            self.record.trouble = Some(now);
        }
        (self.record.status, self.record.reason) = (Some(status.as_str().to_owned()), reason);
        Ok(())
    }

    async fn note_status(&self, status: Status, now: u64) -> Result<(), Failure> {
        let noted = self.intake.note_stream(self.stream, status, Timestamp(now / 1_000)).await;
        noted.map_err(|error| Failure::new(Step::Store, error.to_string(), "look at the store of the hub"))
    }

    fn verify_every(&self) -> Duration {
        let least = Duration::from_secs(self.record.min_verification_interval.unwrap_or_default());
        self.stream.verify.max(least).min(LONGEST_INTERVAL)
    }

    fn check_every(&self) -> Duration {
        if self.record.trouble.is_some() {
            return CHECK_IN_TROUBLE;
        }
        let half = self.record.inactivity_timeout.map(|seconds| Duration::from_secs((seconds / 2).max(1)));
        half.unwrap_or(CHECK).min(CHECK)
    }
}

/// What an upkeep step found.
enum Next {
    /// Something was asked for, and went well.
    Go,
    /// There was nothing to do.
    Wait,
    /// The stream is gone or differs.
    Gone,
}

fn after(pause: Duration) -> Instant {
    Instant::now().checked_add(pause).unwrap_or_else(Instant::now)
}

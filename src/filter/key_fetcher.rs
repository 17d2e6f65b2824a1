//! Fetched keys: the HTTP calls of this VM, the keys that it took over from other VMs, and its requests that wait for
//! keys.
//!
//! `taskfence_core::keys::fetch` decides who fetches, and when. This file moves the bytes. Only the root context makes
//! calls, because the proxy cancels the calls of a stream when the stream ends.

use crate::host::{self, BufferType, Counter, Gauge, Headers, HostError, MapType};
use crate::metrics::metric_name;
use crate::parked_request::Waited;
use crate::ports::SharedData;
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;
use taskfence_core::decision::judge::Judge;
use taskfence_core::index::IssuerIndex;
use taskfence_core::jose::key::{Key, KeyError};
use taskfence_core::keys::fetch::{self, Chance, FetchError, Published, Status};
use taskfence_core::keys::keyring::{self, Authorization, MAX_JWKS, Owner, Source};
use taskfence_core::keys::parked::{Parked, Progress, WaitFor};
use taskfence_core::keys::retrieval::{ACCEPT, ACCEPT_ENCODING, Answer, Retrieval, Step, Target};
use taskfence_core::policy::policy::Policy;
use taskfence_core::time::{Span, Timestamp};

/// How often [`KeyFetcher::on_tick`] is to be called, in milliseconds.
pub const TICK: u32 = 100;

/// While no request waits and every owner has keys, only one of so many ticks reads the status.
const IDLE_TICKS: u32 = 10;

/// Of an error that repeats at every tick, one in so many is logged: one in a minute.
const ERROR_TICKS: u32 = 600;

/// At most so many waiting requests are answered or resumed in one callback. This is less than the budget of the
/// callback, because another of our filters may answer a resumed request in the same callback.
const MOST_AT_ONCE: usize = 50;

/// The time-out of the call that asks how large a set is. A lease is longer than the call before it by the same time.
const MEASURE: Duration = Duration::from_secs(1);

/// What one plugin in one VM does about fetched keys.
#[derive(Debug)]
pub struct KeyFetcher {
    /// The random number of this VM as a holder of leases. Not 0.
    me: u64,
    owners: Vec<Owner>,
    /// Calls that are under way.
    calls: RefCell<Vec<Call>>,
    /// Whose keys an unknown `kid` asked for.
    wanted: RefCell<Vec<Owner>>,
    waiting: RefCell<Parked<(Headers, Rc<Waited>)>>,
    ticks: Cell<u32>,
    metrics: Metrics,
}

/// A call that is under way.
#[derive(Debug, Clone)]
struct Call {
    number: u32,
    owner: Owner,
    purpose: Purpose,
    retrieval: Retrieval,
    /// When the whole retrieval must have ended, in milliseconds.
    deadline: u64,
}

/// What a call is for.
#[derive(Debug, Clone, Copy)]
enum Purpose {
    /// Gets the document.
    Fetch,
    /// Asks how large the document is, after a fetch ended without an answer. The proxy drops an answer that is larger
    /// than its buffer, and does not say why the call ended.
    Measure,
}

#[derive(Debug)]
struct Metrics {
    fetched: Counter,
    failed: Vec<(&'static str, Counter)>,
    bad_keys: Counter,
    waited: Counter,
    not_waited: Counter,
    fetched_at: Vec<(Owner, Gauge)>,
}

/// Whether the keys that a verdict lacked can still come.
#[derive(Debug)]
pub enum Lacking {
    /// No other keys will come: the verdict stands.
    Nothing,
    /// Keys that are here now: judge again.
    TakenOver,
    /// Keys that may come.
    ToCome(Wait),
}

/// What a request may wait for, and how long.
#[derive(Debug, Clone, Copy)]
pub struct Wait {
    issuer: IssuerIndex,
    reason: WaitFor,
    deadline: u64,
}

impl KeyFetcher {
    /// For a plugin with that policy.
    pub fn new(policy: &Policy) -> Result<KeyFetcher, String> {
        let mut me = [0; 8];
        getrandom::fill(&mut me).map_err(|error| error.to_string())?;
        let owners: Vec<Owner> = policy.needed_keys().map(|(owner, ..)| owner).collect();
        let issuers = owners.iter().filter(|owner| matches!(owner, Owner::Issuer(_))).count();
        let gauge = |(owner, _, keys): (Owner, &str, &keyring::Keyring)| {
            let cluster = keys.source().map_or("", |source| &source.cluster);
            (owner, Gauge::define(&format!("taskfence.keys_fetched_at.{}", metric_name(cluster))))
        };
        let metrics = Metrics {
            fetched: Counter::define("taskfence.keys_fetched"),
            failed: FetchError::CAUSES
                .map(|cause| (cause, Counter::define(&format!("taskfence.keys_fetch_failed.{cause}"))))
                .to_vec(),
            bad_keys: Counter::define("taskfence.keys_refused"),
            waited: Counter::define("taskfence.requests_waited"),
            not_waited: Counter::define("taskfence.requests_not_waited"),
            fetched_at: policy.needed_keys().map(gauge).collect(),
        };
        Ok(KeyFetcher {
            me: u64::from_le_bytes(me).max(1),
            owners,
            calls: RefCell::default(),
            wanted: RefCell::default(),
            waiting: RefCell::new(Parked::shared_by(issuers)),
            ticks: Cell::new(0),
            metrics,
        })
    }

    /// Sets up the shared memory, and takes over keys that other VMs have fetched. `true`: there is something to fetch,
    /// so [`KeyFetcher::on_tick`] must be called.
    ///
    /// Nothing is fetched here. The proxy discards the first VM that it configures, and its lease would block the
    /// others.
    pub fn set_up(&self, judge: &RefCell<Judge>) -> Result<bool, String> {
        let sources = self.sources(judge);
        for (owner, source) in &sources {
            fetch::set_up(&mut SharedData, source.id()).map_err(|error| error.to_string())?;
            if let Ok(status) = fetch::status(&mut SharedData, source.id()) {
                self.follow(judge, *owner, source, &status);
            }
        }
        Ok(!sources.is_empty())
    }

    /// Takes over new keys and fetches the sets that are due. Returns the streams that need not wait any
    /// longer: [`KeyFetcher::take`] each and resume it.
    pub fn on_tick(&self, judge: &RefCell<Judge>) -> Vec<u32> {
        let tick = self.ticks.get();
        self.ticks.set(tick.wrapping_add(1));
        let Some(now) = now() else { return Vec::new() };
        let idle = self.waiting.try_borrow().is_ok_and(|waiting| waiting.is_empty())
            && self.wanted.try_borrow().is_ok_and(|wanted| wanted.is_empty())
            && self.owners.iter().all(|owner| is_usable(judge, *owner, now));
        if idle && !tick.is_multiple_of(IDLE_TICKS) {
            return Vec::new();
        }
        let sources = self.sources(judge);
        for (owner, source) in &sources {
            self.look_after(judge, *owner, source, now);
        }
        self.ready(judge, &sources, now)
    }

    /// A call has been answered; `answered` is false when it ended without. Returns the streams that need not wait
    /// any longer: [`KeyFetcher::take`] each and resume it.
    pub fn on_call_response(&self, judge: &RefCell<Judge>, call: u32, answered: bool, body_size: usize) -> Vec<u32> {
        let call = self.calls.try_borrow_mut().ok().and_then(|mut calls| {
            let at = calls.iter().position(|known| known.number == call)?;
            Some(calls.swap_remove(at))
        });
        let sources = self.sources(judge);
        let source = |call: &Call| sources.iter().find(|(known, _)| *known == call.owner);
        let Some((call, (owner, source))) = call.and_then(|call| source(&call).map(|found| (call, found))) else {
            return Vec::new();
        };
        let Some(now) = now() else { return Vec::new() };
        let target = call.retrieval.target().clone();
        let failed = |error: &FetchError| self.failed(judge, *owner, source, &target, error, now);
        match (call.purpose, Response::of_call(answered, body_size)) {
            (Purpose::Measure, _) => failed(&measured(answered)),
            (Purpose::Fetch, Some(response)) => match call.retrieval.read(source, response.answer()) {
                Ok(Step::Set(jwks)) => self.publish(judge, *owner, source, &jwks, now),
                Ok(Step::Next(next)) => {
                    let target = next.target().clone();
                    if let Err(error) = self.call(*owner, source, Purpose::Fetch, next, call.deadline, now) {
                        self.failed(judge, *owner, source, &target, &error, now);
                    }
                }
                Err(error) => failed(&error),
            },
            (Purpose::Fetch, None) => {
                let measured = self.call(*owner, source, Purpose::Measure, call.retrieval, call.deadline, now);
                if measured.is_err() {
                    failed(&FetchError::NoAnswer);
                }
            }
        }
        self.ready(judge, &sources, now)
    }

    /// Parks the stream of that number with its `headers`. `false`: too many streams wait already.
    pub fn wait(&self, stream: u32, wait: Wait, headers: Headers, waited: Rc<Waited>) -> bool {
        let Wait { issuer, reason, deadline } = wait;
        let waits = self
            .waiting
            .try_borrow_mut()
            .is_ok_and(|mut waiting| waiting.add(stream, issuer, reason, deadline, headers.size(), (headers, waited)));
        if waits {
            self.metrics.waited.increment()
        } else {
            self.metrics.not_waited.increment()
        }
        waits
    }

    /// Removes the stream of that number from the waiting ones, because it is resumed or has ended. Returns its headers
    /// as they came, and the record that it shares with its context. `None` if it does not wait.
    pub fn take(&self, stream: u32) -> Option<(Headers, Rc<Waited>)> {
        self.waiting.try_borrow_mut().ok()?.take(stream)
    }

    /// Asks for keys of `owner`. `true`: another VM had fetched newer ones, and this VM has them now. Otherwise they
    /// are fetched as soon as the times between fetches allow it.
    pub fn ask(&self, judge: &RefCell<Judge>, owner: Owner) -> bool {
        let Some(source) = source_of(judge, owner) else { return false };
        let Ok(status) = fetch::status(&mut SharedData, source.id()) else { return false };
        if self.follow(judge, owner, &source, &status) {
            return true;
        }
        // If there are no keys, a fetch is due without a request for it.
        if now().is_some_and(|now| is_usable(judge, owner, now)) {
            self.want(owner);
        }
        false
    }

    fn want(&self, owner: Owner) {
        if let Ok(mut wanted) = self.wanted.try_borrow_mut()
            && !wanted.contains(&owner)
        {
            wanted.push(owner);
        }
    }

    fn sources(&self, judge: &RefCell<Judge>) -> Vec<(Owner, Source)> {
        self.owners.iter().filter_map(|owner| Some((*owner, source_of(judge, *owner)?))).collect()
    }

    fn look_after(&self, judge: &RefCell<Judge>, owner: Owner, source: &Source, now: u64) {
        let status = match fetch::status(&mut SharedData, source.id()) {
            Ok(status) => status,
            Err(error) => {
                if self.is_to_be_logged() {
                    log::error!("{}: {error}", about(judge, owner, source));
                }
                return;
            }
        };
        self.follow(judge, owner, source, &status);
        let wanted = self.wanted.try_borrow_mut().is_ok_and(|mut wanted| {
            let before = wanted.len();
            wanted.retain(|known| *known != owner);
            wanted.len() < before
        });
        match fetch::begin(&mut SharedData, source, now, self.me, wanted) {
            Ok(true) => {
                let retrieval = Retrieval::start(source);
                let target = retrieval.target().clone();
                let deadline = now.saturating_add(fetch::millis(source.timeout));
                if let Err(error) = self.call(owner, source, Purpose::Fetch, retrieval, deadline, now) {
                    self.failed(judge, owner, source, &target, &error, now);
                }
            }
            Ok(false) => {}
            Err(error) if self.is_to_be_logged() => log::error!("{}: {error}", about(judge, owner, source)),
            Err(_) => {}
        }
    }

    /// Errors of the shared memory repeat at every tick, so only some are logged.
    fn is_to_be_logged(&self) -> bool {
        self.ticks.get() % ERROR_TICKS == 1
    }

    /// Takes over the keys that other VMs have fetched, as `status` says. `true`: the keys are other ones, or the same
    /// keys were fetched again later.
    fn follow(&self, judge: &RefCell<Judge>, owner: Owner, source: &Source, status: &Status) -> bool {
        let Ok(mut judge) = judge.try_borrow_mut() else { return false };
        let Some(keys) = judge.keyring_mut(owner) else { return false };
        if status.generation == keys.generation() {
            let before = keys.fetched_at();
            if status.generation != 0 {
                keys.confirm(status.fetched_second());
            }
            return keys.fetched_at() != before;
        }
        let record = match fetch::record(&mut SharedData, source.id()) {
            Ok(record) => record,
            Err(error) => {
                log::error!("the fetched keys of cluster `{}` cannot be read: {error}", source.cluster);
                return false;
            }
        };
        let taken = keyring::read_jwks(&record.jwks).map_err(|error| error.to_string()).and_then(|jwks| {
            let adopted = keys.adopt(&jwks, record.generation, status.fetched_second());
            adopted.map_err(|error| error.to_string())
        });
        if let Err(error) = &taken {
            log::error!("the fetched keys of cluster `{}` cannot be used: {error}", source.cluster);
        }
        if taken.is_ok() {
            judge.keys_changed();
        }
        taken.is_ok()
    }

    /// Sends the request of `retrieval`.
    fn call(
        &self,
        owner: Owner,
        source: &Source,
        purpose: Purpose,
        retrieval: Retrieval,
        deadline: u64,
        now: u64,
    ) -> Result<(), FetchError> {
        let left = Duration::from_millis(deadline.saturating_sub(now));
        let (method, timeout) = match purpose {
            // To the proxy a time-out of 0 means none.
            Purpose::Fetch if left.is_zero() => return Err(FetchError::Status(504)),
            Purpose::Fetch => ("GET", left),
            Purpose::Measure => ("HEAD", MEASURE),
        };
        let mut more = vec![("accept-encoding", ACCEPT_ENCODING)];
        match &source.authorization {
            Some(Authorization::Value(value)) if retrieval.is_authorized(source) => more.push(("authorization", value)),
            // The configuration is refused where a filter would have to read a file.
            Some(Authorization::Value(_) | Authorization::File(_)) | None => {}
        }
        let Target { cluster, host, path } = retrieval.target();
        let number = host::call(cluster, method, host, path, ACCEPT, &more, timeout).map_err(|error| match error {
            HostError::BadArgument => FetchError::ClusterMissing,
            HostError::NotFound | HostError::CasMismatch | HostError::Other(_) => FetchError::Unreachable,
        })?;
        if let Ok(mut calls) = self.calls.try_borrow_mut() {
            calls.push(Call { number, owner, purpose, retrieval, deadline });
        }
        Ok(())
    }

    fn publish(&self, judge: &RefCell<Judge>, owner: Owner, source: &Source, jwks: &[u8], now: u64) {
        let failures = fetch::status(&mut SharedData, source.id()).map_or(0, |status| status.failures);
        let published = match fetch::succeed(&mut SharedData, source, self.me, jwks, now, chance()) {
            Ok(published) => published,
            Err(error) => return log::error!("{}: {error}", about(judge, owner, source)),
        };
        let (status, changed) = match published {
            Published::Changed(status) => (status, true),
            Published::Unchanged(status) => (status, false),
            Published::Late => return,
        };
        self.metrics.fetched.increment();
        if let Some((_, gauge)) = self.metrics.fetched_at.iter().find(|(known, _)| *known == owner) {
            gauge.set(status.fetched_at / 1_000);
        }
        self.follow(judge, owner, source, &status);
        let next = pause(status.due_at(source), now);
        let about = about(judge, owner, source);
        if failures > 0 {
            log::info!("{about}: fetched again after {failures} failures");
        }
        if !changed {
            return log::debug!("{about}: unchanged, next fetch in {next}");
        }
        self.log_bad_keys(judge, owner, &about, jwks);
        let kids = kids(judge, owner);
        match kids.is_empty() {
            true => log::error!(
                "{about}: no usable key in the set, so all tokens or signals of this issuer are refused; next fetch in {next}"
            ),
            false => log::info!("{about}: fetched, keys {}; next fetch in {next}", kids.join(", ")),
        }
    }

    /// Logs and counts the keys that are not used. Only the worker that fetched the set does this.
    fn log_bad_keys(&self, judge: &RefCell<Judge>, owner: Owner, about: &str, jwks: &[u8]) {
        for (at, error) in bad_keys(judge, owner, jwks) {
            self.metrics.bad_keys.increment();
            // The text comes from the issuer, so it is shortened and escaped.
            log::warn!("{about}: keys[{at}] is not used: {}", shown(&error.to_string()));
        }
    }

    fn failed(
        &self,
        judge: &RefCell<Judge>,
        owner: Owner,
        source: &Source,
        target: &Target,
        error: &FetchError,
        now: u64,
    ) {
        if let Some((_, counter)) = self.metrics.failed.iter().find(|(cause, _)| *cause == error.cause()) {
            counter.increment();
        }
        let about = about(judge, owner, source);
        match fetch::fail(&mut SharedData, source, self.me, now, chance()) {
            Ok(Some(status)) => {
                let next = pause(status.due_at(source), now);
                let age = pause(now, status.fetched_at);
                let left = match (status.generation, is_usable(judge, owner, now)) {
                    (0, _) => "there are no keys yet, so its requests wait and are then refused".to_owned(),
                    (_, true) => format!("the keys fetched {age} ago stay in use"),
                    (_, false) => {
                        format!("the keys fetched {age} ago are too old, so its requests wait and are then refused")
                    }
                };
                // A long outage repeats this, so only the 1st, 2nd, 4th, 8th ... failure is a warning.
                let level = if status.failures.is_power_of_two() { log::Level::Warn } else { log::Level::Debug };
                let failures = status.failures;
                let error = shown(&format!("{}{error}", elsewhere(source, target)));
                log::log!(level, "{about}: fetch {failures} in a row failed: {error}; {left}; next try in {next}");
            }
            Ok(None) => {}
            Err(store) => log::error!("{about}: {store}"),
        }
    }

    /// Says what to do with a request that was refused because keys of `issuer` were lacking.
    pub fn lacking(&self, judge: &RefCell<Judge>, issuer: IssuerIndex) -> Lacking {
        let owner = Owner::Issuer(issuer);
        let (Some(source), Some(now)) = (source_of(judge, owner), now()) else { return Lacking::Nothing };
        let Ok(status) = fetch::status(&mut SharedData, source.id()) else { return Lacking::Nothing };
        if self.follow(judge, owner, &source, &status) {
            return Lacking::TakenOver;
        }
        let reason = match is_usable(judge, owner, now) {
            false => WaitFor::Keys,
            true if status.can_bring_more(&source, now) => WaitFor::Refetch(status.ended),
            true => return Lacking::Nothing,
        };
        self.want(owner);
        match source.wait {
            Span(0) => Lacking::Nothing,
            wait => Lacking::ToCome(Wait { issuer, reason, deadline: now.saturating_add(fetch::millis(wait)) }),
        }
    }

    /// The streams that need not wait any longer, [`MOST_AT_ONCE`] at most.
    fn ready(&self, judge: &RefCell<Judge>, sources: &[(Owner, Source)], now: u64) -> Vec<u32> {
        if !self.waiting.try_borrow().is_ok_and(|waiting| !waiting.is_empty()) {
            return Vec::new();
        }
        let progress = progress(judge, sources, now);
        let progress = |issuer| {
            let found = progress.iter().find(|(known, _)| *known == Owner::Issuer(issuer));
            found.map_or(Progress { usable: false, ended: 0 }, |(_, progress)| *progress)
        };
        self.waiting.try_borrow().map_or_else(|_| Vec::new(), |waiting| waiting.ready(now, MOST_AT_ONCE, progress))
    }
}

fn progress(judge: &RefCell<Judge>, sources: &[(Owner, Source)], now: u64) -> Vec<(Owner, Progress)> {
    let progress = |(owner, source): &(Owner, Source)| {
        let ended = fetch::status(&mut SharedData, source.id()).map_or(0, |status| status.ended);
        (*owner, Progress { usable: is_usable(judge, *owner, now), ended })
    };
    sources.iter().map(progress).collect()
}

/// Whether there are keys of `owner` that may be used at `now`, in milliseconds.
fn is_usable(judge: &RefCell<Judge>, owner: Owner, now: u64) -> bool {
    let now = Timestamp(now / 1_000);
    judge.try_borrow().is_ok_and(|judge| judge.policy().keyring(owner).is_some_and(|keys| keys.current(now).is_some()))
}

/// The answer of the current call.
struct Response {
    headers: Headers,
    length: usize,
    body: Vec<u8>,
}

impl Response {
    /// `None` when the call ended without an answer.
    fn of_call(answered: bool, length: usize) -> Option<Response> {
        let headers = answered.then(|| host::headers(MapType::CallResponseHeaders).ok()).flatten()?;
        let body = match length.min(MAX_JWKS) {
            0 => Vec::new(),
            most => host::buffer(BufferType::CallResponseBody, most).ok()?,
        };
        Some(Response { headers, length, body })
    }

    fn answer(&self) -> Answer<'_> {
        let value = |wanted: &[u8]| self.headers.iter().find(|(name, _)| *name == wanted).map(|(_, value)| value);
        let status = value(b":status").and_then(|value| std::str::from_utf8(value).ok()?.parse().ok()).unwrap_or(0);
        let (location, encoding) = (value(b"location"), value(b"content-encoding"));
        Answer { status, location, encoding, length: self.length, body: &self.body }
    }
}

/// Why a fetch got no answer. The current call is a HEAD for the same document, so its `content-length` tells the size.
fn measured(answered: bool) -> FetchError {
    let headers = answered.then(|| host::headers(MapType::CallResponseHeaders).ok()).flatten();
    let value = |wanted: &[u8]| {
        let (_, value) = headers.as_ref()?.iter().find(|(name, _)| *name == wanted)?;
        std::str::from_utf8(value).ok()
    };
    match (value(b":status"), value(b"content-length").map(str::parse::<usize>)) {
        (Some("200"), Some(Ok(length))) if length > MAX_JWKS => keyring::JwksError::TooLarge(length).into(),
        // A server that makes its answers as it sends them does not know their length. It is there, and has the document.
        (Some("200"), None) => keyring::JwksError::Dropped.into(),
        _ => FetchError::NoAnswer,
    }
}

/// Which request failed, if it is not the first of the source.
fn elsewhere(source: &Source, target: &Target) -> String {
    match *target == *Retrieval::start(source).target() {
        true => String::new(),
        false => format!("{}{}: ", target.host, target.path),
    }
}

fn bad_keys(judge: &RefCell<Judge>, owner: Owner, jwks: &[u8]) -> Vec<(usize, KeyError)> {
    let Ok(jwks) = keyring::read_jwks(jwks) else { return Vec::new() };
    judge.try_borrow().ok().and_then(|judge| judge.policy().keyring(owner)?.problems(&jwks)).unwrap_or_default()
}

fn kids(judge: &RefCell<Judge>, owner: Owner) -> Vec<String> {
    let Ok(judge) = judge.try_borrow() else { return Vec::new() };
    let Some(keys) = judge.policy().keyring(owner) else { return Vec::new() };
    let name = |key: &Key| key.kid().map_or_else(|| "one without `kid`".to_owned(), |kid| format!("`{}`", shown(kid)));
    keys.last().iter().map(name).collect()
}

fn source_of(judge: &RefCell<Judge>, owner: Owner) -> Option<Source> {
    judge.try_borrow().ok()?.policy().keyring(owner)?.source().cloned()
}

/// The owner of the keys and their source, for the log.
fn about(judge: &RefCell<Judge>, owner: Owner, source: &Source) -> String {
    let judge = judge.try_borrow();
    let name = judge.as_ref().ok().and_then(|judge| match owner {
        Owner::Issuer(at) => judge.policy().issuer(at).map(|issuer| issuer.name.as_str()),
        Owner::Transmitter(at) => judge.policy().signals().transmitter(at).map(|one| one.name.as_str()),
    });
    let name = name.unwrap_or_default();
    format!("keys of `{name}` from cluster `{}`, {}{}", source.cluster, source.host, source.path)
}

/// Text of the issuer for the log: in one line, escaped, 200 characters at most.
fn shown(text: &str) -> String {
    text.chars().take(200).flat_map(char::escape_debug).collect()
}

/// The time from `earlier` to `later`, both in milliseconds, as text for people.
fn pause(later: u64, earlier: u64) -> String {
    let milliseconds = later.saturating_sub(earlier);
    match milliseconds {
        0..10_000 => format!("{}.{}s", milliseconds / 1_000, milliseconds % 1_000 / 100),
        _ => Span(milliseconds / 1_000).to_string(),
    }
}

/// Milliseconds since 1970.
fn now() -> Option<u64> {
    host::now_nanoseconds().ok().map(|nanoseconds| nanoseconds / 1_000_000)
}

/// A random number for the jitter. If the proxy has no random numbers there is no jitter, and keys are fetched all the
/// same.
fn chance() -> Chance {
    let mut bytes = [0; 2];
    let _ = getrandom::fill(&mut bytes);
    Chance(u16::from_le_bytes(bytes))
}

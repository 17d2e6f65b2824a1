//! A running hub: opens its parts, serves them, and ends them in order.

use crate::access::authenticate::{Access, Now, authenticate};
use crate::access::certificate::CertificateRules;
use crate::access::known_tokens::KnownTokens;
use crate::access::principal::Principal;
use crate::access::sources::Sources;
use crate::api::audit_log;
use crate::api::audit_trail::AuditTrail;
use crate::api::call::{Api, READERS, allow_all_feeds};
use crate::api::operations::Operations;
use crate::api::routes;
use crate::config::hub::Hub;
use crate::config::role::Role;
use crate::evidence;
use crate::evidence::measures::watch::Watch;
use crate::evidence::senders::Senders;
use crate::evidence::service::Evidence;
use crate::evidence::upkeep::{self, Upkeep};
use crate::evidence::uses::{self, Uses};
use crate::feed::keys::{KeyRing, Keys, KeysError, PrivateKey};
use crate::feed::{self, Feeds, Settings};
use crate::health::{self, Ahead, Findings, Health};
use crate::intake;
use crate::intake::service::Intake;
use crate::intake::upkeep::Surroundings;
use crate::metrics::{self, Metrics};
use crate::operations::Parts;
use crate::problem::Problem;
use crate::relay;
use crate::relay::server::Relay;
use crate::repeated::Repeated;
use crate::replicas::configuration::other_config;
use crate::replicas::member::{self, HeldKeys};
use crate::replicas::standing::{Replica, SETTLE, Standing};
use crate::replicas::turn::{Turn, UPKEEP};
use crate::serve::serve;
use crate::ssf::manager::ManagedStreams;
use crate::store::clock::{Clock, StoreTime};
use crate::store::lease::Lease;
use crate::store::model::StoreError;
use crate::store::pruning::Pruning;
use crate::store::writer::Writer;
use crate::store::{self, Store};
use crate::streams;
use crate::streams::service::{Needs, Streams};
use crate::tls::{Tls, TlsError};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Extension, Router};
use std::fs::{self, File, TryLockError};
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::net::{TcpListener, TcpSocket};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet, spawn_blocking};

/// The folder of the signing keys, below `data`.
pub const KEYS: &str = "keys";

/// Tokens, signing keys, health and TLS files are looked at this often.
const TICK: Duration = Duration::from_secs(1);

/// So many connections may wait to be accepted; the kernel may allow fewer.
const BACKLOG: u32 = 4_096;

/// A statement is sent for so long after it was signed, or a little less.
const SIGNED: Duration = Duration::from_secs(2);

/// That a proxy came with entries of another store is told for so long, in milliseconds.
const FOREIGN: u64 = 3_600_000;

/// How to write the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// Lines to read.
    Text,
    /// A JSON object for each line.
    Json,
}

/// Why a hub does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The folder of the data cannot be used.
    #[error("cannot use `{}`: {reason}; make it a folder that only the hub's user may read", path.display())]
    Data {
        /// The folder.
        path: PathBuf,
        /// Why.
        reason: io::Error,
    },
    /// Another hub runs with the same data.
    #[error("another hub runs with the data in `{}`: end it first, or give this one another `data`", .0.display())]
    Running(PathBuf),
    /// The store cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The intake cannot start.
    #[error(transparent)]
    Intake(#[from] intake::service::StartError),
    /// The hub cannot be a transmitter.
    #[error(transparent)]
    Streams(#[from] streams::service::StartError),
    /// The signing keys cannot be used.
    #[error(transparent)]
    Keys(#[from] KeysError),
    /// The files of `listen.tls` cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// It cannot listen.
    #[error("cannot listen on {address}: {reason}; choose another `listen.address`, or end what uses it")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        reason: io::Error,
    },
    /// The relay cannot start.
    #[error(transparent)]
    Relay(#[from] relay::server::StartError),
    /// The process cannot get what it needs of the system.
    #[error("the system does not let the hub run: {0}")]
    System(io::Error),
}

/// Makes the folder of the data if there is none; only its owner may read it.
pub fn make_data(hub: &Hub) -> Result<(), StartError> {
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(&hub.data);
    made.map_err(|reason| StartError::Data { path: hub.data.clone(), reason })
}

/// Opens the store of `hub` for a command, also while the hub runs.
pub fn open_store(hub: &Hub) -> Result<Arc<dyn Store>, StartError> {
    make_data(hub)?;
    Ok(store::open::open(hub, store::open::For::Command)?)
}

/// Runs `hub` until SIGTERM or SIGINT. `config` is the hash of its configuration; `drain` is how long it goes on to
/// listen after the signal, while it says that it is not ready.
pub fn run(hub: Hub, config: &str, format: LogFormat, drain: Duration) -> Result<(), StartError> {
    log(format).map_err(StartError::System)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(StartError::System)?;
    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate()).map_err(StartError::System)?;
        let mut interrupt = signal(SignalKind::interrupt()).map_err(StartError::System)?;
        let running = match &hub.follow {
            Some(_) => Running::Relay(start_relay(hub)?),
            None => Running::Hub(Server::start(hub, config).await?),
        };
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        match running {
            Running::Relay((relay, _lock)) => relay.stop(drain).await,
            Running::Hub(server) => server.stop(drain).await,
        }
        Ok(())
    })
}

/// What runs.
enum Running {
    Hub(Server),
    /// With the lock on its data.
    Relay((Relay, File)),
}

/// Starts the relay `hub`; the lock on its data comes with it.
fn start_relay(hub: Hub) -> Result<(Relay, File), StartError> {
    make_data(&hub)?;
    let lock = lock(&hub)?;
    let store = open_store(&hub)?;
    let address = hub.listen.address;
    let listener = listen(address).map_err(|reason| StartError::Listen { address, reason })?;
    let relay = Relay::start(hub, store, listener)?;
    tracing::info!(%address, version = env!("CARGO_PKG_VERSION"), "the relay listens");
    Ok((relay, lock))
}

/// Logs to standard error by a handle of its own: the command line holds the lock of the other one while the hub runs, and
/// every thread that logs would wait for it.
fn log(format: LogFormat) -> io::Result<()> {
    use tracing_subscriber::EnvFilter;
    let file = File::from(io::stderr().as_fd().try_clone_to_owned()?);
    let filter = EnvFilter::try_from_env("TASKFENCE_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(Mutex::new(file));
    // A second logger in one process, as in tests, changes nothing.
    _ = match format {
        LogFormat::Text => builder.with_ansi(false).try_init(),
        LogFormat::Json => builder.json().try_init(),
    };
    Ok(())
}

/// A hub that runs.
pub struct Server {
    address: SocketAddr,
    health: Arc<Health>,
    parts: Arc<Parts>,
    store: Arc<dyn Store>,
    audit: Arc<AuditTrail>,
    evidence: Arc<Evidence>,
    evidence_upkeep: Option<Upkeep>,
    evidence_watch: Option<Watch>,
    stop: watch::Sender<bool>,
    listener: JoinHandle<()>,
    feeds: JoinHandle<()>,
    ticker: JoinHandle<()>,
    upkeep: JoinHandle<()>,
    streams: Option<JoinHandle<()>>,
    /// What keeps up with other replicas.
    beside: JoinSet<()>,
    /// This one among others, if there may be any.
    replica: Option<Arc<Replica>>,
    // The lock is held while the hub runs.
    _lock: File,
}

impl Server {
    /// Starts `hub`; `config` is the hash of its configuration.
    pub async fn start(hub: Hub, config: &str) -> Result<Server, StartError> {
        make_data(&hub)?;
        let lock = lock(&hub)?;
        let (store, shared) = (store::open::open(&hub, store::open::For::Hub)?, hub.postgres.is_some());
        Server::start_over(store, shared, (hub, config), lock).await
    }

    /// Starts it over `store`; `shared`: other processes may be over the same.
    async fn start_over(
        store: Arc<dyn Store>,
        shared: bool,
        (hub, config): (Hub, &str),
        lock: File,
    ) -> Result<Server, StartError> {
        let name = member::name();
        // If this turns out to be an older copy of the store, it is complete until then.
        let complete_until = store.latest_time()?;
        let time = StoreTime::new(&*store)?;
        let clock = match shared {
            true => {
                let time = time.clone();
                Clock::with_system(&*store, move || time.now_ms())?
            }
            false => Clock::new(&*store)?,
        };
        let names: Vec<_> = hub.feeds.iter().map(|feed| feed.name.clone()).collect();
        if !shared {
            feed::coverage::renew(&*store, &hub, clock.now())?;
        }
        let writer = Writer::start(Arc::clone(&store), clock.clone(), &names)?;
        let replica = Arc::new(Replica {
            name: name.clone(),
            config: config.to_owned(),
            started: clock.now_ms(),
            store: Arc::clone(&store),
            time,
        });
        if shared {
            // Nothing before the first look.
            writer.permit(Some(Instant::now()));
        }
        // Before the feeds are opened, so that no commit is missed.
        let committed = writer.committed();
        let among = shared.then_some(&*name);
        let intake = Intake::start_as(among, (&hub, config), Arc::clone(&store), writer.clone(), clock.clone())?;
        let keys = Arc::new(Keys::open(&hub.data.join(KEYS))?);
        let now: Now = {
            let clock = clock.clone();
            Arc::new(move || clock.now_ms())
        };
        let issuers: feed::Issuers = {
            let (intake, replica) = (intake.clone(), Arc::clone(&replica));
            Arc::new(move |feed, now| {
                if shared {
                    replica.check_accepted()?;
                }
                intake.issuer_status_of_all(feed, now)
            })
        };
        let settings = Settings {
            max_loaders: hub.limits.full_states,
            max_followers: hub.limits.followers,
            max_of_principal: hub.limits.followers_per_principal,
            replica: name.clone(),
            shared,
            ..Settings::new(&hub.name)
        };
        let feeds = Feeds::open(settings, &names, Arc::clone(&store), keys, (Arc::clone(&now), issuers))?;
        let evidence = evidence::open::start(&hub, Arc::clone(&now)).map_err(StartError::System)?;
        let managed = ManagedStreams::start(&hub, &name, &store, &intake, &clock);
        let tokens = KnownTokens::open(Arc::clone(&store), now())?;
        let certificates = CertificateRules::new(hub.access.clone());
        let access = Arc::new(Access::new(tokens, certificates, &hub, Arc::clone(&now)));
        let (stop, stopped) = watch::channel(false);
        let needs = Needs {
            store: Arc::clone(&store),
            writer: writer.clone(),
            now,
            may_receive: {
                let access = Arc::clone(&access);
                Arc::new(move |principal, feed| access.may(principal, Role::Receiver, feed))
            },
            is_accepted: {
                let replica = Arc::clone(&replica);
                Arc::new(move || if shared { replica.check_accepted() } else { Ok(()) })
            },
            replica: name.clone(),
            stop: stopped.clone(),
        };
        let streams = Streams::open(&hub, &hub.data.join(KEYS), needs)?;
        let (feeds_of_parts, streams_of_parts) = (Arc::clone(&feeds), streams.clone());
        let parts =
            Parts { intake: intake.clone(), writer, feeds: feeds_of_parts, streams: streams_of_parts, managed, clock };
        let parts = Arc::new(parts);
        let sources = Sources::new(hub.limits.connections_per_private_address, hub.limits.connections_per_address);
        let tls = hub.listen.tls.clone().map(Tls::read).transpose()?;
        let address = hub.listen.address;
        let listener = listen(address).map_err(|reason| StartError::Listen { address, reason })?;
        let address = listener.local_addr().map_err(|reason| StartError::Listen { address, reason })?;

        let health = Arc::new(Health::new(&name));
        let audit = Arc::<AuditTrail>::default();
        let kept = (Arc::clone(&audit), Arc::clone(&evidence));
        let metrics = Arc::new(Metrics::new(Arc::clone(&parts), Arc::clone(&health), kept));
        let operations: Arc<dyn Operations> = parts.clone();
        let hub = Arc::new(hub);
        let api = Api {
            store: Arc::clone(&store),
            operations,
            hub: Arc::clone(&hub),
            audit: Arc::clone(&audit),
            evidence: Arc::clone(&evidence),
        };
        let senders = Arc::<Senders>::default();
        let uses = Uses::new(Arc::clone(&evidence), Arc::clone(&hub), Arc::clone(&feeds), Arc::clone(&senders));
        let configured = Arc::clone(&hub);
        let router = router(&parts, (api, uses), metrics, &health, &access);

        let wait = |mut stopped: watch::Receiver<bool>| async move { _ = stopped.wait_for(|stop| *stop).await };
        let current = tls.as_ref().map(Tls::current);
        let served = serve(listener, router, current, sources, wait(stopped.clone()));
        let median_skew = Arc::new(Mutex::new(None));
        let (standing, stood) = watch::channel(Standing { is_accepted: !shared, ..Standing::default() });
        let ticker = Ticker {
            median_skew: Arc::clone(&median_skew),
            standing: stood.clone(),
            store: Arc::clone(&store),
            access,
            health: Arc::clone(&health),
            parts: Arc::clone(&parts),
            audit: Arc::clone(&audit),
            tls,
            config: config.to_owned(),
            complete_until,
            readiness: Repeated::new("the hub is not ready"),
            reading_tokens: Repeated::new("the tokens cannot be read"),
            noting_uses: Repeated::new("when tokens were last used cannot be stored; it is tried again"),
            reading_keys: Repeated::new("the signing keys cannot be read again; the old ones stay in use"),
            reading_set_keys: Repeated::new("the keys for SETs cannot be read again; the old ones stay in use"),
            reading_tls: Repeated::new("the files of `listen.tls` cannot be read again; the old ones stay in use"),
        };
        let mut pruning = Pruning::new(&parts.clock, Instant::now());
        let clock = parts.clock.clone();
        let removable = move || {
            let skew = *median_skew.lock().unwrap_or_else(PoisonError::into_inner);
            let until = pruning.until(&clock, Instant::now(), skew);
            until.inspect_err(|doubt| tracing::warn!(%doubt, "what has ended is not removed from the store")).ok()
        };
        let told = Arc::clone(&feeds);
        let covers = move || {
            let feeds = Arc::clone(&told);
            async move {
                // Twice: a page that was signed a moment before may be sent a moment later.
                for pause in [Duration::ZERO, SIGNED] {
                    tokio::time::sleep(pause).await;
                    for feed in feeds.iter() {
                        feed.tell_coverage().await;
                    }
                }
            }
        };
        let mut beside = JoinSet::new();
        let mut surroundings = Surroundings::alone(covers, removable);
        if shared {
            beside.spawn(parts.writer.follow_others(store.changes()));
            beside.spawn(look_at_replicas(Arc::clone(&replica), Arc::clone(&parts), standing));
            let (accepted, may) = watch::channel(false);
            let mut stood = stood;
            beside.spawn(async move {
                while stood.changed().await.is_ok() {
                    accepted.send_replace(stood.borrow_and_update().is_accepted);
                }
            });
            let lease = Lease::new(Arc::clone(&store), UPKEEP, &name);
            let clock = parts.clock.clone();
            let (turn, keep) = Turn::of(lease, Arc::new(move || clock.now_ms()), may.clone());
            beside.spawn(keep);
            (surroundings.turn, surroundings.accepted, surroundings.settle) = (turn, may, SETTLE);
            let (store, clock) = (Arc::clone(&store), parts.clock.clone());
            surroundings.renew_epochs = Arc::new(move || feed::coverage::renew(&*store, &hub, clock.now()));
        }
        let turn = surroundings.turn.clone();
        let needs = upkeep::Needs {
            evidence: Arc::clone(&evidence),
            signals: Arc::clone(&store),
            hub: configured,
            feeds: Arc::clone(&feeds),
            senders,
            is_turn: Box::new(move || turn.is_mine()),
        };
        let evidence_upkeep = Upkeep::start(needs).map_err(StartError::System)?;
        let evidence_watch = Watch::start(&evidence, feeds.iter().map(|feed| feed.name.clone()).collect());
        let evidence_watch = evidence_watch.map_err(StartError::System)?;
        tracing::info!(%address, replica = name, version = env!("CARGO_PKG_VERSION"), "the hub listens");
        Ok(Server {
            address,
            health,
            parts,
            store,
            audit,
            evidence,
            evidence_upkeep,
            evidence_watch,
            feeds: tokio::spawn(feeds.run(committed, wait(stopped))),
            listener: tokio::spawn(served),
            ticker: tokio::spawn(ticker.run()),
            streams: streams.map(|streams| tokio::spawn(streams.run())),
            upkeep: tokio::spawn(intake.look_after(surroundings)),
            beside,
            replica: shared.then_some(replica),
            stop,
            _lock: lock,
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its evidence.
    #[cfg(test)]
    pub fn evidence(&self) -> &Evidence {
        &self.evidence
    }

    /// Ends the hub: it stops being ready, takes requests for `drain`, answers who waits, and stores what is known about
    /// proxies and transmitters.
    pub async fn stop(mut self, drain: Duration) {
        tracing::info!("the hub is about to stop");
        self.health.drain();
        tokio::time::sleep(drain).await;
        self.stop.send_replace(true);
        let tasks = [("requests", self.listener), ("feeds", self.feeds)];
        for (what, task) in tasks.into_iter().chain(self.streams.map(|task| ("streams", task))) {
            if task.await.is_err() {
                tracing::error!(what, "a task broke off");
            }
        }
        self.ticker.abort();
        self.upkeep.abort();
        self.parts.managed.stop().await;
        if let Err(error) = self.parts.intake.save().await {
            tracing::error!(%error, "when transmitters were last heard of cannot be stored");
        }
        self.beside.shutdown().await;
        let (evidence, upkeep, watch) = (self.evidence, self.evidence_upkeep, self.evidence_watch);
        let ended = spawn_blocking(move || {
            if let Some(watch) = watch {
                watch.stop();
            }
            if let Some(upkeep) = upkeep {
                upkeep.stop();
            }
            evidence.stop();
        });
        if ended.await.is_err() {
            tracing::error!("evidence that waited may not be stored: proxies send it again");
        }
        if let Some(replica) = self.replica {
            let lease = Lease::new(Arc::clone(&self.store), UPKEEP, &replica.name);
            let left = spawn_blocking(move || lease.release().and_then(|()| replica.leave())).await;
            if !matches!(left, Ok(Ok(()))) {
                tracing::error!("that this replica has ended cannot be stored: the others find out after some seconds");
            }
        }
        let (store, audit) = (self.store, Arc::clone(&self.audit));
        if !matches!(spawn_blocking(move || audit.catch_up(&*store)).await, Ok(Ok(_))) {
            let waiting = self.audit.waiting();
            tracing::error!(waiting, "lines of the audit log cannot be stored: they are in this log only");
        }
        tracing::info!("the hub has stopped");
    }
}

/// Two processes must not write one store: each would give out the same numbers.
fn lock(hub: &Hub) -> Result<File, StartError> {
    let failed = |reason| StartError::Data { path: hub.data.clone(), reason };
    let file = File::create(hub.data.join("hub.lock")).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(StartError::Running(hub.data.clone())),
        Err(TryLockError::Error(reason)) => Err(failed(reason)),
    }
}

fn router(
    parts: &Parts,
    (api, uses): (Api, Uses),
    metrics: Arc<Metrics>,
    health: &Arc<Health>,
    access: &Arc<Access>,
) -> Router {
    let health = Arc::clone(health);
    let mut open = Router::new()
        .route("/livez", get(|| async { "alive\n" }))
        .route("/readyz", get(|| async move { health.answer() }));
    let mut receivers = Router::new();
    if let Some(streams) = &parts.streams {
        open = open.merge(streams::routes::open_router(streams.clone()));
        let recorded = from_fn_with_state(api.clone(), audit_log::record_changes);
        receivers = streams::routes::router(streams.clone()).layer(recorded);
    }
    intake::router(parts.intake.clone())
        .merge(receivers)
        .merge(feed::router(Arc::clone(&parts.feeds)))
        .merge(uses::router(uses))
        .merge(routes::router(api))
        .route("/metrics", get(move |principal| scrape(principal, metrics)))
        .fallback(routes::no_such_path)
        .method_not_allowed_fallback(routes::no_such_method)
        .layer(from_fn_with_state(Arc::clone(access), authenticate))
        .merge(open)
}

async fn scrape(Extension(principal): Extension<Principal>, metrics: Arc<Metrics>) -> Response {
    if let Err(problem) = allow_all_feeds(&principal, &READERS, "the metrics are about all feeds") {
        return problem.into_response();
    }
    // Reading how far streams are behind blocks.
    match spawn_blocking(move || metrics.encode()).await {
        Ok(Ok(text)) => (StatusCode::OK, [(CONTENT_TYPE, metrics::MEDIA_TYPE)], text).into_response(),
        _ => Problem::unavailable("the metrics cannot be written").into_response(),
    }
}

/// Looks each second at the store and the other replicas, and says there that this one lives.
async fn look_at_replicas(replica: Arc<Replica>, parts: Arc<Parts>, standing: watch::Sender<Standing>) {
    let looking = Repeated::new("this replica cannot look at the store: it stores nothing after some seconds");
    let mut tick = tokio::time::interval(TICK);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        let looks = Arc::clone(&replica);
        let feed_keys = held(parts.feeds.keys());
        let set_keys = parts.streams.as_ref().map(|streams| held(streams.keys())).unwrap_or_default();
        let looked = spawn_blocking(move || looks.look(feed_keys, set_keys)).await;
        let looked = looked.unwrap_or_else(|error| Err(StoreError::Failed(error.to_string())));
        looking.note("", &looked);
        let Ok((found, permitted)) = looked else { continue };
        parts.writer.permit(Some(permitted));
        for feed in parts.feeds.iter() {
            if !found.is_accepted {
                // Whoever waits here goes elsewhere.
                feed.tell_coverage().await;
            }
            feed.followers.note_alive(found.others.iter().map(|other| (other.name.as_str().into(), other.at)));
        }
        standing.send_replace(found);
    }
}

fn held<K: PrivateKey>(keys: &KeyRing<K>) -> HeldKeys {
    HeldKeys { kids: keys.kids(), current: keys.current() }
}

/// What is looked at again and again.
struct Ticker {
    store: Arc<dyn Store>,
    access: Arc<Access>,
    health: Arc<Health>,
    parts: Arc<Parts>,
    audit: Arc<AuditTrail>,
    tls: Option<Tls>,
    config: String,
    /// The latest time in the store when the hub started, in milliseconds since 1970.
    complete_until: u64,
    readiness: Repeated,
    reading_tokens: Repeated,
    noting_uses: Repeated,
    reading_keys: Repeated,
    reading_set_keys: Repeated,
    reading_tls: Repeated,
    /// What this replica found at its last look at the others.
    standing: watch::Receiver<Standing>,
    /// How far the clocks of proxies were ahead at the last look, in milliseconds.
    median_skew: Arc<Mutex<Option<i64>>>,
}

impl Ticker {
    async fn run(mut self) {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            // All of it reads files, which blocks.
            let done = spawn_blocking(move || {
                self.look();
                self
            });
            self = match done.await {
                Ok(kept) => kept,
                // The hub is then not ready any more after some seconds.
                Err(_) => return tracing::error!("looking after tokens and health broke off"),
            };
        }
    }

    fn look(&mut self) {
        let mut findings = Findings { wrong_keys: self.standing.borrow().wrong_keys.clone(), ..Findings::default() };
        match other_config(&*self.store, &self.config) {
            Ok(other) => findings.other_config = other,
            Err(error) => findings.store = Some(error.to_string()),
        }
        match health::restored(&*self.store) {
            Ok(restored) => findings.restored = restored,
            Err(error) => findings.store = Some(error.to_string()),
        }
        let refreshed = self.access.tokens().refresh(self.access.now());
        self.reading_tokens.note("", &refreshed);
        let noted = self.access.tokens().note_uses();
        self.noting_uses.note("", &noted);
        match self.audit.catch_up(&*self.store) {
            Ok(0) => {}
            Ok(lines) => tracing::info!(lines, "lines of the audit log that waited were written"),
            Err(error) => findings.store = Some(error.to_string()),
        }
        let failed = [refreshed, noted, self.store.check_room()].into_iter().find_map(Result::err);
        findings.store = findings.store.or(failed.map(|error| error.to_string()));
        let read_again = self.parts.feeds.keys().refresh();
        self.reading_keys.note("", &read_again);
        if matches!(read_again, Ok(true)) {
            tracing::info!(current = self.parts.feeds.keys().current(), "the signing keys were read again");
        }
        if let Some(streams) = &self.parts.streams {
            let read_again = streams.keys().refresh();
            self.reading_set_keys.note("", &read_again);
            if matches!(read_again, Ok(true)) {
                tracing::info!(current = streams.keys().current(), "the keys for SETs were read again");
            }
        }
        let followers: Vec<_> = self.parts.feeds.iter().flat_map(|feed| feed.followers.all()).collect();
        let since = self.parts.clock.now_ms().saturating_sub(FOREIGN);
        findings.foreign = followers.iter().filter(|(_, one)| one.foreign_at > since).count();
        let mut ahead = Ahead::default();
        followers.iter().for_each(|(_, follower)| ahead.count(follower));
        match health::set_back(&*self.store, ahead.is_most(), self.complete_until) {
            Ok(set_back) => findings.set_back = set_back,
            Err(error) => findings.store = Some(error.to_string()),
        }
        let reported = followers.iter().filter_map(|(_, one)| Some((&**one.voice(), one.report.skew_ms?)));
        findings.median_skew = health::median_skew(reported);
        *self.median_skew.lock().unwrap_or_else(PoisonError::into_inner) = findings.median_skew;
        self.health.note(findings, Instant::now());
        self.readiness.note("", &self.health.ready(Instant::now()));
        if let Some(read_again) = self.tls.as_mut().map(Tls::refresh) {
            self.reading_tls.note("", &read_again);
            if matches!(read_again, Ok(true)) {
                tracing::info!("the files of `listen.tls` were read again");
            }
        }
    }
}

/// Listens with room for all proxies of a mesh that come back at once.
fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

//! A running relay: opens its parts, serves them, and ends them in order.

use crate::access::authenticate::{Access, authenticate};
use crate::access::certificate::CertificateRules;
use crate::access::known_tokens::KnownTokens;
use crate::access::principal::Principal;
use crate::access::sources::Sources;
use crate::config::hub::Hub;
use crate::config::role::Role;
use crate::feed::Settings;
use crate::feed::followers::Followers;
use crate::problem::Problem;
use crate::relay::disk::Disk;
use crate::relay::feed::RelayFeed;
use crate::relay::follow::Following;
use crate::relay::line::Line;
use crate::relay::passed::Passed;
use crate::relay::reporter::Reporter;
use crate::relay::routes::{self, RelayFeeds};
use crate::relay::status::Status;
use crate::relay::upstream::{BadFiles, Upstream};
use crate::relay::uses::{self, Counts, Passing};
use crate::repeated::Repeated;
use crate::serve::serve;
use crate::store::Store;
use crate::store::model::StoreError;
use crate::tls::{Tls, TlsError};
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Extension, Json, Router};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet, spawn_blocking};

/// The pages of one feed use so much memory; on disk they may use twice that.
const MAX_PAGES: usize = 64 * 1024 * 1024;

/// Tokens, TLS files and the files of `follow` are looked at this often.
const TICK: Duration = Duration::from_secs(1);

/// Why a relay does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The configuration has no `follow`.
    #[error("the configuration has no `follow`")]
    NoRelay,
    /// The files of `follow` cannot be used.
    #[error(transparent)]
    Follow(#[from] BadFiles),
    /// The store of the tokens cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// What is kept on disk cannot be used.
    #[error("cannot use `{}`: {reason}", path.display())]
    Disk {
        /// The folder.
        path: PathBuf,
        /// Why.
        reason: io::Error,
    },
    /// The files of `listen.tls` cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// There is no randomness.
    #[error("the system gives no random numbers: {0}")]
    Random(getrandom::Error),
}

/// A relay that runs.
pub struct Relay {
    feeds: RelayFeeds,
    status: Arc<Status>,
    stop: watch::Sender<bool>,
    listener: JoinHandle<()>,
    /// Dropped, they end.
    tasks: JoinSet<()>,
}

impl Relay {
    /// Starts the relay `hub` on `listener`. `store` holds its tokens. Reads what is on disk: it blocks.
    pub fn start(mut hub: Hub, store: Arc<dyn Store>, listener: TcpListener) -> Result<Relay, StartError> {
        let follow = hub.follow.take().ok_or(StartError::NoRelay)?;
        let names = follow.feeds.clone();
        let now: Arc<dyn Fn() -> u64 + Send + Sync> = Arc::new(milliseconds);
        let upstream = Arc::new(Upstream::new(follow, &hub.name, random()?)?);
        let instance = random()?;
        let (mut tasks, mut feeds) = (JoinSet::new(), Vec::new());
        for name in names {
            let folder = hub.data.join("relay").join(&name);
            let longest = u64::try_from(MAX_PAGES).unwrap_or(u64::MAX).saturating_mul(2);
            let opened = Disk::open(&folder, longest, |bytes| upstream.verify(&name, bytes));
            let (disk, read) = opened.map_err(|reason| StartError::Disk { path: folder.clone(), reason })?;
            let line = Line::restored(read.states, &read.pages, read.heartbeat, MAX_PAGES);
            if let Some((head, at)) = line.as_ref().map(Line::head) {
                tracing::info!(feed = name, %head, at, "the relay goes on with what it kept");
            }
            let settings = Settings {
                max_followers: hub.limits.followers,
                max_of_principal: hub.limits.followers_per_principal,
                ..Settings::new(&hub.name)
            };
            let followers = Followers::new(&name, Vec::new(), &settings, now.clone());
            let passed = Passed::new(upstream.clone());
            let feed = RelayFeed::new(&name, line, passed, (followers, hub.limits.full_states), now.clone());
            let feed = Arc::new(feed);
            tasks.spawn(Following::new(feed.clone(), upstream.clone(), disk, MAX_PAGES).run());
            tasks.spawn(Reporter::new(feed.clone(), upstream.clone(), instance.clone()).run());
            feeds.push((name, feed));
        }
        let feeds: RelayFeeds = Arc::new(feeds.into_iter().collect());
        let tokens = KnownTokens::open(store, now())?;
        let access = Arc::new(Access::new(tokens, CertificateRules::new(hub.access.clone()), &hub, now));
        let sources = Sources::new(hub.limits.connections_per_private_address, hub.limits.connections_per_address);
        let tls = hub.listen.tls.clone().map(Tls::read).transpose()?;
        let counts = Arc::<Counts>::default();
        let status = Arc::new(Status::new(feeds.clone(), Arc::clone(&counts)));
        let passing = Passing::new(feeds.clone(), upstream.clone(), counts);
        let router = router(feeds.clone(), passing, &status, &access);
        let (stop, mut stopped) = watch::channel(false);
        let current = tls.as_ref().map(Tls::current);
        let wait = async move { _ = stopped.wait_for(|stop| *stop).await };
        let served = serve(listener, router, current, sources, wait);
        tasks.spawn(look_after(Ticker::new(access, upstream, tls)));
        Ok(Relay { feeds, status, stop, listener: tokio::spawn(served), tasks })
    }

    /// Its feeds.
    #[cfg(test)]
    pub fn feeds(&self) -> &RelayFeeds {
        &self.feeds
    }

    /// Ends the relay: it stops being ready, takes requests for `drain`, and answers who waits.
    pub async fn stop(mut self, drain: Duration) {
        tracing::info!("the relay is about to stop");
        self.status.drain();
        tokio::time::sleep(drain).await;
        self.feeds.values().for_each(|feed| feed.close());
        self.stop.send_replace(true);
        if self.listener.await.is_err() {
            tracing::error!("serving requests broke off");
        }
        self.tasks.shutdown().await;
        tracing::info!("the relay has stopped");
    }
}

fn router(feeds: RelayFeeds, passing: Passing, status: &Arc<Status>, access: &Arc<Access>) -> Router {
    let (ready, shown, scraped) = (Arc::clone(status), Arc::clone(status), Arc::clone(status));
    let open = Router::new()
        .route("/livez", get(|| async { "alive\n" }))
        .route("/readyz", get(|| async move { ready.readiness() }));
    routes::router(feeds)
        .merge(uses::router(passing))
        .route("/v1/relay", get(move |principal| guarded(principal, move || Ok(Json(shown.show()).into_response()))))
        .route("/metrics", get(move |principal| guarded(principal, move || scraped.metrics())))
        .fallback(no_such_path)
        .layer(from_fn_with_state(Arc::clone(access), authenticate))
        .merge(open)
}

async fn guarded(
    Extension(principal): Extension<Principal>,
    answer: impl FnOnce() -> Result<Response, std::fmt::Error>,
) -> Response {
    let may = matches!(principal.role, Role::Operator | Role::Auditor) && principal.feeds.is_empty();
    match may {
        true => answer().unwrap_or_else(|_| Problem::unavailable("the metrics cannot be written").into_response()),
        false => {
            let detail = format!("`{}` may not read what is about all feeds", principal.name);
            Problem::forbidden(detail, "use a token of the role operator or auditor without `feeds`").into_response()
        }
    }
}

async fn no_such_path() -> Problem {
    Problem::missing("a relay has no such path: it hands on feeds only", "call the hub that it follows")
}

/// What is looked at again and again.
struct Ticker {
    access: Arc<Access>,
    upstream: Arc<Upstream>,
    tls: Option<Tls>,
    tokens: Repeated,
    uses: Repeated,
    files: Repeated,
    own: Repeated,
}

impl Ticker {
    fn new(access: Arc<Access>, upstream: Arc<Upstream>, tls: Option<Tls>) -> Ticker {
        Ticker {
            access,
            upstream,
            tls,
            tokens: Repeated::new("the tokens cannot be read"),
            uses: Repeated::new("when tokens were last used cannot be stored; it is tried again"),
            files: Repeated::new("the files of `follow` cannot be read again; the old ones stay in use"),
            own: Repeated::new("the files of `listen.tls` cannot be read again; the old ones stay in use"),
        }
    }

    fn look(&mut self) {
        self.tokens.note("", &self.access.tokens().refresh(self.access.now()));
        self.uses.note("", &self.access.tokens().note_uses());
        let read = self.upstream.refresh();
        self.files.note("", &read);
        if matches!(read, Ok(true)) {
            tracing::info!("the files of `follow` were read again");
        }
        if let Some(read) = self.tls.as_mut().map(Tls::refresh) {
            self.own.note("", &read);
            if matches!(read, Ok(true)) {
                tracing::info!("the files of `listen.tls` were read again");
            }
        }
    }
}

async fn look_after(mut ticker: Ticker) {
    let mut tick = tokio::time::interval(TICK);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        // All of it reads files, which blocks.
        let done = spawn_blocking(move || {
            ticker.look();
            ticker
        });
        ticker = match done.await {
            Ok(kept) => kept,
            Err(_) => return tracing::error!("looking after tokens and files broke off"),
        };
    }
}

fn milliseconds() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// 32 random hexadecimal digits.
fn random() -> Result<String, StartError> {
    let (high, low) = (getrandom::u64(), getrandom::u64());
    Ok(format!("{:016x}{:016x}", high.map_err(StartError::Random)?, low.map_err(StartError::Random)?))
}

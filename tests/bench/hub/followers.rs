//! Many followers of one hub: each asks as a proxy does, and checks what it gets. They share one thread and one buffer,
//! so that the load generator costs little beside the hub.
//!
//! [`Followers`] is the side of whoever measures; [`Shared`] is that of the followers' thread.

use std::{
    cell::RefCell,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    rc::Rc,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use taskfence_core::feed::revision::Revision;
use taskfence_tests::{
    hub::FEED,
    orders,
    tls::{self, Workload},
};
use tokio::{
    net::{TcpSocket, TcpStream},
    sync::{Notify, Semaphore},
    task::LocalSet,
    time,
};
use tokio_rustls::{TlsConnector, rustls::pki_types::ServerName};

use super::{
    answers::{Scratch, Socket},
    pages::{Checker, Seen},
};
use crate::{Error, Result};

/// So many connect at the same time, so that none is lost at a full queue of the listener.
const CONNECTING: usize = 256;
/// Addresses that they come from: one address has ports for 28,000 connections, of which closed ones are not free at once.
const SOURCES: u8 = 8;
/// The pauses after failures, as the filter makes them.
const BACK_OFF: (u64, u64) = (200, 5_000);
/// The first errors are kept for the report.
const ERRORS: usize = 5;

/// Who follows what.
pub struct Plan {
    /// Where the hub listens.
    pub hub: SocketAddr,
    /// Other replicas, which are asked after a failure.
    pub others: Vec<SocketAddr>,
    /// The name of the hub.
    pub name: String,
    /// The keys of its statements.
    pub jwks: Value,
    /// A token of the role `sidecar`; none where certificates say who calls.
    pub token: Option<String>,
    /// Over TLS, with this certificate.
    pub workload: Option<Workload>,
    /// How many.
    pub count: usize,
    /// `signals.stale.after` of the proxies, in seconds.
    pub stale_after: u64,
}

/// Running followers; they end when dropped.
pub struct Followers {
    control: Arc<Control>,
    thread: Option<JoinHandle<()>>,
}

/// What happened so far.
#[derive(Clone, Debug, Default)]
pub struct Watch {
    /// How many have caught up since they started.
    pub caught_up: usize,
    /// When the last of them did.
    pub caught_up_at: Option<Instant>,
    /// The greatest number that was seen.
    pub head: u64,
    /// The number that is waited for; see [`Followers::expect`].
    target: u64,
    /// How many have acknowledged it.
    pub reached: usize,
    /// When the last of them did.
    pub reached_at: Option<Instant>,
    /// Requests that were sent.
    pub requests: u64,
    /// Pages that were verified.
    pub verified: u64,
    /// Pages that were compared with those.
    pub compared: u64,
    /// Answers 429 and 503: the follower asks again later.
    pub busy: u64,
    /// Connections that were made.
    pub connections: u64,
    /// Failures of connections.
    pub lost: u64,
    /// Answers that must not be: other statuses, and pages that were refused.
    pub wrong: u64,
    /// The first of them.
    pub errors: Vec<String>,
}

struct Control {
    watch: Mutex<Watch>,
    stop: Notify,
    stopped: AtomicBool,
    stale_after: AtomicU64,
}

struct Shared {
    plan: Plan,
    control: Arc<Control>,
    connecting: Semaphore,
    checker: RefCell<Checker>,
    scratch: Scratch,
    tls: Option<(TlsConnector, ServerName<'static>)>,
}

/// One of them.
struct Follower {
    index: usize,
    /// Its id, and the nonce of its first statement.
    id: String,
    position: Revision,
    /// The revision of a full state, and its next part.
    full: Option<(Revision, u32)>,
    /// The number that it must have applied to have caught up.
    must_reach: Option<u64>,
    caught_up: bool,
    failures: u32,
}

impl Followers {
    /// Starts them.
    pub fn start(plan: Plan) -> Result<Self> {
        let control = Arc::new(Control {
            watch: Mutex::default(),
            stop: Notify::new(),
            stopped: AtomicBool::new(false),
            stale_after: AtomicU64::new(plan.stale_after),
        });
        let checker = Checker::new(&plan.name, FEED, &plan.jwks)?;
        let tls = plan.workload.as_ref().map(connector).transpose()?;
        let of_thread = Arc::clone(&control);
        let run = move || {
            let shared = Shared {
                plan,
                control: of_thread,
                connecting: Semaphore::new(CONNECTING),
                checker: RefCell::new(checker),
                scratch: Scratch::default(),
                tls,
            };
            if let Err(error) = follow_all(shared) {
                eprintln!("bench: followers: {error}");
            }
        };
        let thread = std::thread::Builder::new().name("followers".to_owned()).spawn(run);
        Ok(Self { control, thread: Some(thread.map_err(Error::doing("start a thread"))?) })
    }

    /// What happened so far.
    pub fn watch(&self) -> Watch {
        self.control.watch().clone()
    }

    /// Begins to count who acknowledges `number`.
    pub fn expect(&self, number: u64) {
        let mut watch = self.control.watch();
        (watch.target, watch.reached, watch.reached_at) = (number, 0, None);
    }

    /// From the next request on, they ask as proxies with this `signals.stale.after` do.
    pub fn set_stale_after(&self, seconds: u64) {
        self.control.stale_after.store(seconds, Ordering::Relaxed);
    }

    /// Waits until this holds of what happened.
    pub async fn until(&self, what: &str, limit: Duration, holds: impl Fn(&Watch) -> bool) -> Result<Watch> {
        let deadline = Instant::now() + limit;
        loop {
            let watch = self.watch();
            if watch.wrong > 0 {
                return Err(Error::new(format!("{} wrong answers: {}", watch.wrong, watch.errors.join("; "))));
            }
            if holds(&watch) {
                return Ok(watch);
            }
            if Instant::now() > deadline {
                return Err(Error::new(format!("{what}: not within {limit:?}: {watch:?}")));
            }
            time::sleep(Duration::from_millis(5)).await;
        }
    }
}

impl Drop for Followers {
    fn drop(&mut self) {
        self.control.stopped.store(true, Ordering::Relaxed);
        self.control.stop.notify_one();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Control {
    fn watch(&self) -> MutexGuard<'_, Watch> {
        self.watch.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn connector(workload: &Workload) -> Result<(TlsConnector, ServerName<'static>)> {
    let mut config = tls::client_config(Some(workload))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    // A proxy that connects again may resume; all of these are proxies of their own.
    config.resumption = tokio_rustls::rustls::client::Resumption::disabled();
    let name = ServerName::try_from(orders::HOST).map_err(Error::doing("name the hub"))?;
    Ok((TlsConnector::from(Arc::new(config)), name))
}

fn follow_all(shared: Shared) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(Error::doing("start a runtime"))?;
    let shared = Rc::new(shared);
    let all = LocalSet::new();
    for index in 0..shared.plan.count {
        let shared = Rc::clone(&shared);
        all.spawn_local(async move {
            let id = format!("follower-{:08}-{index:06}", std::process::id());
            let mut follower = Follower {
                index,
                id,
                position: Revision::START,
                full: None,
                must_reach: None,
                caught_up: false,
                failures: 0,
            };
            while !shared.control.stopped.load(Ordering::Relaxed) {
                if follower.follow(&shared).await.is_err() {
                    shared.control.watch().lost += 1;
                }
                follower.back_off(None).await;
            }
        });
    }
    runtime.block_on(async {
        let control = Arc::clone(&shared.control);
        all.run_until(control.stop.notified()).await;
    });
    Ok(())
}

impl Follower {
    /// Connects, and asks for page after page until the connection ends.
    async fn follow(&mut self, shared: &Shared) -> Result<()> {
        let mut socket = shared.connect(self.index, self.failures).await?;
        shared.control.watch().connections += 1;
        loop {
            let nonce = (!self.caught_up).then(|| self.id.clone());
            let request = self.request(shared, nonce.as_deref());
            socket.send(request.as_bytes()).await?;
            drop(request);
            // Freed when the answer was used: a follower that waits has no buffer.
            let mut bytes = Vec::new();
            let answer = socket.receive(&mut bytes, &shared.scratch).await?;
            match answer.status {
                200 => {
                    let seen = shared.checker.borrow_mut().check(&bytes[answer.body..answer.end], nonce.as_deref());
                    let mut watch = shared.control.watch();
                    match seen {
                        Ok(seen) => self.apply(seen, &mut watch, shared),
                        Err(error) => watch.wrong(error.to_string()),
                    }
                }
                429 | 503 => {
                    shared.control.watch().busy += 1;
                    self.back_off(answer.retry_after).await;
                }
                404 | 409 | 410 if self.full.is_some() => {
                    self.full = None;
                    self.back_off(None).await;
                }
                status => {
                    let body = String::from_utf8_lossy(&bytes[answer.body..answer.end]).into_owned();
                    shared.control.watch().wrong(format!("{status} {body}"));
                    self.back_off(None).await;
                }
            }
        }
    }

    /// Takes the position of a page that was checked. What it leads up to is acknowledged by the next request, which
    /// follows at once.
    fn apply(&mut self, seen: Seen, watch: &mut Watch, shared: &Shared) {
        let checker = shared.checker.borrow();
        (watch.verified, watch.compared) = (checker.verified, checker.compared);
        self.failures = 0;
        let must_reach = *self.must_reach.get_or_insert(seen.head);
        if let Some(part) = seen.part
            && !part.is_last()
        {
            self.full = Some((seen.upto, part.part + 1));
            return;
        }
        self.full = None;
        let before = self.position.number;
        self.position = seen.upto;
        watch.head = watch.head.max(seen.head);
        let now = Instant::now();
        if (before < watch.target) && (self.position.number >= watch.target) {
            watch.reached += 1;
            watch.reached_at = Some(now);
        }
        if !self.caught_up && self.position.number >= must_reach {
            self.caught_up = true;
            watch.caught_up += 1;
            watch.caught_up_at = Some(now);
        }
    }

    fn request(&self, shared: &Shared, nonce: Option<&str>) -> String {
        let stale_after = shared.control.stale_after.load(Ordering::Relaxed);
        let longest = (stale_after / 3).clamp(1, 25);
        // As the filter: less a random part of at most a fifth.
        let wait = longest - random() % (longest / 5 + 1);
        let after = self.position;
        let mut path = format!("/v1/feeds/{FEED}?after={after}&applied={after}&wait={wait}&format=1");
        if let Some(nonce) = nonce {
            path.push_str(&format!("&nonce={nonce}"));
        }
        if let Some((revision, part)) = self.full {
            path.push_str(&format!("&state={revision}&part={part}"));
        }
        let report = json!({
            "id": self.id, "node": self.id, "mode": "enforce", "config": "bench", "stale_after": stale_after,
            "skew_ms": 0, "saturated": 0, "version": env!("CARGO_PKG_VERSION"), "kids": []
        });
        let token = shared.plan.token.as_ref().map(|token| format!("authorization: Bearer {token}\r\n"));
        let token = token.unwrap_or_default();
        shared.control.watch().requests += 1;
        format!("GET {path} HTTP/1.1\r\nhost: {}\r\n{token}taskfence-follower: {report}\r\n\r\n", orders::HOST)
    }

    async fn back_off(&mut self, at_least: Option<u64>) {
        let (shortest, longest) = BACK_OFF;
        let bound = (shortest << (self.failures.min(10) + 1)).min(longest);
        self.failures += 1;
        let pause = shortest + random() % (bound - shortest + 1);
        time::sleep(Duration::from_millis(pause.max(at_least.unwrap_or(0) * 1_000))).await;
    }
}

impl Shared {
    async fn connect(&self, index: usize, failures: u32) -> Result<Socket> {
        let hubs = || std::iter::once(&self.plan.hub).chain(&self.plan.others);
        let next = usize::try_from(failures).unwrap_or(0) % hubs().count();
        let hub = hubs().nth(next).copied().unwrap_or(self.plan.hub);
        let _turn = self.connecting.acquire().await.map_err(Error::doing("wait for a turn"))?;
        let stream = connect_from(hub, index).await.map_err(Error::doing("connect to the hub"))?;
        match &self.tls {
            None => Ok(Socket::Plain(stream)),
            Some((connector, name)) => {
                let stream = connector.connect(name.clone(), stream).await.map_err(Error::doing("TLS with the hub"))?;
                Ok(Socket::Tls(Box::new(stream)))
            }
        }
    }
}

async fn connect_from(hub: SocketAddr, index: usize) -> std::io::Result<TcpStream> {
    let last = 2 + u8::try_from(index % usize::from(SOURCES)).unwrap_or(0);
    let socket = TcpSocket::new_v4()?;
    if hub.ip().is_loopback() {
        socket.bind(SocketAddr::new(IpAddr::V4(Ipv4Addr::new(127, 0, 0, last)), 0))?;
    }
    let stream = socket.connect(hub).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

fn random() -> u64 {
    fastrand::u64(..)
}

impl Watch {
    fn wrong(&mut self, error: String) {
        self.wrong += 1;
        if self.errors.len() < ERRORS {
            self.errors.push(error);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use taskfence_core::feed::revision::Chain;
    use taskfence_tests::stand_in::{HUB, Pages, StandIn};

    #[tokio::test(flavor = "multi_thread")]
    async fn they_catch_up_wait_and_acknowledge() {
        let pages = Pages::new(Vec::new());
        let at = |number| Revision { epoch: 7, number, chain: Chain::default() };
        let (head, _) = tokio::sync::watch::channel(0u64);
        let of_hub = head.clone();
        let jwks = pages.jwks();
        let hub = StandIn::start(move |asked| {
            let (pages, mut head) = (pages.clone(), of_hub.subscribe());
            Box::pin(async move {
                if asked.after() == Revision::START {
                    let now = *head.borrow();
                    return (200, pages.whole_state(&[], at(now), asked.nonce()));
                }
                let after = asked.after().number;
                let _ = head.wait_for(|head| *head > after).await;
                (
                    200,
                    pages.page(&[], |statement| {
                        (statement.prev, statement.upto, statement.head) = (after, at(after + 1), after + 1);
                        statement.at = 1;
                    }),
                )
            })
        })
        .await
        .unwrap();
        let plan = Plan {
            hub: hub.address(),
            others: Vec::new(),
            name: HUB.to_owned(),
            jwks,
            token: Some("secret".to_owned()),
            workload: None,
            count: 50,
            stale_after: 90,
        };
        let followers = Followers::start(plan).unwrap();
        let soon = Duration::from_secs(20);
        followers.until("catch up", soon, |watch| watch.caught_up == 50).await.unwrap();
        followers.expect(1);
        head.send_replace(1);
        let watch = followers.until("acknowledge", soon, |watch| watch.reached == 50).await.unwrap();
        assert_eq!((watch.connections, watch.lost, watch.busy, watch.head), (50, 0, 0, 1));
        assert!(watch.compared >= 49, "{watch:?}");
        let asked = hub.asked();
        assert!(asked.iter().all(|asked| asked.authorization.as_deref() == Some("Bearer secret")));
        assert!(asked.iter().all(|asked| asked.report["stale_after"] == 90));
        assert!(asked.iter().filter(|asked| asked.after() == Revision::START).all(|asked| asked.nonce().is_some()));
    }
}

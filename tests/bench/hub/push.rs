//! Pushes signals, or what proxies count, to a hub as fast as it takes them, or so many a second, from one thread that
//! costs little.

use std::{
    cell::{Cell, RefCell},
    net::SocketAddr,
    rc::Rc,
    time::{Duration, Instant},
};

use taskfence_tests::{hub::FEED, orders};
use tokio::{
    net::TcpStream,
    task::LocalSet,
    time::{MissedTickBehavior, interval},
};

use super::answers::{Scratch, Socket};
use crate::{Error, Result};

/// What to push.
pub struct Plan {
    /// Where the hub listens.
    pub hub: SocketAddr,
    /// What they are.
    pub kind: Kind,
    /// A token of the role that may push them.
    pub token: String,
    /// The bodies, such as signed signals; each is pushed once.
    pub sets: Vec<String>,
    /// How many connections, each with one body at a time.
    pub connections: usize,
    /// How long; less if there are not enough signals.
    pub time: Duration,
    /// Signals a second on all connections; as many as are taken if nothing is said.
    pub rate: Option<u32>,
}

/// What is pushed.
#[derive(Clone, Copy, Debug)]
pub struct Kind {
    /// The last part of the path.
    path: &'static str,
    media_type: &'static str,
    /// The status of a good answer.
    status: u16,
}

/// Signed signals.
pub const SIGNALS: Kind = Kind { path: "signals", media_type: "application/secevent+jwt", status: 202 };
/// What proxies have counted.
pub const USES: Kind = Kind { path: "uses", media_type: "application/json", status: 200 };

/// What became of them.
#[derive(Debug, Default)]
pub struct Pushed {
    /// Signals that were answered 202.
    pub taken: u64,
    /// How many of them in each whole second.
    pub by_second: Vec<u64>,
    /// How long each answer took, in milliseconds.
    pub latencies: Vec<f64>,
    /// How long all of it took.
    pub took: Duration,
}

struct Shared {
    kind: Kind,
    token: String,
    sets: RefCell<Vec<String>>,
    began: Instant,
    until: Instant,
    period: Option<Duration>,
    scratch: Scratch,
    /// When each answer came, since the beginning, and how long it took.
    answers: RefCell<Vec<(Duration, Duration)>>,
    wrong: Cell<Option<Error>>,
}

impl Plan {
    /// Pushes them. It does not block the runtime.
    pub async fn run(self) -> Result<Pushed> {
        let pushed = tokio::task::spawn_blocking(move || self.run_here());
        pushed.await.map_err(Error::doing("push signals"))?
    }

    fn run_here(self) -> Result<Pushed> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(Error::doing("start a runtime"))?;
        let began = Instant::now();
        let connections = u32::try_from(self.connections.max(1)).unwrap_or(1);
        let shared = Rc::new(Shared {
            kind: self.kind,
            token: self.token,
            sets: RefCell::new(self.sets),
            began,
            until: began + self.time,
            period: self.rate.map(|rate| Duration::from_secs(1) * connections / rate.max(1)),
            scratch: Scratch::default(),
            answers: RefCell::default(),
            wrong: Cell::new(None),
        });
        let all = LocalSet::new();
        for _ in 0..connections {
            let (shared, hub) = (Rc::clone(&shared), self.hub);
            all.spawn_local(async move {
                if let Err(error) = shared.push(hub).await {
                    shared.wrong.set(Some(error));
                }
            });
        }
        runtime.block_on(all);
        match shared.wrong.take() {
            Some(error) => Err(error),
            None => Ok(Pushed::of(&shared.answers.borrow(), began.elapsed())),
        }
    }
}

impl Shared {
    /// Pushes on one connection until the time is over or there are no more signals.
    async fn push(&self, hub: SocketAddr) -> Result<()> {
        let stream = TcpStream::connect(hub).await.map_err(Error::doing("connect to the hub"))?;
        stream.set_nodelay(true).map_err(Error::doing("connect to the hub"))?;
        let mut socket = Socket::Plain(stream);
        let mut ticks = self.period.map(interval);
        if let Some(ticks) = &mut ticks {
            ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
        }
        let mut bytes = Vec::new();
        loop {
            if let Some(ticks) = &mut ticks {
                ticks.tick().await;
            }
            if Instant::now() >= self.until {
                return Ok(());
            }
            let Some(set) = self.sets.borrow_mut().pop() else { return Ok(()) };
            let sent = Instant::now();
            socket.send(self.request(&set).as_bytes()).await?;
            let answer = socket.receive(&mut bytes, &self.scratch).await?;
            if answer.status != self.kind.status {
                let text = String::from_utf8_lossy(&bytes[answer.body..answer.end]);
                return Err(Error::new(format!(
                    "one of the {} was answered {}: {text}",
                    self.kind.path, answer.status
                )));
            }
            self.answers.borrow_mut().push((self.began.elapsed(), sent.elapsed()));
        }
    }

    fn request(&self, set: &str) -> String {
        let Kind { path, media_type, .. } = self.kind;
        format!(
            "POST /v1/feeds/{FEED}/{path} HTTP/1.1\r\nhost: {}\r\nauthorization: Bearer {}\r\n\
             content-type: {media_type}\r\naccept: application/json\r\ncontent-length: {}\r\n\r\n{set}",
            orders::HOST,
            self.token,
            set.len()
        )
    }
}

impl Pushed {
    fn of(answers: &[(Duration, Duration)], took: Duration) -> Self {
        let seconds = usize::try_from(took.as_secs()).unwrap_or(0);
        let mut by_second = vec![0; seconds];
        for (at, _) in answers {
            if let Some(count) = usize::try_from(at.as_secs()).ok().and_then(|second| by_second.get_mut(second)) {
                *count += 1;
            }
        }
        let latencies = answers.iter().map(|(_, took)| took.as_secs_f64() * 1e3).collect();
        Self { taken: answers.len() as u64, by_second, latencies, took }
    }

    /// Signals a second.
    pub fn rate(&self) -> f64 {
        self.taken as f64 / self.took.as_secs_f64()
    }

    /// Signals a second in the worst `seconds` that follow each other, or in all of a shorter run.
    pub fn worst(&self, seconds: usize) -> f64 {
        let length = seconds.min(self.by_second.len()).max(1);
        let sums = self.by_second.windows(length).map(|window| window.iter().sum::<u64>());
        sums.min().unwrap_or(0) as f64 / length as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::{Router, http::StatusCode, routing::post};

    #[test]
    fn the_worst_seconds_follow_each_other() {
        let at = |seconds: f64| (Duration::from_secs_f64(seconds), Duration::from_millis(2));
        let answers = [at(0.1), at(0.2), at(0.9), at(1.5), at(2.1), at(2.2), at(3.9)];
        let pushed = Pushed::of(&answers, Duration::from_secs_f64(3.5));
        assert_eq!(pushed.by_second, [3, 1, 2]);
        assert_eq!((pushed.worst(2), pushed.worst(10), pushed.rate()), (1.5, 2.0, 2.0));
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn each_signal_is_pushed_once_and_202_is_wanted() {
        let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
        let take = move |body: String| async move {
            let status = if body == "bad" { StatusCode::BAD_REQUEST } else { StatusCode::ACCEPTED };
            tell.send(body).unwrap();
            status
        };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let hub = listener.local_addr().unwrap();
        let routes = Router::new().route("/v1/feeds/main/signals", post(take));
        tokio::spawn(async move { axum::serve(listener, routes).await });
        let plan = |sets: &[&str]| Plan {
            hub,
            kind: SIGNALS,
            token: "secret".to_owned(),
            sets: sets.iter().map(|set| (*set).to_owned()).collect(),
            connections: 2,
            time: Duration::from_secs(5),
            rate: Some(100),
        };
        assert_eq!(plan(&["a", "b", "c"]).run().await.unwrap().taken, 3);
        let mut got: Vec<String> = std::iter::from_fn(|| told.try_recv().ok()).collect();
        got.sort();
        assert_eq!(got, ["a", "b", "c"]);
        assert!(plan(&["bad"]).run().await.is_err());
    }
}

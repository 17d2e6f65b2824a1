//! A sidecar with its upstream, ready for requests.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use tokio::time;

use crate::{
    Error, Result, artefacts,
    bootstrap::{ACCESS_LOG, Settings},
    client::{self, Answer, Http, Request},
    envoy::Envoy,
    mint::Jwt,
    orders,
    refusal::{assert_signal_accepted, describe},
    upstream::Upstream,
};

/// An Envoy with the filter in it, and the service behind it.
pub struct Sidecar {
    envoy: Envoy,
    upstream: Upstream,
    app: SocketAddr,
    signals: SocketAddr,
    others: Vec<(String, SocketAddr)>,
    workers: u32,
}

impl Sidecar {
    /// Starts both and waits until they are ready. If Envoy does not come up, the error holds its log.
    pub async fn start(settings: Settings) -> Result<Self> {
        let wasm = artefacts::wasm()?;
        let upstream = Upstream::start()?;
        let (name, workers) = (settings.name.clone(), settings.workers);
        let names: Vec<_> = settings.others.iter().map(|(name, _)| name.clone()).collect();
        let envoy = Envoy::start(&name, &settings.into_bootstrap(&wasm, upstream.address()), workers).await?;
        let (app, signals) = (envoy.listener("app").await?, envoy.listener("signals").await?);
        let mut others = Vec::new();
        for name in names {
            let address = envoy.listener(&name).await?;
            others.push((name, address));
        }
        Ok(Self { envoy, upstream, app, signals, others, workers })
    }

    /// The process, its statistics and its log.
    pub fn envoy(&self) -> &Envoy {
        &self.envoy
    }

    /// The service behind it.
    pub fn upstream(&self) -> &Upstream {
        &self.upstream
    }

    /// Where requests go.
    pub fn app(&self) -> SocketAddr {
        self.app
    }

    /// Where requests go that are to meet the configuration of [`Settings::also`] with this name.
    pub fn listener(&self, name: &str) -> SocketAddr {
        let found = self.others.iter().find(|(known, _)| known == name);
        found.unwrap_or_else(|| panic!("the test has no listener `{name}`")).1
    }

    /// Where signals go.
    pub fn signals(&self) -> SocketAddr {
        self.signals
    }

    /// Sends a request to the app on a connection of its own.
    pub async fn send(&self, http: Http, request: &Request) -> Result<Answer> {
        client::send(self.app, http, request).await
    }

    /// What the access log says about requests that have been answered, once it has `lines` lines.
    pub async fn access_log(&self, lines: usize) -> Result<String> {
        let deadline = Instant::now() + client::ANSWER_WITHIN;
        loop {
            let log = self.envoy.file(ACCESS_LOG);
            if log.lines().count() >= lines {
                return Ok(log);
            }
            if Instant::now() > deadline {
                return Err(Error::new(format!("the access log did not get to {lines} lines:\n{log}")));
            }
            time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Pushes a signal, as a transmitter would.
    pub async fn push(&self, set: &Jwt) -> Result<Answer> {
        client::send(self.signals, Http::One, &Request::push(orders::SIGNALS_PATH, &set.sign())).await
    }

    /// Pushes a signal. Panics unless the receiver accepts it.
    pub async fn accept(&self, set: &Jwt) {
        let answer = self.push(set).await.unwrap();
        assert_eq!(answer.status, 202, "of {}\n{}", set.claims_text(), describe(&answer));
        assert_signal_accepted(&answer);
    }

    /// How many connections each worker accepted so far on the app listener.
    pub async fn connections_by_worker(&self) -> Result<Vec<u64>> {
        let stats = self.envoy.stats().await?;
        (0..self.workers)
            .map(|worker| stats.value(&format!("listener.app.worker_{worker}.downstream_cx_total")))
            .collect()
    }

    /// How many virtual machines were created so far. A crash shows as one more.
    pub async fn machines_created(&self) -> Result<u64> {
        self.envoy.stats().await?.value("wasm.envoy.wasm.runtime.v8.created")
    }

    /// An error if any worker lost its virtual machine since `created` was read, or panicked.
    pub async fn check_no_crash_since(&self, created: u64) -> Result<()> {
        let now = self.machines_created().await?;
        let log = self.envoy.log();
        let complaint = log.lines().find(|line| line.contains("panicked at") || line.contains("in-VM"));
        match complaint {
            Some(line) => Err(Error::new(format!("a worker's machine crashed: {line}"))),
            None if now == created => Ok(()),
            None => Err(Error::new(format!("machines were {created} and are {now}: a worker's was restarted"))),
        }
    }
}

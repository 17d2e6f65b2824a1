//! A server of key sets, as an issuer runs one: it counts who asks, and can be slow, broken, down, or publish others.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc},
    thread,
    time::Duration,
};

use axum::{
    Router,
    extract::State,
    http::{HeaderMap, StatusCode, Uri, header},
    response::IntoResponse,
};
use serde_json::{Value, json};
use tokio::{net::TcpListener, runtime, sync::oneshot, time};

use crate::{Error, Result};

/// A running server; it stops when dropped.
///
/// Like the upstream, it has a thread and a runtime of its own.
pub struct Jwks {
    address: SocketAddr,
    state: Shared,
    // Dropping the sender is the signal to stop.
    _stop: oneshot::Sender<()>,
}

/// What it answers, and who asked.
struct Published {
    status: u16,
    body: String,
    delay: Duration,
    requests: Vec<String>,
}

type Shared = Arc<Mutex<Published>>;

impl Jwks {
    /// Starts one on a free port of the loopback interface, which publishes `jwks`.
    pub fn start(jwks: Value) -> Result<Self> {
        Self::start_on(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), jwks)
    }

    /// Starts one where [`down`] said that there would be one.
    pub fn start_on(address: SocketAddr, jwks: Value) -> Result<Self> {
        let published = Published { status: 200, body: jwks.to_string(), delay: Duration::ZERO, requests: Vec::new() };
        let state: Shared = Arc::new(Mutex::new(published));
        let routes = Router::new().fallback(answer).with_state(state.clone());
        let (stop, stopped) = oneshot::channel();
        let (started, bound) = mpsc::sync_channel(1);
        thread::Builder::new()
            .name("jwks".to_owned())
            .spawn(move || {
                let outcome = runtime::Builder::new_current_thread().enable_all().build();
                match outcome {
                    Ok(runtime) => runtime.block_on(serve(address, routes, started, stopped)),
                    Err(cause) => drop(started.send(Err(cause))),
                }
            })
            .map_err(Error::doing("start the thread of the key server"))?;
        let address = bound
            .recv()
            .map_err(Error::doing("wait for the key server"))?
            .map_err(Error::doing(format!("listen on {address} as the key server")))?;
        Ok(Self { address, state, _stop: stop })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Publishes another set from now on.
    pub fn publish(&self, jwks: &Value) {
        self.answer(200, jwks.to_string());
    }

    /// Answers with this status and body from now on.
    pub fn answer(&self, status: u16, body: impl Into<String>) {
        let mut published = self.lock();
        published.status = status;
        published.body = body.into();
    }

    /// Answers only after so long from now on.
    pub fn delay(&self, delay: Duration) {
        self.lock().delay = delay;
    }

    /// How often it was asked.
    pub fn requests(&self) -> usize {
        self.lock().requests.len()
    }

    /// Host and path of all requests.
    pub fn asked_for(&self) -> Vec<String> {
        self.lock().requests.clone()
    }

    fn lock(&self) -> MutexGuard<'_, Published> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An address at which nothing listens now.
pub fn down() -> Result<SocketAddr> {
    let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(Error::doing("find a free port"))?;
    listener.local_addr().map_err(Error::doing("find a free port"))
}

/// A cluster of Envoy for the server at `address`.
pub fn cluster(name: &str, address: SocketAddr) -> Value {
    json!({
        "name": name,
        "type": "STATIC",
        "connect_timeout": "1s",
        "load_assignment": {
            "cluster_name": name,
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": {"socket_address": {
                "address": address.ip().to_string(), "port_value": address.port()
            }}}}]}]
        }
    })
}

/// A change to a bootstrap: these clusters besides.
pub fn with_clusters(clusters: Vec<Value>) -> impl FnOnce(&mut Value) + Send {
    move |bootstrap| {
        if let Some(all) = bootstrap["static_resources"]["clusters"].as_array_mut() {
            all.extend(clusters);
        }
    }
}

async fn serve(
    address: SocketAddr,
    routes: Router,
    started: mpsc::SyncSender<std::io::Result<SocketAddr>>,
    stopped: oneshot::Receiver<()>,
) {
    let listener = match TcpListener::bind(address).await {
        Ok(listener) => listener,
        Err(cause) => return drop(started.send(Err(cause))),
    };
    if started.send(listener.local_addr()).is_err() {
        return;
    }
    tokio::select! {
        _ = axum::serve(listener, routes) => {}
        _ = stopped => {}
    }
}

async fn answer(State(state): State<Shared>, uri: Uri, headers: HeaderMap) -> impl IntoResponse {
    let (status, body, delay) = {
        let mut published = state.lock().unwrap_or_else(PoisonError::into_inner);
        let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
        published.requests.push(format!("{host}{uri}"));
        (published.status, published.body.clone(), published.delay)
    };
    time::sleep(delay).await;
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    (status, [(header::CONTENT_TYPE, "application/jwk-set+json")], body)
}

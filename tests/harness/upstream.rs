//! The service behind the sidecar: answers every request with what reached it, and remembers who did.

use std::{
    collections::HashSet,
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, PoisonError, mpsc},
    thread,
};

use axum::{
    Router,
    body::Body,
    extract::State,
    http::{HeaderMap, Method, StatusCode, Uri, Version, header},
    response::IntoResponse,
    serve::ListenerExt,
};
use http_body_util::BodyExt;
use serde_json::{Map, Value, json};
use tokio::{
    net::{TcpListener, TcpStream},
    runtime,
    sync::oneshot,
};

use crate::{Error, Result, services};

/// The header by which a request is told from all others of this process.
pub const PROBE: &str = "x-probe";

/// A running upstream (HTTP/1 and HTTP/2 without TLS on one port); it stops when dropped.
///
/// It has a thread and a runtime of its own: tests that share one each have their own runtime, and would stop it with
/// theirs.
pub struct Upstream {
    address: SocketAddr,
    reached: Reached,
    open: services::Open,
    // Dropping the sender is the signal to stop.
    _stop: oneshot::Sender<()>,
}

/// The requests that came through.
#[derive(Default)]
struct Arrivals {
    probes: HashSet<String>,
    count: u64,
}

type Reached = Arc<Mutex<Arrivals>>;

impl Upstream {
    /// Starts one on a free port of the loopback interface.
    pub fn start() -> Result<Self> {
        let reached = Reached::default();
        let open = services::Open::default();
        let routes = routes(reached.clone(), open.clone());
        let (stop, stopped) = oneshot::channel();
        let (started, address) = mpsc::sync_channel(1);
        thread::Builder::new()
            .name("upstream".to_owned())
            .spawn(move || {
                let outcome = runtime::Builder::new_current_thread().enable_all().build();
                match outcome {
                    Ok(runtime) => runtime.block_on(serve(routes, started, stopped)),
                    Err(cause) => drop(started.send(Err(cause))),
                }
            })
            .map_err(Error::doing("start the thread of the upstream"))?;
        let address = address
            .recv()
            .map_err(Error::doing("wait for the upstream"))?
            .map_err(Error::doing("listen as the upstream"))?;
        Ok(Self { address, reached, open, _stop: stop })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Whether the request with this probe came through to here.
    pub fn was_reached_by(&self, probe: &str) -> bool {
        self.reached.lock().unwrap_or_else(PoisonError::into_inner).probes.contains(probe)
    }

    /// The streams that go on here.
    pub fn streams(&self) -> &services::Open {
        &self.open
    }

    /// How many requests came through to here, with a probe or without.
    pub fn arrivals(&self) -> u64 {
        self.reached.lock().unwrap_or_else(PoisonError::into_inner).count
    }
}

/// New behaviours (a stream, an upload, a socket) become routes here, before the fallback.
fn routes(reached: Reached, open: services::Open) -> Router {
    services::routes(open).fallback(echo).with_state(reached)
}

async fn serve(routes: Router, started: mpsc::SyncSender<std::io::Result<SocketAddr>>, stopped: oneshot::Receiver<()>) {
    let listener = match TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await {
        Ok(listener) => listener,
        Err(cause) => return drop(started.send(Err(cause))),
    };
    if started.send(listener.local_addr()).is_err() {
        return;
    }
    tokio::select! {
        // axum answers errors of single connections itself and never returns.
        _ = axum::serve(listener.tap_io(without_delay), routes) => {}
        _ = stopped => {}
    }
}

/// An answer of several small writes would wait for the acknowledgement of the first.
fn without_delay(connection: &mut TcpStream) {
    // It is slower without, and as right.
    let _ = connection.set_nodelay(true);
}

async fn echo(
    State(reached): State<Reached>,
    method: Method,
    uri: Uri,
    version: Version,
    headers: HeaderMap,
    body: Body,
) -> impl IntoResponse {
    {
        let mut reached = reached.lock().unwrap_or_else(PoisonError::into_inner);
        reached.count += 1;
        reached.probes.extend(headers.get(PROBE).map(|probe| String::from_utf8_lossy(probe.as_bytes()).into_owned()));
    }
    let Ok(body) = body.collect().await else { return (StatusCode::BAD_REQUEST, "the body broke off").into_response() };
    let trailers = body.trailers().map(shown).unwrap_or_default();
    let seen: Value = json!({
        "method": method.as_str(),
        "path": uri.path_and_query().map_or("", |path| path.as_str()),
        "host": uri.authority().map(|host| host.as_str()),
        "version": format!("{version:?}"),
        "headers": shown(&headers),
        "body_bytes": body.to_bytes().len(),
        "trailers": trailers,
    });
    ([(header::CONTENT_TYPE, "application/json")], seen.to_string()).into_response()
}

fn shown(headers: &HeaderMap) -> Map<String, Value> {
    let values =
        |name| headers.get_all(name).iter().map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
    headers.keys().map(|name| (name.to_string(), values(name).collect::<Vec<_>>().into())).collect()
}

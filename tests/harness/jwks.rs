//! A server of key sets, as an issuer runs one: it counts who asks, and can be slow, broken, down, or publish others.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc},
    thread,
    time::Duration,
};

use axum::{
    Router,
    body::Body,
    extract::State,
    http::{HeaderMap, Method, StatusCode, Uri, header},
    response::{IntoResponse, Response},
};
use futures_util::stream;
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
    documents: BTreeMap<String, Document>,
    requests: Vec<Asked>,
}

/// One request that came.
#[derive(Clone)]
struct Asked {
    /// Host and path.
    target: String,
    authorization: Option<String>,
    accept_encoding: Option<String>,
}

/// What it answers at one path.
#[derive(Clone, Default)]
pub struct Document {
    status: u16,
    headers: Vec<(&'static str, String)>,
    body: Vec<u8>,
    is_streamed: bool,
    authorization: Option<String>,
}

impl Document {
    /// A good answer with this body.
    pub fn of(body: impl Into<Vec<u8>>) -> Self {
        Self { status: 200, body: body.into(), ..Self::default() }
    }

    /// A redirect.
    pub fn moved(status: u16, location: impl Into<String>) -> Self {
        Self { status, ..Self::of("").header("location", location) }
    }

    /// With a header.
    pub fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// Sent as it is made, so that no header tells how long it is.
    pub fn streamed(mut self) -> Self {
        self.is_streamed = true;
        self
    }

    /// Only for who says this in `authorization`; others get 401.
    pub fn only_for(mut self, authorization: &str) -> Self {
        self.authorization = Some(authorization.to_owned());
        self
    }
}

type Shared = Arc<Mutex<Published>>;

impl Jwks {
    /// Starts one on a free port of the loopback interface, which publishes `jwks`.
    pub fn start(jwks: Value) -> Result<Self> {
        Self::start_on(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), jwks)
    }

    /// Starts one where [`down`] said that there would be one.
    pub fn start_on(address: SocketAddr, jwks: Value) -> Result<Self> {
        let published = Published {
            status: 200,
            body: jwks.to_string(),
            delay: Duration::ZERO,
            documents: BTreeMap::new(),
            requests: Vec::new(),
        };
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

    /// Answers with this at `path` from now on.
    pub fn serve(&self, path: &str, document: Document) {
        self.lock().documents.insert(path.to_owned(), document);
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
        self.lock().requests.iter().map(|asked| asked.target.clone()).collect()
    }

    /// The header `authorization` of all requests.
    pub fn authorizations(&self) -> Vec<Option<String>> {
        self.lock().requests.iter().map(|asked| asked.authorization.clone()).collect()
    }

    /// The header `accept-encoding` of all requests.
    pub fn accepted_encodings(&self) -> Vec<Option<String>> {
        self.lock().requests.iter().map(|asked| asked.accept_encoding.clone()).collect()
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

async fn answer(State(state): State<Shared>, method: Method, uri: Uri, headers: HeaderMap) -> Response {
    let text = |name| headers.get(name).and_then(|value: &header::HeaderValue| value.to_str().ok()).map(str::to_owned);
    let authorization = text(header::AUTHORIZATION);
    let (document, delay) = {
        let mut published = state.lock().unwrap_or_else(PoisonError::into_inner);
        published.requests.push(Asked {
            target: format!("{}{uri}", text(header::HOST).unwrap_or_default()),
            authorization: authorization.clone(),
            accept_encoding: text(header::ACCEPT_ENCODING),
        });
        let plain = || Document { status: published.status, ..Document::of(published.body.clone()) };
        (published.documents.get(uri.path()).cloned().unwrap_or_else(plain), published.delay)
    };
    time::sleep(delay).await;
    if document.authorization.is_some() && document.authorization != authorization {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    let status = StatusCode::from_u16(document.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let body = match document.is_streamed {
        true if method == Method::HEAD => Body::from_stream(stream::empty::<std::io::Result<Vec<u8>>>()),
        true => Body::from_stream(stream::iter([Ok::<_, std::io::Error>(document.body)])),
        false => Body::from(document.body),
    };
    let mut response = (status, [(header::CONTENT_TYPE, "application/jwk-set+json")], body).into_response();
    for (name, value) in document.headers {
        if let Ok(value) = value.parse() {
            response.headers_mut().insert(name, value);
        }
    }
    response
}

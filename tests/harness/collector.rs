//! A collector of OTLP over gRPC that keeps what it was sent, as bytes.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::State,
    http::Uri,
    response::Response,
};
use tokio::{net::TcpListener, task::JoinHandle};

use crate::{Error, Result};

/// What came: the path of the call, and its message.
type Came = Arc<Mutex<Vec<(String, Bytes)>>>;

/// A running collector; it stops when dropped.
pub struct Collector {
    address: SocketAddr,
    came: Came,
    task: JoinHandle<()>,
}

impl Collector {
    /// Starts one on a free port of the loopback interface.
    pub async fn start() -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.map_err(Error::doing("listen"))?;
        let address = listener.local_addr().map_err(Error::doing("listen"))?;
        let came = Came::default();
        let routes = Router::new().fallback(take).with_state(came.clone());
        let task = tokio::spawn(async move {
            // axum answers errors of single connections itself and never returns.
            let _ = axum::serve(listener, routes).await;
        });
        Ok(Self { address, came, task })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Whether a call to this path had a message with this text in it.
    pub fn has(&self, path: &str, text: &str) -> bool {
        let came = self.came.lock().unwrap_or_else(PoisonError::into_inner);
        came.iter().any(|(to, message)| to == path && message.windows(text.len()).any(|part| part == text.as_bytes()))
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Answers a call with an empty message, and status 0 in a trailers-only answer is enough for Envoy.
async fn take(State(came): State<Came>, uri: Uri, message: Bytes) -> Response {
    came.lock().unwrap_or_else(PoisonError::into_inner).push((uri.path().to_owned(), message));
    Response::builder()
        .header("content-type", "application/grpc")
        .header("grpc-status", "0")
        .body(Body::empty())
        .unwrap_or_default()
}

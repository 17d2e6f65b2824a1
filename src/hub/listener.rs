//! Takes connections: TLS where it is configured, HTTP/1 and HTTP/2, and a clean end of both.

use crate::access::authenticate::Peer;
use crate::access::certificate;
use crate::tls::Tls;
use axum::Router;
use axum::body::Body;
use axum::http::Request;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tower::ServiceExt;

/// So many connections are open at once; others wait.
const MAX_CONNECTIONS: usize = 65_536;

/// A caller has so long to shake hands.
const PATIENCE: Duration = Duration::from_secs(10);

/// A connection may be idle between requests, or send headers, for so long.
const IDLE: Duration = Duration::from_secs(75);

/// Serves `router` on `listener` until `stop` becomes true. Then it takes no connections, lets requests come to their end
/// for at most `grace`, and returns.
pub async fn serve(
    listener: TcpListener,
    tls: Option<Arc<Tls>>,
    router: Router,
    mut stop: watch::Receiver<bool>,
    grace: Duration,
) {
    let room = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let Ok(place) = Arc::clone(&room).acquire_owned().await else { break };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stop.wait_for(|stop| *stop) => break,
        };
        match accepted {
            Ok((stream, address)) => {
                let (tls, router, stop) = (tls.clone(), router.clone(), stop.clone());
                connections.spawn(async move {
                    connection(stream, address.ip().to_canonical(), tls, router, stop).await;
                    drop(place);
                });
            }
            Err(error) => {
                // Out of file descriptors: wait until some are free.
                tracing::warn!(%error, "a connection cannot be accepted");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
    drop(listener);
    let all_ended = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(grace, all_ended).await.is_err() {
        tracing::warn!("some requests did not end in time and are cut off");
    }
}

async fn connection(
    stream: TcpStream,
    address: IpAddr,
    tls: Option<Arc<Tls>>,
    router: Router,
    stop: watch::Receiver<bool>,
) {
    // An answer of a few bytes must not wait for more.
    drop(stream.set_nodelay(true));
    let Some(tls) = tls else { return requests(stream, Peer { address, spiffe: None }, router, stop).await };
    let handshake = TlsAcceptor::from(tls.current()).accept(stream);
    match tokio::time::timeout(PATIENCE, handshake).await {
        Ok(Ok(stream)) => {
            let (_, session) = stream.get_ref();
            let leaf = session.peer_certificates().and_then(<[_]>::first);
            let spiffe = leaf.and_then(|leaf| certificate::spiffe_id(leaf)).map(Arc::from);
            requests(stream, Peer { address, spiffe }, router, stop).await;
        }
        Ok(Err(error)) => tracing::debug!(%address, %error, "a TLS handshake failed"),
        Err(_) => tracing::debug!(%address, "a TLS handshake took too long"),
    }
}

async fn requests(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    peer: Peer,
    router: Router,
    mut stop: watch::Receiver<bool>,
) {
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(peer.clone());
        router.clone().oneshot(request.map(Body::new))
    });
    let mut builder = Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(IDLE).max_buf_size(32 * 1024);
    builder.http2().timer(TokioTimer::new()).keep_alive_interval(Duration::from_secs(30)).max_concurrent_streams(200);
    let connection = builder.serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    tokio::select! {
        ended = connection.as_mut() => return log(ended),
        _ = stop.wait_for(|stop| *stop) => connection.as_mut().graceful_shutdown(),
    }
    log(connection.await);
}

fn log(ended: Result<(), Box<dyn std::error::Error + Send + Sync>>) {
    if let Err(error) = ended {
        tracing::debug!(error, "a connection broke off");
    }
}

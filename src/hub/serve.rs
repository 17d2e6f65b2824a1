//! Listens, and serves a router over HTTP/1 and HTTP/2, with TLS or without.
//!
//! Most connections belong to proxies that wait, so the settings keep a waiting connection small.

use crate::access::peer::Peer;
use crate::access::sources::{Counted, Sources};
use crate::feed::pace::Meter;
use axum::Router;
use axum::body::Body;
use axum::http::Request;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::GracefulShutdown;
use rustls::ServerConfig;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tower::ServiceExt;

/// More connections are not accepted until others end.
const MAX_CONNECTIONS: usize = 60_000;

/// The least that hyper allows. A request and a page of a feed without its entries fit.
const BUFFER: usize = 8 * 1024;

/// The head of a request must arrive in this time, also on a connection that was used before.
const HEAD_TIMEOUT: Duration = Duration::from_secs(75);

/// A TLS handshake must end in this time.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// After `shutdown`, requests have this time to end.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);

/// After a failure to accept, such as too many open files.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The configuration of TLS. A new value is used for the connections that come after it.
pub type Tls = watch::Receiver<Arc<ServerConfig>>;

/// Serves `router` on `listener` until `shutdown`, and then until the requests that run have ended, at most for ten
/// seconds. `sources` says how many connections each address may have: one more is closed at once.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    tls: Option<Tls>,
    sources: Arc<Sources>,
    shutdown: impl Future<Output = ()>,
) {
    let server = Server {
        http: Arc::new(builder()),
        router: router.into_service(),
        graceful: GracefulShutdown::new(),
        room: Arc::new(Semaphore::new(MAX_CONNECTIONS)),
    };
    let mut shutdown = std::pin::pin!(shutdown);
    loop {
        tokio::select! {
            () = &mut shutdown => break,
            accepted = server.accept(&listener) => match accepted {
                Ok((stream, address, permit)) => {
                    if let Some(counted) = sources.begin(address.ip()) {
                        server.start(stream, address, (permit, counted), tls.as_ref());
                    }
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
    drop(listener);
    if timeout(DRAIN_TIMEOUT, server.graceful.shutdown()).await.is_err() {
        tracing::warn!("some requests did not end in time");
    }
}

type Service = axum::routing::RouterIntoService<Body>;
type Permit = tokio::sync::OwnedSemaphorePermit;

struct Server {
    http: Arc<Builder<TokioExecutor>>,
    router: Service,
    graceful: GracefulShutdown,
    room: Arc<Semaphore>,
}

impl Server {
    async fn accept(&self, listener: &TcpListener) -> io::Result<(TcpStream, SocketAddr, Permit)> {
        let permit = self.room.clone().acquire_owned().await.map_err(io::Error::other)?;
        let (stream, address) = listener.accept().await?;
        stream.set_nodelay(true)?;
        Ok((stream, address, permit))
    }

    fn start(&self, stream: TcpStream, address: SocketAddr, permit: (Permit, Counted), tls: Option<&Tls>) {
        let (http, router, watcher) = (self.http.clone(), self.router.clone(), self.graceful.watcher());
        let Some(tls) = tls else {
            let peer = Arc::new(Peer::new(address, Vec::new()));
            tokio::spawn(async move {
                let service = service(router, peer.clone());
                let connection = http.serve_connection(TokioIo::new(stream), service);
                timed(while_used(&peer, watcher.watch(connection))).await;
                drop(permit);
            });
            return;
        };
        let acceptor = TlsAcceptor::from(tls.borrow().clone());
        tokio::spawn(async move {
            let stream = match timeout(HANDSHAKE_TIMEOUT, Box::pin(acceptor.accept(stream))).await {
                Ok(Ok(stream)) => stream,
                Ok(Err(error)) => return tracing::debug!(%address, %error, "a TLS handshake failed"),
                Err(_) => return tracing::debug!(%address, "a TLS handshake took too long"),
            };
            let shown = stream.get_ref().1.peer_certificates().unwrap_or_default();
            let certificates = shown.iter().map(|certificate| certificate.clone().into_owned()).collect();
            let peer = Arc::new(Peer::new(address, certificates));
            let service = service(router, peer.clone());
            let connection = http.serve_connection(TokioIo::new(stream), service);
            timed(while_used(&peer, watcher.watch(connection))).await;
            drop(permit);
        });
    }
}

/// Serves the connection of `peer` until it ends, or is not used any more by somebody who is known.
async fn while_used<F: Future>(peer: &Peer, connection: F) {
    tokio::select! {
        _ = connection => {}
        () = peer.activity.unused() => tracing::debug!(address = %peer.address, "a connection that is not used is closed"),
    }
}

/// How connections are served.
pub fn builder() -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(BUFFER)
        // Without this hyper reads on while a request waits, to see the other side leave, and takes a second buffer for
        // it. A follower that left is noticed when its wait ends.
        .half_close(true)
        // Entries go out from the shared bytes, not through a buffer of the connection.
        .writev(true)
        .pipeline_flush(false);
    builder.http2().timer(TokioTimer::new()).max_concurrent_streams(200).max_send_buf_size(BUFFER);
    builder
}

/// The router, with the peer in each request.
fn service(
    router: Service,
    peer: Arc<Peer>,
) -> impl hyper::service::Service<
    Request<Incoming>,
    Response = axum::response::Response,
    Error = std::convert::Infallible,
    Future = tower::util::Oneshot<Service, Request<Body>>,
> {
    hyper::service::service_fn(move |request: Request<Incoming>| {
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(peer.clone());
        router.clone().oneshot(request)
    })
}

/// A connection whose polls are timed: see [`Meter`].
struct Timed<F>(Pin<Box<F>>);

/// Runs a connection, and times its polls, so that the pace knows what pages cost: see [`Meter`].
pub async fn timed<F: Future>(connection: F) {
    Timed(Box::pin(connection)).await;
}

impl<F: Future> Future for Timed<F> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let begin = Instant::now();
        let poll = self.0.as_mut().poll(context);
        Meter::end_poll(begin.elapsed());
        // A connection that fails is the other side's loss: it connects again.
        poll.map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::time::Instant;

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_nobody_authenticates_is_closed() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let routes = Router::new().route("/livez", axum::routing::get(|| async { "alive" }));
        tokio::spawn(serve(listener, routes, None, Sources::new(9, 9), std::future::pending()));
        // Silence, what may be the begin of any request, HTTP/2 without a request, and a request that needs no token.
        let http2 = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
        for said in [&b""[..], b"P", http2, b"GET /livez HTTP/1.1\r\n\r\n"] {
            let began = Instant::now();
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(said).await.unwrap();
            let closed = timeout(Duration::from_secs(60), stream.read_to_end(&mut Vec::new())).await;
            assert!(closed.is_ok(), "{said:?} holds a connection");
            assert!(began.elapsed() >= Duration::from_secs(10));
        }
    }

    #[tokio::test]
    async fn an_address_cannot_take_all_connections() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let routes = Router::new().route("/livez", axum::routing::get(|| async { "alive" }));
        tokio::spawn(serve(listener, routes, None, Sources::new(2, 9), std::future::pending()));
        let ask = async || {
            let mut stream = TcpStream::connect(address).await.unwrap();
            _ = stream.write_all(b"GET /livez HTTP/1.1\r\nhost: hub\r\n\r\n").await;
            let answered = stream.read(&mut [0; 64]).await.is_ok_and(|read| read > 0);
            (stream, answered)
        };
        let held = [ask().await, ask().await];
        assert!(held.iter().all(|(_, answered)| *answered));
        assert!(!ask().await.1);
        drop(held);
        for _ in 0..100 {
            if ask().await.1 {
                return;
            }
            sleep(Duration::from_millis(20)).await;
        }
        panic!("connections that ended have no room");
    }
}

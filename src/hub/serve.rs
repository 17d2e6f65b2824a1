//! Listens, and serves a router over HTTP/1 and HTTP/2, with TLS or without.
//!
//! Most connections belong to proxies that wait, so the settings keep a waiting connection small.

use crate::access::peer::Peer;
use crate::access::sources::{Counted, Sources};
use crate::connection::Protocols;
use crate::feed::pace::Meter;
use crate::repeated::Repeated;
use axum::Router;
use rustls::ServerConfig;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;

/// More connections are not accepted until others end.
const MAX_CONNECTIONS: usize = 60_000;

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
        protocols: Arc::new(Protocols::new(router.into_service())),
        stop: watch::Sender::new(false),
        room: Arc::new(Semaphore::new(MAX_CONNECTIONS)),
    };
    let accepting = Repeated::new("cannot accept a connection");
    let mut shutdown = std::pin::pin!(shutdown);
    loop {
        tokio::select! {
            () = &mut shutdown => break,
            accepted = server.accept(&listener) => match accepted {
                Ok((stream, address, permit)) => {
                    accepting.went_well("");
                    if let Some(counted) = sources.begin(address.ip()) {
                        server.start(stream, address, (permit, counted), tls.as_ref());
                    }
                }
                Err(error) => {
                    accepting.failed("", error);
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
    drop(listener);
    server.stop.send_replace(true);
    // Each connection has a receiver.
    if timeout(DRAIN_TIMEOUT, server.stop.closed()).await.is_err() {
        tracing::warn!("some requests did not end in time");
    }
}

type Permit = tokio::sync::OwnedSemaphorePermit;

struct Server {
    protocols: Arc<Protocols>,
    stop: watch::Sender<bool>,
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
        let (protocols, stop) = (self.protocols.clone(), self.stop.subscribe());
        let Some(tls) = tls else {
            let peer = Arc::new(Peer::new(address, Vec::new()));
            tokio::spawn(async move {
                let served = protocols.serve(stream, Arc::clone(&peer), stop);
                timed(while_used(&peer, served)).await;
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
            let served = protocols.serve(stream, Arc::clone(&peer), stop);
            timed(while_used(&peer, served)).await;
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

/// A connection whose polls are timed, so that the pace knows what pages cost: see [`Meter`].
struct Timed<F>(Pin<Box<F>>);

fn timed<F: Future<Output = ()>>(connection: F) -> Timed<F> {
    Timed(Box::pin(connection))
}

impl<F: Future<Output = ()>> Future for Timed<F> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let begin = Meter::begin_poll();
        let poll = self.0.as_mut().poll(context);
        Meter::end_poll(begin);
        poll
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

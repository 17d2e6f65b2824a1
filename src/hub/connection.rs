//! One connection: HTTP/1 or HTTP/2, for as long as the other side keeps it.
//!
//! Most connections belong to proxies that wait for a page. Over HTTP/1 a connection of hyper has two buffers of 8 KiB,
//! and keeps them while a request waits and between two requests. So a request may park its answer (see [`Parking`]): then
//! the connection of hyper ends, and only the stream and the answer are kept. When the answer is there, a new connection of
//! hyper writes it and ends too. The next begins when there is something to read:
//!
//! ```text
//! bytes ─► hyper ─► handler ─► parks ─► the answer is there ─► hyper writes it ─► bytes ─► hyper ...
//! ```
//!
//! A connection of hyper answers requests only. So the one that writes is given [`RESUME`] to read, and answers that with
//! what was parked. hyper alone reads and writes HTTP.

use crate::access::peer::Peer;
use crate::parking::{Parking, Waiting};
use axum::body::Body;
use axum::http::header::{CONNECTION, EXPECT, UPGRADE};
use axum::http::{Method, Request, Version};
use axum::response::Response;
use bytes::{BufMut, Bytes, BytesMut};
use hyper::body::{Body as _, Incoming};
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use std::convert::Infallible;
use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::sync::watch;
use tokio::time::timeout;
use tower::ServiceExt;

/// The least that hyper allows. A request and a page of a feed without its entries fit.
const BUFFER: usize = 8 * 1024;

/// The head of a request must arrive in this time, also on a connection that was used before.
const HEAD_TIMEOUT: Duration = Duration::from_secs(75);

/// A connection with HTTP/2 begins with this (RFC 9113 §3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// What a connection of hyper reads that writes an answer that was parked. It is of the same version as the requests that
/// may park.
const RESUME: &[u8] = b"GET / HTTP/1.1\r\n\r\n";

/// The same, where the connection is to end with the answer.
const RESUME_AND_CLOSE: &[u8] = b"GET / HTTP/1.1\r\nconnection: close\r\n\r\n";

/// The routes.
pub type Routes = axum::routing::RouterIntoService<Body>;

/// What all connections have in common.
pub struct Protocols {
    http1: http1::Builder,
    http2: http2::Builder<TokioExecutor>,
    routes: Routes,
}

/// The most that is read before hyper begins. The request of a proxy fits.
const FIRST: usize = 2 * 1024;

impl Protocols {
    /// Serves `routes`.
    pub fn new(routes: Routes) -> Protocols {
        let mut http1 = http1::Builder::new();
        http1
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIMEOUT)
            .max_buf_size(BUFFER)
            // Without this hyper reads on while a request waits, to see the other side leave. A follower that left is
            // noticed when its wait ends.
            .half_close(true)
            // Entries go out from the shared bytes, not through a buffer of the connection.
            .writev(true)
            .pipeline_flush(false);
        let mut http2 = http2::Builder::new(TokioExecutor::new());
        http2.timer(TokioTimer::new()).max_concurrent_streams(200).max_send_buf_size(BUFFER);
        Protocols { http1, http2, routes }
    }

    /// Serves one connection until it ends. When `stop` says so, it ends with the request that runs. A connection that
    /// fails is the other side's loss: it connects again.
    pub async fn serve<S>(self: Arc<Self>, mut stream: S, peer: Arc<Peer>, stop: watch::Receiver<bool>)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let Ok(Ok(mut read)) = timeout(HEAD_TIMEOUT, Box::pin(first_bytes(&mut stream))).await else { return };
        if *read == *PREFACE {
            return Box::pin(self.talk_http2(Given::first(read, stream), peer, stop)).await;
        }
        loop {
            let given = Given::first(read, stream);
            let Some((given, answer)) = Box::pin(self.read_requests(given, &peer, stop.clone())).await else { return };
            (read, stream) = (given.read, given.stream);
            let answer = answer.await;
            let is_last = *stop.borrow();
            let Some(same) = Box::pin(self.write_answer(stream, answer, is_last)).await else { return };
            stream = same;
            if read.is_empty() {
                let more = tokio::select! {
                    more = timeout(HEAD_TIMEOUT, some_bytes(&mut stream)) => more,
                    () = stopped(stop.clone()) => return,
                };
                let Ok(Ok(more)) = more else { return };
                read = more;
            }
        }
    }

    /// Serves requests until one parks its answer: then the stream and that answer. `None`: the connection has ended.
    async fn read_requests<S>(
        &self,
        given: Given<S>,
        peer: &Arc<Peer>,
        stop: watch::Receiver<bool>,
    ) -> Option<(Given<S>, Waiting)>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let parking = Parking::default();
        let service = service_fn(|request: Request<Incoming>| {
            let parking = may_park(&request).then(|| parking.clone());
            route(self.routes.clone(), request, peer, parking)
        });
        let mut connection = self.http1.serve_connection(TokioIo::new(given), service);
        let mut stopped = std::pin::pin!(stopped(stop));
        let mut is_stopping = false;
        let parked = std::future::poll_fn(|context| {
            loop {
                if Pin::new(&mut connection).poll(context).is_ready() {
                    return Poll::Ready(None);
                }
                if let Some(answer) = parking.take() {
                    return Poll::Ready(Some(answer));
                }
                if is_stopping || stopped.as_mut().poll(context).is_pending() {
                    return Poll::Pending;
                }
                // Not before the first poll, which reads the request that came already.
                is_stopping = true;
                Pin::new(&mut connection).graceful_shutdown();
            }
        });
        let answer = parked.await?;
        // Nothing else is under way: the request has no body, and nothing of its answer was written.
        let parts = connection.into_parts();
        let Given { read, stream, .. } = parts.io.into_inner();
        // A copy, so that the buffer is free.
        let read = [&*parts.read_buf, &*read].concat().into();
        Some((Given::first(read, stream), answer))
    }

    /// Writes an answer that was parked, and gives the stream back. `None`: the connection has ended.
    async fn write_answer<S>(&self, stream: S, answer: Response, is_last: bool) -> Option<S>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let resume = Bytes::from_static(if is_last { RESUME_AND_CLOSE } else { RESUME });
        let answer = Mutex::new(Some(answer));
        let service = service_fn(|_: Request<Incoming>| {
            let answer = answer.lock().unwrap_or_else(PoisonError::into_inner).take();
            std::future::ready(answer.ok_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof)))
        });
        let connection = self.http1.serve_connection(TokioIo::new(Given::only(resume, stream)), service);
        let mut stream = connection.without_shutdown().await.ok()?.io.into_inner().stream;
        if is_last {
            // If that fails, the other side has left.
            _ = stream.shutdown().await;
            return None;
        }
        Some(stream)
    }

    async fn talk_http2<S>(&self, given: Given<S>, peer: Arc<Peer>, stop: watch::Receiver<bool>)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let routes = self.routes.clone();
        let service = service_fn(move |request| route(routes.clone(), request, &peer, None));
        let mut connection = self.http2.serve_connection(TokioIo::new(given), service);
        tokio::select! {
            biased;
            _ = &mut connection => return,
            () = stopped(stop) => Pin::new(&mut connection).graceful_shutdown(),
        }
        // A connection that fails is the other side's loss.
        _ = connection.await;
    }
}

/// The routes, with the peer and the place to park in the extensions of the request.
fn route(
    routes: Routes,
    request: Request<Incoming>,
    peer: &Arc<Peer>,
    parking: Option<Parking>,
) -> impl Future<Output = Result<Response, Infallible>> + use<> {
    let mut request = request.map(Body::new);
    request.extensions_mut().insert(peer.clone());
    if let Some(parking) = parking {
        request.extensions_mut().insert(parking);
    }
    routes.oneshot(request)
}

/// Whether what [`RESUME`] is answered with is an answer to `request`, of which nothing is still to be read.
fn may_park(request: &Request<Incoming>) -> bool {
    let headers = request.headers();
    request.method() == Method::GET
        && request.version() == Version::HTTP_11
        && request.body().is_end_stream()
        && ![CONNECTION, EXPECT, UPGRADE].iter().any(|name| headers.contains_key(name))
}

/// As many bytes as it takes to tell whether they begin a connection with HTTP/2.
async fn first_bytes(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Bytes> {
    let mut read = BytesMut::with_capacity(PREFACE.len());
    while read.len() < PREFACE.len() && PREFACE.starts_with(&read) {
        let rest = PREFACE.len().saturating_sub(read.len());
        if stream.read_buf(&mut (&mut read).limit(rest)).await? == 0 {
            break;
        }
    }
    Ok(read.freeze())
}

/// What comes next; nothing, where the stream has ended. Nothing is kept for that while nothing comes.
async fn some_bytes(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Bytes> {
    let next = std::future::poll_fn(|context| {
        let mut bytes = [MaybeUninit::uninit(); FIRST];
        let mut read = ReadBuf::uninit(&mut bytes);
        let polled = Pin::new(&mut *stream).poll_read(context, &mut read);
        polled.map_ok(|()| Bytes::copy_from_slice(read.filled()))
    });
    match next.await {
        Ok(bytes) if bytes.is_empty() => Err(io::ErrorKind::UnexpectedEof.into()),
        read => read,
    }
}

/// Returns when the hub stops.
async fn stopped(mut stop: watch::Receiver<bool>) {
    if stop.wait_for(|stop| *stop).await.is_err() {
        // Whoever could say so is gone.
        std::future::pending().await
    }
}

/// A stream of which `read` was read already.
struct Given<S> {
    read: Bytes,
    stream: S,
    /// Whether it ends after `read`, once all that is to be written is written.
    ends: bool,
    /// Whether something is to be written that the stream did not take yet.
    is_blocked: bool,
}

impl<S> Given<S> {
    /// First `read`, then what comes.
    fn first(read: Bytes, stream: S) -> Given<S> {
        Given { read, stream, ends: false, is_blocked: false }
    }

    /// Nothing but `read`.
    fn only(read: Bytes, stream: S) -> Given<S> {
        Given { read, stream, ends: true, is_blocked: false }
    }

    fn note<T>(&mut self, polled: Poll<T>) -> Poll<T> {
        self.is_blocked = polled.is_pending();
        polled
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Given<S> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if !self.read.is_empty() {
            let count = self.read.len().min(into.remaining());
            into.put_slice(&self.read.split_to(count));
            return Poll::Ready(Ok(()));
        }
        match (self.ends, self.is_blocked) {
            (false, _) => Pin::new(&mut self.stream).poll_read(context, into),
            (true, false) => Poll::Ready(Ok(())),
            // Whoever writes is woken, and then reads again.
            (true, true) => Poll::Pending,
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Given<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.note(polled)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write_vectored(context, pieces);
        self.note(polled)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_flush(context);
        self.note(polled)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::Router;
    use axum::extract::Extension;
    use axum::http::StatusCode;
    use axum::response::IntoResponse;
    use axum::routing::{get, post};
    use std::sync::atomic::{AtomicUsize, Ordering};
    use tokio::io::{DuplexStream, duplex};
    use tokio::sync::Notify;
    use tokio::task::JoinHandle;

    /// A client of one connection to a router where `/wait` parks until it is told.
    struct Client {
        stream: DuplexStream,
        go: Arc<Notify>,
        /// How often `/wait` was asked for.
        asked: Arc<AtomicUsize>,
        stop: watch::Sender<bool>,
        served: JoinHandle<()>,
    }

    /// More than the stream between client and hub takes at once.
    const LARGE: usize = 100_000;

    impl Client {
        fn new() -> Client {
            let (go, asked, stop) = (Arc::new(Notify::new()), Arc::<AtomicUsize>::default(), watch::Sender::new(false));
            let told = (go.clone(), asked.clone());
            let wait = async move |parking: Option<Extension<Parking>>| {
                told.1.fetch_add(1, Ordering::SeqCst);
                let go = told.0.clone();
                let answer = async move {
                    go.notified().await;
                    (StatusCode::GONE, [("x-answer", "parked")], "x".repeat(LARGE)).into_response()
                };
                match parking {
                    Some(Extension(parking)) => parking.park(answer).await,
                    None => (StatusCode::OK, "cannot park").into_response(),
                }
            };
            let routes = Router::new()
                .route("/wait", get(wait.clone()).post(wait))
                .route("/now", post(async |body: String| body))
                .into_service();
            let (stream, other) = duplex(8 * 1024);
            let peer = Arc::new(Peer::new("127.0.0.1:9".parse().unwrap(), Vec::new()));
            let served = tokio::spawn(Arc::new(Protocols::new(routes)).serve(other, peer, stop.subscribe()));
            Client { stream, go, asked, stop, served }
        }

        async fn send(&mut self, text: &str) {
            self.stream.write_all(text.as_bytes()).await.unwrap();
        }

        /// The head and the body of the next answer.
        async fn receive(&mut self) -> (String, String) {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(self.stream.read_u8().await.unwrap());
            }
            let head = String::from_utf8(head).unwrap();
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
            let mut body = vec![0; length.parse().unwrap()];
            self.stream.read_exact(&mut body).await.unwrap();
            (head, String::from_utf8(body).unwrap())
        }

        async fn until_asked(&self, times: usize) {
            while self.asked.load(Ordering::SeqCst) < times {
                tokio::task::yield_now().await;
            }
        }
    }

    const WAIT: &str = "GET /wait HTTP/1.1\r\nhost: hub\r\n\r\n";

    #[tokio::test]
    async fn an_answer_that_was_parked_is_written_whole_and_the_connection_goes_on() {
        let mut client = Client::new();
        for times in 1..=3 {
            client.send(WAIT).await;
            client.until_asked(times).await;
            client.go.notify_one();
            let (head, body) = client.receive().await;
            assert!(head.starts_with("HTTP/1.1 410 Gone\r\n") && head.contains("x-answer: parked\r\n"), "{head}");
            assert!(head.contains("\r\ndate: ") && !head.contains("connection:"), "{head}");
            assert_eq!(body.len(), LARGE);
            client.send("POST /now HTTP/1.1\r\nhost: hub\r\ncontent-length: 5\r\n\r\nhello").await;
            assert_eq!(client.receive().await.1, "hello");
        }
        drop(client.stream);
        client.served.await.unwrap();
    }

    #[tokio::test]
    async fn requests_that_come_at_once_or_in_pieces_are_answered_in_order() {
        let mut client = Client::new();
        client.go.notify_one();
        client.send(&format!("{WAIT}{WAIT}POST /now HTTP/1.1\r\nhost: hub\r\ncontent-length: 1\r\n\r\n1")).await;
        assert_eq!(client.receive().await.1.len(), LARGE);
        client.until_asked(2).await;
        client.go.notify_one();
        assert_eq!(client.receive().await.1.len(), LARGE);
        assert_eq!(client.receive().await.1, "1");
        client.go.notify_one();
        for piece in WAIT.as_bytes().chunks(3) {
            client.stream.write_all(piece).await.unwrap();
            tokio::task::yield_now().await;
        }
        assert_eq!(client.receive().await.1.len(), LARGE);
    }

    #[tokio::test]
    async fn only_a_plain_get_is_parked() {
        for request in [
            "POST /wait HTTP/1.1\r\nhost: hub\r\ncontent-length: 0\r\n\r\n",
            "GET /wait HTTP/1.1\r\nhost: hub\r\nconnection: close\r\n\r\n",
            "GET /wait HTTP/1.0\r\nhost: hub\r\n\r\n",
            "GET /wait HTTP/1.1\r\nhost: hub\r\ncontent-length: 1\r\n\r\n1",
            "GET /wait HTTP/1.1\r\nhost: hub\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
            "GET /wait HTTP/1.1\r\nhost: hub\r\nexpect: 100-continue\r\n\r\n",
        ] {
            let mut client = Client::new();
            client.send(request).await;
            assert_eq!(client.receive().await.1, "cannot park", "{request}");
        }
    }

    #[tokio::test]
    async fn when_the_hub_stops_the_last_answer_says_so_and_idle_connections_end() {
        let mut waiting = Client::new();
        waiting.send(WAIT).await;
        waiting.until_asked(1).await;
        waiting.stop.send_replace(true);
        waiting.go.notify_one();
        let (head, body) = waiting.receive().await;
        assert!(head.contains("connection: close\r\n"), "{head}");
        assert_eq!(body.len(), LARGE);
        assert_eq!(waiting.stream.read(&mut [0]).await.unwrap(), 0);
        waiting.served.await.unwrap();
        let mut idle = Client::new();
        idle.go.notify_one();
        idle.send(WAIT).await;
        idle.receive().await;
        idle.stop.send_replace(true);
        idle.served.await.unwrap();
        let mut idle = Client::new();
        idle.send("POST /now HTTP/1.1\r\nhost: hub\r\ncontent-length: 1\r\n\r\n1").await;
        idle.receive().await;
        idle.stop.send_replace(true);
        idle.served.await.unwrap();
    }

    #[tokio::test]
    async fn http2_is_told_by_its_first_bytes() {
        let client = Client::new();
        let (mut sender, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(client.stream)).await.unwrap();
        tokio::spawn(connection);
        let request = Request::post("http://hub/now").body(Body::from("hello")).unwrap();
        let answer = sender.send_request(request).await.unwrap();
        assert_eq!((answer.version(), answer.status()), (Version::HTTP_2, StatusCode::OK));
        let request = Request::get("http://hub/wait").body(Body::empty()).unwrap();
        let answer = sender.send_request(request).await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK, "it cannot park");
    }
}

//! Endless answers of the upstream: streams of every kind. Each one notices when it is cut off.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::{
    Extension, Router,
    body::{Body, Bytes},
    extract::{
        Request,
        ws::{Message, WebSocket, WebSocketUpgrade},
    },
    http::{Response, Uri, header},
    response::IntoResponse,
    routing::{any, get, post},
};
use futures_util::{Stream, StreamExt, stream};
use http_body_util::BodyExt;
use tokio::time;

use crate::grpc;

/// Server-sent events, numbered from 0; `?every=MS` says how often, else every 10 ms.
pub const EVENTS: &str = "/v1/live/events";
/// An answer that never begins.
pub const SILENCE: &str = "/v1/live/silence";
/// An answer of 16 KiB every 10 ms.
pub const DOWNLOAD: &str = "/v1/live/download";
/// Answers when the body has come to its end.
pub const UPLOAD: &str = "/v1/live/upload";
/// A WebSocket: sends what it gets, and a number every 10 ms.
pub const SOCKET: &str = "/v1/live/socket";

/// How many streams go on.
#[derive(Clone, Default)]
pub struct Open(Arc<AtomicUsize>);

impl Open {
    /// The number now.
    pub fn count(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }

    pub(crate) fn one_more(&self) -> One {
        self.0.fetch_add(1, Ordering::SeqCst);
        One(self.clone())
    }
}

/// One of them, for as long as it lives.
pub(crate) struct One(Open);

impl Drop for One {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::SeqCst);
    }
}

pub(crate) fn routes<S: Clone + Send + Sync + 'static>(open: Open) -> Router<S> {
    Router::new()
        .route(EVENTS, get(events))
        .route(SILENCE, any(silence))
        .route(DOWNLOAD, get(download))
        .route(UPLOAD, post(upload))
        .route(SOCKET, any(socket))
        .route(grpc::WATCH, post(grpc::watch))
        .route(grpc::COLLECT, post(grpc::collect))
        .route(grpc::TALK, post(grpc::talk))
        .layer(Extension(open))
}

/// A number every so often.
pub(crate) fn numbers(every: Duration) -> impl Stream<Item = u64> {
    stream::unfold((0u64, time::interval(every)), |(number, mut interval)| async move {
        interval.tick().await;
        Some((number, (number + 1, interval)))
    })
}

const OFTEN: Duration = Duration::from_millis(10);

async fn events(Extension(open): Extension<Open>, uri: Uri) -> impl IntoResponse {
    let every = uri.query().and_then(|query| query.strip_prefix("every=")?.parse().ok());
    let one = open.one_more();
    let events = numbers(every.map_or(OFTEN, Duration::from_millis)).map(move |number| {
        let _ = &one;
        Ok::<_, std::convert::Infallible>(format!("data: {number}\n\n"))
    });
    Response::builder()
        .header(header::CONTENT_TYPE, "text/event-stream")
        .body(Body::from_stream(events))
        .expect("a fixed answer")
}

async fn silence(Extension(open): Extension<Open>) -> impl IntoResponse {
    let _one = open.one_more();
    std::future::pending::<()>().await;
}

async fn download(Extension(open): Extension<Open>) -> impl IntoResponse {
    let one = open.one_more();
    Body::from_stream(numbers(OFTEN).map(move |_| {
        let _ = &one;
        Ok::<_, std::convert::Infallible>(Bytes::from_static(&[b'x'; 16 * 1024]))
    }))
}

async fn upload(Extension(open): Extension<Open>, request: Request) -> impl IntoResponse {
    let _one = open.one_more();
    let mut body = request.into_body();
    let mut bytes = 0;
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else { break };
        bytes += frame.data_ref().map_or(0, Bytes::len);
    }
    bytes.to_string()
}

async fn socket(Extension(open): Extension<Open>, upgrade: WebSocketUpgrade) -> impl IntoResponse {
    upgrade.on_upgrade(move |socket| talk(socket, open.one_more()))
}

async fn talk(mut socket: WebSocket, _one: One) {
    let mut numbers = Box::pin(numbers(OFTEN));
    loop {
        let message = tokio::select! {
            heard = socket.recv() => match heard {
                Some(Ok(message @ (Message::Text(_) | Message::Binary(_)))) => message,
                Some(Ok(_)) => continue,
                Some(Err(_)) | None => return,
            },
            number = numbers.next() => Message::Text(number.unwrap_or_default().to_string().into()),
        };
        if socket.send(message).await.is_err() {
            return;
        }
    }
}

//! Streams that stay open: the upstream that never ends them, and a client that holds them and sees each of them end.

use std::{
    convert::Infallible,
    net::SocketAddr,
    time::{Duration, Instant},
};

use axum::{Router, body::Body, routing::get};
use bytes::Bytes;
use futures_util::{StreamExt, future::try_join_all, stream};
use http_body_util::{BodyExt, Empty};
use hyper::{
    Response,
    body::Incoming,
    client::conn::{http1, http2},
    header::{AUTHORIZATION, HOST},
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use taskfence_tests::{client::Http, orders};
use tokio::{
    net::{TcpListener, TcpStream},
    task::{AbortHandle, JoinSet},
};

use crate::{Error, Result};

/// Begins every answer under `/v1/live/` and never ends one.
pub struct Upstream {
    address: SocketAddr,
    task: AbortHandle,
}

/// Open streams; closed when dropped.
pub struct Streams(Vec<Response<Incoming>>);

/// Streams share connections, as they do between a client and its sidecar.
const PER_CONNECTION: usize = 100;

const ANSWER_WITHIN: Duration = Duration::from_secs(20);

impl Upstream {
    /// Starts it on a free port.
    pub async fn start() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.map_err(Error::doing("listen as the upstream"))?;
        let address = listener.local_addr().map_err(Error::doing("listen as the upstream"))?;
        let routes = Router::new().route("/v1/live/{stream}", get(live));
        let task = tokio::spawn(async move { axum::serve(listener, routes).await }).abort_handle();
        Ok(Self { address, task })
    }

    /// Where it is.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn live() -> Body {
    let first = stream::once(async { Ok::<_, Infallible>(Bytes::from_static(b"begun\n")) });
    Body::from_stream(first.chain(stream::pending()))
}

impl Streams {
    /// Opens `count` streams with this token, and waits until each has begun to answer.
    pub async fn open(to: SocketAddr, http: Http, token: &str, count: usize) -> Result<Self> {
        let mut streams = Vec::new();
        while streams.len() < count {
            let tcp = TcpStream::connect(to).await.map_err(Error::doing("open streams"))?;
            let io = TokioIo::new(tcp);
            if http == Http::One {
                let (mut sender, connection) = http1::handshake(io).await.map_err(Error::doing("open streams"))?;
                tokio::spawn(connection);
                streams.push(begun(sender.send_request(request(Http::One, token)?)).await?);
                continue;
            }
            let (sender, connection) =
                http2::handshake(TokioExecutor::new(), io).await.map_err(Error::doing("open streams"))?;
            tokio::spawn(connection);
            let opened = (0..PER_CONNECTION.min(count - streams.len())).map(async |_| {
                let mut sender = sender.clone();
                sender.ready().await.map_err(Error::doing("open streams"))?;
                begun(sender.send_request(request(Http::Two, token)?)).await
            });
            streams.extend(try_join_all(opened).await?);
        }
        Ok(Self(streams))
    }

    /// Waits until all have ended or `limit` is over, and says when each did, since `from`. Those that did not are
    /// left out.
    pub async fn ends(self, from: Instant, limit: Duration) -> Vec<Duration> {
        let mut tasks = JoinSet::new();
        for mut answer in self.0 {
            tasks.spawn(async move {
                while let Some(Ok(_)) = answer.frame().await {}
                Instant::now()
            });
        }
        let mut ends = Vec::new();
        let deadline = tokio::time::Instant::from_std(from + limit);
        while let Ok(Some(Ok(ended))) = tokio::time::timeout_at(deadline, tasks.join_next()).await {
            ends.push(ended.saturating_duration_since(from));
        }
        ends.sort();
        ends
    }
}

fn request(http: Http, token: &str) -> Result<hyper::Request<Empty<Bytes>>> {
    let uri = match http {
        Http::One => "/v1/live/events".to_owned(),
        Http::Two => format!("http://{}/v1/live/events", orders::HOST),
    };
    let mut request = hyper::Request::builder().uri(uri).header(AUTHORIZATION, format!("Bearer {token}"));
    if http == Http::One {
        request = request.header(HOST, orders::HOST);
    }
    request.body(Empty::new()).map_err(Error::doing("make a request"))
}

async fn begun(answer: impl Future<Output = hyper::Result<Response<Incoming>>>) -> Result<Response<Incoming>> {
    let wait = async {
        let mut answer = answer.await?;
        let first = answer.frame().await;
        Ok::<_, hyper::Error>((answer, first))
    };
    let (answer, first) = tokio::time::timeout(ANSWER_WITHIN, wait)
        .await
        .map_err(|_| Error::new("a stream did not begin"))?
        .map_err(Error::doing("open a stream"))?;
    match (answer.status().as_u16(), first) {
        (200, Some(Ok(_))) => Ok(answer),
        (status, _) => Err(Error::new(format!("a stream was answered {status}"))),
    }
}

//! A client that leaves nothing to a pool: every connection is one that the test opened, every request one that it can
//! name.

use std::{
    net::SocketAddr,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{
    HeaderMap, Method,
    client::conn::{http1, http2},
    header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderName, HeaderValue},
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::Value;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time,
};

use crate::{Error, Result, upstream::PROBE};

/// An answer that takes longer is a hang, which no test wants to wait for.
pub const ANSWER_WITHIN: Duration = Duration::from_secs(20);

/// The version of HTTP to speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Http {
    /// HTTP/1.1.
    One,
    /// HTTP/2 without TLS, by prior knowledge.
    Two,
}

impl Http {
    /// Both versions, for a promise that does not depend on it.
    pub const BOTH: [Self; 2] = [Self::One, Self::Two];
}

/// A request that can be sent any number of times, on any connection.
#[derive(Clone, Debug)]
pub struct Request {
    method: Method,
    host: String,
    path: String,
    headers: Vec<(HeaderName, HeaderValue)>,
    body: Bytes,
}

impl Request {
    /// A GET without credentials, for [`crate::orders::HOST`].
    pub fn get(path: &str) -> Self {
        Self::new("GET", path)
    }

    /// A request without credentials or body, for [`crate::orders::HOST`].
    pub fn new(method: &str, path: &str) -> Self {
        Self {
            method: method.parse().expect("a method of the test"),
            host: crate::orders::HOST.to_owned(),
            path: path.to_owned(),
            headers: Vec::new(),
            body: Bytes::new(),
        }
    }

    /// A signal as a transmitter pushes it (RFC 8935 section 2).
    pub fn push(path: &str, set: &str) -> Self {
        Self::new("POST", path)
            .header(CONTENT_TYPE, "application/secevent+jwt")
            .header("accept", "application/json")
            .body(set.to_owned())
    }

    /// The `Host` or `:authority`.
    pub fn host(mut self, host: &str) -> Self {
        self.host = host.to_owned();
        self
    }

    /// `Authorization: Bearer` with this token.
    pub fn bearer(self, token: &str) -> Self {
        self.header(AUTHORIZATION, format!("Bearer {token}"))
    }

    /// One more header; any bytes that HTTP allows, also those above 0x7F.
    pub fn header(mut self, name: impl TryInto<HeaderName>, value: impl AsRef<[u8]>) -> Self {
        let name = name.try_into().ok().expect("a header name of the test");
        let value = HeaderValue::from_bytes(value.as_ref()).expect("a header value of the test");
        self.headers.push((name, value));
        self
    }

    /// The body.
    pub fn body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self
    }

    /// `GET http://orders.mesh/path`, as a person would write it down.
    pub fn line(&self) -> String {
        format!("{} http://{}{}", self.method, self.host, self.path)
    }

    fn to_hyper(&self, http: Http, probe: &str) -> Result<hyper::Request<Full<Bytes>>> {
        self.with_body(http, probe, Full::new(self.body.clone()))
    }

    /// As hyper wants it, with another body than its own.
    pub(crate) fn with_body<B>(&self, http: Http, probe: &str, body: B) -> Result<hyper::Request<B>> {
        let uri = match http {
            Http::One => self.path.clone(),
            Http::Two => format!("http://{}{}", self.host, self.path),
        };
        let mut request = hyper::Request::builder().method(self.method.clone()).uri(uri).header(PROBE, probe);
        if http == Http::One {
            request = request.header(HOST, &self.host);
        }
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        request.body(body).map_err(Error::doing(self.line()))
    }
}

/// What came back.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// All headers.
    pub headers: HeaderMap,
    /// The whole body.
    pub body: Bytes,
    /// What tells this request from all others; see [`crate::upstream::Upstream::was_reached_by`].
    pub probe: String,
}

impl Answer {
    /// The value of a header that must not be there twice. Bytes outside ASCII become replacement characters.
    pub fn header(&self, name: &str) -> Option<String> {
        let mut values = self.headers.get_all(name).iter();
        let value = values.next()?;
        assert!(values.next().is_none(), "the header `{name}` stands twice in {self:?}");
        Some(String::from_utf8_lossy(value.as_bytes()).into_owned())
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON, or null.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// The reason code of a refusal.
    pub fn reason(&self) -> Option<String> {
        self.json()["reason"].as_str().map(str::to_owned)
    }

    /// Status and reason on one line.
    pub fn line(&self) -> String {
        match self.reason() {
            Some(reason) => format!("{} {reason}", self.status),
            None => self.status.to_string(),
        }
    }
}

/// One connection, open until it is dropped.
pub struct Connection {
    sender: Sender,
}

enum Sender {
    One(http1::SendRequest<Full<Bytes>>),
    Two(http2::SendRequest<Full<Bytes>>),
}

impl Connection {
    /// Connects.
    pub async fn open(to: SocketAddr, http: Http) -> Result<Self> {
        let stream = TcpStream::connect(to).await.map_err(Error::doing(format!("connect to {to}")))?;
        stream.set_nodelay(true).map_err(Error::doing("set TCP_NODELAY"))?;
        Self::over(stream, http).await
    }

    /// Speaks HTTP over what is connected already.
    pub async fn over(stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static, http: Http) -> Result<Self> {
        let io = TokioIo::new(stream);
        // How a connection ends shows in the answers that are still expected of it.
        let sender = match http {
            Http::One => {
                let (sender, connection) = http1::handshake(io).await.map_err(Error::doing("HTTP/1 handshake"))?;
                tokio::spawn(connection);
                Sender::One(sender)
            }
            Http::Two => {
                let shaken = http2::handshake(TokioExecutor::new(), io).await;
                let (sender, connection) = shaken.map_err(Error::doing("HTTP/2 handshake"))?;
                tokio::spawn(connection);
                Sender::Two(sender)
            }
        };
        Ok(Self { sender })
    }

    /// The version of HTTP that it speaks.
    pub fn http(&self) -> Http {
        match self.sender {
            Sender::One(_) => Http::One,
            Sender::Two(_) => Http::Two,
        }
    }

    /// Sends one request and reads the whole answer.
    pub async fn send(&mut self, request: &Request) -> Result<Answer> {
        self.send_within(request, ANSWER_WITHIN).await
    }

    /// Sends one request and reads the whole answer, which may take as long as `limit`.
    pub async fn send_within(&mut self, request: &Request, limit: time::Duration) -> Result<Answer> {
        let probe = new_probe();
        let answer = time::timeout(limit, self.exchange(request, &probe)).await;
        answer.map_err(|_| Error::new(format!("{}: no answer within {limit:?}", request.line())))?
    }

    async fn exchange(&mut self, request: &Request, probe: &str) -> Result<Answer> {
        let answer = match &mut self.sender {
            Sender::One(sender) => {
                sender.ready().await.map_err(Error::doing(request.line()))?;
                sender.send_request(request.to_hyper(Http::One, probe)?).await
            }
            Sender::Two(sender) => {
                sender.ready().await.map_err(Error::doing(request.line()))?;
                sender.send_request(request.to_hyper(Http::Two, probe)?).await
            }
        };
        let (head, body) = answer.map_err(Error::doing(request.line()))?.into_parts();
        let body = body.collect().await.map_err(Error::doing(format!("{}: body of the answer", request.line())))?;
        Ok(Answer {
            status: head.status.as_u16(),
            headers: head.headers,
            body: body.to_bytes(),
            probe: probe.to_owned(),
        })
    }
}

/// Sends one request on a connection of its own.
pub async fn send(to: SocketAddr, http: Http, request: &Request) -> Result<Answer> {
    Connection::open(to, http).await?.send(request).await
}

/// A probe that no other request of this process has.
pub fn new_probe() -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    COUNT.fetch_add(1, Ordering::Relaxed).to_string()
}

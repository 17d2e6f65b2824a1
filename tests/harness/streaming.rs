//! A client for answers and requests that do not end by themselves.

use std::{
    error::Error as _,
    net::SocketAddr,
    time::{Duration, Instant},
};

use bytes::Bytes;
use http_body_util::{BodyExt, Either, Full, channel};
use hyper::{
    HeaderMap, Response,
    body::Incoming,
    client::conn::{http1, http2},
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{net::TcpStream, time};

use crate::{
    Error, Result,
    client::{ANSWER_WITHIN, Answer, Http, Request, new_probe},
};

/// The body of a request that is still being written.
pub type Upload = channel::Sender<Bytes>;

type Outgoing = Either<Full<Bytes>, channel::Channel<Bytes>>;

/// One connection. Over HTTP/2 it takes any number of streams, over HTTP/1 one.
pub struct Connection(Sender);

enum Sender {
    One(http1::SendRequest<Outgoing>),
    Two(http2::SendRequest<Outgoing>),
}

/// An answer that is still coming.
pub struct Streamed {
    /// The status code.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    body: Incoming,
    last_byte: Instant,
    probe: String,
}

/// How an answer ended.
#[derive(Debug)]
pub struct End {
    /// What broke it off; `None` when it came to its own end.
    pub broken: Option<String>,
    /// When its last byte came.
    pub last_byte: Instant,
    /// When its end was known.
    pub ended: Instant,
}

impl Connection {
    /// Connects.
    pub async fn open(to: SocketAddr, http: Http) -> Result<Self> {
        let stream = TcpStream::connect(to).await.map_err(Error::doing(format!("connect to {to}")))?;
        stream.set_nodelay(true).map_err(Error::doing("set TCP_NODELAY"))?;
        let io = TokioIo::new(stream);
        Ok(Self(match http {
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
        }))
    }

    /// Sends a request without a body, and waits for the head of the answer.
    pub async fn start(&mut self, request: &Request) -> Result<Streamed> {
        self.send(request, Either::Left(Full::default())).await?.await
    }

    /// Sends the head of a request; the rest is written by the sender, and the answer comes when it comes.
    pub async fn upload(
        &mut self,
        request: &Request,
    ) -> Result<(Upload, impl Future<Output = Result<Streamed>> + use<>)> {
        let (sender, body) = channel::Channel::new(1);
        Ok((sender, self.send(request, Either::Right(body)).await?))
    }

    /// Whether it is still open.
    pub fn is_open(&self) -> bool {
        match &self.0 {
            Sender::One(sender) => !sender.is_closed(),
            Sender::Two(sender) => !sender.is_closed(),
        }
    }

    async fn send(
        &mut self,
        request: &Request,
        body: Outgoing,
    ) -> Result<impl Future<Output = Result<Streamed>> + use<>> {
        let (line, probe) = (request.line(), new_probe());
        let pending = match &mut self.0 {
            Sender::One(sender) => {
                sender.ready().await.map_err(Error::doing(&line))?;
                Pending::One(sender.send_request(request.with_body(Http::One, &probe, body)?))
            }
            Sender::Two(sender) => {
                sender.ready().await.map_err(Error::doing(&line))?;
                Pending::Two(sender.send_request(request.with_body(Http::Two, &probe, body)?))
            }
        };
        Ok(async move {
            let answer = match pending {
                Pending::One(pending) => time::timeout(ANSWER_WITHIN, pending).await,
                Pending::Two(pending) => time::timeout(ANSWER_WITHIN, pending).await,
            };
            let answer = answer.map_err(|_| Error::new(format!("{line}: no answer within {ANSWER_WITHIN:?}")))?;
            answer
                .map(|answer| Streamed::new(answer, probe))
                .map_err(|error| Error::new(format!("{line}: {}", causes(&error))))
        })
    }
}

/// An answer on its way.
enum Pending<A, B> {
    One(A),
    Two(B),
}

impl Streamed {
    fn new(response: Response<Incoming>, probe: String) -> Self {
        let (head, body) = response.into_parts();
        Self { status: head.status.as_u16(), headers: head.headers, body, last_byte: Instant::now(), probe }
    }

    /// Reads `bytes` bytes or some more; an error if it ends before.
    pub async fn read(&mut self, bytes: usize) -> Result<()> {
        let mut read = 0;
        while read < bytes {
            match time::timeout(ANSWER_WITHIN, self.body.frame()).await {
                Ok(Some(Ok(frame))) => read += frame.data_ref().map_or(0, Bytes::len),
                Ok(Some(Err(error))) => return Err(Error::new(causes(&error))),
                Ok(None) => return Err(Error::new("it came to its end")),
                Err(_) => return Err(Error::new(format!("nothing came within {ANSWER_WITHIN:?}"))),
            }
        }
        Ok(())
    }

    /// Reads until it ends; an error if it does not within `limit`.
    pub async fn end(mut self, limit: Duration) -> Result<End> {
        let deadline = Instant::now() + limit;
        loop {
            let frame = time::timeout_at(deadline.into(), self.body.frame()).await;
            let frame = frame.map_err(|_| Error::new(format!("it did not end within {limit:?}")))?;
            let broken = match frame {
                Some(Ok(_)) => {
                    self.last_byte = Instant::now();
                    continue;
                }
                Some(Err(error)) => Some(causes(&error)),
                None => None,
            };
            return Ok(End { broken, last_byte: self.last_byte, ended: Instant::now() });
        }
    }

    /// The whole answer, for one that ends by itself.
    pub async fn whole(self) -> Result<Answer> {
        let body = time::timeout(ANSWER_WITHIN, self.body.collect()).await;
        let body = body.map_err(|_| Error::new("the answer did not end"))?;
        let body = body.map_err(|error| Error::new(causes(&error)))?.to_bytes();
        Ok(Answer { status: self.status, headers: self.headers, body, probe: self.probe })
    }
}

/// An error and what is behind it.
fn causes(error: &hyper::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text = format!("{text}: {cause}");
        next = cause.source();
    }
    text
}

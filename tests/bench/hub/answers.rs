//! Answers of HTTP/1.1 as they come off a socket, for load generators that must cost little.

use std::{cell::RefCell, future::poll_fn, pin::Pin, task::Poll};

use tokio::{
    io::{AsyncRead, AsyncWriteExt, ReadBuf},
    net::TcpStream,
};
use tokio_rustls::client::TlsStream;

use crate::{Error, Result};

/// A connection, with or without TLS.
pub enum Socket {
    /// Without.
    Plain(TcpStream),
    /// With.
    Tls(Box<TlsStream<TcpStream>>),
}

/// An answer, and where its body is in the bytes that were read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// Where the body begins.
    pub body: usize,
    /// Where it ends.
    pub end: usize,
    /// The seconds of `retry-after`.
    pub retry_after: Option<u64>,
}

/// The buffer that all connections of a thread read into: one that waits has none of its own.
pub struct Scratch(RefCell<Vec<u8>>);

impl Default for Scratch {
    fn default() -> Self {
        Self(RefCell::new(vec![0; 64 * 1024]))
    }
}

impl Socket {
    /// Sends a whole request.
    pub async fn send(&mut self, request: &[u8]) -> Result<()> {
        let sent = match self {
            Self::Plain(stream) => stream.write_all(request).await,
            Self::Tls(stream) => match stream.write_all(request).await {
                Ok(()) => stream.flush().await,
                error => error,
            },
        };
        sent.map_err(Error::doing("send a request"))
    }

    /// Reads one answer into `bytes`, which is emptied before. No other request may be under way.
    pub async fn receive(&mut self, bytes: &mut Vec<u8>, scratch: &Scratch) -> Result<Answer> {
        bytes.clear();
        loop {
            let read = poll_fn(|context| {
                let mut scratch = scratch.0.borrow_mut();
                let mut buffer = ReadBuf::new(&mut scratch);
                let polled = match self {
                    Self::Plain(stream) => Pin::new(stream).poll_read(context, &mut buffer),
                    Self::Tls(stream) => Pin::new(stream.as_mut()).poll_read(context, &mut buffer),
                };
                if let Poll::Ready(Ok(())) = polled {
                    bytes.extend_from_slice(buffer.filled());
                }
                polled.map_ok(|()| buffer.filled().len())
            });
            match read.await {
                Ok(0) => return Err(Error::new("the connection ended")),
                Ok(_) => {}
                Err(cause) => return Err(Error::doing("read an answer")(cause)),
            }
            if let Some(answer) = Answer::read(bytes)?
                && answer.end <= bytes.len()
            {
                return Ok(answer);
            }
        }
    }
}

impl Answer {
    /// What the head says, once all of it is there.
    fn read(bytes: &[u8]) -> Result<Option<Self>> {
        const END: &[u8] = b"\r\n\r\n";
        let Some(body) = bytes.windows(END.len()).position(|window| window == END).map(|at| at + END.len()) else {
            return Ok(None);
        };
        let head = String::from_utf8_lossy(&bytes[..body]);
        let mut lines = head.lines();
        let status = lines.next().and_then(|line| line.split(' ').nth(1)?.parse().ok());
        let status: u16 = status.ok_or_else(|| Error::new(format!("not an answer of HTTP/1: {head}")))?;
        let fields: Vec<(&str, &str)> = lines.filter_map(|line| line.split_once(':')).collect();
        let number = |name: &str| {
            let field = fields.iter().find(|(field, _)| field.eq_ignore_ascii_case(name));
            field.and_then(|(_, value)| value.trim().parse::<u64>().ok())
        };
        if fields.iter().any(|(name, _)| name.eq_ignore_ascii_case("transfer-encoding")) {
            return Err(Error::new("the answer has no length of its own"));
        }
        let length = usize::try_from(number("content-length").unwrap_or(0)).unwrap_or(usize::MAX);
        Ok(Some(Self { status, body, end: body.saturating_add(length), retry_after: number("retry-after") }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_head_says_where_the_body_ends() {
        let bytes = b"HTTP/1.1 503 Busy\r\nRetry-After: 3\r\ncontent-length: 5\r\n\r\nhello";
        let answer = Answer::read(bytes).unwrap().unwrap();
        assert_eq!((answer.status, answer.retry_after), (503, Some(3)));
        assert_eq!(&bytes[answer.body..answer.end], b"hello");
        assert_eq!(Answer::read(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n").unwrap(), None);
        assert!(Answer::read(b"what?\r\n\r\n").is_err());
        assert!(Answer::read(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").is_err());
    }
}

//! Bytes on a socket, for HTTP/1 requests that a well-behaved client refuses to send.

use std::net::SocketAddr;

use bytes::Bytes;
use hyper::{
    HeaderMap,
    header::{CONNECTION, CONTENT_LENGTH, HeaderName, HeaderValue},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time,
};

use crate::{
    Error, Result,
    client::{ANSWER_WITHIN, Answer, new_probe},
    upstream::PROBE,
};

/// An HTTP/1 connection that sends what it is told.
pub struct Http1 {
    stream: TcpStream,
    unread: Vec<u8>,
}

/// A request for [`Http1`], byte by byte.
#[derive(Clone, Debug)]
pub struct Http1Request {
    line: Vec<u8>,
    headers: Vec<u8>,
    body: Vec<u8>,
}

impl Http1Request {
    /// `METHOD target HTTP/1.1` and the host of the sample service; the target is written as it is.
    pub fn new(method: &str, target: impl AsRef<[u8]>) -> Self {
        Self::without_host(method, target).header("host", crate::orders::HOST)
    }

    /// The same without any header.
    pub fn without_host(method: &str, target: impl AsRef<[u8]>) -> Self {
        let line = [method.as_bytes(), b" ", target.as_ref(), b" HTTP/1.1\r\n"].concat();
        Self { line, headers: Vec::new(), body: Vec::new() }
    }

    /// One more header, also one that is there already.
    pub fn header(mut self, name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Self {
        self.headers.extend_from_slice(&[name.as_ref(), b": ", value.as_ref(), b"\r\n"].concat());
        self
    }

    /// The body, with its length.
    pub fn body(mut self, body: impl AsRef<[u8]>) -> Self {
        self.body = body.as_ref().to_vec();
        let length = self.body.len().to_string();
        self.header("content-length", length)
    }
}

impl Http1 {
    /// Connects.
    pub async fn open(to: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(to).await.map_err(Error::doing(format!("connect to {to}")))?;
        Ok(Self { stream, unread: Vec::new() })
    }

    /// Sends one request and reads the whole answer.
    pub async fn send(&mut self, request: &Http1Request) -> Result<Answer> {
        self.send_with(request, b"").await
    }

    /// Sends one request and, in the same write, `more` bytes; reads the whole answer to the request.
    pub async fn send_with(&mut self, request: &Http1Request, more: &[u8]) -> Result<Answer> {
        let probe = new_probe();
        let probe_header = format!("{PROBE}: {probe}\r\n");
        let bytes =
            [&request.line, &request.headers, probe_header.as_bytes(), b"\r\n", &request.body[..], more].concat();
        self.stream.write_all(&bytes).await.map_err(Error::doing("write the request"))?;
        self.read_answer(probe).await
    }

    /// Reads the answer to a request that was among the `more` bytes.
    pub async fn read_answer(&mut self, probe: String) -> Result<Answer> {
        time::timeout(ANSWER_WITHIN, self.answer(probe))
            .await
            .map_err(|_| Error::new(format!("no answer within {ANSWER_WITHIN:?}; so far {:?}", self.unread_text())))?
    }

    async fn answer(&mut self, probe: String) -> Result<Answer> {
        let head_length = loop {
            if let Some(at) = self.unread.windows(4).position(|window| window == b"\r\n\r\n") {
                break at + 4;
            }
            self.read_more().await?;
        };
        let head: Vec<u8> = self.unread.drain(..head_length).collect();
        let (status, headers) = parse_head(&head)?;
        let length = body_length(status, &headers)?;
        while self.unread.len() < length {
            self.read_more().await?;
        }
        let body: Vec<u8> = self.unread.drain(..length).collect();
        Ok(Answer { status, headers, body: Bytes::from(body), probe })
    }

    async fn read_more(&mut self) -> Result<()> {
        let read = self.stream.read_buf(&mut self.unread).await.map_err(Error::doing("read the answer"))?;
        if read == 0 {
            return Err(Error::new(format!("closed before the end of an answer; so far {:?}", self.unread_text())));
        }
        Ok(())
    }

    fn unread_text(&self) -> String {
        String::from_utf8_lossy(&self.unread).into_owned()
    }
}

/// Whether the sender of this answer will close its connection.
pub fn closes(answer: &Answer) -> bool {
    answer.headers.get(CONNECTION).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"close"))
}

fn parse_head(head: &[u8]) -> Result<(u16, HeaderMap)> {
    let wrong = || Error::new(format!("not the head of an answer: {:?}", String::from_utf8_lossy(head)));
    let mut lines = head.split(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    let status_line = String::from_utf8_lossy(lines.next().ok_or_else(wrong)?);
    let status = status_line.split(' ').nth(1).and_then(|status| status.parse().ok()).ok_or_else(wrong)?;
    let mut headers = HeaderMap::new();
    for line in lines.take_while(|line| !line.is_empty()) {
        let colon = line.iter().position(|byte| *byte == b':').ok_or_else(wrong)?;
        let name = HeaderName::from_bytes(&line[..colon]).map_err(Error::doing("header of the answer"))?;
        let value =
            HeaderValue::from_bytes(line[colon + 1..].trim_ascii()).map_err(Error::doing("header of the answer"))?;
        headers.append(name, value);
    }
    Ok((status, headers))
}

/// Envoy and the upstream give the length of all they answer here, unless there is no body by nature; anything else
/// would be read wrongly, so it is an error.
fn body_length(status: u16, headers: &HeaderMap) -> Result<usize> {
    if status == 101 {
        return Ok(0);
    }
    let length = headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    length.ok_or_else(|| Error::new(format!("an answer without content-length: {headers:?}")))
}

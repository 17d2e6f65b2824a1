//! Bytes on a socket, for requests that a well-behaved client refuses to send.

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
        let probe = new_probe();
        let probe_header = format!("{PROBE}: {probe}\r\n");
        let bytes = [&request.line, &request.headers, probe_header.as_bytes(), b"\r\n", &request.body[..]].concat();
        self.stream.write_all(&bytes).await.map_err(Error::doing("write the request"))?;
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
        let length = body_length(&headers)?;
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

/// Envoy and the upstream give the length of all they answer here; anything else would be read wrongly, so it is an
/// error.
fn body_length(headers: &HeaderMap) -> Result<usize> {
    let length = headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    length.ok_or_else(|| Error::new(format!("an answer without content-length: {headers:?}")))
}

/// What HTTP/2 gave back to a request that was written frame by frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Http2End {
    /// Response headers on the stream.
    Answered,
    /// RST_STREAM.
    StreamReset,
    /// GOAWAY, or the connection was closed.
    ConnectionClosed,
}

/// Names and values that nobody checked.
pub type RawHeaders<'a> = &'a [(&'a str, &'a [u8])];

/// Sends a GET with these pseudo-header and header values over HTTP/2 without any check of them, and says how it ended.
pub async fn http2_get(to: SocketAddr, path: &[u8], headers: RawHeaders<'_>) -> Result<Http2End> {
    let mut stream = TcpStream::connect(to).await.map_err(Error::doing(format!("connect to {to}")))?;
    let mut block = Vec::new();
    for (name, value) in [
        (":method", b"GET".as_slice()),
        (":scheme", b"http"),
        (":authority", crate::orders::HOST.as_bytes()),
        (":path", path),
    ]
    .iter()
    .chain(headers)
    {
        literal(&mut block, name.as_bytes(), value);
    }
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    frame(&mut bytes, SETTINGS, 0, 0, &[]);
    frame(&mut bytes, HEADERS, END_STREAM | END_HEADERS, 1, &block);
    stream.write_all(&bytes).await.map_err(Error::doing("write the request"))?;
    time::timeout(ANSWER_WITHIN, end_of_stream_one(&mut stream))
        .await
        .map_err(|_| Error::new(format!("no answer within {ANSWER_WITHIN:?}")))
}

const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// RFC 9113 section 4.1.
fn frame(out: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    out.extend_from_slice(&(payload.len() as u32).to_be_bytes()[1..]);
    out.extend_from_slice(&[kind, flags]);
    out.extend_from_slice(&stream.to_be_bytes());
    out.extend_from_slice(payload);
}

/// RFC 7541 section 6.2.2: a literal without indexing and with a new name, both without Huffman coding.
fn literal(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    out.push(0);
    for text in [name, value] {
        integer(out, text.len());
        out.extend_from_slice(text);
    }
}

/// RFC 7541 section 5.1 with a prefix of seven bits.
fn integer(out: &mut Vec<u8>, value: usize) {
    if value < 0x7f {
        return out.push(value as u8);
    }
    out.push(0x7f);
    let mut rest = value - 0x7f;
    while rest >= 0x80 {
        out.push((rest % 0x80) as u8 | 0x80);
        rest /= 0x80;
    }
    out.push(rest as u8);
}

async fn end_of_stream_one(stream: &mut TcpStream) -> Http2End {
    loop {
        let mut head = [0; 9];
        if stream.read_exact(&mut head).await.is_err() {
            return Http2End::ConnectionClosed;
        }
        let [l0, l1, l2, kind, _flags, s0, s1, s2, s3] = head;
        let mut payload = vec![0; u32::from_be_bytes([0, l0, l1, l2]) as usize];
        if stream.read_exact(&mut payload).await.is_err() {
            return Http2End::ConnectionClosed;
        }
        match (kind, u32::from_be_bytes([s0, s1, s2, s3])) {
            (HEADERS, 1) => return Http2End::Answered,
            (RST_STREAM, 1) => return Http2End::StreamReset,
            (GOAWAY, _) => return Http2End::ConnectionClosed,
            _ => {}
        }
    }
}

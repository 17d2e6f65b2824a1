//! HTTP/2 frame by frame, for requests that a well-behaved client refuses to send: any pseudo-headers, any bytes.

use std::net::SocketAddr;

use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time,
};

use crate::{
    Error, Result,
    client::{ANSWER_WITHIN, new_probe},
    upstream::PROBE,
};

/// How the stream of a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Response headers, and all that follows.
    Answered,
    /// RST_STREAM before any response.
    StreamReset,
    /// GOAWAY before any response, or the connection was closed.
    ConnectionClosed,
}

/// What came back.
#[derive(Clone, Debug)]
pub struct FrameAnswer {
    /// How the stream ended.
    pub end: End,
    /// `:status`, where there was a response.
    pub status: Option<u16>,
    /// Whether the first HEADERS frame was also the last frame: what gRPC calls Trailers-Only.
    pub headers_only: bool,
    /// The body.
    pub body: Vec<u8>,
    /// What tells this request from all others; see [`crate::upstream::Upstream::was_reached_by`].
    pub probe: String,
}

impl FrameAnswer {
    /// The body as JSON, or null.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// Status and reason, or how else the stream ended, on one line.
    pub fn line(&self) -> String {
        match (self.status, self.json()["reason"].as_str()) {
            (Some(status), Some(reason)) => format!("{status} {reason}"),
            (Some(status), None) => status.to_string(),
            (None, _) => format!("{:?}", self.end),
        }
    }
}

/// Names and values that nobody checked, pseudo-headers among them.
pub type Fields<'a> = &'a [(&'a str, &'a [u8])];

/// Sends a GET for the sample service with this path and these further fields.
pub async fn get(to: SocketAddr, path: &[u8], fields: Fields<'_>) -> Result<FrameAnswer> {
    let pseudo: [(&str, &[u8]); 4] =
        [(":method", b"GET"), (":scheme", b"http"), (":authority", crate::orders::HOST.as_bytes()), (":path", path)];
    send(to, &[&pseudo[..], fields].concat()).await
}

/// Sends a request of exactly these fields, and a probe.
pub async fn send(to: SocketAddr, fields: Fields<'_>) -> Result<FrameAnswer> {
    let probe = new_probe();
    let mut block = Vec::new();
    for (name, value) in fields.iter().chain(&[(PROBE, probe.as_bytes())]) {
        literal(&mut block, name.as_bytes(), value);
    }
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    frame(&mut bytes, SETTINGS, 0, 0, &[]);
    frame(&mut bytes, HEADERS, END_STREAM | END_HEADERS, 1, &block);
    let mut stream = TcpStream::connect(to).await.map_err(Error::doing(format!("connect to {to}")))?;
    stream.write_all(&bytes).await.map_err(Error::doing("write the request"))?;
    time::timeout(ANSWER_WITHIN, stream_one(&mut stream, probe))
        .await
        .map_err(|_| Error::new(format!("no answer within {ANSWER_WITHIN:?}")))
}

const DATA: u8 = 0;
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

async fn stream_one(stream: &mut TcpStream, probe: String) -> FrameAnswer {
    let mut answer =
        FrameAnswer { end: End::ConnectionClosed, status: None, headers_only: false, body: Vec::new(), probe };
    loop {
        let mut head = [0; 9];
        if stream.read_exact(&mut head).await.is_err() {
            return answer;
        }
        let [l0, l1, l2, kind, flags, s0, s1, s2, s3] = head;
        let mut payload = vec![0; u32::from_be_bytes([0, l0, l1, l2]) as usize];
        if stream.read_exact(&mut payload).await.is_err() {
            return answer;
        }
        let last = flags & END_STREAM != 0;
        match (kind, u32::from_be_bytes([s0, s1, s2, s3])) {
            (HEADERS, 1) if answer.end != End::Answered => {
                answer = FrameAnswer { end: End::Answered, status: status(&payload), headers_only: last, ..answer };
            }
            (DATA, 1) => answer.body.extend_from_slice(&payload),
            (RST_STREAM, 1) if answer.end != End::Answered => return FrameAnswer { end: End::StreamReset, ..answer },
            (RST_STREAM, 1) | (GOAWAY, _) => return answer,
            _ => {}
        }
        if last && matches!(kind, DATA | HEADERS) {
            return answer;
        }
    }
}

/// `:status`, which RFC 9113 section 8.3 puts first in a header block. The rest of the block is not read.
fn status(block: &[u8]) -> Option<u16> {
    // RFC 7541 section 6.3: the size of the table may be set before.
    let block = &block[block.iter().take_while(|byte| **byte & 0xe0 == 0x20).count()..];
    match block {
        [0x88, ..] => Some(200),
        [0x89, ..] => Some(204),
        [0x8a, ..] => Some(206),
        [0x8b, ..] => Some(304),
        [0x8c, ..] => Some(400),
        [0x8d, ..] => Some(404),
        [0x8e, ..] => Some(500),
        // A literal under the name of the eighth entry.
        [0x48 | 0x08 | 0x18, length, rest @ ..] => {
            let text = rest.get(..usize::from(length & 0x7f))?;
            let digits = if length & 0x80 == 0 { text.to_vec() } else { huffman_digits(text) };
            String::from_utf8(digits).ok()?.parse().ok()
        }
        _ => None,
    }
}

/// RFC 7541 appendix B, digits only: `0` to `2` have five bits, `3` to `9` six.
fn huffman_digits(coded: &[u8]) -> Vec<u8> {
    let bits: Vec<u8> = coded.iter().flat_map(|byte| (0..8).rev().map(move |at| byte >> at & 1)).collect();
    let number = |bits: &[u8]| bits.iter().fold(0, |number, bit| number << 1 | bit);
    let mut digits = Vec::new();
    let mut rest = &bits[..];
    while rest.len() >= 5 {
        let five = number(&rest[..5]);
        if five < 3 {
            digits.push(b'0' + five);
            rest = &rest[5..];
        } else if let Some(six @ 0x19..=0x1f) = rest.get(..6).map(number) {
            digits.push(b'3' + six - 0x19);
            rest = &rest[6..];
        } else {
            break;
        }
    }
    digits
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses() {
        assert_eq!(status(&[0x88]), Some(200));
        assert_eq!(status(&[0x20, 0x8c]), Some(400));
        assert_eq!(status(b"\x48\x03401"), Some(401));
        // RFC 7541 appendix C.6.1: 302.
        assert_eq!(status(&[0x48, 0x82, 0x64, 0x02]), Some(302));
        // 403 is 0110_10 00000 0110_01 and ones to the end.
        assert_eq!(status(&[0x48, 0x83, 0b0110_1000, 0b0000_1100, 0b1111_1111]), Some(403));
    }
}

//! Delivery of a signed SET by push (RFC 8935): one POST to each receiver, and what each one answered.

use std::fmt;
use std::io::{self, Read};
use std::thread;
use std::time::Duration;

use reqwest::blocking::{Client, Response};
use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use reqwest::redirect::Policy;
use reqwest::{StatusCode, Url};
use serde_json::{Map, Value};

use crate::input::file;

/// To how many receivers the signal is pushed at the same time.
const AT_ONCE: usize = 16;

/// How much of an answer is read, in bytes, and shown, in characters.
const READ_AT_MOST: u64 = 64 * 1024;
const SHOW_AT_MOST: usize = 300;

/// A way to push to some receivers.
pub struct Pusher<'a> {
    receivers: &'a [Url],
    client: Client,
    authorization: Option<HeaderValue>,
    timeout: Duration,
}

impl<'a> Pusher<'a> {
    /// `authorization` is the whole value of that header; `timeout` is for one push from connecting to the answer.
    pub fn new(receivers: &'a [Url], authorization: Option<&str>, timeout: Duration) -> Result<Self, Error> {
        let authorization = match authorization.map(HeaderValue::from_str) {
            None => None,
            Some(Ok(mut value)) => {
                value.set_sensitive(true);
                Some(value)
            }
            Some(Err(_)) => return Err(Error::Authorization),
        };
        let mut client = Client::builder()
            .user_agent(concat!("taskfence/", env!("CARGO_PKG_VERSION")))
            .timeout(timeout)
            // A redirect would change the POST to a GET, or send the signal to a receiver that was not configured.
            .redirect(Policy::none());
        // The client cannot be built without certificates to trust, and a minimal container has none.
        if receivers.iter().all(|to| to.scheme() == "http") {
            client = client.tls_certs_only([]);
        }
        let client = client.build().map_err(|error| Error::Client { reason: root_cause(&error) })?;
        Ok(Self { receivers, client, authorization, timeout })
    }

    /// Pushes a compact SET to every receiver. The answers come in the order of the receivers.
    pub fn push(&self, set: &str) -> Vec<Answer> {
        let mut answers = Vec::with_capacity(self.receivers.len());
        for some in self.receivers.chunks(AT_ONCE) {
            thread::scope(|scope| {
                let pushes: Vec<_> = some.iter().map(|to| scope.spawn(|| self.push_to(to, set))).collect();
                let broken = |_| Answer::None { reason: "the push broke off".to_owned() };
                answers.extend(pushes.into_iter().map(|push| push.join().unwrap_or_else(broken)));
            });
        }
        answers
    }

    fn push_to(&self, receiver: &Url, set: &str) -> Answer {
        let mut request = self
            .client
            .post(receiver.clone())
            .header(CONTENT_TYPE, "application/secevent+jwt")
            .header(ACCEPT, "application/json")
            .body(set.to_owned());
        if let Some(value) = &self.authorization {
            request = request.header(AUTHORIZATION, value);
        }
        match request.send() {
            Ok(response) if response.status() == StatusCode::ACCEPTED => Answer::Accepted,
            Ok(response) => refusal(response),
            Err(error) if error.is_timeout() => {
                let timeout = humantime::format_duration(self.timeout);
                Answer::None { reason: format!("timed out after {timeout}") }
            }
            Err(error) => Answer::None { reason: root_cause(&error) },
        }
    }
}

/// The outcome of one push.
#[derive(Debug, PartialEq, Eq)]
pub enum Answer {
    /// 202: the receiver has taken the signal.
    Accepted,
    /// Any other status, with `err` and `description` where the receiver sent them (RFC 8935 section 2.3).
    Refused { status: StatusCode, err: Option<String>, description: Option<String> },
    /// The receiver did not answer.
    None { reason: String },
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Accepted => f.write_str("202 accepted"),
            Self::Refused { status, err: None, .. } => write!(f, "{status}"),
            Self::Refused { status, err: Some(err), description: None } => write!(f, "{} {err}", status.as_u16()),
            Self::Refused { status, err: Some(err), description: Some(description) } => {
                write!(f, "{} {err}: {description}", status.as_u16())
            }
            Self::None { reason } => write!(f, "no answer: {reason}"),
        }
    }
}

/// Why nothing could be pushed at all.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(
        "the value of --authorization cannot be sent in a header; it holds a line break or another control character"
    )]
    Authorization,
    #[error(
        "cannot set up the HTTP client: {reason}; for https, install the CA certificates of the system or name them in SSL_CERT_FILE"
    )]
    Client { reason: String },
}

fn refusal(response: Response) -> Answer {
    let status = response.status();
    let mut body = Vec::new();
    // An incomplete body counts as an empty one: only the status decides.
    let members: Map<String, Value> = match response.take(READ_AT_MOST).read_to_end(&mut body) {
        Ok(_) => serde_json::from_slice(&body).unwrap_or_default(),
        Err(_) => Map::new(),
    };
    let member = |name| members.get(name).and_then(Value::as_str).map(printable);
    Answer::Refused { status, err: member("err"), description: member("description") }
}

/// What the receiver answered, on one line without control characters.
fn printable(text: &str) -> String {
    let mut shown: String = text.chars().take(SHOW_AT_MOST).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if text.chars().nth(SHOW_AT_MOST).is_some() {
        shown.push('…');
    }
    shown
}

/// What lies at the bottom of an error of the HTTP client.
pub fn root_cause(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    match cause.downcast_ref::<io::Error>() {
        Some(error) => file::reason(error),
        None => cause.to_string(),
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use std::io::Write;
    use std::net::TcpListener;
    use std::sync::mpsc::{Receiver, channel};

    /// A receiver that gives one client one answer and passes on the request it got.
    pub fn receiver(answer: &'static str) -> (Url, Receiver<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/signals", listener.local_addr().unwrap()).parse().unwrap();
        let (sender, requests) = channel();
        thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = Vec::new();
            let mut buffer = [0; 4096];
            while !complete(&request) {
                let read = stream.read(&mut buffer).unwrap();
                request.extend_from_slice(&buffer[..read]);
            }
            sender.send(String::from_utf8(request).unwrap()).unwrap();
            stream.write_all(answer.as_bytes()).unwrap();
        });
        (url, requests)
    }

    fn complete(request: &[u8]) -> bool {
        let text = String::from_utf8_lossy(request).to_lowercase();
        let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap_or("0");
        body.len() >= length.parse().unwrap()
    }

    fn push(receivers: &[Url], authorization: Option<&str>) -> Vec<Answer> {
        Pusher::new(receivers, authorization, Duration::from_secs(5)).unwrap().push("a.b.c")
    }

    #[test]
    fn the_request_is_that_of_rfc_8935() {
        let (url, requests) = receiver("HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n");
        assert_eq!(push(&[url], Some("Bearer t0p")), [Answer::Accepted]);
        let request = requests.recv().unwrap();
        let (head, body) = request.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("POST /signals HTTP/1.1\r\n"), "{head}");
        for line in ["content-type: application/secevent+jwt", "accept: application/json", "authorization: Bearer t0p"]
        {
            assert!(head.lines().any(|other| other == line), "{line} is missing in {head}");
        }
        assert_eq!(body, "a.b.c");
    }

    #[test]
    fn answers_in_the_order_of_the_receivers() {
        let refuses = "HTTP/1.1 400 Bad Request\r\ncontent-type: application/json\r\n\r\n\
            {\"err\":\"invalid_audience\",\"description\":\"not \\u001b[31mfor\\nme\"}";
        let (refusing, _kept) = receiver(refuses);
        let (moved, _kept) = receiver("HTTP/1.1 302 Found\r\nlocation: /\r\ncontent-length: 0\r\n\r\n");
        let (done, _kept) = receiver("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
        let unbound = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let gone = format!("http://{unbound}/").parse().unwrap();
        let answers = push(&[refusing, moved, gone, done], None);
        let lines: Vec<_> = answers.iter().map(Answer::to_string).collect();
        let expected =
            ["400 invalid_audience: not  [31mfor me", "302 Found", "no answer: connection refused", "200 OK"];
        assert_eq!(lines, expected);
    }

    #[test]
    fn a_receiver_that_stays_silent_is_given_up() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let receivers = [format!("http://{}/", listener.local_addr().unwrap()).parse().unwrap()];
        let pusher = Pusher::new(&receivers, None, Duration::from_millis(50)).unwrap();
        assert_eq!(pusher.push("a.b.c"), [Answer::None { reason: "timed out after 50ms".into() }]);
    }

    #[test]
    fn an_authorization_that_cannot_be_a_header() {
        assert!(matches!(
            Pusher::new(&[], Some("Bearer a\r\nx: y"), Duration::from_secs(5)),
            Err(Error::Authorization)
        ));
    }

    #[test]
    fn long_words_are_cut() {
        let shown = printable(&"é".repeat(1000));
        assert_eq!(shown.chars().count(), SHOW_AT_MOST + 1);
    }
}

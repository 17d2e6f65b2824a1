//! The configuration of a stream (SSF 1.0 §8.1.1): create, read, list, update, delete.

use crate::ssf::client::discovery::{POLL, PUSH};
use crate::ssf::client::failure::{Failure, Step};
use crate::ssf::client::http::Body;
use crate::ssf::client::session::{Call, Session};
use reqwest::{Method, Url};
use serde_json::{Map, Value, json};
use taskfence_core::encoding::secret::Secret;

/// A stream id is at most this long, in bytes.
const MAX_ID: usize = 1024;

/// So many streams of one list are read.
const MAX_STREAMS: usize = 1_000;

/// A stream, as the transmitter describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stream {
    /// `stream_id`.
    pub id: String,
    /// `iss` of its SETs; empty: it does not say.
    pub issuer: String,
    /// `aud` of its SETs.
    pub audiences: Vec<String>,
    /// `delivery.method`; empty: it does not say.
    pub method: String,
    /// `delivery.endpoint_url`.
    pub endpoint: Option<Url>,
    /// `events_requested`; `None`: it does not say.
    pub requested: Option<Vec<String>>,
    /// `events_delivered`.
    pub delivered: Vec<String>,
    /// `events_supported`.
    pub supported: Vec<String>,
    /// `description`.
    pub description: Option<String>,
    /// `min_verification_interval` in seconds.
    pub min_verification_interval: Option<u64>,
    /// `inactivity_timeout` in seconds.
    pub inactivity_timeout: Option<u64>,
}

/// How the signals of a stream are to come.
#[derive(Debug, Clone)]
pub enum Wanted {
    /// The hub polls; the transmitter says where.
    Poll,
    /// The transmitter pushes, with this `authorization` header; `None`: the one that it has stays.
    Push(Url, Option<Secret>),
}

impl Wanted {
    /// Whether `stream` delivers like that.
    pub fn fits(&self, stream: &Stream) -> bool {
        match self {
            // A stream without delivery is polled (SSF 1.0 §8.1.1).
            Wanted::Poll => {
                stream.method == POLL || stream.method.ends_with("/delivery-method/poll") || stream.method.is_empty()
            }
            Wanted::Push(endpoint, _) => {
                (stream.method == PUSH || stream.method.ends_with("/delivery-method/push"))
                    && stream.endpoint.as_ref() == Some(endpoint)
            }
        }
    }

    fn to_json(&self) -> Value {
        match self {
            Wanted::Poll => json!({"method": POLL}),
            Wanted::Push(endpoint, None) => json!({"method": PUSH, "endpoint_url": endpoint.as_str()}),
            Wanted::Push(endpoint, Some(header)) => {
                json!({"method": PUSH, "endpoint_url": endpoint.as_str(), "authorization_header": header.reveal()})
            }
        }
    }
}

/// What became of a request to make a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Created {
    /// It was made.
    New(Box<Stream>),
    /// There is one already (409).
    Exists,
}

/// What became of a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Updated {
    /// It is as asked for.
    Done(Box<Stream>),
    /// The transmitter does it later (202).
    Later,
    /// The transmitter does not change streams (405).
    Impossible,
    /// There is no such stream (404).
    Missing,
}

/// Makes a stream.
pub async fn create(
    session: &Session,
    events: &[String],
    wanted: &Wanted,
    description: &str,
) -> Result<Created, Failure> {
    let body = json!({"events_requested": events, "delivery": wanted.to_json(), "description": description});
    let url = session.metadata.configuration_endpoint.clone();
    let place = format!("POST {url}");
    let answer = session.call(Call::new(Step::Stream, Method::POST, url, Body::Json(body))).await?;
    match answer.status {
        // 200 is what older transmitters answer.
        200 | 201 => {
            let stream = read(&answer.json(Step::Stream, &format!("what {place} answers"))?)?;
            Ok(Created::New(Box::new(stream)))
        }
        409 => Ok(Created::Exists),
        400 => Err(answer.failure(
            Step::Stream,
            &place,
            "the transmitter does not take this stream: see `events` and `delivery`",
        )),
        _ => Err(answer.failure(Step::Stream, &place, "")),
    }
}

/// The stream with that id; `None`: there is none (404).
pub async fn get(session: &Session, id: &str) -> Result<Option<Stream>, Failure> {
    let url = of(&session.metadata.configuration_endpoint, id);
    let place = format!("GET {}", session.metadata.configuration_endpoint);
    let answer = session.call(Call::new(Step::Stream, Method::GET, url, Body::None)).await?;
    match answer.status {
        200 => {
            let json = answer.json(Step::Stream, &format!("what {place} answers"))?;
            // Some answer a list also to this.
            let one = match &json {
                Value::Array(all) => all.iter().find(|one| one.get("stream_id").and_then(Value::as_str) == Some(id)),
                one => Some(one),
            };
            let stream = one.map(read).transpose()?;
            match stream {
                Some(stream) if stream.id != id => {
                    Err(Failure::new(Step::Stream, format!("{place} is answered with another stream"), ""))
                }
                stream => Ok(stream),
            }
        }
        404 | 410 => Ok(None),
        _ => Err(answer.failure(Step::Stream, &place, "")),
    }
}

/// All streams of the hub at this transmitter.
pub async fn list(session: &Session) -> Result<Vec<Stream>, Failure> {
    let url = session.metadata.configuration_endpoint.clone();
    let place = format!("GET {url}");
    let answer = session.call(Call::new(Step::Stream, Method::GET, url, Body::None)).await?;
    match answer.status {
        200 => {
            let json = answer.json(Step::Stream, &format!("what {place} answers"))?;
            match &json {
                Value::Array(all) => all.iter().take(MAX_STREAMS).map(read).collect(),
                Value::Object(one) if one.contains_key("stream_id") => Ok(vec![read(&json)?]),
                _ => Err(Failure::new(Step::Stream, format!("what {place} answers is no list of streams"), "")),
            }
        }
        // There is none, or it does not list.
        404 | 405 => Ok(Vec::new()),
        _ => Err(answer.failure(Step::Stream, &place, "")),
    }
}

/// Changes the events that a stream is asked for, its delivery, or both (PATCH; PUT where there is no PATCH).
pub async fn update(
    session: &Session,
    id: &str,
    events: &[String],
    wanted: Option<&Wanted>,
    description: &str,
) -> Result<Updated, Failure> {
    let url = session.metadata.configuration_endpoint.clone();
    let mut body =
        Map::from_iter([("stream_id".to_owned(), json!(id)), ("events_requested".to_owned(), json!(events))]);
    if let Some(wanted) = wanted {
        body.insert("delivery".to_owned(), wanted.to_json());
    }
    for method in [Method::PATCH, Method::PUT] {
        let is_whole = method == Method::PUT;
        if is_whole {
            // What a replacement does not name is removed (SSF 1.0 §8.1.1.4), so without a delivery there is none.
            if wanted.is_none() {
                return Ok(Updated::Impossible);
            }
            body.insert("description".to_owned(), json!(description));
        }
        let place = format!("{method} {url}");
        let call = Call::new(Step::Stream, method, url.clone(), Body::Json(Value::Object(body.clone())));
        let answer = session.call(call).await?;
        match answer.status {
            200 => {
                let stream = read(&answer.json(Step::Stream, &format!("what {place} answers"))?)?;
                return Ok(Updated::Done(Box::new(stream)));
            }
            202 => return Ok(Updated::Later),
            404 | 410 => return Ok(Updated::Missing),
            405 | 501 => {}
            _ => return Err(answer.failure(Step::Stream, &place, "")),
        }
    }
    Ok(Updated::Impossible)
}

/// Deletes a stream. Returns whether there was one.
pub async fn delete(session: &Session, id: &str) -> Result<bool, Failure> {
    let url = of(&session.metadata.configuration_endpoint, id);
    let answer = session.call(Call::new(Step::Stream, Method::DELETE, url, Body::None)).await?;
    match answer.status {
        200 | 202 | 204 => Ok(true),
        404 | 410 => Ok(false),
        _ => Err(answer.failure(Step::Stream, &format!("DELETE {}", session.metadata.configuration_endpoint), "")),
    }
}

/// `url` with the stream in its query.
pub(super) fn of(url: &Url, id: &str) -> Url {
    let mut url = url.clone();
    url.query_pairs_mut().append_pair("stream_id", id);
    url
}

fn read(json: &Value) -> Result<Stream, Failure> {
    let bad = |what: &str| Failure::new(Step::Stream, format!("the stream of the transmitter {what}"), "");
    let text = |name: &str| json.get(name).and_then(Value::as_str);
    let list = |name: &str| {
        let all = json.get(name)?.as_array()?;
        Some(all.iter().filter_map(Value::as_str).map(str::to_owned).collect::<Vec<_>>())
    };
    let number = |name: &str| json.get(name).and_then(Value::as_u64);
    // It stands in messages and in the log.
    let is_id = |id: &&str| !id.is_empty() && id.len() <= MAX_ID && !id.contains(char::is_control);
    let id = text("stream_id").filter(is_id);
    let delivery = |name: &str| json.get("delivery").and_then(|delivery| delivery.get(name)).and_then(Value::as_str);
    let endpoint = match delivery("endpoint_url") {
        Some(written) => Some(Url::parse(written).map_err(|_| bad("has an `endpoint_url` that is no URL"))?),
        None => None,
    };
    Ok(Stream {
        id: id.ok_or_else(|| bad("has no usable `stream_id`"))?.to_owned(),
        issuer: text("iss").unwrap_or_default().to_owned(),
        audiences: match json.get("aud") {
            Some(Value::String(one)) => vec![one.clone()],
            Some(Value::Array(_)) => list("aud").unwrap_or_default(),
            _ => Vec::new(),
        },
        method: delivery("method").unwrap_or_default().to_owned(),
        endpoint,
        requested: list("events_requested"),
        delivered: list("events_delivered").unwrap_or_default(),
        supported: list("events_supported").unwrap_or_default(),
        description: text("description").map(str::to_owned),
        min_verification_interval: number("min_verification_interval"),
        inactivity_timeout: number("inactivity_timeout"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_is_read_leniently_but_needs_an_id() {
        let stream = read(&json!({
            "stream_id": "f67e", "iss": "https://t.example", "aud": ["a", "b"], "events_delivered": ["urn:x", 7],
            "delivery": {"method": POLL, "endpoint_url": "https://t.example/poll"}, "min_verification_interval": 60,
            "inactivity_timeout": "soon", "unknown": {}
        }));
        let stream = stream.unwrap();
        assert_eq!((stream.id.as_str(), stream.audiences.len(), stream.delivered.len()), ("f67e", 2, 1));
        assert_eq!((stream.min_verification_interval, stream.inactivity_timeout), (Some(60), None));
        assert_eq!(stream.endpoint.as_ref().map(Url::as_str), Some("https://t.example/poll"));
        for bad in [
            json!({}),
            json!({"stream_id": ""}),
            json!({"stream_id": "x".repeat(2_000)}),
            json!({"stream_id": "a\u{1b}[2J\nerror"}),
            json!([]),
            json!({"stream_id": "1", "delivery": {"endpoint_url": "no url"}}),
        ] {
            assert!(read(&bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_is_sent_never_names_what_the_transmitter_decides() {
        let endpoint: Url = "https://hub.example/v1/feeds/main/signals".parse().unwrap();
        let push = Wanted::Push(endpoint.clone(), Some(Secret::from("Bearer s".to_owned())));
        let want = json!({"method": PUSH, "endpoint_url": endpoint.as_str(), "authorization_header": "Bearer s"});
        assert_eq!(push.to_json(), want);
        assert_eq!(Wanted::Poll.to_json(), json!({"method": POLL}), "the transmitter says where");
    }

    #[test]
    fn a_stream_that_delivers_elsewhere_does_not_fit() {
        let stream = |delivery: Value| read(&json!({"stream_id": "1", "delivery": delivery})).unwrap();
        let endpoint: Url = "https://hub.example/v1/feeds/main/signals".parse().unwrap();
        let push = Wanted::Push(endpoint.clone(), None);
        assert!(push.fits(&stream(json!({"method": PUSH, "endpoint_url": endpoint.as_str()}))));
        assert!(!push.fits(&stream(json!({"method": PUSH, "endpoint_url": "https://other.example/"}))));
        assert!(!push.fits(&stream(json!({"method": POLL}))));
        assert!(Wanted::Poll.fits(&stream(json!({"method": POLL, "endpoint_url": "https://t.example/p"}))));
        assert!(!Wanted::Poll.fits(&stream(json!({"method": PUSH, "endpoint_url": endpoint.as_str()}))));
    }

    #[test]
    fn an_id_is_escaped() {
        let url = of(&"https://t.example/streams?x=1".parse().unwrap(), "a&b=c");
        assert_eq!(url.as_str(), "https://t.example/streams?x=1&stream_id=a%26b%3Dc");
    }
}

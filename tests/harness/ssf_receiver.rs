//! A receiver of the Shared Signals Framework, written from the specifications alone: SSF 1.0, RFC 8417 (SETs), RFC 8935
//! (push) and RFC 8936 (poll). SETs are verified by `jsonwebtoken`. Every rule that a transmitter can break is an error.

use std::{
    collections::{BTreeMap, VecDeque},
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::post,
};
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header, jwk::JwkSet};
use serde_json::{Value, json};
use tokio::{net::TcpListener, time};

use crate::{
    Error, Result,
    client::{self, Answer, Http, Request},
};

/// Delivery by push.
pub const PUSH: &str = "urn:ietf:rfc:8935";
/// Delivery by poll.
pub const POLL: &str = "urn:ietf:rfc:8936";
/// The event that ends sessions (CAEP 1.0 section 3.1).
pub const SESSION_REVOKED: &str = "https://schemas.openid.net/secevent/caep/event-type/session-revoked";
/// The event that answers a verification request (SSF 1.0 section 8.1.4.1).
pub const VERIFICATION: &str = "https://schemas.openid.net/secevent/ssf/event-type/verification";
/// The event of a stream whose status the transmitter changed (SSF 1.0 section 8.1.5).
pub const STREAM_UPDATED: &str = "https://schemas.openid.net/secevent/ssf/event-type/stream-updated";

/// A SET must be there after this long on a busy machine.
const SOON: Duration = Duration::from_secs(30);

/// What a receiver knows about its transmitter.
#[derive(Clone, Debug)]
pub struct Receiver {
    transmitter: SocketAddr,
    token: String,
    /// The metadata of the transmitter (SSF 1.0 section 7.1).
    pub metadata: Value,
    /// The keys of its SETs.
    pub jwks: JwkSet,
}

/// A stream of the receiver, as the transmitter has answered.
#[derive(Clone, Debug)]
pub struct Stream {
    /// Its id.
    pub id: String,
    /// Its whole configuration.
    pub configuration: Value,
}

/// A SET that was verified.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// Its id.
    pub jti: String,
    /// The URI of its event.
    pub uri: String,
    /// What the event says.
    pub payload: Value,
    /// All claims.
    pub claims: Value,
}

impl Receiver {
    /// Reads the metadata of `issuer`, a URL at `transmitter`, and its keys.
    pub async fn discover(transmitter: SocketAddr, issuer: &str, token: &str) -> Result<Self> {
        let (origin, path) = split(issuer)?;
        let url = format!("{origin}/.well-known/ssf-configuration{path}");
        let answer = fetch(transmitter, "GET", &url, None, None).await?;
        let metadata = json_of(&answer, 200)?;
        let is = |ok: bool, what: &str| if ok { Ok(()) } else { Err(Error::new(format!("{what}: {metadata:#}"))) };
        is(metadata["issuer"] == issuer, "the issuer is not the one that was asked for")?;
        is(metadata["spec_version"] == "1_0", "the version of the specification")?;
        let methods = metadata["delivery_methods_supported"].as_array().cloned().unwrap_or_default();
        is(methods.contains(&json!(PUSH)) && methods.contains(&json!(POLL)), "the delivery methods")?;
        is(metadata["authorization_schemes"][0]["spec_urn"].is_string(), "the authorization schemes")?;
        is(matches!(metadata["default_subjects"].as_str(), Some("ALL" | "NONE")), "the default subjects")?;
        for member in ["jwks_uri", "configuration_endpoint", "status_endpoint", "verification_endpoint"] {
            is(metadata[member].as_str().is_some_and(|url| url.starts_with(&origin)), member)?;
        }
        let mut arrays = metadata.as_object().into_iter().flat_map(|members| members.values());
        is(!arrays.any(|value| value.as_array().is_some_and(Vec::is_empty)), "an array of zero elements")?;
        let keys = fetch(transmitter, "GET", metadata["jwks_uri"].as_str().unwrap_or_default(), None, None).await?;
        let jwks = serde_json::from_value(json_of(&keys, 200)?).map_err(Error::doing("the key set"))?;
        Ok(Self { transmitter, token: token.to_owned(), metadata, jwks })
    }

    /// A request to one of the endpoints of the metadata, such as `status_endpoint`, with this query.
    pub async fn call(&self, method: &str, endpoint: &str, query: &str, body: Option<&Value>) -> Result<Answer> {
        let url = self.metadata[endpoint].as_str().ok_or_else(|| Error::new(format!("no {endpoint}")))?;
        fetch(self.transmitter, method, &format!("{url}{query}"), Some(&self.token), body).await
    }

    /// Makes a stream for `events`; `delivery` as in the request, null to leave it out.
    pub async fn create(&self, events: &[&str], delivery: Value) -> Result<Stream> {
        let mut body = json!({"events_requested": events, "description": "a test"});
        if !delivery.is_null() {
            body["delivery"] = delivery;
        }
        let answer = self.call("POST", "configuration_endpoint", "", Some(&body)).await?;
        let configuration = json_of(&answer, 201)?;
        self.check_configuration(&configuration)?;
        let id = configuration["stream_id"].as_str().unwrap_or_default().to_owned();
        Ok(Stream { id, configuration })
    }

    /// What every configuration that is answered must be (SSF 1.0 section 8.1.1).
    pub fn check_configuration(&self, configuration: &Value) -> Result<()> {
        let is = |ok: bool, what: &str| if ok { Ok(()) } else { Err(Error::new(format!("{what}: {configuration:#}"))) };
        is(configuration["stream_id"].as_str().is_some_and(|id| !id.is_empty()), "stream_id")?;
        is(configuration["iss"] == self.metadata["issuer"], "iss is not the issuer")?;
        is(configuration["aud"].is_string() || configuration["aud"].is_array(), "aud")?;
        let list = |name: &str| configuration[name].as_array().cloned();
        let delivered = list("events_delivered").ok_or_else(|| Error::new("events_delivered is missing"))?;
        for other in ["events_supported", "events_requested"] {
            let within = list(other).is_none_or(|all| delivered.iter().all(|uri| all.contains(uri)));
            is(within, "events_delivered has more than was asked for, or than there is")?;
        }
        let delivery = &configuration["delivery"];
        is(delivery["method"] == PUSH || delivery["method"] == POLL, "delivery.method")?;
        is(delivery["endpoint_url"].is_string(), "delivery.endpoint_url")
    }

    /// Asks for a verification event with this `state`.
    pub async fn ask_for_verification(&self, stream: &Stream, state: &str) -> Result<Answer> {
        let body = json!({"stream_id": stream.id, "state": state});
        self.call("POST", "verification_endpoint", "", Some(&body)).await
    }

    /// One poll with this body (RFC 8936 section 2.2).
    pub async fn poll_with(&self, stream: &Stream, body: &Value) -> Result<Answer> {
        let url = stream.configuration["delivery"]["endpoint_url"].as_str().unwrap_or_default();
        fetch(self.transmitter, "POST", url, Some(&self.token), Some(body)).await
    }

    /// One poll that acknowledges `ack` and returns at once; the SETs, verified, and whether there are more.
    pub async fn poll(&self, stream: &Stream, ack: &[String]) -> Result<(Vec<Event>, bool)> {
        let answer = self.poll_with(stream, &json!({"ack": ack, "returnImmediately": true})).await?;
        self.read_poll(stream, &answer)
    }

    /// The SETs of the answer to a poll, verified, and whether there are more.
    pub fn read_poll(&self, stream: &Stream, answer: &Answer) -> Result<(Vec<Event>, bool)> {
        let body = json_of(answer, 200)?;
        let sets = body["sets"].as_object().ok_or_else(|| Error::new(format!("no sets in {body}")))?;
        let mut events = Vec::new();
        for (jti, set) in sets {
            let event = self.verify(stream, set.as_str().unwrap_or_default())?;
            if event.jti != *jti {
                return Err(Error::new(format!("the SET {} stands under {jti}", event.jti)));
            }
            events.push(event);
        }
        Ok((events, body["moreAvailable"].as_bool().unwrap_or_default()))
    }

    /// Polls until `wanted` accepts an event, acknowledging all that come before; that event, not acknowledged.
    pub async fn poll_until(&self, stream: &Stream, wanted: impl Fn(&Event) -> bool) -> Result<Event> {
        let deadline = Instant::now() + SOON;
        let mut ack = Vec::new();
        loop {
            let (events, _) = self.poll(stream, &ack).await?;
            if let Some(event) = events.iter().find(|event| wanted(event)) {
                return Ok(event.clone());
            }
            if Instant::now() > deadline {
                return Err(Error::new(format!("the event has not come, only {events:?}")));
            }
            ack = events.into_iter().map(|event| event.jti).collect();
            time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Verifies a SET as SSF 1.0 section 4 and RFC 8417 section 2.2 ask.
    pub fn verify(&self, stream: &Stream, set: &str) -> Result<Event> {
        let head = decode_header(set).map_err(Error::doing("the header of the SET"))?;
        let is = |ok: bool, what: &str| if ok { Ok(()) } else { Err(Error::new(format!("{what}: {set}"))) };
        is(head.typ.as_deref() == Some("secevent+jwt"), "the type is not secevent+jwt")?;
        is(head.alg == Algorithm::RS256, "the interoperability profile asks for RS256")?;
        let kid = head.kid.ok_or_else(|| Error::new("no kid"))?;
        let key = self.jwks.find(&kid).ok_or_else(|| Error::new(format!("no key {kid} in jwks_uri")))?;
        let key = DecodingKey::from_jwk(key).map_err(Error::doing("the key"))?;
        let mut rules = Validation::new(Algorithm::RS256);
        rules.required_spec_claims.clear();
        rules.validate_exp = false;
        rules.set_issuer(&[self.metadata["issuer"].as_str().unwrap_or_default()]);
        let audiences = match &stream.configuration["aud"] {
            Value::Array(all) => all.iter().filter_map(|one| one.as_str().map(str::to_owned)).collect(),
            one => vec![one.as_str().unwrap_or_default().to_owned()],
        };
        rules.set_audience(&audiences);
        let claims = decode::<Value>(set, &key, &rules).map_err(Error::doing("the SET"))?.claims;
        is(claims["iss"].is_string() && claims["aud"] == stream.configuration["aud"], "iss or aud")?;
        is(claims.get("sub").is_none() && claims.get("exp").is_none(), "a SET has neither sub nor exp")?;
        is(claims["iat"].is_u64() && claims["txn"].is_string(), "iat or txn")?;
        is(claims["sub_id"]["format"].is_string(), "sub_id is not a subject identifier")?;
        let events = claims["events"].as_object().cloned().unwrap_or_default();
        is(events.len() == 1, "a SET has one event")?;
        let (uri, payload) = events.into_iter().next().unwrap_or_default();
        is(payload.is_object(), "an event is an object")?;
        let of_stream = [VERIFICATION, STREAM_UPDATED].contains(&uri.as_str());
        let delivered = stream.configuration["events_delivered"].as_array().cloned().unwrap_or_default();
        is(of_stream || delivered.contains(&json!(uri)), "the event is not one of events_delivered")?;
        let about = json!({"format": "opaque", "id": stream.id});
        is(!of_stream || claims["sub_id"] == about, "an event about the stream has another subject")?;
        let jti = claims["jti"].as_str().filter(|jti| !jti.is_empty()).ok_or_else(|| Error::new("no jti"))?;
        Ok(Event { jti: jti.to_owned(), uri, payload, claims })
    }
}

/// An answer to a push.
#[derive(Clone, Debug)]
pub enum Reply {
    /// 202: the SET is stored.
    Accept,
    /// 400 with this code (RFC 8935 section 2.3).
    Refuse(&'static str),
    /// Only this status.
    Status(u16),
}

/// A push that came: when, its `authorization` header, and the SET.
#[derive(Clone, Debug)]
pub struct Arrival {
    /// The `authorization` header.
    pub authorization: Option<String>,
    /// The SET as it came.
    pub set: String,
    /// What was answered.
    pub accepted: bool,
}

#[derive(Default)]
struct Taken {
    replies: VecDeque<Reply>,
    arrivals: Vec<Arrival>,
    wrong: Vec<String>,
}

/// An endpoint that takes pushes (RFC 8935), with answers that a test may choose. It lives as long as the runtime.
#[derive(Clone)]
pub struct PushEndpoint {
    address: SocketAddr,
    taken: Arc<Mutex<Taken>>,
}

impl PushEndpoint {
    /// Starts one on a free port.
    pub async fn start() -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.map_err(Error::doing("listen"))?;
        let address = listener.local_addr().map_err(Error::doing("listen"))?;
        let taken = Arc::<Mutex<Taken>>::default();
        let router = Router::new().route("/events", post(take)).with_state(taken.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        Ok(Self { address, taken })
    }

    /// Its URL.
    pub fn url(&self) -> String {
        format!("http://{}/events", self.address)
    }

    /// The delivery of a stream that is pushed here with this `authorization` header.
    pub fn delivery(&self, authorization: &str) -> Value {
        json!({"method": PUSH, "endpoint_url": self.url(), "authorization_header": authorization})
    }

    /// Answers the next pushes so; the ones after them with 202.
    pub fn reply(&self, replies: impl IntoIterator<Item = Reply>) {
        self.lock().replies.extend(replies);
    }

    /// All pushes so far. A push that breaks RFC 8935 is an error.
    pub fn arrivals(&self) -> Result<Vec<Arrival>> {
        let taken = self.lock();
        match taken.wrong.first() {
            None => Ok(taken.arrivals.clone()),
            Some(wrong) => Err(Error::new(wrong.clone())),
        }
    }

    /// The SETs that were accepted, verified, in the order in which they came.
    pub fn accepted(&self, receiver: &Receiver, stream: &Stream) -> Result<Vec<Event>> {
        let arrivals = self.arrivals()?;
        arrivals.iter().filter(|one| one.accepted).map(|one| receiver.verify(stream, &one.set)).collect()
    }

    /// Waits until `enough` holds for the SETs that were accepted.
    pub async fn wait(
        &self,
        receiver: &Receiver,
        stream: &Stream,
        enough: impl Fn(&[Event]) -> bool,
    ) -> Result<Vec<Event>> {
        let deadline = Instant::now() + SOON;
        loop {
            let events = self.accepted(receiver, stream)?;
            if enough(&events) {
                return Ok(events);
            }
            if Instant::now() > deadline {
                return Err(Error::new(format!("only these SETs have come: {events:#?}")));
            }
            time::sleep(Duration::from_millis(20)).await;
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn take(State(taken): State<Arc<Mutex<Taken>>>, headers: HeaderMap, body: Bytes) -> Response {
    let text = |name: &header::HeaderName| headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let mut taken = taken.lock().unwrap_or_else(PoisonError::into_inner);
    if text(&header::CONTENT_TYPE).as_deref() != Some("application/secevent+jwt") {
        taken.wrong.push(format!("the type of a push is {:?}", text(&header::CONTENT_TYPE)));
    }
    if text(&header::ACCEPT).as_deref() != Some("application/json") {
        taken.wrong.push(format!("a push accepts {:?}", text(&header::ACCEPT)));
    }
    let reply = taken.replies.pop_front().unwrap_or(Reply::Accept);
    let set = String::from_utf8_lossy(&body).into_owned();
    let accepted = matches!(reply, Reply::Accept);
    taken.arrivals.push(Arrival { authorization: text(&header::AUTHORIZATION), set, accepted });
    match reply {
        Reply::Accept => StatusCode::ACCEPTED.into_response(),
        Reply::Refuse(err) => {
            let body = json!({"err": err, "description": "as the test wants it"}).to_string();
            let headers = [(header::CONTENT_TYPE, "application/json"), (header::CONTENT_LANGUAGE, "en")];
            (StatusCode::BAD_REQUEST, headers, body).into_response()
        }
        Reply::Status(status) => StatusCode::from_u16(status).unwrap_or_default().into_response(),
    }
}

/// How often each `jti` came.
pub fn counts(events: &[Event]) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for event in events {
        *counts.entry(event.jti.clone()).or_default() += 1;
    }
    counts
}

async fn fetch(
    transmitter: SocketAddr,
    method: &str,
    url: &str,
    token: Option<&str>,
    body: Option<&Value>,
) -> Result<Answer> {
    let (_, path) = split(url)?;
    let mut request = Request::new(method, path).host(&transmitter.to_string());
    if let Some(token) = token {
        request = request.bearer(token);
    }
    if let Some(body) = body {
        request = request.header("content-type", "application/json").body(body.to_string());
    }
    // A poll may wait for longer than other requests.
    client::send(transmitter, Http::One, &request).await
}

/// Scheme and host, and the path, of a URL.
fn split(url: &str) -> Result<(String, &str)> {
    let rest = url.split_once("://").ok_or_else(|| Error::new(format!("{url} is not a URL")))?;
    let at = rest.1.find('/').unwrap_or(rest.1.len());
    let (host, path) = rest.1.split_at(at);
    Ok((format!("{}://{host}", rest.0), path))
}

/// The body of an answer that must have this status and be JSON.
pub fn json_of(answer: &Answer, status: u16) -> Result<Value> {
    let kind = answer.headers.get("content-type").and_then(|value| value.to_str().ok()).unwrap_or_default();
    if answer.status != status || !kind.starts_with("application/json") {
        return Err(Error::new(format!("{} {kind} instead of {status}: {}", answer.status, answer.text())));
    }
    serde_json::from_slice(&answer.body).map_err(Error::doing("the answer"))
}

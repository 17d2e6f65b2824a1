//! A transmitter of signals, written from the specifications alone: SSF 1.0 (metadata, streams, status, verification),
//! RFC 8935 (push), RFC 8936 (poll), RFC 6749, 7523, 8414 and 9728 (authorization). It is strict with what a receiver
//! sends, notes every breach, and can be told to fail.

use std::{
    collections::{BTreeMap, VecDeque},
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, mpsc},
    thread,
    time::{Duration, Instant},
};

use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, Method, StatusCode, Uri},
    response::{IntoResponse, Response},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde_json::{Value, json};
use tokio::{
    net::TcpListener,
    runtime,
    sync::{oneshot, watch},
    time::{sleep, timeout},
};

use crate::{
    Error, Result,
    client::{self, Answer, Http, Request},
    mint::{self, Jwt, ssf, unique},
};

/// The bearer token that always counts, with all scopes.
pub const TOKEN: &str = "static-token-of-the-tests";
/// The OAuth client, and its secret.
pub const CLIENT: (&str, &str) = ("taskfence:hub", "a secret/with+signs, long enough for HS256");
/// The longest wait of a poll, which RFC 8936 leaves to the transmitter.
const LONGEST_POLL: Duration = Duration::from_secs(20);
/// What a receiver must not send when it makes a stream (SSF 1.0 §8.1.1).
const OURS: [&str; 8] = [
    "stream_id",
    "iss",
    "aud",
    "events_supported",
    "events_delivered",
    "min_verification_interval",
    "inactivity_timeout",
    "format",
];

/// A running transmitter; it ends when it is dropped.
pub struct Transmitter {
    address: SocketAddr,
    shared: Arc<Shared>,
    _stop: oneshot::Sender<()>,
}

struct Shared {
    inner: Mutex<Inner>,
    changed: watch::Sender<u64>,
}

/// How it fails, and what it is like.
#[derive(Clone, Debug)]
pub struct Behaviour {
    /// `issuer` in its metadata; `None`: the true one.
    pub issuer: Option<String>,
    /// `iss` of streams and SETs; `None`: the issuer.
    pub set_issuer: Option<String>,
    /// `aud` of its streams.
    pub audience: Value,
    /// Polls are never answered.
    pub hang_polls: bool,
    /// Every answer to a poll has this many bytes.
    pub page_bytes: usize,
    /// Verifications are refused with 429.
    pub no_verifications: bool,
    /// `min_verification_interval` of its streams, and what it enforces.
    pub min_verification_interval: Option<u64>,
    /// `inactivity_timeout` of its streams: without a call for so long they are paused.
    pub inactivity_timeout: Option<u64>,
    /// How long its tokens live, in seconds.
    pub token_life: u64,
    /// It has one stream for each receiver at most (409).
    pub one_stream: bool,
    /// The events that it knows.
    pub events: Vec<String>,
    /// How clients may authenticate.
    pub methods: Vec<String>,
    /// It takes the status `enabled` from receivers.
    pub can_enable: bool,
    /// The delivery methods that it has.
    pub deliveries: Vec<String>,
    /// The metadata is at the former place only.
    pub legacy: bool,
    /// Everything is answered with this status.
    pub answer_all: Option<u16>,
}

struct Inner {
    issuer: String,
    behaviour: Behaviour,
    streams: BTreeMap<String, Stream>,
    tokens: BTreeMap<String, (Instant, Vec<String>)>,
    client_key: Option<DecodingKey>,
    calls: Vec<String>,
    breaches: Vec<String>,
    assertions: Vec<String>,
    stopped: bool,
}

struct Stream {
    config: Value,
    /// It is of another receiver.
    is_foreign: bool,
    /// Its pushes have begun.
    is_pushed: bool,
    authorization: Option<String>,
    status: String,
    reason: Option<String>,
    queue: VecDeque<(String, String)>,
    sent: BTreeMap<String, String>,
    acknowledged: u64,
    errors: BTreeMap<String, Value>,
    verified: Option<Instant>,
    touched: Instant,
    answers: Vec<u16>,
}

impl Transmitter {
    /// Starts one on a free port of the loopback interface.
    pub fn start() -> Result<Self> {
        Self::start_at("")
    }

    /// The same, where the issuer has this path, such as `/tenant1`.
    pub fn start_at(path: &str) -> Result<Self> {
        let (changed, _) = watch::channel(0);
        let inner = Inner {
            issuer: String::new(),
            behaviour: Behaviour {
                issuer: None,
                set_issuer: None,
                audience: json!(crate::orders::SIGNALS_AUDIENCE),
                hang_polls: false,
                page_bytes: 0,
                no_verifications: false,
                min_verification_interval: None,
                inactivity_timeout: None,
                token_life: 3_600,
                one_stream: false,
                events: vec![
                    mint::SESSION_REVOKED.to_owned(),
                    mint::TASK_COMPLETED.to_owned(),
                    mint::caep("credential-change"),
                ],
                methods: vec!["client_secret_basic".to_owned()],
                can_enable: true,
                deliveries: vec!["urn:ietf:rfc:8935".to_owned(), "urn:ietf:rfc:8936".to_owned()],
                legacy: false,
                answer_all: None,
            },
            streams: BTreeMap::new(),
            tokens: BTreeMap::new(),
            client_key: None,
            calls: Vec::new(),
            breaches: Vec::new(),
            assertions: Vec::new(),
            stopped: false,
        };
        let shared = Arc::new(Shared { inner: Mutex::new(inner), changed });
        let routes = Router::new().fallback(answer).with_state(Arc::clone(&shared));
        let (stop, stopped) = oneshot::channel::<()>();
        let (started, bound) = mpsc::sync_channel(1);
        thread::Builder::new()
            .name("ssf".to_owned())
            .spawn(move || {
                let runtime = runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
                runtime.block_on(async {
                    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
                    let _ = started.send(listener.local_addr().expect("an address"));
                    tokio::select! {
                        _ = axum::serve(listener, routes) => {}
                        _ = stopped => {}
                    }
                });
            })
            .map_err(Error::doing("start the thread of the transmitter"))?;
        let address = bound.recv().map_err(Error::doing("wait for the transmitter"))?;
        shared.lock().issuer = format!("http://{address}{path}");
        Ok(Self { address, shared, _stop: stop })
    }

    /// Its issuer.
    pub fn issuer(&self) -> String {
        self.shared.lock().issuer.clone()
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Changes how it behaves from now on.
    pub fn set(&self, change: impl FnOnce(&mut Behaviour)) {
        change(&mut self.shared.lock().behaviour);
        self.shared.ring();
    }

    /// The public key, in PEM, that a client signs its assertions with (ES256).
    pub fn trust_client_key(&self, public_pem: &str) {
        self.shared.lock().client_key = Some(DecodingKey::from_ec_pem(public_pem.as_bytes()).expect("a public key"));
    }

    /// The `transmitters` entry of a feed: keys of [`mint::TRANSMITTER`], a managed stream with `ssf`.
    pub fn entry(&self, ssf: Value) -> Value {
        json!({
            "issuer": self.issuer(), "audience": crate::orders::SIGNALS_AUDIENCE,
            "keys": {"inline": mint::TRANSMITTER.jwks()}, "algorithms": mint::Alg::names(),
            "subjects": [crate::orders::ISSUER], "ssf": ssf
        })
    }

    /// The ids of its streams, without those of other receivers.
    pub fn streams(&self) -> Vec<String> {
        let inner = self.shared.lock();
        inner.streams.iter().filter(|(_, stream)| !stream.is_foreign).map(|(id, _)| id.clone()).collect()
    }

    /// The configuration of a stream.
    pub fn config(&self, id: &str) -> Value {
        self.shared.lock().streams.get(id).map(|stream| stream.config.clone()).unwrap_or_default()
    }

    /// Makes a stream of another receiver.
    pub fn add_stream(&self, config: Value) -> String {
        let mut inner = self.shared.lock();
        let id = unique("stream");
        let mut stream = Stream::new(config);
        stream.config["stream_id"] = json!(id);
        stream.is_foreign = true;
        inner.streams.insert(id.clone(), stream);
        id
    }

    /// Sends a signal in every stream: its `iss` and `aud` are those of the stream.
    pub fn send(&self, signal: &Jwt) {
        let ids = self.streams();
        ids.iter().for_each(|id| self.send_in(id, signal));
    }

    /// Sends a signal in one stream.
    pub fn send_in(&self, id: &str, signal: &Jwt) {
        let mut inner = self.shared.lock();
        let issuer = inner.set_issuer();
        if let Some(stream) = inner.streams.get_mut(id) {
            let signal = signal.clone().claim("iss", issuer).claim("aud", stream.config["aud"].clone());
            stream.queue.push_back((signal.id(), signal.sign()));
        }
        drop(inner);
        self.shared.ring();
    }

    /// Queues what is no SET of this transmitter under this `jti`.
    pub fn send_text(&self, jti: &str, set: &str) {
        for stream in self.shared.lock().streams.values_mut() {
            stream.queue.push_back((jti.to_owned(), set.to_owned()));
        }
        self.shared.ring();
    }

    /// Delivers these SETs, by their `jti`, again and again: `count` in all.
    pub fn redeliver(&self, sets: &[(String, String)], count: usize) {
        for stream in self.shared.lock().streams.values_mut() {
            stream.queue.extend(sets.iter().cycle().take(count).cloned());
        }
        self.shared.ring();
    }

    /// A signal signed as this transmitter would, without sending it.
    pub fn signed(&self, signal: &Jwt) -> (String, String) {
        let inner = self.shared.lock();
        let signal = signal.clone().claim("iss", inner.set_issuer()).claim("aud", inner.behaviour.audience.clone());
        (signal.id(), signal.sign())
    }

    /// Gives every stream this status. `told`: with a stream-updated event before.
    pub fn set_status(&self, status: &str, told: bool) {
        if told {
            for id in self.streams() {
                let subject = json!({"format": "opaque", "id": id});
                self.send_in(&id, &mint::signal(&ssf("stream-updated"), subject).event("status", status));
            }
        }
        for stream in self.shared.lock().streams.values_mut() {
            stream.status = status.to_owned();
        }
        self.shared.ring();
    }

    /// Deletes every stream, with what waits in it.
    pub fn delete_streams(&self) {
        self.shared.lock().streams.clear();
        self.shared.ring();
    }

    /// Ends every token that it gave out.
    pub fn end_tokens(&self) {
        self.shared.lock().tokens.clear();
    }

    /// Every call so far: `POST /streams 201`.
    pub fn calls(&self) -> Vec<String> {
        self.shared.lock().calls.clone()
    }

    /// How many calls began with this.
    pub fn count(&self, call: &str) -> usize {
        self.shared.lock().calls.iter().filter(|one| one.starts_with(call)).count()
    }

    /// What a receiver did that the specifications forbid.
    pub fn breaches(&self) -> Vec<String> {
        self.shared.lock().breaches.clone()
    }

    /// How many SETs were acknowledged in all streams.
    pub fn acknowledged(&self) -> u64 {
        self.shared.lock().streams.values().map(|stream| stream.acknowledged).sum()
    }

    /// What a receiver said about the SET with this `jti` (`setErrs`, or the body of a 400).
    pub fn error_of(&self, jti: &str) -> Option<Value> {
        self.shared.lock().streams.values().find_map(|stream| stream.errors.get(jti).cloned())
    }

    /// How many SETs wait for an acknowledgement.
    pub fn waiting(&self) -> usize {
        self.shared.lock().streams.values().map(|stream| stream.queue.len() + stream.sent.len()).sum()
    }

    /// The statuses that pushes were answered with.
    pub fn push_answers(&self) -> Vec<u16> {
        self.shared.lock().streams.values().flat_map(|stream| stream.answers.clone()).collect()
    }

    /// Waits until `done`, at most so long.
    pub async fn wait(&self, what: &str, within: Duration, done: impl Fn(&Self) -> bool) -> Result<()> {
        let deadline = Instant::now() + within;
        while !done(self) {
            if Instant::now() > deadline {
                let calls = self.calls();
                let last = calls.iter().rev().take(30).cloned().collect::<Vec<_>>().join("\n");
                return Err(Error::new(format!(
                    "not within {within:?}: {what}; breaches {:?}; last calls:\n{last}",
                    self.breaches()
                )));
            }
            sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }
}

impl Drop for Transmitter {
    fn drop(&mut self) {
        self.shared.lock().stopped = true;
        self.shared.ring();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().expect("no test panics with the transmitter locked")
    }

    fn ring(&self) {
        self.changed.send_modify(|count| *count += 1);
    }
}

impl Stream {
    fn new(config: Value) -> Self {
        Self {
            config,
            is_foreign: false,
            is_pushed: false,
            authorization: None,
            status: "enabled".to_owned(),
            reason: None,
            queue: VecDeque::new(),
            sent: BTreeMap::new(),
            acknowledged: 0,
            errors: BTreeMap::new(),
            verified: None,
            touched: Instant::now(),
            answers: Vec::new(),
        }
    }

    /// A call of its receiver. After too long a silence the stream is paused (SSF 1.0 §8.1.1).
    fn touch(&mut self, limit: Option<u64>) {
        if limit.is_some_and(|limit| self.touched.elapsed() > Duration::from_secs(limit)) {
            self.status = "paused".to_owned();
            self.reason = Some("the receiver was silent".to_owned());
        }
        self.touched = Instant::now();
    }
}

impl Inner {
    fn set_issuer(&self) -> String {
        self.behaviour.set_issuer.clone().unwrap_or_else(|| self.issuer.clone())
    }

    /// The path of the issuer.
    fn tenant(&self) -> String {
        let after = self.issuer.trim_start_matches("http://");
        after.find('/').map(|at| after[at..].to_owned()).unwrap_or_default()
    }

    fn base(&self) -> String {
        self.issuer.trim_end_matches(&self.tenant()).to_owned()
    }

    fn breach(&mut self, what: impl Into<String>) -> Response {
        let what = what.into();
        self.breaches.push(what.clone());
        error(400, "invalid_request", &what)
    }
}

fn error(status: u16, code: &str, description: &str) -> Response {
    let mut response = json_of(status, &json!({"error": code, "error_description": description}));
    if status == 401 {
        response.headers_mut().insert("www-authenticate", "Bearer".parse().expect("a header"));
    }
    response
}

fn json_of(status: u16, body: &Value) -> Response {
    let status = StatusCode::from_u16(status).expect("a status");
    (status, [("content-type", "application/json"), ("cache-control", "no-store")], body.to_string()).into_response()
}

fn empty(status: u16) -> Response {
    StatusCode::from_u16(status).expect("a status").into_response()
}

async fn answer(
    State(shared): State<Arc<Shared>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let path = uri.path().to_owned();
    let response = match (method.as_str(), path.as_str()) {
        ("POST", path) if path.starts_with("/poll/") => poll(&shared, &path["/poll/".len()..], &headers, &body).await,
        _ => {
            let all = shared.lock().behaviour.answer_all;
            match all {
                Some(status) => empty(status),
                None => dispatch(&shared, &method, &uri, &headers, &body),
            }
        }
    };
    shared.lock().calls.push(format!("{method} {path} {}", response.status().as_u16()));
    response
}

fn dispatch(shared: &Arc<Shared>, method: &Method, uri: &Uri, headers: &HeaderMap, body: &[u8]) -> Response {
    let mut inner = shared.lock();
    let (tenant, base) = (inner.tenant(), inner.base());
    let path = uri.path();
    let is = |name: &str| path == format!("/.well-known/{name}{tenant}");
    if (is("ssf-configuration") && !inner.behaviour.legacy) || (is("risc-configuration") && inner.behaviour.legacy) {
        let issuer = inner.behaviour.issuer.clone().unwrap_or_else(|| inner.issuer.clone());
        return json_of(
            200,
            &json!({
                "spec_version": "1_0", "issuer": issuer, "jwks_uri": format!("{base}/jwks"),
                "delivery_methods_supported": inner.behaviour.deliveries,
                "configuration_endpoint": format!("{base}/streams"), "status_endpoint": format!("{base}/status"),
                "verification_endpoint": format!("{base}/verify"), "critical_subject_members": ["task"],
                "authorization_schemes": [{"spec_urn": "urn:ietf:rfc:6749"}], "default_subjects": "ALL"
            }),
        );
    }
    if path == "/.well-known/oauth-protected-resource/streams" {
        return json_of(
            200,
            &json!({
                "resource": format!("{base}/streams"), "authorization_servers": [format!("{base}/as")],
                "scopes_supported": ["ssf.read", "ssf.manage", "admin"]
            }),
        );
    }
    if path == "/.well-known/oauth-authorization-server/as" {
        return json_of(
            200,
            &json!({
                "issuer": format!("{base}/as"), "token_endpoint": format!("{base}/token"),
                "token_endpoint_auth_methods_supported": inner.behaviour.methods
            }),
        );
    }
    match (method.as_str(), path) {
        ("GET", "/jwks") => json_of(200, &mint::TRANSMITTER.jwks()),
        ("POST", "/token") => token(&mut inner, headers, body, &format!("{base}/token")),
        (_, "/streams" | "/status" | "/verify") => {
            let scope = if method == Method::GET { "ssf.read" } else { "ssf.manage" };
            if let Some(refused) = authorize(&mut inner, headers, uri, scope) {
                return refused;
            }
            let answered = manage(&mut inner, method, uri, body, &base);
            // Pushes go out by a task of their own.
            for (id, stream) in &mut inner.streams {
                if stream.config["delivery"]["method"] == "urn:ietf:rfc:8935" && !stream.is_pushed {
                    stream.is_pushed = true;
                    tokio::spawn(push(Arc::clone(shared), id.clone()));
                }
            }
            drop(inner);
            shared.ring();
            answered
        }
        _ => empty(404),
    }
}

/// RFC 6750 §2.1: the token stands in the header, never in the query.
fn authorize(inner: &mut Inner, headers: &HeaderMap, uri: &Uri, scope: &str) -> Option<Response> {
    if uri.query().is_some_and(|query| query.contains("access_token")) {
        return Some(inner.breach("a token in the query"));
    }
    let header = headers.get("authorization").and_then(|value| value.to_str().ok()).unwrap_or_default();
    let Some(token) = header.strip_prefix("Bearer ") else { return Some(error(401, "invalid_request", "no token")) };
    if token == TOKEN {
        return None;
    }
    match inner.tokens.get(token) {
        Some((until, _)) if *until < Instant::now() => Some(error(401, "invalid_token", "the token has ended")),
        Some((_, scopes)) if !scopes.iter().any(|known| known == scope) => {
            Some(error(403, "insufficient_scope", scope))
        }
        Some(_) => None,
        None => Some(error(401, "invalid_token", "the token is not known")),
    }
}

fn token(inner: &mut Inner, headers: &HeaderMap, body: &[u8], endpoint: &str) -> Response {
    let form: BTreeMap<String, String> = form(body);
    let field = |name: &str| form.get(name).map(String::as_str).unwrap_or_default();
    if field("grant_type") != "client_credentials" {
        return error(400, "unsupported_grant_type", "client_credentials alone");
    }
    let scopes: Vec<String> = field("scope").split(' ').filter(|one| !one.is_empty()).map(str::to_owned).collect();
    if scopes.is_empty() || scopes.iter().any(|scope| !["ssf.read", "ssf.manage"].contains(&scope.as_str())) {
        inner.breaches.push(format!("the scope `{}` was asked for", field("scope")));
        return error(400, "invalid_scope", "ssf.read and ssf.manage");
    }
    let allows = |method: &str| inner.behaviour.methods.iter().any(|known| known == method);
    let basic = headers.get("authorization").and_then(|value| value.to_str().ok()?.strip_prefix("Basic "));
    let known = if let Some(basic) = basic {
        let pair = String::from_utf8(STANDARD.decode(basic).unwrap_or_default()).unwrap_or_default();
        let (id, secret) = pair.split_once(':').unwrap_or_default();
        allows("client_secret_basic") && (decoded(id).as_str(), decoded(secret).as_str()) == CLIENT
    } else if form.contains_key("client_secret") {
        allows("client_secret_post") && (field("client_id"), field("client_secret")) == CLIENT
    } else {
        let assertion = field("client_assertion").to_owned();
        let is_new = !inner.assertions.contains(&assertion);
        inner.assertions.push(assertion.clone());
        let check = |algorithm, key: &DecodingKey| {
            let mut validation = Validation::new(algorithm);
            validation.set_audience(&[endpoint]);
            validation.set_issuer(&[CLIENT.0]);
            validation.set_required_spec_claims(&["exp", "aud", "iss", "sub", "jti"]);
            jsonwebtoken::decode::<Value>(&assertion, key, &validation)
                .is_ok_and(|token| token.claims["sub"] == CLIENT.0)
        };
        let kind = field("client_assertion_type") == "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
        let secret = DecodingKey::from_secret(CLIENT.1.as_bytes());
        let by_secret = allows("client_secret_jwt") && check(Algorithm::HS256, &secret);
        let by_key =
            allows("private_key_jwt") && inner.client_key.as_ref().is_some_and(|key| check(Algorithm::ES256, key));
        is_new && kind && (by_secret || by_key)
    };
    if !known {
        return error(401, "invalid_client", "the client is not known");
    }
    let token = unique("token");
    let life = inner.behaviour.token_life;
    inner.tokens.insert(token.clone(), (Instant::now() + Duration::from_secs(life), scopes));
    json_of(200, &json!({"access_token": token, "token_type": "Bearer", "expires_in": life}))
}

fn manage(inner: &mut Inner, method: &Method, uri: &Uri, body: &[u8], base: &str) -> Response {
    let query = form(uri.query().unwrap_or_default().as_bytes());
    let json: Value = serde_json::from_slice(body).unwrap_or_default();
    let id = query.get("stream_id").cloned().or_else(|| json["stream_id"].as_str().map(str::to_owned));
    let limit = inner.behaviour.inactivity_timeout;
    if let Some(stream) = id.as_ref().and_then(|id| inner.streams.get_mut(id)) {
        stream.touch(limit);
    }
    let missing = |id: &Option<String>, inner: &Inner| id.as_ref().is_none_or(|id| !inner.streams.contains_key(id));
    match (method.as_str(), uri.path()) {
        ("POST", "/streams") => create(inner, &json, base),
        ("GET", "/streams") => match &id {
            None => json_of(200, &inner.streams.values().map(|stream| stream.config.clone()).collect()),
            Some(id) => match inner.streams.get(id) {
                Some(stream) => json_of(200, &stream.config),
                None => empty(404),
            },
        },
        ("PATCH", "/streams") => {
            if OURS.iter().skip(1).any(|name| json.get(name).is_some()) {
                return inner.breach(format!("a change names what the transmitter decides: {json}"));
            }
            let known = inner.behaviour.events.clone();
            let Some(stream) = id.as_ref().and_then(|id| inner.streams.get_mut(id)) else { return empty(404) };
            if let Some(events) = json.get("events_requested") {
                stream.config["events_requested"] = events.clone();
                stream.config["events_delivered"] = delivered(events, &known);
            }
            if let Some(delivery) = json.get("delivery") {
                set_delivery(stream, delivery, base);
            }
            json_of(200, &stream.config)
        }
        ("DELETE", "/streams") => match id.and_then(|id| inner.streams.remove(&id)) {
            Some(_) => empty(204),
            None => empty(404),
        },
        ("GET", "/status") => match id.as_ref().and_then(|id| inner.streams.get(id)) {
            Some(stream) => {
                let mut said = json!({"stream_id": id, "status": stream.status});
                if let Some(reason) = &stream.reason {
                    said["reason"] = json!(reason);
                }
                json_of(200, &said)
            }
            None => empty(404),
        },
        ("POST", "/status") if missing(&id, inner) => empty(404),
        ("POST", "/status") if !inner.behaviour.can_enable => error(403, "access_denied", "the stream stays as it is"),
        ("POST", "/status") => {
            let status = json["status"].as_str().unwrap_or_default().to_owned();
            if !["enabled", "paused", "disabled"].contains(&status.as_str()) {
                return inner.breach(format!("no such status: {json}"));
            }
            if let Some(stream) = id.as_ref().and_then(|id| inner.streams.get_mut(id)) {
                stream.status.clone_from(&status);
            }
            json_of(200, &json!({"stream_id": id, "status": status}))
        }
        ("POST", "/verify") if missing(&id, inner) => empty(404),
        ("POST", "/verify") => verify(inner, &id.unwrap_or_default(), &json),
        _ => empty(405),
    }
}

fn create(inner: &mut Inner, json: &Value, base: &str) -> Response {
    if let Some(name) = OURS.iter().find(|name| json.get(**name).is_some()) {
        return inner.breach(format!("`{name}` is decided by the transmitter"));
    }
    if !json["events_requested"].is_array() {
        return inner.breach("no events_requested");
    }
    if inner.behaviour.one_stream && !inner.streams.is_empty() {
        return empty(409);
    }
    let id = unique("stream");
    let mut config = json!({
        "stream_id": id, "iss": inner.set_issuer(), "aud": inner.behaviour.audience,
        "events_supported": inner.behaviour.events, "events_requested": json["events_requested"],
        "events_delivered": delivered(&json["events_requested"], &inner.behaviour.events)
    });
    for (name, value) in [
        ("min_verification_interval", inner.behaviour.min_verification_interval),
        ("inactivity_timeout", inner.behaviour.inactivity_timeout),
    ] {
        if let Some(value) = value {
            config[name] = json!(value);
        }
    }
    if let Some(description) = json.get("description") {
        config["description"] = description.clone();
    }
    let mut stream = Stream::new(config);
    set_delivery(&mut stream, &json["delivery"], base);
    let answer = json_of(201, &stream.config);
    inner.streams.insert(id, stream);
    answer
}

fn delivered(requested: &Value, known: &[String]) -> Value {
    let all = requested.as_array().into_iter().flatten();
    all.filter(|event| known.iter().any(|known| event == &known.as_str())).cloned().collect()
}

fn set_delivery(stream: &mut Stream, delivery: &Value, base: &str) {
    let id = stream.config["stream_id"].as_str().unwrap_or_default().to_owned();
    stream.config["delivery"] = match delivery["method"].as_str() {
        Some("urn:ietf:rfc:8935") => {
            stream.authorization = delivery["authorization_header"].as_str().map(str::to_owned);
            json!({"method": "urn:ietf:rfc:8935", "endpoint_url": delivery["endpoint_url"]})
        }
        _ => json!({"method": "urn:ietf:rfc:8936", "endpoint_url": format!("{base}/poll/{id}")}),
    };
}

fn verify(inner: &mut Inner, id: &str, json: &Value) -> Response {
    let (issuer, refuse) = (inner.set_issuer(), inner.behaviour.no_verifications);
    let least = inner.behaviour.min_verification_interval.map(Duration::from_secs);
    let Some(stream) = inner.streams.get_mut(id) else { return empty(404) };
    let early = least.zip(stream.verified).and_then(|(least, at)| least.checked_sub(at.elapsed()));
    if refuse || early.is_some() {
        let seconds = early.map_or(1, |early| early.as_secs() + 1);
        return (StatusCode::TOO_MANY_REQUESTS, [("retry-after", seconds.to_string())]).into_response();
    }
    stream.verified = Some(Instant::now());
    let mut event = mint::signal(&ssf("verification"), json!({"format": "opaque", "id": id}));
    if let Some(state) = json["state"].as_str() {
        event = event.event("state", state);
    }
    let event = event.claim("iss", issuer).claim("aud", stream.config["aud"].clone());
    stream.queue.push_back((event.id(), event.sign()));
    empty(204)
}

/// RFC 8936 §2.4.
async fn poll(shared: &Arc<Shared>, id: &str, headers: &HeaderMap, body: &[u8]) -> Response {
    let Ok(json) = serde_json::from_slice::<Value>(body) else { return shared.lock().breach("a poll without JSON") };
    let most = json["maxEvents"].as_u64().map_or(usize::MAX, |most| usize::try_from(most).expect("a count"));
    let at_once = json["returnImmediately"].as_bool().unwrap_or_default() || most == 0;
    {
        let mut inner = shared.lock();
        if let Some(refused) = authorize(&mut inner, headers, &Uri::from_static("/"), "ssf.read") {
            return refused;
        }
        let (hangs, limit) = (inner.behaviour.hang_polls, inner.behaviour.inactivity_timeout);
        let Some(stream) = inner.streams.get_mut(id) else { return empty(404) };
        stream.touch(limit);
        if !hangs {
            for jti in json["ack"].as_array().into_iter().flatten().filter_map(Value::as_str) {
                stream.acknowledged += u64::from(stream.sent.remove(jti).is_some());
            }
            for (jti, why) in json["setErrs"].as_object().into_iter().flatten() {
                stream.sent.remove(jti);
                stream.errors.insert(jti.clone(), why.clone());
            }
        }
    }
    let deadline = Instant::now() + LONGEST_POLL;
    let mut changed = shared.changed.subscribe();
    loop {
        {
            let mut inner = shared.lock();
            let (hangs, bytes) = (inner.behaviour.hang_polls, inner.behaviour.page_bytes);
            let Some(stream) = inner.streams.get_mut(id) else { return empty(404) };
            let pauses = stream.status != "enabled";
            if !hangs {
                if bytes > 0 {
                    let page = json!({"sets": {}, "padding": "x".repeat(bytes)});
                    return json_of(200, &page);
                }
                while !pauses && stream.sent.len() < most {
                    match stream.queue.front() {
                        Some((jti, _)) if !stream.sent.contains_key(jti) => {
                            let (jti, set) = stream.queue.pop_front().expect("it is there");
                            stream.sent.insert(jti, set);
                        }
                        _ => break,
                    }
                }
                if at_once || Instant::now() > deadline || (!pauses && !stream.sent.is_empty()) {
                    let sets: serde_json::Map<String, Value> = match pauses {
                        true => serde_json::Map::new(),
                        false => stream.sent.iter().take(most).map(|(jti, set)| (jti.clone(), json!(set))).collect(),
                    };
                    return json_of(200, &json!({"sets": sets, "moreAvailable": !pauses && !stream.queue.is_empty()}));
                }
            }
            if inner.stopped {
                return empty(503);
            }
        }
        drop(timeout(Duration::from_millis(500), changed.changed()).await);
    }
}

/// Pushes what waits in a stream, one after the other, until it is gone (RFC 8935).
async fn push(shared: Arc<Shared>, id: String) {
    let mut changed = shared.changed.subscribe();
    loop {
        let next = {
            let inner = shared.lock();
            let Some(stream) = inner.streams.get(&id).filter(|_| !inner.stopped) else { return };
            let enabled = stream.status == "enabled";
            stream.queue.front().filter(|_| enabled).cloned().map(|(jti, set)| {
                let endpoint = stream.config["delivery"]["endpoint_url"].as_str().unwrap_or_default().to_owned();
                (jti, set, endpoint, stream.authorization.clone())
            })
        };
        let Some((jti, set, endpoint, authorization)) = next else {
            drop(timeout(Duration::from_millis(500), changed.changed()).await);
            continue;
        };
        let url: Uri = endpoint.parse().expect("the URL of the receiver");
        let to: SocketAddr = url.authority().map(|to| to.as_str().parse().expect("an address")).expect("a host");
        let mut request = Request::push(url.path(), &set);
        if let Some(authorization) = &authorization {
            request = request.header("authorization", authorization);
        }
        let answered = client::send(to, Http::One, &request).await;
        if !note_push(&shared, &id, &jti, answered) {
            sleep(Duration::from_millis(300)).await;
        }
    }
}

/// Notes the answer to a push; whether the SET need not be pushed again.
fn note_push(shared: &Shared, id: &str, jti: &str, answered: Result<Answer>) -> bool {
    let mut inner = shared.lock();
    let Some(stream) = inner.streams.get_mut(id) else { return true };
    let status = answered.as_ref().map_or(0, |answer| answer.status);
    stream.answers.push(status);
    let is_done = matches!(status, 202 | 400);
    if is_done {
        stream.queue.pop_front();
        match (status, answered) {
            (400, Ok(answer)) => drop(stream.errors.insert(jti.to_owned(), answer.json())),
            _ => stream.acknowledged += 1,
        }
    }
    is_done
}

/// `application/x-www-form-urlencoded`.
fn form(text: &[u8]) -> BTreeMap<String, String> {
    let text = String::from_utf8_lossy(text);
    let pairs = text.split('&').filter_map(|pair| pair.split_once('='));
    pairs.map(|(name, value)| (decoded(name), decoded(value))).collect()
}

fn decoded(text: &str) -> String {
    let (mut bytes, mut rest) = (Vec::new(), text.bytes());
    while let Some(byte) = rest.next() {
        match byte {
            b'+' => bytes.push(b' '),
            b'%' => {
                let hex: Vec<u8> = rest.by_ref().take(2).collect();
                let hex = String::from_utf8(hex).unwrap_or_default();
                bytes.push(u8::from_str_radix(&hex, 16).unwrap_or(b'?'));
            }
            other => bytes.push(other),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

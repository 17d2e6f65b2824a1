//! What a proxy may meet in place of its hub: a server that answers as a test says. It can sign pages of its own, or hand
//! on those of a real hub, changed on the way.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::State,
    http::{HeaderMap, Method, Response, StatusCode, Uri, header},
};
use futures_util::future::BoxFuture;
use serde_json::{Value, json};
use taskfence_core::{
    encoding::digest,
    feed::{
        entry::FeedEntry,
        page,
        revision::{Chain, Revision},
        statement::{self, IssuerStatus, Part, Statement},
    },
};
use tokio::net::TcpListener;

use crate::{
    Error, Result,
    client::{self, Http, Request},
    hub::{CLUSTER, FEED},
    jwks,
    mint::{Alg, Signer},
};

/// The name that a hub has unless its configuration says another.
pub const HUB: &str = "taskfence-hub";

/// What a proxy asked for.
#[derive(Clone, Debug)]
pub struct Asked {
    /// The parameters of the query.
    pub query: BTreeMap<String, String>,
    /// The path with its query.
    pub target: String,
    /// The `authorization` header.
    pub authorization: Option<String>,
    /// What the proxy reports about itself.
    pub report: Value,
}

impl Asked {
    /// The revision after which it asks.
    pub fn after(&self) -> Revision {
        self.query.get("after").and_then(|text| text.parse().ok()).unwrap_or_default()
    }

    /// What it says that it has applied.
    pub fn applied(&self) -> Revision {
        self.query.get("applied").and_then(|text| text.parse().ok()).unwrap_or_default()
    }

    /// The nonce that it wants to see again.
    pub fn nonce(&self) -> Option<String> {
        self.query.get("nonce").cloned()
    }
}

/// The status and the body of an answer.
pub type Answered = (u16, Vec<u8>);

type Respond = dyn Fn(Asked) -> BoxFuture<'static, Answered> + Send + Sync;

/// A running server; it stops with the runtime of the test.
pub struct StandIn {
    address: SocketAddr,
    retry_after: Arc<AtomicU64>,
    asked: Arc<Mutex<Vec<Asked>>>,
}

#[derive(Clone)]
struct Shared {
    retry_after: Arc<AtomicU64>,
    respond: Arc<Respond>,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl StandIn {
    /// Answers every request as `respond` says.
    pub async fn start(
        respond: impl Fn(Asked) -> BoxFuture<'static, Answered> + Send + Sync + 'static,
    ) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.map_err(Error::doing("listen as a hub"))?;
        let address = listener.local_addr().map_err(Error::doing("listen as a hub"))?;
        let asked = Arc::new(Mutex::new(Vec::new()));
        let retry_after = Arc::<AtomicU64>::default();
        let shared = Shared { retry_after: retry_after.clone(), respond: Arc::new(respond), asked: asked.clone() };
        let routes = Router::new().fallback(answer).with_state(shared);
        tokio::spawn(async move { axum::serve(listener, routes).await });
        Ok(Self { address, retry_after, asked })
    }

    /// Hands every request on to the hub at `hub`, and changes what comes back: the number of the answer, from 0, and its
    /// bytes.
    pub async fn before(
        hub: SocketAddr,
        change: impl Fn(usize, &Asked, Vec<u8>) -> Vec<u8> + Send + Sync + 'static,
    ) -> Result<Self> {
        let change = Arc::new(change);
        let count = Arc::new(std::sync::atomic::AtomicUsize::new(0));
        Self::start(move |asked| {
            let (change, count) = (change.clone(), count.clone());
            Box::pin(async move {
                match forward(hub, &asked).await {
                    Ok((200, body)) => {
                        let number = count.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                        (200, change(number, &asked, body))
                    }
                    Ok(other) => other,
                    Err(_) => (503, Vec::new()),
                }
            })
        })
        .await
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The cluster that leads to it.
    pub fn cluster(&self) -> Value {
        jwks::cluster(CLUSTER, self.address)
    }

    /// From now on answers other than 200 ask for a pause of so many seconds; 0: for none.
    pub fn ask_for_pause(&self, seconds: u64) {
        self.retry_after.store(seconds, Ordering::SeqCst);
    }

    /// All requests so far.
    pub fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Asks the hub at `hub` what a proxy asked.
pub async fn forward(hub: SocketAddr, asked: &Asked) -> Result<Answered> {
    let mut request = Request::get(&asked.target);
    if let Some(authorization) = &asked.authorization {
        request = request.header("authorization", authorization);
    }
    if !asked.report.is_null() {
        request = request.header("taskfence-follower", asked.report.to_string());
    }
    // A long poll lasts longer than other answers may.
    let mut connection = client::Connection::open(hub, Http::One).await?;
    let answer = connection.send_within(&request, Duration::from_secs(40)).await?;
    Ok((answer.status, answer.body.to_vec()))
}

async fn answer(State(shared): State<Shared>, method: Method, uri: Uri, headers: HeaderMap) -> Response<Body> {
    if method != Method::GET {
        // A hub that takes no uses.
        return Response::builder().status(StatusCode::NOT_FOUND).body(Body::empty()).expect("a fixed answer");
    }
    let asked = asked(&uri, &headers);
    shared.asked.lock().unwrap_or_else(PoisonError::into_inner).push(asked.clone());
    let (status, body) = (shared.respond)(asked).await;
    let mut response = Response::builder().status(StatusCode::from_u16(status).expect("a status"));
    let pause = shared.retry_after.load(Ordering::SeqCst);
    if status != 200 && pause > 0 {
        response = response.header(header::RETRY_AFTER, pause);
    }
    response.header(header::CONTENT_TYPE, page::MEDIA_TYPE).body(Body::from(Bytes::from(body))).expect("a fixed answer")
}

fn asked(uri: &Uri, headers: &HeaderMap) -> Asked {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let pairs = uri.query().unwrap_or_default().split('&').filter_map(|pair| pair.split_once('='));
    Asked {
        query: pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
        target: uri.path_and_query().map_or_else(String::new, ToString::to_string),
        authorization: text("authorization"),
        report: text("taskfence-follower").and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default(),
    }
}

/// Signs pages as a hub does.
#[derive(Clone)]
pub struct Pages {
    signer: Signer,
    /// What every statement says unless a test changes it.
    pub statement: Statement,
}

impl Pages {
    /// With a new key, for a feed that covers `issuers` and holds nothing yet.
    pub fn new(issuers: Vec<IssuerStatus>) -> Self {
        let statement = Statement {
            hub: HUB.to_owned(),
            feed: FEED.to_owned(),
            at: now_ms(),
            prev: 0,
            prev_chain: Chain::default(),
            upto: Revision { epoch: 1, number: 0, chain: Chain::default() },
            head: 0,
            format: 1,
            count: 0,
            length: 0,
            digest: digest::sha256(b""),
            part: None,
            nonce: None,
            issuers,
        };
        Self { signer: Signer::new(Alg::Es256), statement }
    }

    /// The keys for the configuration of a filter.
    pub fn jwks(&self) -> Value {
        json!({"keys": [self.signer.public()]})
    }

    /// A page with `entries`, after a last change to its statement; dated now unless that says otherwise.
    pub fn page(&self, entries: &[FeedEntry], change: impl FnOnce(&mut Statement)) -> Vec<u8> {
        let encoded = entries.iter().map(|entry| {
            let mut bytes = Vec::new();
            entry.encode(&mut bytes);
            bytes
        });
        self.page_of_bytes(&encoded.collect::<Vec<_>>(), change)
    }

    /// The same with entries that are bytes already, such as those of a later version.
    pub fn page_of_bytes(&self, entries: &[Vec<u8>], change: impl FnOnce(&mut Statement)) -> Vec<u8> {
        let bytes = entries.concat();
        let mut statement = self.statement.clone();
        statement.at = now_ms();
        statement.count = entries.len() as u64;
        statement.length = bytes.len() as u64;
        statement.digest = digest::sha256(&bytes);
        change(&mut statement);
        if statement.prev > 0 && statement.prev_chain == Chain::default() {
            // A feed that is made up has the same chain everywhere.
            statement.prev_chain = statement.upto.chain;
        }
        let header = json!({"alg": "ES256", "typ": statement::TYPE, "kid": self.signer.kid});
        let jws = self.signer.sign_text(header.to_string().as_bytes(), statement.claims().to_string().as_bytes());
        [jws.as_bytes(), b"\n", &bytes].concat()
    }

    /// The whole of a full state in one part.
    pub fn whole_state(&self, entries: &[FeedEntry], upto: Revision, nonce: Option<String>) -> Vec<u8> {
        self.page(entries, |statement| {
            (statement.upto, statement.head, statement.nonce) = (upto, upto.number, nonce);
            statement.part = Some(Part { part: 0, parts: 1 });
        })
    }

    /// A heartbeat at `upto`.
    pub fn heartbeat(&self, upto: Revision, nonce: Option<String>) -> Vec<u8> {
        self.page(&[], |statement| {
            statement.prev = upto.number;
            (statement.upto, statement.head, statement.nonce) = (upto, upto.number, nonce);
        })
    }
}

/// Milliseconds since 1970.
pub fn now_ms() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

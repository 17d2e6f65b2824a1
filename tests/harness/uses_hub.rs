//! A server between a proxy and its hub that takes the counted uses itself, and hands on everything else.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::State,
    http::{HeaderMap, Method, Response, Uri},
};
use serde_json::{Value, json};
use taskfence_core::uses::{
    batch::{Batch, Gap, Permitted, Post, Refused},
    outline::Outline,
};
use tokio::{net::TcpListener, time};

use crate::{
    Error, Result,
    hub::{CLUSTER, Hub},
    jwks,
    stand_in::{Asked, forward},
};

/// After so many seconds each worker sends again.
const PERIOD: u64 = 1;

/// What came, and what is answered.
#[derive(Default)]
pub struct Taken {
    /// Each batch once, by VM and number.
    pub batches: BTreeMap<(String, u64), Batch>,
    /// How many posts came, also those that were not taken.
    pub posts: usize,
    /// Workers that were replaced.
    pub gaps: Vec<Gap>,
    /// Rules, as they were asked for.
    pub outlines: Vec<Outline>,
    /// `authorization` of the last post.
    pub authorization: Option<String>,
    /// Nothing is taken, with this status; 0: everything is.
    pub refuse_with: u16,
    /// Batches are taken, but the answer is this status; 0: it says so.
    pub lose_answers: u16,
}

/// A running server; it stops with the runtime of the test.
pub struct UsesHub {
    address: SocketAddr,
    taken: Arc<Mutex<Taken>>,
}

#[derive(Clone)]
struct Shared {
    hub: SocketAddr,
    taken: Arc<Mutex<Taken>>,
}

impl UsesHub {
    /// Stands before `hub`.
    pub async fn before(hub: &Hub) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.map_err(Error::doing("listen as a hub"))?;
        let address = listener.local_addr().map_err(Error::doing("listen as a hub"))?;
        let taken = Arc::<Mutex<Taken>>::default();
        let shared = Shared { hub: hub.address(), taken: taken.clone() };
        let routes = Router::new().fallback(answer).with_state(shared);
        tokio::spawn(async move { axum::serve(listener, routes).await });
        Ok(Self { address, taken })
    }

    /// The cluster that leads to it.
    pub fn cluster(&self) -> Value {
        jwks::cluster(CLUSTER, self.address)
    }

    /// What came, and what is answered from now on.
    pub fn taken(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until `done` holds. Fails with what came after a minute.
    pub async fn wait(&self, done: impl Fn(&Taken) -> bool) -> Result<()> {
        let deadline = Instant::now() + Duration::from_secs(60);
        while !done(&self.taken()) {
            if Instant::now() > deadline {
                let taken = self.taken();
                let batches: Vec<_> = taken.batches.values().collect();
                return Err(Error::new(format!("{} posts: {batches:#?}\n{:?}", taken.posts, taken.gaps)));
            }
            time::sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    }
}

impl Taken {
    /// Permitted requests, by rule, method and captures, with the name of the token.
    pub fn permitted(&self) -> impl Iterator<Item = (String, String, Permitted)> {
        self.batches.values().flat_map(|batch| {
            batch.grants.iter().flat_map(|grant| {
                let rule = |one: &Permitted| batch.rules[one.rule as usize].name.clone();
                grant.permitted.iter().map(move |one| (grant.grant.token.clone(), rule(one), one.clone()))
            })
        })
    }

    /// Refused requests and ended streams, with the name of the token and that of the rule.
    pub fn refused(&self) -> impl Iterator<Item = (String, Option<String>, Refused)> {
        self.batches.values().flat_map(|batch| {
            batch.grants.iter().flat_map(|grant| {
                let rule = |one: &Refused| one.rule.map(|rule| batch.rules[rule as usize].name.clone());
                grant.refused.iter().map(move |one| (grant.grant.token.clone(), rule(one), one.clone()))
            })
        })
    }

    /// How many requests were permitted, those included that are only in a number.
    pub fn sum(&self) -> u64 {
        let other = self
            .batches
            .values()
            .map(|batch| batch.other_permitted + batch.grants.iter().map(|grant| grant.other).sum::<u64>());
        other.sum::<u64>() + self.permitted().map(|(_, _, one)| one.count).sum::<u64>()
    }
}

async fn answer(
    State(shared): State<Shared>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response<Body> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    if method == Method::POST && uri.path().ends_with("/uses") {
        let mut taken = shared.taken.lock().unwrap_or_else(PoisonError::into_inner);
        taken.authorization = text("authorization");
        return take(&mut taken, &body);
    }
    let asked = Asked {
        query: BTreeMap::new(),
        target: uri.path_and_query().map_or_else(String::new, ToString::to_string),
        authorization: text("authorization"),
        report: text("taskfence-follower").and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default(),
    };
    let (status, body) = forward(shared.hub, &asked).await.unwrap_or((503, Vec::new()));
    Response::builder().status(status).body(Body::from(body)).expect("a fixed answer")
}

fn take(taken: &mut Taken, body: &[u8]) -> Response<Body> {
    taken.posts += 1;
    let status = |status: u16| Response::builder().status(status).body(Body::empty()).expect("a fixed answer");
    if taken.refuse_with != 0 {
        return status(taken.refuse_with);
    }
    let post: Post = serde_json::from_slice(body).expect("a post");
    let known = |taken: &Taken, config: &str| taken.outlines.iter().any(|outline| outline.config == config);
    let id = |batch: &Batch| json!({"vm": batch.vm, "number": batch.number});
    let ids: Vec<Value> = post.batches.iter().map(id).collect();
    taken.outlines.extend(post.configs);
    taken.gaps.extend(post.gaps);
    let mut wanted: Vec<String> = Vec::new();
    for batch in post.batches {
        let configs = batch.rules.iter().map(|rule| rule.config.clone());
        wanted.extend(configs.filter(|config| !known(taken, config)));
        taken.batches.insert((batch.vm.clone(), batch.number), batch);
    }
    wanted.dedup();
    if taken.lose_answers != 0 {
        return status(taken.lose_answers);
    }
    let answer = json!({"period": PERIOD, "taken": ids, "configs_wanted": wanted});
    Response::builder().header("content-type", "application/json").body(Body::from(answer.to_string())).expect("JSON")
}

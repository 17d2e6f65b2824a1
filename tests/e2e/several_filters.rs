//! Several of our filters in one proxy: in one chain, on many listeners, and under configurations that were replaced.
//! One revocation ends each HTTP stream once, no VM dies, and Envoy lives.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use futures_util::{StreamExt, future::join_all};
use serde_json::{Value, json};
use taskfence_tests::{
    bootstrap::{self, Settings},
    capabilities,
    client::{self, Http, Request},
    discovered::Discovered,
    grpc,
    jwks::{self, Jwks},
    mint::{self, Jwt, unique},
    orders,
    refusal::{assert_allowed, assert_refused, assert_signal_accepted},
    services,
    sidecar::Sidecar,
    socket,
    streaming::{Connection, Streamed},
};
use tokio::time;

/// Long enough for a busy machine.
const SOON: Duration = Duration::from_secs(10);

fn config() -> Value {
    orders::config_of(json!([
        {"name": "grpc", "match": {"grpc": {"service": "live.Live"}}, "require": {"scope": orders::SCOPE}},
        {"name": "live", "match": {"path": "/v1/live/{rest...}"}, "require": {"scope": orders::SCOPE}},
        {"name": "orders", "match": {"path": "/v1/orders/{order}"}, "require": {"scope": orders::SCOPE}},
    ]))
}

/// What the second filter of a chain has: the same, but for a path that it keeps to itself.
fn stricter() -> Value {
    let mut config = config();
    let rules = config["rules"].as_array_mut().unwrap();
    rules.insert(0, json!({"name": "kept", "match": {"path": "/v1/orders/kept"}, "deny": true}));
    config
}

/// The names of the listeners of [`chains`].
const CHAINS: [&str; 3] = ["app", "identical", "four"];

/// One Envoy with three chains in one VM: two filters with plugins of their own, two with the same configuration, which
/// have one root context between them, and four.
fn chains(name: &str) -> Settings {
    Settings::new(name, config())
        .behind("app", stricter())
        .also("identical", config())
        .behind("identical", config())
        .also("four", config())
        .behind("four", stricter())
        .behind("four", config())
        .behind("four", stricter())
}

fn address(sidecar: &Sidecar, chain: &str) -> SocketAddr {
    if chain == "app" { sidecar.app() } else { sidecar.listener(chain) }
}

async fn counted(sidecar: &Sidecar, prefix: &str) -> u64 {
    let stats = sidecar.envoy().stats().await.unwrap();
    stats.names(&format!("wasmcustom.taskfence.{prefix}")).map(|name| stats.value(name).unwrap()).sum()
}

async fn begin(connection: &mut Connection, token: &Jwt) -> Streamed {
    let request = Request::get(&format!("{}?every=500", services::EVENTS)).bearer(&token.sign());
    let mut stream = connection.start(&request).await.unwrap();
    assert_eq!(stream.status, 200);
    stream.read(1).await.unwrap();
    stream
}

/// Every kind of stream that all filters of a chain have admitted ends once. Streams without a signal go on.
#[tokio::test]
async fn the_filters_of_one_chain_end_a_stream_once() {
    let sidecar = Sidecar::start(chains("chain")).await.unwrap();
    let created = sidecar.machines_created().await.unwrap();
    for chain in CHAINS {
        let to = address(&sidecar, chain);
        let (task, other) = (unique("task"), unique("task"));
        let token = mint::token().task(&task);
        let mut one = Connection::open(to, Http::One).await.unwrap();
        let mut two = Connection::open(to, Http::Two).await.unwrap();
        let mut strangers = begin(&mut two, &mint::token().task(&other)).await;
        let streams = [begin(&mut one, &token).await, begin(&mut two, &token).await, begin(&mut two, &token).await];
        let mut socket = socket::open(to, services::SOCKET, &token.sign()).await.unwrap();
        let mut client = grpc::Client::open(to, &token.sign()).await.unwrap();
        let mut call = client.watch().await.unwrap();
        call.message().await.unwrap().unwrap();
        let before = counted(&sidecar, "ended.").await;
        assert_signal_accepted(&sidecar.push(&mint::complete_task(&task)).await.unwrap());
        for end in join_all(streams.map(|stream| stream.end(SOON))).await {
            assert!(end.unwrap().broken.is_some(), "it was broken off");
        }
        time::timeout(SOON, async { while let Some(Ok(_)) = socket.next().await {} }).await.unwrap();
        time::timeout(SOON, async { while let Ok(Some(_)) = call.message().await {} }).await.unwrap();
        strangers.read(1).await.unwrap();
        assert_eq!(counted(&sidecar, "ended.").await - before, 5, "endings of 5 streams through `{chain}`");
        sidecar.check_no_crash_since(created).await.unwrap();
    }
}

/// The first filter follows what waits for keys at the second, and ends it there. Then the keys come, and the second
/// does not touch it again.
#[tokio::test]
async fn what_waits_at_a_later_filter_ends_once() {
    let server = Jwks::start(mint::ISSUER.jwks()).unwrap();
    server.delay(Duration::from_secs(3));
    let mut waits = stricter();
    waits["issuers"][0]["keys"] = json!({"cluster": "jit", "path": "/jwks.json", "wait": "10s"});
    let settings = Settings::new("chain-waits", config()).behind("app", waits);
    let settings = settings.patch(jwks::with_clusters(vec![jwks::cluster("jit", server.address())]));
    let sidecar = Sidecar::start(settings).await.unwrap();
    let created = sidecar.machines_created().await.unwrap();
    let (ended, goes_on) = (unique("task"), unique("task"));
    let [ended_too, go_on_too] = [&ended, &goes_on].map(|task| {
        let token = mint::token().task(task).sign();
        Http::BOTH.map(|http| {
            let (to, request) = (sidecar.app(), Request::get(services::EVENTS).bearer(&token));
            tokio::spawn(async move {
                let mut connection = Connection::open(to, http).await.unwrap();
                let stream = connection.start(&request).await.unwrap();
                (connection, stream)
            })
        })
    });
    time::sleep(Duration::from_millis(500)).await;
    assert_eq!(counted(&sidecar, "requests_waited").await, 4);
    let pushed = Instant::now();
    assert_signal_accepted(&sidecar.push(&mint::complete_task(&ended)).await.unwrap());
    for stream in ended_too {
        let (_connection, stream) = stream.await.unwrap();
        assert_eq!(stream.status, 401);
        assert_eq!(stream.whole().await.unwrap().json()["reason"], "task_completed");
    }
    assert!(pushed.elapsed() < Duration::from_secs(1), "{:?}", pushed.elapsed());
    for stream in go_on_too {
        let (_connection, mut stream) = stream.await.unwrap();
        assert_eq!(stream.status, 200);
        stream.read(100).await.unwrap();
    }
    assert_eq!(counted(&sidecar, "ended.").await, 2);
    sidecar.check_no_crash_since(created).await.unwrap();
}

/// One filter has admitted a request and follows it; the other refuses it. It was answered, and is not answered again.
#[tokio::test]
async fn what_the_second_filter_refuses_is_answered_once() {
    let sidecar = Sidecar::start(chains("chain-refused")).await.unwrap();
    let created = sidecar.machines_created().await.unwrap();
    for http in [Http::One, Http::Two] {
        for _ in 0..50 {
            let task = unique("task");
            let token = mint::token().task(&task);
            let request = Request::get("/v1/orders/kept").bearer(&token.sign());
            let (answer, pushed) = tokio::join!(sidecar.send(http, &request), async {
                let signal = mint::complete_task(&task);
                sidecar.push(&signal).await
            });
            assert_signal_accepted(&pushed.unwrap());
            assert!([401, 403].contains(&answer.unwrap().status));
        }
        let kept = Request::get("/v1/orders/kept").bearer(&mint::token().sign());
        assert_refused(&sidecar, &sidecar.send(http, &kept).await.unwrap(), "rule_denied");
        let free = Request::get("/v1/orders/1881").bearer(&mint::token().sign());
        assert_allowed(&sidecar, &sidecar.send(http, &free).await.unwrap());
    }
    sidecar.check_no_crash_since(created).await.unwrap();
}

/// 2,000 streams over eight plugins of one VM, one of them under a configuration that was replaced.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_thousand_streams_of_eight_plugins_end() {
    const EACH: usize = 250;
    let file = Discovered::new("crowd-extension").unwrap();
    let discovered = file.clone();
    let mut settings = Settings::new("crowd", config()).workers(1);
    let others: Vec<String> = (0..6).map(|number| format!("other-{number}")).collect();
    for name in &others {
        let mut config = config();
        // Plugins with the same configuration are one.
        config["realm"] = json!(name);
        settings = settings.also(name, config);
    }
    let settings = settings.patch(move |bootstrap| {
        // Envoy's own limit is 1,024 requests at once.
        let limits = json!({"thresholds": [{"max_connections": 10_000, "max_requests": 10_000, "max_pending_requests": 10_000}]});
        bootstrap["static_resources"]["clusters"][0]["circuit_breakers"] = limits;
        discovered.discover(bootstrap);
    });
    let sidecar = Sidecar::start(settings).await.unwrap();
    let session = unique("sess");
    let token = mint::token().session(&session);
    // A stream whose response has not begun gets an answer, and Envoy nests these answers, which fills the stack.
    let request = Request::get(services::SILENCE).bearer(&token.sign());
    let mut waiting = Vec::new();
    let mut strangers = Vec::new();
    let listeners = std::iter::once(sidecar.app())
        .chain(others.iter().map(|name| sidecar.listener(name)))
        .chain(std::iter::once(sidecar.app()));
    for (number, listener) in listeners.enumerate() {
        if number == others.len() + 1 {
            file.replace(&sidecar, r#""name":"live""#, r#""name":"renamed""#).await.unwrap();
        }
        let mut connection = Connection::open(listener, Http::Two).await.unwrap();
        let stranger = begin(&mut connection, &mint::token().session(&unique("sess"))).await;
        strangers.push((connection, stranger));
        for _ in 0..EACH {
            let request = request.clone();
            waiting.push(tokio::spawn(async move { client::send(listener, Http::One, &request).await.unwrap() }));
        }
        until_admitted(&sidecar, (number as u64 + 1) * (EACH as u64 + 1)).await;
    }
    let created = sidecar.machines_created().await.unwrap();
    assert_signal_accepted(&sidecar.push(&mint::revoke_session(&session)).await.unwrap());
    assert_eq!(waiting.len(), 8 * EACH);
    for answer in join_all(waiting).await {
        let answer = answer.unwrap();
        assert_eq!((answer.status, answer.json()["reason"].as_str()), (401, Some("session_revoked")));
    }
    for (_, stranger) in &mut strangers {
        stranger.read(1).await.unwrap();
    }
    sidecar.check_no_crash_since(created).await.unwrap();
}

async fn until_admitted(sidecar: &Sidecar, count: u64) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while sidecar.envoy().stats().await.unwrap().value("wasmcustom.taskfence.allowed").unwrap() < count {
        assert!(Instant::now() < deadline, "not all requests came through");
        time::sleep(Duration::from_millis(50)).await;
    }
}

/// Without properties the filters of a chain could not tell each other which of them answers a stream.
#[tokio::test]
async fn a_filter_that_may_not_use_properties_is_refused() {
    for taken in ["proxy_set_property", "proxy_get_property"] {
        let settings = Settings::new("chain-restricted", config()).patch(move |bootstrap| {
            let pointer = format!("{}/http_filters/0/typed_config/config", bootstrap::APP);
            let plugin = bootstrap.pointer_mut(&pointer).unwrap();
            plugin["capability_restriction_config"] = capabilities::all_but(&[taken]).unwrap();
        });
        let error = Sidecar::start(settings).await.err().unwrap_or_else(|| panic!("Envoy started without {taken}"));
        assert!(error.to_string().contains("allow proxy_set_property and proxy_get_property"), "{error}");
    }
}

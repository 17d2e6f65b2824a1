//! A stream that a change forbids is ended within one wake-up of its worker: real clients, whatever they speak.

use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt, future::join_all, stream};
use serde_json::{Value, json};
use taskfence_tests::{
    bootstrap::{self, Settings},
    client::{self, Http, Request},
    discovered::Discovered,
    grpc,
    mint::{self, Jwt, device_is, now, unique},
    orders,
    refusal::{assert_allowed, assert_refused, assert_signal_accepted},
    services,
    sidecar::Sidecar,
    socket::{self, Socket},
    streaming::{Connection, End, Streamed},
};
use tokio::{sync::OnceCell, time};
use tokio_tungstenite::tungstenite;
use tonic::Code;

/// Long for a wake-up even on a busy machine, and shorter than the tick that would come instead.
const WOKEN: Duration = Duration::from_millis(600);
/// A tick and what a busy machine adds.
const TICKED: Duration = Duration::from_millis(1_600);
/// How long Envoy leaves a connection of HTTP/1 open that it will write nothing to any more (delayed_close_timeout).
const CLOSE: Duration = Duration::from_secs(1);

fn rules() -> Value {
    json!([
        {"name": "grpc", "match": {"grpc": {"service": "live.Live"}}, "require": {"scope": orders::SCOPE}},
        {"name": "device", "match": {"path": "/v1/live/{rest...}", "hosts": ["managed.mesh"]},
         "require": {"scope": orders::SCOPE, "device": {"status": "compliant", "unknown": "allow"}}},
        {"name": "anonymous", "match": {"path": "/v1/live/{rest...}", "hosts": ["open.mesh"]}, "allow": "anonymous"},
        {"name": "fresh", "match": {"path": "/v1/live/{rest...}", "hosts": ["fresh.mesh"]},
         "require": {"scope": orders::SCOPE, "state_age": "2s"}},
        {"name": "conditional", "match": {"path": "/v1/live/{rest...}", "hosts": ["conditional.mesh"]},
         "require": {"when": format!("claims.scope.contains('{}')", orders::SCOPE)}},
        {"name": "live", "match": {"path": "/v1/live/{rest...}"}, "require": {"scope": orders::SCOPE}},
    ])
}

fn settings(name: &str) -> Settings {
    let config = orders::config_of(rules());
    let log = "%REQ(:PATH)% %RESPONSE_CODE% %RESPONSE_CODE_DETAILS% %FILTER_STATE(wasm.taskfence.reason:PLAIN)% \
               %FILTER_STATE(wasm.taskfence.decision:PLAIN)%";
    let mut shadow = config.clone();
    shadow["mode"] = json!("shadow");
    Settings::new(name, config).also("shadow", shadow).access_log(log)
}

/// One sidecar for all tests that do nothing to it.
async fn sidecar() -> &'static Sidecar {
    static SIDECAR: OnceCell<Sidecar> = OnceCell::const_new();
    SIDECAR.get_or_init(|| async { Sidecar::start(settings("live")).await.unwrap() }).await
}

/// A request that the access log knows again by `tag`.
fn tagged(path: &str, tag: &str, token: &Jwt) -> Request {
    Request::get(&format!("{path}?{tag}")).bearer(&token.sign())
}

/// An answer that has begun to come.
async fn begin(connection: &mut Connection, request: &Request) -> Streamed {
    let mut stream = connection.start(request).await.unwrap();
    assert_eq!(stream.status, 200, "{}", request.line());
    stream.read(1).await.unwrap();
    stream
}

/// Pushes, and says when the 202 was there.
async fn push(sidecar: &Sidecar, signal: &Jwt) -> Instant {
    assert_signal_accepted(&sidecar.push(signal).await.unwrap());
    Instant::now()
}

#[track_caller]
fn assert_within(limit: Duration, from: Instant, to: Instant, what: &str) {
    let took = to.saturating_duration_since(from);
    assert!(took <= limit, "{what} came {took:?} after the signal, later than {limit:?}");
}

/// Broken off: over HTTP/2 this stream alone, over HTTP/1 with the connection, and never as if it were whole.
#[track_caller]
fn assert_broken_off(http: Http, end: &End, pushed: Instant) {
    let broken = end.broken.as_deref().unwrap_or_else(|| panic!("over {http:?} it looks whole: {end:?}"));
    assert_within(WOKEN, pushed, end.last_byte, "the last byte");
    match http {
        Http::One => assert_within(WOKEN + CLOSE, pushed, end.ended, "the end of the connection"),
        Http::Two => {
            assert!(broken.contains("stream error received"), "not a reset stream: {broken}");
            assert_within(WOKEN, pushed, end.ended, "the reset");
        }
    }
}

/// The line of the access log about `tag` and the line of the record have the same reason and decision.
async fn assert_recorded(sidecar: &Sidecar, tag: &str, reason: &str) {
    let deadline = Instant::now() + Duration::from_secs(5);
    loop {
        let log = sidecar.access_log(0).await.unwrap();
        let lines: Vec<_> = log.lines().filter(|line| line.contains(tag)).collect();
        if let [line] = lines[..] {
            let words: Vec<_> = line.split(' ').collect();
            assert_eq!(words[3], reason, "reason in the access log: {line}");
            let log = sidecar.envoy().log();
            let record = log.lines().find(|line| line.contains(words[4]) && line.contains("\"verdict\":\"ended\""));
            let record = record.unwrap_or_else(|| panic!("no record of decision {} in\n{log}", words[4]));
            assert!(record.contains(&format!("\"reason\":\"{reason}\"")), "{record}");
            return;
        }
        assert!(lines.len() < 2, "more than one line about {tag}: {lines:?}");
        assert!(Instant::now() < deadline, "no line about {tag} in\n{log}");
        time::sleep(Duration::from_millis(20)).await;
    }
}

/// Server-sent events and a download, over HTTP/1 and HTTP/2: what is touched ends; the other streams, on the same
/// connection where there is one, and other grants go on.
#[tokio::test]
async fn what_is_coming_down_ends() {
    let sidecar = sidecar().await;
    for (http, path) in [
        (Http::One, services::EVENTS),
        (Http::Two, services::EVENTS),
        (Http::One, services::DOWNLOAD),
        (Http::Two, services::DOWNLOAD),
    ] {
        let (task, other) = (unique("task"), unique("task"));
        let mut connection = Connection::open(sidecar.app(), http).await.unwrap();
        let stream = begin(&mut connection, &tagged(path, &task, &mint::token().task(&task))).await;
        let mut same_connection = connection;
        if http == Http::One {
            same_connection = Connection::open(sidecar.app(), http).await.unwrap();
        }
        let mut other = begin(&mut same_connection, &tagged(path, &other, &mint::token().task(&other))).await;
        let ended = tokio::spawn(stream.end(Duration::from_secs(5)));

        let pushed = push(sidecar, &mint::complete_task(&task)).await;

        assert_broken_off(http, &ended.await.unwrap().unwrap(), pushed);
        other.read(100).await.unwrap();
        assert!(same_connection.is_open());
        assert_recorded(sidecar, &task, "task_completed").await;
    }
}

/// A condition over a claim is decided again over what a signal left of the claim.
#[tokio::test]
async fn a_narrowing_ends_what_a_condition_let_through() {
    let sidecar = sidecar().await;
    for http in Http::BOTH {
        let task = unique("task");
        let mut connection = Connection::open(sidecar.app(), http).await.unwrap();
        let request = tagged(services::EVENTS, &task, &mint::token().task(&task)).host("conditional.mesh");
        let stream = begin(&mut connection, &request).await;
        let ended = tokio::spawn(stream.end(Duration::from_secs(5)));
        let subject = json!({"format": "complex", "task": {"format": "opaque", "id": task}});
        let narrowed = mint::signal("urn:taskfence:secevent:grant-narrowed", subject).event("scope", "other");
        let pushed = push(sidecar, &narrowed).await;
        assert_broken_off(http, &ended.await.unwrap().unwrap(), pushed);
        assert_recorded(sidecar, &task, "condition_failed").await;
    }
}

/// A client that does not read gains nothing: its stream ends as soon, and what it reads later is incomplete.
#[tokio::test]
async fn what_is_not_read_ends() {
    let sidecar = sidecar().await;
    for http in Http::BOTH {
        let task = unique("task");
        let mut connection = Connection::open(sidecar.app(), http).await.unwrap();
        let request = tagged(services::DOWNLOAD, &task, &mint::token().task(&task));
        let stream = begin(&mut connection, &request).await;
        time::sleep(Duration::from_millis(500)).await;
        let pushed = push(sidecar, &mint::complete_task(&task)).await;
        assert_recorded(sidecar, &task, "task_completed").await;
        assert_within(WOKEN, pushed, Instant::now(), "the line of the access log");
        assert!(stream.end(Duration::from_secs(5)).await.unwrap().broken.is_some());
    }
}

/// If the response has not begun, the client gets a complete answer: 401 or 403, as a new request would.
#[tokio::test]
async fn before_the_answer_there_is_a_real_one() {
    let sidecar = sidecar().await;
    for http in Http::BOTH {
        let task = unique("task");
        let token = mint::token().task(&task);
        let mut connection = Connection::open(sidecar.app(), http).await.unwrap();
        let request = tagged(services::SILENCE, &task, &token);
        let waiting = tokio::spawn(async move { connection.start(&request).await.unwrap().whole().await.unwrap() });
        time::sleep(Duration::from_millis(100)).await;
        let pushed = push(sidecar, &mint::complete_task(&task)).await;
        let answer = waiting.await.unwrap();
        assert_within(WOKEN, pushed, Instant::now(), "the answer");
        assert_refused(sidecar, &answer, "task_completed");
        assert_recorded(sidecar, &task, "task_completed").await;

        let device = unique("device");
        let token = mint::token().claim("device_id", device.as_str());
        let mut connection = Connection::open(sidecar.app(), http).await.unwrap();
        let request = tagged(services::SILENCE, &device, &token).host("managed.mesh");
        let waiting = tokio::spawn(async move { connection.start(&request).await.unwrap().whole().await.unwrap() });
        time::sleep(Duration::from_millis(100)).await;
        push(sidecar, &device_is(&device, "not-compliant")).await;
        assert_refused(sidecar, &waiting.await.unwrap(), "device_not_compliant");
    }
}

/// More than the stack of a machine takes when the proxy answers them one inside the other.
#[tokio::test]
async fn a_crowd_that_waits_for_answers_gets_real_ones() {
    let sidecar = Sidecar::start(settings("live-crowd").workers(1)).await.unwrap();
    let created = sidecar.machines_created().await.unwrap();
    let task = unique("task");
    let request = tagged(services::SILENCE, &task, &mint::token().task(&task));
    let waiting: Vec<_> = (0..600)
        .map(|_| {
            let (to, request) = (sidecar.app(), request.clone());
            tokio::spawn(async move { client::send(to, Http::One, &request).await.unwrap() })
        })
        .collect();
    let deadline = Instant::now() + Duration::from_secs(20);
    while sidecar.envoy().stats().await.unwrap().value("wasmcustom.taskfence.allowed").unwrap() < 600 {
        assert!(Instant::now() < deadline, "not all requests came through");
        time::sleep(Duration::from_millis(50)).await;
    }
    push(&sidecar, &mint::complete_task(&task)).await;
    for answer in join_all(waiting).await {
        assert_refused(&sidecar, &answer.unwrap(), "task_completed");
    }
    sidecar.check_no_crash_since(created).await.unwrap();
}

/// An upload that takes its time gets the 401 while it goes on.
#[tokio::test]
async fn what_is_going_up_ends() {
    let sidecar = sidecar().await;
    for http in Http::BOTH {
        let task = unique("task");
        let mut connection = Connection::open(sidecar.app(), http).await.unwrap();
        let request = Request::new("POST", &format!("{}?{task}", services::UPLOAD));
        let request = request.bearer(&mint::token().task(&task).sign());
        let (mut upload, answer) = connection.upload(&request).await.unwrap();
        let writing = tokio::spawn(async move {
            while upload.send_data(Bytes::from_static(&[b'x'; 1024])).await.is_ok() {
                time::sleep(Duration::from_millis(10)).await;
            }
        });
        let answer = tokio::spawn(async move { answer.await.unwrap().whole().await.unwrap() });
        time::sleep(Duration::from_millis(100)).await;
        let pushed = push(sidecar, &mint::complete_task(&task)).await;
        let answer = answer.await.unwrap();
        assert_within(WOKEN, pushed, Instant::now(), "the answer");
        assert_refused(sidecar, &answer, "task_completed");
        assert_recorded(sidecar, &task, "task_completed").await;
        writing.abort();
    }
}

/// gRPC by tonic: a server stream and a conversation are reset, a client stream, which has no answer yet, gets its
/// status; another grant on the same connection goes on.
#[tokio::test]
async fn grpc_streams_end() {
    let sidecar = sidecar().await;
    let (task, other) = (unique("task"), unique("task"));
    let token = mint::token().task(&task).sign();
    let mut client = grpc::Client::open(sidecar.app(), &token).await.unwrap();
    let messages = || {
        stream::unfold((), |()| async {
            time::sleep(Duration::from_millis(10)).await;
            Some((Bytes::from_static(b"hello"), ()))
        })
    };
    let mut watched = client.watch().await.unwrap();
    watched.message().await.unwrap().unwrap();
    let mut talk = client.talk(messages()).await.unwrap();
    talk.message().await.unwrap().unwrap();
    let mut others = client.with(&mint::token().task(&other).sign());
    let mut other = others.watch().await.unwrap();
    other.message().await.unwrap().unwrap();
    let ends = tokio::spawn(async move {
        let last = |mut messages: tonic::Streaming<Bytes>| async move {
            loop {
                match messages.message().await {
                    Ok(Some(_)) => {}
                    Ok(None) => panic!("it looks whole"),
                    Err(status) => return (status, Instant::now()),
                }
            }
        };
        let collect = async { (client.collect(messages()).await.unwrap_err(), Instant::now()) };
        tokio::join!(last(watched), last(talk), collect)
    });
    time::sleep(Duration::from_millis(100)).await;

    let pushed = push(sidecar, &mint::complete_task(&task)).await;

    let (watched, talk, collected) = ends.await.unwrap();
    for (status, at) in [&watched, &talk] {
        // tonic does not read INTERNAL_ERROR as the gRPC status that the specification gives it.
        assert!(matches!(status.code(), Code::Unknown | Code::Internal), "not a reset stream: {status:?}");
        assert_within(WOKEN, pushed, *at, "the reset");
    }
    let (status, at) = collected;
    assert_eq!((status.code(), status.message()), (Code::Unauthenticated, "Grant completed"));
    assert_within(WOKEN, pushed, at, "the status");
    for _ in 0..10 {
        other.message().await.unwrap().unwrap();
    }
}

async fn open_socket(sidecar: &Sidecar, tag: &str, token: &Jwt) -> Socket {
    let path = format!("{}?{tag}", services::SOCKET);
    let mut socket = socket::open(sidecar.app(), &path, &token.sign()).await.unwrap();
    socket.send("hello".into()).await.unwrap();
    loop {
        if socket.next().await.unwrap().unwrap() == "hello".into() {
            return socket;
        }
    }
}

#[tokio::test]
async fn websockets_end() {
    let sidecar = sidecar().await;
    let (task, other) = (unique("task"), unique("task"));
    let mut socket = open_socket(sidecar, &task, &mint::token().task(&task)).await;
    let mut other = open_socket(sidecar, &other, &mint::token().task(&other)).await;
    let ended = tokio::spawn(async move {
        let mut last = Instant::now();
        loop {
            match socket.next().await {
                Some(Ok(tungstenite::Message::Close(_))) => panic!("Envoy speaks no WebSocket"),
                Some(Ok(_)) => last = Instant::now(),
                Some(Err(_)) | None => return (last, Instant::now()),
            }
        }
    });
    let pushed = push(sidecar, &mint::complete_task(&task)).await;
    let (last, ended) = ended.await.unwrap();
    assert_within(WOKEN, pushed, last, "the last message");
    assert_within(WOKEN + CLOSE, pushed, ended, "the end of the connection");
    for _ in 0..10 {
        other.next().await.unwrap().unwrap();
    }
    assert_recorded(sidecar, &task, "task_completed").await;
}

/// Without any signal: the token expires.
#[tokio::test]
async fn a_stream_ends_with_its_token() {
    let sidecar = sidecar().await;
    for http in Http::BOTH {
        let tag = unique("tag");
        // exp lies in the past, by two seconds less than the clock may be wrong.
        let token = mint::token().valid(-300, 300 - 28);
        let exp = Instant::now() + Duration::from_secs(2);
        let mut connection = Connection::open(sidecar.app(), http).await.unwrap();
        let stream = begin(&mut connection, &tagged(services::EVENTS, &tag, &token)).await;
        let end = stream.end(Duration::from_secs(6)).await.unwrap();
        assert!(end.broken.is_some());
        assert!(end.last_byte + Duration::from_millis(1_100) > exp, "it ended before its time");
        assert_within(TICKED, exp, end.last_byte, "the last byte after the expiry");
        assert_recorded(sidecar, &tag, "token_expired").await;
    }
}

/// A rule may limit the age of the state. A stream under it ends when the transmitter falls silent.
#[tokio::test]
async fn a_stream_ends_when_the_state_is_too_old_for_its_rule() {
    let sidecar = Sidecar::start(settings("live-stale")).await.unwrap();
    push(&sidecar, &mint::complete_task(&unique("task"))).await;
    let (tag, other) = (unique("tag"), unique("tag"));
    let mut connection = Connection::open(sidecar.app(), Http::Two).await.unwrap();
    let request = tagged(services::EVENTS, &tag, &mint::token()).host("fresh.mesh");
    let mut stream = begin(&mut connection, &request).await;
    let mut other = begin(&mut connection, &tagged(services::EVENTS, &other, &mint::token())).await;
    for _ in 0..4 {
        time::sleep(Duration::from_secs(1)).await;
        push(&sidecar, &mint::complete_task(&unique("task"))).await;
        stream.read(10).await.unwrap();
    }
    let silent = Instant::now();
    let end = stream.end(Duration::from_secs(6)).await.unwrap();
    assert_within(Duration::from_secs(3) + TICKED, silent, end.ended, "the end");
    assert_recorded(&sidecar, &tag, "state_stale").await;
    other.read(100).await.unwrap();
}

/// The transmitter says that it stops. Who asks for the age of the state, by the rule or by `signals.stale`, ends at
/// once and not at the next tick; who does not goes on.
#[tokio::test]
async fn a_stream_ends_at_once_when_the_stream_of_signals_does() {
    let with_stale = |name: &str| {
        let mut config = orders::config_of(rules());
        config["signals"]["stale"] = json!({"after": "1h"});
        config["rules"].as_array_mut().unwrap().iter_mut().filter(|rule| rule["name"] == name).for_each(|rule| {
            rule["stale"] = json!("allow");
        });
        config
    };
    // `live` may be stale; `fresh` asks by itself, and `device` by `signals.stale`.
    let sidecar = Sidecar::start(Settings::new("live-paused", with_stale("live"))).await.unwrap();
    let say = |status: &str, at: i64| {
        let name = "https://schemas.openid.net/secevent/ssf/event-type/stream-updated";
        let signal = mint::signal(name, json!({"format": "opaque", "id": "s"})).event("status", status);
        signal.event("event_timestamp", at)
    };
    let start = async |connection: &mut Connection, host: &str| {
        begin(connection, &tagged(services::EVENTS, host, &mint::token()).host(host)).await
    };
    push(&sidecar, &say("enabled", now() - 20)).await;
    for (status, ago, hosts) in [
        // Since some time: too old for the rule that asks for two seconds, not for an hour.
        ("paused", 10, &["fresh.mesh"][..]),
        ("disabled", 0, &["fresh.mesh", "managed.mesh"]),
    ] {
        let mut connection = Connection::open(sidecar.app(), Http::Two).await.unwrap();
        let mut other = start(&mut connection, "orders.mesh").await;
        let mut streams = Vec::new();
        for host in hosts {
            streams.push(tokio::spawn(start(&mut connection, host).await.end(Duration::from_secs(5))));
        }
        let pushed = push(&sidecar, &say(status, now() - ago)).await;
        for stream in streams {
            assert_broken_off(Http::Two, &stream.await.unwrap().unwrap(), pushed);
        }
        other.read(100).await.unwrap();
        // Of two statuses for one second the worse counts.
        time::sleep(Duration::from_millis(1_100)).await;
        push(&sidecar, &say("enabled", now())).await;
        time::sleep(Duration::from_millis(1_100)).await;
    }
    let stats = sidecar.envoy().stats().await.unwrap();
    assert_eq!(stats.value("wasmcustom.taskfence.ended.state_stale").unwrap(), 3);
}

/// A stream whose rule does not ask for the device goes on. An anonymous stream belongs to no grant, and goes on too.
#[tokio::test]
async fn only_what_its_rule_forbids_ends() {
    let sidecar = sidecar().await;
    let device = unique("device");
    let token = mint::token().claim("device_id", device.as_str());
    let mut connection = Connection::open(sidecar.app(), Http::Two).await.unwrap();
    let under = |host: &str| tagged(services::EVENTS, &device, &token).host(host);
    let managed = begin(&mut connection, &under("managed.mesh")).await;
    let mut unmanaged = begin(&mut connection, &under("orders.mesh")).await;
    let mut anonymous = begin(&mut connection, &under("open.mesh")).await;
    push(sidecar, &device_is(&device, "compliant")).await;
    let ended = tokio::spawn(managed.end(Duration::from_secs(5)));
    time::sleep(Duration::from_millis(200)).await;
    assert!(!ended.is_finished(), "a good word ended it");
    let pushed = push(sidecar, &device_is(&device, "not-compliant").dated(now() + 1)).await;
    assert_broken_off(Http::Two, &ended.await.unwrap().unwrap(), pushed);
    push(sidecar, &mint::revoke_token(&unique("token"))).await;
    unmanaged.read(100).await.unwrap();
    anonymous.read(100).await.unwrap();
}

/// Shadow mode ends nothing. It says once what it would have ended.
#[tokio::test]
async fn shadow_mode_ends_nothing_and_says_so_once() {
    let sidecar = sidecar().await;
    let token = mint::token().task(&unique("task"));
    let task = token.claims_text();
    let task = serde_json::from_str::<Value>(&task).unwrap()["txn"].as_str().unwrap().to_owned();
    let mut connection = Connection::open(sidecar.listener("shadow"), Http::Two).await.unwrap();
    let mut stream = begin(&mut connection, &tagged(services::EVENTS, &task, &token)).await;
    for _ in 0..3 {
        push(sidecar, &mint::complete_task(&task)).await;
        stream.read(200).await.unwrap();
    }
    let log = sidecar.envoy().log();
    let said: Vec<_> = log.lines().filter(|line| line.contains(&task) && line.contains("would_end")).collect();
    assert_eq!(said.len(), 1, "{said:?}");
    let stats = sidecar.envoy().stats().await.unwrap();
    assert_eq!(stats.value("wasmcustom.taskfence.shadow_ended.task_completed").unwrap(), 1);
}

/// Without wake-ups the next tick finds what has changed.
#[tokio::test]
async fn whoever_is_not_woken_finds_out_at_the_next_tick() {
    let settings = settings("live-unwoken").patch(|bootstrap| {
        let allowed: serde_json::Map<_, _> = CAPABILITIES.iter().map(|name| ((*name).to_owned(), json!({}))).collect();
        let pointer = format!("{}/http_filters/0/typed_config/config", bootstrap::SIGNALS);
        bootstrap.pointer_mut(&pointer).unwrap()["capability_restriction_config"] =
            json!({"allowed_capabilities": allowed});
        let pointer = format!("{}/http_filters/0/typed_config/config", bootstrap::APP);
        bootstrap.pointer_mut(&pointer).unwrap()["capability_restriction_config"] =
            json!({"allowed_capabilities": allowed});
    });
    let sidecar = Sidecar::start(settings).await.unwrap();
    let mut took = Vec::new();
    for _ in 0..5 {
        let task = unique("task");
        let mut connection = Connection::open(sidecar.app(), Http::Two).await.unwrap();
        let stream = begin(&mut connection, &tagged(services::EVENTS, &task, &mint::token().task(&task))).await;
        let ended = tokio::spawn(stream.end(Duration::from_secs(5)));
        // Not always at the same distance from a tick.
        time::sleep(Duration::from_millis(130)).await;
        let pushed = push(&sidecar, &mint::complete_task(&task)).await;
        let end = ended.await.unwrap().unwrap();
        assert_within(TICKED, pushed, end.ended, "the reset");
        took.push(end.ended.saturating_duration_since(pushed));
    }
    assert!(took.iter().any(|took| *took > Duration::from_millis(100)), "they were woken all the same: {took:?}");
}

/// All that the filter uses, but `proxy_enqueue_shared_queue`.
const CAPABILITIES: &[&str] = &[
    "_initialize",
    "environ_get",
    "environ_sizes_get",
    "fd_write",
    "proc_exit",
    "random_get",
    "clock_time_get",
    "proxy_abi_version_0_2_1",
    "proxy_define_metric",
    "proxy_dequeue_shared_queue",
    "proxy_get_buffer_bytes",
    "proxy_get_current_time_nanoseconds",
    "proxy_get_header_map_pairs",
    "proxy_get_property",
    "proxy_get_shared_data",
    "proxy_increment_metric",
    "proxy_log",
    "proxy_on_configure",
    "proxy_on_context_create",
    "proxy_on_delete",
    "proxy_on_done",
    "proxy_on_http_call_response",
    "proxy_on_log",
    "proxy_on_memory_allocate",
    "proxy_on_queue_ready",
    "proxy_on_request_body",
    "proxy_on_request_headers",
    "proxy_on_request_trailers",
    "proxy_on_response_body",
    "proxy_on_response_headers",
    "proxy_on_response_trailers",
    "proxy_on_tick",
    "proxy_on_vm_start",
    "proxy_register_shared_queue",
    "proxy_remove_header_map_value",
    "proxy_replace_header_map_value",
    "proxy_resolve_shared_queue",
    "proxy_send_local_response",
    "proxy_set_effective_context",
    "proxy_set_property",
    "proxy_set_shared_data",
    "proxy_set_tick_period_milliseconds",
];

/// Many streams on four workers, and several signals at once that all forbid them: each ends once, nothing crashes, and
/// every worker serves on.
#[tokio::test]
async fn each_ends_once_on_every_worker_whatever_comes_together() {
    const CONNECTIONS: usize = 16;
    const STREAMS: usize = 10;
    let sidecar = Sidecar::start(settings("live-many").workers(4).balanced()).await.unwrap();
    let machines = sidecar.machines_created().await.unwrap();
    let (task, session, user) = (unique("task"), unique("sess"), unique("user"));
    let token = || mint::token().task(&task).session(&session).user(&user).claim("auth_time", now() - 10);
    let mut connections = Vec::new();
    let mut ends = Vec::new();
    for _ in 0..CONNECTIONS {
        let mut connection = Connection::open(sidecar.app(), Http::Two).await.unwrap();
        for at in 0..STREAMS {
            let path = if at % 2 == 0 { services::EVENTS } else { services::SILENCE };
            let request = tagged(path, "many", &token());
            if at % 2 == 0 {
                let stream = begin(&mut connection, &request).await;
                ends.push(tokio::spawn(
                    async move { stream.end(Duration::from_secs(8)).await.unwrap().broken.is_some() },
                ));
            } else {
                let (upload, answer) = connection.upload(&request).await.unwrap();
                ends.push(tokio::spawn(async move {
                    let answer = answer.await.unwrap().whole().await.unwrap();
                    drop(upload);
                    answer.status == 401
                }));
            }
        }
        connections.push(connection);
    }
    let workers = sidecar.connections_by_worker().await.unwrap();
    assert!(workers.iter().all(|count| *count > 0), "a worker has no connection: {workers:?}");
    // Half-read: streams that their clients give up while they are being ended.
    let given_up = ends.split_off((CONNECTIONS - 1) * STREAMS);
    time::sleep(Duration::from_millis(200)).await;
    let signals = [
        mint::complete_task(&task),
        mint::revoke_session(&session),
        mint::revoke_user(&user),
        mint::complete_task(&task),
        mint::revoke_session(&session),
    ];
    let pushes = join_all(signals.iter().map(|signal| sidecar.push(signal)));
    given_up.iter().for_each(tokio::task::JoinHandle::abort);
    for answer in pushes.await {
        assert_signal_accepted(&answer.unwrap());
    }
    let well = join_all(ends).await.into_iter().filter(|end| matches!(end, Ok(true))).count();
    assert_eq!(well, (CONNECTIONS - 1) * STREAMS, "ended well");

    let stats = sidecar.envoy().stats().await.unwrap();
    let ended: u64 = stats.names("wasmcustom.taskfence.ended.").map(|name| stats.value(name).unwrap()).sum();
    let all = (CONNECTIONS * STREAMS) as u64;
    assert!((all - STREAMS as u64..=all).contains(&ended), "{ended} endings of {all} streams: each is ended once");
    sidecar.check_no_crash_since(machines).await.unwrap();
    let token = mint::token();
    for _ in 0..8 {
        let request = Request::get("/v1/live/nothing").bearer(&token.sign());
        assert_allowed(&sidecar, &client::send(sidecar.app(), Http::One, &request).await.unwrap());
    }
    let gone = Instant::now() + Duration::from_secs(3);
    while sidecar.upstream().streams().count() > 0 {
        assert!(Instant::now() < gone, "the service still serves {}", sidecar.upstream().streams().count());
        time::sleep(Duration::from_millis(20)).await;
    }
}

/// A new configuration leaves running streams under the old one, which ends them as well; and when the old one is gone,
/// with whatever was registered under it, the worker is still woken.
#[tokio::test]
async fn a_new_configuration_loses_no_stream() {
    let file = Discovered::new("live-extension").unwrap();
    let discovered = file.clone();
    let settings = settings("live-update").workers(1).patch(move |bootstrap| {
        discovered.discover(bootstrap);
    });
    let sidecar = Sidecar::start(settings).await.unwrap();
    let mut connection = Connection::open(sidecar.app(), Http::Two).await.unwrap();
    let (old, old_too, new) = (unique("task"), unique("task"), unique("task"));
    let start = async |connection: &mut Connection, task: &str| {
        begin(connection, &tagged(services::EVENTS, task, &mint::token().task(task))).await
    };
    let first = start(&mut connection, &old).await;
    let second = start(&mut connection, &old_too).await;

    file.replace(&sidecar, r#""name":"live""#, r#""name":"renamed""#).await.unwrap();
    let third = start(&mut connection, &new).await;

    for (task, stream, rule) in [(&old, first, "live"), (&new, third, "renamed"), (&old_too, second, "live")] {
        let ended = tokio::spawn(stream.end(Duration::from_secs(5)));
        let pushed = push(&sidecar, &mint::complete_task(task)).await;
        assert_broken_off(Http::Two, &ended.await.unwrap().unwrap(), pushed);
        assert_recorded(&sidecar, task, "task_completed").await;
        let log = sidecar.envoy().log();
        let record = log.lines().find(|line| line.contains(task) && line.contains("\"verdict\":\"ended\"")).unwrap();
        assert!(record.contains(&format!("\"rule\":\"{rule}\"")), "{record}");
    }
    // Nothing is left of the old configuration. If its root context had the queue, another one opens it at the next
    // tick.
    time::sleep(TICKED).await;
    for _ in 0..4 {
        let task = unique("task");
        let stream = start(&mut connection, &task).await;
        let ended = tokio::spawn(stream.end(Duration::from_secs(5)));
        let pushed = push(&sidecar, &mint::complete_task(&task)).await;
        assert_broken_off(Http::Two, &ended.await.unwrap().unwrap(), pushed);
    }
}

/// The figures of the documentation. `cargo test --release -p taskfence-tests --test live -- --ignored --nocapture
/// figures`, on a machine that does nothing else.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn figures() {
    const STREAMS: usize = 1_000;
    const CONNECTIONS: usize = 10;
    let sidecar = Sidecar::start(settings("live-figures").workers(2).balanced()).await.unwrap();
    for http in [Http::Two, Http::One] {
        let mut last_bytes = Vec::new();
        let mut ends = Vec::new();
        for _ in 0..5 {
            let session = unique("sess");
            let token = mint::token().session(&session);
            let request = Request::get(&format!("{}?every=200", services::EVENTS)).bearer(&token.sign());
            let mut connections = Vec::new();
            let mut streams = Vec::new();
            let per_connection = if http == Http::Two { STREAMS / CONNECTIONS } else { 1 };
            for _ in 0..STREAMS / per_connection {
                let mut connection = Connection::open(sidecar.app(), http).await.unwrap();
                for _ in 0..per_connection {
                    let stream = begin(&mut connection, &request).await;
                    streams.push(tokio::spawn(stream.end(Duration::from_secs(30))));
                }
                connections.push(connection);
            }
            time::sleep(Duration::from_millis(500)).await;
            let pushed = push(&sidecar, &mint::revoke_session(&session)).await;
            for end in join_all(streams).await {
                let end = end.unwrap().unwrap();
                last_bytes.push(end.last_byte.saturating_duration_since(pushed));
                ends.push(end.ended.saturating_duration_since(pushed));
            }
        }
        println!("{STREAMS} streams of one session over {http:?}, 5 times, after the 202:");
        println!("  the last byte  {}", distribution(last_bytes));
        println!("  the end        {}", distribution(ends));
    }
}

fn distribution(mut times: Vec<Duration>) -> String {
    times.sort_unstable();
    let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize];
    format!("p50 {:?}, p90 {:?}, p99 {:?}, all within {:?}", at(0.5), at(0.9), at(0.99), at(1.0))
}

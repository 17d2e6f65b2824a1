//! When a pushed signal has been answered 202, no request that starts afterwards passes against it, on any worker.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use futures_util::{StreamExt, TryStreamExt, future::join_all, stream};
use serde_json::json;
use taskfence_tests::{
    Result,
    bootstrap::Settings,
    client::{self, Answer, Connection, Http, Request},
    mint::{self, Alg, Jwt, now, unique},
    orders,
    refusal::{assert_allowed, assert_refused, assert_signal_accepted, assert_signal_refused},
    sidecar::Sidecar,
    tamper,
};
use tokio::sync::{Mutex, MutexGuard, OnceCell};

/// How many new connections bring a token back after its end.
const FRESH: usize = 200;
/// How many of them at a time: enough that every worker always has some.
const AT_A_TIME: usize = 16;
/// How many connections stay open from before the signal, of each version of HTTP.
const KEPT: usize = 4;

/// One sidecar for all tests here, for one test at a time: each counts the connections of the workers.
async fn sidecar() -> (&'static Sidecar, MutexGuard<'static, ()>) {
    static SIDECAR: OnceCell<Sidecar> = OnceCell::const_new();
    static ONE_AT_A_TIME: Mutex<()> = Mutex::const_new(());
    let start =
        || async { Sidecar::start(Settings::new("at-once", orders::config()).workers(4).balanced()).await.unwrap() };
    let guard = ONE_AT_A_TIME.lock().await;
    (SIDECAR.get_or_init(start).await, guard)
}

fn read_order(token: &str) -> Request {
    Request::get(orders::ORDER_PATH).bearer(token)
}

/// The answers to `count` requests with this token, each on a new connection, half of them HTTP/2, and proof that every
/// worker took some.
async fn on_fresh_connections(sidecar: &Sidecar, token: &str, count: usize) -> Vec<Answer> {
    let before = sidecar.connections_by_worker().await.unwrap();
    let request = read_order(token);
    let request = &request;
    let answers: Result<Vec<_>> = stream::iter(0..count)
        .map(|number| async move { client::send(sidecar.app(), Http::BOTH[number % 2], request).await })
        .buffer_unordered(AT_A_TIME)
        .try_collect()
        .await;
    assert_every_worker_took_part(sidecar, &before).await;
    answers.unwrap()
}

async fn assert_every_worker_took_part(sidecar: &Sidecar, before: &[u64]) {
    let after = sidecar.connections_by_worker().await.unwrap();
    let idle = after.iter().zip(before).any(|(after, before)| after == before);
    assert!(!idle, "a worker got no connection, so this shows nothing: {before:?} before, {after:?} after");
}

/// Connections that stay open, some on every worker.
async fn keep_connections(sidecar: &Sidecar) -> Vec<Connection> {
    let before = sidecar.connections_by_worker().await.unwrap();
    let mut kept = Vec::new();
    for http in Http::BOTH {
        for _ in 0..KEPT {
            kept.push(Connection::open(sidecar.app(), http).await.unwrap());
        }
    }
    // Envoy has not accepted a connection before it answered on it.
    for connection in &mut kept {
        connection.send(&Request::get("/healthz")).await.unwrap();
    }
    assert_every_worker_took_part(sidecar, &before).await;
    kept
}

async fn on(connections: &mut [Connection], request: &Request) -> Vec<Answer> {
    join_all(connections.iter_mut().map(async |connection| connection.send(request).await.unwrap())).await
}

/// The promise: `ended` passes everywhere, then the signal is answered 202, then `ended` passes nowhere; `untouched`
/// always passes.
async fn ends_at_once(ended: &Jwt, untouched: &[Jwt], signal: &Jwt, reason: &str) {
    let (sidecar, _guard) = sidecar().await;
    let token = ended.sign();
    let mut kept = keep_connections(sidecar).await;
    // Every worker has now judged the token, and may remember that it was good.
    for answer in on_fresh_connections(sidecar, &token, 2 * AT_A_TIME).await {
        assert_allowed(sidecar, &answer);
    }
    for answer in on(&mut kept, &read_order(&token)).await {
        assert_allowed(sidecar, &answer);
    }

    assert_signal_accepted(&sidecar.push(signal).await.unwrap());

    for answer in on(&mut kept, &read_order(&token)).await {
        assert_refused(sidecar, &answer, reason);
    }
    for answer in on_fresh_connections(sidecar, &token, FRESH).await {
        assert_refused(sidecar, &answer, reason);
    }
    for other in untouched {
        for answer in on_fresh_connections(sidecar, &other.sign(), 2 * AT_A_TIME).await {
            assert_allowed(sidecar, &answer);
        }
    }
}

#[tokio::test]
async fn a_completed_task_ends() {
    let task = unique("task");
    let other_task = mint::token().task(&unique("task"));
    // A user or a session with the same name is not the task.
    let namesake = mint::token().session(&task).user(&task).task(&unique("task"));
    ends_at_once(&mint::token().task(&task), &[other_task, namesake], &mint::complete_task(&task), "task_completed")
        .await;
}

#[tokio::test]
async fn a_revoked_token_ends() {
    let token = mint::token();
    let sibling = mint::token();
    ends_at_once(&token, &[sibling], &mint::revoke_token(&token.id()), "token_revoked").await;
}

#[tokio::test]
async fn a_revoked_session_ends() {
    let session = unique("sess");
    let other_session = mint::token().session(&unique("sess"));
    let sessionless = mint::token().without("sid");
    let token = mint::token().session(&session);
    ends_at_once(&token, &[other_session, sessionless], &mint::revoke_session(&session), "session_revoked").await;
}

/// A revoked session stays revoked, whatever the time of the event was.
#[tokio::test]
async fn a_session_revoked_long_ago_ends_too() {
    let session = unique("sess");
    let signal = mint::revoke_session(&session).dated(now() - 300);
    ends_at_once(&mint::token().session(&session), &[], &signal, "session_revoked").await;
}

#[tokio::test]
async fn a_revoked_user_ends() {
    let user = unique("user");
    let other_user = mint::token().user(&unique("user"));
    ends_at_once(&mint::token().user(&user), &[other_user], &mint::revoke_user(&user), "user_revoked").await;
}

/// A cut-off ends the sessions that began at or before it. Sessions that began later pass.
#[tokio::test]
async fn a_user_cut_off_counts_from_the_sign_in() {
    let (user, moment) = (unique("user"), now() - 100);
    let signed_in = |at: i64| mint::token().user(&user).claim("auth_time", at);
    ends_at_once(&signed_in(moment), &[signed_in(moment + 1)], &mint::revoke_user(&user).dated(moment), "user_revoked")
        .await;

    let (sidecar, _guard) = sidecar().await;
    // By the same clock reading as the cut-off: what comes before here takes seconds on a busy machine.
    let issued = |at: i64| signed_in(0).without("auth_time").claim("iat", at).claim("exp", at + 300);
    let table = [
        ("signed in before", signed_in(moment - 1), false),
        ("signed in at that moment", signed_in(moment), false),
        ("signed in after", signed_in(moment + 1), true),
        ("minted anew from the old sign-in", signed_in(moment - 1).valid(0, 300), false),
        ("issued before, no sign-in known", issued(moment - 1), false),
        ("issued after, no sign-in known", issued(moment + 1), true),
    ];
    for (what, token, passes) in table {
        for http in Http::BOTH {
            let answer = sidecar.send(http, &read_order(&token.sign())).await.unwrap();
            let expected = if passes { "200" } else { "401 user_revoked" };
            assert_eq!(answer.line(), expected, "{what} (left: came, right: expected)");
        }
    }
}

/// Later, weaker and repeated signals give nothing back.
#[tokio::test]
async fn no_later_signal_gives_anything_back() {
    let (sidecar, _guard) = sidecar().await;
    let (user, moment) = (unique("user"), now() - 100);
    let token = mint::token().user(&user).claim("auth_time", moment).sign();
    let first = mint::revoke_user(&user).dated(moment);
    for signal in [&first, &mint::revoke_user(&user).dated(moment - 1_000), &first] {
        assert_signal_accepted(&sidecar.push(signal).await.unwrap());
        for answer in on_fresh_connections(sidecar, &token, 2 * AT_A_TIME).await {
            assert_refused(sidecar, &answer, "user_revoked");
        }
    }
}

#[tokio::test]
async fn a_repeated_signal_is_answered_as_if_new() {
    let (sidecar, _guard) = sidecar().await;
    let task = unique("task");
    let signal = mint::complete_task(&task);
    let token = mint::token().task(&task).sign();
    for _ in 0..5 {
        assert_signal_accepted(&sidecar.push(&signal).await.unwrap());
        let answer = sidecar.send(Http::One, &read_order(&token)).await.unwrap();
        assert_refused(sidecar, &answer, "task_completed");
    }
}

/// Any number of signals may come between two requests of a worker, and the one about its grant may be the first of
/// them.
#[tokio::test]
async fn a_signal_is_not_lost_behind_many_others() {
    let (sidecar, _guard) = sidecar().await;
    let task = unique("task");
    let request = read_order(&mint::token().task(&task).sign());
    let mut kept = keep_connections(sidecar).await;
    for answer in on(&mut kept, &request).await {
        assert_allowed(sidecar, &answer);
    }
    assert_signal_accepted(&sidecar.push(&mint::complete_task(&task)).await.unwrap());
    for _ in 0..300 {
        assert_signal_accepted(&sidecar.push(&mint::complete_task(&unique("task"))).await.unwrap());
    }
    for answer in on(&mut kept, &request).await {
        assert_refused(sidecar, &answer, "task_completed");
    }
}

/// Both workers take signals at the same time: each that was answered 202 counts.
#[tokio::test]
async fn signals_that_come_at_the_same_time_all_count() {
    let (sidecar, _guard) = sidecar().await;
    let tasks: Vec<_> = (0..200).map(|_| unique("task")).collect();
    let mut kept = keep_connections(sidecar).await;
    let requests: Vec<_> = tasks.iter().map(|task| read_order(&mint::token().task(task).sign())).collect();
    for request in &requests {
        for answer in on(&mut kept, request).await {
            assert_allowed(sidecar, &answer);
        }
    }
    let answers: Result<Vec<_>> = stream::iter(&tasks)
        .map(|task| async move { sidecar.push(&mint::complete_task(task)).await })
        .buffer_unordered(AT_A_TIME)
        .try_collect()
        .await;
    for answer in answers.unwrap() {
        assert_signal_accepted(&answer);
    }
    for request in &requests {
        for answer in on(&mut kept, request).await {
            assert_refused(sidecar, &answer, "task_completed");
        }
    }
}

#[tokio::test]
async fn a_signal_ends_tokens_nobody_has_seen_yet() {
    let (sidecar, _guard) = sidecar().await;
    let task = unique("task");
    assert_signal_accepted(&sidecar.push(&mint::complete_task(&task)).await.unwrap());
    for alg in Alg::ALL {
        let token = mint::token().task(&task).signed_by(mint::ISSUER.signer(alg)).sign();
        for answer in on_fresh_connections(sidecar, &token, 2 * AT_A_TIME).await {
            assert_refused(sidecar, &answer, "task_completed");
        }
    }
}

#[tokio::test]
async fn signals_of_every_algorithm_and_version_of_http_are_taken() {
    let (sidecar, _guard) = sidecar().await;
    for alg in Alg::ALL {
        for http in Http::BOTH {
            let task = unique("task");
            let signal = mint::complete_task(&task).signed_by(mint::TRANSMITTER.signer(alg)).sign();
            let push = Request::push(orders::SIGNALS_PATH, &signal);
            assert_signal_accepted(&client::send(sidecar.signals(), http, &push).await.unwrap());
            let answer = sidecar.send(http, &read_order(&mint::token().task(&task).sign())).await.unwrap();
            assert_refused(sidecar, &answer, "task_completed");
        }
    }
}

/// SETs are not commands (RFC 8935 section 2): events that the filter does not act on are accepted too.
#[tokio::test]
async fn an_event_of_no_interest_is_taken_and_changes_nothing() {
    let (sidecar, _guard) = sidecar().await;
    let task = unique("task");
    let subject = json!({"format": "complex", "task": {"format": "opaque", "id": task}});
    for event in ["https://schemas.openid.net/secevent/caep/event-type/session-presented", "urn:example:other"] {
        assert_signal_accepted(&sidecar.push(&mint::signal(event, subject.clone())).await.unwrap());
    }
    let answer = sidecar.send(Http::One, &read_order(&mint::token().task(&task).sign())).await.unwrap();
    assert_allowed(sidecar, &answer);
}

/// Both listeners speak about the same state, and only one of them takes signals.
#[tokio::test]
async fn the_app_listener_takes_no_signals() {
    let (sidecar, _guard) = sidecar().await;
    let task = unique("task");
    let push = Request::push(orders::SIGNALS_PATH, &mint::complete_task(&task).sign());
    let answer = sidecar.send(Http::One, &push).await.unwrap();
    assert!((400..500).contains(&answer.status), "expected a refusal, came {}", answer.line());
    let answer = sidecar.send(Http::One, &read_order(&mint::token().task(&task).sign())).await.unwrap();
    assert_allowed(sidecar, &answer);
}

/// Requests go on while the signal is pushed. Every request that starts after the 202 must be refused. A fault would
/// show for microseconds only, so there are many rounds.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_that_race_with_the_signal() {
    let (sidecar, _guard) = sidecar().await;
    let mut connections = keep_connections(sidecar).await;
    let mut trials = 0;
    for round in 0..300 {
        let task = unique("task");
        let request = read_order(&mint::token().task(&task).sign());
        let traffic = Arc::new(Traffic::default());
        let runners: Vec<_> = connections
            .drain(..)
            .map(|kept| tokio::spawn(traffic.clone().run(sidecar.app(), kept, request.clone())))
            .collect();
        traffic.wait_until_under_way(2 * runners.len()).await;
        assert_signal_accepted(&sidecar.push(&mint::complete_task(&task)).await.unwrap());
        let taken = Instant::now();
        traffic.signal_taken.store(true, Ordering::Relaxed);
        for outcome in join_all(runners).await {
            let (connection, answered) = outcome.unwrap();
            let after = answered.iter().filter(|one| one.started > taken);
            let wrong = after.clone().filter(|one| one.passed).count();
            assert_eq!(
                wrong,
                0,
                "round {round}: of {} requests that started after the 202, so many passed",
                after.count()
            );
            trials += answered.iter().filter(|one| one.started > taken).count();
            connections.push(connection);
        }
    }
    assert!(trials >= 10_000, "{trials} requests after a 202 are too few to show anything");
}

/// Requests with one token, one after the other, on many connections.
#[derive(Default)]
struct Traffic {
    passed: AtomicUsize,
    signal_taken: AtomicBool,
}

/// When a request was sent, and whether it passed.
struct Answered {
    started: Instant,
    passed: bool,
}

impl Traffic {
    /// On this connection, until the signal was taken and then some.
    async fn run(
        self: Arc<Self>,
        to: SocketAddr,
        mut connection: Connection,
        request: Request,
    ) -> (Connection, Vec<Answered>) {
        let mut answered = Vec::new();
        let mut left = 5;
        while left > 0 {
            if self.signal_taken.load(Ordering::Relaxed) {
                left -= 1;
            }
            let started = Instant::now();
            let passed = match connection.send(&request).await.as_ref().map(Answer::line).as_deref() {
                Ok("200") => true,
                Ok("401 task_completed") => false,
                Ok(other) => panic!("expected 200 or 401 task_completed, came {other}"),
                // It passed, and was ended in the middle of its answer.
                Err(_) => {
                    connection = Connection::open(to, connection.http()).await.unwrap();
                    true
                }
            };
            self.passed.fetch_add(usize::from(passed), Ordering::Relaxed);
            answered.push(Answered { started, passed });
        }
        (connection, answered)
    }

    async fn wait_until_under_way(&self, count: usize) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while self.passed.load(Ordering::Relaxed) < count {
            assert!(Instant::now() < deadline, "the traffic did not get going");
            tokio::task::yield_now().await;
        }
    }
}

/// Each with the code of RFC 8935, and none changes anything.
#[tokio::test]
async fn bad_signals_are_refused_and_apply_nothing() {
    let (sidecar, _guard) = sidecar().await;
    let task = unique("task");
    let token = mint::token().task(&task).sign();
    let good = || mint::complete_task(&task);
    let idp = mint::TRANSMITTER.signer(Alg::Es256);
    let second_event =
        json!({mint::TASK_COMPLETED: {"event_timestamp": now()}, mint::SESSION_REVOKED: {"event_timestamp": now()}});
    let table = [
        ("not a JWT", "hello".to_owned(), "invalid_request"),
        ("nothing", String::new(), "invalid_request"),
        ("three dots", "...".to_owned(), "invalid_request"),
        ("typ JWT", good().header("typ", "JWT").sign(), "invalid_request"),
        ("no typ", good().without_header("typ").sign(), "invalid_request"),
        ("an access token", mint::token().task(&task).sign(), "invalid_request"),
        ("no jti", good().without("jti").sign(), "invalid_request"),
        ("no sub_id", good().without("sub_id").sign(), "invalid_request"),
        ("no events", good().without("events").sign(), "invalid_request"),
        ("no event in events", good().claim("events", json!({})).sign(), "invalid_request"),
        ("two events", good().claim("events", second_event).sign(), "invalid_request"),
        (
            "a subject of no known format",
            good().claim("sub_id", json!({"format": "x", "id": task})).sign(),
            "invalid_request",
        ),
        ("another transmitter", good().claim("iss", "https://evil.example").sign(), "invalid_issuer"),
        ("the issuer of tokens", good().claim("iss", orders::ISSUER).sign(), "invalid_issuer"),
        ("another audience", good().claim("aud", orders::AUDIENCE).sign(), "invalid_audience"),
        ("no audience", good().without("aud").sign(), "invalid_audience"),
        ("an unknown key", good().header("kid", "nobody").sign(), "invalid_key"),
        (
            "a forger",
            good().signed_by(mint::FORGER.signer(Alg::Es256)).header("kid", idp.kid.as_str()).sign(),
            "authentication_failed",
        ),
        ("a flipped bit", tamper::flip_signature_bit(&good().sign()), "authentication_failed"),
        (
            "changed claims",
            tamper::change_claim(&mint::complete_task("x").sign(), "sub_id", good_subject(&task)),
            "authentication_failed",
        ),
        (
            "the subjects of another issuer",
            mint::signal(
                mint::SESSION_REVOKED,
                json!({"format": "iss_sub", "iss": "https://other.example", "sub": orders::USER}),
            )
            .sign(),
            "access_denied",
        ),
    ];
    for (what, body, code) in table {
        for http in Http::BOTH {
            let push = Request::push(orders::SIGNALS_PATH, &body);
            let answer = client::send(sidecar.signals(), http, &push).await.unwrap();
            let came = answer.json()["err"].as_str().map(str::to_owned);
            assert_eq!(came.as_deref(), Some(code), "{what} over {http:?} (left: came, right: expected)");
            assert_signal_refused(&answer, code);
        }
    }
    // Written by hand, because no library signs these.
    for (what, body) in [
        ("alg none", tamper::unsigned(&good(), "none")),
        (
            "HS256 with the public key",
            tamper::hs256(&good().header("kid", idp.kid.as_str()), idp.public().to_string().as_bytes()),
        ),
        ("70,000 bytes", good().claim("padding", "x".repeat(70_000)).sign()),
    ] {
        let answer =
            client::send(sidecar.signals(), Http::One, &Request::push(orders::SIGNALS_PATH, &body)).await.unwrap();
        assert!((400..500).contains(&answer.status), "{what}: expected a refusal, came {}", answer.line());
    }
    let wrong_type =
        Request::new("POST", orders::SIGNALS_PATH).header("content-type", "text/plain").body(good().sign());
    let answer = client::send(sidecar.signals(), Http::One, &wrong_type).await.unwrap();
    assert!((400..500).contains(&answer.status), "text/plain: expected a refusal, came {}", answer.line());

    for answer in on_fresh_connections(sidecar, &token, 2 * AT_A_TIME).await {
        assert_allowed(sidecar, &answer);
    }
}

fn good_subject(task: &str) -> serde_json::Value {
    json!({"format": "complex", "task": {"format": "opaque", "id": task}})
}

//! After a crash of the filter the state is complete, and no live stream goes on without supervision.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use serde_json::{Value, json};
use taskfence_tests::{
    artefacts,
    bootstrap::{self, Settings},
    client::{Answer, Connection, Http, Request},
    mint::{self, Jwt, complete_task, device_is, revoke_session, unique},
    orders,
    refusal::{assert_allowed, assert_refused, assert_signal_accepted},
    services,
    sidecar::Sidecar,
    streaming,
};
use tokio::time::{sleep, timeout};

const WORKERS: u32 = 2;
/// `FAIL_RELOAD` loads the module anew after about a second.
const RELOADED: Duration = Duration::from_secs(20);

async fn sidecar(name: &str) -> Sidecar {
    let wasm = artefacts::crashing_wasm().unwrap().display().to_string();
    let rules = json!([
        {"name": "device", "match": {"path": "/v1/device"}, "require": {"device": {"status": "compliant", "unknown": "allow"}}},
        {"name": "live", "match": {"path": "/v1/live/{rest...}"}, "require": {}},
        {"name": "all", "match": {"path": "/v1/orders/{order}"}, "require": {}}
    ]);
    let settings = Settings::new(name, orders::config_of(rules)).workers(WORKERS).balanced();
    let replace = move |bootstrap: &mut Value| {
        for listener in bootstrap["static_resources"]["listeners"].as_array_mut().unwrap() {
            let manager = &mut listener["filter_chains"][0]["filters"][0]["typed_config"];
            manager["http_filters"][0]["typed_config"]["config"]["vm_config"]["code"]["local"]["filename"] =
                json!(wasm);
        }
    };
    Sidecar::start(settings.patch(replace)).await.unwrap()
}

/// What each worker answers, several times: connections that are open at once are spread over all of them.
async fn everywhere(sidecar: &Sidecar, request: &Request) -> Vec<Answer> {
    let opened = join_all((0..8).map(|_| Connection::open(sidecar.app(), Http::One))).await;
    join_all(opened.into_iter().map(async |connection| connection.unwrap().send(request).await.unwrap())).await
}

fn with(path: &str, token: &Jwt) -> Request {
    Request::get(path).bearer(&token.sign())
}

/// Stops the VM of every worker.
async fn crash(sidecar: &Sidecar) {
    let stop = Request::get(orders::ORDER_PATH).header("x-taskfence-crash", "1");
    for answer in everywhere(sidecar, &stop).await {
        assert_eq!(answer.status, 503, "a request that a dead machine had is not let through");
    }
    let log = sidecar.envoy().log();
    assert!(log.contains("proxy_on_request_headers"), "Envoy says what was running when the machine stopped:\n{log}");
}

/// As a transmitter does: again, as long as the answer is 503. The receiver is loaded anew when something comes to it.
async fn push(sidecar: &Sidecar, signal: &Jwt) {
    let deadline = Instant::now() + RELOADED;
    loop {
        let answer = sidecar.push(signal).await.unwrap();
        if answer.status != 503 || Instant::now() > deadline {
            return assert_signal_accepted(&answer);
        }
        sleep(Duration::from_millis(100)).await;
    }
}

/// Waits until every worker has a machine again.
async fn reloaded(sidecar: &Sidecar) {
    let deadline = Instant::now() + RELOADED;
    let request = with(orders::ORDER_PATH, &mint::token().session(&unique("sess")).task(&unique("task")));
    while !everywhere(sidecar, &request).await.iter().all(|answer| answer.status == 200) {
        assert!(Instant::now() < deadline, "no machine came back:\n{}", sidecar.envoy().log());
        sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test]
async fn nothing_that_was_said_is_forgotten() {
    if bootstrap::is_never_loaded_anew("nothing_that_was_said_is_forgotten") {
        return;
    }
    let sidecar = sidecar("crash-state").await;
    let fresh = || mint::token().session(&unique("sess")).task(&unique("task")).user(&unique("user"));
    let (session, task, device) = (unique("sess"), unique("task"), unique("device"));
    let revoked = fresh().session(&session);
    let completed = fresh().task(&task);
    let unsafe_device = fresh().claim("device_id", device.as_str());
    for signal in [revoke_session(&session), complete_task(&task), device_is(&device, "not-compliant")] {
        assert_signal_accepted(&sidecar.push(&signal).await.unwrap());
    }
    for round in 0..3 {
        let created = sidecar.machines_created().await.unwrap();
        crash(&sidecar).await;
        reloaded(&sidecar).await;
        assert!(sidecar.machines_created().await.unwrap() > created, "round {round}: a machine was made anew");
        let said = [
            (with(orders::ORDER_PATH, &revoked), "session_revoked"),
            (with(orders::ORDER_PATH, &completed), "task_completed"),
            (with("/v1/device", &unsafe_device), "device_not_compliant"),
        ];
        for (request, reason) in &said {
            for answer in everywhere(&sidecar, request).await {
                assert_refused(&sidecar, &answer, reason);
            }
        }
        // Signals to the new machines count too.
        let name = unique("late");
        let late = with(orders::ORDER_PATH, &fresh().session(&name));
        for answer in everywhere(&sidecar, &late).await {
            assert_allowed(&sidecar, &answer);
        }
        push(&sidecar, &revoke_session(&name)).await;
        for answer in everywhere(&sidecar, &late).await {
            assert_refused(&sidecar, &answer, "session_revoked");
        }
    }
}

/// The crash loses the entries of live streams. So the streams must end too, because no signal could end them later.
#[tokio::test]
async fn no_stream_goes_on_that_nobody_looks_after() {
    let sidecar = sidecar("crash-streams").await;
    let token = mint::token().session(&unique("sess")).task(&unique("task"));
    let mut streams = Vec::new();
    for http in [Http::One, Http::Two, Http::One, Http::Two] {
        let mut connection = streaming::Connection::open(sidecar.app(), http).await.unwrap();
        let mut stream = connection.start(&Request::get(services::EVENTS).bearer(&token.sign())).await.unwrap();
        assert_eq!(stream.status, 200);
        stream.read(1).await.unwrap();
        streams.push((connection, stream));
    }
    crash(&sidecar).await;
    for (connection, stream) in streams {
        let ended = timeout(Duration::from_secs(10), stream.end(Duration::from_secs(10))).await;
        assert!(ended.is_ok_and(|end| end.is_ok()), "a stream of a dead machine went on");
        drop(connection);
    }
}

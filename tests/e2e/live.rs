//! A stream that a change forbids is ended within one wake-up of its worker: real clients, whatever they speak.

use std::time::Duration;

use serde_json::{Value, json};
use taskfence_tests::{
    bootstrap::Settings,
    client::{Http, Request},
    mint::{self, Jwt, unique},
    orders,
    refusal::assert_signal_accepted,
    services,
    sidecar::Sidecar,
    streaming::{Connection, Streamed},
};

/// A stream that goes on longer after its end was signalled was not woken, or was and did not end.
const SOON: Duration = Duration::from_millis(800);

fn rules() -> Value {
    json!([
        {"name": "grpc", "match": {"grpc": {"service": "live.Live"}}, "require": {"scope": orders::SCOPE}},
        {"name": "live", "match": {"path": "/v1/live/{rest...}"}, "require": {"scope": orders::SCOPE}},
    ])
}

async fn sidecar(name: &str) -> Sidecar {
    Sidecar::start(Settings::new(name, orders::config_of(rules()))).await.unwrap()
}

fn request(path: &str, token: &Jwt) -> Request {
    Request::get(path).bearer(&token.sign())
}

/// A stream that has begun to come.
async fn begun(connection: &mut Connection, path: &str, token: &Jwt) -> Streamed {
    let mut stream = connection.start(&request(path, token)).await.unwrap();
    assert_eq!(stream.status, 200);
    stream.read(10).await.unwrap();
    stream
}

#[tokio::test]
async fn server_sent_events_end() {
    let sidecar = sidecar("live-events").await;
    for http in Http::BOTH {
        let task = unique("task");
        let mut connection = Connection::open(sidecar.app(), http).await.unwrap();
        let stream = begun(&mut connection, services::EVENTS, &mint::token().task(&task)).await;
        let ended = tokio::spawn(stream.end(Duration::from_secs(5)));
        assert_signal_accepted(&sidecar.push(&mint::complete_task(&task)).await.unwrap());
        let pushed = std::time::Instant::now();
        let end = ended.await.unwrap().unwrap();
        eprintln!("{http:?} {:?} last {:?} ended {:?}", end.broken, end.last_byte.checked_duration_since(pushed), end.ended.checked_duration_since(pushed));
    }
    eprintln!("{}", sidecar.envoy().log());
}

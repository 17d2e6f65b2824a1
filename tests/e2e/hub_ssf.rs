//! Streams that the hub makes and keeps at a transmitter. The transmitter of these tests is written from the
//! specifications alone, and notes each breach of them.

use std::{fs, time::Duration};

use serde_json::{Value, json};
use taskfence_tests::{
    hub::{FEED, Hub, SOON, fresh, read_order, refused_as_ended, wait_ready},
    mint::{self, complete_task, unique},
    orders,
    refusal::assert_allowed,
    sidecar::Sidecar,
    ssf_transmitter::{TOKEN, Transmitter},
};
use tokio::time::sleep;

/// `ssf` with a static token and a stream that is polled.
fn polled(folder: &std::path::Path) -> Value {
    json!({"credentials": {"token_file": folder.join("token")}, "verify": "1s", "wait": "5s"})
}

/// A hub with a managed stream at `transmitter`, after a change of the entry.
async fn hub_of(name: &str, transmitter: &Transmitter, change: impl FnOnce(&mut Value)) -> Hub {
    Hub::start_with(name, |config| {
        let folder = std::path::PathBuf::from(config["data"].as_str().unwrap()).parent().unwrap().to_owned();
        fs::write(folder.join("token"), TOKEN).unwrap();
        let mut entry = transmitter.entry(polled(&folder));
        change(&mut entry);
        config["feeds"][0]["signals"]["transmitters"] = json!([entry]);
    })
    .await
    .unwrap()
}

/// Waits until a signal that is sent now is acknowledged.
async fn delivers(transmitter: &Transmitter) {
    let before = transmitter.acknowledged();
    transmitter.send(&complete_task(&unique("task")));
    transmitter.wait("a signal is acknowledged", SOON, |one| one.acknowledged() > before).await.unwrap();
}

#[tokio::test]
async fn a_polled_signal_reaches_a_real_proxy() {
    let transmitter = Transmitter::start().unwrap();
    let hub = hub_of("ssf-poll", &transmitter, |_| {}).await;
    let proxy = Sidecar::start(hub.plain("ssf-poll-envoy", &orders::config())).await.unwrap();
    wait_ready(&proxy).await.unwrap();
    let task = unique("task");
    assert_allowed(&proxy, &read_order(&proxy, &fresh().task(&task).sign()).await.unwrap());
    transmitter.wait("a stream", SOON, |one| one.streams().len() == 1).await.unwrap();
    transmitter.send(&complete_task(&task));
    refused_as_ended(&proxy, &task).await.unwrap();
    transmitter.wait("all is acknowledged", SOON, |one| one.waiting() == 0).await.unwrap();
    assert_eq!(transmitter.breaches(), [String::new(); 0]);
}

//! Mutual TLS between proxies and their hub: who may follow, and what a new certificate of the hub changes.

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use taskfence_tests::{
    bootstrap::Settings,
    client::{Http, Request},
    hub::{CLUSTER, FEED, Hub, SOON, fresh, read_order, refused_as_ended, wait_ready, without_receiver},
    jwks,
    mint::{complete_task, unique},
    orders,
    refusal::{assert_allowed, assert_refused, assert_signal_accepted},
    sidecar::Sidecar,
    tls::{self, Workload},
};
use tokio::time;

/// Writes a new certificate for the hub into `folder`; its digest.
fn write_certificate(folder: &Path) -> String {
    let server = Workload::server();
    fs::write(folder.join("tls.key"), server.key_pem()).unwrap();
    fs::write(folder.join("tls.crt"), server.pem()).unwrap();
    server.digest()
}

/// A hub that only listens with TLS, where the workloads of `mesh.example` follow by their certificates.
async fn hub(name: &str) -> Hub {
    Hub::start_with(name, |config| {
        let folder = PathBuf::from(config["data"].as_str().unwrap()).parent().unwrap().to_owned();
        write_certificate(&folder);
        let authority = folder.join("authority.crt");
        fs::write(&authority, tls::authority()).unwrap();
        config["listen"]["tls"] =
            json!({"certificate": folder.join("tls.crt"), "key": folder.join("tls.key"), "client_ca": authority});
        config["access"] = json!([{"spiffe": "spiffe://mesh.example/", "role": "sidecar"}]);
    })
    .await
    .unwrap()
}

/// A proxy that follows `hub` as the workload `uri`, without a token.
async fn follower(name: &str, hub: &Hub, uri: &str) -> Sidecar {
    let mut cluster = hub.cluster();
    cluster["transport_socket"] = Workload::new(uri).of_cluster();
    let mut config = hub.followed_by(&orders::config());
    config["signals"]["hub"].as_object_mut().unwrap().remove("authorization");
    let settings = Settings::new(name, config).workers(1).patch(jwks::with_clusters(vec![cluster]));
    Sidecar::start(settings.patch(without_receiver)).await.unwrap()
}

#[tokio::test]
async fn a_trust_domain_follows_by_its_certificates_and_no_other_does() {
    let hub = hub("access-mtls").await;
    let proxy = follower("access-mtls-mesh", &hub, "spiffe://mesh.example/ns/orders/sa/envoy").await;
    let strangers = [
        follower("access-mtls-other", &hub, "spiffe://other.example/ns/orders/sa/envoy").await,
        follower("access-mtls-longer", &hub, "spiffe://mesh.example.other/ns/orders/sa/envoy").await,
    ];
    wait_ready(&proxy).await.unwrap();
    assert_allowed(&proxy, &read_order(&proxy, &fresh().sign()).await.unwrap());
    let task = unique("task");
    assert_signal_accepted(&hub.push(&complete_task(&task)).await.unwrap());
    let receipt = hub.wait_everywhere().await.unwrap();
    assert_eq!(receipt["confirmed"], 1, "who may not follow is no proxy of this feed: {receipt}");
    refused_as_ended(&proxy, &task).await.unwrap();
    let until = Instant::now() + Duration::from_secs(2);
    while Instant::now() < until {
        for stranger in &strangers {
            assert_refused(stranger, &read_order(stranger, &fresh().sign()).await.unwrap(), "state_not_ready");
        }
        time::sleep(Duration::from_millis(50)).await;
    }
    for stranger in &strangers {
        let log = stranger.envoy().log();
        assert!(log.contains("[error]") && log.contains("403"), "the log says why:\n{log}");
    }
    // Without a certificate and without a token there is nobody to give a role to; the API stays closed to sidecars.
    let ask = Request::get(&format!("/v1/feeds/{FEED}?after=0000000000000000.0.0000000000000000"));
    assert_eq!(hub.send(&ask).await.unwrap().status, 401);
    let workload = Workload::new("spiffe://mesh.example/ns/orders/sa/envoy");
    let signals = Request::get(&format!("/v1/feeds/{FEED}/signals"));
    let answer = tls::send(hub.address(), Http::Two, Some(&workload), &signals).await.unwrap();
    assert_eq!(answer.status, 403, "{}", answer.text());
}

#[tokio::test]
async fn a_new_certificate_is_shown_to_new_connections_and_ends_no_other() {
    let hub = hub("access-renewed").await;
    let proxy = follower("access-renewed-envoy", &hub, "spiffe://mesh.example/ns/orders/sa/envoy").await;
    wait_ready(&proxy).await.unwrap();
    let mut open = tls::connect(hub.address(), Http::One, None).await.unwrap();
    assert_eq!(open.send(&Request::get("/livez")).await.unwrap().status, 200);
    let ended = async || -> Value {
        let stats = proxy.envoy().stats().await.unwrap();
        json!(
            ["cx_total", "cx_destroy"].map(|name| stats.value(&format!("cluster.{CLUSTER}.upstream_{name}")).unwrap())
        )
    };
    let before = ended().await;
    let first = tls::shown_by(hub.address()).await.unwrap();

    // A certificate and a key that do not belong together change nothing.
    let key = fs::read(hub.folder().join("tls.key")).unwrap();
    write_certificate(hub.folder());
    fs::write(hub.folder().join("tls.key"), key).unwrap();
    time::sleep(Duration::from_secs(3)).await;
    assert_eq!(tls::shown_by(hub.address()).await.unwrap(), first, "what cannot be used is not used");

    let second = write_certificate(hub.folder());
    let deadline = Instant::now() + SOON;
    while tls::shown_by(hub.address()).await.unwrap() != second {
        assert!(Instant::now() < deadline, "the new certificate is not shown:\n{}", hub.log());
        time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(open.send(&Request::get("/livez")).await.unwrap().status, 200, "the connection goes on");
    let task = unique("task");
    assert_signal_accepted(&hub.push(&complete_task(&task)).await.unwrap());
    hub.wait_everywhere().await.unwrap();
    refused_as_ended(&proxy, &task).await.unwrap();
    assert_eq!(ended().await, before, "the proxy follows on the connection that it had");
}

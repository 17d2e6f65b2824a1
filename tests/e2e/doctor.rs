//! `taskfence doctor` on a proxy that is well, and on those that are not.

use serde_json::{Value, json};
use taskfence_tests::{
    bootstrap::{self, Settings},
    client::{Http, Request},
    discovered::Discovered,
    hub::{CLUSTER, Hub, fresh, wait_ready},
    jwks, orders,
    refusal::assert_allowed,
    sidecar::Sidecar,
};
use tokio::time::{Duration, sleep};

/// A mesh discovers the filter: what it refuses is seen, and the configuration from before stays.
#[tokio::test]
async fn an_update_that_the_filter_refuses_is_found() {
    let hub = Hub::start("doctor-updates").await.unwrap();
    let file = Discovered::new("doctor-refused").unwrap();
    let discovered = file.clone();
    let settings = hub.lone("doctor-refused", &orders::config()).patch(move |bootstrap| {
        let node = bootstrap["node"].clone();
        discovered.discover(bootstrap);
        bootstrap["node"] = node;
    });
    let sidecar = start(settings).await;
    wait_ready(&sidecar).await.unwrap();
    file.replace(&sidecar, "\"rules\"", "\"rulez\"").await.unwrap();
    let findings = Findings::read(&hub, &sidecar, &[]);
    findings.has("warning", "plugin", "1 updates of the discovered filter `taskfence` were rejected");
    let read = Request::get(orders::ORDER_PATH).bearer(&fresh().sign());
    assert_allowed(&sidecar, &sidecar.send(Http::One, &read).await.unwrap());
}

/// What it found: severity, what about, and the message.
struct Findings {
    code: i32,
    list: Vec<(String, String, String)>,
    text: String,
}

impl Findings {
    fn read(hub: &Hub, sidecar: &Sidecar, more: &[&str]) -> Findings {
        let admin = format!("http://{}", sidecar.envoy().admin());
        let (code, text) =
            hub.try_command(&[&["doctor", "--admin", &admin, "--output", "json"], more].concat()).unwrap();
        let report: Value = serde_json::from_str(text.trim()).unwrap_or_else(|error| panic!("{error}: {text}"));
        let member = |finding: &Value, name: &str| finding[name].as_str().unwrap_or_default().to_owned();
        let list = report["findings"].as_array().unwrap().iter();
        let list = list.map(|one| (member(one, "severity"), member(one, "about"), member(one, "message"))).collect();
        Findings { code, list, text }
    }

    #[track_caller]
    fn has(&self, severity: &str, about: &str, message: &str) {
        let found = self
            .list
            .iter()
            .any(|(kind, place, text)| kind == severity && place.contains(about) && text.contains(message));
        assert!(found, "no {severity} about {about}: {message} in {}", self.text);
        let is_bad = self.list.iter().any(|(kind, ..)| kind == "error");
        assert_eq!(self.code, i32::from(is_bad), "{}", self.text);
    }
}

/// A change to the plugin of the filter.
fn plugin(change: impl FnOnce(&mut Value) + Send + 'static) -> impl FnOnce(&mut Value) + Send + 'static {
    move |bootstrap| {
        let pointer = format!("{}/http_filters/0/typed_config/config", bootstrap::APP);
        change(bootstrap.pointer_mut(&pointer).unwrap());
    }
}

async fn start(settings: Settings) -> Sidecar {
    Sidecar::start(settings).await.unwrap()
}

#[tokio::test]
async fn a_proxy_that_is_well_and_eight_that_are_not() {
    let mut hub = Hub::start("doctor").await.unwrap();
    let config = orders::config();

    let mut soon_old = hub.followed_by(&config);
    soon_old["signals"]["stale"] = json!({"after": "10s"});
    let text = soon_old.to_string();
    let well = start(
        hub.plain("doctor-well", &config).patch(plugin(move |plugin| plugin["configuration"]["value"] = text.into())),
    )
    .await;
    wait_ready(&well).await.unwrap();
    // Its gauges are shown once a second.
    sleep(Duration::from_secs(2)).await;
    let findings = Findings::read(&hub, &well, &["--with-hub"]);
    findings.has("note", "feed main", "s old, at number");
    findings.has("note", "hub", "is ready");
    findings.has("note", "hub", "1 of its 1 proxies of the feed `main` have this configuration");
    findings.has("note", "filter configuration", "hash ");
    assert!(findings.list.iter().all(|(kind, ..)| kind != "error"), "{}", findings.text);

    // 1: the filter is not there.
    let none = hub.plain("doctor-none", &config).patch(|bootstrap| {
        let pointer = format!("{}/http_filters", bootstrap::APP);
        bootstrap.pointer_mut(&pointer).and_then(Value::as_array_mut).unwrap().remove(0);
    });
    Findings::read(&hub, &start(none).await, &[]).has("error", "plugin", "there is no filter of Taskfence");

    // 2: the hub's cluster is missing.
    let missing = hub.plain("doctor-missing", &config).patch(|bootstrap| {
        let clusters = bootstrap.pointer_mut("/static_resources/clusters").and_then(Value::as_array_mut).unwrap();
        clusters.retain(|cluster| cluster["name"] != CLUSTER);
    });
    let findings = Findings::read(&hub, &start(missing).await, &[]);
    findings.has("error", &format!("cluster {CLUSTER}"), "is not there");
    findings.has("error", "feed main", "has not caught up");

    // 3: nobody answers there.
    let nobody = jwks::down().unwrap();
    let dead = hub.plain("doctor-dead", &config).patch(move |bootstrap| {
        let clusters = bootstrap.pointer_mut("/static_resources/clusters").and_then(Value::as_array_mut).unwrap();
        clusters.retain(|cluster| cluster["name"] != CLUSTER);
        clusters.push(jwks::cluster(CLUSTER, nobody));
    });
    let dead = start(dead).await;
    sleep(Duration::from_secs(2)).await;
    let findings = Findings::read(&hub, &dead, &[]);
    findings.has("error", &format!("cluster {CLUSTER}"), "none of its hosts answers");
    findings.has("error", "feed main", "were of no use");

    // 4: the hub does not know its token.
    let mut other = hub.followed_by(&config);
    other["signals"]["hub"]["authorization"] = json!("Bearer nobody");
    let text = other.to_string();
    let unknown = hub
        .plain("doctor-unknown", &config)
        .patch(plugin(move |plugin| plugin["configuration"]["value"] = text.into()));
    let unknown = start(unknown).await;
    sleep(Duration::from_secs(2)).await;
    Findings::read(&hub, &unknown, &[]).has("error", "feed main", "`cut_off`");

    // 5: it fails open.
    let open = hub.plain("doctor-open", &config).patch(plugin(|plugin| plugin["failure_policy"] = "FAIL_OPEN".into()));
    Findings::read(&hub, &start(open).await, &[]).has("error", "failure_policy", "");

    // 6: what it takes from signals is written under another name.
    let apart = Settings::new("doctor-apart", config.clone())
        .patch(plugin(|plugin| plugin["vm_config"]["vm_id"] = "other".into()));
    let apart = start(apart).await;
    sleep(Duration::from_secs(7)).await;
    Findings::read(&hub, &apart, &[]).has("error", "state", "no receiver was configured under the vm_id `other`");

    // 7: the statistics are left out.
    let silent = hub.plain("doctor-silent", &config).patch(|bootstrap| {
        bootstrap["stats_config"] =
            json!({"stats_matcher": {"exclusion_list": {"patterns": [{"prefix": "wasmcustom."}]}}});
    });
    Findings::read(&hub, &start(silent).await, &[]).has("error", "module", "has no statistics");

    // 8: the hub is gone, and its state grows old.
    hub.kill();
    sleep(Duration::from_secs(6)).await;
    let findings = Findings::read(&hub, &well, &["--with-hub"]);
    findings.has("warning", "feed main", "requests are refused from 10 s on");
    findings.has("error", "hub", "cannot reach the hub");

    // And one that is no Envoy.
    let (code, text) = hub.try_command(&["doctor", "--admin", &format!("http://{nobody}")]).unwrap();
    assert_eq!(code, 1);
    assert!(text.contains("cannot reach Envoy's administration interface"), "{text}");
}

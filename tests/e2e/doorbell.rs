//! A worker reads the state when the doorbell, a gauge of the proxy, has another value. A signal that was answered 202
//! counts at once, also if that gauge is reset, left out or denied.

use serde_json::{Value, json};
use taskfence_tests::{
    bootstrap::{self, Settings},
    capabilities,
    client::{self, Http, Request},
    envoy::Envoy,
    mint::{self, unique},
    orders,
    refusal::{assert_allowed, assert_refused, assert_signal_accepted},
    sidecar::Sidecar,
};

const DOORBELL: &str = "wasmcustom.taskfence.state_doorbell";

fn settings(name: &str) -> Settings {
    Settings::new(name, orders::config()).workers(2).balanced()
}

/// The plugin at `pointer` may call everything but these.
fn restrict(bootstrap: &mut Value, listener: &str, taken: &[&str]) {
    let plugin = bootstrap.pointer_mut(&format!("{listener}/http_filters/0/typed_config/config")).unwrap();
    plugin["capability_restriction_config"] = capabilities::all_but(taken).unwrap();
}

/// Task after task: every worker knows its token, it completes, and the very next requests are refused. `between` is
/// done after the workers looked and before the task completes.
async fn assert_at_once(sidecar: &Sidecar, between: impl AsyncFn()) {
    for _ in 0..20 {
        let task = unique("task");
        let request = Request::get(orders::ORDER_PATH).bearer(&mint::token().task(&task).sign());
        for _ in 0..4 {
            assert_allowed(sidecar, &sidecar.send(Http::One, &request).await.unwrap());
        }
        between().await;
        assert_signal_accepted(&sidecar.push(&mint::complete_task(&task)).await.unwrap());
        for _ in 0..4 {
            assert_refused(sidecar, &sidecar.send(Http::One, &request).await.unwrap(), "task_completed");
        }
    }
}

async fn admin(envoy: &Envoy, path: &str) {
    let answer = client::send(envoy.admin(), Http::One, &Request::new("POST", path)).await.unwrap();
    assert_eq!(answer.status, 200, "{path}");
}

#[tokio::test]
async fn each_signal_rings_once_and_by_another_number() {
    let sidecar = Sidecar::start(settings("doorbell")).await.unwrap();
    let mut seen = vec![sidecar.envoy().stats().await.unwrap().value(DOORBELL).unwrap()];
    for _ in 0..5 {
        assert_signal_accepted(&sidecar.push(&mint::complete_task(&unique("task"))).await.unwrap());
        seen.push(sidecar.envoy().stats().await.unwrap().value(DOORBELL).unwrap());
    }
    let steps: std::collections::BTreeSet<_> = seen.windows(2).map(|pair| pair[1].wrapping_sub(pair[0])).collect();
    assert!(steps.len() == 5 && !steps.contains(&0), "steps by chance: {seen:?}");
}

/// Operators reset statistics to see what happens from then on.
#[tokio::test]
async fn counters_that_are_reset_hide_nothing() {
    let sidecar = Sidecar::start(settings("doorbell-reset")).await.unwrap();
    assert_at_once(&sidecar, async || admin(sidecar.envoy(), "/reset_counters").await).await;
}

/// Many operators keep only few statistics, so the gauge may be left out.
#[tokio::test]
async fn a_proxy_that_keeps_no_such_statistic_is_read_without() {
    let without = settings("doorbell-excluded").patch(|bootstrap| {
        bootstrap["stats_config"] =
            json!({"stats_matcher": {"exclusion_list": {"patterns": [{"prefix": "wasmcustom"}]}}});
    });
    let sidecar = Sidecar::start(without).await.unwrap();
    assert!(sidecar.envoy().stats().await.unwrap().value(DOORBELL).is_err());
    assert_at_once(&sidecar, async || ()).await;
}

#[tokio::test]
async fn a_filter_that_may_not_hear_it_reads_without() {
    let deaf = settings("doorbell-deaf").patch(|bootstrap| restrict(bootstrap, bootstrap::APP, &["proxy_get_metric"]));
    assert_at_once(&Sidecar::start(deaf).await.unwrap(), async || ()).await;
}

/// Otherwise it would answer 202 to signals that no worker notices.
#[tokio::test]
async fn a_receiver_that_may_not_ring_does_not_start() {
    let mute = settings("doorbell-mute").patch(|bootstrap| {
        // One machine for both, which the first plugin of the proxy is asked about.
        restrict(bootstrap, bootstrap::SIGNALS, &["proxy_increment_metric"]);
        restrict(bootstrap, bootstrap::APP, &["proxy_increment_metric"]);
    });
    let error = Sidecar::start(mute).await.err().expect("a receiver that cannot ring").to_string();
    assert!(error.contains("allow proxy_define_metric and proxy_increment_metric"), "{error}");
}

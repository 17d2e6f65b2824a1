//! Pages that were changed on the way to a proxy, at many positions: each does nothing.
//!
//! A VM that gets such a page leaves the feed to others for ten seconds, so one Envoy has several groups of VMs that share no
//! memory, each with two VMs that follow. The long test: `scripts/faults`.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use taskfence_tests::{
    bootstrap::Settings,
    client::{self, Answer, Http, Request},
    hub::{Hub, fresh, without_receiver},
    jwks,
    mint::{complete_task, unique},
    orders,
    refusal::assert_signal_accepted,
    sidecar::Sidecar,
    stand_in::StandIn,
};
use tokio::time;

#[tokio::test]
async fn ten_changed_bytes_do_nothing() {
    changed_bytes(10, 5).await;
}

#[tokio::test]
#[ignore = "takes minutes: scripts/faults"]
async fn two_hundred_changed_bytes_do_nothing() {
    changed_bytes(200, 10).await;
}

/// Changes one byte in each of the next `count` pages, at positions all over the page, for `groups` groups of VMs.
async fn changed_bytes(count: usize, groups: usize) {
    let hub = Hub::start("bytes").await.unwrap();
    let tasks: Vec<_> = (0..10).map(|_| unique("task")).collect();
    for task in &tasks {
        assert_signal_accepted(&hub.push(&complete_task(task)).await.unwrap());
    }
    let left: Arc<Mutex<VecDeque<_>>> = Arc::new(Mutex::new((0..count).collect()));
    let next = left.clone();
    let relay = StandIn::before(hub.address(), move |_, _, mut page| {
        if let Some(number) = next.lock().unwrap().pop_front() {
            let position = number * page.len() / count;
            page[position] ^= 1 << (number % 8);
        }
        page
    });
    let relay = relay.await.unwrap();
    let config = hub.followed_by(&orders::config());
    let mut settings = Settings::new("bytes-envoy", config.clone()).workers(1);
    let listeners: Vec<_> = (1..groups).map(|group| format!("bytes-{group}")).collect();
    for name in &listeners {
        settings = settings.also(name, config.clone());
    }
    let settings = settings.patch(jwks::with_clusters(vec![relay.cluster()])).patch(without_receiver);
    let proxy = Sidecar::start(settings.patch(with_own_memory)).await.unwrap();
    let mut addresses = vec![proxy.app()];
    addresses.extend(listeners.iter().map(|name| proxy.listener(name)));

    let ask = async |at, token: &str| -> Answer {
        client::send(at, Http::One, &Request::get(orders::ORDER_PATH).bearer(token)).await.unwrap()
    };
    let (ended, allowed) = (fresh().task(&tasks[0]).sign(), fresh().sign());
    let began = Instant::now();
    // Each group of two VMs takes two changed pages in ten seconds, on a calm machine.
    let deadline = began + Duration::from_secs(60) + Duration::from_secs(10) * u32::try_from(count / groups).unwrap();
    loop {
        let mut ready = 0;
        for at in &addresses {
            assert_ne!(ask(*at, &ended).await.status, 200);
            let answer = ask(*at, &allowed).await;
            match answer.line().as_str() {
                "503 state_not_ready" => {}
                _ if answer.status == 200 && left.lock().unwrap().is_empty() => ready += 1,
                line => panic!("{line}, with {} pages to change:\n{}", left.lock().unwrap().len(), proxy.envoy().log()),
            }
        }
        if ready == addresses.len() {
            break;
        }
        assert!(Instant::now() < deadline, "{} pages to change:\n{}", left.lock().unwrap().len(), proxy.envoy().log());
        time::sleep(Duration::from_millis(100)).await;
    }
    let receipt = hub.wait_everywhere().await.unwrap();
    assert_eq!(receipt["confirmed"], json!(groups), "{receipt}");
    for at in &addresses {
        for task in &tasks {
            assert_eq!(ask(*at, &fresh().task(task).sign()).await.line(), "401 task_completed");
        }
    }
    eprintln!("{count} changed pages in {:?}", began.elapsed());
}

/// Gives each listener for requests VMs of its own, which share no memory with others.
fn with_own_memory(bootstrap: &mut Value) {
    for listener in bootstrap["static_resources"]["listeners"].as_array_mut().unwrap() {
        let id = format!("taskfence.{}", listener["name"].as_str().unwrap());
        let filter = "/filter_chains/0/filters/0/typed_config/http_filters/0/typed_config/config/vm_config";
        if let Some(vm) = listener.pointer_mut(filter) {
            vm["vm_id"] = json!(id);
        }
    }
}

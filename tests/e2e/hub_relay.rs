//! Proxies behind a relay: they get what the hub signed, and no relay can make them take anything else.

use std::{
    net::SocketAddr,
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use rcgen::SanType;
use serde_json::{Value, json};
use taskfence_tests::{
    bootstrap::Settings,
    client::Request,
    hub::{FEED, Hub, SOON, fresh, read_order, refused_as_ended, wait_ready, without_receiver},
    jwks,
    mint::{complete_task, unique},
    orders,
    refusal::{assert_allowed, assert_refused, assert_signal_accepted},
    sidecar::Sidecar,
    stand_in::{StandIn, forward, now_ms},
    tls::{self, Workload},
};
use tokio::time;

/// The position of a proxy that has nothing.
const START: &str = "0000000000000000.0.0000000000000000";

/// A relay of `root`.
async fn relay(name: &str, root: &Hub) -> Hub {
    Hub::relay(name, root, root.address(), |_| ()).await.unwrap()
}

/// A proxy that follows `relay`, which closes itself after `stale`, after a last change to its configuration.
async fn behind(name: &str, relay: &Hub, stale: &str, change: impl FnOnce(&mut Value)) -> Sidecar {
    through(name, relay, relay.cluster(), stale, change).await
}

/// The same through `cluster`, with the token of `relay`.
async fn through(name: &str, relay: &Hub, cluster: Value, stale: &str, change: impl FnOnce(&mut Value)) -> Sidecar {
    let mut config = relay.followed_by(&orders::config());
    config["signals"]["stale"]["after"] = json!(stale);
    change(&mut config);
    let settings = Settings::new(name, config).workers(1).patch(jwks::with_clusters(vec![cluster]));
    let node = json!({"id": name, "cluster": "relays"});
    let settings = settings.patch(without_receiver).patch(move |bootstrap| bootstrap["node"] = node);
    Sidecar::start(settings).await.unwrap()
}

/// The receipt for the head of `hub`, after a wait of so many seconds.
async fn receipt(hub: &Hub, wait: u64) -> Value {
    let head = hub.head().await.unwrap();
    hub.call("GET", &format!("/v1/feeds/{FEED}/receipts/{head}?wait={wait}"), None).await.unwrap().json()
}

/// A token of the role `relay` that `hub` knows.
async fn known_token(hub: &Hub, name: &str) -> String {
    let token = hub.new_token(name, "relay").unwrap();
    let deadline = Instant::now() + SOON;
    loop {
        let answer = hub.send(&Request::get("/v1/tokens").bearer(&token)).await.unwrap();
        if answer.status != 401 {
            return token;
        }
        assert!(Instant::now() < deadline, "{}", answer.text());
        time::sleep(Duration::from_millis(100)).await;
    }
}

async fn end_task(hub: &Hub) -> String {
    let task = unique("task");
    assert_signal_accepted(&hub.push(&complete_task(&task)).await.unwrap());
    task
}

/// Asks until the answer is `expected`; how long that took.
async fn becomes(proxy: &Sidecar, token: &str, expected: &str, within: Duration) -> Duration {
    let began = Instant::now();
    loop {
        let answer = read_order(proxy, token).await.unwrap();
        if answer.line() == expected {
            return began.elapsed();
        }
        assert!(began.elapsed() < within, "{} and not {expected}:\n{}", answer.line(), proxy.envoy().log());
        time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn a_revocation_is_in_force_behind_a_relay_and_the_receipt_says_whose_word_that_is() {
    let root = Hub::start("relay-root").await.unwrap();
    let before = end_task(&root).await;
    let relay = relay("relay-one", &root).await;
    let proxies = [
        behind("relay-behind", &relay, "30s", |_| ()).await,
        through("relay-beside", &root, root.cluster(), "30s", |_| ()).await,
    ];
    for proxy in &proxies {
        wait_ready(proxy).await.unwrap();
        assert_allowed(proxy, &read_order(proxy, &fresh().sign()).await.unwrap());
        refused_as_ended(proxy, &before).await.unwrap();
    }
    let task = end_task(&root).await;
    let receipt = receipt(&root, 20).await;
    assert_eq!((&receipt["complete"], &receipt["confirmed"]), (&json!(true), &json!(2)), "{receipt}");
    assert_eq!(receipt["confirmed_by_relays"], 1, "{receipt}");
    assert_eq!((&receipt["relays"][0]["relay"], &receipt["relays"][0]["reports"]), (&json!("relay-one"), &json!(true)));
    for proxy in &proxies {
        refused_as_ended(proxy, &task).await.unwrap();
    }
    let listed = root.call("GET", &format!("/v1/feeds/{FEED}/proxies"), None).await.unwrap().json();
    let one = listed.as_array().unwrap().iter().find(|one| one["node"] == "relay-behind").unwrap().clone();
    assert_eq!((&one["relay"], &one["behind"], &one["principal"]), (&json!("relay-one"), &json!(0), &json!("mesh")));
    // The relay is no proxy.
    assert_eq!(listed.as_array().unwrap().len(), 2, "{listed}");
    let task = unique("task");
    let url = format!("http://{}", root.address());
    let said = root.command(&[
        "signal",
        "complete",
        "--task",
        &task,
        "--subject-issuer",
        orders::ISSUER,
        "--reason",
        "over",
        "--hub",
        &url,
        "--feed",
        FEED,
        "--wait=20s",
    ]);
    let said = said.unwrap();
    assert!(said.contains("in force on 2 of 2 proxies"), "{said}");
    assert!(said.contains("1 of them by the word of a relay: relay-one"), "{said}");
}

#[tokio::test]
async fn proxies_go_on_without_the_hub_until_they_are_stale_and_no_longer() {
    let mut root = Hub::start("relay-gone").await.unwrap();
    let mut relay = relay("relay-gone-relay", &root).await;
    let proxy = behind("relay-gone-envoy", &relay, "8s", |_| ()).await;
    wait_ready(&proxy).await.unwrap();
    let task = end_task(&root).await;
    assert_eq!(receipt(&root, 20).await["complete"], true);
    root.kill();
    let killed = Instant::now();
    // The relay loses its memory too, and has no hub to ask.
    relay.kill();
    relay.run().await.unwrap();
    let token = fresh().sign();
    while killed.elapsed() < Duration::from_secs(4) {
        assert_allowed(&proxy, &read_order(&proxy, &token).await.unwrap());
        time::sleep(Duration::from_millis(200)).await;
    }
    let late = becomes(&proxy, &token, "503 state_stale", Duration::from_secs(15)).await;
    // 8 s after a statement that may be a second old when the hub was killed, and one more of rounding.
    assert!(killed.elapsed() < Duration::from_millis(10_500), "{late:?}");
    // A proxy that starts now gets all that the relay has, and does not open: nobody has signed its nonce.
    let started = behind("relay-gone-new", &relay, "8s", |_| ()).await;
    time::sleep(Duration::from_secs(3)).await;
    assert_refused(&started, &read_order(&started, &token).await.unwrap(), "state_not_ready");
    root.run().await.unwrap();
    for proxy in [&proxy, &started] {
        becomes(proxy, &token, "200", SOON).await;
        refused_as_ended(proxy, &task).await.unwrap();
    }
    let next = end_task(&root).await;
    assert_eq!(receipt(&root, 20).await["complete"], true);
    for proxy in [&proxy, &started] {
        refused_as_ended(proxy, &next).await.unwrap();
    }
}

#[tokio::test]
async fn a_relay_without_its_hub_vouches_for_so_long_and_no_longer() {
    let mut root = Hub::start("relay-vouch").await.unwrap();
    let relay = relay("relay-vouch-relay", &root).await;
    let task = end_task(&root).await;
    let first = behind("relay-vouch-first", &relay, "30s", |_| ()).await;
    wait_ready(&first).await.unwrap();
    refused_as_ended(&first, &task).await.unwrap();
    root.kill();
    let killed = Instant::now();
    let vouched = |config: &mut Value| config["signals"]["hub"]["caught_up"] = json!({"relay": "25s"});
    let early = behind("relay-vouch-early", &relay, "60s", vouched).await;
    wait_ready(&early).await.unwrap();
    assert!(killed.elapsed() < Duration::from_secs(26), "it was ready too late");
    let never = behind("relay-vouch-never", &relay, "60s", |_| ()).await;
    refused_as_ended(&early, &task).await.unwrap();
    assert_allowed(&early, &read_order(&early, &fresh().sign()).await.unwrap());
    // The very state that has just opened a proxy opens none when it is older.
    time::sleep(Duration::from_secs(26).saturating_sub(killed.elapsed())).await;
    let late = behind("relay-vouch-late", &relay, "60s", vouched).await;
    time::sleep(Duration::from_secs(4)).await;
    for proxy in [&never, &late] {
        assert_refused(proxy, &read_order(proxy, &fresh().sign()).await.unwrap(), "state_not_ready");
    }
}

/// What stands between a proxy and its relay, or between a relay and its hub, and changes what comes back once it is told
/// to: the answers of before, oldest first, and the answer of now.
async fn liar(
    address: SocketAddr,
    lie: impl Fn(&[Vec<u8>], Vec<u8>) -> (u16, Vec<u8>) + Send + Sync + 'static,
) -> (StandIn, Arc<AtomicBool>) {
    let (lies, seen, lie) = (Arc::<AtomicBool>::default(), Arc::<Mutex<Vec<Vec<u8>>>>::default(), Arc::new(lie));
    let told = lies.clone();
    let stand_in = StandIn::start(move |asked| {
        let (lies, seen, lie) = (lies.clone(), seen.clone(), lie.clone());
        Box::pin(async move {
            match forward(address, &asked).await {
                Ok((200, body)) => {
                    let mut seen = seen.lock().unwrap();
                    if lies.load(Ordering::SeqCst) {
                        return lie(&seen, body);
                    }
                    seen.push(body.clone());
                    (200, body)
                }
                Ok(other) => other,
                Err(_) => (503, Vec::new()),
            }
        })
    });
    (stand_in.await.unwrap(), told)
}

/// A proxy behind a relay that begins to lie never takes it: it goes on with what it has until it is stale. The log says
/// `why`, and the receipt of the hub is not complete.
async fn never_taken(
    name: &str,
    why: &str,
    lie: impl Fn(&[Vec<u8>], Vec<u8>) -> (u16, Vec<u8>) + Send + Sync + 'static,
) {
    let root = Hub::start(&format!("{name}-root")).await.unwrap();
    let relay = relay(&format!("{name}-relay"), &root).await;
    let (between, lies) = liar(relay.address(), lie).await;
    let proxy = through(name, &relay, between.cluster(), "6s", |_| ()).await;
    wait_ready(&proxy).await.unwrap();
    end_task(&root).await;
    assert_eq!(receipt(&root, 20).await["complete"], true);
    lies.store(true, Ordering::SeqCst);
    time::sleep(Duration::from_millis(200)).await;
    let task = end_task(&root).await;
    let token = fresh().task(&task).sign();
    let began = Instant::now();
    becomes(&proxy, &token, "503 state_stale", Duration::from_secs(12)).await;
    assert!(began.elapsed() < Duration::from_millis(8_500), "it closed itself after {:?}", began.elapsed());
    let receipt = receipt(&root, 0).await;
    assert_eq!((&receipt["complete"], receipt["waiting"].as_array().unwrap().len()), (&json!(false), 1), "{receipt}");
    let closes = receipt["waiting"][0]["closes_at_ms"].as_u64().unwrap();
    assert!(closes >= now_ms() && closes < now_ms() + 70_000, "{receipt}");
    let log = proxy.envoy().log();
    assert!(log.contains(why), "the log does not say `{why}`:\n{log}");
    lies.store(false, Ordering::SeqCst);
    becomes(&proxy, &token, "401 task_completed", SOON).await;
}

#[tokio::test]
async fn old_pages_of_a_relay_are_not_taken() {
    never_taken("relay-old", "the statement of the hub is older than one that was applied", |seen, _| {
        // The last but one: the last one may be the one that was applied.
        (200, seen[seen.len() - 2].clone())
    })
    .await;
}

#[tokio::test]
async fn changed_pages_of_a_relay_are_not_taken() {
    never_taken("relay-changed", "no key of `signals.hub.keys` made the signature of the statement", |_, mut body| {
        // Within the signature, which ends the statement.
        let signed = body.iter().position(|byte| *byte == b'\n').unwrap() - 20;
        body[signed] = if body[signed] == b'A' { b'B' } else { b'A' };
        (200, body)
    })
    .await;
}

#[tokio::test]
async fn entries_that_a_relay_takes_out_are_missed() {
    never_taken("relay-entries", "the entries are not those that the hub signed", |_, body| {
        let statement = body.iter().position(|byte| *byte == b'\n').unwrap();
        // Of a heartbeat nothing can be taken: something is added.
        let is_heartbeat = statement + 1 == body.len();
        let lied = if is_heartbeat { [body, vec![0]].concat() } else { body[..=statement].to_vec() };
        (200, lied)
    })
    .await;
}

#[tokio::test]
async fn pages_that_a_relay_withholds_close_its_proxies() {
    never_taken("relay-withheld", "the hub answers 503", |_, _| (503, Vec::new())).await;
}

#[tokio::test]
async fn the_pages_of_another_feed_are_not_taken() {
    let root = Hub::start_with("relay-feeds-root", |config| {
        let mut other = config["feeds"][0].clone();
        other["name"] = json!("other");
        config["feeds"].as_array_mut().unwrap().push(other);
    })
    .await
    .unwrap();
    let address = root.address();
    // It asks for the other feed, whatever it is asked for.
    let between = StandIn::start(move |mut asked| {
        Box::pin(async move {
            asked.target = asked.target.replace("/main?", "/other?");
            forward(address, &asked).await.unwrap_or((503, Vec::new()))
        })
    });
    let between = between.await.unwrap();
    let proxy = through("relay-feeds-envoy", &root, between.cluster(), "30s", |_| ()).await;
    time::sleep(Duration::from_secs(2)).await;
    assert_refused(&proxy, &read_order(&proxy, &fresh().sign()).await.unwrap(), "state_not_ready");
    let log = proxy.envoy().log();
    assert!(log.contains("the statement is by another hub or about another feed"), "{log}");
    // A relay does not take them either, and a feed that it does not follow is not there.
    let relay = Hub::relay("relay-feeds", &root, root.address(), |_| ()).await.unwrap();
    let request = Request::get(&format!("/v1/feeds/other?after={START}&applied={START}")).bearer(relay.sidecar());
    assert_eq!(relay.send(&request).await.unwrap().status, 404);
}

/// Invented acknowledgements make a receipt say "by the word of a relay", and change nothing else: not the time by which the
/// proxy has closed itself, and nothing about proxies that follow the hub themselves.
#[tokio::test]
async fn invented_acknowledgements_lie_about_the_word_of_the_relay_only() {
    let root = Hub::start("relay-acks").await.unwrap();
    let direct = through("relay-acks-direct", &root, root.cluster(), "6s", |_| ()).await;
    wait_ready(&direct).await.unwrap();
    let listed = root.call("GET", &format!("/v1/feeds/{FEED}/proxies"), None).await.unwrap().json();
    let id = listed[0]["id"].as_str().unwrap().to_owned();
    let token = known_token(&root, "liar").await;
    let tell = async |followers: Value| {
        let body = json!({"instance": "one", "followers": followers, "gone": []}).to_string();
        let path = format!("/v1/feeds/{FEED}/followers");
        let request = Request::new("POST", &path).bearer(&token).header("content-type", "application/json").body(body);
        root.send(&request).await.unwrap()
    };
    end_task(&root).await;
    assert_eq!(receipt(&root, 20).await["complete"], true);
    let applied = root.head().await.unwrap();
    let stale =
        |seconds: u64| json!({"id": id, "node": "relay-acks-behind", "mode": "enforce", "stale_after": seconds});
    // The id of a proxy that follows the hub itself is another one when a relay tells of it.
    let one = json!({"id": id, "principal": "mesh", "applied": applied, "seen_ms": now_ms(), "report": stale(6)});
    assert_eq!(tell(json!([one])).await.status, 200);
    let said = receipt(&root, 0).await;
    assert_eq!((&said["confirmed"], &said["confirmed_by_relays"]), (&json!(2), &json!(1)), "{said}");
    // A revision that the hub does not know counts for nothing.
    let invented = json!({"id": id, "principal": "mesh", "applied": "1.999999.0123456789abcdef", "seen_ms": now_ms()});
    let invented = tell(json!([invented])).await;
    assert!(matches!(invented.status, 200 | 400), "{} {}", invented.status, invented.text());
    direct.envoy().signal("STOP").unwrap();
    let began = now_ms();
    end_task(&root).await;
    let said = receipt(&root, 1).await;
    assert_eq!(said["complete"], false, "{said}");
    let waiting = said["waiting"].as_array().unwrap();
    assert_eq!(waiting.len(), 2, "{said}");
    for one in waiting {
        // `stale.after`, and a minute for its clock, after what the hub had signed last.
        let left = one["closes_at_ms"].as_u64().unwrap() - began;
        assert!((60_000..=68_000).contains(&left), "{left} ms: {one}");
    }
    // To say that it has applied everything changes the word of the relay, and nothing about the other proxy.
    let head = root.head().await.unwrap();
    let all = json!({"id": id, "principal": "mesh", "applied": head, "seen_ms": now_ms()});
    assert_eq!(tell(json!([all])).await.status, 200);
    let said = receipt(&root, 0).await;
    let waiting: Vec<_> = said["waiting"].as_array().unwrap().iter().map(|one| one["relay"].clone()).collect();
    assert_eq!((waiting, &said["complete"]), (vec![json!(null)], &json!(false)), "{said}");
    direct.envoy().signal("CONT").unwrap();
    // A sidecar may not report, and a relay may not do anything else.
    let request = Request::new("POST", &format!("/v1/feeds/{FEED}/followers")).bearer(root.sidecar()).body("{}");
    assert_eq!(root.send(&request).await.unwrap().status, 403);
    let request = Request::get(&format!("/v1/feeds/{FEED}/proxies")).bearer(&token);
    assert_eq!(root.send(&request).await.unwrap().status, 403);
}

/// A relay that takes pages and says nothing of what is behind it keeps every receipt from being complete.
#[tokio::test]
async fn a_relay_that_does_not_report_is_named_in_the_receipt() {
    let root = Hub::start("relay-silent-root").await.unwrap();
    let token = known_token(&root, "silent").await;
    let ask = Request::get(&format!("/v1/feeds/{FEED}?after={START}&applied={START}")).bearer(&token);
    let ask = ask.header("taskfence-follower", r#"{"id":"relay-silent"}"#);
    let answer = root.send(&ask).await.unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text());
    end_task(&root).await;
    let said = receipt(&root, 0).await;
    assert_eq!((&said["complete"], &said["waiting"]), (&json!(false), &json!([])), "{said}");
    assert_eq!((&said["relays"][0]["relay"], &said["relays"][0]["reports"]), (&json!("silent"), &json!(false)));
}

/// Proxies that lose their relay go on at another one, whose pages begin elsewhere, or at the hub.
#[tokio::test]
async fn a_proxy_moves_to_another_relay_and_to_the_hub() {
    let root = Hub::start("relay-move").await.unwrap();
    let mut first = relay("relay-move-a", &root).await;
    let before = end_task(&root).await;
    let second = Hub::relay("relay-move-b", &root, root.address(), |_| ()).await.unwrap();
    // All three take the token of the first: the proxy has one.
    let target = Arc::new(Mutex::new(first.address()));
    let tokens = [(second.address(), second.sidecar().to_owned()), (root.address(), root.sidecar().to_owned())];
    let pointed = target.clone();
    let between = StandIn::start(move |mut asked| {
        let target = *pointed.lock().unwrap();
        if let Some((_, token)) = tokens.iter().find(|(address, _)| *address == target) {
            asked.authorization = Some(format!("Bearer {token}"));
        }
        Box::pin(async move { forward(target, &asked).await.unwrap_or((503, Vec::new())) })
    });
    let between = between.await.unwrap();
    let proxy = through("relay-move-envoy", &first, between.cluster(), "30s", |_| ()).await;
    wait_ready(&proxy).await.unwrap();
    refused_as_ended(&proxy, &before).await.unwrap();
    first.kill();
    for next in [second.address(), root.address()] {
        *target.lock().unwrap() = next;
        let moved = Instant::now();
        for _ in 0..20 {
            end_task(&root).await;
        }
        let task = end_task(&root).await;
        let token = fresh().task(&task).sign();
        becomes(&proxy, &token, "401 task_completed", SOON).await;
        eprintln!("in force {:?} after the move", moved.elapsed());
        assert!(moved.elapsed() < Duration::from_secs(8), "{:?}", moved.elapsed());
    }
}

#[tokio::test]
async fn a_relay_follows_its_hub_through_a_restart_and_a_new_epoch() {
    let mut root = Hub::start("relay-epoch").await.unwrap();
    let relay = relay("relay-epoch-relay", &root).await;
    let proxy = behind("relay-epoch-envoy", &relay, "30s", |_| ()).await;
    wait_ready(&proxy).await.unwrap();
    let first = end_task(&root).await;
    assert_eq!(receipt(&root, 20).await["complete"], true);
    let backup = root.folder().join("backup.sqlite");
    root.command(&["hub", "backup", "--config", &root.config_file(), &backup.display().to_string()]).unwrap();
    let second = end_task(&root).await;
    assert_eq!(receipt(&root, 20).await["complete"], true);
    root.stop().unwrap();
    let data = root.folder().join("data");
    for name in ["hub.sqlite", "hub.sqlite-wal", "hub.sqlite-shm"] {
        let _ = std::fs::remove_file(data.join(name));
    }
    std::fs::copy(&backup, data.join("hub.sqlite")).unwrap();
    // Not ready: what came after the backup must be dealt with. It serves all the same.
    root.run_until(503).await.unwrap();
    let third = end_task(&root).await;
    for task in [&first, &second, &third] {
        becomes(&proxy, &fresh().task(task).sign(), "401 task_completed", SOON).await;
    }
    let ready = relay.send(&Request::get("/readyz")).await.unwrap();
    assert_eq!(ready.status, 200, "{}", ready.text());
    assert!(relay.log().contains("the hub has another history"), "{}", relay.log());
}

#[tokio::test]
async fn a_relay_says_how_it_is() {
    let mut root = Hub::start("relay-status").await.unwrap();
    let relay = relay("relay-status-relay", &root).await;
    let show = relay.call("GET", "/v1/relay", None).await.unwrap().json();
    assert_eq!((&show["feeds"][0]["name"], &show["feeds"][0]["hub_answers"]), (&json!(FEED), &json!(true)), "{show}");
    let metrics = relay.call("GET", "/metrics", None).await.unwrap().text();
    assert!(metrics.contains("taskfence_relay_hub_answers{feed=\"main\"} 1"), "{metrics}");
    for path in ["/v1/feeds", "/v1/tokens", "/v1/feeds/main/proxies"] {
        assert_eq!(relay.call("GET", path, None).await.unwrap().status, 404, "{path}");
    }
    // A relay behind a relay.
    let token = known_token(&relay, "second").await;
    let request = Request::get(&format!("/v1/feeds/{FEED}?after={START}&applied={START}")).bearer(&token);
    let answer = relay.send(&request.header("taskfence-follower", r#"{"id":"relay-two"}"#)).await.unwrap();
    assert_eq!((answer.status, answer.text().contains("set `follow.url` to the hub itself")), (403, true));
    root.kill();
    let deadline = Instant::now() + SOON;
    loop {
        let show = relay.call("GET", "/v1/relay", None).await.unwrap().json();
        if show["feeds"][0]["hub_answers"] == false {
            break;
        }
        assert!(Instant::now() < deadline, "{show}");
        time::sleep(Duration::from_millis(100)).await;
    }
    let ready = relay.send(&Request::get("/readyz")).await.unwrap();
    assert_eq!((ready.status, ready.text().contains("the hub does not answer")), (200, true), "{}", ready.text());
    assert!(relay.log().contains("the feed of the hub cannot be followed"), "{}", relay.log());
}

#[tokio::test]
async fn a_relay_follows_by_its_certificate_and_is_cut_off_with_it() {
    let names = vec![
        SanType::DnsName(orders::HOST.try_into().unwrap()),
        SanType::IpAddress(std::net::Ipv4Addr::LOCALHOST.into()),
    ];
    let (server, own) = (Workload::with(names), Workload::new("spiffe://mesh.example/ns/relays/sa/one"));
    let root = Hub::start_with("relay-mtls-root", |config| {
        let folder = PathBuf::from(config["data"].as_str().unwrap()).parent().unwrap().to_owned();
        for (name, content) in [("c.pem", server.pem()), ("k.pem", &server.key_pem()), ("ca.pem", tls::authority())] {
            std::fs::write(folder.join(name), content).unwrap();
        }
        config["listen"]["tls"] = json!({
            "certificate": folder.join("c.pem"), "key": folder.join("k.pem"), "client_ca": folder.join("ca.pem")
        });
        config["access"] = json!([{"spiffe": "spiffe://mesh.example/ns/relays/", "role": "relay"}]);
    })
    .await
    .unwrap();
    let url = format!("https://{}", root.address());
    let authority = root.folder().join("ca.pem");
    let relay = Hub::relay("relay-mtls", &root, root.address(), |config| {
        let folder = PathBuf::from(config["data"].as_str().unwrap()).parent().unwrap().to_owned();
        std::fs::write(folder.join("own.pem"), own.pem()).unwrap();
        std::fs::write(folder.join("own.key"), own.key_pem()).unwrap();
        let follow = &mut config["follow"];
        follow["url"] = json!(url);
        follow.as_object_mut().unwrap().remove("token_file");
        follow["certificate"] = json!(folder.join("own.pem"));
        follow["key"] = json!(folder.join("own.key"));
        follow["ca"] = json!(authority);
    })
    .await
    .unwrap();
    let proxy = behind("relay-mtls-envoy", &relay, "30s", |_| ()).await;
    wait_ready(&proxy).await.unwrap();
    let receipt = receipt(&root, 20).await;
    assert_eq!(receipt["relays"][0]["relay"], "spiffe://mesh.example/ns/relays/sa/one", "{receipt}");
    // Files that are replaced are read again: another workload, which the hub gives no role.
    let stranger = Workload::new("spiffe://mesh.example/ns/other/sa/one");
    std::fs::write(relay.folder().join("own.pem"), stranger.pem()).unwrap();
    std::fs::write(relay.folder().join("own.key"), stranger.key_pem()).unwrap();
    let deadline = Instant::now() + SOON;
    while !relay.log().contains("cut off: the hub answers 403") {
        assert!(Instant::now() < deadline, "{}", relay.log());
        time::sleep(Duration::from_millis(100)).await;
    }
}

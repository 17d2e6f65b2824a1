//! Streams that the hub makes and keeps at a transmitter. The transmitter of these tests is written from the
//! specifications alone, and notes each breach of them ([`taskfence_tests::ssf_transmitter`]).
//!
//! What a receiver must do (SSF 1.0, RFC 8935, RFC 8936, RFC 6749 and others), and the test that shows it:
//!
//! | assertion | test |
//! |---|---|
//! | metadata stands between host and path, or at its former place; its issuer is the one that was asked for | `metadata_is_found_and_must_be_that_of_the_issuer` |
//! | an access token comes by client credentials: basic, post, secret JWT, private key JWT; RFC 9728 and 8414 name the server; only the scopes of SSF; header only | `every_way_to_authenticate` |
//! | a token is renewed before it ends; 401 is tried again with a new one | `every_way_to_authenticate`, `a_token_that_ended_is_replaced` |
//! | a stream is made with events and delivery, and without what the transmitter decides | all: `Transmitter::breaches` is empty |
//! | a stream that exists is used again; 409 and streams of others are left alone | `a_stream_is_made_once_and_others_are_left_alone` |
//! | what differs from the configuration is changed (PATCH) | `a_changed_configuration_changes_the_stream` |
//! | `iss` and `aud` of the stream are compared with the configuration | `a_stream_that_is_for_others_is_not_used` |
//! | poll: acknowledged after the commit, `setErrs` with the codes of RFC 8935, one bad SET does not stop the rest | `a_page_with_bad_sets_is_taken_in_one_by_one` |
//! | poll: long answers are bounded, a hanging poll is given up | `huge_and_hanging_answers_are_given_up` |
//! | push: the secret of the hub, and no other, is accepted | `a_pushed_signal_needs_the_secret_of_the_hub` |
//! | verification: a fresh `state` each, another one is refused with `invalid_state`, the interval and 429 are kept | `verifications_have_a_fresh_state_and_keep_the_interval` |
//! | status: paused and disabled act on freshness; a deleted stream is made again | `what_becomes_of_the_stream_acts_on_a_real_proxy` |
//! | stream-updated says that the stream is disabled: what is there counts as lost until a verification | `a_stream_that_says_it_is_disabled_acts_on_a_real_proxy_until_a_verification` |
//! | `inactivity_timeout`: the stream is touched in time, and enabled again after a longer silence | `a_stream_is_touched_in_time_and_enabled_again` |
//! | several streams of one issuer stay apart | `two_streams_of_one_issuer_stay_apart` |
//! | SETs that come again have no new effect | `a_hundred_thousand_redelivered_sets_change_nothing` |
//! | a signal is in force at a real proxy | `a_polled_signal_reaches_a_real_proxy` |
//! | one command makes the stream, verifies it and writes it down | `one_command_wires_a_transmitter`, `one_command_wires_a_transmitter_that_pushes` |

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use taskfence_tests::{
    bootstrap::Settings,
    client::Request,
    hub::{FEED, Hub, SOON, fresh, read_order, refused_as_ended, wait_ready, without_receiver},
    jwks,
    mint::{self, complete_task, revoke_token, ssf, unique},
    orders,
    refusal::assert_allowed,
    sidecar::Sidecar,
    ssf_transmitter::{CLIENT, TOKEN, Transmitter},
};
use tokio::time::sleep;

/// The folder of a hub whose configuration is being written.
fn folder(config: &Value) -> PathBuf {
    Path::new(config["data"].as_str().unwrap()).parent().unwrap().to_owned()
}

/// `ssf` with a static token and a stream that is polled.
fn polled(folder: &Path) -> Value {
    fs::write(folder.join("token"), TOKEN).unwrap();
    json!({"credentials": {"token_file": folder.join("token")}, "verify": "1s", "wait": "5s", "events": ["task-completed"]})
}

/// A hub with a managed stream at `transmitter`, after a change of the entry.
async fn hub_of(name: &str, transmitter: &Transmitter, change: impl FnOnce(&mut Value, &Value)) -> Hub {
    Hub::start_with(name, |config| {
        let mut entry = transmitter.entry(polled(&folder(config)));
        change(&mut entry, config);
        config["feeds"][0]["signals"]["transmitters"] = json!([entry]);
    })
    .await
    .unwrap()
}

/// Waits until a signal that is sent now is acknowledged.
async fn delivers(transmitter: &Transmitter, hub: &Hub) {
    transmitter
        .wait("a stream", SOON, |one| !one.streams().is_empty())
        .await
        .unwrap_or_else(|error| panic!("{error}\n{}", hub.log()));
    let head = hub.head().await.unwrap();
    transmitter.send(&complete_task(&unique("task")));
    let deadline = Instant::now() + SOON;
    while hub.head().await.unwrap() == head {
        assert!(Instant::now() < deadline, "the signal is not there: {:?}\n{}", transmitter.calls(), hub.log());
        sleep(Duration::from_millis(30)).await;
    }
    let done = |one: &Transmitter| one.waiting() == 0;
    transmitter.wait("all is acknowledged", SOON, done).await.unwrap_or_else(|error| panic!("{error}\n{}", hub.log()));
}

/// Waits until the log of the hub has this text.
async fn logs(hub: &Hub, text: &str) {
    let deadline = Instant::now() + SOON;
    while !hub.log().contains(text) {
        assert!(Instant::now() < deadline, "`{text}` is not in\n{}", hub.log());
        sleep(Duration::from_millis(30)).await;
    }
}

fn no_breach(transmitter: &Transmitter) {
    assert!(transmitter.breaches().is_empty(), "{:?}", transmitter.breaches());
}

/// The value of a sample of the hub's metrics.
async fn metric(hub: &Hub, sample: &str) -> f64 {
    let text = hub.call("GET", "/metrics", None).await.unwrap().text();
    let lines = text.lines().filter(|line| line.starts_with(sample));
    lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
}

#[tokio::test]
async fn a_polled_signal_reaches_a_real_proxy() {
    let transmitter = Transmitter::start().unwrap();
    let hub = hub_of("ssf-poll", &transmitter, |_, _| {}).await;
    let proxy = Sidecar::start(hub.plain("ssf-poll-envoy", &orders::config())).await.unwrap();
    wait_ready(&proxy).await.unwrap();
    let task = unique("task");
    assert_allowed(&proxy, &read_order(&proxy, &fresh().task(&task).sign()).await.unwrap());
    transmitter.wait("a stream", SOON, |one| one.streams().len() == 1).await.unwrap();
    transmitter.send(&complete_task(&task));
    // What is acknowledged is stored.
    transmitter.wait("all is acknowledged", SOON, |one| one.waiting() == 0).await.unwrap();
    hub.wait_everywhere().await.unwrap();
    refused_as_ended(&proxy, &task).await.unwrap();
    no_breach(&transmitter);
}

#[tokio::test]
async fn a_pushed_signal_needs_the_secret_of_the_hub() {
    let transmitter = Transmitter::start().unwrap();
    let push = |entry: &mut Value, config: &Value| {
        let at = config["listen"]["address"].as_str().unwrap();
        entry["ssf"]["delivery"] = json!("push");
        entry["ssf"]["endpoint"] = json!(format!("http://{at}/v1/feeds/{FEED}/signals"));
        entry["ssf"].as_object_mut().unwrap().remove("wait");
    };
    let hub = hub_of("ssf-push", &transmitter, push).await;
    delivers(&transmitter, &hub).await;
    logs(&hub, "the hub made a stream").await;
    assert!(transmitter.push_answers().iter().all(|status| *status == 202), "{:?}", transmitter.push_answers());
    assert_eq!(transmitter.count("POST /poll"), 0);
    let tokens = hub.command(&["hub", "token", "list", "--config", &hub.config_file()]).unwrap();
    assert!(tokens.contains("ssf/main/"), "{tokens}");
    // Its signature is good, but whoever brings it does not know the secret.
    let (_, set) = transmitter.signed(&complete_task(&unique("task")));
    let refused = hub.push_text(&set).await.unwrap();
    assert_eq!((refused.status, refused.json()["err"].as_str()), (400, Some("authentication_failed")), "{refused:?}");
    let path = format!("/v1/feeds/{FEED}/signals");
    assert_eq!(hub.send(&Request::push(&path, &set)).await.unwrap().status, 401);
    no_breach(&transmitter);
}

#[tokio::test]
async fn metadata_is_found_and_must_be_that_of_the_issuer() {
    let tenant = Transmitter::start_at("/tenants/t1").unwrap();
    let hub = hub_of("ssf-tenant", &tenant, |_, _| {}).await;
    delivers(&tenant, &hub).await;
    assert_eq!(tenant.count("GET /.well-known/ssf-configuration/tenants/t1 200"), 1);
    drop(hub);
    let legacy = Transmitter::start().unwrap();
    legacy.set(|one| one.legacy = true);
    delivers(&legacy, &hub_of("ssf-legacy", &legacy, |_, _| {}).await).await;
    let other = Transmitter::start().unwrap();
    other.set(|one| one.issuer = Some("https://evil.example".to_owned()));
    let hub = hub_of("ssf-other", &other, |_, _| {}).await;
    logs(&hub, "is that of the issuer `https://evil.example`").await;
    assert_eq!(other.count("POST /streams"), 0, "no credentials went there");
    assert_eq!(other.count("GET /streams"), 0);
}

#[tokio::test]
async fn every_way_to_authenticate() {
    for method in ["client_secret_basic", "client_secret_post", "client_secret_jwt", "private_key_jwt"] {
        let transmitter = Transmitter::start().unwrap();
        transmitter.set(|one| (one.methods, one.token_life) = (vec![method.to_owned()], 3));
        let key = rcgen::KeyPair::generate().unwrap();
        transmitter.trust_client_key(&key.public_key_pem());
        let credentials = |entry: &mut Value, config: &Value| {
            let folder = folder(config);
            fs::write(folder.join("secret"), CLIENT.1).unwrap();
            fs::write(folder.join("key.pem"), key.serialize_pem()).unwrap();
            entry["ssf"]["credentials"] = match method {
                "private_key_jwt" => json!({"client_id": CLIENT.0, "key_file": folder.join("key.pem")}),
                _ => json!({"client_id": CLIENT.0, "client_secret_file": folder.join("secret")}),
            };
        };
        let hub = hub_of(&format!("ssf-{method}"), &transmitter, credentials).await;
        delivers(&transmitter, &hub).await;
        transmitter.wait("a new token", SOON, |one| one.count("POST /token 200") >= 2).await.unwrap();
        delivers(&transmitter, &hub).await;
        let refused = transmitter.calls().into_iter().filter(|call| call.ends_with(" 401")).count();
        assert_eq!(refused, 0, "{method}: it is renewed before it ends: {:?}", transmitter.calls());
        assert!(!hub.log().contains(CLIENT.1), "the secret is in the log");
        no_breach(&transmitter);
    }
}

#[tokio::test]
async fn a_token_that_ended_is_replaced() {
    let transmitter = Transmitter::start().unwrap();
    let hub = hub_of("ssf-ended", &transmitter, |entry, config| {
        let folder = folder(config);
        fs::write(folder.join("secret"), CLIENT.1).unwrap();
        entry["ssf"]["credentials"] = json!({"client_id": CLIENT.0, "client_secret_file": folder.join("secret")});
    })
    .await;
    delivers(&transmitter, &hub).await;
    for _ in 0..3 {
        let tokens = transmitter.count("POST /token 200");
        transmitter.end_tokens();
        delivers(&transmitter, &hub).await;
        assert!(transmitter.count("POST /token 200") > tokens);
    }
    let log = hub.log();
    assert!(!log.contains("ERROR"), "an ended token is no failure:\n{log}");
    no_breach(&transmitter);
}

#[tokio::test]
async fn a_stream_is_made_once_and_others_are_left_alone() {
    let transmitter = Transmitter::start().unwrap();
    let other = transmitter.add_stream(json!({
        "iss": transmitter.issuer(), "aud": orders::SIGNALS_AUDIENCE, "description": "of another receiver",
        "delivery": {"method": "urn:ietf:rfc:8936", "endpoint_url": format!("http://{}/poll/x", transmitter.address())}
    }));
    transmitter.set(|one| one.one_stream = true);
    let mut hub = hub_of("ssf-once", &transmitter, |_, _| {}).await;
    logs(&hub, "a stream already that this hub did not make (409)").await;
    assert_eq!((transmitter.streams().len(), transmitter.count("POST /poll")), (0, 0));
    transmitter.set(|one| one.one_stream = false);
    delivers(&transmitter, &hub).await;
    assert_eq!(transmitter.streams().len(), 1);
    // After a restart it is the same stream; also where the store does not know it any more.
    hub.stop().unwrap();
    hub.run().await.unwrap();
    delivers(&transmitter, &hub).await;
    hub.stop().unwrap();
    for end in ["", "-wal", "-shm"] {
        let _ = fs::remove_file(hub.folder().join(format!("data/hub.sqlite{end}")));
    }
    let polls = transmitter.count("POST /poll");
    hub.run().await.unwrap();
    transmitter.wait("a poll", SOON, |one| one.count("POST /poll") > polls + 1).await.unwrap();
    assert_eq!(transmitter.count("POST /streams 201"), 1, "{:?}", transmitter.calls());
    assert_eq!(transmitter.count(&format!("POST /poll/{other}")), 0);
    no_breach(&transmitter);
}

#[tokio::test]
async fn a_changed_configuration_changes_the_stream() {
    let transmitter = Transmitter::start().unwrap();
    let mut hub = hub_of("ssf-changed", &transmitter, |_, _| {}).await;
    delivers(&transmitter, &hub).await;
    let id = transmitter.streams()[0].clone();
    assert_eq!(transmitter.config(&id)["events_requested"], json!([mint::TASK_COMPLETED]));
    hub.stop().unwrap();
    let file = hub.config_file();
    let changed =
        fs::read_to_string(&file).unwrap().replace("\"task-completed\"", "\"task-completed\", \"session-revoked\"");
    fs::write(&file, changed).unwrap();
    hub.run_until(503).await.unwrap();
    hub.command(&["hub", "accept-config", "--config", &file]).unwrap();
    transmitter.wait("a change", SOON, |one| one.count("PATCH /streams 200") == 1).await.unwrap();
    assert_eq!(transmitter.config(&id)["events_requested"], json!([mint::TASK_COMPLETED, mint::SESSION_REVOKED]));
    delivers(&transmitter, &hub).await;
    assert_eq!(transmitter.streams(), [id]);
    no_breach(&transmitter);
}

#[tokio::test]
async fn a_stream_that_is_for_others_is_not_used() {
    let transmitter = Transmitter::start().unwrap();
    transmitter.set(|one| one.audience = json!("https://other.example"));
    let hub = hub_of("ssf-audience", &transmitter, |_, _| {}).await;
    logs(&hub, "are for `https://other.example`, and `audience` is another; write this `audience`").await;
    assert_eq!(transmitter.count("POST /poll"), 0);
    let transmitter = Transmitter::start().unwrap();
    transmitter.set(|one| one.set_issuer = Some("https://other.example".to_owned()));
    let hub = hub_of("ssf-issuer", &transmitter, |_, _| {}).await;
    logs(&hub, "have the issuer `https://other.example`").await;
    assert_eq!(transmitter.count("POST /poll"), 0);
}

#[tokio::test]
async fn a_page_with_bad_sets_is_taken_in_one_by_one() {
    let transmitter = Transmitter::start().unwrap();
    let hub = hub_of("ssf-bad", &transmitter, |_, _| {}).await;
    delivers(&transmitter, &hub).await;
    let good = complete_task(&unique("task"));
    let aud = transmitter.signed(&good).0;
    let of = |jti: &str| complete_task(&unique("task")).claim("jti", jti);
    let forger = mint::Keyring::generate("idp");
    let (issuer, audience) = (transmitter.issuer(), orders::SIGNALS_AUDIENCE);
    let sign = |jwt: mint::Jwt| jwt.sign();
    transmitter.send_text("garbage", "no SET at all");
    transmitter.send_text("aud", &sign(of("aud").claim("iss", issuer.as_str()).claim("aud", "https://other.example")));
    transmitter.send_text("iss", &sign(of("iss").claim("iss", "https://evil.example").claim("aud", audience)));
    let forged = of("forged").claim("iss", issuer.as_str()).claim("aud", audience);
    transmitter.send_text("forged", &sign(forged.signed_by(forger.signer(mint::Alg::Es256))));
    transmitter.send_text(
        "foreign",
        &sign(
            revoke_token("x")
                .claim("jti", "foreign")
                .claim("iss", issuer.as_str())
                .claim("aud", audience)
                .claim("sub_id", json!({"format": "iss_sub", "iss": "https://nobody.example", "sub": "a"})),
        ),
    );
    transmitter.send(&good);
    delivers(&transmitter, &hub).await;
    assert!(transmitter.error_of(&aud).is_none());
    for (jti, code) in [
        ("garbage", "invalid_request"),
        ("aud", "invalid_audience"),
        ("iss", "invalid_issuer"),
        ("forged", "authentication_failed"),
        ("foreign", "access_denied"),
    ] {
        let error = transmitter.error_of(jti).unwrap_or_else(|| panic!("nothing was said about {jti}"));
        assert_eq!(error["err"], code, "{jti}: {error}");
        assert!(error["description"].is_string());
    }
    assert!(metric(&hub, "taskfence_hub_ssf_sets_total").await > 5.0);
    no_breach(&transmitter);
}

#[tokio::test]
async fn huge_and_hanging_answers_are_given_up() {
    let transmitter = Transmitter::start().unwrap();
    let hub = hub_of("ssf-huge", &transmitter, |entry, _| entry["ssf"]["wait"] = json!("1s")).await;
    delivers(&transmitter, &hub).await;
    transmitter.set(|one| one.page_bytes = 20 * 1024 * 1024);
    logs(&hub, "is answered with more than 16777216 bytes").await;
    transmitter.set(|one| one.page_bytes = 0);
    delivers(&transmitter, &hub).await;
    // Nobody answers: the poll is given up, the hub goes on to ask, and takes up where it was.
    transmitter.set(|one| one.hang_polls = true);
    transmitter.send(&complete_task(&unique("task")));
    let deadline = Instant::now() + SOON * 2;
    let failures = "taskfence_hub_ssf_failures_total";
    let before = metric(&hub, failures).await;
    while metric(&hub, failures).await <= before {
        assert!(Instant::now() < deadline, "the poll is not given up: {:?}\n{}", transmitter.calls(), hub.log());
        sleep(Duration::from_millis(100)).await;
    }
    transmitter.set(|one| one.hang_polls = false);
    delivers(&transmitter, &hub).await;
    assert_eq!(
        hub.send(&Request::get("/readyz")).await.unwrap().status,
        200,
        "a foreign service does not make the hub unready"
    );
    no_breach(&transmitter);
}

#[tokio::test]
async fn verifications_have_a_fresh_state_and_keep_the_interval() {
    let transmitter = Transmitter::start().unwrap();
    transmitter.set(|one| one.min_verification_interval = Some(3));
    let hub = hub_of("ssf-verify", &transmitter, |_, _| {}).await;
    transmitter.wait("verifications", SOON, |one| one.count("POST /verify 204") >= 3).await.unwrap();
    assert_eq!(transmitter.count("POST /verify 429"), 0, "the interval is kept: {:?}", transmitter.calls());
    let deadline = Instant::now() + SOON;
    while metric(&hub, "taskfence_hub_ssf_last_verification_seconds").await == 0.0 {
        assert!(Instant::now() < deadline, "{}", hub.log());
        sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(metric(&hub, "taskfence_hub_ssf_stream_state{feed=\"main\",stream=\"").await, 1.0);
    // A state that nobody asked for.
    let guess = mint::signal(&ssf("verification"), json!({"format": "opaque", "id": "x"})).event("state", "guess");
    transmitter.send(&guess);
    transmitter.wait("a refusal", SOON, |one| one.error_of(&guess.id()).is_some()).await.unwrap();
    assert_eq!(transmitter.error_of(&guess.id()).unwrap()["err"], "invalid_state");
    // One without a state is the transmitter's own wish.
    let own = mint::signal(&ssf("verification"), json!({"format": "opaque", "id": "x"}));
    transmitter.send(&own);
    delivers(&transmitter, &hub).await;
    assert!(transmitter.error_of(&own.id()).is_none());
    // Too many requests: the hub asks less often, and signals go on to come.
    transmitter.set(|one| one.no_verifications = true);
    transmitter.wait("429", SOON, |one| one.count("POST /verify 429") >= 1).await.unwrap();
    delivers(&transmitter, &hub).await;
    no_breach(&transmitter);
}

#[tokio::test]
async fn what_becomes_of_the_stream_acts_on_a_real_proxy() {
    let transmitter = Transmitter::start().unwrap();
    let hub = hub_of("ssf-status", &transmitter, |_, _| {}).await;
    let mut settings = hub.followed_by(&orders::config());
    settings["signals"]["stale"] = json!({"after": "6s"});
    let settings = Settings::new("ssf-status-envoy", settings).balanced();
    let settings = settings.patch(jwks::with_clusters(vec![hub.cluster()])).patch(without_receiver);
    let node = |bootstrap: &mut Value| bootstrap["node"] = json!({"id": "ssf-status", "cluster": "tests"});
    let proxy = Sidecar::start(settings.patch(node)).await.unwrap();
    wait_ready(&proxy).await.unwrap();
    let becomes = async |line: &str| {
        let deadline = Instant::now() + SOON * 2;
        loop {
            let answer = read_order(&proxy, &fresh().sign()).await.unwrap();
            if answer.line() == line {
                return;
            }
            assert!(
                Instant::now() < deadline,
                "not {line} but {}\n{}\n{:?}",
                answer.line(),
                hub.log(),
                transmitter.calls()
            );
            sleep(Duration::from_millis(100)).await;
        }
    };
    // Verifications keep the state fresh.
    becomes("200").await;
    sleep(Duration::from_secs(8)).await;
    becomes("200").await;
    // Paused: what comes later is not known, so the state gets old.
    transmitter.set(|one| one.can_enable = false);
    transmitter.set_status("paused", false);
    becomes("503 state_stale").await;
    transmitter.set_status("enabled", false);
    becomes("200").await;
    // Deleted: signals may be lost until the hub has another stream that works.
    transmitter.delete_streams();
    logs(&hub, "was deleted at the transmitter, and the hub made another: signals may be lost").await;
    delivers(&transmitter, &hub).await;
    becomes("200").await;
    no_breach(&transmitter);
}

#[tokio::test]
async fn a_stream_that_says_it_is_disabled_acts_on_a_real_proxy_until_a_verification() {
    let transmitter = Transmitter::start().unwrap();
    let hub = hub_of("ssf-disabled", &transmitter, |entry, _| entry["ssf"]["verify"] = json!("25s")).await;
    let mut settings = hub.followed_by(&orders::config());
    settings["signals"]["stale"] = json!({"after": "30s"});
    let settings = Settings::new("ssf-disabled-envoy", settings).balanced();
    let settings = settings.patch(jwks::with_clusters(vec![hub.cluster()])).patch(without_receiver);
    let node = |bootstrap: &mut Value| bootstrap["node"] = json!({"id": "ssf-disabled", "cluster": "tests"});
    let proxy = Sidecar::start(settings.patch(node)).await.unwrap();
    wait_ready(&proxy).await.unwrap();
    delivers(&transmitter, &hub).await;
    let becomes = async |line: &str| {
        let deadline = Instant::now() + SOON * 3;
        loop {
            let answer = read_order(&proxy, &fresh().sign()).await.unwrap();
            if answer.line() == line {
                return;
            }
            assert!(Instant::now() < deadline, "not {line} but {}\n{}", answer.line(), hub.log());
            sleep(Duration::from_millis(100)).await;
        }
    };
    becomes("200").await;
    // The event alone says it, and before the state would be old: the status that can be read stays `enabled`. A hub that
    // is quiet speaks to its proxies once in 10 s.
    let subject = json!({"format": "opaque", "id": transmitter.streams()[0]});
    transmitter.send(&mint::signal(&ssf("stream-updated"), subject).event("status", "disabled"));
    becomes("503 state_stale").await;
    // A verification that was asked for since shows that it works.
    becomes("200").await;
    no_breach(&transmitter);
}

#[tokio::test]
async fn a_stream_is_touched_in_time_and_enabled_again() {
    let transmitter = Transmitter::start().unwrap();
    transmitter.set(|one| one.inactivity_timeout = Some(6));
    let mut hub = hub_of("ssf-silent", &transmitter, |entry, _| {
        entry["ssf"]["verify"] = json!("1m");
        entry["ssf"]["wait"] = json!("1m");
    })
    .await;
    delivers(&transmitter, &hub).await;
    sleep(Duration::from_secs(9)).await;
    delivers(&transmitter, &hub).await;
    assert_eq!(transmitter.count("POST /status"), 0, "it was never silent for too long");
    hub.stop().unwrap();
    sleep(Duration::from_secs(7)).await;
    hub.run().await.unwrap();
    transmitter.wait("the stream is enabled again", SOON, |one| one.count("POST /status 200") == 1).await.unwrap();
    delivers(&transmitter, &hub).await;
    assert!(hub.log().contains("the transmitter has stopped the stream"), "{}", hub.log());
    no_breach(&transmitter);
}

#[tokio::test]
async fn two_streams_of_one_issuer_stay_apart() {
    let issuer = "https://idp.example";
    let tenants = [Transmitter::start().unwrap(), Transmitter::start().unwrap()];
    for (tenant, audience) in tenants.iter().zip(["https://a.example", "https://b.example"]) {
        tenant.set(|one| (one.set_issuer, one.audience) = (Some(issuer.to_owned()), json!(audience)));
    }
    let hub = Hub::start_with("ssf-two", |config| {
        let folder = folder(config);
        let entry = |tenant: &Transmitter, audience: &str| {
            let mut entry = tenant.entry(polled(&folder));
            (entry["issuer"], entry["audience"]) = (json!(issuer), json!(audience));
            entry["ssf"]["url"] = json!(tenant.issuer());
            entry
        };
        let entries = [entry(&tenants[0], "https://a.example"), entry(&tenants[1], "https://b.example")];
        config["feeds"][0]["signals"]["transmitters"] = json!(entries);
    })
    .await
    .unwrap();
    for tenant in &tenants {
        delivers(tenant, &hub).await;
        tenant.wait("a verification", SOON, |one| one.count("POST /verify 204") >= 2).await.unwrap();
    }
    let list =
        hub.command(&["hub", "transmitter", "list", "--config", &hub.config_file(), "--output", "json"]).unwrap();
    let list: Value = serde_json::from_str(&list).unwrap();
    let ids: Vec<&str> = list.as_array().unwrap().iter().map(|one| one["stream_id"].as_str().unwrap()).collect();
    assert_eq!(ids, [&tenants[0].streams()[0], &tenants[1].streams()[0]]);
    assert!(list.as_array().unwrap().iter().all(|one| one["verified_ms"].is_u64()), "{list}");
    tenants.iter().for_each(no_breach);
}

#[tokio::test]
async fn a_hundred_thousand_redelivered_sets_change_nothing() {
    const REDELIVERED: usize = 100_000;
    let transmitter = Transmitter::start().unwrap();
    let hub = hub_of("ssf-again", &transmitter, |_, _| {}).await;
    delivers(&transmitter, &hub).await;
    let sets: Vec<_> = (0..1_000).map(|_| transmitter.signed(&complete_task(&unique("task")))).collect();
    transmitter.redeliver(&sets, sets.len());
    transmitter.wait("the first time", SOON * 3, |one| one.waiting() == 0).await.unwrap();
    let head = hub.head().await.unwrap();
    let before = transmitter.acknowledged();
    let begun = Instant::now();
    transmitter.redeliver(&sets, REDELIVERED);
    // Meanwhile another signal must come through.
    let all = |one: &Transmitter| one.acknowledged() - before >= u64::try_from(REDELIVERED).unwrap();
    transmitter.wait("all are acknowledged", Duration::from_secs(240), all).await.unwrap();
    println!("{REDELIVERED} SETs again in {:?}", begun.elapsed());
    assert_eq!(hub.head().await.unwrap(), head, "a repeat has no number");
    delivers(&transmitter, &hub).await;
    no_breach(&transmitter);
}

#[tokio::test]
async fn one_command_wires_a_transmitter() {
    let transmitter = Transmitter::start().unwrap();
    let mut hub = Hub::start_with("ssf-add", |config| config["feeds"][0]["signals"] = json!({})).await.unwrap();
    let token = hub.folder().join("token");
    fs::write(&token, TOKEN).unwrap();
    let token = token.display().to_string();
    let (config, issuer) = (hub.config_file(), transmitter.issuer());
    let add = ["hub", "transmitter", "add", &issuer, "--config", &config, "--feed", FEED, "--token-file", &token];
    // A wrong token: step, status and remedy.
    fs::write(&token, "wrong").unwrap();
    let (code, text) = hub.try_command(&add).unwrap();
    assert_eq!(code, 1);
    assert!(text.contains("stream: GET") && text.contains("401") && text.contains("check `credentials`"), "{text}");
    fs::write(&token, TOKEN).unwrap();
    let text = hub.command(&add).unwrap();
    assert!(text.contains("made, and verified: stream "), "{text}");
    assert!(text.contains(&format!("sends {} (session-revoked: has an effect)", mint::SESSION_REVOKED)), "{text}");
    assert!(text.contains("does not send urn:taskfence:secevent:grant-narrowed"), "{text}");
    let written: Value = serde_json::from_str(&fs::read_to_string(&config).unwrap()).unwrap();
    let entry = &written["feeds"][0]["signals"]["transmitters"][0];
    assert_eq!((&entry["issuer"], &entry["audience"]), (&json!(issuer), &json!(orders::SIGNALS_AUDIENCE)));
    assert_eq!(entry["keys"]["path"], "/jwks");
    hub.stop().unwrap();
    hub.run_until(503).await.unwrap();
    hub.command(&["hub", "accept-config", "--config", &config]).unwrap();
    // The hub goes on with the stream that the command made, with keys that it fetches.
    delivers(&transmitter, &hub).await;
    assert_eq!(transmitter.count("POST /streams 201"), 1);
    let text = hub.command(&["hub", "transmitter", "verify", "--config", &config, &issuer]).unwrap();
    assert!(text.contains("has got the verification"), "{text}");
    let text = hub.command(&["hub", "transmitter", "status", "--config", &config, &issuer]).unwrap();
    assert!(text.contains(": enabled"), "{text}");
    let text = hub.command(&["hub", "transmitter", "remove", "--config", &config, &issuer]).unwrap();
    assert!(text.contains(": deleted"), "{text}");
    assert_eq!(transmitter.streams().len(), 0);
    logs(&hub, "an operator had the stream deleted").await;
    assert_eq!(transmitter.count("POST /streams 201"), 1, "the hub makes no other");
    no_breach(&transmitter);
}

#[tokio::test]
async fn one_command_wires_a_transmitter_that_pushes() {
    let transmitter = Transmitter::start().unwrap();
    let mut hub = Hub::start_with("ssf-add-push", |config| config["feeds"][0]["signals"] = json!({})).await.unwrap();
    let token = hub.folder().join("token");
    fs::write(&token, TOKEN).unwrap();
    let (config, issuer, token) = (hub.config_file(), transmitter.issuer(), token.display().to_string());
    let endpoint = format!("http://{}/v1/feeds/{FEED}/signals", hub.address());
    let add = ["hub", "transmitter", "add", &issuer, "--config", &config, "--token-file", &token, "--push", &endpoint];
    let report = hub.command(&[&add[..], &["--output", "json", "--events", "task-completed"]].concat()).unwrap();
    let report: Value = serde_json::from_str(&report).unwrap();
    assert_eq!((&report["verified"], &report["written"]), (&json!(false), &json!(true)), "{report}");
    assert_eq!(report["events"][0], json!({"uri": mint::TASK_COMPLETED, "name": "task-completed", "has_effect": true}));
    hub.stop().unwrap();
    hub.run_until(503).await.unwrap();
    hub.command(&["hub", "accept-config", "--config", &config]).unwrap();
    delivers(&transmitter, &hub).await;
    let text = hub.command(&["hub", "transmitter", "verify", "--config", &config, &issuer]).unwrap();
    assert!(text.contains("has got the verification"), "{text}");
    // The secret that the command made is good in the hub: none was made again.
    assert_eq!((transmitter.count("POST /streams 201"), transmitter.count("PATCH /streams")), (1, 0));
    no_breach(&transmitter);
}

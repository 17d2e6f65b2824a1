//! The hub as a transmitter (SSF 1.0), against a receiver that was written from the specifications alone. What an operator
//! or an issuer ends reaches services that are not behind the filter.

use std::{
    fs,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use taskfence_tests::{
    artefacts,
    bootstrap::Settings,
    client::{self, Http, Request},
    hub::{FEED, Hub, SOON, fresh, read_order, refused_as_ended, wait_ready},
    jwks,
    mint::unique,
    orders, postgres,
    process::Process,
    refusal::assert_allowed,
    sidecar::Sidecar,
    ssf_receiver::{
        Event, POLL, PUSH, PushEndpoint, Receiver, Reply, SESSION_REVOKED, STREAM_UPDATED, Stream, VERIFICATION,
        counts, json_of,
    },
};
use tokio::time;

const TASK_COMPLETED: &str = "urn:taskfence:secevent:task-completed";

/// A hub that is a transmitter, and may push to this machine.
async fn transmitter(name: &str) -> Hub {
    transmitter_with(name, |_| ()).await
}

async fn transmitter_with(name: &str, change: impl FnOnce(&mut Value)) -> Hub {
    Hub::start_with(name, |config| {
        let address = config["listen"]["address"].as_str().unwrap().to_owned();
        config["streams"] =
            json!({"issuer": format!("http://{address}"), "allow": ["127.0.0.0/8"], "min_verification_interval": "1s"});
        change(config);
    })
    .await
    .unwrap()
}

fn issuer(hub: &Hub) -> String {
    format!("http://{}/feeds/{FEED}", hub.address())
}

async fn receiver(hub: &Hub, name: &str) -> Receiver {
    let token = hub.new_token(name, "receiver").unwrap();
    known(hub, &token).await;
    Receiver::discover(hub.address(), &issuer(hub), &token).await.unwrap()
}

/// Waits until the hub knows of a token that was made on its host.
async fn known(hub: &Hub, token: &str) {
    for _ in 0..20 {
        time::sleep(Duration::from_millis(600)).await;
        if hub.send(&Request::get("/nothing").bearer(token)).await.unwrap().status == 404 {
            return;
        }
    }
    panic!("the hub does not know of the token");
}

/// An event of the operator about this subject.
async fn report(hub: &Hub, event: &str, subject: Value) -> Value {
    let body = json!({"event": event, "subject": subject, "issuer": orders::ISSUER, "reason": "ticket 7"});
    let answer = hub.call("POST", &format!("/v1/feeds/{FEED}/events"), Some(&body)).await.unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()
}

async fn end_task(hub: &Hub, task: &str) -> Value {
    report(hub, "task-completed", json!({"task": task})).await
}

fn task_of(claims: &Value) -> &str {
    claims["sub_id"]["task"]["id"].as_str().unwrap_or_default()
}

fn jtis(events: &[Event]) -> Vec<String> {
    events.iter().map(|event| event.jti.clone()).collect()
}

#[tokio::test]
async fn what_an_operator_ends_is_polled_until_it_is_acknowledged() {
    let hub = transmitter("streams-poll").await;
    end_task(&hub, "before").await;
    let receiver = receiver(&hub, "orders").await;
    let stream = receiver.create(&[SESSION_REVOKED], json!({"method": POLL})).await.unwrap();
    assert_eq!(receiver.poll(&stream, &[]).await.unwrap(), (vec![], false), "a stream begins when it is made");
    let session = unique("sess");
    report(&hub, "session-revoked", json!({"session": session, "user": "alice"})).await;
    let (events, more) = receiver.poll(&stream, &[]).await.unwrap();
    let [event] = &events[..] else { panic!("one event: {events:?}") };
    assert_eq!((event.uri.as_str(), more), (SESSION_REVOKED, false));
    let user = json!({"format": "iss_sub", "iss": orders::ISSUER, "sub": "alice"});
    let expected = json!({"format": "complex", "session": {"format": "opaque", "id": session}, "user": user});
    assert_eq!(event.claims["sub_id"], expected);
    assert_eq!(event.payload["reason_admin"]["en"], "ticket 7");
    assert_eq!(event.payload["initiating_entity"], "admin");
    assert!(event.payload["event_timestamp"].is_u64());
    let (again, _) = receiver.poll(&stream, &[]).await.unwrap();
    assert_eq!(again, events, "what is not acknowledged comes again, and is the same");
    assert_eq!(receiver.poll(&stream, &jtis(&events)).await.unwrap(), (vec![], false));
    assert_eq!(receiver.poll(&stream, &[]).await.unwrap(), (vec![], false));
}

#[tokio::test]
async fn endpoints_answer_as_the_specification_says() {
    let hub = transmitter_with("streams-table", |config| config["streams"]["per_principal"] = json!(2)).await;
    let receiver = receiver(&hub, "orders").await;
    let other = self::receiver(&hub, "billing").await;
    let stream = receiver.create(&[SESSION_REVOKED], Value::Null).await.unwrap();
    assert_eq!(stream.configuration["delivery"]["method"], POLL, "no delivery means poll");
    let foreign = other.create(&[SESSION_REVOKED], Value::Null).await.unwrap();
    let id = |stream: &Stream| format!("?stream_id={}", stream.id);
    let of = |stream: &Stream, more: Value| {
        let mut body = json!({"stream_id": stream.id});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        body
    };
    let none = Value::Null;
    let (conf, status, verify) = ("configuration_endpoint", "status_endpoint", "verification_endpoint");
    let (add, remove) = ("add_subject_endpoint", "remove_subject_endpoint");
    let push = |url: &str| json!({"delivery": {"method": "urn:ietf:rfc:8935", "endpoint_url": url}});
    let subject = json!({"subject": {"format": "opaque", "id": "a"}});
    let table: Vec<(&str, &str, &str, String, Value, u16)> = vec![
        ("read one", "GET", conf, id(&stream), none.clone(), 200),
        ("read all", "GET", conf, String::new(), none.clone(), 200),
        ("read of another receiver", "GET", conf, id(&foreign), none.clone(), 404),
        ("read unknown", "GET", conf, "?stream_id=nothing".to_owned(), none.clone(), 404),
        (
            "create with unknown members",
            "POST",
            conf,
            String::new(),
            json!({"events_requested": [SESSION_REVOKED], "x": 1}),
            201,
        ),
        ("create one too many", "POST", conf, String::new(), json!({"events_requested": [SESSION_REVOKED]}), 409),
        ("create with a broken body", "POST", conf, String::new(), json!([1]), 400),
        ("create for unknown events", "POST", conf, String::new(), json!({"events_requested": ["urn:x"]}), 400),
        ("create for no events", "POST", conf, String::new(), json!({"events_requested": []}), 400),
        ("create with an unknown method", "POST", conf, String::new(), json!({"delivery": {"method": "urn:x"}}), 400),
        (
            "create with a push without a URL",
            "POST",
            conf,
            String::new(),
            json!({"delivery": {"method": "urn:ietf:rfc:8935"}}),
            400,
        ),
        ("create with a push to a private address", "POST", conf, String::new(), push("https://10.0.0.1/"), 400),
        ("create with a push without TLS", "POST", conf, String::new(), push("http://receiver.example/"), 400),
        ("update", "PATCH", conf, String::new(), of(&stream, json!({"description": "new"})), 200),
        ("update what the transmitter supplies", "PATCH", conf, String::new(), of(&stream, json!({"aud": "x"})), 400),
        (
            "update with what is there",
            "PATCH",
            conf,
            String::new(),
            of(&stream, json!({"aud": stream.configuration["aud"]})),
            200,
        ),
        ("update without an id", "PATCH", conf, String::new(), json!({"description": "new"}), 400),
        ("update of another receiver", "PATCH", conf, String::new(), of(&foreign, json!({"description": "new"})), 404),
        ("replace", "PUT", conf, String::new(), of(&stream, json!({"events_requested": [SESSION_REVOKED]})), 200),
        ("replace unknown", "PUT", conf, String::new(), json!({"stream_id": "nothing"}), 404),
        ("read the status", "GET", status, id(&stream), none.clone(), 200),
        ("read the status of nothing", "GET", status, String::new(), none.clone(), 400),
        ("read the status of another receiver", "GET", status, id(&foreign), none.clone(), 404),
        ("set an unknown status", "POST", status, String::new(), of(&stream, json!({"status": "broken"})), 400),
        (
            "set the status of another receiver",
            "POST",
            status,
            String::new(),
            of(&foreign, json!({"status": "paused"})),
            404,
        ),
        ("verify", "POST", verify, String::new(), of(&stream, json!({"state": "s"})), 204),
        ("verify too soon", "POST", verify, String::new(), of(&stream, json!({"state": "s"})), 429),
        ("verify of another receiver", "POST", verify, String::new(), of(&foreign, json!({})), 404),
        ("verify with a state that is no text", "POST", verify, String::new(), of(&stream, json!({"state": 7})), 400),
        ("add a subject", "POST", add, String::new(), of(&stream, subject.clone()), 200),
        ("remove a subject", "POST", remove, String::new(), of(&stream, subject.clone()), 204),
        ("remove what is no subject", "POST", remove, String::new(), of(&stream, json!({"subject": {}})), 400),
        ("remove a subject of another receiver", "POST", remove, String::new(), of(&foreign, subject), 404),
        ("delete of another receiver", "DELETE", conf, id(&foreign), none.clone(), 404),
        ("delete without an id", "DELETE", conf, String::new(), none.clone(), 400),
        ("delete", "DELETE", conf, id(&stream), none.clone(), 204),
        ("delete twice", "DELETE", conf, id(&stream), none.clone(), 404),
    ];
    for (what, method, endpoint, query, body, expected) in table {
        let body = Some(&body).filter(|body| !body.is_null());
        let answer = receiver.call(method, endpoint, &query, body).await.unwrap();
        assert_eq!(answer.status, expected, "{what}: {}", answer.text());
        match expected {
            204 => assert!(answer.body.is_empty(), "{what}"),
            429 => assert!(answer.headers.contains_key("retry-after"), "{what}"),
            200 | 201 if endpoint == conf && query.is_empty() && method != "GET" => {
                receiver.check_configuration(&json_of(&answer, expected).unwrap()).unwrap();
            }
            _ => {}
        }
    }
    let all = receiver.call("GET", conf, "", None).await.unwrap();
    assert_eq!(json_of(&all, 200).unwrap().as_array().map(Vec::len), Some(1), "only its own streams");
}

#[tokio::test]
async fn who_has_no_role_for_streams_is_told_which_scope_it_lacks() {
    let hub = transmitter("streams-scope").await;
    let path = format!("/feeds/{FEED}/ssf/streams");
    for (token, status, challenge) in [
        (None, 401, "Bearer"),
        (Some("wrong"), 401, "invalid_token"),
        (Some(hub.sidecar()), 403, "insufficient_scope"),
        (Some(&*hub.operator), 403, "insufficient_scope"),
    ] {
        let request = Request::get(&path);
        let request = token.into_iter().fold(request, |request, token| request.bearer(token));
        let answer = hub.send(&request).await.unwrap();
        let header = answer.headers["www-authenticate"].to_str().unwrap();
        assert_eq!((answer.status, header.contains(challenge)), (status, true), "{header}");
    }
    let unknown = hub.send(&Request::get("/.well-known/ssf-configuration/feeds/other")).await.unwrap();
    assert_eq!(unknown.status, 404);
}

#[tokio::test]
async fn a_service_behind_no_filter_hears_that_a_task_ended() {
    let hub = transmitter("streams-push").await;
    let receiver = receiver(&hub, "orders").await;
    // One service knows CAEP alone, the other one also the events of the hub.
    let (caep, both) = (PushEndpoint::start().await.unwrap(), PushEndpoint::start().await.unwrap());
    let first = receiver.create(&[SESSION_REVOKED], caep.delivery("Bearer one")).await.unwrap();
    let second = receiver.create(&[TASK_COMPLETED, SESSION_REVOKED], both.delivery("Bearer two")).await.unwrap();
    assert_eq!(receiver.ask_for_verification(&first, "fresh-state").await.unwrap().status, 204);
    let verified = |events: &[Event]| {
        events.iter().any(|event| event.uri == VERIFICATION && event.payload["state"] == "fresh-state")
    };
    caep.wait(&receiver, &first, verified).await.unwrap();
    let issuer = hub.new_token(orders::ISSUER, "issuer").unwrap();
    known(&hub, &issuer).await;
    let tasks: Vec<_> = (0..5).map(|_| unique("task")).collect();
    for task in &tasks {
        let body = json!({"event": "task-completed", "subject": {"task": task}}).to_string();
        let request = Request::new("POST", &format!("/v1/feeds/{FEED}/events")).bearer(&issuer).body(body);
        let answer = hub.send(&request).await.unwrap();
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    for (endpoint, stream, uri, authorization) in
        [(&caep, &first, SESSION_REVOKED, "Bearer one"), (&both, &second, TASK_COMPLETED, "Bearer two")]
    {
        let events = endpoint.wait(&receiver, stream, |events| events.iter().any(|e| task_of(&e.claims) == tasks[4]));
        let events = events.await.unwrap();
        let ended: Vec<_> =
            events.iter().filter(|event| event.uri == uri).map(|event| task_of(&event.claims)).collect();
        assert_eq!(ended, tasks, "all, in order");
        assert!(endpoint.arrivals().unwrap().iter().all(|one| one.authorization.as_deref() == Some(authorization)));
    }
}

#[tokio::test]
async fn a_push_is_repeated_until_it_is_taken_and_skipped_when_it_is_refused() {
    let hub = transmitter("streams-retry").await;
    let receiver = receiver(&hub, "orders").await;
    let service = PushEndpoint::start().await.unwrap();
    let stream = receiver.create(&[TASK_COMPLETED], service.delivery("Bearer x")).await.unwrap();
    service.reply([Reply::Status(503), Reply::Status(200), Reply::Refuse("invalid_request")]);
    let tasks = [unique("refused"), unique("next")];
    for task in &tasks {
        end_task(&hub, task).await;
    }
    let events = service.wait(&receiver, &stream, |events| !events.is_empty()).await.unwrap();
    assert_eq!(events.iter().map(|event| task_of(&event.claims)).collect::<Vec<_>>(), [&tasks[1]]);
    let arrivals = service.arrivals().unwrap();
    let [one, two, three, _] = &arrivals[..] else { panic!("four pushes: {arrivals:?}") };
    let jti = |set: &str| receiver.verify(&stream, set).unwrap().jti;
    assert_eq!((jti(&one.set), jti(&two.set)), (jti(&three.set), jti(&three.set)), "the same SET each time");
    assert!(hub.log().contains("a receiver refused a SET"), "{}", hub.log());
}

#[tokio::test]
async fn a_receiver_that_refuses_the_hub_is_paused_and_loses_nothing() {
    let hub = transmitter("streams-refuses").await;
    let receiver = receiver(&hub, "orders").await;
    let service = PushEndpoint::start().await.unwrap();
    let stream = receiver.create(&[TASK_COMPLETED], service.delivery("Bearer old")).await.unwrap();
    service.reply([Reply::Status(401)]);
    let tasks = [unique("one"), unique("two")];
    end_task(&hub, &tasks[0]).await;
    let updated = service.wait(&receiver, &stream, |events| events.iter().any(|event| event.uri == STREAM_UPDATED));
    let updated = updated.await.unwrap();
    assert_eq!((updated.len(), &updated[0].payload["status"]), (1, &json!("paused")));
    assert!(updated[0].payload["reason"].as_str().unwrap().contains("401"));
    let query = format!("?stream_id={}", stream.id);
    let status = json_of(&receiver.call("GET", "status_endpoint", &query, None).await.unwrap(), 200).unwrap();
    assert_eq!((&status["status"], status["reason"].is_string()), (&json!("paused"), true), "{status}");
    end_task(&hub, &tasks[1]).await;
    let body = json!({"stream_id": stream.id, "delivery": service.delivery("Bearer new")});
    assert_eq!(receiver.call("PATCH", "configuration_endpoint", "", Some(&body)).await.unwrap().status, 200);
    let body = json!({"stream_id": stream.id, "status": "enabled"});
    assert_eq!(receiver.call("POST", "status_endpoint", "", Some(&body)).await.unwrap().status, 200);
    let events = service.wait(&receiver, &stream, |events| events.len() == 3).await.unwrap();
    assert_eq!(events[1..].iter().map(|event| task_of(&event.claims)).collect::<Vec<_>>(), tasks);
    assert_eq!(service.arrivals().unwrap().last().unwrap().authorization.as_deref(), Some("Bearer new"));
    assert!(!hub.log().contains("Bearer"), "the log has no secret");
}

#[tokio::test]
async fn what_happens_while_a_stream_is_paused_is_kept_and_while_it_is_disabled_is_not() {
    let hub = transmitter("streams-status").await;
    let receiver = receiver(&hub, "orders").await;
    let stream = receiver.create(&[TASK_COMPLETED], Value::Null).await.unwrap();
    let set = async |status: &str| {
        let body = json!({"stream_id": stream.id, "status": status, "reason": "a test"});
        let answer = receiver.call("POST", "status_endpoint", "", Some(&body)).await.unwrap();
        assert_eq!(json_of(&answer, 200).unwrap(), body);
    };
    set("disabled").await;
    end_task(&hub, "while-disabled").await;
    set("paused").await;
    end_task(&hub, "while-paused").await;
    assert_eq!(receiver.poll(&stream, &[]).await.unwrap().0, []);
    set("enabled").await;
    let (events, _) = receiver.poll(&stream, &[]).await.unwrap();
    assert_eq!(events.iter().map(|event| task_of(&event.claims)).collect::<Vec<_>>(), ["while-paused"]);
}

#[tokio::test]
async fn a_poll_waits_takes_errors_and_gives_so_many_as_it_is_asked_for() {
    let hub = transmitter("streams-long-poll").await;
    let receiver = receiver(&hub, "orders").await;
    let stream = receiver.create(&[TASK_COMPLETED], Value::Null).await.unwrap();
    let begun = Instant::now();
    let body = json!({});
    let waiting = receiver.poll_with(&stream, &body);
    let ending = async {
        time::sleep(Duration::from_secs(2)).await;
        for task in ["a", "b", "c"] {
            end_task(&hub, task).await;
        }
    };
    let (answer, ()) = tokio::join!(waiting, ending);
    let (events, _) = receiver.read_poll(&stream, &answer.unwrap()).unwrap();
    assert!(begun.elapsed() > Duration::from_secs(2) && !events.is_empty(), "{events:?}");
    let answer = receiver.poll_with(&stream, &json!({"maxEvents": 1, "returnImmediately": true})).await.unwrap();
    let (one, more) = receiver.read_poll(&stream, &answer).unwrap();
    assert_eq!((one.len(), task_of(&one[0].claims), more), (1, "a", true));
    let refused = json!({"maxEvents": 0, "setErrs": {&one[0].jti: {"err": "invalid_request", "description": "no"}}});
    let answer = receiver.poll_with(&stream, &refused).await.unwrap();
    assert_eq!(receiver.read_poll(&stream, &answer).unwrap().0, [], "only acknowledges");
    let (left, _) = receiver.poll(&stream, &[]).await.unwrap();
    let mut tasks: Vec<_> = left.iter().map(|event| task_of(&event.claims).to_owned()).collect();
    tasks.sort();
    assert_eq!(tasks, ["b", "c"]);
    // In another order than they came.
    let last: Vec<_> =
        left.iter().filter(|event| task_of(&event.claims) == "c").map(|event| event.jti.clone()).collect();
    let (left, _) = receiver.poll(&stream, &last).await.unwrap();
    assert_eq!(left.iter().map(|event| task_of(&event.claims)).collect::<Vec<_>>(), ["b"]);
    let (left, _) = receiver.poll(&stream, &jtis(&left)).await.unwrap();
    assert_eq!(left, []);
}

#[tokio::test]
async fn a_hub_that_is_killed_loses_nothing_and_repeats_the_same_sets() {
    let mut hub = transmitter("streams-killed").await;
    let receiver = receiver(&hub, "orders").await;
    let service = PushEndpoint::start().await.unwrap();
    let pushed = receiver.create(&[TASK_COMPLETED], service.delivery("Bearer x")).await.unwrap();
    let polled = receiver.create(&[TASK_COMPLETED], Value::Null).await.unwrap();
    let tasks: Vec<_> = (0..60).map(|n| format!("task-{n:02}")).collect();
    for (n, task) in tasks.iter().enumerate() {
        if n % 20 == 10 {
            let before = service.accepted(&receiver, &pushed).unwrap().len();
            end_task(&hub, task).await;
            hub.kill();
            hub.run().await.unwrap();
            assert!(before < tasks.len());
            continue;
        }
        end_task(&hub, task).await;
    }
    let is_last = |events: &[Event]| events.iter().any(|event| task_of(&event.claims) == tasks[59]);
    let events = service.wait(&receiver, &pushed, is_last).await.unwrap();
    let mut seen = Vec::new();
    for event in &events {
        let task = task_of(&event.claims).to_owned();
        if !seen.contains(&task) {
            seen.push(task);
        }
    }
    assert_eq!(seen, tasks, "each one, and in order the first time");
    assert_eq!(counts(&events).len(), tasks.len(), "a repeated SET has the same jti");
    let (mut all, mut ack, mut rounds) = (Vec::new(), Vec::new(), 0);
    while all.len() < tasks.len() {
        let body = json!({"maxEvents": 25, "ack": ack, "returnImmediately": true});
        let answer = receiver.poll_with(&polled, &body).await.unwrap();
        let (events, _) = receiver.read_poll(&polled, &answer).unwrap();
        ack = jtis(&events);
        all.extend(events);
        rounds += 1;
        assert!(rounds < 10, "{} SETs", all.len());
        if rounds == 1 {
            // What was not acknowledged before the crash comes again.
            hub.kill();
            hub.run().await.unwrap();
        }
    }
    let mut polled: Vec<_> = all.iter().map(|event| task_of(&event.claims)).collect();
    polled.sort_unstable();
    assert_eq!(polled, tasks);
}

#[tokio::test]
async fn what_was_undone_is_not_sent_and_a_stop_ends_what_runs() {
    let hub = transmitter("streams-undo").await;
    let receiver = receiver(&hub, "orders").await;
    let stream = receiver.create(&[SESSION_REVOKED], Value::Null).await.unwrap();
    let mistake = report(&hub, "session-revoked", json!({"session": "mistake"})).await;
    let undo = json!({"signal": mistake["signal"], "reason": "a mistake"});
    let undone = hub.call("POST", &format!("/v1/feeds/{FEED}/undo"), Some(&undo)).await.unwrap();
    assert_eq!(undone.status, 200, "{}", undone.text());
    for stop in [
        json!({"issuer": orders::ISSUER, "reason": "everything"}),
        json!({"issuer": orders::ISSUER, "what": "client", "name": "agent-7", "reason": "a loop"}),
    ] {
        let answer = hub.call("POST", &format!("/v1/feeds/{FEED}/stops"), Some(&stop)).await.unwrap();
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    let (events, _) = receiver.poll(&stream, &[]).await.unwrap();
    let [event] = &events[..] else { panic!("one event: {events:?}") };
    assert_eq!(event.claims["sub_id"], json!({"format": "complex", "client": {"format": "opaque", "id": "agent-7"}}));
    assert_eq!(event.payload["reason_admin"]["en"], "a loop");
    assert_eq!(event.claims["urn:taskfence:token_issuer"], orders::ISSUER);
}

#[tokio::test]
async fn a_receiver_whose_role_is_gone_gets_nothing_more() {
    let hub = transmitter("streams-role").await;
    let receiver = receiver(&hub, "orders").await;
    let service = PushEndpoint::start().await.unwrap();
    let stream = receiver.create(&[TASK_COMPLETED], service.delivery("Bearer x")).await.unwrap();
    end_task(&hub, "one").await;
    service.wait(&receiver, &stream, |events| events.len() == 1).await.unwrap();
    hub.command(&["hub", "token", "revoke", "--config", &hub.config_file(), "--name", "orders"]).unwrap();
    time::sleep(Duration::from_secs(3)).await;
    end_task(&hub, "two").await;
    time::sleep(Duration::from_secs(3)).await;
    assert_eq!(service.arrivals().unwrap().len(), 1);
    assert_eq!(receiver.call("GET", "configuration_endpoint", "", None).await.unwrap().status, 401);
}

#[tokio::test]
async fn a_removed_subject_is_not_heard_of_until_it_is_added() {
    let hub = transmitter("streams-subjects").await;
    let receiver = receiver(&hub, "orders").await;
    let stream = receiver.create(&[TASK_COMPLETED], Value::Null).await.unwrap();
    let subject = json!({"format": "complex", "task": {"format": "opaque", "id": "mine"}});
    let change = json!({"stream_id": stream.id, "subject": subject});
    assert_eq!(receiver.call("POST", "remove_subject_endpoint", "", Some(&change)).await.unwrap().status, 204);
    end_task(&hub, "mine").await;
    end_task(&hub, "yours").await;
    let (events, _) = receiver.poll(&stream, &[]).await.unwrap();
    assert_eq!(events.iter().map(|event| task_of(&event.claims)).collect::<Vec<_>>(), ["yours"]);
    receiver.poll(&stream, &jtis(&events)).await.unwrap();
    assert_eq!(receiver.call("POST", "add_subject_endpoint", "", Some(&change)).await.unwrap().status, 200);
    report(&hub, "session-revoked", json!({"task": "mine"})).await;
    report(&hub, "task-completed", json!({"task": "mine", "user": "u"})).await;
    let (events, _) = receiver.poll(&stream, &[]).await.unwrap();
    assert_eq!(events.iter().map(|event| task_of(&event.claims)).collect::<Vec<_>>(), ["mine"]);
}

/// `from` as a transmitter of another hub or of a proxy; its SETs are for the principal `to`.
fn as_transmitter(from: &Hub, to: &str, authorization: &str) -> Value {
    let issuer = issuer(from);
    json!({
        "issuer": issuer, "audience": format!("{issuer}/receivers/{to}"), "subjects": [orders::ISSUER],
        "heartbeat": false, "authorization": authorization
    })
}

/// The keys of the SETs of a hub, as its host prints them.
fn set_keys(hub: &Hub) -> Value {
    serde_json::from_str(&hub.command(&["hub", "set-keys", "--config", &hub.config_file()]).unwrap()).unwrap()
}

#[tokio::test]
async fn the_receiver_in_a_proxy_takes_what_a_hub_sends() {
    let hub = transmitter("streams-envoy").await;
    let receiver = receiver(&hub, "proxy").await;
    let mut config = orders::config();
    let mut transmitter = as_transmitter(&hub, "proxy", "Bearer agreed");
    transmitter["keys"] = json!({"inline": set_keys(&hub)});
    config["signals"]["transmitters"].as_array_mut().unwrap().push(transmitter);
    let proxy = Sidecar::start(Settings::new("streams-envoy", config)).await.unwrap();
    let delivery = json!({
        "method": PUSH, "endpoint_url": format!("http://{}{}", proxy.signals(), orders::SIGNALS_PATH),
        "authorization_header": "Bearer agreed"
    });
    let stream = receiver.create(&[TASK_COMPLETED], delivery).await.unwrap();
    assert_eq!(receiver.ask_for_verification(&stream, "s").await.unwrap().status, 204);
    let task = unique("task");
    assert_allowed(&proxy, &read_order(&proxy, &fresh().task(&task).sign()).await.unwrap());
    end_task(&hub, &task).await;
    let deadline = Instant::now() + SOON;
    let token = fresh().task(&task).sign();
    while read_order(&proxy, &token).await.unwrap().status == 200 {
        assert!(Instant::now() < deadline, "the task goes on: {}", hub.log());
        time::sleep(Duration::from_millis(50)).await;
    }
    refused_as_ended(&proxy, &task).await.unwrap();
    wait_for(&hub, |streams| streams[0]["waiting"] == 0).await;
    assert!(!hub.log().contains("refused a SET"), "{}", hub.log());
}

#[tokio::test]
async fn a_hub_polls_the_stream_of_another_and_its_proxy_ends_the_task() {
    let first = transmitter("streams-polled").await;
    let token = first.new_token("peer", "receiver").unwrap();
    known(&first, &token).await;
    let keys = set_keys(&first);
    let second = Hub::start_with("streams-polls", |config| {
        let file = Path::new(config["data"].as_str().unwrap()).with_file_name("peer-token");
        fs::write(&file, &token).unwrap();
        let issuer = issuer(&first);
        config["feeds"][0]["signals"]["transmitters"] = json!([{
            "issuer": issuer, "audience": format!("{issuer}/receivers/peer"), "keys": {"inline": keys},
            "subjects": [orders::ISSUER],
            "ssf": {"credentials": {"token_file": file}, "verify": "1s", "wait": "5s"}
        }]);
    })
    .await
    .unwrap();
    let proxy = Sidecar::start(second.plain("streams-polls-envoy", &orders::config())).await.unwrap();
    wait_ready(&proxy).await.unwrap();
    let task = unique("task");
    assert_allowed(&proxy, &read_order(&proxy, &fresh().task(&task).sign()).await.unwrap());
    wait_for(&first, |streams| streams[0]["delivery"] == "poll" && streams[0]["principal"] == "peer").await;
    end_task(&first, &task).await;
    // What is acknowledged at the first hub is stored at the second.
    wait_for(&first, |streams| streams[0]["waiting"] == 0).await;
    second.wait_everywhere().await.unwrap();
    refused_as_ended(&proxy, &task).await.unwrap();
    let deadline = Instant::now() + SOON;
    let state =
        format!("taskfence_hub_ssf_stream_state{{feed=\"{FEED}\",stream=\"{}\",state=\"enabled\"}} 1", issuer(&first));
    loop {
        let text = second.call("GET", "/metrics", None).await.unwrap().text();
        if text.contains(&state) {
            break;
        }
        assert!(Instant::now() < deadline, "the verification did not come:\n{}", second.log());
        time::sleep(Duration::from_millis(100)).await;
    }
}

/// Waits until this holds for the streams as an operator sees them.
async fn wait_for(hub: &Hub, holds: impl Fn(&Value) -> bool) {
    let deadline = Instant::now() + SOON;
    loop {
        let answer = hub.call("GET", &format!("/v1/feeds/{FEED}/streams"), None).await.unwrap();
        let streams = json_of(&answer, 200).unwrap();
        if holds(&streams) {
            return;
        }
        assert!(Instant::now() < deadline, "{streams:#}");
        time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn two_hubs_that_send_on_to_each_other_do_not_go_in_a_circle() {
    let mut first = transmitter("streams-circle-a").await;
    let key_of =
        |hub: &Hub| json!({"cluster": "other", "path": format!("/feeds/{FEED}/jwks.json"), "host": hub.address()});
    let follow = |config: &mut Value, from: &Hub| {
        let mut one = as_transmitter(from, "peer", "Bearer agreed");
        one["keys"] = key_of(from);
        one["keys"].as_object_mut().unwrap().remove("host");
        config["feeds"][0]["signals"]["transmitters"].as_array_mut().unwrap().push(one);
        config["feeds"][0]["receivers"] = json!({"relay_from": [issuer(from)]});
        config["clusters"] = json!({"other": format!("http://{}", from.address())});
    };
    let second = transmitter_with("streams-circle-b", |config| follow(config, &first)).await;
    first.stop().unwrap();
    let file = first.config_file();
    let mut config: Value = serde_json::from_str(&fs::read_to_string(&file).unwrap()).unwrap();
    follow(&mut config, &second);
    fs::write(&file, config.to_string()).unwrap();
    first.command(&["hub", "accept-config", "--config", &file]).unwrap();
    first.run().await.unwrap();
    let mut ids = Vec::new();
    for (from, to) in [(&first, &second), (&second, &first)] {
        let receiver = receiver(from, "peer").await;
        let delivery = json!({
            "method": PUSH, "endpoint_url": format!("http://{}/v1/feeds/{FEED}/signals", to.address()),
            "authorization_header": "Bearer agreed"
        });
        ids.push(receiver.create(&[TASK_COMPLETED, SESSION_REVOKED], delivery).await.unwrap().id);
    }
    let task = unique("task");
    end_task(&first, &task).await;
    let signals = async |hub: &Hub| {
        let answer = hub.call("GET", &format!("/v1/feeds/{FEED}/signals"), None).await.unwrap();
        json_of(&answer, 200).unwrap().as_array().unwrap().clone()
    };
    let deadline = Instant::now() + SOON;
    while signals(&second).await.is_empty() || signals(&first).await.len() < 2 {
        assert!(Instant::now() < deadline, "{}\n{}", first.log(), second.log());
        time::sleep(Duration::from_millis(50)).await;
    }
    time::sleep(Duration::from_secs(3)).await;
    let (at_first, at_second) = (signals(&first).await, signals(&second).await);
    assert_eq!((at_first.len(), at_second.len()), (2, 1), "once there, and once back: {at_first:?} {at_second:?}");
    assert_eq!(
        (&at_second[0]["event"], &at_second[0]["transmitter"]),
        (&json!(TASK_COMPLETED), &json!(issuer(&first)))
    );
    let path = format!("/v1/feeds/{FEED}/state?issuer={}&task={task}", orders::ISSUER);
    let state = json_of(&second.call("GET", &path, None).await.unwrap(), 200).unwrap();
    assert_eq!(state["restricted"], true, "{state}");
    for hub in [&first, &second] {
        wait_for(hub, |streams| streams[0]["waiting"] == 0 && streams[0]["status"] == "enabled").await;
    }
}

#[tokio::test]
async fn keys_of_sets_are_rotated_while_the_hub_runs() {
    let hub = transmitter("streams-keys").await;
    let mut receiver = receiver(&hub, "orders").await;
    let stream = receiver.create(&[TASK_COMPLETED], Value::Null).await.unwrap();
    let config = hub.config_file();
    let new = hub.command(&["hub", "set-keys", "prepare", "--config", &config]).unwrap();
    let new = new.trim();
    end_task(&hub, "one").await;
    let (old, _) = receiver.poll(&stream, &[]).await.unwrap();
    hub.command(&["hub", "set-keys", "switch", new, "--config", &config]).unwrap();
    time::sleep(Duration::from_secs(3)).await;
    assert!(receiver.poll(&stream, &[]).await.is_err(), "signed by a key that the receiver has not read yet");
    let token = hub.new_token("again", "receiver").unwrap();
    known(&hub, &token).await;
    let again = Receiver::discover(hub.address(), &issuer(&hub), &token).await.unwrap();
    assert_eq!(again.jwks.keys.len(), 2);
    receiver.jwks = again.jwks;
    let (events, _) = receiver.poll(&stream, &[]).await.unwrap();
    assert_eq!(events, old, "the same SET, signed anew");
    let shown = hub.command(&["hub", "streams"]).unwrap();
    assert!(shown.contains(&stream.id) && shown.contains("orders") && shown.contains("enabled"), "{shown}");
}

#[tokio::test]
async fn another_replica_goes_on_where_one_was_killed() {
    let Some(url) = postgres::database("another_replica_goes_on_where_one_was_killed") else { return };
    let mut first =
        transmitter_with("streams-replicas", |config| config["store"] = json!({"postgres": {"url": url}})).await;
    let data = first.folder().join("data-2");
    fs::create_dir_all(data.join("keys")).unwrap();
    for key in fs::read_dir(first.folder().join("data/keys")).unwrap() {
        let key = key.unwrap();
        fs::copy(key.path(), data.join("keys").join(key.file_name())).unwrap();
    }
    let mut config: Value = serde_json::from_str(&fs::read_to_string(first.config_file()).unwrap()).unwrap();
    let address = jwks::down().unwrap();
    (config["data"], config["listen"]["address"]) = (json!(data), json!(address.to_string()));
    let (file, log) = (first.folder().join("hub-2.yaml"), first.folder().join("hub-2.log"));
    fs::write(&file, config.to_string()).unwrap();
    let mut command = Command::new(artefacts::command().unwrap());
    command.args(["hub", "--config", file.to_str().unwrap()]).stderr(fs::File::create(&log).unwrap());
    let _second = Process::start(&mut command).unwrap();
    let read_log = || fs::read_to_string(&log).unwrap_or_default();
    let deadline = Instant::now() + SOON;
    let ready = Request::get("/readyz");
    while client::send(address, Http::One, &ready).await.map(|answer| answer.status).unwrap_or_default() != 200 {
        assert!(Instant::now() < deadline, "{}", read_log());
        time::sleep(Duration::from_millis(100)).await;
    }
    let receiver = receiver(&first, "orders").await;
    let service = PushEndpoint::start().await.unwrap();
    let stream = receiver.create(&[TASK_COMPLETED], service.delivery("Bearer x")).await.unwrap();
    service.reply((0..4).map(|_| Reply::Status(503)));
    let tasks: Vec<_> = (0..6).map(|n| format!("task-{n}")).collect();
    for task in &tasks[..3] {
        end_task(&first, task).await;
    }
    while service.arrivals().unwrap().is_empty() {
        time::sleep(Duration::from_millis(20)).await;
    }
    first.kill();
    for task in &tasks[3..] {
        let body = json!({"event": "task-completed", "subject": {"task": task}, "issuer": orders::ISSUER}).to_string();
        let request = Request::new("POST", &format!("/v1/feeds/{FEED}/events")).bearer(&first.operator).body(body);
        let answer = client::send(address, Http::One, &request).await.unwrap();
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    let is_last = |events: &[Event]| events.iter().any(|event| task_of(&event.claims) == tasks[5]);
    let events =
        service.wait(&receiver, &stream, is_last).await.unwrap_or_else(|error| panic!("{error}\n{}", read_log()));
    assert_eq!(events.iter().map(|event| task_of(&event.claims)).collect::<Vec<_>>(), tasks, "all, in order, once");
    let all: Vec<_> =
        service.arrivals().unwrap().iter().map(|one| receiver.verify(&stream, &one.set).unwrap()).collect();
    assert_eq!(counts(&all).len(), tasks.len(), "what was repeated has the same jti from both");
}

//! What a hub and the filters that follow it must say alike: the names of subjects, and what is covered.

use crate::config::load;
use crate::policy::policy::Policy;
use crate::signal::hub_source::covered;
use crate::signal::set;
use crate::state::coverage::{CoveredIssuer, FeedStatus, Feeds, NotReady};
use crate::state::key::StateKey;
use crate::testing::fixture::{self, NOW, sign, token_with};
use crate::testing::signal_semantics::{CAEP, JIT, OURS};
use crate::time::Span;
use crate::token::verify;
use serde_json::{Value, json};

fn issuer() -> Value {
    json!({
        "issuer": JIT, "audiences": ["https://orders.mesh"], "keys": {"inline": fixture::jwks()},
        "claims": {
            "device": "device_id", "tenant": "tenant_id", "group": "groups",
            "subjects": {"email": "email", "iss_sub": {"https://idp.example": "idp_sub"}}
        }
    })
}

/// The configuration that a hub compiles for a feed, or that of a receiver.
fn receiver(feed: Option<&str>) -> Policy {
    let transmitter = json!({
        "issuer": "https://idp.example", "audience": "us", "keys": {"inline": fixture::jwks()}, "subjects": [JIT]
    });
    load(json!({
        "role": "receiver", "issuers": [issuer()], "signals": {"transmitters": [transmitter], "feed": feed}
    }))
}

fn filter(feed: &str) -> Policy {
    filter_of(issuer(), feed)
}

fn filter_of(issuer: Value, feed: &str) -> Policy {
    let hub = json!({"cluster": "hub", "feed": feed, "keys": {"inline": fixture::jwks()}});
    load(json!({
        "issuers": [issuer], "rules": [{"name": "r", "match": {}, "require": {}}],
        "signals": {"hub": hub, "stale": {"after": "30s"}}
    }))
}

fn load(config: Value) -> Policy {
    load::load(config.to_string().as_bytes()).map_err(|errors| errors.to_string()).unwrap().policy
}

/// The keys of a token that has a name of every kind, as a filter computes them.
fn keys_of_grant(policy: &Policy) -> Vec<StateKey> {
    let claims = json!({
        "device_id": "d7", "tenant_id": "red", "groups": ["ops"], "email": "alice@example.org", "idp_sub": "u-1",
        "act": {"sub": "agent-b2"}
    });
    let token = token_with(json!({}), claims);
    let mut signatures = crate::testing::ports::TestSignatures::default();
    verify::verify(token.as_bytes(), policy.issuers(), &mut signatures, NOW).unwrap().grant().state_keys()
}

/// The keys that a SET about `subject` leaves entries under, with those of its conditions.
fn keys_of_signal(policy: &Policy, event: &str, subject: &Value) -> Vec<StateKey> {
    let events = json!({event: {"event_timestamp": NOW.0}});
    let set = json!({
        "iss": "https://idp.example", "aud": "us", "iat": NOW.0, "jti": "set-1", "sub_id": subject, "events": events
    });
    let set = sign(&json!({"alg": "ES256", "typ": "secevent+jwt", "kid": "jit-1"}), &set);
    let mut signatures = crate::testing::ports::TestSignatures::default();
    let transmitters = policy.signals().transmitters();
    let signal = set::read(set.as_bytes(), None, transmitters, policy.issuers(), &mut signatures, NOW).unwrap();
    let keys = signal.entries().iter().flat_map(|entry| std::iter::once(entry.key).chain(entry.conditions.clone()));
    keys.filter(|key| !key.is_absent()).collect()
}

fn subjects() -> Vec<(String, Value)> {
    let opaque = |name: &str| json!({"format": "opaque", "id": name});
    let revoked = format!("{CAEP}session-revoked");
    let complex = |member: &str, name: &str| json!({"format": "complex", member: opaque(name)});
    vec![
        (revoked.clone(), json!({"format": "jwt_id", "iss": JIT, "jti": "tok-1"})),
        (revoked.clone(), json!({"format": "iss_sub", "iss": JIT, "sub": "alice"})),
        (revoked.clone(), json!({"format": "iss_sub", "iss": "https://idp.example", "sub": "u-1"})),
        (revoked.clone(), json!({"format": "email", "email": "Alice@Example.org"})),
        (revoked.clone(), complex("session", "sess-9")),
        (revoked.clone(), complex("client", "agent-a7")),
        (revoked.clone(), complex("actor", "agent-b2")),
        (revoked.clone(), complex("device", "d7")),
        (revoked.clone(), complex("tenant", "red")),
        (revoked.clone(), complex("group", "ops")),
        (revoked, json!({"format": "complex", "user": opaque("alice"), "session": opaque("sess-9")})),
        (format!("{OURS}task-completed"), complex("task", "task-42")),
    ]
}

#[test]
fn the_id_of_an_issuer_has_the_tag_of_its_entries() {
    let mut issuer = crate::testing::fixture::issuer();
    issuer.key_space = crate::token::issuer::key_space(Some("main"), &issuer.name);
    let key = crate::state::key::StateKey::new(crate::state::key::Kind::Task, &issuer.key_space, "task-42");
    assert_eq!(crate::signal::hub_source::covered(&issuer).id.tag(), key.issuer());
}

#[test]
fn a_hub_a_receiver_and_a_filter_of_one_feed_hash_every_name_alike() {
    let (hub, plain, filter) = (receiver(Some("main")), receiver(None), filter("main"));
    let grant = keys_of_grant(&filter);
    for (event, subject) in subjects() {
        let keys = keys_of_signal(&hub, &event, &subject);
        assert!(!keys.is_empty() && keys.iter().all(|key| grant.contains(key)), "{subject}");
        let others = keys_of_signal(&plain, &event, &subject);
        assert!(others.iter().all(|key| !grant.contains(key)), "{subject} without a feed");
        assert!(others.iter().all(|key| keys_of_grant(&plain).contains(key)), "{subject} of a plain receiver");
    }
    let other = keys_of_grant(&self::filter("other"));
    assert!(other.iter().all(|key| !grant.contains(key)), "another feed hashes no name alike");
}

fn needed(policy: &Policy) -> CoveredIssuer {
    policy.signals().hub().unwrap().needed[0]
}

/// What a filter makes of a feed of this hub.
fn covers(hub: &Policy, filter: &Policy) -> Result<(), NotReady> {
    let feed = filter.signals().hub().unwrap().id;
    let mut feeds = Feeds::default();
    feeds.note(FeedStatus { feed, caught_up: true, issuers: hub.issuers().iter().map(covered).collect() });
    feeds.check(feed, &needed(filter))
}

#[test]
fn a_hub_covers_the_issuers_that_it_has_with_the_same_names() {
    assert_eq!(covers(&receiver(Some("main")), &filter("main")), Ok(()));
    assert_eq!(covers(&receiver(None), &filter("main")), Err(NotReady::NotCovered), "it hashes names otherwise");
    assert_eq!(covers(&receiver(Some("other")), &filter("main")), Err(NotReady::NotCovered));
}

/// A follower drops entries whose tag is that of no covered issuer.
#[test]
fn the_tag_of_a_covered_issuer_is_that_of_its_entries() {
    let (hub, filter) = (receiver(Some("main")), filter("main"));
    let tag = needed(&filter).id.tag();
    assert_eq!(covered(&hub.issuers()[0]).id.tag(), tag);
    for (event, subject) in subjects() {
        let keys = keys_of_signal(&hub, &event, &subject);
        assert!(keys.iter().all(|key| key.issuer() == tag), "{subject}");
    }
    assert_ne!(covered(&receiver(None).issuers()[0]).id.tag(), tag);
}

#[test]
fn every_configured_name_changes_what_must_be_covered() {
    let with = |change: &dyn Fn(&mut Value)| {
        let mut issuer = issuer();
        change(&mut issuer);
        needed(&filter_of(issuer, "main"))
    };
    let plain = with(&|_| {});
    assert_eq!(plain, with(&|_| {}));
    let subject = |name: &'static str, value: Value| move |c: &mut Value| c["claims"]["subjects"][name] = value.clone();
    let claim = |name: &'static str| move |c: &mut Value| c["claims"][name] = json!("changed");
    type Change = Box<dyn Fn(&mut Value)>;
    let names: Vec<(&str, Change)> = vec![
        ("issuer", Box::new(|c| c["issuer"] = json!("https://other.example"))),
        ("task", Box::new(claim("task"))),
        ("session", Box::new(claim("session"))),
        ("device", Box::new(claim("device"))),
        ("tenant", Box::new(claim("tenant"))),
        ("group", Box::new(claim("group"))),
        ("no device", Box::new(|c| drop(c["claims"].as_object_mut().unwrap().remove("device")))),
        ("email", Box::new(subject("email", json!("mail")))),
        ("phone_number", Box::new(subject("phone_number", json!("email")))),
        ("account", Box::new(subject("account", json!("email")))),
        ("did", Box::new(subject("did", json!("email")))),
        ("uri", Box::new(subject("uri", json!("email")))),
        ("iss_sub claim", Box::new(subject("iss_sub", json!({"https://idp.example": "other"})))),
        ("iss_sub issuer", Box::new(subject("iss_sub", json!({"https://idp2.example": "idp_sub"})))),
        ("two tasks", Box::new(|c| c["claims"]["task"] = json!(["run", "job"]))),
        ("two other tasks", Box::new(|c| c["claims"]["task"] = json!(["job", "run"]))),
        ("a task whose name is like two", Box::new(|c| c["claims"]["task"] = json!("run or job"))),
        ("no task", Box::new(|c| c["claims"]["task"] = json!("none"))),
        ("a task by the name of none", Box::new(|c| c["claims"]["task"] = json!("\"none\""))),
        ("opaque session", Box::new(subject("opaque", json!("session")))),
        ("opaque user", Box::new(subject("opaque", json!("user")))),
        ("opaque token", Box::new(subject("opaque", json!("token")))),
    ];
    let mut ids = vec![("plain", plain.id), ("feed", needed(&filter("other")).id)];
    for (name, change) in &names {
        let changed = with(change.as_ref());
        assert_eq!(changed.session_retention, plain.session_retention);
        assert!(ids.iter().all(|(_, known)| *known != changed.id), "{name} has an id of its own");
        ids.push((name, changed.id));
    }
    // A claim of one name is not the same claim of another.
    let swapped = with(&|c| {
        c["claims"]["device"] = json!("tenant_id");
        c["claims"]["tenant"] = json!("device_id");
    });
    assert_ne!(swapped.id, plain.id);
    // What says nothing about names changes nothing.
    let longer = with(&|c| c["max_session"] = json!("48h"));
    assert_eq!((longer.id, longer.session_retention), (plain.id, plain.session_retention.plus(Span::hours(24))));
    let unrelated = with(&|c| c["audiences"] = json!(["https://orders.mesh", "other"]));
    assert_eq!(unrelated, plain);
}

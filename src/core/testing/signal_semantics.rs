//! What signals do, sent through the receiver and the judge, in edge cases and in every order. Odd signals are in
//! [`crate::testing::odd_signals`].

use crate::config::load;
use crate::decision::judge::Judge;
use crate::decision::verdict::Verdict;
use crate::http::request::Request;
use crate::reason::Reason;
use crate::signal::accepted::Signal;
use crate::signal::receiver::{self, Head, Received};
use crate::state::revocations::set_up;
use crate::testing::fixture::{self, NOW, sign, token_with};
use crate::testing::ports::{TestPorts, TestStore};
use crate::time::Timestamp;
use proptest::prelude::*;
use serde_json::{Map, Value, json};

pub(crate) const JIT: &str = "https://jit.example";
pub(crate) const CAEP: &str = "https://schemas.openid.net/secevent/caep/event-type/";
pub(crate) const RISC: &str = "https://schemas.openid.net/secevent/risc/event-type/";
pub(crate) const SSF: &str = "https://schemas.openid.net/secevent/ssf/event-type/";
pub(crate) const OURS: &str = "urn:taskfence:secevent:";

/// A receiver and a judge that share one state.
pub(crate) struct Harness {
    judge: Judge,
    ports: TestPorts,
    sets: usize,
}

/// A configuration with two transmitters, and one rule for each thing that signals can change.
fn config() -> Value {
    let keys = json!({"inline": fixture::jwks()});
    let transmitter = |name: &str| json!({"issuer": name, "audience": "us", "keys": keys, "subjects": [JIT], "settable_claims": ["trusted_network", "role"]});
    json!({
        "issuers": [{"issuer": JIT, "audiences": ["https://orders.mesh"], "keys": keys,
                     "claims": {"device": "device_id", "subjects": {"email": "email"}}}],
        "rules": [
            {"name": "open", "match": {"path": "/open"}, "require": {}},
            {"name": "refund", "match": {"path": "/refund"}, "require": {"scope": "orders.refund"}},
            {"name": "order", "match": {"path": "/orders/{order}", "methods": ["GET"]},
             "require": {"detail": {"type": "order", "action": "read", "identifier": "{order}"}}},
            {"name": "photos", "match": {"path": "/photos", "methods": ["GET"]}, "require": {"detail": {"type": "photos", "action": "GET"}}},
            {"name": "put-photos", "match": {"path": "/photos", "methods": ["PUT"]}, "require": {"detail": {"type": "photos", "action": "PUT"}}},
            {"name": "device", "match": {"path": "/device"}, "require": {"device": "compliant"}},
            {"name": "risk", "match": {"path": "/risk"}, "require": {"risk": {"below": "HIGH", "unknown": "allow"}}},
            {"name": "acr", "match": {"path": "/acr"}, "require": {"acr": ["phr"]}},
            {"name": "network", "match": {"path": "/network"}, "require": {"claims": {"trusted_network": true}}},
            {"name": "when", "match": {"path": "/when"}, "require": {"when": "claims.trusted_network != false"}},
            {"name": "fresh", "match": {"path": "/fresh"}, "require": {"state_age": "30s"}}
        ],
        "signals": {"transmitters": [transmitter("https://idp.example"), transmitter("https://mdm.example")]}
    })
}

impl Harness {
    pub(crate) fn new() -> Harness {
        Harness::with(|_| {})
    }

    pub(crate) fn with(change: impl FnOnce(&mut Value)) -> Harness {
        let mut config = config();
        change(&mut config);
        let policy = load::load(config.to_string().as_bytes()).unwrap().policy;
        let mut ports = TestPorts { store: TestStore::with_doorbell(), ..TestPorts::default() };
        set_up(&mut ports.store, 1).unwrap();
        Harness { judge: Judge::new(policy), ports, sets: 0 }
    }

    /// Accepts every signature from now on.
    pub(crate) fn trust_signatures(&mut self) {
        self.ports.signatures.trusting = true;
    }

    pub(crate) fn push_body(&mut self, body: &str) -> Received {
        self.push_at(body, NOW)
    }

    pub(crate) fn push_at(&mut self, body: &str, now: Timestamp) -> Received {
        let headers = [(":method", "POST"), (":path", "/signals"), ("content-type", "application/secevent+jwt")];
        let head = Head::from_headers(headers.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())));
        receiver::receive(
            self.judge.policy().signals(),
            self.judge.policy().issuers(),
            &head,
            body.as_bytes(),
            &mut self.ports,
            now,
        )
    }

    /// Pushes a SET with these claims, which must be applied, and returns its signal.
    pub(crate) fn applied(&mut self, claims: Value) -> Signal {
        match self.push_body(&signed(json!({}), claims.clone())) {
            Received::Applied(signal) => signal,
            other => panic!("{claims}: {other:?}"),
        }
    }

    /// Pushes a SET with this header and these claims. The error is `err` of the answer, or its status.
    pub(crate) fn push(&mut self, header: Value, claims: Value) -> Result<(), String> {
        let received = self.push_body(&signed(header, claims));
        let (status, _, body) = receiver::answer(&received);
        match status {
            202 => Ok(()),
            400 => Err(serde_json::from_str::<Value>(&body).unwrap()["err"].as_str().unwrap().to_owned()),
            other => Err(other.to_string()),
        }
    }

    /// Pushes an event about a subject, under a `jti` of its own.
    pub(crate) fn say(&mut self, event: &str, payload: Value, subject: Value) {
        self.sets = self.sets.saturating_add(1);
        let jti = format!("said-{}", self.sets);
        self.push(json!({}), set(&jti, event, payload, subject)).unwrap();
    }

    fn verdict(&mut self, line: &str, token: &str, now: Timestamp) -> Verdict {
        let (method, path) = line.split_once(' ').unwrap();
        let bearer = format!("Bearer {token}");
        let headers = [(":method", method), (":authority", "orders.mesh"), (":path", path), ("authorization", &bearer)];
        let request = Request::from_headers(headers.map(|(name, value)| (name.as_bytes(), value.as_bytes())));
        self.judge.judge(&request, &mut self.ports, now)
    }

    /// Why a request to `path` with a token of these claims is refused; `None` if it passes.
    pub(crate) fn ask(&mut self, path: &str, claims: Value) -> Option<Reason> {
        let line = if path.contains(' ') { path.to_owned() } else { format!("GET {path}") };
        self.verdict(&line, &token_with(json!({}), claims), NOW).err().map(|refusal| refusal.reason)
    }

    pub(crate) fn open(&mut self, claims: Value) -> Option<Reason> {
        self.ask("/open", claims)
    }

    /// [`Harness::open`] for a token whose `typ` is `JWT`.
    pub(crate) fn open_jwt(&mut self, claims: Value) -> Option<Reason> {
        let token = token_with(json!({"typ": "JWT"}), claims);
        self.verdict("GET /open", &token, NOW).err().map(|refusal| refusal.reason)
    }
}

pub(crate) fn set(jti: &str, event: &str, payload: Value, subject: Value) -> Value {
    json!({"iss": "https://idp.example", "aud": "us", "iat": NOW.0, "jti": jti, "sub_id": subject, "events": {event: payload}})
}

pub(crate) fn signed(header: Value, claims: Value) -> String {
    let mut head = json!({"alg": "ES256", "typ": "secevent+jwt", "kid": "jit-1"});
    head.as_object_mut().unwrap().extend(header.as_object().unwrap().clone());
    let present = claims.as_object().unwrap().iter().filter(|(_, value)| !value.is_null());
    sign(&head, &Value::Object(present.map(|(name, value)| (name.clone(), value.clone())).collect::<Map<_, _>>()))
}

pub(crate) fn caep(name: &str) -> String {
    format!("{CAEP}{name}")
}

pub(crate) fn opaque(id: &str) -> Value {
    json!({"format": "opaque", "id": id})
}

pub(crate) fn user(name: &str) -> Value {
    json!({"format": "iss_sub", "iss": JIT, "sub": name})
}

pub(crate) fn token(jti: &str) -> Value {
    json!({"format": "jwt_id", "iss": JIT, "jti": jti})
}

pub(crate) fn complex(members: Value) -> Value {
    let mut subject = members;
    subject["format"] = json!("complex");
    subject
}

pub(crate) fn device(status: &str, at: u64) -> Value {
    let before = if status == "compliant" { "not-compliant" } else { "compliant" };
    json!({"previous_status": before, "current_status": status, "event_timestamp": at})
}

pub(crate) fn risk(level: &str, at: u64) -> Value {
    json!({"principal": "USER", "current_level": level, "event_timestamp": at})
}

#[test]
fn a_repeated_set_is_accepted_and_has_no_second_effect() {
    let mut harness = Harness::new();
    let revoke = set("1", &caep("session-revoked"), json!({}), token("tok-1"));
    for _ in 0..2 {
        assert_eq!(harness.push(json!({}), revoke.clone()), Ok(()));
        assert_eq!(harness.open(json!({})), Some(Reason::TokenRevoked));
    }
    let later = Value::Object(
        revoke
            .as_object()
            .unwrap()
            .clone()
            .into_iter()
            .chain([("iat".to_owned(), json!(NOW.0 + 1)), ("txn".to_owned(), json!("t"))])
            .collect(),
    );
    assert_eq!(harness.push(json!({}), later), Ok(()), "told again later, it is the same");
}

#[test]
fn the_same_jti_of_another_transmitter_is_another_set() {
    let mut harness = Harness::new();
    assert_eq!(harness.push(json!({}), set("1", &caep("session-revoked"), json!({}), token("tok-1"))), Ok(()));
    let mut other = set("1", &caep("session-revoked"), json!({}), token("tok-2"));
    other["iss"] = json!("https://mdm.example");
    assert_eq!(harness.push(json!({}), other), Ok(()));
    assert_eq!(harness.open(json!({})), Some(Reason::TokenRevoked));
    assert_eq!(harness.open(json!({"jti": "tok-2"})), Some(Reason::TokenRevoked));
}

#[test]
fn the_same_jti_with_another_body_is_refused() {
    let mut harness = Harness::new();
    assert_eq!(harness.push(json!({}), set("1", &caep("session-revoked"), json!({}), token("tok-1"))), Ok(()));
    let other = set("1", &caep("session-revoked"), json!({}), token("tok-2"));
    // The answer 202 would mean that it was applied.
    assert_eq!(harness.push(json!({}), other.clone()), Err("invalid_request".to_owned()));
    assert!(matches!(harness.push_body(&signed(json!({}), other)), Received::Contradicts(_)), "an alarm");
    assert_eq!(harness.open(json!({})), Some(Reason::TokenRevoked), "the first stands");
    assert_eq!(harness.open(json!({"jti": "tok-2"})), None);
}

#[test]
fn an_older_signal_that_comes_later_changes_nothing() {
    let mut harness = Harness::new();
    let subject = complex(json!({"device": opaque("d7")}));
    harness.say(&caep("device-compliance-change"), device("not-compliant", NOW.0 - 20), subject.clone());
    harness.say(&caep("device-compliance-change"), device("compliant", NOW.0 - 30), subject.clone());
    let asks = json!({"device_id": "d7"});
    assert_eq!(harness.ask("/device", asks.clone()), Some(Reason::DeviceNotCompliant));
    harness.say(&caep("device-compliance-change"), device("compliant", NOW.0 - 10), subject);
    assert_eq!(harness.ask("/device", asks), None);
}

#[test]
fn of_two_signals_for_one_time_the_stricter_counts() {
    for order in [["compliant", "not-compliant"], ["not-compliant", "compliant"]] {
        let mut harness = Harness::new();
        for status in order {
            harness.say(
                &caep("device-compliance-change"),
                device(status, NOW.0),
                complex(json!({"device": opaque("d7")})),
            );
        }
        assert_eq!(harness.ask("/device", json!({"device_id": "d7"})), Some(Reason::DeviceNotCompliant), "{order:?}");
    }
    for order in [["HIGH", "LOW"], ["LOW", "HIGH"]] {
        let mut harness = Harness::new();
        order.iter().for_each(|level| harness.say(&caep("risk-level-change"), risk(level, NOW.0), user("alice")));
        assert_eq!(harness.ask("/risk", json!({})), Some(Reason::RiskTooHigh), "{order:?}");
    }
}

#[test]
fn a_cut_off_hits_sessions_up_to_it() {
    let mut harness = Harness::new();
    let at = NOW.0 - 50;
    harness.say(&caep("session-revoked"), json!({"event_timestamp": at}), user("alice"));
    let began = |auth_time: u64| json!({"auth_time": auth_time});
    assert_eq!(harness.open(began(at - 1)), Some(Reason::UserRevoked));
    assert_eq!(harness.open(began(at)), Some(Reason::UserRevoked));
    assert_eq!(harness.open(began(at + 1)), None);
}

#[test]
fn a_token_minted_anew_in_the_old_session_is_hit() {
    let mut harness = Harness::new();
    harness.say(&caep("session-revoked"), json!({"event_timestamp": NOW.0 - 50}), user("alice"));
    assert_eq!(harness.open(json!({"iat": NOW.0 - 10, "auth_time": NOW.0 - 60})), Some(Reason::UserRevoked));
    // If the token does not say when the session began, a signal can.
    let bare = json!({"iat": NOW.0 - 10, "auth_time": fixture::ABSENT});
    assert_eq!(harness.open(bare.clone()), None);
    harness.say(
        &caep("session-established"),
        json!({"event_timestamp": NOW.0 - 60}),
        complex(json!({"session": opaque("sess-9")})),
    );
    assert_eq!(harness.open(bare), Some(Reason::UserRevoked));
}

#[test]
fn a_revoked_session_stays_revoked_at_any_time() {
    let mut harness = Harness::new();
    harness.say(
        &caep("session-revoked"),
        json!({"event_timestamp": 1000}),
        complex(json!({"session": opaque("sess-9")})),
    );
    assert_eq!(harness.open(json!({})), Some(Reason::SessionRevoked));
    assert_eq!(harness.open(json!({"sid": "other"})), None);
}

#[test]
fn every_member_of_a_complex_subject_must_fit() {
    let mut harness = Harness::new();
    harness.say(&caep("session-revoked"), json!({}), complex(json!({"user": user("alice"), "device": opaque("d7")})));
    assert_eq!(harness.open(json!({"device_id": "d7"})), Some(Reason::PrincipalRevoked));
    assert_eq!(harness.open(json!({"device_id": "d8"})), None);
    assert_eq!(harness.open(json!({"device_id": "d7", "sub": "bob"})), None);
    let refusal = harness.verdict("GET /open", &token_with(json!({}), json!({})), NOW).unwrap_err();
    assert_eq!(refusal.reason, Reason::UserRevoked, "a token that names no device");
    assert!(refusal.is_indeterminate());
}

#[test]
fn members_that_are_not_understood() {
    let mut harness =
        Harness::with(|config| config["signals"]["transmitters"][0]["critical_members"] = json!(["team"]));
    let with = |extra: &str| complex(json!({"user": user("alice"), extra: opaque("x")}));
    let refused = harness.push(json!({}), set("1", &caep("session-revoked"), json!({}), with("team")));
    assert_eq!(refused, Err("invalid_request".to_owned()), "critical: discarded");
    assert_eq!(harness.open(json!({})), None, "as a whole");
    let received = harness.push_body(&signed(json!({}), set("2", &caep("session-revoked"), json!({}), with("group"))));
    let Received::Applied(signal) = received else { panic!("{received:?}") };
    assert!(signal.notes().is_alarming());
    assert_eq!(signal.notes().unmatched, ["group"]);
    assert_eq!(harness.open(json!({})), Some(Reason::UserRevoked), "applied on the rest");
    // A signal that permits something is not applied to a wider subject than intended.
    let low = complex(json!({"user": user("bob"), "group": opaque("x")}));
    harness.say(&caep("risk-level-change"), risk("HIGH", NOW.0 - 9), user("bob"));
    harness.say(&caep("risk-level-change"), risk("LOW", NOW.0), low);
    assert_eq!(harness.ask("/risk", json!({"sub": "bob"})), Some(Reason::RiskTooHigh));
}

#[test]
fn a_time_in_milliseconds_is_recognized() {
    let mut harness = Harness::new();
    let at = NOW.0 - 50;
    let ms = set("1", &caep("session-revoked"), json!({"event_timestamp": at * 1000}), user("alice"));
    let signal = harness.applied(ms);
    assert_eq!(signal.notes().oddities.iter().collect::<Vec<_>>(), ["event_timestamp is in milliseconds"]);
    assert_eq!(harness.open(json!({"auth_time": at})), Some(Reason::UserRevoked));
    assert_eq!(harness.open(json!({"auth_time": at + 1})), None);
}

#[test]
fn without_event_timestamp_toe_counts_then_iat() {
    let at = NOW.0 - 50;
    for (toe, iat) in [(json!(at), NOW.0), (Value::Null, at)] {
        let mut harness = Harness::new();
        let mut revoke = set("1", &caep("session-revoked"), json!({}), user("alice"));
        revoke["toe"] = toe;
        revoke["iat"] = json!(iat);
        assert_eq!(harness.push(json!({}), revoke), Ok(()));
        assert_eq!(harness.open(json!({"auth_time": at})), Some(Reason::UserRevoked));
        assert_eq!(harness.open(json!({"auth_time": at + 1})), None);
    }
}

#[test]
fn a_time_in_the_future_counts_as_now() {
    let mut harness = Harness::new();
    let mut ahead = set("1", &caep("session-revoked"), json!({"event_timestamp": NOW.0 + 5000}), user("alice"));
    ahead["iat"] = json!(NOW.0 - 90);
    let signal = harness.applied(ahead.clone());
    assert!(signal.notes().future && signal.notes().is_alarming());
    assert_eq!(harness.open(json!({"auth_time": NOW.0, "iat": NOW.0})), Some(Reason::UserRevoked));
    let later = json!({"auth_time": NOW.0 + 1, "iat": NOW.0 + 1});
    assert_eq!(harness.open(later.clone()), None, "who signs in later is not locked out");
    // A repetition does not affect sessions that began in the meantime.
    let received = harness.push_at(&signed(json!({}), ahead), Timestamp(NOW.0 + 20));
    assert!(matches!(received, Received::Applied(_)));
    assert_eq!(harness.open(later), None);
}

#[test]
fn each_refused_set_has_its_error_code() {
    let good = || set("1", &caep("session-revoked"), json!({}), token("tok-1"));
    let with = |name: &str, value: Value| {
        let mut claims = good();
        claims[name] = value;
        claims
    };
    let two = json!({caep("session-revoked"): {}, format!("{OURS}task-completed"): {}});
    for (header, claims, code) in [
        (json!({"typ": "JWT"}), good(), "invalid_request"),
        (json!({"alg": "none"}), good(), "invalid_key"),
        (json!({"alg": "HS256"}), good(), "invalid_key"),
        (json!({}), with("aud", json!("them")), "invalid_audience"),
        (json!({}), with("iss", json!("https://elsewhere.example")), "invalid_issuer"),
        (json!({}), with("events", two), "invalid_request"),
        (json!({}), with("sub_id", Value::Null), "invalid_request"),
        (
            json!({}),
            with("sub_id", json!({"format": "iss_sub", "iss": "https://elsewhere.example", "sub": "a"})),
            "access_denied",
        ),
    ] {
        let mut harness = Harness::new();
        assert_eq!(harness.push(header.clone(), claims.clone()), Err(code.to_owned()), "{header} {claims}");
        assert_eq!(harness.open(json!({})), None);
    }
}

#[test]
fn tokens_are_no_sets_and_sets_are_no_tokens() {
    let mut harness = Harness::new();
    assert!(matches!(harness.push_body(&token_with(json!({}), json!({}))), Received::Refused(_)));
    let set = signed(json!({}), set("1", &caep("session-revoked"), json!({}), token("tok-1")));
    let refusal = harness.verdict("GET /open", &set, NOW).unwrap_err();
    assert!(matches!(refusal.reason, Reason::TokenType | Reason::IssuerUnknown), "{:?}", refusal.reason);
}

#[test]
fn a_verification_with_another_state_than_asked() {
    let mut harness =
        Harness::with(|config| config["signals"]["transmitters"][0]["verification_state"] = json!("s3cret"));
    let verify = |jti: &str, payload| set(jti, &format!("{SSF}verification"), payload, opaque("stream-1"));
    assert_eq!(harness.push(json!({}), verify("1", json!({"state": "other"}))), Err("invalid_state".to_owned()));
    assert_eq!(harness.push(json!({}), verify("2", json!({"state": "s3cret"}))), Ok(()));
    assert_eq!(harness.push(json!({}), verify("3", json!({}))), Ok(()), "of the transmitter's own accord");
}

#[test]
fn a_paused_stream_grows_stale() {
    let mut harness = Harness::with(|config| {
        config["signals"]["transmitters"].as_array_mut().unwrap().pop();
    });
    let stream = |jti: &str, status: &str, iat: u64| {
        let mut set = set(jti, &format!("{SSF}stream-updated"), json!({"status": status}), opaque("stream-1"));
        set["iat"] = json!(iat);
        set
    };
    let fresh = |harness: &mut Harness, now: u64| {
        harness
            .verdict("GET /fresh", &token_with(json!({}), json!({})), Timestamp(now))
            .err()
            .map(|refusal| refusal.reason)
    };
    assert_eq!(fresh(&mut harness, NOW.0), Some(Reason::StateStale), "nobody was ever heard of");
    harness.push(json!({}), stream("1", "paused", NOW.0 - 20)).unwrap();
    assert_eq!(fresh(&mut harness, NOW.0), None);
    harness.say(&caep("session-revoked"), json!({}), token("another"));
    assert_eq!(
        fresh(&mut harness, NOW.0 + 11),
        Some(Reason::StateStale),
        "what still trickles in does not stop the timer"
    );
    harness.push(json!({}), stream("2", "enabled", NOW.0)).unwrap();
    assert_eq!(fresh(&mut harness, NOW.0 + 11), None);
    harness.push(json!({}), stream("3", "disabled", NOW.0 + 1)).unwrap();
    assert_eq!(fresh(&mut harness, NOW.0 + 11), Some(Reason::StateStale), "at once");
}

#[test]
fn nothing_undoes_a_narrowing() {
    let narrow = |scope: &str| (format!("{OURS}grant-narrowed"), json!({"scope": scope}));
    let widen = (caep("token-claims-change"), json!({"claims": {"scope": "orders.read orders.refund orders.admin"}}));
    let mut harness = Harness::new();
    let task = complex(json!({"task": opaque("task-42")}));
    assert_eq!(harness.ask("/refund", json!({})), None);
    harness.say(&narrow("orders.read").0, narrow("orders.read").1, task.clone());
    assert_eq!(harness.ask("/refund", json!({})), Some(Reason::ScopeInsufficient));
    assert_eq!(harness.open(json!({})), None);
    harness.say(&widen.0, widen.1.clone(), token("tok-1"));
    harness.say(&narrow("orders.refund").0, narrow("orders.refund").1, task.clone());
    assert_eq!(harness.ask("/refund", json!({})), Some(Reason::ScopeInsufficient), "the intersection of all");
    harness.say(&format!("{OURS}task-completed"), json!({"outcome": "success"}), task.clone());
    harness.say(&widen.0, widen.1, task);
    assert_eq!(harness.ask("/refund", json!({})), Some(Reason::TaskCompleted));
}

#[test]
fn objects_of_authorization_details_never_mix() {
    let details = |lists: [(&str, &str); 2]| {
        Value::Array(lists.map(|(kind, action)| json!({"type": kind, "actions": [action]})).to_vec())
    };
    let grant = json!({"authorization_details": details([("photos", "GET"), ("contacts", "PUT")])});
    let mut harness = Harness::new();
    assert_eq!(harness.ask("GET /photos", grant.clone()), None);
    assert_eq!(harness.ask("PUT /photos", grant.clone()), Some(Reason::DetailInsufficient));
    // Nor do those of a token and of a narrowing.
    let narrowed = json!({"authorization_details": details([("photos", "PUT"), ("contacts", "GET")])});
    harness.say(&format!("{OURS}grant-narrowed"), narrowed, token("tok-1"));
    assert_eq!(harness.ask("GET /photos", grant.clone()), Some(Reason::DetailInsufficient));
    assert_eq!(harness.ask("PUT /photos", grant), Some(Reason::DetailInsufficient));
}

#[test]
fn a_grant_that_passed_is_judged_anew() {
    let mut harness = Harness::new();
    let token = token_with(json!({}), json!({}));
    assert!(harness.verdict("GET /open", &token, NOW).is_ok());
    harness.say(&caep("session-revoked"), json!({}), self::token("tok-1"));
    assert_eq!(harness.verdict("GET /open", &token, NOW).unwrap_err().reason, Reason::TokenRevoked);
}

#[test]
fn a_path_has_one_normal_form() {
    let mut harness = Harness::new();
    for path in ["//open", "/./open", "/%2e%2e/open", "/open;x", "/%6Fpen%2F"] {
        assert_ne!(harness.ask(path, json!({})), None, "{path}");
    }
    assert_eq!(harness.ask("/%6Fpen", json!({})), None, "an unreserved escape is its letter");
}

#[test]
fn a_request_has_one_credential() {
    let mut harness = Harness::new();
    let bearer = format!("Bearer {}", token_with(json!({}), json!({})));
    let headers = [
        (":method", "GET"),
        (":authority", "o"),
        (":path", "/open"),
        ("authorization", &bearer),
        ("authorization", "DPoP x"),
    ];
    let request = Request::from_headers(headers.map(|(name, value)| (name.as_bytes(), value.as_bytes())));
    let refusal = harness.judge.judge(&request, &mut harness.ports, NOW).unwrap_err();
    assert_eq!(refusal.reason, Reason::CredentialsAmbiguous);
}

#[test]
fn the_second_of_expiry() {
    for (skew, last) in [("0s", 199), ("60s", 259)] {
        let mut harness = Harness::with(|config| config["issuers"][0]["clock_skew"] = json!(skew));
        let token = token_with(json!({}), json!({}));
        assert!(harness.verdict("GET /open", &token, Timestamp(NOW.0 + last)).is_ok(), "{skew}");
        let refusal = harness.verdict("GET /open", &token, Timestamp(NOW.0 + last + 1)).unwrap_err();
        assert_eq!(refusal.reason, Reason::TokenExpired, "{skew}");
    }
}

#[test]
fn claims_are_what_was_said_last() {
    let mut harness = Harness::new();
    let change = |value: Value, at: u64| json!({"claims": {"trusted_network": value}, "event_timestamp": at});
    let claims = json!({"trusted_network": true});
    let both = |harness: &mut Harness| (harness.ask("/network", claims.clone()), harness.ask("/when", claims.clone()));
    assert_eq!(both(&mut harness), (None, None));
    harness.say(&caep("token-claims-change"), change(json!(false), NOW.0 - 20), token("tok-1"));
    assert_eq!(both(&mut harness), (Some(Reason::ClaimMismatch), Some(Reason::ConditionFailed)));
    harness.say(&caep("token-claims-change"), change(json!(true), NOW.0 - 30), token("tok-1"));
    assert_eq!(both(&mut harness), (Some(Reason::ClaimMismatch), Some(Reason::ConditionFailed)), "older");
    harness.say(&caep("token-claims-change"), change(json!(true), NOW.0 - 10), token("tok-1"));
    assert_eq!(both(&mut harness), (None, None));
    // Two values for the same second: it is unknown which one holds, so neither is accepted.
    harness.say(&caep("token-claims-change"), change(json!(false), NOW.0 - 10), token("tok-1"));
    assert_eq!(both(&mut harness), (Some(Reason::ClaimMismatch), Some(Reason::ConditionError)));
    harness.say(&caep("token-claims-change"), change(json!(true), NOW.0 - 5), token("tok-1"));
    assert_eq!(both(&mut harness), (None, None), "a later word settles it");
}

#[test]
fn what_makes_a_token_this_token_cannot_be_changed() {
    let mut harness = Harness::new();
    let push = |harness: &mut Harness, name: &str| {
        let jti = format!("fixed-{name}");
        harness.push(json!({}), set(&jti, &caep("token-claims-change"), json!({"claims": {name: "x"}}), token("tok-1")))
    };
    for name in
        ["sub", "exp", "aud", "jti", "iss", "act", "cnf", "client_id", "txn", "sid", "device_id", "email", "acr"]
    {
        assert_eq!(push(&mut harness, name), Err("invalid_request".to_owned()), "{name}");
    }
    assert_eq!(push(&mut harness, "team"), Err("access_denied".to_owned()), "not one that this transmitter may set");
    assert_eq!(push(&mut harness, "role"), Ok(()));
}

#[test]
fn assurance_can_fall_and_rise_again_and_never_beyond_the_token() {
    let mut harness = Harness::new();
    let to = |level: &str, direction: &str, at: u64| json!({"namespace": "acr", "current_level": level, "change_direction": direction, "event_timestamp": at});
    let phr = json!({"acr": "phr"});
    assert_eq!(harness.ask("/acr", phr.clone()), None);
    harness.say(&caep("assurance-level-change"), to("pwd", "decrease", NOW.0 - 20), user("alice"));
    assert_eq!(harness.ask("/acr", phr.clone()), Some(Reason::AssuranceInsufficient));
    assert_eq!(harness.ask("/acr", json!({"acr": "phr", "auth_time": NOW.0 - 10})), None, "who signs in anew");
    harness.say(&caep("assurance-level-change"), to("phr", "increase", NOW.0 - 10), user("alice"));
    assert_eq!(harness.ask("/acr", phr), None);
    assert_eq!(
        harness.ask("/acr", json!({"acr": "pwd"})),
        Some(Reason::AssuranceInsufficient),
        "a step-up mints a token"
    );
}

#[test]
fn a_transmitter_speaks_within_its_remit() {
    let mut harness = Harness::with(|config| {
        config["signals"]["transmitters"][1]["events"] = json!(["device-compliance-change"]);
        config["signals"]["transmitters"][1]["event_uris"] =
            json!({"https://mdm.example/posture": "device-compliance-change"});
    });
    let mut complete =
        set("1", &format!("{OURS}task-completed"), json!({}), complex(json!({"task": opaque("task-42")})));
    complete["iss"] = json!("https://mdm.example");
    assert_eq!(harness.push(json!({}), complete), Err("access_denied".to_owned()));
    assert_eq!(harness.open(json!({})), None);
    let mut posture =
        set("2", "https://mdm.example/posture", device("compliant", NOW.0), complex(json!({"device": opaque("d7")})));
    posture["iss"] = json!("https://mdm.example");
    assert_eq!(harness.push(json!({}), posture), Ok(()));
    assert_eq!(harness.ask("/device", json!({"device_id": "d7"})), None);
}

#[test]
fn the_accounts_of_risc_and_credentials_end_sessions() {
    let pin = |change: &str| json!({"credential_type": "pin", "change_type": change});
    for (event, payload, ends) in [
        (format!("{RISC}account-disabled"), json!({"reason": "hijacking"}), true),
        (format!("{RISC}account-purged"), json!({}), true),
        (format!("{RISC}sessions-revoked"), json!({}), true),
        (format!("{RISC}credential-compromise"), json!({"credential_type": "password"}), true),
        (format!("{RISC}account-enabled"), json!({}), false),
        (format!("{RISC}identifier-changed"), json!({}), false),
        (caep("credential-change"), pin("revoke"), true),
        (caep("credential-change"), pin("create"), false),
        (caep("session-presented"), json!({}), false),
    ] {
        for subject in [user("alice"), json!({"format": "email", "email": "Alice@example.org"})] {
            let mut harness = Harness::new();
            harness.say(&event, payload.clone(), subject.clone());
            let refused = harness.open(json!({"email": "alice@example.org"}));
            assert_eq!(refused, ends.then_some(Reason::UserRevoked), "{event} {subject}");
        }
    }
}

#[test]
fn effects_can_be_chosen() {
    let mut harness = Harness::with(|config| {
        config["signals"]["effects"] = json!({"risk-level-change": "set_and_end", "credential-change": "ignore"});
    });
    harness.say(&caep("credential-change"), json!({"credential_type": "pin", "change_type": "revoke"}), user("alice"));
    harness.say(&caep("risk-level-change"), risk("MEDIUM", NOW.0 - 10), user("alice"));
    assert_eq!(harness.open(json!({})), None);
    harness.say(&caep("risk-level-change"), risk("HIGH", NOW.0), user("alice"));
    assert_eq!(harness.open(json!({})), Some(Reason::UserRevoked));
}

#[test]
fn a_subject_that_nobody_is_known_by_is_received() {
    let mut harness = Harness::new();
    let phone = json!({"format": "phone_number", "phone_number": "+41441234567"});
    let received = harness.push_body(&signed(json!({}), set("1", &caep("session-revoked"), json!({}), phone)));
    let Received::Applied(signal) = received else { panic!("{received:?}") };
    assert!(signal.notes().unknown_subject && signal.entries().is_empty());
}

/// The signals of the property test: (event, payload without time, subject).
fn vocabulary() -> Vec<(String, Value, Value)> {
    let task = complex(json!({"task": opaque("task-42")}));
    let session = complex(json!({"session": opaque("sess-9"), "user": user("alice")}));
    let narrow = format!("{OURS}grant-narrowed");
    let order = |actions: Value| json!({"authorization_details": [{"type": "order", "actions": actions, "identifier": "1881"}]});
    vec![
        (caep("session-revoked"), json!({}), user("alice")),
        (caep("session-revoked"), json!({}), complex(json!({"user": user("alice"), "device": opaque("d8")}))),
        (caep("session-established"), json!({}), session.clone()),
        (narrow.clone(), json!({"scope": "orders.read"}), task.clone()),
        (narrow.clone(), json!({"scope": "orders.read orders.refund"}), user("alice")),
        (narrow, order(json!(["write"])), token("tok-1")),
        (
            caep("token-claims-change"),
            order(json!(["read", "write"])).as_object().map(|m| json!({"claims": m})).unwrap(),
            task.clone(),
        ),
        (caep("token-claims-change"), json!({"claims": {"trusted_network": true}}), token("tok-1")),
        (caep("token-claims-change"), json!({"claims": {"trusted_network": false}}), session.clone()),
        (caep("token-claims-change"), json!({"claims": {"trusted_network": false, "role": "x"}}), token("tok-1")),
        (
            caep("assurance-level-change"),
            json!({"namespace": "a", "current_level": "phr", "change_direction": "increase"}),
            user("alice"),
        ),
        (caep("assurance-level-change"), json!({"namespace": "a", "current_level": "pwd"}), session),
        (
            caep("device-compliance-change"),
            json!({"previous_status": "compliant", "current_status": "not-compliant"}),
            complex(json!({"device": opaque("d7")})),
        ),
        (
            caep("device-compliance-change"),
            json!({"previous_status": "not-compliant", "current_status": "compliant"}),
            complex(json!({"device": opaque("d7")})),
        ),
        (caep("risk-level-change"), json!({"principal": "USER", "current_level": "HIGH"}), user("alice")),
        (caep("risk-level-change"), json!({"principal": "USER", "current_level": "LOW"}), user("alice")),
    ]
}

/// Every answer that signals can change, for three tokens.
fn answers(harness: &mut Harness) -> Vec<Option<Reason>> {
    let paths = ["/open", "/refund", "/orders/1881", "/device", "/risk", "/acr", "/network", "/when"];
    let base = json!({"device_id": "d7", "acr": "phr", "trusted_network": true});
    let mut tokens = [base.clone(), base.clone(), base];
    tokens[1]["auth_time"] = json!(fixture::ABSENT);
    tokens[2]["auth_time"] = json!(NOW.0 - 100);
    tokens[2]["sid"] = json!(fixture::ABSENT);
    tokens.iter().flat_map(|claims| paths.map(|path| harness.ask(path, claims.clone()))).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn any_order_and_repetition_of_signals_gives_one_standing(
        said in proptest::collection::vec((0usize..16, 99u64..102), 2..10),
        swaps in proptest::collection::vec(any::<proptest::sample::Index>(), 20),
    ) {
        order_does_not_matter(&said, &swaps)?;
    }

    /// None of these signals ends a grant, so that its claims can be compared.
    #[test]
    fn any_order_of_words_about_claims_gives_one_standing(
        said in proptest::collection::vec((7usize..12, 99u64..101), 2..6),
        swaps in proptest::collection::vec(any::<proptest::sample::Index>(), 12),
    ) {
        order_does_not_matter(&said, &swaps)?;
    }
}

/// `said`: indices into [`vocabulary`], and how many seconds ago each was sent.
fn order_does_not_matter(
    said: &[(usize, u64)],
    swaps: &[proptest::sample::Index],
) -> Result<(), proptest::test_runner::TestCaseError> {
    let vocabulary = vocabulary();
    let sets: Vec<String> = said
        .iter()
        .enumerate()
        .map(|(at, (which, ago))| {
            let (event, mut payload, subject) = vocabulary[*which].clone();
            payload["event_timestamp"] = json!(NOW.0.saturating_sub(*ago));
            signed(json!({}), set(&at.to_string(), &event, payload, subject))
        })
        .collect();
    let mut other = [sets.clone(), sets.clone()].concat();
    let len = other.len();
    for (at, to) in (0..len).zip(swaps) {
        other.swap(at, to.index(len));
    }
    let after = |sets: &[String]| {
        let mut harness = Harness::new();
        harness.ports.signatures.trusting = true;
        for set in sets {
            assert!(matches!(harness.push_body(set), Received::Applied(_)));
        }
        answers(&mut harness)
    };
    let (one, two) = (after(&sets), after(&other));
    prop_assert_eq!(&one, &two);
    // Nothing undoes a narrowing: what the narrowings alone refuse is refused with any other signals too.
    let narrowings = sets.iter().zip(said).filter(|(_, (which, _))| (3..7).contains(which));
    let narrowed = after(&narrowings.map(|(set, _)| set.clone()).collect::<Vec<_>>());
    for (narrow, all) in narrowed.iter().zip(&one) {
        let taken = matches!(narrow, Some(Reason::ScopeInsufficient | Reason::DetailInsufficient));
        prop_assert!(!taken || all.is_some());
    }
    Ok(())
}

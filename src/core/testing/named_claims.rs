//! Whatever an issuer calls its claims: signals and rules follow the names, and a narrowing reaches each claim that is
//! named for scope or details.

use crate::reason::Reason;
use crate::testing::fixture::{self, NOW};
use crate::testing::signal_semantics::{CAEP, Harness, JIT, OURS};
use crate::token::claim_path::ClaimPath;
use serde_json::{Map, Value, json};

/// Names of claims as a configuration writes them, each with the expression that reads the claim in a condition.
const NAMED: [(&str, &str); 6] = [
    ("scope", "claims.scope"),
    ("scp", "claims.scp"),
    ("permissions", "claims.permissions"),
    ("realm_access.roles", "claims.realm_access.roles"),
    ("resource_access.\"orders.v1\".roles", "claims.resource_access['orders.v1'].roles"),
    ("https://example.com/granted", "claims['https://example.com/granted']"),
];

/// A harness whose issuer names its claims so, with rules that ask for `b` in the claim `name` in each way there is.
fn harness(claims: &Value, name: &str, condition: &str, whole: &Value, settable: &[&str]) -> Harness {
    let (claims, name, condition, whole) = (claims.clone(), name.to_owned(), condition.to_owned(), whole.clone());
    let settable = json!(settable);
    Harness::with(move |config| {
        config["issuers"][0]["claims"] = claims;
        config["signals"]["transmitters"][0]["settable_claims"] = settable;
        let rules = config["rules"].as_array_mut().unwrap();
        let mut rule = |path: &str, require: Value| {
            rules.push(json!({"name": path, "match": {"path": path}, "require": require}));
        };
        rule("/named-when", json!({ "when": condition }));
        rule("/named-claims", json!({"claims": {name: whole}}));
        rule("/named-scope", json!({"scope": "b"}));
        rule("/named-grant", json!({"when": "'b' in grant.scopes"}));
        rule("/named-detail", json!({"detail": {"type": "b"}}));
    })
}

/// A token without the usual scope and details, with `value` at `name`.
fn claims_with(name: &str, value: &Value) -> Map<String, Value> {
    let absent = json!({"scope": fixture::ABSENT, "authorization_details": fixture::ABSENT});
    let mut claims = absent.as_object().unwrap().clone();
    ClaimPath::parse(name).unwrap().insert(&mut claims, value.clone());
    claims
}

/// The claim that a token-claims-change must name to give `name` the value `value`, with that value.
fn change(name: &str, value: &Value) -> Value {
    let mut claims = Map::new();
    ClaimPath::parse(name).unwrap().insert(&mut claims, value.clone());
    json!({ "claims": claims })
}

fn token_id() -> Value {
    json!({"format": "jwt_id", "iss": JIT, "jti": "tok-1"})
}

/// Which of `paths` a token with `claims` may call.
fn passing<'p>(harness: &mut Harness, paths: &[&'p str], claims: &Map<String, Value>) -> Vec<&'p str> {
    paths.iter().copied().filter(|path| harness.ask(path, Value::Object(claims.clone())).is_none()).collect()
}

#[test]
fn a_narrowing_reaches_each_claim_that_is_named_for_scope() {
    let paths = ["/named-when", "/named-claims", "/named-scope", "/named-grant"];
    for (name, read) in NAMED {
        for (both, one) in [(json!(["a", "b"]), json!(["a"])), (json!("a b"), json!("a"))] {
            let condition = match both.is_array() {
                true => format!("'b' in {read}"),
                false => format!("{read}.contains('b')"),
            };
            let claims = json!({"scope": ["missing", name]});
            let token = claims_with(name, &both);
            let narrowings = [
                (format!("{OURS}grant-narrowed"), json!({"scope": "a"})),
                (format!("{CAEP}token-claims-change"), change(name, &one)),
                (format!("{CAEP}token-claims-change"), json!({"claims": {"scope": "a"}})),
            ];
            for (event, payload) in narrowings {
                let mut harness = harness(&claims, name, &condition, &both, &[]);
                assert_eq!(passing(&mut harness, &paths, &token), paths, "{name} {both}");
                // Its transmitter may set no claim, but a grant may always be narrowed.
                harness.say(&event, payload.clone(), token_id());
                assert_eq!(passing(&mut harness, &paths, &token), Vec::<&str>::new(), "{name} {both} {payload}");
                // Nothing gives back what a narrowing took.
                harness.say(&format!("{CAEP}token-claims-change"), change(name, &both), token_id());
                assert_eq!(passing(&mut harness, &paths, &token), Vec::<&str>::new(), "{name} {both} {payload}");
            }
        }
    }
}

#[test]
fn a_narrowing_reaches_each_claim_that_is_named_for_details() {
    let paths = ["/named-when", "/named-claims", "/named-detail"];
    for (name, read) in NAMED.into_iter().filter(|(name, _)| !matches!(*name, "scope" | "scp")) {
        let (both, one) = (json!([{"type": "a"}, {"type": "b"}]), json!([{"type": "a"}]));
        let condition = format!("{read}.exists(detail, detail.type == 'b')");
        let claims = json!({"details": [name, "missing.there"]});
        let token = claims_with(name, &both);
        for (event, payload) in [
            (format!("{OURS}grant-narrowed"), json!({"authorization_details": one})),
            (format!("{CAEP}token-claims-change"), change(name, &one)),
        ] {
            let mut harness = harness(&claims, name, &condition, &both, &[]);
            assert_eq!(passing(&mut harness, &paths, &token), paths, "{name}");
            harness.say(&event, payload.clone(), token_id());
            assert_eq!(passing(&mut harness, &paths, &token), Vec::<&str>::new(), "{name} {payload}");
            harness.say(&format!("{CAEP}token-claims-change"), change(name, &both), token_id());
            assert_eq!(passing(&mut harness, &paths, &token), Vec::<&str>::new(), "{name} {payload}");
        }
    }
}

#[test]
fn a_claim_around_the_scope_is_set_and_the_scope_in_it_only_narrowed() {
    let claims = json!({"scope": "realm_access.roles"});
    let condition = "claims.realm_access.level == 2";
    let token = json!({"scope": fixture::ABSENT, "realm_access": {"roles": ["a", "b"], "level": 1}});
    let token = token.as_object().unwrap();
    let paths = ["/named-when", "/named-claims", "/named-scope"];
    for (change, expected) in [
        (json!({"roles": ["b", "c"], "level": 2}), &paths[..]),
        (json!({"roles": ["c"], "level": 2}), &paths[..2]),
        (json!({"level": 2}), &paths[..2]),
        (json!({"roles": null, "level": 2}), &paths[..2]),
    ] {
        let mut harness = harness(&claims, "realm_access.level", condition, &json!(2), &["realm_access"]);
        assert_eq!(passing(&mut harness, &paths, token), ["/named-scope"]);
        let payload = json!({"claims": {"realm_access": change}});
        harness.say(&format!("{CAEP}token-claims-change"), payload, token_id());
        assert_eq!(passing(&mut harness, &paths, token), expected, "{change}");
    }
}

#[test]
fn signals_find_what_the_named_claims_name() {
    let names = json!({
        "subject": "user.id", "client": ["azp", "client_id"], "token": ["uti", "jti"], "task": "run.id",
        "session": "\"kubernetes.io\".pod.uid", "tenant": "tid", "actor": "may.act", "device": "node.uid",
        "subjects": {"email": ["mail", "upn"]}
    });
    let with_names = || Harness::with(|config| config["issuers"][0]["claims"] = names.clone());
    let token = json!({
        "sub": "pairwise", "user": {"id": "alice-id"}, "azp": "web", "client_id": "web", "uti": "KqT",
        "jti": fixture::ABSENT, "txn": fixture::ABSENT, "sid": fixture::ABSENT, "run": {"id": 42},
        "kubernetes.io": {"pod": {"uid": "pod-1"}}, "tid": 7, "may": {"act": {"sub": "agent-1"}},
        "node": {"uid": "n-1"}, "upn": "A@B.example"
    });
    let opaque = |id: &str| json!({"format": "opaque", "id": id});
    let iss_sub = |sub: &str| json!({"format": "iss_sub", "iss": JIT, "sub": sub});
    let complex = |member: &str, id: Value| json!({"format": "complex", member: id});
    let revoked = format!("{CAEP}session-revoked");
    for (subject, other, reason) in [
        (iss_sub("alice-id"), iss_sub("pairwise"), Reason::UserRevoked),
        (complex("client", opaque("web")), complex("client", opaque("agent-a7")), Reason::PrincipalRevoked),
        (
            json!({"format": "jwt_id", "iss": JIT, "jti": "KqT"}),
            json!({"format": "jwt_id", "iss": JIT, "jti": "tok-1"}),
            Reason::TokenRevoked,
        ),
        (complex("task", opaque("42")), complex("task", opaque("task-42")), Reason::TokenRevoked),
        (complex("session", opaque("pod-1")), complex("session", opaque("sess-9")), Reason::SessionRevoked),
        (complex("tenant", opaque("7")), complex("tenant", opaque("8")), Reason::PrincipalRevoked),
        (complex("actor", opaque("agent-1")), complex("actor", opaque("agent-2")), Reason::PrincipalRevoked),
        (complex("device", opaque("n-1")), complex("device", opaque("n-2")), Reason::PrincipalRevoked),
        (
            json!({"format": "email", "email": "a@b.example"}),
            json!({"format": "email", "email": "b@b.example"}),
            Reason::UserRevoked,
        ),
    ] {
        let mut harness = with_names();
        harness.say(&revoked, json!({}), other.clone());
        assert_eq!(harness.open(token.clone()), None, "{other}");
        harness.say(&revoked, json!({}), subject.clone());
        assert_eq!(harness.open(token.clone()), Some(reason), "{subject}");
    }
    let mut differing = token.clone();
    differing["client_id"] = json!("other");
    assert_eq!(with_names().open(differing), Some(Reason::ClaimInvalid));
}

#[test]
fn no_signal_changes_a_claim_that_identifies() {
    let names = json!({"client": "app.id", "token": "uti", "session": "login.session", "scope": "other.roles"});
    for root in ["app", "uti", "login"] {
        let mut harness = Harness::with(|config| {
            config["issuers"][0]["claims"] = names.clone();
            config["signals"]["transmitters"][0]["settable_claims"] = Value::Null;
        });
        let event = format!("{CAEP}token-claims-change");
        let claims = json!({"iss": "https://idp.example", "aud": "us", "iat": NOW.0, "jti": "s", "sub_id": token_id(),
            "events": {event: {"claims": {root: {"id": "x"}}}}});
        assert_eq!(harness.push(json!({}), claims), Err("invalid_request".to_owned()), "{root}");
    }
}

#[test]
fn an_absent_task_is_no_task_of_a_signal() {
    let mut harness =
        Harness::with(|config| config["issuers"][0]["claims"] = json!({"task": "none", "client": "none"}));
    let token = json!({"txn": "task-42", "client_id": "web"});
    let about = |members: Value| {
        let mut subject = json!({"format": "complex"});
        subject.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
        json!({"iss": "https://idp.example", "aud": "us", "iat": NOW.0, "jti": "s", "sub_id": subject,
            "events": {format!("{CAEP}session-revoked"): {}}})
    };
    let task = json!({"format": "opaque", "id": "task-42"});
    let user = json!({"format": "iss_sub", "iss": JIT, "sub": "alice"});
    // The member `task` is critical: without it the signal would end every token of the user.
    assert!(harness.push(json!({}), about(json!({"task": task, "user": user}))).is_err());
    assert_eq!(harness.open(token), None);
}

/// A digest stands for the identifier of a token, for single use too; the signature is not part of it.
#[test]
fn a_token_without_an_identifier_is_known_by_its_digest() {
    let mut harness = Harness::with(|config| {
        config["issuers"][0]["claims"] = json!({"token": "none"});
        let once = json!({"name": "once", "match": {"path": "/once"}, "require": {"single_use": true}});
        config["rules"].as_array_mut().unwrap().push(once);
    });
    let token = |n: u64| json!({"jti": fixture::ABSENT, "n": n});
    assert_eq!(harness.ask("/once", token(1)), None);
    assert_eq!(harness.ask("/once", token(1)), Some(Reason::TokenUsed));
    assert_eq!(harness.ask("/once", token(2)), None);
    // A signal cannot name the token, also not by its digest.
    let claims = json!({"iss": "https://idp.example", "aud": "us", "iat": NOW.0, "jti": "s", "sub_id": token_id(),
        "events": {format!("{CAEP}session-revoked"): {}}});
    harness.push(json!({}), claims).unwrap();
    assert_eq!(harness.open(json!({"jti": "tok-1"})), None);
}

#[test]
fn two_entries_of_one_issuer_share_what_signals_say() {
    let mut harness = Harness::with(|config| {
        let mut other = config["issuers"][0].clone();
        (other["types"], other["max_session"]) = (json!(["JWT"]), json!("48h"));
        config["issuers"].as_array_mut().unwrap().push(other);
    });
    let subject = json!({"format": "complex", "session": {"format": "opaque", "id": "sess-9"}});
    let claims = json!({"iss": "https://idp.example", "aud": "us", "iat": NOW.0, "jti": "s", "sub_id": subject,
        "events": {format!("{CAEP}session-revoked"): {}}});
    let signal = harness.applied(claims);
    let kept: Vec<u64> = signal.entries().iter().map(|entry| entry.until.0 - NOW.0).collect();
    assert_eq!(kept, [48 * 3600 + 15 * 60 + 60], "one entry, for the longer session");
    assert_eq!(harness.open(json!({})), Some(Reason::SessionRevoked));
}

/// A grant that lacks a member of the subject is affected (SSF 1.0 §8.1.3.1), also if it lacks it because its entry
/// declares it absent and another entry does not.
#[test]
fn a_member_that_one_entry_declares_absent_shields_none_of_its_grants() {
    for (key, member) in [("session", "session"), ("task", "task"), ("client", "client")] {
        let mut harness = Harness::with(|config| {
            let mut other = config["issuers"][0].clone();
            (other["types"], other["claims"]) = (json!(["JWT"]), json!({key: "none"}));
            config["issuers"].as_array_mut().unwrap().push(other);
        });
        let with = |id: &str, user: &str| {
            let user = json!({"format": "iss_sub", "iss": JIT, "sub": user});
            json!({"format": "complex", member: {"format": "opaque", "id": id}, "user": user})
        };
        let named = json!({"sid": "named", "txn": "named", "client_id": "named"});
        harness.say(&format!("{CAEP}session-revoked"), json!({}), with("named", "bob"));
        assert_eq!((harness.open(named.clone()), harness.open_jwt(named.clone())), (None, None), "{key}: another user");
        harness.say(&format!("{CAEP}session-revoked"), json!({}), with("named", "alice"));
        assert!(harness.open(named.clone()).is_some(), "{key}");
        assert_eq!(harness.open(json!({})), None, "{key}: another one of the user");
        assert_eq!(harness.open_jwt(named), Some(Reason::UserRevoked), "{key}: it lacks the member");
    }
}

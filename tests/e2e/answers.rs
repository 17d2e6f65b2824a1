//! What a client, an upstream and an operator see of a verdict: all that they need, and no byte that another party
//! chose.

use std::{
    collections::{BTreeSet, HashSet},
    time::Duration,
};

use futures_util::{StreamExt, stream};
use serde_json::{Value, json};
use taskfence_tests::{
    bootstrap::Settings,
    client::{self, Answer, Http, Request},
    frames,
    mint::{self, Alg, Jwt, unique},
    orders,
    raw::{Http1, Http1Request},
    refusal::{assert_allowed, assert_refused, assert_signal_accepted, describe},
    sidecar::Sidecar,
    tamper,
};
use tokio::{sync::OnceCell, time};

fn rules() -> Value {
    let rule = |path: &str, require: Value| json!({"name": path, "match": {"path": path}, "require": require});
    json!([
        rule("/v1/orders/{order}", json!({
            "scope": "orders.read", "detail": {"type": "order", "action": "read", "identifier": "{order}"}
        })),
        rule("/refund", json!({"scope": {"all": ["orders.refund"], "any": ["eu", "us"]}})),
        rule("/device", json!({"device": "compliant"})),
        rule("/risk", json!({"risk": {"below": "HIGH"}})),
        rule("/source", json!({"source": ["10.0.0.0/8"]})),
        rule("/actor", json!({"actor": {"agents": ["agent-a8"]}})),
        rule("/claims", json!({"claims": {"tenant": "acme"}})),
        rule("/when", json!({"when": "claims.tenant == 'acme'"})),
        rule("/acr", json!({"acr": ["phr", "phrh"]})),
        rule("/auth-age", json!({"auth_age": "30s"})),
        rule("/fresh", json!({"state_age": "1s"})),
        {"name": "internal", "match": {"path": "/internal"}, "deny": true},
        {"name": "health", "match": {"path": "/healthz"}, "allow": "anonymous"}
    ])
}

/// Every fact in a header, and no token for the upstream.
fn with_identity(mode: &str) -> Value {
    let mut config = orders::config_of(rules());
    config["identity"] = json!({
        "issuer": "x-auth-issuer", "subject": "x-auth-subject", "client": "x-auth-client", "task": "x-auth-task",
        "session": "x-auth-session", "actor": "x-auth-actor", "scope": "x-auth-scope", "token": "x-auth-token"
    });
    config["forward_token"] = json!(false);
    config["mode"] = json!(mode);
    config
}

const IDENTITY: [&str; 8] = ["issuer", "subject", "client", "task", "session", "actor", "scope", "token"];

async fn sidecar() -> &'static Sidecar {
    static SIDECAR: OnceCell<Sidecar> = OnceCell::const_new();
    let settings = || {
        let settings = Settings::new("answers", orders::config_of(rules()));
        settings.also("identity", with_identity("enforce")).also("shadow", with_identity("shadow"))
    };
    SIDECAR.get_or_init(|| async { Sidecar::start(settings()).await.unwrap() }).await
}

/// The exact content of an answer.
struct Row {
    what: &'static str,
    request: Request,
    reason: &'static str,
    title: &'static str,
    status: u16,
    grpc_status: &'static str,
    /// What follows the realm; nothing where there is no challenge.
    challenge: Option<&'static str>,
    /// Whether the task of a verified grant is named.
    names_task: bool,
}

fn row(
    what: &'static str,
    request: Request,
    (reason, title): (&'static str, &'static str),
    (status, grpc_status): (u16, &'static str),
    challenge: Option<&'static str>,
    names_task: bool,
) -> Row {
    Row { what, request, reason, title, status, grpc_status, challenge, names_task }
}

const UNAUTHENTICATED: (u16, &str) = (401, "16");
const FORBIDDEN: (u16, &str) = (403, "7");
const BAD_REQUEST: (u16, &str) = (400, "3");

/// The table of answers, but for what is only known in the state.
fn table() -> Vec<Row> {
    let order = || Request::get(orders::ORDER_PATH);
    let good = mint::token().sign();
    let with = |path: &str| Request::get(path).bearer(&good);
    let token = |jwt: &Jwt| order().bearer(&jwt.sign());
    vec![
        row(
            "no credential",
            order(),
            ("token_missing", "Access token missing"),
            UNAUTHENTICATED,
            Some(r#", scope="orders.read""#),
            false,
        ),
        row(
            "a scheme that is none of ours",
            order().header("authorization", "Basic eDp5"),
            ("token_missing", "Access token missing"),
            UNAUTHENTICATED,
            Some(r#", scope="orders.read""#),
            false,
        ),
        row(
            "two credentials",
            order().header("authorization", format!("Bearer {good}, Bearer {good}")),
            ("credentials_ambiguous", "More than one credential"),
            BAD_REQUEST,
            Some(r#", error="invalid_request", error_description="More than one credential""#),
            false,
        ),
        row(
            "a token in two places",
            Request::get("/v1/orders/1881?access_token=x").bearer(&good),
            ("credentials_ambiguous", "More than one credential"),
            BAD_REQUEST,
            Some(r#", error="invalid_request", error_description="More than one credential""#),
            false,
        ),
        row(
            "a path that can be read in two ways",
            with("/v1/orders/1;x"),
            ("path_refused", "Request path refused"),
            BAD_REQUEST,
            None,
            false,
        ),
        row(
            "a host that can",
            with("/healthz").host("a..b"),
            ("host_refused", "Request host refused"),
            BAD_REQUEST,
            None,
            false,
        ),
        row(
            "no token that anybody else can read",
            order().bearer("ya29.a0AfB_byC"),
            ("token_opaque", "Access token opaque, not a JWT"),
            UNAUTHENTICATED,
            Some(r#", error="invalid_token", error_description="Access token opaque, not a JWT", scope="orders.read""#),
            false,
        ),
        row(
            "no token at all",
            order().bearer("eyJ.b.c"),
            ("token_malformed", "Access token malformed"),
            UNAUTHENTICATED,
            Some(r#", error="invalid_token", error_description="Access token malformed", scope="orders.read""#),
            false,
        ),
        row(
            "expired",
            token(&mint::token().expired()),
            ("token_expired", "Access token expired"),
            UNAUTHENTICATED,
            Some(r#", error="invalid_token", error_description="Access token expired", scope="orders.read""#),
            false,
        ),
        row(
            "for somebody else",
            token(&mint::token().claim("aud", "https://other.mesh")),
            ("audience_mismatch", "Access token is for another audience"),
            UNAUTHENTICATED,
            Some(
                r#", error="invalid_token", error_description="Access token is for another audience", scope="orders.read""#,
            ),
            false,
        ),
        row(
            "of another type",
            token(&mint::token().header("typ", "JWT")),
            ("token_type", "Not an access token"),
            UNAUTHENTICATED,
            Some(r#", error="invalid_token", error_description="Not an access token", scope="orders.read""#),
            false,
        ),
        row(
            "forged",
            order().bearer(&tamper::flip_signature_bit(&good)),
            ("signature_invalid", "Signature invalid"),
            UNAUTHENTICATED,
            Some(r#", error="invalid_token", error_description="Signature invalid", scope="orders.read""#),
            false,
        ),
        row("no rule", with("/nowhere"), ("rule_missing", "Nothing allows this request"), FORBIDDEN, None, false),
        row("a denying rule", with("/internal"), ("rule_denied", "Request denied"), FORBIDDEN, None, false),
        row(
            "outside the scope",
            with("/refund"),
            ("scope_insufficient", "Outside the scope of the grant"),
            FORBIDDEN,
            Some(
                r#", error="insufficient_scope", error_description="Outside the scope of the grant", scope="orders.refund eu""#,
            ),
            true,
        ),
        row(
            "outside the task",
            with("/v1/orders/1882"),
            ("detail_insufficient", "Outside the task of the grant"),
            FORBIDDEN,
            Some(r#", error="insufficient_authorization_details", error_description="Outside the task of the grant""#),
            true,
        ),
        row(
            "a device",
            with("/device"),
            ("device_not_compliant", "Device not known to be compliant"),
            FORBIDDEN,
            None,
            true,
        ),
        row("a risk", with("/risk"), ("risk_too_high", "Risk too high or unknown"), FORBIDDEN, None, true),
        row("a place", with("/source"), ("source_refused", "Source address not accepted"), FORBIDDEN, None, true),
        row("an actor", with("/actor"), ("actor_refused", "Delegation not accepted"), FORBIDDEN, None, true),
        row("a claim", with("/claims"), ("claim_mismatch", "A claim has another value"), FORBIDDEN, None, true),
        row(
            "a condition",
            with("/when"),
            ("condition_error", "A condition could not be evaluated"),
            FORBIDDEN,
            None,
            true,
        ),
        row(
            "a condition that fails",
            Request::get("/when").bearer(&mint::token().claim("tenant", "x").sign()),
            ("condition_failed", "A condition does not hold"),
            FORBIDDEN,
            None,
            true,
        ),
        row(
            "an assurance",
            with("/acr"),
            ("assurance_insufficient", "Stronger authentication required"),
            UNAUTHENTICATED,
            Some(
                r#", error="insufficient_user_authentication", error_description="Stronger authentication required", acr_values="phr phrh""#,
            ),
            true,
        ),
        row(
            "an old sign-in",
            with("/auth-age"),
            ("authentication_too_old", "More recent authentication required"),
            UNAUTHENTICATED,
            Some(
                r#", error="insufficient_user_authentication", error_description="More recent authentication required", max_age="30""#,
            ),
            true,
        ),
        row(
            "no word for long",
            with("/fresh"),
            ("state_stale", "Authorization state too old"),
            (503, "14"),
            None,
            true,
        ),
    ]
}

/// What signals ended; they make the state fresh, too.
async fn ended() -> Vec<Row> {
    let sidecar = sidecar().await;
    let (task, session, user) = (unique("task"), unique("sess"), unique("user"));
    let token = mint::token();
    let order = |jwt: &Jwt| Request::get(orders::ORDER_PATH).bearer(&jwt.sign());
    for signal in [
        mint::complete_task(&task),
        mint::revoke_session(&session),
        mint::revoke_user(&user),
        mint::revoke_token(&token.id()),
    ] {
        assert_signal_accepted(&sidecar.push(&signal).await.unwrap());
    }
    let client = mint::token().claim("client_id", unique("client"));
    vec![
        row(
            "completed",
            order(&mint::token().task(&task).claim("scope", orders::SCOPE)),
            ("task_completed", "Grant completed"),
            UNAUTHENTICATED,
            Some(r#", error="invalid_token", error_description="Grant completed", scope="orders.read""#),
            true,
        ),
        row(
            "a session revoked",
            order(&mint::token().session(&session)),
            ("session_revoked", "Session revoked"),
            UNAUTHENTICATED,
            Some(r#", error="invalid_token", error_description="Session revoked", scope="orders.read""#),
            true,
        ),
        row(
            "a user revoked",
            order(&mint::token().user(&user)),
            ("user_revoked", "Sessions of the user revoked"),
            UNAUTHENTICATED,
            Some(r#", error="invalid_token", error_description="Sessions of the user revoked", scope="orders.read""#),
            true,
        ),
        row(
            "a token revoked",
            order(&token),
            ("token_revoked", "Grant revoked"),
            UNAUTHENTICATED,
            Some(r#", error="invalid_token", error_description="Grant revoked", scope="orders.read""#),
            true,
        ),
        row(
            "an unknown client is nothing special",
            Request::get("/refund").bearer(&client.sign()),
            ("scope_insufficient", "Outside the scope of the grant"),
            FORBIDDEN,
            Some(
                r#", error="insufficient_scope", error_description="Outside the scope of the grant", scope="orders.refund eu""#,
            ),
            true,
        ),
    ]
}

fn names(answer: &Answer) -> BTreeSet<&str> {
    answer.headers.keys().map(|name| name.as_str()).collect()
}

/// The names that Envoy itself adds to every answer, and ours.
fn expected_names<'a>(row: &Row, ours: &[&'a str]) -> BTreeSet<&'a str> {
    let mut names = BTreeSet::from(["server", "date", "cache-control", "x-taskfence-decision"]);
    names.extend(ours);
    names.extend(row.challenge.map(|_| "www-authenticate"));
    names.extend((row.status == 503).then_some("retry-after"));
    names
}

fn check_common(row: &Row, answer: &Answer) {
    let shown = format!("{}:\n{}", row.what, describe(answer));
    let challenge = row.challenge.map(|rest| format!(r#"Bearer realm="https://orders.mesh"{rest}"#));
    assert_eq!(answer.header("www-authenticate"), challenge, "challenge of {shown}");
    assert_eq!(answer.header("cache-control").as_deref(), Some("no-store"), "{shown}");
    let retry_after = (row.status == 503).then(|| "1".to_owned());
    assert_eq!(answer.header("retry-after"), retry_after, "retry-after of {shown}");
}

async fn check_http(row: &Row) {
    let sidecar = sidecar().await;
    for http in Http::BOTH {
        let answer = sidecar.send(http, &row.request).await.unwrap();
        assert_refused(sidecar, &answer, row.reason);
        let shown = format!("{}:\n{}", row.what, describe(&answer));
        check_common(row, &answer);
        let mut ours = vec!["content-type", "content-length"];
        // After a bad request Envoy closes the connection.
        ours.extend((http == Http::One && row.status == 400).then_some("connection"));
        assert_eq!(names(&answer), expected_names(row, &ours), "headers of {shown}");
        let mut body = json!({
            "type": format!("urn:taskfence:problem:{}", row.reason.replace('_', "-")),
            "title": row.title,
            "status": row.status,
            "instance": format!("urn:uuid:{}", answer.header("x-taskfence-decision").unwrap()),
            "reason": row.reason,
        });
        if row.names_task {
            body["txn"] = answer.json()["txn"].clone();
            assert!(body["txn"].is_string(), "no task in {shown}");
        }
        assert_eq!(answer.json(), body, "body of {shown}");
    }
}

/// Trailers-Only: one header block, which has the status of the call and ends the stream.
async fn check_grpc(row: &Row) {
    let sidecar = sidecar().await;
    let request = row.request.clone().header("content-type", "application/grpc").header("te", "trailers");
    for http in Http::BOTH {
        let answer = sidecar.send(http, &request).await.unwrap();
        let shown = format!("{}, gRPC over {http:?}:\n{}", row.what, describe(&answer));
        assert!(!sidecar.upstream().was_reached_by(&answer.probe), "passed: {shown}");
        assert_eq!((answer.status, answer.text().as_str()), (200, ""), "{shown}");
        assert_eq!(answer.header("content-type").as_deref(), Some("application/grpc"), "{shown}");
        assert_eq!(answer.header("grpc-status").as_deref(), Some(row.grpc_status), "{shown}");
        assert_eq!(answer.header("grpc-message").as_deref(), Some(row.title), "{shown}");
        check_common(row, &answer);
        let mut ours = vec!["content-type", "grpc-status", "grpc-message"];
        ours.extend((http == Http::One).then_some("content-length"));
        ours.extend((http == Http::One && row.status == 400).then_some("connection"));
        assert_eq!(names(&answer), expected_names(row, &ours), "headers of {shown}");
    }
}

#[tokio::test]
async fn every_row_of_the_table() {
    for row in table() {
        check_http(&row).await;
        check_grpc(&row).await;
    }
    for row in ended().await {
        check_http(&row).await;
        check_grpc(&row).await;
    }
}

#[tokio::test]
async fn a_call_is_answered_in_one_block() {
    let sidecar = sidecar().await;
    let path = orders::ORDER_PATH.as_bytes();
    let call = frames::get(sidecar.app(), path, &[("content-type", b"application/grpc")]).await.unwrap();
    assert!(call.headers_only && call.status == Some(200) && call.body.is_empty(), "{call:?}");
    let request = frames::get(sidecar.app(), path, &[]).await.unwrap();
    assert!(!request.headers_only && request.status == Some(401), "{request:?}");
}

#[tokio::test]
async fn what_only_looks_like_grpc_is_answered_in_http() {
    let sidecar = sidecar().await;
    for content_type in
        ["application/grpc-web", "application/grpcx", "application/json", "Application/GRPC", "x application/grpc"]
    {
        let request = Request::get(orders::ORDER_PATH).header("content-type", content_type);
        assert_refused(sidecar, &sidecar.send(Http::Two, &request).await.unwrap(), "token_missing");
    }
    // It may count as gRPC or not, but the refusal must be wholly one or the other.
    for content_type in [
        "application/grpc;x",
        "application/grpc ; x",
        "application/grpc x",
        "application/grpc+",
        "application/grpc,text/plain",
    ] {
        let request = Request::get(orders::ORDER_PATH).header("content-type", content_type);
        let answer = sidecar.send(Http::Two, &request).await.unwrap();
        match answer.header("grpc-status") {
            Some(status) => {
                assert_eq!((status.as_str(), answer.status), ("16", 200), "{content_type}\n{}", describe(&answer))
            }
            None => assert_refused(sidecar, &answer, "token_missing"),
        }
        assert!(!sidecar.upstream().was_reached_by(&answer.probe), "{content_type}");
    }
    for types in [["application/grpc", "application/json"], ["application/json", "application/grpc"]] {
        let request = Http1Request::new("GET", orders::ORDER_PATH).header("content-type", types[0]);
        let request = request.header("content-type", types[1]);
        let answer = Http1::open(sidecar.app()).await.unwrap().send(&request).await.unwrap();
        match answer.header("grpc-status") {
            Some(status) => {
                assert_eq!((status.as_str(), answer.status), ("16", 200), "{types:?}\n{}", describe(&answer))
            }
            None => assert_refused(sidecar, &answer, "token_missing"),
        }
    }
}

#[tokio::test]
async fn head_and_a_body_that_nobody_reads() {
    let sidecar = sidecar().await;
    for http in Http::BOTH {
        let answer = sidecar.send(http, &Request::new("HEAD", orders::ORDER_PATH)).await.unwrap();
        assert_eq!((answer.status, answer.text().as_str()), (401, ""), "{}", describe(&answer));
        assert!(answer.header("www-authenticate").is_some() && answer.header("x-taskfence-decision").is_some());
        let upload = Request::new("POST", orders::ORDER_PATH).body(vec![b'x'; 100_000]);
        assert_refused(sidecar, &sidecar.send(http, &upload).await.unwrap(), "token_missing");
    }
}

#[tokio::test]
async fn every_decision_has_an_id_of_its_own() {
    let sidecar = sidecar().await;
    let request = Request::get(orders::ORDER_PATH);
    let request = &request;
    let answers = stream::iter(0..400).map(|number| async move {
        let answer = sidecar.send(Http::BOTH[number % 2], request).await.unwrap();
        assert_refused(sidecar, &answer, "token_missing");
        answer.header("x-taskfence-decision").unwrap()
    });
    let ids: Vec<_> = answers.buffer_unordered(16).collect().await;
    assert_eq!(ids.iter().collect::<HashSet<_>>().len(), ids.len(), "an id came twice");
    // RFC 9562 section 5.4: version 4, variant 10.
    for id in ids {
        assert!(id.as_bytes()[14] == b'4' && matches!(id.as_bytes()[19], b'8' | b'9' | b'a' | b'b'), "{id}");
    }
}

/// What an attacker would have an answer say.
const MARK: &str = "zQx7<script>";

fn everything(answer: &Answer) -> String {
    describe(answer).to_lowercase()
}

#[tokio::test]
async fn no_byte_of_a_client_is_in_an_answer() {
    let sidecar = sidecar().await;
    let escaped = "zQx7%3Cscript%3E%0d%0aset-cookie:%20a=b";
    let unverified = |jwt: Jwt| Request::get(orders::ORDER_PATH).bearer(&jwt.sign());
    let odd = |name: &str| mint::token().claim(name, MARK);
    let mut requests = vec![
        Request::get(&format!("/{escaped}")),
        Request::get("/zQx7/../zQx7;zQx7"),
        Request::get(&format!("/v1/orders/1881?{escaped}")),
        Request::get(&format!("/v1/orders/{}", "zQx7".repeat(500))),
        Request::new("ZQX7", orders::ORDER_PATH),
        Request::get("/healthz").host("zQx7..mesh"),
        Request::get(orders::ORDER_PATH).host("zqx7.mesh"),
        Request::get(orders::ORDER_PATH).header("authorization", MARK),
        Request::get(orders::ORDER_PATH).header("authorization", format!("Bearer {MARK}")),
        Request::get(orders::ORDER_PATH).header("authorization", format!("Bearer {MARK}, {MARK}")),
        Request::get(orders::ORDER_PATH).header("zqx7", MARK).header("cookie", MARK).header("origin", MARK),
        Request::get(orders::ORDER_PATH)
            .header("x-request-id", MARK)
            .header("user-agent", MARK)
            .header("referer", MARK),
        Request::get(orders::ORDER_PATH).header("x-taskfence-decision", MARK).header("traceparent", MARK),
        Request::get(orders::ORDER_PATH).header("content-type", format!("text/html;{MARK}")).header("accept", MARK),
        Request::new("POST", orders::ORDER_PATH).body(MARK),
        unverified(mint::token().header("typ", MARK)),
        unverified(mint::token().header("kid", MARK)),
        unverified(mint::token().header("alg", MARK)),
        unverified(mint::token().header("crit", json!([MARK]))),
        unverified(odd("iss")),
        unverified(odd("aud")),
        unverified(odd("exp")),
        unverified(odd("txn").signed_by(mint::FORGER.signer(Alg::Es256))),
        unverified(odd("txn").expired()),
        unverified(odd("txn").claim("sub", "")),
    ];
    // Of a good token too, nothing is repeated but the task.
    for name in ["sub", "client_id", "jti", "sid", "scope", "acr", "email"] {
        for path in ["/refund", "/device", "/claims", "/actor", "/acr", "/when"] {
            requests.push(Request::get(path).bearer(&odd(name).sign()));
        }
    }
    let act = json!({"sub": MARK, "iss": MARK});
    requests.push(Request::get("/actor").bearer(&mint::token().claim("act", act).sign()));
    let details = json!([{"type": MARK, "actions": [MARK], "identifier": MARK, MARK: MARK}]);
    requests.push(Request::get("/v1/orders/1").bearer(&mint::token().claim("authorization_details", details).sign()));
    for request in &requests {
        for grpc in [false, true] {
            let request =
                if grpc { request.clone().header("content-type", "application/grpc") } else { request.clone() };
            for http in Http::BOTH {
                let answer = sidecar.send(http, &request).await.unwrap();
                assert!(!sidecar.upstream().was_reached_by(&answer.probe), "{} passed", request.line());
                let came = everything(&answer);
                assert!(!came.contains("zqx7") && !came.contains("<script"), "{}\n{came}", request.line());
                assert!(answer.header("set-cookie").is_none(), "{came}");
            }
        }
    }
    // Bytes that no HTTP library sends.
    for value in [b"Bearer zQx7\xe9".as_slice(), b"Bearer \xc3zQx7", b"zQx7\xff"] {
        let request =
            Http1Request::new("GET", orders::ORDER_PATH).header("authorization", value).header("x-zqx7", value);
        let answer = Http1::open(sidecar.app()).await.unwrap().send(&request).await.unwrap();
        assert_eq!(answer.status, 401);
        assert!(answer.body.is_ascii() && !everything(&answer).contains("zqx7"), "{}", describe(&answer));
    }
}

/// The task of a verified grant is named in the body, as JSON, and nowhere else.
#[tokio::test]
async fn the_task_is_a_string_in_the_body() {
    let sidecar = sidecar().await;
    for task in ["a\"b\\c", "</script><b>", "caf\u{e9}\u{202e}\u{2028}", "%0d%0a", "x, error=\"y\""] {
        let request = Request::get("/refund").bearer(&mint::token().task(task).sign());
        for http in Http::BOTH {
            let answer = sidecar.send(http, &request).await.unwrap();
            assert_refused(sidecar, &answer, "scope_insufficient");
            assert_eq!(answer.json()["txn"], task);
            let headers = format!("{:?}", answer.headers);
            assert!(!headers.contains(task), "{headers}");
        }
        let call = sidecar.send(Http::Two, &request.clone().header("content-type", "application/grpc")).await.unwrap();
        assert_eq!(call.header("grpc-message").as_deref(), Some("Outside the scope of the grant"), "{task}");
    }
}

/// What the upstream saw under a name.
fn seen(answer: &Answer, name: &str) -> Vec<String> {
    let values = answer.json()["headers"][name].as_array().cloned().unwrap_or_default();
    values.iter().map(|value| value.as_str().unwrap_or_default().to_owned()).collect()
}

/// A request with forged identity headers, in every spelling of a name that some server treats as that name.
fn with_lies(mut request: Http1Request) -> Http1Request {
    for fact in IDENTITY {
        for name in [
            format!("x-auth-{fact}"),
            format!("X-Auth-{}", fact.to_uppercase()),
            format!("x-auth-{fact}"),
            format!("x_auth_{fact}"),
            format!("X_AUTH_{}", fact.to_uppercase()),
            format!("x-auth_{fact}"),
        ] {
            request = request.header(name, format!("lie-{fact}"));
        }
    }
    for name in ["x-taskfence-subject", "X-Taskfence-Verified", "x_taskfence_subject", "X-Taskfence_Anything"] {
        request = request.header(name, "lie");
    }
    request
}

async fn lied_to(listener: &str, request: Http1Request) -> Answer {
    let to = sidecar().await.listener(listener);
    Http1::open(to).await.unwrap().send(&with_lies(request)).await.unwrap()
}

#[track_caller]
fn assert_no_lie(answer: &Answer) {
    let headers = answer.json()["headers"].clone();
    let lies: Vec<_> =
        headers.as_object().unwrap().iter().filter(|(_, values)| values.to_string().contains("lie")).collect();
    assert!(lies.is_empty(), "the upstream saw what the client said about itself: {lies:?}");
}

fn order_with(token: &str) -> Http1Request {
    Http1Request::new("GET", orders::ORDER_PATH).header("authorization", format!("Bearer {token}"))
}

#[tokio::test]
async fn the_upstream_sees_who_was_verified_and_nothing_else() {
    let sidecar = sidecar().await;
    let jwt = mint::token()
        .claim("act", json!({"sub": "agent-a7", "act": {"sub": "older"}}))
        .claim("scope", "orders.read  x");
    let answer = lied_to("identity", order_with(&jwt.sign())).await;
    assert_allowed(sidecar, &answer);
    for (name, value) in [
        ("issuer", orders::ISSUER),
        ("subject", orders::USER),
        ("client", "agent-a7"),
        ("task", orders::TASK),
        ("session", orders::SESSION),
        ("actor", "agent-a7"),
        ("scope", "orders.read x"),
        ("token", &jwt.id()),
    ] {
        assert_eq!(seen(&answer, &format!("x-auth-{name}")), [value], "{name}");
    }
    assert_eq!(seen(&answer, "authorization"), [""; 0], "the token stays here");
}

#[tokio::test]
async fn what_a_client_says_about_itself_is_stripped_from_a_good_request() {
    let answer = lied_to("identity", order_with(&mint::token().sign())).await;
    assert_allowed(sidecar().await, &answer);
    assert_no_lie(&answer);
}

/// A fact that the grant does not have gets no header.
#[tokio::test]
async fn an_absent_fact_has_no_header() {
    let answer = lied_to("identity", order_with(&mint::token().without("sid").sign())).await;
    assert_eq!(seen(&answer, "x-auth-session"), [""; 0]);
    assert_eq!(seen(&answer, "x-auth-actor"), [""; 0]);
    assert_eq!(seen(&answer, "x-auth-subject"), [orders::USER]);
}

#[tokio::test]
async fn what_a_client_says_about_itself_is_stripped_from_an_anonymous_request() {
    let sidecar = sidecar().await;
    let health = Http1Request::new("GET", "/healthz");
    let good = format!("Bearer {}", mint::token().sign());
    let bad = format!("Bearer {}", mint::token().expired().sign());
    for request in [health.clone(), health.clone().header("authorization", good), health.header("authorization", bad)] {
        let answer = lied_to("identity", request).await;
        assert_allowed(sidecar, &answer);
        assert_no_lie(&answer);
        for fact in IDENTITY {
            assert_eq!(seen(&answer, &format!("x-auth-{fact}")), [""; 0], "nobody was verified");
        }
    }
}

#[tokio::test]
async fn what_a_client_says_about_itself_is_stripped_from_a_shadowed_request() {
    let sidecar = sidecar().await;
    for request in [
        Http1Request::new("GET", orders::ORDER_PATH),
        Http1Request::new("GET", "/nowhere"),
        Http1Request::new("GET", "/a;b"),
        order_with(&mint::token().expired().sign()),
        order_with(&mint::token().claim("scope", "x").sign()),
        order_with("a.b.c"),
    ] {
        let answer = lied_to("shadow", request).await;
        assert_allowed(sidecar, &answer);
        assert_no_lie(&answer);
        for fact in IDENTITY {
            assert_eq!(seen(&answer, &format!("x-auth-{fact}")), [""; 0], "a refused grant proves nothing");
        }
    }
    let answer = lied_to("shadow", order_with(&mint::token().sign())).await;
    assert_eq!(seen(&answer, "x-auth-subject"), [orders::USER], "a good one does");
}

/// Our own prefix belongs to us, whether any header is configured or not.
#[tokio::test]
async fn our_own_prefix_is_stripped_without_any_configuration() {
    let sidecar = sidecar().await;
    for http in Http::BOTH {
        let request = Request::get("/healthz").header("x-taskfence-subject", "lie").header("x-taskfence-", "lie");
        let answer = sidecar.send(http, &request.header("x-other", "kept")).await.unwrap();
        assert_allowed(sidecar, &answer);
        assert_no_lie(&answer);
        assert_eq!(seen(&answer, "x-other"), ["kept"]);
    }
}

/// A client that names a header in `connection` asks the next hop to drop it (RFC 9110 section 7.6.1).
#[tokio::test]
async fn a_client_cannot_have_a_header_dropped() {
    let sidecar = sidecar().await;
    let names = IDENTITY.map(|fact| format!("x-auth-{fact}")).join(", ");
    let request = order_with(&mint::token().sign()).header("connection", format!("close, {names}"));
    let answer = Http1::open(sidecar.listener("identity")).await.unwrap().send(&request).await.unwrap();
    assert_allowed(sidecar, &answer);
    assert_eq!(seen(&answer, "x-auth-subject"), [orders::USER]);
    assert_eq!(seen(&answer, "x-auth-task"), [orders::TASK]);
}

#[tokio::test]
async fn a_name_that_is_no_text_for_a_header_is_escaped() {
    let sidecar = sidecar().await;
    for (name, value) in [
        ("caf\u{e9}", "caf%C3%A9"),
        ("100%", "100%25"),
        ("a b", "a b"),
        (" a ", "%20a%20"),
        ("a\u{2028}b", "a%E2%80%A8b"),
        ("a,b;c=\"d\"", "a,b;c=\"d\""),
    ] {
        let to = sidecar.listener("identity");
        for http in Http::BOTH {
            let request = Request::get(orders::ORDER_PATH).bearer(&mint::token().user(name).sign());
            let answer = client::send(to, http, &request).await.unwrap();
            assert_allowed(sidecar, &answer);
            assert_eq!(seen(&answer, "x-auth-subject"), [value], "{name:?}");
        }
    }
}

#[tokio::test]
async fn the_token_goes_on_unless_it_is_to_be_hidden() {
    let sidecar = sidecar().await;
    let token = mint::token().sign();
    let request = Request::get(orders::ORDER_PATH).bearer(&token);
    for http in Http::BOTH {
        let answer = sidecar.send(http, &request).await.unwrap();
        assert_eq!(seen(&answer, "authorization"), [format!("Bearer {token}")]);
        let answer = client::send(sidecar.listener("identity"), http, &request).await.unwrap();
        assert_allowed(sidecar, &answer);
        assert_eq!(seen(&answer, "authorization"), [""; 0]);
    }
}

/// Also where the filter does not read the token: the service must not get it.
#[tokio::test]
async fn a_hidden_token_is_hidden_on_every_way_through() {
    let sidecar = sidecar().await;
    let bearer = |jwt: Jwt| format!("Bearer {}", jwt.sign());
    for (listener, path, authorization) in [
        ("identity", "/healthz", bearer(mint::token())),
        ("identity", "/healthz", bearer(mint::token().expired())),
        ("shadow", "/healthz", bearer(mint::token())),
        ("shadow", "/nowhere", bearer(mint::token())),
        ("shadow", "/refund", bearer(mint::token())),
        ("shadow", orders::ORDER_PATH, bearer(mint::token().expired())),
        ("shadow", orders::ORDER_PATH, bearer(mint::token())),
    ] {
        let request = Request::get(path).header("authorization", authorization);
        let answer = client::send(sidecar.listener(listener), Http::One, &request).await.unwrap();
        assert_allowed(sidecar, &answer);
        assert_eq!(seen(&answer, "authorization"), [""; 0], "{listener} {path}");
    }
}

/// An Envoy that logs all it can, for one test at a time to look into.
async fn logging() -> Sidecar {
    let mut config = orders::config_of(rules());
    config["rules"][2]["mode"] = json!("shadow");
    let format = "probe=%REQ(X-PROBE)% code=%RESPONSE_CODE% details=%RESPONSE_CODE_DETAILS% \
                  reason=%FILTER_STATE(wasm.taskfence.reason:PLAIN)% decision=%FILTER_STATE(wasm.taskfence.decision:PLAIN)% \
                  shadow=%FILTER_STATE(wasm.taskfence.shadow:PLAIN)%";
    let sidecar = Sidecar::start(Settings::new("answers-log", config).workers(1).access_log(format)).await.unwrap();
    sidecar.envoy().log_debug().await.unwrap();
    sidecar
}

#[tokio::test]
async fn logs() {
    let sidecar = logging().await;
    the_access_log_says_why(&sidecar).await;
    nothing_that_a_client_or_a_transmitter_says_leaves_its_line(&sidecar).await;
}

async fn the_access_log_says_why(sidecar: &Sidecar) {
    let refused = sidecar.send(Http::One, &Request::get("/refund").bearer(&mint::token().sign())).await.unwrap();
    let passed = sidecar.send(Http::Two, &Request::get("/healthz")).await.unwrap();
    let shadowed = sidecar.send(Http::One, &Request::get("/device").bearer(&mint::token().sign())).await.unwrap();
    assert_refused(sidecar, &refused, "scope_insufficient");
    assert_allowed(sidecar, &shadowed);
    let log = sidecar.access_log(3).await.unwrap();
    let line = |probe: &str| log.lines().find(|line| line.starts_with(&format!("probe={probe} "))).unwrap();
    let decision = refused.header("x-taskfence-decision").unwrap();
    assert_eq!(
        line(&refused.probe),
        format!(
            "probe={} code=403 details=taskfence_scope_insufficient reason=scope_insufficient decision={decision} shadow=-",
            refused.probe
        )
    );
    let went_on = |probe: &str, shadow: &str| {
        format!("probe={probe} code=200 details=via_upstream reason=- decision=- shadow={shadow}")
    };
    assert_eq!(line(&passed.probe), went_on(&passed.probe, "-"));
    assert_eq!(line(&shadowed.probe), went_on(&shadowed.probe, "device_not_compliant"));
    // The record has the same id, so that one finds the other.
    let log = sidecar.envoy().log();
    let record = log.lines().find(|line| line.contains(&decision)).unwrap();
    assert!(
        record.contains("\"reason\":\"scope_insufficient\"") && record.contains("\"rule\":\"/refund\""),
        "{record}"
    );
}

async fn nothing_that_a_client_or_a_transmitter_says_leaves_its_line(sidecar: &Sidecar) {
    let forged = "[2026-01-01 00:00:00.000][1][info][wasm] forged";
    // Control characters end a line or move the cursor; the others only look as if they did.
    let broken =
        ["\n", "\r\n", "\u{1b}[2J", "\u{9b}31m", "\0", "\u{7f}", "\u{85}"].map(|odd| format!("x{odd}{forged}"));
    let strange = [
        "\"",
        "\\",
        "\\n",
        "\",\"verdict\":\"allowed\"",
        "\u{2028}",
        "\u{202e}",
        "\u{e9}",
        "\u{1f600}",
        "%0a",
        "${jndi:x}",
    ]
    .map(|odd| format!("x{odd}{forged}"));
    let mut refused_by_name = Vec::new();
    for text in broken.iter().chain(&strange) {
        for jwt in [
            mint::token().header("kid", text.as_str()),
            mint::token().header("typ", text.as_str()),
            mint::token().claim("iss", text.as_str()),
            mint::token().claim("aud", text.as_str()),
        ] {
            let answer = sidecar.send(Http::One, &Request::get("/refund").bearer(&jwt.sign())).await.unwrap();
            assert_eq!(answer.status, 401, "{}", describe(&answer));
        }
        for name in ["sub", "client_id", "txn", "sid", "jti"] {
            let jwt = mint::token().claim(name, text.as_str());
            let answer = sidecar.send(Http::One, &Request::get("/refund").bearer(&jwt.sign())).await.unwrap();
            let expected = if strange.contains(text) { "scope_insufficient" } else { "claim_invalid" };
            assert_refused(sidecar, &answer, expected);
            if strange.contains(text) {
                refused_by_name.push((name, text, answer.header("x-taskfence-decision").unwrap()));
            }
        }
        let task = json!({"format": "complex", "task": {"format": "opaque", "id": "nobody"}});
        for signal in [
            mint::complete_task("nobody").claim("jti", text.as_str()),
            mint::signal(text, task),
            mint::complete_task("nobody").claim("sub_id", json!({"format": text})),
            mint::complete_task("nobody").claim("iss", text.as_str()),
            mint::complete_task("nobody").header("kid", text.as_str()),
        ] {
            let status = sidecar.push(&signal).await.unwrap().status;
            assert!(matches!(status, 202 | 400), "{status}");
        }
    }
    for target in ["/x%0d%0a[2026]", "/x\"y", "/x%1b[2J", "/x\\ny"] {
        let request = Http1Request::new("GET", target).header("user-agent", "\"x\u{e9}");
        let answer = Http1::open(sidecar.app()).await.unwrap().send(&request).await.unwrap();
        assert!((400..500).contains(&answer.status), "{target}: {}", answer.line());
    }
    time::sleep(Duration::from_millis(100)).await;
    let log = sidecar.envoy().log();
    let mut wrong = Vec::new();
    for line in log.split('\n').filter(|line| !line.is_empty()) {
        let begins_well = line.starts_with("[20") && !line.starts_with("[2026-01-01 00:00:00.000]");
        if !begins_well || !line.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
            wrong.push(line.escape_debug().to_string());
        }
    }
    assert!(
        wrong.is_empty(),
        "{} lines that are no line of Envoy, or hold more than text:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
    for (name, text, decision) in refused_by_name {
        let lines: Vec<_> = log.lines().filter(|line| line.contains(&decision)).collect();
        assert_eq!(lines.len(), 1, "{name} {text:?}");
        let record: Value = serde_json::from_str(&lines[0][lines[0].find('{').unwrap()..]).unwrap();
        let member = match name {
            "sub" => "subject",
            "client_id" => "client",
            "txn" => "task",
            "sid" => "session",
            _ => "token",
        };
        assert_eq!((&record["verdict"], record[member].as_str()), (&json!("denied"), Some(text.as_str())), "{record}");
    }
}

//! No byte from a client or a transmitter can stop a worker's virtual machine.

use taskfence_tests::{
    bootstrap::{Paths, Settings},
    client::{self, Http, Request},
    frames::{self, End, Fields},
    mint::{self, Alg},
    orders,
    raw::{self, Http1, Http1Request},
    refusal::{assert_allowed, assert_not_forwarded, assert_refused, describe},
    sidecar::Sidecar,
    tamper,
};
use tokio::sync::{Mutex, MutexGuard, OnceCell};

/// Paths are not normalised, so the filter gets paths that Envoy would otherwise repair or refuse.
async fn sidecar() -> (&'static Sidecar, MutexGuard<'static, ()>) {
    static SIDECAR: OnceCell<Sidecar> = OnceCell::const_new();
    static ONE_AT_A_TIME: Mutex<()> = Mutex::const_new(());
    let settings = || Settings::new("no-panic", orders::config()).paths(Paths::Raw).balanced();
    let guard = ONE_AT_A_TIME.lock().await;
    (SIDECAR.get_or_init(|| async { Sidecar::start(settings()).await.unwrap() }).await, guard)
}

fn good_request() -> Http1Request {
    with_token(mint::token().sign())
}

fn with_token(token: impl AsRef<[u8]>) -> Http1Request {
    Http1Request::new("GET", orders::ORDER_PATH).header("authorization", [b"Bearer ", token.as_ref()].concat())
}

/// Two connections, each on another worker. Envoy balances by what it has open, and may not have noticed yet that the
/// last ones were closed; so it takes a few tries now and then.
async fn one_on_each_worker(sidecar: &Sidecar, what: &str) -> [Http1; 2] {
    for _ in 0..50 {
        let before = sidecar.connections_by_worker().await.unwrap();
        let mut connections = [Http1::open(sidecar.app()).await.unwrap(), Http1::open(sidecar.app()).await.unwrap()];
        for connection in &mut connections {
            assert_allowed(sidecar, &connection.send(&good_request()).await.unwrap());
        }
        let after = sidecar.connections_by_worker().await.unwrap();
        if before.iter().zip(&after).all(|(before, after)| after > before) {
            return connections;
        }
    }
    panic!("{what}: no two connections on the two workers in 50 tries");
}

/// Sends `request` to each worker, then a good request to that same worker: on the same connection, unless the answer
/// closes it.
///
/// Returns the status of the odd request, which must be the same everywhere.
async fn survives(sidecar: &Sidecar, what: &str, request: &Http1Request) -> u16 {
    let created = sidecar.machines_created().await.unwrap();
    let mut connections = one_on_each_worker(sidecar, what).await;

    let mut statuses = Vec::new();
    for connection in &mut connections {
        let answer = connection.send(request).await.unwrap_or_else(|error| panic!("{what}: {error}"));
        assert!(answer.status < 500, "{what}: expected an answer that is no failure, came\n{}", describe(&answer));
        statuses.push(answer.status);
        if !raw::closes(&answer) {
            let next = connection.send(&good_request()).await;
            let next = next.unwrap_or_else(|error| panic!("{what}: the next request on this connection: {error}"));
            assert_allowed(sidecar, &next);
        }
    }
    assert_eq!(statuses[0], statuses[1], "{what}: the workers do not agree");
    for http in Http::BOTH {
        let request = Request::get(orders::ORDER_PATH).bearer(&mint::token().sign());
        assert_allowed(sidecar, &sidecar.send(http, &request).await.unwrap());
    }
    sidecar.check_no_crash_since(created).await.unwrap_or_else(|error| panic!("{what}: {error}"));
    statuses[0]
}

#[tokio::test]
async fn bytes_in_headers() {
    let (sidecar, _guard) = sidecar().await;
    let every_high_byte: Vec<u8> = (0x80..=0xff).collect();
    for value in [b"\xe9".as_slice(), b"caf\xe9 au lait", b"\xff\xfe\xfd", b"\xc3", b"\xed\xa0\x80", &every_high_byte] {
        let what = format!("{value:02x?}");
        // The filter ignores a header that it does not know.
        assert_eq!(survives(sidecar, &what, &good_request().header("x-name", value)).await, 200, "{what}");
        assert_eq!(survives(sidecar, &what, &good_request().header("cookie", value)).await, 200, "{what}");
        let anonymous = Http1Request::new("GET", orders::ORDER_PATH).header("x-name", value);
        assert_eq!(survives(sidecar, &what, &anonymous).await, 401, "{what}");
        let method = Http1Request::new("GET", orders::ORDER_PATH).header("x-http-method-override", value);
        assert_eq!(survives(sidecar, &what, &method).await, 401, "{what}");
    }
}

#[tokio::test]
async fn bytes_in_the_credential() {
    let (sidecar, _guard) = sidecar().await;
    let token = mint::token().sign();
    let with_byte_at = |at: usize| {
        let mut token = token.clone().into_bytes();
        token[at] = 0xe9;
        token
    };
    for at in [0, 10, token.len() / 2, token.len() - 1] {
        let status = survives(sidecar, &format!("0xE9 at {at} of the token"), &with_token(with_byte_at(at))).await;
        assert_eq!(status, 401);
    }
    let table: [(&str, &[u8]); 6] = [
        ("a scheme of 0xE9", b"\xe9 abc"),
        ("0xE9 alone", b"\xe9"),
        ("nothing", b""),
        ("Bearer alone", b"Bearer"),
        ("Bearer and 0xE9", b"Bearer \xe9"),
        ("a tab for a space", b"Bearer\tabc"),
    ];
    for (what, value) in table {
        let request = Http1Request::new("GET", orders::ORDER_PATH).header("authorization", value);
        let status = survives(sidecar, what, &request).await;
        assert!((400..402).contains(&status), "{what}: expected 400 or 401, came {status}");
    }
}

#[tokio::test]
async fn bytes_in_the_path_and_the_host() {
    let (sidecar, _guard) = sidecar().await;
    let token = format!("Bearer {}", mint::token().sign());
    for target in [
        b"/v1/orders/\xe9".as_slice(),
        b"/v1/orders/1881?x=\xe9",
        b"/\xe9",
        b"/healthz\xe9",
        b"/v1/orders/%e9",
        b"/v1/orders/%00",
        b"/v1/orders/%",
    ] {
        let what = String::from_utf8_lossy(target).into_owned();
        let status = survives(sidecar, &what, &Http1Request::new("GET", target).header("authorization", &token)).await;
        assert!((400..500).contains(&status), "{what}: expected a refusal, came {status}");
    }
    let host = Http1Request::without_host("GET", orders::ORDER_PATH).header("host", b"orders\xe9mesh");
    let status = survives(sidecar, "0xE9 in the host", &host.header("authorization", &token)).await;
    assert!((400..500).contains(&status), "expected a refusal, came {status}");
    let method = Http1Request::new("G\u{e9}T", orders::ORDER_PATH).header("authorization", &token);
    let answer = Http1::open(sidecar.app()).await.unwrap().send(&method).await.unwrap();
    assert_not_forwarded(sidecar, &answer);
    let long = format!("/v1/orders/{}", "9".repeat(20_000));
    let status =
        survives(sidecar, "a long path", &Http1Request::new("GET", long).header("authorization", &token)).await;
    assert!((400..500).contains(&status), "a long path: expected a refusal, came {status}");
}

#[tokio::test]
async fn bytes_over_http2() {
    let (sidecar, _guard) = sidecar().await;
    let created = sidecar.machines_created().await.unwrap();
    let token = format!("Bearer {}", mint::token().sign());
    let path = orders::ORDER_PATH.as_bytes();
    let table: [(&str, &[u8], Fields); 4] = [
        ("header", path, &[("authorization", token.as_bytes()), ("x-name", b"caf\xe9")]),
        ("path", b"/v1/orders/\xe9", &[("authorization", token.as_bytes())]),
        ("token", path, &[("authorization", b"Bearer \xe9\xe9.\xe9.\xe9")]),
        ("query", b"/v1/orders/1881?\xe9", &[("authorization", token.as_bytes())]),
    ];
    for (what, path, headers) in table {
        // New connections go to the workers in turn.
        for _ in 0..4 {
            let end = frames::get(sidecar.app(), path, headers).await.unwrap().end;
            assert!(matches!(end, End::Answered | End::StreamReset), "0xE9 in the {what}: came {end:?}");
            let request = Request::get(orders::ORDER_PATH).bearer(&mint::token().sign());
            assert_allowed(sidecar, &sidecar.send(Http::Two, &request).await.unwrap());
        }
    }
    sidecar.check_no_crash_since(created).await.unwrap();
}

/// Signed by a trusted issuer, and still not to be trusted to be well formed.
#[tokio::test]
async fn bytes_inside_signed_tokens() {
    let (sidecar, _guard) = sidecar().await;
    let signer = mint::ISSUER.signer(Alg::EdDsa);
    let jwt = mint::token().signed_by(signer);
    let (header, claims) = (jwt.header_text(), jwt.claims_text());
    let with = |name: &str, text: &str| tamper::claim_text(&jwt, name, text).into_bytes();
    let deep = |depth: usize| with("extra", &("[".repeat(depth) + &"]".repeat(depth)));
    let wide = with("extra", &format!("[{}1]", "1,".repeat(3_000)));
    let table: Vec<(&str, Vec<u8>)> = vec![
        (
            "0xE9 in a claim",
            claims
                .replace("agent-a7", "agent-\u{1}")
                .into_bytes()
                .iter()
                .map(|b| if *b == 1 { 0xe9 } else { *b })
                .collect(),
        ),
        ("a lone surrogate", with("sub", r#""\ud800""#)),
        ("a huge number", with("exp", "1e400")),
        ("a tiny number", with("exp", "-1e400")),
        ("a long number", with("iat", &"9".repeat(400))),
        ("the largest integer", with("exp", "18446744073709551615")),
        ("the smallest integer", with("auth_time", "-9223372036854775808")),
        ("a fraction", with("exp", "1e-7")),
        ("deep, 100", deep(100)),
        ("deep, 5000", deep(5_000)),
        ("wide", wide),
        ("only zeros", vec![0; 100]),
        ("nothing", Vec::new()),
    ];
    for (what, claims) in &table {
        let status = survives(sidecar, what, &with_token(signer.sign_text(header.as_bytes(), claims))).await;
        assert!(matches!(status, 200 | 401), "{what}: expected 200 or 401, came {status}");
        let status = survives(sidecar, what, &with_token(signer.sign_text(claims, claims))).await;
        assert_eq!(status, 401, "{what}, as a header");
    }
    for length in [0, 1, 63, 65, 1_000] {
        let token = tamper::with_signature(&jwt, &vec![0xff; length]);
        assert_eq!(survives(sidecar, &format!("a signature of {length} bytes"), &with_token(token)).await, 401);
    }
}

#[tokio::test]
async fn bytes_to_the_receiver() {
    let (sidecar, _guard) = sidecar().await;
    let created = sidecar.machines_created().await.unwrap();
    let push = |body: &[u8]| {
        Http1Request::new("POST", orders::SIGNALS_PATH).header("content-type", "application/secevent+jwt").body(body)
    };
    let signal = mint::complete_task(&mint::unique("task"));
    let signed = signal.sign();
    let mut spoilt = signed.clone().into_bytes();
    spoilt[30] = 0xe9;
    let idp = mint::TRANSMITTER.signer(Alg::Es256);
    let deep = tamper::claim_text(&signal, "extra", &("[".repeat(5_000) + &"]".repeat(5_000)));
    let deep = idp.sign_text(signal.header_text().as_bytes(), deep.as_bytes());
    let bad_utf8 = idp.sign_text(signal.header_text().as_bytes(), b"{\"iss\":\"\xe9\"}");
    let odd = [
        ("0xE9 alone", push(b"\xe9")),
        ("0xE9 in the middle", push(&spoilt)),
        ("zeros", push(&[0; 1_000])),
        ("every byte", push(&(0..=255).collect::<Vec<u8>>())),
        ("nothing", push(b"")),
        ("deep", push(deep.as_bytes())),
        ("bad UTF-8 in the claims", push(bad_utf8.as_bytes())),
        (
            "0xE9 in the content type",
            Http1Request::new("POST", orders::SIGNALS_PATH).header("content-type", b"\xe9").body(&signed),
        ),
        (
            "0xE9 in the path",
            Http1Request::new("POST", b"/signals\xe9").header("content-type", "application/secevent+jwt").body(&signed),
        ),
        ("GET", Http1Request::new("GET", orders::SIGNALS_PATH)),
        ("another path", Http1Request::new("POST", "/elsewhere").body(&signed)),
    ];
    for (what, request) in odd {
        // Each a few times, so that both workers get it.
        for _ in 0..4 {
            let answer = Http1::open(sidecar.signals()).await.unwrap().send(&request).await;
            let answer = answer.unwrap_or_else(|error| panic!("{what}: {error}"));
            assert!((400..500).contains(&answer.status), "{what}: expected a refusal, came\n{}", describe(&answer));
        }
        let task = mint::unique("task");
        let push = Request::push(orders::SIGNALS_PATH, &mint::complete_task(&task).sign());
        assert_eq!(client::send(sidecar.signals(), Http::Two, &push).await.unwrap().status, 202, "after {what}");
        let token = mint::token().task(&task).sign();
        let answer = sidecar.send(Http::One, &Request::get(orders::ORDER_PATH).bearer(&token)).await.unwrap();
        assert_refused(sidecar, &answer, "task_completed");
        sidecar.check_no_crash_since(created).await.unwrap_or_else(|error| panic!("{what}: {error}"));
    }
}

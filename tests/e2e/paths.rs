//! No spelling of a path or a host is a way around a rule: in core, and behind an Envoy that normalises paths, that
//! does not, and that is as strict as it can be.

use std::collections::BTreeSet;

use futures_util::{StreamExt, future::join_all, stream};
use serde_json::{Value, json};
use taskfence_tests::{
    artefacts,
    bootstrap::{self, Paths, Settings},
    client::{Answer, Http, Request, new_probe},
    frames::{self, Fields, FrameAnswer},
    in_process::{self, InProcess},
    mint, orders,
    raw::{self, Http1, Http1Request},
    refusal::assert_refused,
    sidecar::Sidecar,
    wire::Wire,
};
use tokio::sync::OnceCell;

/// How many requests are under way at a time. An Envoy that gives a connection up takes a second to close it.
const AT_A_TIME: usize = 32;
/// How many spellings the generated test tries, in each of the settings.
const SPELLINGS: usize = 400;

/// Rules that deny, and after them a rule that permits: a request that the first ones miss reaches the service.
fn fence() -> Value {
    orders::config_of(json!([
        {"name": "secret", "match": {"hosts": ["secret.com"]}, "deny": true},
        {"name": "admin", "match": {"path": "/admin"}, "deny": true},
        {"name": "admin-below", "match": {"path": "/admin/{rest...}"}, "deny": true},
        {"name": "order", "match": {"path": "/v1/orders/{order}"},
         "require": {"detail": {"type": "order", "action": "read", "identifier": "{order}"}}},
        {"name": "orders-below", "match": {"path": "/v1/orders/{rest...}"}, "deny": true},
        {"name": "literal", "match": {"path": "/a.b"}, "deny": true},
        {"name": "purge", "match": {"path": "/v1/orders:purge"}, "deny": true},
        {"name": "cancel", "match": {"path": "/v2/orders/{order}:cancel"}, "deny": true},
        {"name": "pdf", "match": {"path": "/v2/docs/{name}.pdf"}, "deny": true},
        {"name": "major", "match": {"path": "/v2/v{major}/admin"}, "deny": true},
        {"name": "get", "match": {"methods": ["GET"], "path": "/get"}, "deny": true},
        {"name": "head", "match": {"methods": ["HEAD"], "path": "/head"}, "deny": true},
        {"name": "one", "match": {"path": "/one/{x}"}, "allow": "anonymous"},
        {"name": "one-below", "match": {"path": "/one/{rest...}"}, "deny": true},
        {"name": "no-delete", "match": {"methods": ["DELETE"], "path": "/public"}, "deny": true},
        {"name": "socket", "match": {"path": "/socket"}, "require": {"scope": orders::SCOPE}},
        {"name": "open", "match": {}, "allow": "anonymous"}
    ]))
}

/// One Envoy in each of the settings, and what listens behind `/socket` of all of them.
struct Bench {
    sidecars: Vec<(Paths, Sidecar)>,
    wire: Wire,
}

async fn bench() -> &'static Bench {
    static BENCH: OnceCell<Bench> = OnceCell::const_new();
    BENCH
        .get_or_init(|| async {
            let wire = Wire::start().unwrap();
            let port = wire.address().port();
            let sidecars = [Paths::Raw, Paths::Normalized, Paths::Strict].map(|paths| async move {
                let mut config = fence();
                if paths == Paths::Strict {
                    // Envoy cuts port and final dot off there; what it leaves is refused.
                    config["hosts"] = json!("exact");
                }
                let settings = Settings::new("paths", config).paths(paths).workers(1);
                let settings = settings.patch(move |bootstrap| route_to_wire(bootstrap, port));
                (paths, Sidecar::start(settings).await.unwrap())
            });
            Bench { sidecars: join_all(sidecars).await, wire }
        })
        .await
}

/// `/socket` goes to a service that notes every byte, everything else to the upstream.
fn route_to_wire(bootstrap: &mut Value, port: u16) {
    let clusters = bootstrap.pointer_mut("/static_resources/clusters").and_then(Value::as_array_mut).unwrap();
    let address = json!({"socket_address": {"address": "127.0.0.1", "port_value": port}});
    clusters.push(json!({
        "name": "wire", "type": "STATIC", "connect_timeout": "2s",
        "load_assignment": {"cluster_name": "wire", "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address}}]}]}
    }));
    let routes = format!("{}/route_config/virtual_hosts/0/routes", bootstrap::APP);
    let routes = bootstrap.pointer_mut(&routes).and_then(Value::as_array_mut).unwrap();
    routes.insert(
        0,
        json!({"name": "wire", "match": {"path": "/socket"}, "route": {"cluster": "wire", "timeout": "0s"}}),
    );
}

fn bearer() -> String {
    format!("Bearer {}", mint::token().sign())
}

/// What a request came to: `open`, the reason of a refusal, or `envoy` for one that the filter never saw.
fn outcome(reached: bool, status: Option<u16>, reason: Option<&str>) -> String {
    match (reached, status, reason) {
        (true, ..) => "open".to_owned(),
        (false, _, Some(reason)) => reason.to_owned(),
        (false, None | Some(400..500), None) => "envoy".to_owned(),
        (false, Some(other), None) => format!("a {other} from nowhere"),
    }
}

/// What became of one spelling in one Envoy.
struct Seen {
    outcome: String,
    /// The path and the host that the upstream saw.
    upstream: Option<(String, String)>,
}

impl Seen {
    fn of(sidecar: &Sidecar, status: Option<u16>, body: &Value, probe: &str) -> Self {
        let reached = sidecar.upstream().was_reached_by(probe);
        let host = body["headers"]["host"][0].as_str().or(body["host"].as_str()).unwrap_or_default();
        Self {
            outcome: outcome(reached, status, body["reason"].as_str()),
            upstream: reached.then(|| (body["path"].as_str().unwrap_or_default().to_owned(), host.to_owned())),
        }
    }

    async fn over_http1(sidecar: &Sidecar, request: &Http1Request) -> Self {
        let answer = Http1::open(sidecar.app()).await.unwrap().send(request).await;
        let answer: Answer = answer.unwrap_or_else(|error| panic!("{request:?}: {error}"));
        Self::of(sidecar, Some(answer.status), &answer.json(), &answer.probe)
    }

    async fn over_http2(sidecar: &Sidecar, fields: Fields<'_>) -> Self {
        let answer: FrameAnswer = frames::send(sidecar.app(), fields).await.unwrap();
        Self::of(sidecar, answer.status, &answer.json(), &answer.probe)
    }
}

/// A target, what core says of it, and what an Envoy says that does not normalise, that does, and that is strict.
type Row<'a> = (&'a [u8], &'a str, [&'a str; 3]);

/// The same in core and in all settings.
fn same<'a>(outcome: &'a str, targets: &[&'a str]) -> Vec<Row<'a>> {
    targets.iter().map(|target| (target.as_bytes(), outcome, [outcome; 3])).collect()
}

/// Refused by core. An Envoy that normalises may have repaired it into something that a rule is for.
fn refused<'a>(normalized: &'a str, strict: &'a str, targets: &[&'a str]) -> Vec<Row<'a>> {
    let all = ["path_refused", normalized, strict];
    targets.iter().map(|target| (target.as_bytes(), "path_refused", all)).collect()
}

/// Every row in core, and in every Envoy over both versions of HTTP.
async fn judged(rows: &[Row<'_>]) {
    let bench = bench().await;
    let authorization = bearer();
    let mut wrong = Vec::new();
    // Before 1.39 Envoy does not take `..;` for `..`, so the filter gets to see it.
    let keeps_parameters = artefacts::envoy_minor().unwrap() < 39;
    let mut core = InProcess::new(&fence());
    for (target, expected, _) in rows {
        let verdict =
            core.judge("GET", orders::HOST.as_bytes(), target, &[("authorization", authorization.as_bytes())]);
        let came = verdict.reason.unwrap_or("open");
        if came != *expected {
            wrong.push(format!("core, `{}`: {came}, expected {expected}", target.escape_ascii()));
        }
    }
    let tries = rows.iter().flat_map(|(target, _, expected)| {
        let settings = bench.sidecars.iter().zip(expected);
        settings.map(move |((paths, sidecar), expected)| (*target, *expected, *paths, sidecar))
    });
    let authorization = authorization.as_str();
    let found = stream::iter(tries).map(|(target, expected, paths, sidecar)| async move {
        let target_text = target.escape_ascii();
        let request = Http1Request::new("GET", target).header("authorization", authorization);
        let one = Seen::over_http1(sidecar, &request).await;
        let two = Seen::over_http2(sidecar, &with_path(target, authorization)).await;
        let mut wrong = Vec::new();
        if keeps_parameters && expected == "rule_denied" && one.outcome == "path_refused" && two.outcome == one.outcome
        {
            return wrong;
        }
        if one.outcome != expected {
            wrong.push(format!("{paths:?}, `{target_text}`: {}, expected {expected}", one.outcome));
        }
        // The two codecs of Envoy refuse different things themselves, and what one refuses the other leaves to us.
        let refusals = ["envoy", "path_refused"];
        if two.outcome != expected && !(refusals.contains(&two.outcome.as_str()) && refusals.contains(&expected)) {
            wrong.push(format!("{paths:?}, HTTP/2, `{target_text}`: {}, expected {expected}", two.outcome));
        }
        for (path, _) in [one.upstream, two.upstream].into_iter().flatten() {
            wrong.extend(trespass(&path).map(|how| format!("{paths:?}, `{target_text}` arrived as `{path}`: {how}")));
        }
        wrong
    });
    wrong.extend(found.buffer_unordered(AT_A_TIME).collect::<Vec<_>>().await.concat());
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

fn with_path<'a>(path: &'a [u8], authorization: &'a str) -> [(&'a str, &'a [u8]); 5] {
    [
        (":method", b"GET"),
        (":scheme", b"http"),
        (":authority", orders::HOST.as_bytes()),
        (":path", path),
        ("authorization", authorization.as_bytes()),
    ]
}

/// How a service could read this path, which reached it, as one that is closed: by the widest reading that any service
/// is known to have, and without any code of ours.
fn trespass(path: &str) -> Option<String> {
    let path = path.split(['?', '#']).next().unwrap_or_default();
    let found = readings(path).into_iter().find(|reading| is_closed(reading))?;
    Some(format!("some service reads that as `{found}`"))
}

fn is_closed(path: &str) -> bool {
    let segments: Vec<_> = path.split('/').skip(1).collect();
    match segments[..] {
        ["admin", ..] | ["a.b"] | ["v1", "orders:purge"] => true,
        // What is still escaped is no other order, but the same one written in another way.
        ["v1", "orders", order] => order != orders::ORDER && !order.contains('%'),
        ["v1", "orders", _, ..] => true,
        ["v2", "orders", order] => order.strip_suffix(":cancel").is_some_and(|order| !order.is_empty()),
        ["v2", "docs", name] => name.strip_suffix(".pdf").is_some_and(|name| !name.is_empty()),
        ["v2", version, "admin"] => version.strip_prefix('v').is_some_and(|major| !major.is_empty()),
        ["one", ""] | ["one", _, _, ..] => true,
        _ => false,
    }
}

/// Everything that decoding, merging, cutting and resolving can make of a path, in any order and any number of times.
fn readings(path: &str) -> BTreeSet<String> {
    let mut all = BTreeSet::from([path.to_owned()]);
    let mut new = vec![path.to_owned()];
    while let Some(path) = new.pop() {
        for reading in [
            percent_decode(&path),
            path.replace('\\', "/"),
            path.replace("//", "/"),
            path.split('/').map(|part| part.split(';').next().unwrap_or_default()).collect::<Vec<_>>().join("/"),
            resolve_dots(&path),
            path.split('\0').next().unwrap_or_default().to_owned(),
        ] {
            if all.insert(reading.clone()) {
                new.push(reading);
            }
        }
    }
    all
}

/// Leaves what is no escape as it is. An overlong `/` is one to careless readers.
fn percent_decode(path: &str) -> String {
    let path = path.replace("%c0%af", "/").replace("%C0%AF", "/");
    let mut out = Vec::new();
    let mut rest = path.as_bytes();
    while let [first, tail @ ..] = rest {
        let escape = tail.get(..2).and_then(|hex| u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok());
        match escape.filter(|_| *first == b'%' && tail[0] != b'+') {
            Some(byte) => {
                out.push(byte);
                rest = &tail[2..];
            }
            None => {
                out.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

fn resolve_dots(path: &str) -> String {
    let mut out: Vec<&str> = Vec::new();
    for segment in path.split('/').skip(1) {
        match segment {
            "." => {}
            ".." => drop(out.pop()),
            other => out.push(other),
        }
    }
    format!("/{}", out.join("/"))
}

#[tokio::test]
async fn the_query_is_not_the_path_and_a_fragment_is_refused() {
    let mut rows =
        same("rule_denied", &["/admin", "/admin?", "/admin?x", "/admin?x=/../public", "/admin/", "/admin/?x"]);
    rows.extend(same("open", &["/public?", "/public?/../admin", "/public?a=/admin&b=%2e%2e"]));
    // An escaped `?` or `#` is a letter of a name like any other.
    rows.extend(same("open", &["/admin%3fx", "/admin%23x"]));
    for target in ["/admin#", "/admin#x", "/public#/../admin", "/admin?x#y", "/public?x#/../admin"] {
        rows.push((target.as_bytes(), "path_refused", ["envoy"; 3]));
    }
    judged(&rows).await;
}

#[tokio::test]
async fn repeated_slashes() {
    let mut rows = refused(
        "path_refused",
        "rule_denied",
        &["//admin", "///admin", "/admin//", "/admin//x", "/v1//orders/1882/x", "/one//a/b"],
    );
    rows.extend(refused("path_refused", "open", &["/public//x", "//public", "//v1//orders//1881"]));
    judged(&rows).await;
}

#[tokio::test]
async fn escaped_delimiters_are_never_decoded() {
    let mut rows = refused(
        "path_refused",
        "envoy",
        &["/admin%2f", "/admin%2fx", "/admin%2Fx", "/%2fadmin", "/admin%5cx", "/admin%5Cx", "/a%2fb", "/one/a%2fb"],
    );
    rows.extend(refused("envoy", "envoy", &["/admin%00", "/admin%00/x", "/public%00/../admin"]));
    rows.extend(same(
        "path_refused",
        &["/admin%zz", "/admin%", "/admin%2", "/%", "/admin%0d%0ax", "/admin%09", "/admin%7f", "/%c0%afadmin", "/%e9"],
    ));
    judged(&rows).await;
}

#[tokio::test]
async fn nothing_is_decoded_twice() {
    let rows = same(
        "path_refused",
        &[
            "/%2561dmin",
            "/public/%252e%252e/admin",
            "/admin%252fx",
            "/admin%255cx",
            "/admin%253bx",
            "/admin%2523",
            "/admin%25",
            "/v1/orders/%2531881",
        ],
    );
    judged(&rows).await;
}

#[tokio::test]
async fn an_escaped_letter_is_the_letter() {
    let mut rows = same("rule_denied", &["/%61dmin", "/%61%64%6d%69%6E", "/%61dmin/%78", "/a%2eb", "/%61.%62"]);
    // What may stand in a path as it is, and does not have to.
    rows.extend(same(
        "rule_denied",
        &["/v1/orders:purge", "/v1/orders%3apurge", "/v1/orders%3Apurge", "/v1/orders%3a%70urge"],
    ));
    rows.extend(same("open", &["/v1/orders/%31881", "/v1/%6frders/188%31", "/%70ublic", "/caf%c3%a9"]));
    rows.extend(same("detail_insufficient", &["/v1/orders/%31882", "/v1/orders/188%32"]));
    judged(&rows).await;
}

#[tokio::test]
async fn backslashes() {
    let mut rows = refused("rule_denied", "rule_denied", &["/admin\\x", "/public/..\\admin", "/public\\..\\admin"]);
    rows.extend(refused("path_refused", "rule_denied", &["/\\admin"]));
    rows.push((b"\\admin", "path_refused", ["envoy"; 3]));
    judged(&rows).await;
}

#[tokio::test]
async fn path_parameters() {
    let mut rows = same(
        "path_refused",
        &[
            "/admin;",
            "/admin;/",
            "/admin;x=y",
            "/admin;x=y/a",
            "/;/admin",
            "/;x/admin",
            "/admin%3b",
            "/admin%3Bx",
            "/public/..%3b/admin",
            "/v1/orders/1881;x=y",
        ],
    );
    // Resolved by Envoy, as any other dot segment.
    rows.extend(refused(
        "rule_denied",
        "rule_denied",
        &["/..;/admin", "/.;/admin", "/public/..;/admin", "/public;/../admin", "/admin/..;/admin"],
    ));
    rows.extend(refused("detail_insufficient", "detail_insufficient", &["/v1/orders/1881;/../1882"]));
    judged(&rows).await;
}

#[tokio::test]
async fn dot_segments() {
    let mut rows = refused(
        "rule_denied",
        "rule_denied",
        &[
            "/public/../admin",
            "/public/%2e%2e/admin",
            "/public/.%2E/admin",
            "/public/%2e./admin",
            "/./admin",
            "/%2e/admin",
            "/admin/.",
            "/../admin",
            "/../../admin",
            "/one/%2e",
            "/v1/orders/1881/..",
        ],
    );
    rows.extend(refused("path_refused", "envoy", &["/public/..%2fadmin", "/public/..%5cadmin"]));
    rows.extend(refused(
        "detail_insufficient",
        "detail_insufficient",
        &["/v1/orders/1881/../1882", "/v1/orders/1881/%2e%2e/1882", "/v1/orders/1881/x/../../1882"],
    ));
    // Repaired by Envoy into what the client may have.
    rows.extend(refused("open", "open", &["/admin/..", "/admin/../public", "/v1/orders/x/../1881"]));
    // More dots are a name.
    rows.extend(same("open", &["/public/.../admin", "/public/..admin", "/public/admin.."]));
    judged(&rows).await;
}

#[tokio::test]
async fn a_literal_is_no_pattern_and_a_capture_is_one_segment() {
    let mut rows = same("rule_denied", &["/a.b", "/a%2Eb", "/one/a/b", "/one/", "/one/a/"]);
    rows.extend(same("open", &["/aXb", "/a/b", "/a..b", "/ab", "/one", "/one/a", "/one/a?/b", "/ADMIN", "/adminx"]));
    judged(&rows).await;
}

#[tokio::test]
async fn text_beside_a_capture_has_one_spelling() {
    let mut rows = same(
        "rule_denied",
        &[
            "/v2/orders/7:cancel",
            "/v2/orders/7%3Acancel",
            "/v2/orders/7%3acancel",
            "/v2/orders/7:%63anc%65l",
            "/v2/orders/%37:cancel?x",
            "/v2/orders/7:cancel:cancel",
            "/v2/orders/%C3%A9:cancel",
            "/v2/docs/a.pdf",
            "/v2/docs/a%2Epdf",
            "/v2/docs/a%20b.pd%66",
            "/v2/docs/..pdf",
            "/v2/v1/admin",
            "/v2/%761/admin",
        ],
    );
    rows.extend(same(
        "open",
        &[
            "/v2/orders/:cancel",
            "/v2/orders/7:CANCEL",
            "/v2/orders/7:cancelx",
            "/v2/orders/7:cancel/",
            "/v2/docs/.pdf",
            "/v2/docs/a.pdf/b",
            "/v2/docs/apdf",
            "/v2/v/admin",
            "/v2/1/admin",
        ],
    ));
    rows.extend(same("path_refused", &["/v2/orders/7%253Acancel", "/v2/orders/7:cancel;x"]));
    judged(&rows).await;
}

/// RFC 9110 section 9.3.2: HEAD asks for the headers of what GET would answer.
#[tokio::test]
async fn head_is_decided_as_get_unless_a_rule_names_it() {
    let mut core = InProcess::new(&fence());
    for (method, path, status) in [
        ("GET", "/get", 403),
        ("HEAD", "/get", 403),
        ("POST", "/get", 200),
        ("GET", "/head", 200),
        ("HEAD", "/head", 403),
        ("HEAD", "/v2/orders/7:cancel", 403),
        ("HEAD", "/public", 200),
    ] {
        let verdict = core.judge(method, orders::HOST.as_bytes(), path.as_bytes(), &[]);
        assert_eq!(verdict.reason.is_none(), status == 200, "core: {method} {path}");
        for (paths, sidecar) in &bench().await.sidecars {
            for http in Http::BOTH {
                let answer = sidecar.send(http, &Request::new(method, path)).await.unwrap();
                assert_eq!(answer.status, status, "{paths:?} {http:?}: {method} {path}");
                assert_eq!(sidecar.upstream().was_reached_by(&answer.probe), status == 200, "{method} {path}");
            }
        }
    }
}

#[tokio::test]
async fn bytes_beyond_ascii() {
    let rows: [Row; 3] = [
        (b"/caf\xe9", "path_refused", ["envoy"; 3]),
        (b"/admin\xe9", "path_refused", ["envoy"; 3]),
        (b"/v1/orders/1881\xe9", "path_refused", ["envoy"; 3]),
    ];
    judged(&rows).await;
    // A query may hold anything, and steers nothing.
    let bench = bench().await;
    for (paths, sidecar) in &bench.sidecars {
        let seen = Seen::over_http2(sidecar, &with_path(b"/admin?\xe9", "Basic eDp5")).await;
        assert_eq!(seen.outcome, "rule_denied", "{paths:?}");
    }
}

/// HTTP/2 carries any byte; HTTP/1 would end the line there.
#[tokio::test]
async fn bytes_that_end_a_line_elsewhere() {
    let bench = bench().await;
    let targets =
        ["/public\r\nx: y", "/public\nx: y", "/public\0", "/pub lic", "/public\t", " /public", "/admin HTTP/1.1"];
    let tries = targets.iter().flat_map(|target| bench.sidecars.iter().map(move |(_, sidecar)| (*target, sidecar)));
    let outcomes = stream::iter(tries).map(|(target, sidecar)| async move {
        (target, Seen::over_http2(sidecar, &with_path(target.as_bytes(), "Basic eDp5")).await.outcome)
    });
    for (target, outcome) in outcomes.buffer_unordered(AT_A_TIME).collect::<Vec<_>>().await {
        assert!(matches!(outcome.as_str(), "envoy" | "path_refused"), "{target:?}: {outcome}");
    }
}

/// Every spelling of a host that is closed, on a path that is open.
#[tokio::test]
async fn the_host_in_every_spelling() {
    let mut core = InProcess::new(&fence());
    let bench = bench().await;
    let closed = [
        "secret.com",
        "Secret.com",
        "SECRET.COM",
        "secret.com:443",
        "secret.com:80",
        "secret.com.",
        "SECRET.com.:8443",
    ];
    let odd = [
        "secret.com..",
        "secret.com:",
        "secret.com.:",
        "secret.com:99999999999",
        "secret.com:x",
        "secret.com:443:443",
        "secret.com,orders.mesh",
        "secret%2ecom",
        ".secret.com",
        "u@secret.com",
        "secret.com:80@orders.mesh",
    ];
    let unreadable = ["secret.com/", "secret.com?", "secret.com#", "secret.com\\", "sec\u{e9}ret.com"];
    let open = ["secretXcom", "xsecret.com", "secret.com.evil", "www.secret.com", "secret", "[::1]", "127.0.0.1"];
    let rows = closed.map(|host| (host, "rule_denied")).into_iter();
    let rows = rows.chain(odd.map(|host| (host, "host_refused"))).chain(unreadable.map(|host| (host, "host_refused")));
    let rows: Vec<_> = rows.chain(open.map(|host| (host, "open"))).collect();
    for (host, expected) in &rows {
        let verdict = core.judge("GET", host.as_bytes(), b"/public", &[]);
        assert_eq!(verdict.reason.unwrap_or("open"), *expected, "core, `{host}`");
    }
    let tries = rows.iter().flat_map(|row| bench.sidecars.iter().map(move |(paths, sidecar)| (*row, *paths, sidecar)));
    let found = stream::iter(tries).map(|((host, expected), paths, sidecar)| async move {
        let one = Seen::over_http1(sidecar, &Http1Request::without_host("GET", "/public").header("host", host)).await;
        let two = [
            (":method", b"GET".as_slice()),
            (":scheme", b"http"),
            (":authority", host.as_bytes()),
            (":path", b"/public"),
        ];
        let two = Seen::over_http2(sidecar, &two).await;
        for (http, seen) in [(Http::One, &one), (Http::Two, &two)] {
            let by_envoy = expected == "host_refused" && seen.outcome == "envoy";
            assert!(
                by_envoy || seen.outcome == expected,
                "{paths:?} {http:?} `{host}`: {}, expected {expected}",
                seen.outcome
            );
        }
    });
    found.buffer_unordered(AT_A_TIME).collect::<()>().await;
}

/// Where a request names its host twice, the upstream must see the one that was judged.
#[tokio::test]
async fn two_hosts_in_one_request() {
    let bench = bench().await;
    let absolute = |target: &str, host: &str| Http1Request::without_host("GET", target).header("host", host);
    let one = [
        (absolute("http://secret.com/public", orders::HOST), "rule_denied"),
        (absolute("HTTP://Secret.com:80/public", orders::HOST), "rule_denied"),
        (absolute("http://u@secret.com/public", orders::HOST), "rule_denied"),
        (absolute("http://orders.mesh/admin", orders::HOST), "rule_denied"),
        (absolute("http://orders.mesh/public", "secret.com"), "open"),
        (absolute("http://orders.mesh", orders::HOST), "open"),
        (absolute("/public", orders::HOST).header("host", "secret.com"), "host_refused"),
        (absolute("/public", "secret.com").header("host", orders::HOST), "host_refused"),
        (absolute("/public", ""), "host_refused"),
        (Http1Request::without_host("GET", "/public"), "envoy"),
    ];
    let authority = |authority: &'static [u8]| (":authority", authority);
    let (orders, secret) = (b"orders.mesh".as_slice(), b"secret.com".as_slice());
    let two: [(Fields, &str); 5] = [
        (&[authority(orders), ("host", secret)], "open"),
        (&[authority(secret), ("host", orders)], "rule_denied"),
        (&[("host", secret)], "rule_denied"),
        (&[authority(orders), authority(secret)], "envoy"),
        (&[], "envoy"),
    ];
    let tries = bench.sidecars.iter().map(|(paths, sidecar)| {
        let (one, two) = (&one, &two);
        async move {
            for (request, expected) in one {
                let seen = Seen::over_http1(sidecar, request).await;
                assert_eq!(seen.outcome, *expected, "{paths:?} {request:?}");
                assert!(!seen.upstream.is_some_and(|(_, host)| host.contains("secret")), "{paths:?} {request:?}");
            }
            for (fields, expected) in two {
                let pseudo: [(&str, &[u8]); 3] = [(":method", b"GET"), (":scheme", b"http"), (":path", b"/public")];
                let seen = Seen::over_http2(sidecar, &[&pseudo[..], fields].concat()).await;
                assert_eq!(seen.outcome, *expected, "{paths:?} {fields:?}");
                assert!(!seen.upstream.is_some_and(|(_, host)| host.contains("secret")), "{paths:?} {fields:?}");
            }
        }
    });
    join_all(tries).await;
}

#[tokio::test]
async fn targets_that_are_no_path() {
    let mut core = InProcess::new(&fence());
    for target in ["", "*", "admin", "?/admin", "http:/admin", "http://orders.mesh/public"] {
        let verdict = core.judge("GET", orders::HOST.as_bytes(), target.as_bytes(), &[]);
        assert_eq!(verdict.line(), "400 path_refused", "core, `{target}`");
    }
    let bench = bench().await;
    for (paths, sidecar) in &bench.sidecars {
        for target in ["*", "admin", "%2fadmin", "?/admin", "http:/admin", "//"] {
            let seen = Seen::over_http1(sidecar, &Http1Request::new("GET", target)).await;
            // Where Envoy merges slashes, it leaves these two alone.
            let expected = if target == "//" { "path_refused" } else { "envoy" };
            assert_eq!(seen.outcome, expected, "{paths:?} `{target}`");
        }
    }
}

#[tokio::test]
async fn options_of_the_whole_server() {
    let mut core = InProcess::new(&fence());
    assert_eq!(core.judge("OPTIONS", orders::HOST.as_bytes(), b"*", &[]).line(), "400 path_refused");
    for (paths, sidecar) in &bench().await.sidecars {
        let one = Seen::over_http1(sidecar, &Http1Request::new("OPTIONS", "*")).await;
        let two =
            [(":method", b"OPTIONS".as_slice()), (":scheme", b"http"), (":authority", b"orders.mesh"), (":path", b"*")];
        let two = Seen::over_http2(sidecar, &two).await;
        assert_eq!((one.outcome.as_str(), two.outcome.as_str()), ("envoy", "envoy"), "{paths:?}");
    }
}

#[tokio::test]
async fn connect() {
    let mut core = InProcess::new(&fence());
    assert_eq!(core.judge("CONNECT", b"orders.mesh:443", b"", &[]).line(), "400 path_refused");
    let bench = bench().await;
    let token = bearer();
    for (paths, sidecar) in &bench.sidecars {
        for target in ["orders.mesh:443", "secret.com:443", "127.0.0.1:80"] {
            let request = Http1Request::without_host("CONNECT", target).header("host", target);
            let answer = Http1::open(sidecar.app()).await.unwrap().send(&request.header("authorization", &token)).await;
            assert_refused(sidecar, &answer.unwrap(), "path_refused");
            let two = [(":method", b"CONNECT".as_slice()), (":authority", target.as_bytes())];
            assert_eq!(Seen::over_http2(sidecar, &two).await.outcome, "path_refused", "{paths:?} {target}");
        }
    }
}

/// RFC 9110 section 9.1 tells methods apart by their case, and some services do not.
#[tokio::test]
async fn the_method_in_every_spelling() {
    let mut core = InProcess::new(&fence());
    for method in ["DELETE", "delete", "Delete", "dELETE"] {
        let verdict = core.judge(method, orders::HOST.as_bytes(), b"/public", &[]);
        assert_ne!(verdict.line(), "200", "core, `{method}` where DELETE is denied");
        for (paths, sidecar) in &bench().await.sidecars {
            let mut fields = with_path(b"/public", "Basic eDp5");
            fields[0].1 = method.as_bytes();
            let two = Seen::over_http2(sidecar, &fields).await.outcome;
            let one = Seen::over_http1(sidecar, &Http1Request::new(method, "/public")).await.outcome;
            for outcome in [one, two] {
                assert_ne!(outcome, "open", "{paths:?} `{method}`");
            }
        }
    }
}

/// What RFC 9113 section 8.3 forbids never reaches the filter, or is judged like any other request.
#[tokio::test]
async fn odd_pseudo_headers() {
    let (get, http) = ((":method", b"GET".as_slice()), (":scheme", b"http".as_slice()));
    let (host, public) = ((":authority", b"orders.mesh".as_slice()), (":path", b"/public".as_slice()));
    let admin = (":path", b"/admin".as_slice());
    let table: [(&str, Fields, &[&str]); 16] = [
        ("no :path", &[get, http, host], &["envoy"]),
        ("an empty :path", &[get, http, host, (":path", b"")], &["envoy"]),
        ("two :path", &[get, http, host, public, admin], &["envoy"]),
        ("no :method", &[http, host, admin], &["envoy"]),
        ("an empty :method", &[(":method", b""), http, host, admin], &["envoy"]),
        ("two :method", &[get, (":method", b"POST"), http, host, admin], &["envoy"]),
        ("a :method of many words", &[(":method", b"GET /public HTTP/1.1"), http, host, admin], &["envoy"]),
        ("a :method of 0xE9", &[(":method", b"G\xe9T"), http, host, admin], &["envoy", "rule_denied"]),
        ("no :scheme", &[get, host, admin], &["envoy"]),
        ("another :scheme", &[get, (":scheme", b"file"), host, admin], &["envoy", "rule_denied"]),
        ("a pseudo-header after a header", &[get, http, ("x", b"y"), host, public], &["envoy"]),
        ("an unknown pseudo-header", &[get, http, host, public, (":evil", b"/admin")], &["envoy"]),
        ("a pseudo-header of answers", &[get, http, host, public, (":status", b"200")], &["envoy"]),
        ("CONNECT with a path", &[(":method", b"CONNECT"), http, host, public], &["envoy"]),
        (
            "extended CONNECT",
            &[(":method", b"CONNECT"), (":protocol", b"websocket"), http, host, (":path", b"/socket")],
            &["envoy", "token_missing"],
        ),
        ("a header in upper case", &[get, http, host, public, ("X-Upper", b"y")], &["envoy"]),
    ];
    let bench = bench().await;
    let tries = table.iter().flat_map(|row| bench.sidecars.iter().map(move |(paths, sidecar)| (row, *paths, sidecar)));
    let outcomes = stream::iter(tries).map(|((what, fields, expected), paths, sidecar)| async move {
        let outcome = Seen::over_http2(sidecar, fields).await.outcome;
        assert!(expected.contains(&outcome.as_str()), "{paths:?}, {what}: {outcome}, expected {expected:?}");
    });
    outcomes.buffer_unordered(AT_A_TIME).collect::<()>().await;
}

/// What a client says about where it came from and what it wanted first is no part of what it wants now.
#[tokio::test]
async fn no_forwarding_header_steers_a_rule() {
    let bench = bench().await;
    let headers = [
        ("x-forwarded-host", "open.example"),
        ("x-forwarded-path", "/public"),
        ("x-forwarded-prefix", "/public"),
        ("x-forwarded-uri", "/public"),
        ("x-forwarded-proto", "https"),
        ("x-forwarded-port", "443"),
        ("x-forwarded-for", "127.0.0.1"),
        ("x-forwarded-client-cert", "By=spiffe://td/x;URI=spiffe://td/admin"),
        ("x-envoy-original-path", "/public"),
        ("x-envoy-original-host", "open.example"),
        ("x-envoy-original-method", "GET"),
        ("x-original-url", "/public"),
        ("x-rewrite-url", "/public"),
        ("x-http-method-override", "OPTIONS"),
        ("x-method-override", "OPTIONS"),
        ("x-host", "open.example"),
        ("forwarded", "host=open.example;proto=https"),
        ("x-envoy-decorator-operation", "/public"),
        ("x-envoy-internal", "true"),
    ];
    for (paths, sidecar) in &bench.sidecars {
        for http in Http::BOTH {
            for (name, value) in headers {
                for (path, host, reason) in [
                    ("/admin", orders::HOST, "rule_denied"),
                    ("/public", "secret.com", "rule_denied"),
                    ("/v1/orders/1881", orders::HOST, "token_missing"),
                ] {
                    let answer = sidecar.send(http, &Request::get(path).host(host).header(name, value)).await.unwrap();
                    assert_eq!(answer.reason().as_deref(), Some(reason), "{paths:?} {http:?} {name} on {host}{path}");
                    assert_refused(sidecar, &answer, reason);
                }
            }
        }
    }
}

#[tokio::test]
async fn no_byte_of_an_upgrade_passes_before_the_verdict() {
    let bench = bench().await;
    for (paths, sidecar) in &bench.sidecars {
        let upgrade = |request: Http1Request| {
            let request = request.header("connection", "Upgrade").header("upgrade", "websocket");
            request.header("sec-websocket-version", "13").header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
        };
        let socket = Http1Request::new("GET", "/socket");
        let table = [
            (upgrade(socket.clone()), "token_missing"),
            (
                upgrade(socket.clone().header("authorization", format!("Bearer {}", mint::token().expired().sign()))),
                "token_expired",
            ),
            (upgrade(Http1Request::new("GET", "/admin")), "rule_denied"),
            (
                Http1Request::without_host("CONNECT", "orders.mesh:443").header("host", "orders.mesh:443"),
                "path_refused",
            ),
        ];
        for (request, reason) in table {
            let mark = format!("early-{paths:?}-{reason}");
            let mut client = Http1::open(sidecar.app()).await.unwrap();
            let answer = client.send_with(&request, mark.as_bytes()).await.unwrap();
            assert_refused(sidecar, &answer, reason);
            assert!(
                !bench.wire.heard(&format!("x-probe: {}", answer.probe)),
                "{paths:?} {reason}: the handshake passed"
            );
            assert!(!bench.wire.heard(&mark), "{paths:?} {reason}: early bytes passed");
        }
        let mark = format!("after-{paths:?}");
        let request = upgrade(socket.header("authorization", bearer()));
        let mut client = Http1::open(sidecar.app()).await.unwrap();
        let answer = client.send_with(&request, mark.as_bytes()).await.unwrap();
        assert_eq!(answer.status, 101, "{paths:?}: a grant opens the socket");
        assert!(bench.wire.hears(&mark), "{paths:?}: what a permitted client sends arrives");
    }
}

/// To another protocol, which nobody would judge the requests of.
#[tokio::test]
async fn an_upgrade_to_http2_is_not_passed_on() {
    for (paths, sidecar) in &bench().await.sidecars {
        let request = Http1Request::new("GET", "/public").header("connection", "Upgrade, HTTP2-Settings");
        let request = request.header("upgrade", "h2c").header("http2-settings", "AAMAAABkAARAAAAAAAIAAAAA");
        let answer = Http1::open(sidecar.app()).await.unwrap().send(&request).await.unwrap();
        let seen = answer.json()["headers"].clone();
        assert!(
            answer.status != 101 && seen["upgrade"].is_null() && seen["http2-settings"].is_null(),
            "{paths:?} {seen}"
        );
    }
}

/// A refused request does not hand its connection's next bytes to the upstream.
#[tokio::test]
async fn what_follows_a_refused_request_is_judged_for_itself() {
    for (_, sidecar) in &bench().await.sidecars {
        for first in [Http1Request::new("GET", "/admin"), Http1Request::new("POST", "/admin").body("x=1")] {
            let probe = new_probe();
            let second = format!("GET /admin/x HTTP/1.1\r\nhost: orders.mesh\r\nx-probe: {probe}\r\n\r\n");
            let mut client = Http1::open(sidecar.app()).await.unwrap();
            let answer = client.send_with(&first, second.as_bytes()).await.unwrap();
            assert_refused(sidecar, &answer, "rule_denied");
            // Of a request that was answered before its end, Envoy closes the connection.
            if !raw::closes(&answer) {
                assert_refused(sidecar, &client.read_answer(probe).await.unwrap(), "rule_denied");
            }
        }
    }
}

/// Whatever arrives, arrives under the path that the upstream sees, and no service could read that path as a closed
/// one.
#[tokio::test]
async fn generated_spellings_arrive_only_where_a_rule_lets_them() {
    let bench = bench().await;
    let mut chance = fastrand::Rng::with_seed(1881);
    let mut spellings = BTreeSet::new();
    while spellings.len() < SPELLINGS {
        spellings.insert(spelling(&mut chance));
    }
    let authorization = bearer();
    let authorization = authorization.as_str();
    let tries = stream::iter(&spellings).map(|target| async move {
        let settings = bench.sidecars.iter().map(|(_, sidecar)| async move {
            let request = Http1Request::new("GET", target).header("authorization", authorization);
            let one = Seen::over_http1(sidecar, &request).await;
            [one, Seen::over_http2(sidecar, &with_path(target, authorization)).await]
        });
        (target, join_all(settings).await)
    });
    let found: Vec<_> = tries.buffer_unordered(AT_A_TIME / 2).collect().await;

    let mut core = InProcess::new(&fence());
    let mut judge = |path: &[u8]| {
        let verdict = core.judge("GET", orders::HOST.as_bytes(), path, &[("authorization", authorization.as_bytes())]);
        verdict.reason.unwrap_or("open")
    };
    let (mut wrong, mut arrived, mut stopped) = (Vec::new(), 0, 0);
    for (target, settings) in &found {
        let spelt = target.escape_ascii();
        let mut arrivals = BTreeSet::new();
        for ((paths, _), seen) in bench.sidecars.iter().zip(settings) {
            for seen in seen {
                if let Some((path, _)) = &seen.upstream {
                    arrived += 1;
                    wrong.extend(trespass(path).map(|how| format!("{paths:?} `{spelt}` arrived as `{path}`: {how}")));
                    if judge(path.as_bytes()) != "open" {
                        wrong.push(format!(
                            "{paths:?} `{spelt}` arrived as `{path}`, whose rule says {}",
                            judge(path.as_bytes())
                        ));
                    }
                    arrivals.insert(in_process::canonical(path.as_bytes()));
                } else {
                    stopped += 1;
                }
                // Without normalisation the filter sees what was sent: it must say what core says of it.
                let expected = judge(target);
                if *paths == Paths::Raw
                    && seen.outcome != expected
                    && !(seen.outcome == "envoy" && expected == "path_refused")
                {
                    wrong.push(format!("`{spelt}`: {}, and core says {expected}", seen.outcome));
                }
            }
        }
        // However often it was normalised on the way, it is one path.
        let own = in_process::canonical(target).map(Some);
        arrivals.extend(own.filter(|_| !arrivals.is_empty()));
        if arrivals.len() > 1 {
            wrong.push(format!("`{spelt}` is {arrivals:?}, depending on who normalises"));
        }
    }
    println!("{arrived} arrived, {stopped} were stopped");
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
    assert!(arrived > SPELLINGS / 2 && stopped > SPELLINGS, "one-sided: {arrived} arrived, {stopped} were stopped");
}

/// A path with one to four of the tricks that there are.
fn spelling(chance: &mut fastrand::Rng) -> Vec<u8> {
    const PATHS: [&str; 13] = [
        "/admin",
        "/admin/x",
        "/v1/orders/1881",
        "/v1/orders/1882",
        "/v1/orders/1881/x",
        "/v1/orders:purge",
        "/a.b",
        "/v2/orders/7:cancel",
        "/v2/docs/a.pdf",
        "/v2/v1/admin",
        "/one/a",
        "/one/a/b",
        "/public",
    ];
    const INSIDE: [&str; 17] = [
        "/",
        "/.",
        "/x/..",
        "/%2e",
        "/..;",
        "/.;",
        "/;a=b",
        "/%2e%2e/public",
        "\\",
        "%2f",
        "%5c",
        "/..",
        "/x/.%2E",
        "%252f",
        "%c0%af",
        ";a=b",
        "/public/../",
    ];
    const BEHIND: [&str; 20] = [
        "/",
        "?",
        "?x=/../admin",
        "#",
        "#x",
        ";",
        ";a=b",
        "%00",
        "%20",
        "%3f",
        "%3b",
        "/.",
        "/..",
        "/%2e%2e",
        "%",
        "%zz",
        "%c0%af",
        "%e2%80%ae",
        "//",
        "/%2e",
    ];
    const BEFORE: [&str; 10] =
        ["/public/..", "/public/%2e%2e", "/x;a", "/", "/.", "/%2e", "/one/..", "/public/%252e%252e", "/..", "/x/../."];
    let pick = |chance: &mut fastrand::Rng, from: &[&'static str]| from[chance.usize(..from.len())].as_bytes();
    let mut path = pick(chance, &PATHS).to_vec();
    for _ in 0..chance.usize(1..=4) {
        let at = chance.usize(..path.len());
        match chance.u8(..10) {
            // Most of all what leaves the path what it is.
            0..=3 => drop(path.splice(at..=at, escaped(path[at], chance.bool()))),
            4 => drop(path.splice(at..=at, format!("%25{:02x}", path[at]).into_bytes())),
            5 => drop(path.splice(at..at, pick(chance, &INSIDE).to_vec())),
            6 => path.extend(pick(chance, &BEHIND)),
            7 => drop(path.splice(0..0, pick(chance, &BEFORE).to_vec())),
            8 => path[at] ^= if path[at].is_ascii_alphabetic() { 0x20 } else { 0 },
            _ => path.extend(b"?q=/admin"),
        }
    }
    path
}

fn escaped(byte: u8, upper: bool) -> Vec<u8> {
    if upper { format!("%{byte:02X}").into_bytes() } else { format!("%{byte:02x}").into_bytes() }
}

/// The oracle itself: what it must know as a way around.
#[test]
fn the_widest_reading() {
    for way in [
        "/admin",
        "/admin/x",
        "//admin",
        "/%61dmin",
        "/x/../admin",
        "/x/%252e%252e/admin",
        "/admin;x",
        "/x\\..\\admin",
        "/v1/orders/1882",
        "/one/a%2fb",
        "/x%c0%af..%c0%afadmin",
        "/admin%00x",
        "/%2561dmin",
    ] {
        assert!(trespass(way).is_some(), "{way}");
    }
    for way in
        ["/", "/public", "/v1/orders/1881", "/one/a", "/aXb", "/public/...", "/public?/../admin", "/administrator"]
    {
        assert_eq!(trespass(way), None, "{way}");
    }
}

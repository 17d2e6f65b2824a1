//! A request that waits, or was refused, stays where it is: no header, no byte of its body and no trailer goes on, however
//! the body comes and whatever the plugin's `allow_on_headers_stop_iteration` says.

use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::future::join_all;
use hyper::HeaderMap;
use serde_json::{Value, json};
use taskfence_tests::{
    bootstrap::{self, Settings},
    client::{self, Answer, Http, Request},
    jwks::{self, Jwks},
    mint::{self, Alg, Keyring},
    orders,
    refusal::{assert_allowed, assert_not_forwarded, assert_refused},
    sidecar::Sidecar,
    streaming::Connection,
};
use tokio::time;

/// In three pieces, with time between them.
const BODY: &[&[u8]] = &[b"first ", b"second ", b"third"];

/// The first may pass; of the cookies, what is no token; the others say who somebody is.
const TRAILERS: [&str; 5] = ["x-checksum", "cookie", "x-user", "x_user", "x-taskfence-subject"];

#[derive(Clone, Copy, Debug, PartialEq)]
enum Framing {
    Length,
    Chunked,
    Trailers,
    /// No body at all.
    TrailersAlone,
    /// Over the 1 MiB that Envoy buffers for a stream.
    Long,
}

impl Framing {
    fn has_trailers(self) -> bool {
        matches!(self, Framing::Trailers | Framing::TrailersAlone)
    }

    fn pieces(self) -> Vec<Bytes> {
        match self {
            Framing::TrailersAlone => Vec::new(),
            Framing::Long => vec![Bytes::from(vec![b'x'; 64 * 1024]); 40],
            _ => BODY.iter().map(|piece| Bytes::from_static(piece)).collect(),
        }
    }

    fn length(self) -> usize {
        self.pieces().iter().map(Bytes::len).sum()
    }
}

fn every_way() -> impl Iterator<Item = (Http, Framing)> {
    let framings = [Framing::Length, Framing::Chunked, Framing::Trailers, Framing::TrailersAlone, Framing::Long];
    Http::BOTH.into_iter().flat_map(move |http| framings.map(|framing| (http, framing)))
}

fn settings(name: &str, keys: Value, flag: bool) -> Settings {
    let mut config = orders::config_of(json!([
        {"name": "write", "match": {"path": "/v1/orders/{order}"}, "require": {"scope": orders::SCOPE}},
        {"name": "open", "match": {"path": "/open"}, "allow": "anonymous"},
    ]));
    config["issuers"][0]["keys"] = keys;
    config["identity"] = json!({"subject": "x-user"});
    config["forward_token"] = json!(false);
    let mut browser = config["issuers"][0].clone();
    browser["issuer"] = json!("https://browser.example");
    browser["keys"] = inline();
    browser["token"] = json!({"cookie": "jit"});
    config["issuers"].as_array_mut().unwrap().push(browser);
    Settings::new(name, config).patch(move |bootstrap| {
        let manager = bootstrap.pointer_mut(bootstrap::APP).unwrap();
        manager["http_protocol_options"] = json!({"enable_trailers": true});
        manager["http_filters"][0]["typed_config"]["config"]["allow_on_headers_stop_iteration"] = json!(flag);
        let options = "/static_resources/clusters/0/typed_extension_protocol_options\
                       /envoy.extensions.upstreams.http.v3.HttpProtocolOptions/use_downstream_protocol_config";
        let options = bootstrap.pointer_mut(options).unwrap();
        options["http_protocol_options"] = json!({"enable_trailers": true});
    })
}

/// Sends the head, and the body piece by piece while the request may be waiting.
async fn send(sidecar: &Sidecar, http: Http, framing: Framing, path: &str, token: Option<&str>) -> Answer {
    let mut request = Request::new("POST", path);
    if let Some(token) = token {
        request = request.bearer(token);
    }
    match framing {
        Framing::Length => request = request.header("content-length", framing.length().to_string()),
        Framing::Chunked | Framing::Long => {}
        // Over HTTP/1 the client sends only those that it announced.
        Framing::Trailers | Framing::TrailersAlone => request = request.header("trailer", TRAILERS.join(", ")),
    }
    let mut connection = Connection::open(sidecar.app(), http).await.unwrap();
    let (mut upload, answer) = connection.upload(&request).await.unwrap();
    let writing = tokio::spawn(async move {
        for piece in framing.pieces() {
            if framing != Framing::Long {
                time::sleep(Duration::from_millis(150)).await;
            }
            // The answer may have come already, and nobody reads any more.
            if upload.send_data(piece).await.is_err() {
                return;
            }
        }
        if framing.has_trailers() {
            let mut trailers = HeaderMap::new();
            for name in TRAILERS {
                let value = if name == "cookie" { "kept=1; jit=a.b.c" } else { "mine" };
                trailers.insert(name, value.parse().unwrap());
            }
            let _ = upload.send_trailers(trailers).await;
        }
    });
    let answer = answer.await.unwrap().whole().await.unwrap();
    writing.abort();
    answer
}

/// It has come through whole, without a trailer that says who somebody is.
#[track_caller]
fn assert_whole(sidecar: &Sidecar, answer: &Answer, (http, framing): (Http, Framing)) {
    assert_allowed(sidecar, answer);
    let seen = answer.json();
    assert_eq!(seen["body_bytes"], json!(framing.length()), "{http:?} {framing:?}: {seen}");
    let trailers =
        if framing.has_trailers() { json!({"x-checksum": ["mine"], "cookie": ["kept=1"]}) } else { json!({}) };
    assert_eq!(seen["trailers"], trailers, "{http:?} {framing:?}: {seen}");
}

#[tokio::test]
async fn a_refused_request_stays_refused_when_its_body_comes() {
    for flag in [true, false] {
        let sidecar = Sidecar::start(settings("paused-refused", inline(), flag)).await.unwrap();
        let forged = mint::token().signed_by(mint::FORGER.signer(Alg::Es256)).sign();
        let wrong_scope = mint::token().claim("scope", "other").sign();
        let answers = every_way().flat_map(|(http, framing)| {
            let (sidecar, forged, wrong_scope) = (&sidecar, &forged, &wrong_scope);
            [(None, "token_missing"), (Some(forged), "signature_invalid"), (Some(wrong_scope), "scope_insufficient")]
                .map(move |(token, reason)| async move {
                    let token = token.map(String::as_str);
                    (send(sidecar, http, framing, orders::ORDER_PATH, token).await, reason)
                })
        });
        for (answer, reason) in join_all(answers).await {
            assert_refused(&sidecar, &answer, reason);
        }
        let good = mint::token().sign();
        let allowed = every_way().flat_map(|way| {
            let (sidecar, good) = (&sidecar, &good);
            [("/open", None), (orders::ORDER_PATH, Some(good))].map(move |(path, token)| async move {
                (send(sidecar, way.0, way.1, path, token.map(String::as_str)).await, way)
            })
        });
        for (answer, way) in join_all(allowed).await {
            assert_whole(&sidecar, &answer, way);
        }
    }
}

/// The body is there long before the keys are.
#[tokio::test]
async fn a_waiting_request_waits_when_its_body_comes() {
    for flag in [true, false] {
        let server = Jwks::start(mint::ISSUER.jwks()).unwrap();
        server.delay(Duration::from_millis(1_200));
        let keys = json!({"cluster": "jit", "path": "/jwks.json", "wait": "10s", "refetch": "1s"});
        let settings = settings("paused-waiting", keys, flag);
        let settings = settings.patch(jwks::with_clusters(vec![jwks::cluster("jit", server.address())]));
        let sidecar = Sidecar::start(settings).await.unwrap();
        let (good, unsigned) = (mint::token().sign(), unsigned());

        // Before the first keys are there.
        let answers = every_way().flat_map(|way| {
            let (sidecar, good, unsigned) = (&sidecar, &good, &unsigned);
            [(good, true), (unsigned, false)].map(move |(token, admitted)| async move {
                (send(sidecar, way.0, way.1, orders::ORDER_PATH, Some(token)).await, way, admitted)
            })
        });
        for (answer, way, admitted) in join_all(answers).await {
            if admitted {
                assert_whole(&sidecar, &answer, way);
            } else {
                assert!([400, 401].contains(&answer.status), "{way:?}: {}", answer.status);
                assert_not_forwarded(&sidecar, &answer);
            }
        }

        // A key that nobody knows is fetched for, and is not there; then one that is.
        time::sleep(Duration::from_millis(1_100)).await;
        let new = Keyring::generate("new");
        for (published, admitted) in [(false, false), (true, true)] {
            if published {
                server.publish(&new.jwks());
                time::sleep(Duration::from_millis(1_100)).await;
            }
            let token = mint::token().signed_by(new.signer(Alg::Es256)).sign();
            let answers = every_way().map(|way| {
                let (sidecar, token) = (&sidecar, &token);
                async move { (send(sidecar, way.0, way.1, orders::ORDER_PATH, Some(token)).await, way) }
            });
            for (answer, way) in join_all(answers).await {
                if admitted {
                    assert_whole(&sidecar, &answer, way);
                } else {
                    assert_refused(&sidecar, &answer, "key_unknown");
                }
            }
        }
    }
}

/// Strangers with tokens of an issuer whose keys do not come take up its places, and no other's.
#[tokio::test]
async fn the_crowd_of_one_issuer_takes_no_places_of_another() {
    const OTHER: &str = "https://other.example";
    let (down, server) = (jwks::down().unwrap(), Jwks::start(mint::ISSUER.jwks()).unwrap());
    server.delay(Duration::from_millis(2_500));
    let mut config = orders::config();
    let mut other = config["issuers"][0].clone();
    other["issuer"] = json!(OTHER);
    other["keys"] = json!({"cluster": "other", "path": "/jwks.json", "wait": "10s"});
    config["issuers"][0]["keys"] = json!({"cluster": "jit", "path": "/jwks.json", "wait": "10s"});
    config["issuers"].as_array_mut().unwrap().push(other);
    let clusters = vec![jwks::cluster("jit", down), jwks::cluster("other", server.address())];
    let settings = Settings::new("paused-shares", config).workers(1).patch(jwks::with_clusters(clusters));
    let sidecar = Sidecar::start(settings).await.unwrap();
    let (to, crowd) = (sidecar.app(), Request::get(orders::ORDER_PATH).bearer(&mint::token().sign()));
    let waiting: Vec<_> = (0..600)
        .map(|_| {
            let crowd = crowd.clone();
            tokio::spawn(async move { client::send(to, Http::One, &crowd).await })
        })
        .collect();
    let counter = async |name: &str| {
        let name = format!("wasmcustom.taskfence.{name}");
        sidecar.envoy().stats().await.unwrap().value(&name).unwrap_or_default()
    };
    let deadline = Instant::now() + Duration::from_secs(10);
    while counter("requests_not_waited").await < 100 {
        assert!(Instant::now() < deadline, "nobody was turned away");
        time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(counter("requests_waited").await, 500);
    let request = Request::get(orders::ORDER_PATH).bearer(&mint::token().claim("iss", OTHER).sign());
    assert_allowed(&sidecar, &sidecar.send(Http::One, &request).await.unwrap());
    assert_eq!(counter("requests_waited").await, 501, "it waited for its keys");
    waiting.iter().for_each(|request| request.abort());
}

fn inline() -> Value {
    orders::config()["issuers"][0]["keys"].clone()
}

/// `alg` and `kid` as of a real one, and no signature that fits.
fn unsigned() -> String {
    mint::token().signed_by(mint::FORGER.signer(Alg::Es256)).header("kid", "nobody").sign()
}

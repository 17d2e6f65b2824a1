//! The requests that bring one JWK Set: its metadata before it where the set is discovered (OpenID Connect Discovery 1.0,
//! RFC 8414), and redirects within a host. The caller sends the requests and hands over the answers.

use crate::encoding::json;
use crate::keys::fetch::FetchError;
use crate::keys::gzip::{self, GzipError};
use crate::keys::key_url::{KeyUrl, redirected};
use crate::keys::keyring::{Discovery, JwksError, MAX_JWKS, Source, read_jwks};
use std::borrow::Cow;

/// So many redirects of one document are followed.
const MAX_REDIRECTS: u8 = 3;

/// Text of a server in an error has at most so many characters.
const MAX_SHOWN: usize = 200;

/// `accept` of each request (RFC 7517 §8.5).
pub const ACCEPT: &str = "application/jwk-set+json, application/json";

/// `accept-encoding` of each request. Servers that compress nevertheless may use gzip.
pub const ACCEPT_ENCODING: &str = "identity";

/// One request of a retrieval: a GET.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The name of the proxy's cluster.
    pub cluster: String,
    /// `:authority`.
    pub host: String,
    /// `:path`.
    pub path: String,
}

/// The answer to a request.
#[derive(Debug, Clone, Copy)]
pub struct Answer<'a> {
    /// The status; 0 if there was none.
    pub status: u16,
    /// The header `location`.
    pub location: Option<&'a [u8]>,
    /// The header `content-encoding`.
    pub encoding: Option<&'a [u8]>,
    /// The length of the body in bytes.
    pub length: usize,
    /// The body; of one that is longer than [`MAX_JWKS`] perhaps only the beginning.
    pub body: &'a [u8],
}

/// What follows on an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Another request: send [`Retrieval::target`].
    Next(Retrieval),
    /// The set, which [`read_jwks`] accepts.
    Set(Vec<u8>),
}

/// A retrieval that is under way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retrieval {
    target: Target,
    document: Document,
    redirects: u8,
}

/// What the current request is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Document {
    /// The metadata, at the first or the second of its places.
    Metadata {
        is_second: bool,
    },
    Set,
}

impl Retrieval {
    /// Begins with the first request for the set of `source`.
    pub fn start(source: &Source) -> Retrieval {
        let target = Target { cluster: source.cluster.clone(), host: source.host.clone(), path: source.path.clone() };
        let document = match source.discovery {
            Some(_) => Document::Metadata { is_second: false },
            None => Document::Set,
        };
        Retrieval { target, document, redirects: 0 }
    }

    /// The request to send.
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// Whether the request carries the authorization of `source`: only to the cluster that the configuration gives it to.
    pub fn is_authorized(&self, source: &Source) -> bool {
        self.target.cluster == source.cluster
    }

    /// Whether the request is for the set itself.
    pub fn is_for_set(&self) -> bool {
        self.document == Document::Set
    }

    /// Reads the answer to [`Retrieval::target`].
    pub fn read(self, source: &Source, answer: Answer<'_>) -> Result<Step, FetchError> {
        if let (301 | 302 | 307 | 308, Some(location)) = (answer.status, answer.location) {
            return self.redirect(location);
        }
        match (self.document, &source.discovery) {
            (Document::Metadata { is_second }, Some(discovery)) => {
                let is_client_error = (400..500).contains(&answer.status);
                let read = body(answer).and_then(|body| metadata(&body, discovery));
                match (read, &discovery.second_path) {
                    (Ok(path), _) => Ok(Step::Next(Retrieval {
                        target: Target {
                            cluster: discovery.keys_cluster.clone(),
                            host: discovery.keys_host.clone(),
                            path,
                        },
                        document: Document::Set,
                        redirects: 0,
                    })),
                    // The server does not have it in that place, or answers every path with a page.
                    (Err(error), Some(path)) if !is_second && (is_client_error || error == FetchError::NoMetadata) => {
                        let target = Target { path: path.clone(), ..Retrieval::start(source).target };
                        Ok(Step::Next(Retrieval {
                            target,
                            document: Document::Metadata { is_second: true },
                            redirects: 0,
                        }))
                    }
                    (Err(error), _) => Err(error),
                }
            }
            _ => {
                let body = body(answer)?;
                read_jwks(&body)?;
                Ok(Step::Set(body.into_owned()))
            }
        }
    }

    fn redirect(self, location: &[u8]) -> Result<Step, FetchError> {
        if self.redirects >= MAX_REDIRECTS {
            return Err(FetchError::Redirects);
        }
        let Target { host, path, .. } = &self.target;
        let to = std::str::from_utf8(location).ok().and_then(|location| redirected(location, host, path));
        let to = to.ok_or_else(|| FetchError::Redirect {
            location: shown(&String::from_utf8_lossy(location)),
            host: host.clone(),
        })?;
        let target = Target { path: to, ..self.target };
        Ok(Step::Next(Retrieval { target, redirects: self.redirects.saturating_add(1), ..self }))
    }
}

/// The body of a good answer, unpacked.
fn body(answer: Answer<'_>) -> Result<Cow<'_, [u8]>, FetchError> {
    if answer.status != 200 {
        return Err(FetchError::Status(answer.status));
    }
    if answer.length > MAX_JWKS {
        return Err(JwksError::TooLarge(answer.length).into());
    }
    if gzip::is_gzip(answer.body) {
        return gzip::unpack(answer.body, MAX_JWKS).map(Cow::Owned).map_err(|error| match error {
            GzipError::TooLarge => JwksError::Unpacked.into(),
            GzipError::Broken => FetchError::Encoding("gzip that is broken".to_owned()),
        });
    }
    let encoding = String::from_utf8_lossy(answer.encoding.unwrap_or_default());
    match encoding.trim() {
        "" | "identity" => Ok(answer.body.into()),
        // A proxy on the way unpacked it.
        "gzip" | "x-gzip" => Ok(answer.body.into()),
        other => Err(FetchError::Encoding(shown(other))),
    }
}

/// The path of the set that the metadata names. Its `issuer` must be that of the configuration, byte by byte (RFC 8414
/// §3.3, OpenID Connect Discovery 1.0 §4.3).
fn metadata(body: &[u8], discovery: &Discovery) -> Result<String, FetchError> {
    let metadata = json::object(body).map_err(|_| FetchError::NoMetadata)?;
    let text = |name: &str| metadata.get(name).and_then(|value| value.as_str());
    match text("issuer") {
        None => return Err(FetchError::NoMetadata),
        Some(issuer) if issuer == discovery.issuer => {}
        Some(issuer) => {
            return Err(FetchError::OtherIssuer { found: shown(issuer), issuer: discovery.issuer.clone() });
        }
    }
    let uri = text("jwks_uri").ok_or(FetchError::NoJwksUri)?;
    let url = KeyUrl::parse(uri).ok_or_else(|| FetchError::JwksUri(shown(uri)))?;
    // Whoever takes an issuer without TLS takes its keys so too.
    if !url.is_https && !discovery.issuer.starts_with("http://") {
        return Err(FetchError::JwksUri(shown(uri)));
    }
    if !url.is_at(&discovery.keys_host) {
        return Err(FetchError::OtherHost { found: shown(url.authority), allowed: discovery.keys_host.clone() });
    }
    Ok(url.target())
}

/// Text of a server, shortened.
fn shown(text: &str) -> String {
    text.chars().take(MAX_SHOWN).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Span;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    const ISSUER: &str = "https://jit.example/tenant";

    fn source() -> Source {
        Source {
            cluster: "jit".to_owned(),
            host: "jit.example".to_owned(),
            path: "/tenant/.well-known/openid-configuration".to_owned(),
            discovery: Some(Discovery {
                issuer: ISSUER.to_owned(),
                second_path: Some("/.well-known/oauth-authorization-server/tenant".to_owned()),
                keys_cluster: "keys".to_owned(),
                keys_host: "keys.example".to_owned(),
            }),
            authorization: None,
            refresh: Span(300),
            timeout: Span(5),
            wait: Span(2),
            keep: Span(3600),
            refetch: Span(10),
        }
    }

    fn plain() -> Source {
        Source { path: "/jwks.json".to_owned(), discovery: None, ..source() }
    }

    fn answer(body: &[u8]) -> Answer<'_> {
        Answer { status: 200, location: None, encoding: None, length: body.len(), body }
    }

    fn ok(body: &Value) -> Answer<'static> {
        answer(body.to_string().leak().as_bytes())
    }

    fn status(status: u16) -> Answer<'static> {
        Answer { status, ..ok(&json!("<html>")) }
    }

    fn moved(to: &str) -> Answer<'_> {
        Answer { location: Some(to.as_bytes()), ..status(302) }
    }

    fn good() -> Value {
        json!({"issuer": ISSUER, "jwks_uri": "https://keys.example/certs?v=3"})
    }

    /// The targets of all requests, as `cluster host path`, and the end.
    fn run(source: &Source, answers: Vec<Answer<'_>>) -> (Vec<String>, Result<Vec<u8>, String>) {
        let mut retrieval = Retrieval::start(source);
        let mut targets = Vec::new();
        for answer in answers {
            let Target { cluster, host, path } = retrieval.target();
            targets.push(format!("{cluster} {host} {path}"));
            match retrieval.read(source, answer) {
                Ok(Step::Next(next)) => retrieval = next,
                Ok(Step::Set(set)) => return (targets, Ok(set)),
                Err(error) => return (targets, Err(error.to_string())),
            }
        }
        panic!("it asks for more: {targets:?}");
    }

    const OPENID: &str = "jit jit.example /tenant/.well-known/openid-configuration";
    const OAUTH: &str = "jit jit.example /.well-known/oauth-authorization-server/tenant";
    const CERTS: &str = "keys keys.example /certs?v=3";

    #[test]
    fn a_set_is_found_through_metadata() {
        let set = json!({"keys": []});
        let bytes = set.to_string().into_bytes();
        assert_eq!(run(&plain(), vec![ok(&set)]), (vec!["jit jit.example /jwks.json".to_owned()], Ok(bytes.clone())));
        let found = run(&source(), vec![ok(&good()), ok(&set)]);
        assert_eq!(found, (vec![OPENID.to_owned(), CERTS.to_owned()], Ok(bytes.clone())));
        for not_there in [status(404), status(401), status(200), ok(&json!([]))] {
            let found = run(&source(), vec![not_there, ok(&good()), ok(&set)]);
            assert_eq!(found, (vec![OPENID.to_owned(), OAUTH.to_owned(), CERTS.to_owned()], Ok(bytes.clone())));
        }
    }

    #[test]
    fn what_ends_a_discovery_is_named() {
        let with = |name: &str, value: Value| {
            let mut metadata = good();
            metadata[name] = value;
            ok(&metadata)
        };
        for (answers, message) in [
            (vec![status(503)], "status 503 (unavailable, or no connection to the cluster)"),
            (vec![status(404), status(404)], "status 404"),
            (
                vec![status(404), status(200)],
                "no metadata of an issuer: expected a JSON object with `issuer` and `jwks_uri`",
            ),
            (
                vec![with("issuer", json!("https://jit.example/tenant/"))],
                "the metadata is of the issuer `https://jit.example/tenant/`, and the configuration names `https://jit.example/tenant`",
            ),
            (vec![with("jwks_uri", json!(7))], "the metadata has no `jwks_uri`"),
            (vec![with("jwks_uri", json!("/certs"))], "the `jwks_uri` of the metadata is no https URL: `/certs`"),
            (
                vec![with("jwks_uri", json!("http://keys.example/certs"))],
                "the `jwks_uri` of the metadata is no https URL: `http://keys.example/certs`",
            ),
            (
                vec![with("jwks_uri", json!("https://evil.example/certs"))],
                "the metadata names keys at the host `evil.example`, and the configuration allows `keys.example`: if both are right, write `jwks_host` and the `jwks_cluster` for it",
            ),
            (vec![ok(&good()), status(404)], "status 404"),
            (vec![ok(&good()), ok(&json!({}))], "not a JWK Set: expected an object with an array `keys`"),
        ] {
            assert_eq!(run(&source(), answers).1, Err(message.to_owned()));
        }
        let mut open = source();
        open.discovery.as_mut().unwrap().issuer = "http://jit.example".to_owned();
        let metadata = json!({"issuer": "http://jit.example", "jwks_uri": "http://keys.example/certs"});
        assert!(run(&open, vec![ok(&metadata), ok(&json!({"keys": []}))]).1.is_ok(), "an issuer without TLS");
    }

    #[test]
    fn redirects_are_followed_within_the_host() {
        let set = ok(&json!({"keys": []}));
        let (targets, end) = run(&plain(), vec![moved("/a"), moved("https://jit.example/b"), moved("c"), set]);
        assert_eq!(targets[1..], ["jit jit.example /a", "jit jit.example /b", "jit jit.example /c"]);
        assert!(end.is_ok());
        assert_eq!(
            run(&plain(), vec![moved("/a"), moved("/b"), moved("/c"), moved("/d")]).1,
            Err("more than 3 redirects".to_owned())
        );
        assert_eq!(
            run(&plain(), vec![moved("https://evil.example/a")]).1,
            Err("a redirect to `https://evil.example/a`, and only `jit.example` is asked".to_owned())
        );
        assert_eq!(run(&plain(), vec![status(307)]).1, Err("status 307".to_owned()), "without a location");
        assert!(run(&plain(), vec![Answer { status: 303, ..moved("/a") }]).1.is_err());
        // Each document of a discovery may be elsewhere on its host.
        let answers = vec![moved("/a"), ok(&good()), moved("/b"), set];
        let (targets, end) = run(&source(), answers);
        assert_eq!(targets, [OPENID, "jit jit.example /a", CERTS, "keys keys.example /b"]);
        assert!(end.is_ok());
    }

    #[test]
    fn the_authorization_goes_to_its_own_cluster() {
        let start = Retrieval::start(&source());
        assert!(start.is_authorized(&source()));
        let Ok(Step::Next(set)) = start.read(&source(), ok(&good())) else { panic!("the set") };
        assert!(set.is_for_set() && !set.is_authorized(&source()));
        assert!(Retrieval::start(&plain()).is_authorized(&plain()));
    }

    #[test]
    fn compressed_answers() {
        // `{"keys":[]}`.
        let packed = [
            0x1f, 0x8b, 0x08, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x03, 0xab, 0x56, 0xca, 0x4e, 0xad, 0x2c, 0x56, 0xb2,
            0x8a, 0x8e, 0xad, 0x05, 0x00, 0xef, 0x67, 0x88, 0x2a, 0x0b, 0x00, 0x00, 0x00,
        ];
        let unpacked =
            |body: &[u8], encoding: Option<&'static [u8]>| run(&plain(), vec![Answer { encoding, ..answer(body) }]).1;
        for encoding in [Some(&b"gzip"[..]), Some(b"x-gzip"), None] {
            assert_eq!(unpacked(&packed, encoding).as_deref(), Ok(&b"{\"keys\":[]}"[..]));
        }
        assert!(unpacked(br#"{"keys":[]}"#, Some(b"gzip")).is_ok());
        let said = |text: &str| Err(format!("compressed as {text}: the server must not compress, or use gzip"));
        assert_eq!(unpacked(b"\x0b\x05", Some(b"br")), said("br"));
        assert_eq!(unpacked(&packed[..20], Some(b"gzip")), said("gzip that is broken"));
    }

    proptest! {
        #[test]
        fn any_answers_end_within_bounds(
            answers in proptest::collection::vec((0u8..9, "\\PC{0,20}|/[a-z]{0,3}", any::<Vec<u8>>()), 16)
        ) {
            let source = source();
            let mut retrieval = Retrieval::start(&source);
            let mut requests = 0;
            for (kind, location, body) in &answers {
                requests += 1;
                let answer = match kind {
                    0 => status(404),
                    1 => ok(&good()),
                    2 => ok(&json!({"keys": []})),
                    3..=6 => moved(location),
                    _ => self::answer(body),
                };
                match retrieval.read(&source, answer) {
                    Ok(Step::Next(next)) => {
                        let host = &next.target().host;
                        prop_assert!(host == "jit.example" || host == "keys.example" && next.is_for_set());
                        retrieval = next;
                    }
                    _ => return Ok(()),
                }
            }
            prop_assert!(requests <= 12, "three documents, each with three redirects");
            prop_assert!(false, "it does not end");
        }
    }
}

//! Says who a caller is, before any handler runs: by its bearer token, or by the certificate of its connection.

use crate::access::bearer;
use crate::access::certificate::{self, CertificateRules};
use crate::access::known_tokens::{KnownTokens, NotKnown};
use crate::access::peer::Peer;
use crate::access::principal::Principal;
use crate::access::rate_limit::RateLimit;
use crate::config::hub::{Feed, Hub};
use crate::config::role::Role;
use crate::problem::Problem;
use axum::extract::{Request, State};
use axum::http::header::{AUTHORIZATION, CONNECTION};
use axum::http::{HeaderMap, HeaderValue};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use std::net::IpAddr;
use std::sync::Arc;
use taskfence_core::encoding::bytes::constant_time_eq;

/// The clock of the hub, in milliseconds since 1970.
pub type Now = Arc<dyn Fn() -> u64 + Send + Sync>;

/// How callers are authenticated and limited.
pub struct Access {
    tokens: KnownTokens,
    certificates: CertificateRules,
    failures: RateLimit<IpAddr>,
    /// Of the failures of one address, the log has one a minute.
    logged: RateLimit<IpAddr>,
    /// For people and issuers, which call the API.
    callers: RateLimit<String>,
    /// For proxies; many share a principal.
    sidecars: RateLimit<String>,
    /// For receivers of SETs, which are strangers: each poll reads what waits.
    receivers: RateLimit<String>,
    /// For transmitters.
    transmitters: RateLimit<String>,
    /// What transmitters send in `authorization` that have agreed on a value of their own: the path of the intake of the
    /// feed, and the value.
    streams: Vec<(String, String)>,
    now: Now,
}

impl Access {
    /// Callers have one of `tokens`, or a certificate that `certificates` names. Transmitters of `hub` may have a value of
    /// their own, which the intake compares again with the stream of the SET.
    pub fn new(tokens: KnownTokens, certificates: CertificateRules, hub: &Hub, now: Now) -> Access {
        let streams = hub.feeds.iter().flat_map(|feed| {
            let policy = feed.policy();
            let values = policy.signals().transmitters().iter().filter_map(|stream| stream.authorization.as_ref());
            values.map(|value| (Feed::intake_path(&feed.name), value.reveal().to_owned())).collect::<Vec<_>>()
        });
        Access {
            tokens,
            certificates,
            failures: RateLimit::new(1, 20),
            logged: RateLimit::new(1, 1),
            callers: RateLimit::new(500, 2_000),
            receivers: RateLimit::new(50, 500),
            sidecars: of_machines(hub.limits.sidecar_requests),
            transmitters: of_machines(hub.limits.transmitter_requests),
            streams: streams.collect(),
            now,
        }
    }

    /// The tokens, to read them again from the store.
    pub fn tokens(&self) -> &KnownTokens {
        &self.tokens
    }

    /// Whether the principal `name` may use `feed` in `role`, by a token or by its certificate.
    pub fn may(&self, name: &str, role: Role, feed: &str) -> bool {
        let by_certificate = self.certificates.principal(name).filter(|_| name.starts_with("spiffe://"));
        self.tokens.may(name, role, feed) || by_certificate.is_some_and(|principal| principal.may(&[role], feed))
    }

    /// The clock of the hub, in milliseconds since 1970.
    pub fn now(&self) -> u64 {
        (self.now)()
    }

    /// Who the caller is. A token counts alone: a wrong one is not made good by a certificate.
    fn authenticate(&self, headers: &HeaderMap, peer: &Peer) -> Result<Principal, Problem> {
        if let Some(header) = headers.get(AUTHORIZATION) {
            let token = header.to_str().ok().and_then(bearer::from_header);
            let token = token.ok_or_else(|| Problem::unauthenticated("`authorization` holds no bearer token", true))?;
            return self.tokens.principal(token, self.now()).map_err(|error| match error {
                NotKnown::Invalid => Problem::unauthenticated("the token is not valid here", true),
                NotKnown::Unavailable => Problem::unavailable("the store does not answer, so no token can be checked"),
            });
        }
        let leaf = peer.certificates.first();
        let Some(id) = leaf.and_then(|leaf| certificate::spiffe_id(leaf)) else {
            let detail = "there is neither a token nor a client certificate with a SPIFFE id";
            return Err(Problem::unauthenticated(detail, false));
        };
        if leaf.and_then(|leaf| certificate::ends_at(leaf)).is_none_or(|end| end < self.now() / 1_000) {
            return Err(Problem::unauthenticated("the client certificate has ended: connect with a new one", false));
        }
        self.certificates.principal(&id).ok_or_else(|| {
            let remedy = "add it to `access` in the configuration of the hub, or send a bearer token";
            Problem::forbidden(format!("`{id}` has no role here"), remedy)
        })
    }

    fn admit(&self, headers: &HeaderMap, peer: &Peer) -> Result<Principal, Problem> {
        let now = self.now();
        // Only callers that fail are slowed down: others behind the same address go on.
        let principal = self.authenticate(headers, peer).map_err(|problem| {
            let limited = self.failures.take(&peer.source(), now);
            limited.map_or_else(|seconds| Problem::too_many("too many failed authentications", seconds), |()| problem)
        })?;
        let limit = match principal.role {
            Role::Sidecar | Role::Relay => &self.sidecars,
            Role::Transmitter => &self.transmitters,
            Role::Receiver => &self.receivers,
            Role::Issuer | Role::Operator | Role::Auditor => &self.callers,
        };
        let too_many = |seconds| Problem::too_many(format!("`{}` makes too many requests", principal.name), seconds);
        limit.take(&limited_as(&principal), now).map_err(too_many)?;
        Ok(principal)
    }
}

impl Access {
    /// Whether it is a push with the value that a transmitter of the feed has agreed on. Such a push has no principal.
    fn is_push(&self, headers: &HeaderMap, path: &str) -> bool {
        let Some(header) = headers.get(AUTHORIZATION) else { return false };
        let same =
            |(known, value): &(String, String)| known == path && constant_time_eq(value.as_bytes(), header.as_bytes());
        self.streams.iter().any(same)
    }
}

impl Access {
    /// Whether the request says by itself who sent it, in a JWT that the handler verifies: a logout token in its body, or a
    /// JWT as the bearer token of a global token revocation. Tokens of the hub have no dots.
    fn is_signed(headers: &HeaderMap, path: &str) -> bool {
        let mut parts = path.strip_prefix("/v1/feeds/").unwrap_or_default().splitn(2, '/').skip(1);
        match parts.next() {
            Some("logout") => true,
            Some("global-token-revocation") => {
                let token = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
                token.and_then(bearer::from_header).is_some_and(|token| token.matches('.').count() == 2)
            }
            _ => false,
        }
    }

    /// `response` to a request that was signed by itself. An address whose requests fail too often gets 429 for those that
    /// fail; what is good always passes, because others may be behind the same address.
    fn limit_failed(&self, response: Response, peer: &Peer) -> Response {
        // Also 404 and 405: who tries names of feeds is slowed down too.
        if !matches!(response.status().as_u16(), 400..=405) {
            return response;
        }
        match self.failures.take(&peer.source(), self.now()) {
            Ok(()) => response,
            Err(seconds) => Problem::too_many("too many failed requests", seconds).into_response(),
        }
    }
}

/// Whose requests are counted together. Two callers may have one name for different feeds, as an issuer of two meshes has:
/// one of them must not use up the requests of the other.
fn limited_as(principal: &Principal) -> String {
    // No name of a feed has a blank or a comma.
    format!("{} {}", principal.feeds.join(","), principal.name)
}

/// Proxies of one principal come at once when the hub has started.
fn of_machines(per_second: u64) -> RateLimit<String> {
    RateLimit::new(per_second, per_second.saturating_mul(5) / 2)
}

/// A connection is closed so long before its client certificate ends, in seconds: whoever has a new one connects with it,
/// and is never refused.
const RENEWAL: u64 = 5 * 60;

/// Has the connection closed after `response`, where its client certificate ends soon. (HTTP/2 has no such header; there
/// the caller is refused when the certificate has ended.)
fn close_in_time(mut response: Response, peer: &Peer, now: u64) -> Response {
    let end = peer.certificates.first().map(|leaf| certificate::ends_at(leaf).unwrap_or_default());
    if end.is_some_and(|end| end < (now / 1_000).saturating_add(RENEWAL)) {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// Puts the [`Principal`] into the extensions of the request, or answers 401, 403, 429 or 503.
pub async fn authenticate(State(access): State<Arc<Access>>, mut request: Request, next: Next) -> Response {
    let Some(peer) = request.extensions().get::<Arc<Peer>>().cloned() else {
        return Problem::unavailable("the connection of the request is not known").into_response();
    };
    if access.is_push(request.headers(), request.uri().path()) {
        let _busy = peer.activity.begin();
        return next.run(request).await;
    }
    if Access::is_signed(request.headers(), request.uri().path()) {
        let response = next.run(request).await;
        // Nobody keeps a connection by what is refused.
        if response.status().is_success() {
            drop(peer.activity.begin());
        }
        return access.limit_failed(response, &peer);
    }
    let response = match access.admit(request.headers(), &peer) {
        Ok(principal) => {
            let _busy = peer.activity.begin();
            request.extensions_mut().insert(principal);
            next.run(request).await
        }
        Err(problem) => {
            // An address that fails again and again must not fill the log. The clock of this limit goes by minutes.
            if access.logged.take(&peer.source(), access.now() / 60).is_ok() {
                let path = request.uri().path();
                tracing::info!(address = %peer.address, path, reason = problem.detail(), "a caller was not admitted; of others from there this minute the log says nothing");
            }
            problem.into_response()
        }
    };
    close_in_time(response, &peer, access.now())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::tokens;
    use crate::config::compile::compile;
    use crate::config::hub::Access as Rule;
    use crate::config::model::LimitsConfig;
    use crate::testing;
    use axum::http::StatusCode;
    use taskfence_core::http::spiffe::PeerPattern;

    const ENVOY: &str = "spiffe://mesh.example/ns/a/sa/envoy";

    fn access() -> (tempfile::TempDir, Access, String) {
        let (folder, store) = testing::store();
        let token = tokens::create(&*store, "ops", Role::Operator, &[], 1).unwrap();
        let peers = PeerPattern::parse("spiffe://mesh.example/ns/a/*").unwrap();
        let rules = CertificateRules::new(vec![Rule { peers, role: Role::Sidecar, feeds: Vec::new(), issuer: None }]);
        let tokens = KnownTokens::open(store, 0).unwrap();
        let hub = compile(testing::config(folder.path()).to_string().as_bytes()).unwrap();
        let limits = LimitsConfig { sidecar_requests: 2, transmitter_requests: 4, ..LimitsConfig::default() };
        let hub = Hub { limits, feeds: Vec::new(), ..hub };
        (folder, Access::new(tokens, rules, &hub, Arc::new(|| 5)), token)
    }

    fn peer(spiffe: Option<&str>) -> Peer {
        let certificate = |id: &str| certificate::tests::certificate(&[id]).into();
        Peer::new("127.0.0.1:9".parse().unwrap(), spiffe.map(certificate).into_iter().collect())
    }

    fn headers(authorization: Option<&str>) -> HeaderMap {
        authorization.map(|value| (AUTHORIZATION, value.parse().unwrap())).into_iter().collect()
    }

    #[test]
    fn a_token_or_a_certificate() {
        let (_folder, access, token) = access();
        let admit = |authorization: Option<&str>, spiffe| {
            let admitted = access.admit(&headers(authorization), &peer(spiffe));
            admitted.map(|principal| principal.role).map_err(|problem| problem.into_response().status())
        };
        let good = format!("Bearer {token}");
        assert_eq!(admit(Some(&good), None), Ok(Role::Operator));
        assert_eq!(admit(None, Some(ENVOY)), Ok(Role::Sidecar));
        assert_eq!(admit(Some(&good), Some(ENVOY)), Ok(Role::Operator));
        assert_eq!(admit(Some("Bearer wrong"), Some(ENVOY)), Err(StatusCode::UNAUTHORIZED));
        assert_eq!(admit(Some("Basic b3BzOm9wcw=="), None), Err(StatusCode::UNAUTHORIZED));
        assert_eq!(admit(None, None), Err(StatusCode::UNAUTHORIZED));
        assert_eq!(admit(None, Some("spiffe://mesh.example/ns/b/sa/x")), Err(StatusCode::FORBIDDEN));
    }

    #[test]
    fn a_certificate_that_ended_since_the_connection_began_authenticates_nobody() {
        let peer = peer(Some(ENVOY));
        let end = certificate::ends_at(&peer.certificates[0]).unwrap();
        let admit = |now: u64| {
            let (_folder, access, _) = access();
            let access = Access { now: Arc::new(move || now * 1_000), ..access };
            access.admit(&HeaderMap::new(), &peer).map_err(|problem| problem.into_response().status())
        };
        assert!(admit(end).is_ok());
        assert_eq!(admit(end + 1), Err(StatusCode::UNAUTHORIZED));
        let closes = |now| close_in_time(Response::default(), &peer, now * 1_000).headers().contains_key(CONNECTION);
        assert_eq!([closes(end - 301), closes(end - 299), closes(end + 9)], [false, true, true]);
    }

    #[tokio::test(start_paused = true)]
    async fn what_says_itself_who_sent_it_keeps_a_connection_if_it_is_good() {
        let jwt = Some("Bearer e30.e30.AA");
        for (path, authorization, status, runs, seconds) in [
            ("/v1/feeds/main/logout", None, StatusCode::OK, true, 150),
            ("/v1/feeds/main/logout", None, StatusCode::BAD_REQUEST, true, 20),
            ("/v1/feeds/main/global-token-revocation", jwt, StatusCode::NO_CONTENT, true, 150),
            ("/v1/feeds/main/global-token-revocation", jwt, StatusCode::UNAUTHORIZED, true, 20),
            ("/v1/feeds/main/global-token-revocation", None, StatusCode::OK, false, 20),
            ("/v1/feeds/main/global-token-revocation", Some("Bearer tfhub_x"), StatusCode::OK, false, 20),
            ("/v1/feeds/main/logout/x", None, StatusCode::OK, false, 20),
            ("/v1/feeds/main/events", jwt, StatusCode::OK, false, 20),
            ("/v1/logout", None, StatusCode::OK, false, 20),
        ] {
            let (_folder, access, _) = access();
            let layer = axum::middleware::from_fn_with_state(Arc::new(access), authenticate);
            let router = axum::Router::new().fallback(move || async move { status }).layer(layer);
            let peer = Arc::new(peer(None));
            let mut request = axum::extract::Request::post(path).body(axum::body::Body::empty()).unwrap();
            request.headers_mut().extend(headers(authorization));
            request.extensions_mut().insert(peer.clone());
            let begun = tokio::time::Instant::now();
            let response = tower::ServiceExt::oneshot(router, request).await.unwrap();
            let expected = if runs { status } else { StatusCode::UNAUTHORIZED };
            assert_eq!(response.status(), expected, "{path} {authorization:?}");
            peer.activity.unused().await;
            assert_eq!(begun.elapsed().as_secs(), seconds, "{path} {authorization:?} {status}");
        }
    }

    #[test]
    fn a_principal_has_the_rate_of_its_role() {
        let (_folder, access, token) = access();
        let good = format!("Bearer {token}");
        let count = |authorization: Option<&str>, spiffe: Option<&str>| {
            let (headers, peer) = (headers(authorization), peer(spiffe));
            (0..20).filter(|_| access.admit(&headers, &peer).is_ok()).count()
        };
        assert_eq!(count(None, Some(ENVOY)), 5);
        assert_eq!(count(None, Some("spiffe://mesh.example/ns/a/sa/other")), 5, "another principal has its own");
        assert_eq!(count(Some(&good), None), 20);
    }

    #[test]
    fn an_issuer_of_two_meshes_has_a_rate_in_each() {
        let (_folder, access, _) = access();
        let rule = |peers: &str, feed: &str| Rule {
            peers: PeerPattern::parse(peers).unwrap(),
            role: Role::Issuer,
            feeds: vec![feed.to_owned()],
            issuer: Some("https://jit.example".to_owned()),
        };
        let rules = vec![rule("spiffe://red.example/jit", "red"), rule("spiffe://blue.example/jit", "blue")];
        let access = Access { certificates: CertificateRules::new(rules), callers: RateLimit::new(1, 3), ..access };
        let count = |id| (0..9).filter(|_| access.admit(&HeaderMap::new(), &peer(Some(id))).is_ok()).count();
        assert_eq!([count("spiffe://red.example/jit"), count("spiffe://blue.example/jit")], [3, 3]);
    }

    #[test]
    fn a_machine_with_many_addresses_may_fail_as_often_as_one() {
        let (_folder, access, _) = access();
        let fail = |address: String| {
            let peer = Peer::new(address.parse().unwrap(), Vec::new());
            access.admit(&headers(None), &peer).unwrap_err().into_response().status()
        };
        let failed: Vec<_> = (0..30).map(|n| fail(format!("[2606:4700:1:2::{n:x}]:9"))).collect();
        assert_eq!(failed.last(), Some(&StatusCode::TOO_MANY_REQUESTS));
        assert_eq!(fail("[2606:4700:1:3::1]:9".to_owned()), StatusCode::UNAUTHORIZED, "another network");
    }

    #[test]
    fn failures_are_limited_and_slow_down_nobody_else() {
        let (_folder, access, token) = access();
        let mut last = StatusCode::OK;
        for _ in 0..30 {
            last = access.admit(&headers(None), &peer(None)).unwrap_err().into_response().status();
        }
        assert_eq!(last, StatusCode::TOO_MANY_REQUESTS);
        let good = format!("Bearer {token}");
        assert!(access.admit(&headers(Some(&good)), &peer(None)).is_ok());
    }
}

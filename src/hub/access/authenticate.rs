//! Says who a caller is, before any handler runs: by its bearer token, or by the certificate of its connection.

use crate::access::bearer;
use crate::access::certificate::CertificateRules;
use crate::access::known_tokens::{KnownTokens, NotKnown};
use crate::access::principal::{Principal, Role};
use crate::access::rate_limit::RateLimit;
use crate::problem::Problem;
use axum::extract::{Request, State};
use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

/// Where a connection comes from. The server puts it into the extensions of each request.
#[derive(Debug, Clone)]
pub struct Peer {
    /// The address.
    pub address: IpAddr,
    /// The SPIFFE id of the verified client certificate, if there is one.
    pub spiffe: Option<Arc<str>>,
}

/// The clock of the hub, in milliseconds since 1970.
pub type Now = Arc<dyn Fn() -> u64 + Send + Sync>;

/// How callers are authenticated and limited.
pub struct Access {
    tokens: KnownTokens,
    certificates: CertificateRules,
    failures: RateLimit<IpAddr>,
    /// For people and issuers, which call the API.
    callers: RateLimit<String>,
    /// For proxies and transmitters; many share a principal.
    machines: RateLimit<String>,
    now: Now,
}

impl Access {
    /// Callers have one of `tokens`, or a certificate that `certificates` names.
    pub fn new(tokens: KnownTokens, certificates: CertificateRules, now: Now) -> Access {
        Access {
            tokens,
            certificates,
            failures: RateLimit::new(1, 20),
            callers: RateLimit::new(500, 2_000),
            machines: RateLimit::new(20_000, 50_000),
            now,
        }
    }

    /// The tokens, to read them again from the store.
    pub fn tokens(&self) -> &KnownTokens {
        &self.tokens
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
        let Some(id) = &peer.spiffe else {
            return Err(Problem::unauthenticated("there is neither a token nor a client certificate", false));
        };
        self.certificates.principal(id).ok_or_else(|| {
            let remedy = "add it to `access` in the configuration of the hub, or send a bearer token";
            Problem::forbidden(format!("`{id}` has no role here"), remedy)
        })
    }

    fn admit(&self, headers: &HeaderMap, peer: &Peer) -> Result<Principal, Problem> {
        let now = self.now();
        // Only callers that fail are slowed down: others behind the same address go on.
        let principal = self.authenticate(headers, peer).map_err(|problem| {
            let limited = self.failures.take(&peer.address, now);
            limited.map_or_else(|seconds| Problem::too_many("too many failed authentications", seconds), |()| problem)
        })?;
        let limit = match principal.role {
            Role::Sidecar | Role::Transmitter => &self.machines,
            Role::Issuer | Role::Operator | Role::Auditor => &self.callers,
        };
        let too_many =
            |seconds| Problem::too_many(format!("`{}` makes too many requests", principal.name), seconds);
        limit.take(&principal.name, now).map_err(too_many)?;
        Ok(principal)
    }
}

/// Puts the [`Principal`] into the extensions of the request, or answers 401, 403, 429 or 503.
pub async fn authenticate(State(access): State<Arc<Access>>, mut request: Request, next: Next) -> Response {
    let nowhere = Peer { address: IpAddr::V4(Ipv4Addr::UNSPECIFIED), spiffe: None };
    let peer = request.extensions().get::<Peer>().cloned().unwrap_or(nowhere);
    match access.admit(request.headers(), &peer) {
        Ok(principal) => {
            request.extensions_mut().insert(principal);
            next.run(request).await
        }
        Err(problem) => {
            tracing::info!(address = %peer.address, path = request.uri().path(), "a caller was not admitted");
            problem.into_response()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::tokens;
    use crate::config::hub::Access as Rule;
    use taskfence_core::http::spiffe::PeerPattern;
    use crate::testing;
    use axum::http::StatusCode;

    const ENVOY: &str = "spiffe://mesh.example/ns/a/sa/envoy";

    fn access() -> (tempfile::TempDir, Access, String) {
        let (folder, store) = testing::store();
        let token = tokens::create(&*store, "ops", Role::Operator, &[], 1).unwrap();
        let peers = PeerPattern::parse("spiffe://mesh.example/ns/a/*").unwrap();
        let rules = CertificateRules::new(vec![Rule { peers, role: Role::Sidecar, feeds: Vec::new(), issuer: None }]);
        let tokens = KnownTokens::open(store, 0).unwrap();
        (folder, Access::new(tokens, rules, Arc::new(|| 5)), token)
    }

    fn peer(spiffe: Option<&str>) -> Peer {
        Peer { address: IpAddr::V4(Ipv4Addr::LOCALHOST), spiffe: spiffe.map(Into::into) }
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

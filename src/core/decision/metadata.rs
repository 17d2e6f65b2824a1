//! Answers requests for the metadata of a protected resource (RFC 9728 §3.1).

use crate::decision::answer::Answer;
use crate::http::method::{GET, HEAD};
use crate::http::path::Canonical;
use crate::http::request::Request;
use crate::policy::policy::Policy;
use crate::policy::resource;

/// How long caches may keep the metadata.
const CACHE: &str = "public, max-age=300";

/// UNIMPLEMENTED: there is no such gRPC method.
const GRPC_UNIMPLEMENTED: i32 = 12;

/// The answer to a request for metadata that the filter serves; `None` for any other request. It needs no token, and no
/// rule decides about it. A method other than GET and HEAD gets 405.
pub fn answer(policy: &Policy, request: &Request<'_>) -> Option<Answer> {
    if policy.resources().is_empty() {
        return None;
    }
    let path = Canonical::parse(request.path).ok()?;
    let host = policy.host(request.authority).ok()?;
    let document = resource::document(policy.resources(), host, &path)?;
    let cache = ("cache-control", CACHE.to_owned());
    let is_read = [GET, HEAD].iter().any(|method| request.method.eq_ignore_ascii_case(method.as_bytes()));
    let (status, headers, body) = match is_read {
        // Scripts of any site may read it: it is public.
        true => {
            let shared = ("access-control-allow-origin", "*".to_owned());
            (200, vec![("content-type", "application/json".to_owned()), cache, shared], document.to_owned())
        }
        false => {
            (405, vec![("allow", format!("{GET}, {HEAD}")), ("cache-control", "no-store".to_owned())], String::new())
        }
    };
    Some(Answer { status, grpc_status: GRPC_UNIMPLEMENTED, headers, body })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::fixture;
    use serde_json::json;

    #[test]
    fn reads_are_answered_without_a_token() {
        let config = json!({
            "issuers": [{"issuer": "https://jit.example", "audiences": ["a"], "keys": {"inline": fixture::jwks()}}],
            "protected_resources": [{"resource": "https://orders.example/v1"}, {"resource": "https://orders.example/v2", "serve": false}],
            "rules": []
        });
        let policy = crate::config::load::load(config.to_string().as_bytes()).unwrap().policy;
        let ask = |method: &str, host: &str, path: &str| {
            let headers = [(":method", method), (":authority", host), (":path", path)];
            let request = Request::from_headers(headers.map(|(name, value)| (name.as_bytes(), value.as_bytes())));
            answer(&policy, &request)
        };
        const PATH: &str = "/.well-known/oauth-protected-resource/v1";
        for method in ["GET", "HEAD", "get"] {
            let answer = ask(method, "orders.example:443", PATH).unwrap();
            let body: serde_json::Value = serde_json::from_str(&answer.body).unwrap();
            assert_eq!((answer.status, body["resource"].as_str()), (200, Some("https://orders.example/v1")));
            assert!(answer.headers.contains(&("cache-control", CACHE.to_owned())));
        }
        let refused = ask("POST", "orders.example", PATH).unwrap();
        assert_eq!((refused.status, refused.body.as_str()), (405, ""));
        assert!(refused.headers.contains(&("allow", "GET, HEAD".to_owned())));
        for (host, path) in [
            ("other.example", PATH),
            ("orders.example", "/.well-known/oauth-protected-resource/v2"),
            ("orders.example", "/.well-known/oauth-protected-resource"),
            ("orders.example", "/v1/../.well-known/oauth-protected-resource/v1"),
            ("orders.example", "/v1"),
        ] {
            assert_eq!(ask("GET", host, path), None, "{host}{path}");
        }
    }
}

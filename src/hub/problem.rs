//! Answers that are errors: `application/problem+json` (RFC 9457).

use axum::http::header::{CONTENT_TYPE, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderName, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

/// An error as it is answered (RFC 9457 §3).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Problem {
    /// What kind of error it is: `urn:taskfence:hub:CODE`.
    #[serde(rename = "type")]
    kind: String,
    /// The kind in words, always the same for one `type`.
    title: &'static str,
    /// The status code.
    status: u16,
    /// What is wrong this time.
    detail: String,
    /// What to do about it.
    remedy: String,
    #[serde(skip)]
    header: Option<Header>,
}

/// What else the answer says in a header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Header {
    /// How to authenticate; whether a token was given, which is not valid.
    Challenge { invalid_token: bool },
    /// The scope that the caller would need.
    Scope(&'static str),
    /// When to come back, in seconds.
    RetryAfter(u64),
}

impl Header {
    fn pair(self) -> (HeaderName, HeaderValue) {
        match self {
            Header::Challenge { invalid_token: true } => {
                let value = "Bearer realm=\"taskfence-hub\", error=\"invalid_token\"";
                (WWW_AUTHENTICATE, HeaderValue::from_static(value))
            }
            Header::Challenge { invalid_token: false } => {
                (WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"taskfence-hub\""))
            }
            Header::Scope(scope) => {
                let value = format!("Bearer realm=\"taskfence-hub\", error=\"insufficient_scope\", scope=\"{scope}\"");
                let value = HeaderValue::try_from(value).unwrap_or(HeaderValue::from_static("Bearer"));
                (WWW_AUTHENTICATE, value)
            }
            Header::RetryAfter(seconds) => (RETRY_AFTER, seconds.into()),
        }
    }
}

impl Problem {
    /// The caller did not say who it is, or said it wrong (RFC 6750 §3).
    pub fn unauthenticated(detail: impl Into<String>, token_was_given: bool) -> Problem {
        let remedy = "send `authorization: Bearer TOKEN`; `taskfence hub token new` makes one on the host of the hub";
        let title = "The caller is not authenticated";
        let problem = Problem::new(StatusCode::UNAUTHORIZED, "unauthenticated", title, detail, remedy);
        Problem { header: Some(Header::Challenge { invalid_token: token_was_given }), ..problem }
    }

    /// The caller may not do this.
    pub fn forbidden(detail: impl Into<String>, remedy: impl Into<String>) -> Problem {
        Problem::new(StatusCode::FORBIDDEN, "forbidden", "The caller may not do this", detail, remedy)
    }

    /// The token of the caller is not good for `scope` (RFC 6750 §3.1).
    pub fn insufficient_scope(detail: impl Into<String>, scope: &'static str) -> Problem {
        let problem = Problem::forbidden(detail, "use a token with the role receiver for this feed");
        Problem { header: Some(Header::Scope(scope)), ..problem }
    }

    /// What the path or the body names does not exist.
    pub fn missing(detail: impl Into<String>, remedy: impl Into<String>) -> Problem {
        Problem::new(StatusCode::NOT_FOUND, "not-found", "There is no such thing", detail, remedy)
    }

    /// The request is wrong.
    pub fn bad_request(detail: impl Into<String>, remedy: impl Into<String>) -> Problem {
        Problem::new(StatusCode::BAD_REQUEST, "bad-request", "The request cannot be used", detail, remedy)
    }

    /// The request does not fit what is there.
    pub fn conflict(detail: impl Into<String>, remedy: impl Into<String>) -> Problem {
        Problem::new(StatusCode::CONFLICT, "conflict", "The request contradicts what is there", detail, remedy)
    }

    /// The path exists, but not with this method.
    pub fn method_not_allowed() -> Problem {
        let remedy = "see /openapi.json for the methods of each path";
        let status = StatusCode::METHOD_NOT_ALLOWED;
        Problem::new(status, "method-not-allowed", "The path has no such method", "the path has no such method", remedy)
    }

    /// Too many requests; the caller may come back after `seconds`.
    pub fn too_many(detail: impl Into<String>, seconds: u64) -> Problem {
        let remedy = "wait as long as `retry-after` says";
        let problem = Problem::new(StatusCode::TOO_MANY_REQUESTS, "too-many", "Too many requests", detail, remedy);
        Problem { header: Some(Header::RetryAfter(seconds)), ..problem }
    }

    /// The hub cannot do it now. Nothing is known to have changed.
    pub fn unavailable(detail: impl Into<String>) -> Problem {
        let remedy = "repeat the request; if it fails again, look at /readyz and at the log of the hub";
        let problem =
            Problem::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", "The hub cannot do this now", detail, remedy);
        Problem { header: Some(Header::RetryAfter(1)), ..problem }
    }

    /// The hub cannot do it now; the caller may come back after `seconds`.
    pub fn busy(detail: impl Into<String>, seconds: u64) -> Problem {
        Problem { header: Some(Header::RetryAfter(seconds)), ..Problem::unavailable(detail) }
    }

    /// What is wrong this time.
    pub fn detail(&self) -> &str {
        &self.detail
    }

    fn new(
        status: StatusCode,
        code: &str,
        title: &'static str,
        detail: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Problem {
        let kind = format!("urn:taskfence:hub:{code}");
        let (detail, remedy, status) = (detail.into(), remedy.into(), status.as_u16());
        Problem { kind, title, status, detail, remedy, header: None }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        // A struct of strings and a number always has a JSON form.
        let body = serde_json::to_vec(&self).unwrap_or_default();
        let mut response = (status, [(CONTENT_TYPE, "application/problem+json")], body).into_response();
        if let Some((name, value)) = self.header.map(Header::pair) {
            response.headers_mut().insert(name, value);
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[test]
    fn a_problem_has_the_members_of_rfc_9457_and_a_remedy() {
        let problem = Problem::missing("there is no feed `x`", "see /v1/feeds");
        let expected = json!({
            "type": "urn:taskfence:hub:not-found", "title": "There is no such thing", "status": 404,
            "detail": "there is no feed `x`", "remedy": "see /v1/feeds"
        });
        assert_eq!(serde_json::to_value(&problem).unwrap(), expected);
        let response = problem.into_response();
        assert_eq!(response.status(), StatusCode::NOT_FOUND);
        assert_eq!(response.headers()[CONTENT_TYPE], "application/problem+json");
    }

    #[test]
    fn headers_say_how_to_go_on() {
        let header = |problem: Problem, name| problem.into_response().headers().get(name).cloned();
        let challenge = header(Problem::unauthenticated("no token", false), WWW_AUTHENTICATE).unwrap();
        assert_eq!(challenge, "Bearer realm=\"taskfence-hub\"");
        let challenge = header(Problem::unauthenticated("bad token", true), WWW_AUTHENTICATE).unwrap();
        assert!(challenge.to_str().unwrap().contains("error=\"invalid_token\""));
        assert_eq!(header(Problem::too_many("slow down", 7), RETRY_AFTER).unwrap(), "7");
        let value: Value = serde_json::to_value(Problem::unauthenticated("", true)).unwrap();
        assert_eq!(value["title"], "The caller is not authenticated");
    }
}

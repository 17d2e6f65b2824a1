//! `POST /v1/feeds/{feed}/uses` of a relay: what proxies have counted goes on to the hub, and its answer comes back. The relay
//! reads none of it and keeps none of it: a proxy sends again what is not answered.
//!
//! | status | when |
//! |---|---|
//! | 200, 400, 404, 429 | what the hub answered, with its body and its `retry-after` |
//! | 401, 403 | the caller is not known here, or may not send uses of the feed |
//! | 404 | this relay does not follow such a feed |
//! | 503 | the hub does not answer, does not admit this relay, or too many posts are under way |

use crate::access::principal::Principal;
use crate::config::role::Role;
use crate::evidence::queue::Queue;
use crate::problem::Problem;
use crate::relay::routes::RelayFeeds;
use crate::relay::upstream::{NoPage, Upstream};
use crate::repeated::Repeated;
use axum::Router;
use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::http::header::{CONTENT_TYPE, RETRY_AFTER};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// So many posts are under way at once, each with at most [`crate::evidence::uses::MAX_BODY`] bytes. A caller may have a
/// quarter of them, and more while a quarter is left free.
const AT_ONCE: usize = 32;

/// After so many seconds a proxy is to come back that found no room or no hub.
const COME_BACK: u64 = 5;

/// What hands uses on.
#[derive(Clone)]
pub struct Passing(Arc<Shared>);

struct Shared {
    feeds: RelayFeeds,
    upstream: Arc<Upstream>,
    /// Counts posts, and not bytes.
    room: Arc<Queue<()>>,
    counts: Arc<Counts>,
    passing: Repeated,
}

/// What was handed on since the start.
#[derive(Debug, Default)]
pub struct Counts {
    /// Posts that the hub answered.
    pub passed: AtomicU64,
    /// Posts that were not handed on, or that the hub did not answer.
    pub refused: AtomicU64,
}

impl Passing {
    /// Hands uses of `feeds` on to `upstream`.
    pub fn new(feeds: RelayFeeds, upstream: Arc<Upstream>, counts: Arc<Counts>) -> Passing {
        let passing = Repeated::new("evidence of proxies cannot be handed on to the hub");
        Passing(Arc::new(Shared { feeds, upstream, room: Queue::new(AT_ONCE), counts, passing }))
    }
}

/// The route. Requests must have a [`Principal`] in their extensions.
pub fn router(passing: Passing) -> Router {
    Router::new().route(crate::evidence::uses::PATH, post(pass)).with_state(passing)
}

async fn pass(State(Passing(shared)): State<Passing>, Path(name): Path<String>, request: Request) -> Response {
    match shared.pass(&name, request).await {
        Ok(response) => {
            shared.counts.passed.fetch_add(1, Ordering::Relaxed);
            response
        }
        Err(problem) => {
            shared.counts.refused.fetch_add(1, Ordering::Relaxed);
            problem.into_response()
        }
    }
}

impl Shared {
    async fn pass(&self, name: &str, request: Request) -> Result<Response, Problem> {
        let principal = request.extensions().get::<Principal>();
        let principal =
            principal.ok_or_else(|| Problem::unauthenticated("a proxy needs a token or a certificate", false))?;
        if !principal.may(&[Role::Sidecar], name) {
            let detail = format!("`{}` may not send uses of the feed `{name}`", principal.name);
            return Err(Problem::forbidden(detail, "use a token of the role sidecar with this feed"));
        }
        if !self.feeds.contains_key(name) {
            let detail = format!("this relay does not follow a feed `{name}`");
            return Err(Problem::missing(detail, "see `feeds` of the relay"));
        }
        let busy = |_| Problem::busy("too many posts are on their way to the hub", COME_BACK);
        let _place = self.room.reserve(&principal.name, 1).map_err(busy)?;
        let bytes = crate::evidence::uses::read(request).await?;
        let sent = self.upstream.uses(name, bytes).await;
        self.passing.note(name, &sent);
        let no_hub = |error: NoPage| Problem::busy(error.to_string(), COME_BACK);
        let answer = sent.map_err(no_hub)?;
        let mut response = Response::new(Body::from(answer.body));
        *response.status_mut() = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::SERVICE_UNAVAILABLE);
        let headers = [(CONTENT_TYPE, answer.content_type), (RETRY_AFTER, answer.retry_after)];
        let headers = headers.into_iter().filter_map(|(name, value)| Some((name, HeaderValue::try_from(value?).ok()?)));
        response.headers_mut().extend(headers);
        Ok(response)
    }
}

//! What every call of the API shares: what it may use, who may do what, and calls of the store.

use crate::access::principal::Principal;
use crate::api::audit_trail::AuditTrail;
use crate::api::operations::Operations;
use crate::config::hub::{Feed, Hub};
use crate::config::role::Role;
use crate::evidence::service::Evidence;
use crate::problem::Problem;
use crate::repeated::Repeated;
use crate::store::Store;
use crate::store::model::StoreError;
use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use serde::de::DeserializeOwned;
use std::sync::Arc;
use std::time::Duration;

/// What the handlers use.
#[derive(Clone)]
pub struct Api {
    /// The store.
    pub store: Arc<dyn Store>,
    /// Intake, feeds and receipts.
    pub operations: Arc<dyn Operations>,
    /// The configuration.
    pub hub: Arc<Hub>,
    /// The audit log of this process.
    pub audit: Arc<AuditTrail>,
    /// The evidence.
    pub evidence: Arc<Evidence>,
}

/// Calls of the API that need the store.
static USING_STORE: Repeated = Repeated::new("the store failed in a call of the API");

/// May use at least one path of the API.
pub const CALLERS: [Role; 3] = [Role::Operator, Role::Auditor, Role::Issuer];

/// May read everything.
pub const READERS: [Role; 2] = [Role::Operator, Role::Auditor];

impl Api {
    /// The feed `name`, if `principal` may use it in one of `roles`.
    pub fn feed(&self, principal: &Principal, roles: &[Role], name: &str) -> Result<&Feed, Problem> {
        allow(principal, roles)?;
        if !principal.may(roles, name) {
            let detail = format!("`{}` may not use the feed `{name}`", principal.name);
            return Err(Problem::forbidden(detail, "ask an operator for a token with this feed"));
        }
        self.hub.feeds.iter().find(|feed| feed.name == name).map(|feed| &**feed).ok_or_else(|| {
            let names: Vec<_> = self.hub.feeds.iter().map(|feed| feed.name.as_str()).collect();
            Problem::missing(format!("there is no feed `{name}`"), format!("the feeds are {}", names.join(", ")))
        })
    }

    /// Runs `work` with the store on a thread where it may block.
    pub async fn with_store<T: Send + 'static>(
        &self,
        work: impl FnOnce(&dyn Store) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, Problem> {
        self.with_store_as(work).await
    }

    /// The same for work that fails in its own way.
    pub async fn with_store_as<T: Send + 'static, E: Into<Problem> + Send + 'static>(
        &self,
        work: impl FnOnce(&dyn Store) -> Result<T, E> + Send + 'static,
    ) -> Result<T, Problem> {
        let store = Arc::clone(&self.store);
        let done = tokio::task::spawn_blocking(move || work(&*store)).await;
        let done = done.map_err(|_| Problem::unavailable("the work on the store broke off"))?;
        if done.is_ok() {
            USING_STORE.went_well("");
        }
        done.map_err(Into::into)
    }
}

/// Whether `principal` has one of `roles`.
pub fn allow(principal: &Principal, roles: &[Role]) -> Result<(), Problem> {
    if roles.contains(&principal.role) {
        return Ok(());
    }
    let names: Vec<_> = roles.iter().map(|role| role.as_str()).collect();
    let detail = format!("`{}` has the role {}", principal.name, principal.role.as_str());
    Err(Problem::forbidden(detail, format!("use a token with the role {}", names.join(" or "))))
}

/// The same for what is about all feeds at once, as `why` says: a principal of some feeds must not see the others.
pub fn allow_all_feeds(principal: &Principal, roles: &[Role], why: &str) -> Result<(), Problem> {
    allow(principal, roles)?;
    if principal.feeds.is_empty() {
        return Ok(());
    }
    let detail = format!("`{}` may use some feeds only, and {why}", principal.name);
    Err(Problem::forbidden(detail, "use a token without `feeds`"))
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Problem {
        USING_STORE.failed("", &error);
        Problem::unavailable(error.to_string())
    }
}

/// The body of a request, as JSON. An error is a [`Problem`] that names the member.
pub struct Body<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned> axum::extract::FromRequest<S> for Body<T> {
    type Rejection = Problem;

    async fn from_request(request: axum::extract::Request, _: &S) -> Result<Body<T>, Problem> {
        let read = axum::body::to_bytes(request.into_body(), MAX_BODY);
        let late = || Problem::bad_request("the body did not come in time", "send it at once");
        let bytes = tokio::time::timeout(BODY_TIMEOUT, read).await.map_err(|_| late())?;
        let bytes = bytes.map_err(|_| Problem::bad_request("the body is too long", "send at most 64 KiB of JSON"))?;
        let read = taskfence_core::config::load::parse(&bytes, "the body");
        read.map(Body).map_err(|problem| Problem::bad_request(problem.to_string(), "see /openapi.json for the members"))
    }
}

const MAX_BODY: usize = 64 * 1024;

/// A body must be there after this long.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// The query of a request.
pub struct Query<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Query<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Query<T>, Problem> {
        let read = axum::extract::Query::try_from_uri(&parts.uri);
        read.map(|axum::extract::Query(query)| Query(query))
            .map_err(|error| Problem::bad_request(error.body_text(), "see /openapi.json for the parameters"))
    }
}

//! One request for a key set.

use reqwest::redirect::Policy;
use reqwest::{Client, StatusCode, Url};
use std::time::Duration;
use taskfence_core::keys::keyring::{JwksError, MAX_JWKS};
use taskfence_core::state::store::StoreError;

/// So many redirects are followed, all to the same host.
const MAX_REDIRECTS: usize = 3;

/// Why a key set was not fetched.
#[derive(Debug, thiserror::Error)]
pub enum KeyFailure {
    /// The URL of the key set cannot be made of its cluster and path.
    #[error("the path does not stay at its cluster")]
    Url,
    /// No client, no connection, no complete answer in time, or a redirect that is not followed.
    #[error("{0}")]
    Request(String),
    /// Another status than 200.
    #[error("status {0}")]
    Status(StatusCode),
    /// The answer is no key set.
    #[error("{0}")]
    Body(#[from] JwksError),
    /// The memory of fetched keys failed.
    #[error("the memory of fetched keys failed: {0}")]
    Memory(StoreError),
}

/// The client for all key sets. It follows redirects to the same scheme, host and port only: whoever answers at another
/// host would decide who may revoke.
pub(super) fn client() -> Result<Client, KeyFailure> {
    let same_origin = Policy::custom(|attempt| {
        let first = attempt.previous().first().map(Url::origin);
        match first == Some(attempt.url().origin()) {
            true if attempt.previous().len() <= MAX_REDIRECTS => attempt.follow(),
            true => attempt.error("too many redirects"),
            false => attempt.error("a redirect to another host is not followed"),
        }
    });
    Client::builder().redirect(same_origin).user_agent("taskfence-hub").build().map_err(request_failure)
}

/// The body of the answer of `url`, at most [`MAX_JWKS`] bytes, within `timeout`.
pub(super) async fn get(client: &Client, url: &Url, timeout: Duration) -> Result<Vec<u8>, KeyFailure> {
    let request = client.get(url.clone()).header("accept", "application/jwk-set+json, application/json");
    let mut response = request.timeout(timeout).send().await.map_err(request_failure)?;
    if response.status() != StatusCode::OK {
        return Err(KeyFailure::Status(response.status()));
    }
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(request_failure)? {
        if body.len().saturating_add(chunk.len()) > MAX_JWKS {
            return Err(JwksError::TooLarge(body.len().saturating_add(chunk.len())).into());
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// The innermost cause, which says what happened.
fn request_failure(error: reqwest::Error) -> KeyFailure {
    let error = error.without_url();
    let mut cause: &dyn std::error::Error = &error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    KeyFailure::Request(cause.to_string())
}

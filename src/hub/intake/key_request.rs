//! The requests for one key set.

use crate::config::cluster::Cluster;
use reqwest::redirect::Policy;
use reqwest::{Client, Response};
use std::collections::BTreeMap;
use std::time::Duration;
use taskfence_core::keys::fetch::FetchError;
use taskfence_core::keys::keyring::{Authorization, JwksError, MAX_JWKS, Source};
use taskfence_core::keys::retrieval::{ACCEPT, ACCEPT_ENCODING, Answer, Retrieval, Step};
use taskfence_core::state::store::StoreError;

/// The maximum length of a file with a token, in bytes.
const MAX_TOKEN: usize = 64 * 1024;

/// Why a key set was not fetched.
#[derive(Debug, thiserror::Error)]
pub enum KeyFailure {
    /// The URL of the key set cannot be made of its cluster and path.
    #[error("the path does not stay at its cluster")]
    Url,
    /// No client, no connection, or no complete answer in time.
    #[error("{0}")]
    Request(String),
    /// The answer is not what was asked for.
    #[error("{0}")]
    Fetch(#[from] FetchError),
    /// The memory of fetched keys failed.
    #[error("the memory of fetched keys failed: {0}")]
    Memory(StoreError),
}

/// The client for all key sets. It follows no redirect: [`Retrieval`] decides, since whoever answers at another host would
/// decide who may revoke.
pub(super) fn client() -> Result<Client, KeyFailure> {
    Client::builder().redirect(Policy::none()).user_agent("taskfence-hub").build().map_err(request_failure)
}

/// The set of `source`, which is valid, within the `timeout` of the source.
pub(super) async fn get(
    client: &Client,
    source: &Source,
    clusters: &BTreeMap<String, Cluster>,
) -> Result<Vec<u8>, KeyFailure> {
    let timeout = Duration::from_secs(source.timeout.0);
    let retrieved = tokio::time::timeout(timeout, retrieve(client, source, clusters)).await;
    retrieved.map_err(|_| KeyFailure::Request(format!("no answer within {}", source.timeout)))?
}

async fn retrieve(
    client: &Client,
    source: &Source,
    clusters: &BTreeMap<String, Cluster>,
) -> Result<Vec<u8>, KeyFailure> {
    let mut retrieval = Retrieval::start(source);
    loop {
        let target = retrieval.target();
        let cluster = clusters.get(&target.cluster).ok_or(FetchError::ClusterMissing)?;
        let url = cluster.url(&target.path).ok_or(KeyFailure::Url)?;
        let mut request = client.get(url).header("accept", ACCEPT).header("accept-encoding", ACCEPT_ENCODING);
        if retrieval.is_authorized(source)
            && let Some(authorization) = &source.authorization
        {
            request = request.header("authorization", value(authorization).await?);
        }
        let mut response = request.send().await.map_err(request_failure)?;
        let location = location(&response, cluster);
        let body = body(&mut response).await?;
        let encoding = response.headers().get("content-encoding").map(|value| value.as_bytes());
        let status = response.status().as_u16();
        let location = location.as_deref().map(str::as_bytes);
        let answer = Answer { status, location, encoding, length: body.len(), body: &body };
        match retrieval.read(source, answer)? {
            Step::Set(set) => return Ok(set),
            Step::Next(next) => retrieval = next,
        }
    }
}

/// Where a redirect leads. At the cluster it is a path: the base URL may have another host than the requests of a proxy.
fn location(response: &Response, cluster: &Cluster) -> Option<String> {
    let text = response.headers().get("location")?.to_str().ok()?;
    let url = response.url().join(text).ok()?;
    Some(cluster.path_of(&url).unwrap_or_else(|| url.to_string()))
}

/// The body; of one that is longer than [`MAX_JWKS`] only the beginning is read.
async fn body(response: &mut Response) -> Result<Vec<u8>, KeyFailure> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(request_failure)? {
        body.extend_from_slice(&chunk);
        if body.len() > MAX_JWKS {
            return Err(FetchError::from(JwksError::TooLarge(body.len())).into());
        }
    }
    Ok(body)
}

/// The value of the header. A file is read for each request, because its token is replaced from time to time.
async fn value(authorization: &Authorization) -> Result<String, FetchError> {
    let path = match authorization {
        Authorization::Value(value) => return Ok(value.clone()),
        Authorization::File(path) => path,
    };
    let text = tokio::fs::read(path).await.map_err(|error| FetchError::Authorization(error.to_string()))?;
    let token = text.trim_ascii();
    let is_token = !token.is_empty() && token.len() <= MAX_TOKEN && token.iter().all(u8::is_ascii_graphic);
    match std::str::from_utf8(token) {
        Ok(token) if is_token => Ok(format!("Bearer {token}")),
        _ => Err(FetchError::Authorization("it does not hold one token".to_owned())),
    }
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

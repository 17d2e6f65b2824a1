//! The calls to the hub that a relay follows: pages are verified before anybody sees them.

use crate::config::hub::Follow;
use crate::intake::aws_lc::AwsLc;
use crate::relay::kept::Kept;
use bytes::Bytes;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, RETRY_AFTER};
use reqwest::redirect::Policy;
use reqwest::{Certificate, Client, Identity, Response};
use sha2::{Digest, Sha256};
use std::fs;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;
use taskfence_core::feed::page::{MAX_ENTRIES, PageError};
use taskfence_core::feed::statement::MAX_STATEMENT;

/// A call ends so long after the hub must have answered.
const GRACE: Duration = Duration::from_secs(5);

/// A call with evidence ends after this: the hub answers when it is stored. A filter waits for 20 s.
const STORED: Duration = Duration::from_secs(18);

/// A connection must be there after this long.
const CONNECT: Duration = Duration::from_secs(3);

/// So many idle connections are kept.
const IDLE: usize = 64;

/// The longest answer to a report.
const MAX_ANSWER: usize = 1024 * 1024;

/// The hub that a relay follows.
pub struct Upstream {
    follow: Follow,
    hub: String,
    /// The random id of this relay, for the header that each request of a page has.
    id: String,
    signatures: AwsLc,
    current: RwLock<Current>,
}

struct Current {
    client: Client,
    authorization: Option<String>,
    /// A hash of the files that both were made of.
    read: [u8; 32],
}

/// What the hub answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// `content-type`.
    pub content_type: Option<String>,
    /// `retry-after`.
    pub retry_after: Option<String>,
    /// The body.
    pub body: Bytes,
}

/// Why the hub gave no page.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoPage {
    /// The call ended without an answer.
    #[error("the hub does not answer: {0}")]
    NoAnswer(String),
    /// 401 or 403.
    #[error("cut off: the hub answers {0}; give this relay a token or a certificate of the role `relay`")]
    CutOff(u16),
    /// Another status than 200, with the seconds of `retry-after`.
    #[error("the hub answers {0}")]
    Status(u16, Option<u64>),
    /// The answer is not a page of the hub.
    #[error("{0}")]
    Page(PageError),
    /// Too many requests are there or wait already.
    #[error("too many requests wait for the hub")]
    Busy,
    /// The answer is too long.
    #[error("the answer of the hub is longer than a page may be")]
    Long,
}

/// Why the files of `follow` cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadFiles {
    /// A file cannot be read.
    #[error("`{}` cannot be read: {reason}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system says.
        reason: String,
    },
    /// The token is none.
    #[error("`{}` does not hold one token", .0.display())]
    Token(PathBuf),
    /// They are no PEM of the kind, or do not belong together.
    #[error("the files of `follow` cannot be used: {0}")]
    Unfit(String),
}

impl Upstream {
    /// The hub `hub` that `follow` describes. `id` is the random id of this relay. Reads the files of `follow`: it blocks.
    pub fn new(follow: Follow, hub: &str, id: String) -> Result<Upstream, BadFiles> {
        let current = RwLock::new(read(&follow)?);
        Ok(Upstream { follow, hub: hub.to_owned(), id, signatures: AwsLc::default(), current })
    }

    /// Reads the files of `follow` again, if they have changed. Returns whether they have. After an error the old ones stay
    /// in use. It blocks.
    pub fn refresh(&self) -> Result<bool, BadFiles> {
        let files = Files::read(&self.follow)?;
        if self.current.read().unwrap_or_else(PoisonError::into_inner).read == files.fingerprint() {
            return Ok(false);
        }
        let current = files.into_current()?;
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = current;
        Ok(true)
    }

    /// The page that the hub gives for `query`, which it may hold for `wait`.
    pub async fn page(&self, feed: &str, query: &str, wait: Duration) -> Result<Arc<Kept>, NoPage> {
        let path = format!("/v1/feeds/{feed}?{query}");
        let Some(url) = self.follow.at.url(&path) else { return Err(NoPage::NoAnswer("it has no URL".to_owned())) };
        let (client, authorization) = self.client();
        let mut request = client.get(url).timeout(wait.saturating_add(GRACE));
        request = request.header(crate::feed::report::HEADER, format!(r#"{{"id":"{}"}}"#, self.id));
        if let Some(authorization) = authorization {
            request = request.header(AUTHORIZATION, authorization);
        }
        let response = answered(request.send().await)?;
        let bytes = body(response, MAX_STATEMENT.saturating_add(MAX_ENTRIES).saturating_add(64 * 1024)).await?;
        self.verify(feed, bytes).map(Arc::new).map_err(NoPage::Page)
    }

    /// Reports to the hub with this JSON; its answer.
    pub async fn report(&self, feed: &str, report: String) -> Result<Bytes, NoPage> {
        let url = self.follow.at.url(&format!("/v1/feeds/{feed}/followers"));
        let Some(url) = url else { return Err(NoPage::NoAnswer("it has no URL".to_owned())) };
        let (client, authorization) = self.client();
        let mut request = client.post(url).timeout(GRACE).header(CONTENT_TYPE, "application/json").body(report);
        if let Some(authorization) = authorization {
            request = request.header(AUTHORIZATION, authorization);
        }
        let response = answered(request.send().await)?;
        body(response, MAX_ANSWER).await
    }

    /// Hands the uses `bytes` on to the hub; its answer, whatever it is. Where the hub does not admit this relay there is none:
    /// the proxy can do nothing about it.
    pub async fn uses(&self, feed: &str, bytes: Bytes) -> Result<Answer, NoPage> {
        let url = self.follow.at.url(&format!("/v1/feeds/{feed}/uses"));
        let Some(url) = url else { return Err(NoPage::NoAnswer("it has no URL".to_owned())) };
        let (client, authorization) = self.client();
        let mut request = client.post(url).timeout(STORED).header(CONTENT_TYPE, "application/json").body(bytes);
        if let Some(authorization) = authorization {
            request = request.header(AUTHORIZATION, authorization);
        }
        let response = request.send().await.map_err(no_answer)?;
        let status = response.status().as_u16();
        if matches!(status, 401 | 403) {
            return Err(NoPage::CutOff(status));
        }
        let header = |name| response.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
        let (content_type, retry_after) = (header(CONTENT_TYPE), header(RETRY_AFTER));
        Ok(Answer { status, content_type, retry_after, body: body(response, MAX_ANSWER).await? })
    }

    /// Whether the configuration has the key `kid`.
    pub fn knows(&self, kid: &str) -> bool {
        self.follow.keys.iter().any(|key| key.kid() == Some(kid))
    }

    /// The page `bytes` of `feed`, as a filter verifies it.
    pub fn verify(&self, feed: &str, bytes: Bytes) -> Result<Kept, PageError> {
        Kept::verify(bytes, (&self.hub, feed), &self.follow.keys, &mut self.signatures.clone())
    }

    fn client(&self) -> (Client, Option<String>) {
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
        (current.client.clone(), current.authorization.clone())
    }
}

fn answered(sent: Result<Response, reqwest::Error>) -> Result<Response, NoPage> {
    let response = sent.map_err(no_answer)?;
    match response.status().as_u16() {
        200 => Ok(response),
        status @ (401 | 403) => Err(NoPage::CutOff(status)),
        status => {
            let pause = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
            Err(NoPage::Status(status, pause))
        }
    }
}

async fn body(mut response: Response, most: usize) -> Result<Bytes, NoPage> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(no_answer)? {
        body.extend_from_slice(&chunk);
        if body.len() > most {
            return Err(NoPage::Long);
        }
    }
    Ok(body.into())
}

/// The innermost cause, which says what happened.
fn no_answer(error: reqwest::Error) -> NoPage {
    let error = error.without_url();
    let mut cause: &dyn std::error::Error = &error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    NoPage::NoAnswer(cause.to_string())
}

fn read(follow: &Follow) -> Result<Current, BadFiles> {
    Files::read(follow)?.into_current()
}

/// What the files of `follow` hold.
struct Files {
    token: Option<(PathBuf, Vec<u8>)>,
    identity: Option<Vec<u8>>,
    ca: Option<Vec<u8>>,
}

impl Files {
    fn read(follow: &Follow) -> Result<Files, BadFiles> {
        let content = |path: &PathBuf| {
            fs::read(path).map_err(|error| BadFiles::File { path: path.clone(), reason: error.to_string() })
        };
        let token = follow.token_file.as_ref().map(|path| Ok((path.clone(), content(path)?))).transpose()?;
        let identity = match &follow.certificate {
            Some((certificate, key)) => Some([content(certificate)?, b"\n".to_vec(), content(key)?].concat()),
            None => None,
        };
        let ca = follow.ca.as_ref().map(content).transpose()?;
        Ok(Files { token, identity, ca })
    }

    fn fingerprint(&self) -> [u8; 32] {
        let mut hash = Sha256::new();
        let parts = [self.token.as_ref().map(|(_, bytes)| bytes), self.identity.as_ref(), self.ca.as_ref()];
        for part in parts {
            let part = part.map_or(&[][..], Vec::as_slice);
            hash.update(u64::try_from(part.len()).unwrap_or(u64::MAX).to_le_bytes());
            hash.update(part);
        }
        hash.finalize().into()
    }

    fn into_current(self) -> Result<Current, BadFiles> {
        let read = self.fingerprint();
        let unfit = |error: reqwest::Error| BadFiles::Unfit(error.to_string());
        let mut builder = Client::builder()
            .redirect(Policy::none())
            .user_agent("taskfence-relay")
            .connect_timeout(CONNECT)
            .pool_max_idle_per_host(IDLE)
            .tcp_nodelay(true);
        if let Some(pem) = &self.identity {
            builder = builder.identity(Identity::from_pem(pem).map_err(unfit)?);
        }
        if let Some(pem) = &self.ca {
            builder = builder.tls_certs_only(Certificate::from_pem_bundle(pem).map_err(unfit)?);
        }
        let authorization = match self.token {
            Some((path, bytes)) => {
                let token = std::str::from_utf8(bytes.trim_ascii()).ok();
                let token =
                    token.filter(|token| !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic()));
                Some(format!("Bearer {}", token.ok_or(BadFiles::Token(path))?))
            }
            None => None,
        };
        Ok(Current { client: builder.build().map_err(unfit)?, authorization, read })
    }
}

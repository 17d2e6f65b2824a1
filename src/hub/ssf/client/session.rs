//! Calls to one transmitter: with its metadata and with authorization, once again where the token is not accepted.

use crate::config::ssf::{Credentials, ManagedStream};
use crate::ssf::client::authorization::Authorizer;
use crate::ssf::client::discovery::{self, Metadata};
use crate::ssf::client::failure::{Failure, Step};
use crate::ssf::client::http::{Answer, Ask, Body, Http, MAX_ANSWER, TIMEOUT};
use reqwest::{Method, Url};
use serde_json::Value;
use std::time::{Duration, SystemTime};

/// A transmitter that was discovered.
#[derive(Debug)]
pub struct Session {
    /// What it says of itself.
    pub metadata: Metadata,
    http: Http,
    authorizer: Authorizer,
}

/// One call.
#[derive(Debug, Clone)]
pub struct Call {
    /// What it is for.
    pub step: Step,
    /// The method.
    pub method: Method,
    /// Where to.
    pub url: Url,
    /// The body.
    pub body: Body,
    /// How long the answer may take.
    pub timeout: Duration,
    /// The longest answer, in bytes.
    pub longest: usize,
}

impl Call {
    /// A call with the usual bounds.
    pub fn new(step: Step, method: Method, url: Url, body: Body) -> Call {
        Call { step, method, url, body, timeout: TIMEOUT, longest: MAX_ANSWER }
    }
}

impl Session {
    /// Discovers the transmitter of `stream`.
    pub async fn open(stream: &ManagedStream) -> Result<Session, Failure> {
        let token_endpoint = match &stream.credentials {
            Credentials::Client(client) => client.token_endpoint.clone(),
            Credentials::Token(_) => None,
        };
        let http = Http::new(&stream.url, token_endpoint.as_slice())?;
        let metadata = discovery::discover(&http, &stream.url).await?;
        Ok(Session { metadata, http, authorizer: Authorizer::new(stream.credentials.clone()) })
    }

    /// The key set of the transmitter at `url`, which needs no authorization.
    pub async fn keys(&self, url: &Url) -> Result<Value, Failure> {
        let answer = self.http.send(Step::Discovery, Ask::new(Method::GET, url.clone())).await?;
        match answer.status {
            200 => answer.json(Step::Discovery, "the key set (`jwks_uri`)"),
            _ => Err(answer.failure(Step::Discovery, &format!("GET {url}"), "")),
        }
    }

    /// Calls it. An answer 401 is tried once more, with another token.
    pub async fn call(&self, call: Call) -> Result<Answer, Failure> {
        let header = self.authorizer.header(&self.http, &self.metadata, now()).await?;
        let ask = |authorization| Ask {
            method: call.method.clone(),
            url: call.url.clone(),
            authorization: Some(authorization),
            body: call.body.clone(),
            timeout: call.timeout,
            longest: call.longest,
        };
        let answer = self.http.send(call.step, ask(header.clone())).await?;
        if answer.status != 401 || !self.authorizer.forget(&header).await {
            return Ok(answer);
        }
        let header = self.authorizer.header(&self.http, &self.metadata, now()).await?;
        self.http.send(call.step, ask(header)).await
    }
}

/// Seconds since 1970, for assertions: the authorization server compares them with the clock of the system.
fn now() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

//! Calls of a hub's API.

use std::io::Read;
use std::net::IpAddr;
use std::time::Duration;

use reqwest::blocking::{Client as Http, RequestBuilder, Response};
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use reqwest::redirect::Policy;
use reqwest::{Certificate, Identity, StatusCode, Url};
use serde_json::Value;

use crate::input::file;
use crate::remote::profile::Profile;
use crate::signing::push::root_cause;
use crate::terminal::text::printable;

/// How long an answer may take, beyond what the call itself waits for.
const TIMEOUT: Duration = Duration::from_secs(15);

/// The longest answer that is read, in bytes.
const MAX_ANSWER: u64 = 64 * 1024 * 1024;

/// A hub.
#[derive(Debug)]
pub struct Client {
    http: Http,
    base: Url,
    authorization: Option<HeaderValue>,
    feed: Option<String>,
}

/// Why a call of a hub failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    File(#[from] file::Error),
    #[error("`{0}` is no address of a hub; write one like https://hub.example:8500")]
    Address(String),
    #[error("a token would be sent to `{0}` readable for everybody on the way; use https, or a loopback address")]
    Readable(String),
    #[error("the token cannot be sent in a header; it holds a line break or another control character")]
    Token,
    #[error("cannot set up the HTTP client: {0}; look at `ca`, `certificate` and `key` of the profile")]
    Setup(String),
    #[error("cannot reach the hub at {hub}: {reason}")]
    Unreachable { hub: String, reason: String },
    #[error("the hub answered {status}: {detail}{}", remedy.as_ref().map(|remedy| format!("; {remedy}")).unwrap_or_default())]
    Refused { status: StatusCode, detail: String, remedy: Option<String> },
    #[error("what answers at {0} is no hub")]
    NoHub(String),
}

impl Client {
    /// The hub of `profile`.
    pub fn new(profile: &Profile) -> Result<Client, Error> {
        let bad = || Error::Address(printable(&profile.url));
        let base: Url = profile.url.parse().map_err(|_| bad())?;
        if !matches!(base.scheme(), "http" | "https") || base.host_str().is_none() || !base.username().is_empty() {
            return Err(bad());
        }
        let token = profile.token()?;
        if token.is_some() && base.scheme() == "http" && !is_loopback(&base) {
            return Err(Error::Readable(base.to_string()));
        }
        let authorization = token.map(|token| HeaderValue::from_str(&format!("Bearer {token}"))).transpose();
        let mut authorization = authorization.map_err(|_| Error::Token)?;
        if let Some(value) = &mut authorization {
            value.set_sensitive(true);
        }
        Ok(Client { http: http(profile, &base)?, base, authorization, feed: profile.feed.clone() })
    }

    /// The feed of the profile.
    pub fn feed(&self) -> Option<&str> {
        self.feed.as_deref()
    }

    /// The address of the hub.
    pub fn address(&self) -> &str {
        self.base.as_str().trim_end_matches('/')
    }

    /// The answer to a GET.
    pub fn get(&self, path: &str, query: &[(&str, &str)]) -> Result<Value, Error> {
        self.get_waiting(path, query, Duration::ZERO)
    }

    /// The answer to a GET that may take `wait`.
    pub fn get_waiting(&self, path: &str, query: &[(&str, &str)], wait: Duration) -> Result<Value, Error> {
        let request = self.http.get(self.url(path, query)).timeout(TIMEOUT.saturating_add(wait));
        self.answer(request)
    }

    /// The answer to a GET about a token, which goes into a header and not into a log.
    pub fn get_about_token(&self, path: &str, token: &[u8]) -> Result<Value, Error> {
        let mut token = HeaderValue::from_bytes(token).map_err(|_| Error::Token)?;
        token.set_sensitive(true);
        self.answer(self.http.get(self.url(path, &[])).header("taskfence-token", token).timeout(TIMEOUT))
    }

    /// The answer to a POST.
    pub fn post(&self, path: &str, body: &Value) -> Result<Value, Error> {
        self.post_waiting(path, body, Duration::ZERO)
    }

    /// The answer to a POST that may take `wait`.
    pub fn post_waiting(&self, path: &str, body: &Value, wait: Duration) -> Result<Value, Error> {
        let request = self.http.post(self.url(path, &[])).timeout(TIMEOUT.saturating_add(wait));
        self.answer(request.header(CONTENT_TYPE, "application/json").body(body.to_string()))
    }

    /// Status and body of a GET whose status says something itself, such as that of `/readyz`.
    pub fn probe(&self, path: &str) -> Result<(StatusCode, Value), Error> {
        let response = self.send(self.http.get(self.url(path, &[])).timeout(TIMEOUT))?;
        let status = response.status();
        Ok((status, read(response).unwrap_or_default()))
    }

    fn url(&self, path: &str, query: &[(&str, &str)]) -> Url {
        let mut url = self.base.clone();
        url.set_path(&format!("{}{path}", self.base.path().trim_end_matches('/')));
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        url
    }

    fn send(&self, mut request: RequestBuilder) -> Result<Response, Error> {
        if let Some(value) = &self.authorization {
            request = request.header(AUTHORIZATION, value);
        }
        request.send().map_err(|error| {
            let reason = if error.is_timeout() { "it does not answer".to_owned() } else { root_cause(&error) };
            Error::Unreachable { hub: self.address().to_owned(), reason }
        })
    }

    fn answer(&self, request: RequestBuilder) -> Result<Value, Error> {
        let response = self.send(request)?;
        let status = response.status();
        let body = read(response);
        if status.is_success() {
            return match body {
                Some(body) => Ok(body),
                None if status == StatusCode::NO_CONTENT => Ok(Value::Null),
                None => Err(Error::NoHub(self.address().to_owned())),
            };
        }
        let member = |name: &str| {
            let text = body.as_ref().and_then(|body| body.get(name)).and_then(Value::as_str);
            text.map(printable)
        };
        let detail = member("detail").or_else(|| member("description"));
        let detail = detail.unwrap_or_else(|| "without a reason: is this the address of a hub?".to_owned());
        Err(Error::Refused { status, detail, remedy: member("remedy") })
    }
}

fn http(profile: &Profile, base: &Url) -> Result<Http, Error> {
    let setup = |error: &reqwest::Error| Error::Setup(root_cause(error));
    let mut builder = Http::builder()
        .user_agent(concat!("taskfence/", env!("CARGO_PKG_VERSION")))
        // A redirect would carry the token to a place nobody named.
        .redirect(Policy::none());
    if let Some(path) = &profile.ca {
        let certificates = Certificate::from_pem_bundle(&file::read(path)?).map_err(|error| setup(&error))?;
        builder = builder.tls_certs_only(certificates);
    } else if base.scheme() == "http" {
        // Without certificates to trust the client cannot be built, and a minimal container has none.
        builder = builder.tls_certs_only([]);
    }
    if let (Some(certificate), Some(key)) = (&profile.certificate, &profile.key) {
        let mut pem = file::read(certificate)?;
        pem.push(b'\n');
        pem.extend(file::read(key)?);
        builder = builder.identity(Identity::from_pem(&pem).map_err(|error| setup(&error))?);
    }
    builder.build().map_err(|error| setup(&error))
}

fn read(response: Response) -> Option<Value> {
    let mut body = Vec::new();
    response.take(MAX_ANSWER).read_to_end(&mut body).ok()?;
    serde_json::from_slice(&body).ok()
}

fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    let address = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || address.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(url: &str, token: Option<&str>) -> String {
        let profile =
            Profile { url: url.to_owned(), token: token.map(|token| token.to_owned().into()), ..Profile::default() };
        Client::new(&profile).map(|_| ()).unwrap_err().to_string()
    }

    #[test]
    fn a_token_is_never_sent_readable() {
        assert!(error("http://hub.example", Some("t")).starts_with("a token would be sent to `http://hub.example/`"));
        for local in ["http://127.0.0.1:1", "http://[::1]:1", "http://localhost:1", "http://hub.example"] {
            let token = (local != "http://hub.example").then(|| "t".to_owned());
            let token = token.map(Into::into);
            let profile = Profile { url: local.to_owned(), token, ..Profile::default() };
            assert!(Client::new(&profile).is_ok(), "{local}");
        }
    }

    #[test]
    fn what_is_no_address() {
        for url in ["", "hub.example", "ftp://hub.example", "https://user@hub.example"] {
            assert!(error(url, None).contains("is no address of a hub"), "{url}");
        }
    }
}

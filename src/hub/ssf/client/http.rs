//! One request to a transmitter or to its authorization server, and its answer, which is bounded.
//!
//! No redirect is followed: whoever answers elsewhere would decide who may revoke, and would get the token. Hosts that only
//! the transmitter names must be public, by their address and by what their name is looked up to: a transmitter must not
//! reach through the hub what only the hub can reach. One that is itself in a private network may name others there.

use crate::config::cluster;
use crate::config::network::is_public;
use crate::resolver::CheckedNames;
use crate::ssf::client::failure::{Failure, Step};
use reqwest::redirect::Policy;
use reqwest::{Client, Method, Url};
use serde_json::Value;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use taskfence_core::encoding::secret::Secret;

/// The longest answer that is no page of a poll, in bytes.
pub const MAX_ANSWER: usize = 256 * 1024;

/// How long one answer may take that nobody waits for.
pub const TIMEOUT: Duration = Duration::from_secs(15);

/// So much of what a transmitter says about an error is shown.
const SHOWN: usize = 200;

/// The client for all requests to one transmitter.
#[derive(Debug, Clone)]
pub struct Http {
    client: Client,
    /// The transmitter.
    base: Url,
    /// Whether it is in a private network: it stands there by its address, or has answered from there.
    is_inside: Arc<AtomicBool>,
}

/// What the body of a request is.
#[derive(Debug, Clone)]
pub enum Body {
    /// Nothing.
    None,
    /// JSON.
    Json(Value),
    /// `application/x-www-form-urlencoded`. It may hold secrets.
    Form(Vec<(&'static str, Secret)>),
}

/// One request.
#[derive(Debug, Clone)]
pub struct Ask {
    /// The method.
    pub method: Method,
    /// Where to.
    pub url: Url,
    /// The whole `authorization` header.
    pub authorization: Option<Secret>,
    /// The body.
    pub body: Body,
    /// How long the answer may take.
    pub timeout: Duration,
    /// The longest body of the answer, in bytes.
    pub longest: usize,
}

impl Ask {
    /// A request without body and credentials, with the usual bounds.
    pub fn new(method: Method, url: Url) -> Ask {
        Ask { method, url, authorization: None, body: Body::None, timeout: TIMEOUT, longest: MAX_ANSWER }
    }
}

/// An answer of any status.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// `retry-after` in seconds.
    pub retry_after: Option<u64>,
    /// The whole body.
    pub body: Vec<u8>,
}

impl Http {
    /// A client for the transmitter at `base`. `named` are other URLs that the operator wrote.
    pub fn new(base: &Url, named: &[Url]) -> Result<Http, Failure> {
        let is_inside = Arc::new(AtomicBool::new(is_private(base)));
        let mut trusted: Vec<String> = named.iter().chain([base]).filter_map(host).collect();
        trusted.extend(proxies());
        let inside = Arc::clone(&is_inside);
        let rule = move |name: &str, address: IpAddr| {
            is_public(address)
                || inside.load(Ordering::Relaxed)
                || trusted.iter().any(|known| known.eq_ignore_ascii_case(name.trim_end_matches('.')))
        };
        let mut builder = Client::builder()
            .redirect(Policy::none())
            .user_agent(concat!("taskfence-hub/", env!("CARGO_PKG_VERSION")))
            .dns_resolver(Arc::new(CheckedNames::new(rule)))
            .connect_timeout(TIMEOUT);
        if base.scheme() == "http" {
            // Only to this machine: the certificates of the system are not needed.
            builder = builder.tls_certs_only([]);
        }
        let client = builder.build().map_err(|error| {
            Failure::new(Step::Discovery, format!("no HTTP client can be made: {}", cause(&error)), "")
        })?;
        Ok(Http { client, base: base.clone(), is_inside })
    }

    /// Sends the request and reads the whole answer.
    pub async fn send(&self, step: Step, ask: Ask) -> Result<Answer, Failure> {
        self.check(step, &ask.url)?;
        let (method, url) = (ask.method.clone(), ask.url.clone());
        let timeout = ask.timeout;
        match tokio::time::timeout(timeout, self.exchange(step, ask)).await {
            Ok(answer) => answer,
            Err(_) => {
                let what = format!("{method} {} has no answer within {} s", shown(&url), timeout.as_secs());
                Err(Failure::new(step, what, ""))
            }
        }
    }

    async fn exchange(&self, step: Step, ask: Ask) -> Result<Answer, Failure> {
        let longest = ask.longest;
        let place = format!("{} {}", ask.method, shown(&ask.url));
        let failed = |error: reqwest::Error| Failure::new(step, format!("{place}: {}", cause(&error)), "");
        let mut request = self.client.request(ask.method, ask.url).header("accept", "application/json");
        if let Some(authorization) = &ask.authorization {
            request = request.header("authorization", authorization.reveal());
        }
        request = match ask.body {
            Body::None => request,
            Body::Json(json) => request.header("content-type", "application/json").body(json.to_string()),
            Body::Form(fields) => {
                request.header("content-type", "application/x-www-form-urlencoded").body(form(&fields))
            }
        };
        let mut response = request.send().await.map_err(failed)?;
        // With TLS only the transmitter itself can answer under its name.
        if response.url().host_str() == self.base.host_str()
            && response.remote_addr().is_some_and(|address| !is_public(address.ip()))
        {
            self.is_inside.store(true, Ordering::Relaxed);
        }
        let status = response.status().as_u16();
        if response.status().is_redirection() {
            let what = format!("{place} is answered with a redirect ({status}), which is not followed");
            return Err(Failure { status: Some(status), ..Failure::new(step, what, "use the URL that it leads to") });
        }
        let seconds = response.headers().get("retry-after").and_then(|value| value.to_str().ok()?.trim().parse().ok());
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(failed)? {
            if body.len().saturating_add(chunk.len()) > longest {
                let what = format!("{place} is answered with more than {longest} bytes");
                return Err(Failure { status: Some(413), ..Failure::new(step, what, "") });
            }
            body.extend_from_slice(&chunk);
        }
        Ok(Answer { status, retry_after: seconds, body })
    }

    /// What metadata names must have TLS, and must not lead into private networks, unless the transmitter is in one. What
    /// a name is looked up to is checked when the connection is made.
    fn check(&self, step: Step, url: &Url) -> Result<(), Failure> {
        if !cluster::is_safe(url) || (is_private(url) && !self.is_inside.load(Ordering::Relaxed)) {
            let what = format!("`{}` is not a URL that the hub sends credentials to", shown(url));
            return Err(Failure::new(step, what, "the transmitter must name `https://` URLs of public hosts"));
        }
        Ok(())
    }
}

impl Answer {
    /// The body as a JSON object or array.
    pub fn json(&self, step: Step, what: &str) -> Result<Value, Failure> {
        serde_json::from_slice(&self.body)
            .map_err(|error| Failure::new(step, format!("{what} is no usable JSON: {error}"), ""))
    }

    /// The failure that an answer with an unexpected status is. `remedy` says what to do about this status.
    pub fn failure(&self, step: Step, what: &str, remedy: &str) -> Failure {
        let said = self.said();
        let said = if said.is_empty() { said } else { format!(": {said}") };
        let what = format!("{what} is answered with {}{said}", self.status);
        let remedy = if remedy.is_empty() { usual_remedy(self.status) } else { remedy };
        Failure { status: Some(self.status), retry_after: self.retry_after, ..Failure::new(step, what, remedy) }
    }

    /// What the answer says about an error, cut and without control characters.
    fn said(&self) -> String {
        let json: Option<Value> = serde_json::from_slice(&self.body).ok();
        let member = |name: &str| json.as_ref()?.get(name)?.as_str().map(str::to_owned);
        let code = member("error").or_else(|| member("err"));
        let description = member("error_description").or_else(|| member("description"));
        let said: Vec<String> = [code, description].into_iter().flatten().collect();
        said.join(", ").chars().map(|c| if c.is_control() { ' ' } else { c }).take(SHOWN).collect()
    }
}

fn usual_remedy(status: u16) -> &'static str {
    match status {
        401 => "check `credentials`: the transmitter does not accept the token",
        403 => "the credentials need the scopes `ssf.read` and `ssf.manage`",
        404 => "",
        429 => "the hub waits as long as the transmitter wants",
        _ => "",
    }
}

/// A form as `application/x-www-form-urlencoded`.
fn form(fields: &[(&'static str, Secret)]) -> String {
    let Ok(mut url) = Url::parse("http://localhost/") else { return String::new() };
    url.query_pairs_mut().extend_pairs(fields.iter().map(|(name, value)| (*name, value.reveal())));
    url.query().unwrap_or_default().to_owned()
}

/// A URL without its query, which may hold names.
fn shown(url: &Url) -> String {
    let mut url = url.clone();
    url.set_query(None);
    url.to_string()
}

/// Whether the host is an address that only a private network or this machine has.
fn is_private(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    match bare.parse::<IpAddr>() {
        Ok(address) => !is_public(address),
        Err(_) => host.eq_ignore_ascii_case("localhost") || host.to_ascii_lowercase().ends_with(".localhost"),
    }
}

/// The host of a URL, without the dot that ends a name.
fn host(url: &Url) -> Option<String> {
    url.host_str().map(|host| host.trim_end_matches('.').to_owned())
}

/// The hosts of the proxies that the environment of the hub names: the operator wrote them.
fn proxies() -> Vec<String> {
    let names = ["HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"];
    let url =
        |text: String| Url::parse(&text).ok().filter(Url::has_host).or_else(|| format!("http://{text}").parse().ok());
    names.into_iter().filter_map(|name| std::env::var(name).ok().and_then(url)).filter_map(|url| host(&url)).collect()
}

/// The innermost cause, which says what happened.
fn cause(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(base: &str, url: &str) -> bool {
        let http = Http::new(&base.parse().unwrap(), &[]).unwrap();
        http.check(Step::Stream, &url.parse().unwrap()).is_ok()
    }

    #[test]
    fn credentials_go_to_public_hosts_over_tls() {
        for good in ["https://idp.example/streams", "https://api.idp.example:8443/", "https://1.1.1.1/"] {
            assert!(check("https://idp.example", good), "{good}");
        }
        for bad in [
            "http://idp.example/streams",
            "http://127.0.0.1/",
            "https://127.0.0.1/",
            "https://localhost/",
            "https://a.localhost/",
            "https://10.0.0.7/",
            "https://169.254.169.254/latest",
            "https://[::1]/",
            "https://[fd00::1]/",
            "https://[::ffff:10.0.0.1]/",
            "https://100.64.0.1/",
            "https://[64:ff9b::a00:1]/",
            "ftp://idp.example/",
        ] {
            assert!(!check("https://idp.example", bad), "{bad}");
        }
        assert!(check("https://10.0.0.7", "https://10.0.0.8/"), "a transmitter in a private network");
        assert!(check("http://127.0.0.1:9", "http://127.0.0.1:9/streams"), "and one on this machine");
    }

    /// A server on this machine that answers every request with 404, and its port.
    async fn server() -> u16 {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move { axum::serve(listener, axum::Router::new()).await });
        port
    }

    #[tokio::test]
    async fn a_name_that_leads_inside_is_not_connected_to_unless_the_operator_wrote_it() {
        let port = server().await;
        let url: Url = format!("http://localhost:{port}/").parse().unwrap();
        let get = |base: &str, named: Vec<Url>| {
            let http = Http::new(&base.parse().unwrap(), &named).unwrap();
            // `localhost` alone is also refused by its name, which no other name with a private address is.
            let request = http.client.get(url.clone()).send();
            async move { request.await.map(|answer| answer.status().as_u16()).map_err(|error| cause(&error)) }
        };
        let refused = get("https://idp.example", Vec::new()).await.unwrap_err();
        assert!(refused.contains("must not connect to"), "{refused}");
        assert_eq!(get("https://idp.example", vec![url.clone()]).await, Ok(404), "its token endpoint, as configured");
        assert_eq!(get(url.as_str(), Vec::new()).await, Ok(404), "the transmitter itself");
        assert_eq!(get("https://10.0.0.7", Vec::new()).await, Ok(404), "another one in the same network");
    }

    #[tokio::test]
    async fn a_transmitter_that_answers_from_a_private_network_is_in_one() {
        let base: Url = format!("http://localhost:{}/", server().await).parse().unwrap();
        let http = Http::new(&base, &[]).unwrap();
        http.is_inside.store(false, Ordering::Relaxed);
        http.exchange(Step::Discovery, Ask::new(Method::GET, base.clone())).await.unwrap();
        assert!(http.check(Step::Stream, &"https://10.0.0.8/".parse().unwrap()).is_ok());
    }

    #[test]
    fn an_error_shows_what_was_said_and_no_more() {
        let body = br#"{"error": "insufficient_scope", "error_description": "a\u001b[31m"}"#.to_vec();
        let failure = Answer { status: 403, retry_after: None, body }.failure(Step::Stream, "POST /streams", "");
        let text = "stream: POST /streams is answered with 403: insufficient_scope, a [31m; \
                    the credentials need the scopes `ssf.read` and `ssf.manage`";
        assert_eq!(failure.to_string(), text);
        let long =
            Answer { status: 500, retry_after: None, body: format!("{{\"err\": \"{}\"}}", "x".repeat(9_000)).into() };
        assert!(long.failure(Step::Poll, "POST", "").to_string().len() < 300);
    }

    #[test]
    fn a_form_is_escaped() {
        let fields =
            [("scope", Secret::from("ssf.read ssf.manage".to_owned())), ("a", Secret::from("&=+é".to_owned()))];
        assert_eq!(form(&fields), "scope=ssf.read+ssf.manage&a=%26%3D%2B%C3%A9");
    }
}

//! Reads what the administration interface of an Envoy shows.

use std::io::Read;
use std::time::Duration;

use reqwest::Url;
use reqwest::blocking::Client;
use reqwest::header::DATE;
use reqwest::redirect::Policy;
use serde_json::Value;

use crate::signing::push::root_cause;
use crate::terminal::text::printable;

/// How long an answer may take. A dump of a large configuration takes seconds.
const TIMEOUT: Duration = Duration::from_secs(30);

/// The longest answer that is read, in bytes.
const MAX_ANSWER: u64 = 256 * 1024 * 1024;

/// What one Envoy showed.
#[derive(Debug)]
pub struct Shown {
    /// `/server_info`.
    pub server: Value,
    /// `/config_dump`, with the endpoints left out.
    pub config: Value,
    /// `/stats`, those of the filter and of its surroundings.
    pub stats: Value,
    /// `/clusters`.
    pub clusters: Value,
    /// The clock of Envoy's machine when it answered, in seconds since 1970.
    pub clock: Option<u64>,
}

/// Why nothing was shown.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("`{0}` is no address of Envoy's administration interface; write one like http://127.0.0.1:9901")]
    Address(String),
    #[error("cannot set up the HTTP client: {0}")]
    Setup(String),
    #[error(
        "cannot reach Envoy's administration interface at {at}: {reason}; it listens on the address under `admin` (Istio: 15000, Envoy Gateway: 19000), on the host of the proxy alone; `kubectl port-forward` leads there"
    )]
    Unreachable { at: String, reason: String },
    #[error("{at} answered {status}")]
    Status { at: String, status: u16 },
    #[error("what answers at {0} is no administration interface of Envoy")]
    NotEnvoy(String),
}

/// Reads all that the doctor looks at.
pub fn read(address: &str) -> Result<Shown, Error> {
    let base: Url = address.parse().map_err(|_| Error::Address(printable(address)))?;
    if !matches!(base.scheme(), "http" | "https") || base.host_str().is_none() {
        return Err(Error::Address(printable(address)));
    }
    let mut builder = Client::builder().timeout(TIMEOUT).redirect(Policy::none()).no_proxy();
    if base.scheme() == "http" {
        // Without certificates to trust the client cannot be built, and a minimal container has none.
        builder = builder.tls_certs_only([]);
    }
    let http = builder.build().map_err(|error| Error::Setup(error.to_string()))?;
    let (server, clock) = get(&http, &base, "server_info")?;
    if server.get("version").is_none() || server.get("state").is_none() {
        return Err(Error::NotEnvoy(base.to_string()));
    }
    Ok(Shown {
        server,
        clock,
        config: get(&http, &base, "config_dump")?.0,
        stats: get(
            &http,
            &base,
            "stats?format=json&filter=%5E(wasm|listener_manager|extension_config_discovery|server|cluster)",
        )?
        .0,
        clusters: get(&http, &base, "clusters?format=json")?.0,
    })
}

/// The JSON at `path`, and the time at which it was sent.
fn get(http: &Client, base: &Url, path: &str) -> Result<(Value, Option<u64>), Error> {
    let url = base.join(path).map_err(|_| Error::Address(base.to_string()))?;
    let failed = |reason: String| Error::Unreachable { at: base.to_string(), reason };
    let answer = http.get(url.clone()).send().map_err(|error| failed(root_cause(&error)))?;
    if !answer.status().is_success() {
        return Err(Error::Status { at: url.to_string(), status: answer.status().as_u16() });
    }
    let date = answer.headers().get(DATE).and_then(|date| date.to_str().ok()).and_then(seconds);
    let mut body = Vec::new();
    answer.take(MAX_ANSWER).read_to_end(&mut body).map_err(|error| failed(error.to_string()))?;
    let value = serde_json::from_slice(&body).map_err(|_| Error::NotEnvoy(base.to_string()))?;
    Ok((value, date))
}

/// A date of HTTP (RFC 9110 5.6.7) in seconds since 1970.
fn seconds(date: &str) -> Option<u64> {
    let time = jiff::fmt::rfc2822::parse(date).ok()?;
    u64::try_from(time.timestamp().as_second()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_date_of_http_is_read() {
        assert_eq!(seconds("Sat, 28 Nov 2026 14:53:45 GMT"), Some(1_795_877_625));
        assert_eq!(seconds("yesterday"), None);
    }

    #[test]
    fn what_is_no_address_is_told() {
        for address in ["127.0.0.1:9901", "ftp://a", "unix:/a"] {
            assert!(matches!(read(address), Err(Error::Address(_))), "{address}");
        }
        assert!(matches!(read("http://127.0.0.1:1"), Err(Error::Unreachable { .. })));
    }
}

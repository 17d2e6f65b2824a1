//! Where the hub pushes to: only where a receiver on the Internet, or in a network that the configuration allows, can be.
//! A receiver chooses the URL, and must not reach through the hub what only the hub can reach.

use crate::config::network::{Network, is_public};
use crate::resolver::CheckedNames;
use reqwest::redirect::Policy;
use reqwest::{Certificate, Client, Url};
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// A push must be answered in this time.
pub(super) const TIMEOUT: Duration = Duration::from_secs(10);

/// The longest URL, in bytes.
const MAX_URL: usize = 2_048;

/// Why nothing is pushed to a URL.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadUrl {
    /// Not an absolute URL with a host.
    #[error("`endpoint_url` is not a URL with a host, of at most {MAX_URL} bytes")]
    NotAUrl,
    /// Not https.
    #[error("`endpoint_url` is not an https URL")]
    NotHttps,
    /// It has a user or a fragment.
    #[error("`endpoint_url` has a user or a fragment")]
    Extra,
    /// An address that is not public.
    #[error("`endpoint_url` names an address that nothing is pushed to")]
    NotAllowed,
}

/// The networks beside the Internet that SETs may be pushed to.
#[derive(Debug, Clone)]
pub struct Allowed(pub Arc<[Network]>);

impl Allowed {
    /// Whether SETs may be pushed to that address.
    fn allows(&self, address: IpAddr) -> bool {
        is_public(address) || self.0.iter().any(|network| network.contains(address))
    }

    /// Reads an URL that SETs may be pushed to. Which addresses a name has is seen at each push.
    pub(super) fn check(&self, text: &str) -> Result<Url, BadUrl> {
        let url = Url::parse(text).ok().filter(|url| url.has_host() && text.len() <= MAX_URL);
        let url = url.ok_or(BadUrl::NotAUrl)?;
        let host = url.host_str().unwrap_or_default();
        let literal = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>().ok();
        match url.scheme() {
            "https" => {}
            // On this machine nobody is between.
            "http" if literal.is_some_and(|address| address.is_loopback() && self.allows(address)) => {}
            _ => return Err(BadUrl::NotHttps),
        }
        if !url.username().is_empty() || url.password().is_some() || url.fragment().is_some() {
            return Err(BadUrl::Extra);
        }
        if literal.is_some_and(|address| !self.allows(address)) {
            return Err(BadUrl::NotAllowed);
        }
        Ok(url)
    }
}

/// Why there is no client for pushes.
#[derive(Debug, thiserror::Error)]
pub enum NoClient {
    /// The file cannot be read.
    #[error("cannot read `{path}` of `streams.ca`: {reason}")]
    File {
        /// The file.
        path: String,
        /// Why.
        reason: std::io::Error,
    },
    /// The client cannot be made.
    #[error("SETs cannot be pushed: {0}")]
    Client(#[from] reqwest::Error),
}

/// The client for pushes: without redirects and proxies, and with addresses of [`Allowed`] only. `ca` is the file with the
/// authorities; without one they are those of the system. Blocks.
pub(super) fn client(allowed: Allowed, ca: Option<&Path>) -> Result<Client, NoClient> {
    let builder = Client::builder()
        .redirect(Policy::none())
        .no_proxy()
        .timeout(TIMEOUT)
        .dns_resolver(Arc::new(CheckedNames::new(move |_, address| allowed.allows(address))))
        .user_agent("taskfence-hub");
    let builder = match ca {
        None => builder,
        Some(path) => {
            let pem =
                std::fs::read(path).map_err(|reason| NoClient::File { path: path.display().to_string(), reason })?;
            builder.tls_certs_only(Certificate::from_pem_bundle(&pem)?)
        }
    };
    Ok(builder.build()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(networks: &[&str]) -> Allowed {
        Allowed(networks.iter().map(|text| Network::parse(text).unwrap()).collect())
    }

    #[test]
    fn a_receiver_cannot_name_what_only_the_hub_can_reach() {
        let none = allowed(&[]);
        for (url, expected) in [
            ("https://receiver.example/events?a=b", None),
            ("https://1.1.1.1/", None),
            ("http://receiver.example/", Some(BadUrl::NotHttps)),
            ("http://127.0.0.1/", Some(BadUrl::NotHttps)),
            ("ftp://receiver.example/", Some(BadUrl::NotHttps)),
            ("receiver.example", Some(BadUrl::NotAUrl)),
            ("https://user@receiver.example/", Some(BadUrl::Extra)),
            ("https://receiver.example/#a", Some(BadUrl::Extra)),
            ("https://127.0.0.1/", Some(BadUrl::NotAllowed)),
            ("https://2130706433/", Some(BadUrl::NotAllowed)),
            ("https://0x7f.1/", Some(BadUrl::NotAllowed)),
            ("https://169.254.169.254/latest", Some(BadUrl::NotAllowed)),
            ("https://[::1]/", Some(BadUrl::NotAllowed)),
            ("https://[::ffff:10.0.0.1]/", Some(BadUrl::NotAllowed)),
        ] {
            assert_eq!(none.check(url).err(), expected, "{url}");
        }
        let some = allowed(&["127.0.0.0/8", "10.1.0.0/16"]);
        for url in ["http://127.0.0.1:9/", "https://127.0.0.1/", "https://10.1.2.3/"] {
            assert!(some.check(url).is_ok(), "{url}");
        }
        for url in ["http://10.1.2.3/", "https://10.2.0.1/", "http://localhost/"] {
            assert!(some.check(url).is_err(), "{url}");
        }
    }
}

//! Where key sets are fetched: the clusters that the configuration of a proxy only names.

use reqwest::Url;
use std::net::IpAddr;

/// Where a cluster is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cluster {
    base: Url,
}

/// Why a base URL is not accepted. The message is followed by a remedy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadBase {
    /// Not an absolute URL with a host.
    #[error("is not a URL")]
    NotAUrl,
    /// Neither https nor http.
    #[error("has the scheme `{0}`")]
    Scheme(String),
    /// http to another host.
    #[error("fetches keys without TLS: whoever is between could replace them")]
    Plain,
    /// It has a user, a query or a fragment.
    #[error("has a user, a query or a fragment")]
    Extra,
}

impl BadBase {
    /// What to write instead.
    pub fn help(&self) -> &'static str {
        match self {
            BadBase::NotAUrl | BadBase::Scheme(_) => "write the base URL of the server, such as `https://idp.example`",
            BadBase::Plain => "write `https://`; `http://` is allowed to a loopback address only",
            BadBase::Extra => "write scheme, host and port; the path and the query stand in `keys.path`",
        }
    }
}

impl Cluster {
    /// Reads a base URL: `https://` and a host, or `http://` and a loopback address.
    pub fn parse(text: &str) -> Result<Cluster, BadBase> {
        let base = Url::parse(text).map_err(|_| BadBase::NotAUrl)?;
        let host = base.host_str().filter(|host| !host.is_empty()).ok_or(BadBase::NotAUrl)?;
        match base.scheme() {
            "https" => {}
            "http" if is_loopback(host) => {}
            "http" => return Err(BadBase::Plain),
            other => return Err(BadBase::Scheme(other.to_owned())),
        }
        let has_user = !base.username().is_empty() || base.password().is_some();
        if has_user || base.query().is_some() || base.fragment().is_some() {
            return Err(BadBase::Extra);
        }
        Ok(Cluster { base })
    }

    /// The URL of `path` (which may have a query) at this cluster. A path in the base stands before it.
    pub fn url(&self, path: &str) -> Option<Url> {
        let base = self.base.as_str().trim_end_matches('/');
        let url = Url::parse(&format!("{base}{path}")).ok()?;
        // A path cannot change the host; checked all the same, since the keys decide who may revoke.
        (url.origin() == self.base.origin()).then_some(url)
    }

    /// The path that [`Cluster::url`] makes `url` of, with its query. `None`: `url` is not at this cluster.
    pub fn path_of(&self, url: &Url) -> Option<String> {
        let path = url.path().strip_prefix(self.base.path().trim_end_matches('/'))?;
        let query = url.query().map(|query| format!("?{query}")).unwrap_or_default();
        (url.origin() == self.base.origin() && path.starts_with('/')).then(|| format!("{path}{query}"))
    }
}

/// Whether what is sent to `url` cannot be read on its way: it has TLS, or stays on this machine.
pub fn is_safe(url: &Url) -> bool {
    url.scheme() == "https" || (url.scheme() == "http" && url.host_str().is_some_and(is_loopback))
}

/// Whether `host`, as a URL has it, is this machine.
fn is_loopback(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost") || bare.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_and_urls_are_two_ways_to_say_the_same() {
        for base in ["https://idp.example", "https://idp.example/", "https://idp.example:8443/a/b"] {
            let cluster = Cluster::parse(base).unwrap();
            for path in ["/", "/jwks.json", "/x/y?a=/b"] {
                let url = cluster.url(path).unwrap();
                assert_eq!(cluster.path_of(&url).as_deref(), Some(path), "{url}");
            }
            for other in ["https://evil.example/x", "http://idp.example/x", "https://idp.example:9/a/b/x"] {
                assert_eq!(cluster.path_of(&Url::parse(other).unwrap()), None, "{other}");
            }
        }
        let cluster = Cluster::parse("https://idp.example/a").unwrap();
        for other in ["https://idp.example/b", "https://idp.example/ab"] {
            assert_eq!(cluster.path_of(&Url::parse(other).unwrap()), None, "{other}");
        }
    }

    #[test]
    fn bases_are_https_or_this_machine() {
        for good in [
            "https://idp.example",
            "https://idp.example:8443/keys",
            "http://127.0.0.1:9",
            "http://[::1]:9/",
            "http://localhost",
        ] {
            assert!(Cluster::parse(good).is_ok(), "{good}");
        }
        for (bad, error) in [
            ("idp.example", BadBase::NotAUrl),
            ("http://idp.example", BadBase::Plain),
            ("http://127.0.0.1.example", BadBase::Plain),
            ("ftp://idp.example", BadBase::Scheme("ftp".to_owned())),
            ("https://u:p@idp.example", BadBase::Extra),
            ("https://idp.example/?a", BadBase::Extra),
            ("https://idp.example/#a", BadBase::Extra),
        ] {
            assert_eq!(Cluster::parse(bad), Err(error), "{bad}");
        }
    }

    #[test]
    fn a_path_stays_at_its_cluster() {
        let cluster = Cluster::parse("https://idp.example:8443/tenant/").unwrap();
        let url = |path| cluster.url(path).map(String::from);
        assert_eq!(url("/jwks.json?a=b").as_deref(), Some("https://idp.example:8443/tenant/jwks.json?a=b"));
        let plain = Cluster::parse("https://idp.example").unwrap();
        assert_eq!(plain.url("@evil.example/jwks"), None, "no slash: this would be a user");
        assert_eq!(plain.url(".evil.example/jwks"), None);
    }
}

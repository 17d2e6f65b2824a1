//! Protected resources (RFC 9728): which one a request belongs to, and where its metadata is.

use crate::http::host::Host;
use crate::http::path::Canonical;
use crate::index::ResourceIndex;

/// Stands between the host and the path of a resource in the URL of its metadata (RFC 9728 §3).
pub(crate) const WELL_KNOWN: &str = "/.well-known/oauth-protected-resource";

/// One protected resource.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Resource {
    /// The hosts of its requests, in lower case.
    pub(crate) hosts: Vec<String>,
    /// Its path as it is in requests; empty for every path.
    pub(crate) path: String,
    /// The URL of its metadata, which challenges name.
    pub(crate) metadata_url: String,
    /// The metadata as JSON, if the filter serves it.
    pub(crate) document: Option<String>,
}

impl Resource {
    /// Whether the request `path` to `host` belongs to it.
    fn contains(&self, host: Host<'_>, path: &Canonical<'_>) -> bool {
        let below = path.as_str().strip_prefix(&*self.path);
        let is_below = below.is_some_and(|rest| rest.is_empty() || rest.starts_with('/') || self.path.ends_with('/'));
        is_below && self.is_at(host)
    }

    fn is_at(&self, host: Host<'_>) -> bool {
        self.hosts.iter().any(|ours| host.is(ours))
    }
}

/// The resource that the request `path` to `host` belongs to.
pub(crate) fn find(resources: &[Resource], host: Host<'_>, path: &Canonical<'_>) -> Option<ResourceIndex> {
    let ours = ResourceIndex::enumerate(resources).filter(|(_, resource)| resource.contains(host, path));
    ours.max_by_key(|(_, resource)| resource.path.len()).map(|(index, _)| index)
}

/// The metadata that is served under `path` of `host`.
pub(crate) fn document<'r>(resources: &'r [Resource], host: Host<'_>, path: &Canonical<'_>) -> Option<&'r str> {
    let rest = path.as_str().strip_prefix(WELL_KNOWN)?;
    let ours = resources.iter().find(|resource| resource.path == rest && resource.is_at(host))?;
    ours.document.as_deref()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resource(hosts: &[&str], path: &str) -> Resource {
        let hosts = hosts.iter().map(|host| (*host).to_owned()).collect();
        Resource { hosts, path: path.to_owned(), metadata_url: String::new(), document: Some(path.to_owned()) }
    }

    #[test]
    fn the_longest_path_counts() {
        let all = [
            resource(&["a", "b"], ""),
            resource(&["a"], "/v1"),
            resource(&["a"], "/v1/files/"),
            resource(&["c"], "/v2"),
        ];
        let of = |host: &str, path: &str| {
            let path = Canonical::parse(path.as_bytes()).unwrap();
            find(&all, Host::parse(host.as_bytes()).unwrap(), &path).map(ResourceIndex::position)
        };
        for (host, path, index) in [
            ("a", "/", Some(0)),
            ("A:443", "/v1", Some(1)),
            ("a", "/v1/x", Some(1)),
            ("a", "/v10", Some(0)),
            ("a", "/v1/files", Some(1)),
            ("a", "/v1/files/", Some(2)),
            ("a", "/v1/files/x", Some(2)),
            ("b", "/v1/files/x", Some(0)),
            ("c", "/v2/x", Some(3)),
            ("c", "/v1", None),
            ("d", "/", None),
        ] {
            assert_eq!(of(host, path), index, "{host}{path}");
        }
    }

    #[test]
    fn the_well_known_part_stands_before_the_path() {
        let all = [resource(&["a"], ""), resource(&["a"], "/v1"), resource(&["b"], "/v1/")];
        let at = |host: &str, path: &str| {
            let path = Canonical::parse(path.as_bytes()).unwrap();
            document(&all, Host::parse(host.as_bytes()).unwrap(), &path).map(str::to_owned)
        };
        assert_eq!(at("a", "/.well-known/oauth-protected-resource").as_deref(), Some(""));
        assert_eq!(at("a", "/.well-known/oauth-protected-resource/v1").as_deref(), Some("/v1"));
        assert_eq!(at("a", "/%2ewell-known/oauth-protected-resource/v1?x").as_deref(), Some("/v1"));
        assert_eq!(at("b", "/.well-known/oauth-protected-resource/v1/").as_deref(), Some("/v1/"));
        for (host, path) in [
            ("b", "/.well-known/oauth-protected-resource"),
            ("a", "/.well-known/oauth-protected-resource/"),
            ("a", "/.well-known/oauth-protected-resource/v2"),
            ("a", "/v1/.well-known/oauth-protected-resource"),
            ("c", "/.well-known/oauth-protected-resource/v1"),
        ] {
            assert_eq!(at(host, path), None, "{host}{path}");
        }
    }
}

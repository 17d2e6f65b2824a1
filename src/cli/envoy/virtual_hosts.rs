//! Which virtual host Envoy chooses for a host, as `RouteMatcher::findVirtualHost` of Envoy 1.40 does.

use super::Node;

/// The virtual hosts of a route configuration, and what Envoy removes from a host before it chooses one.
#[derive(Debug)]
pub struct VirtualHosts<'e> {
    hosts: Vec<Domain<'e>>,
    /// `strip_any_host_port` of the manager. All later filters and the service see the changed host.
    pub cuts_port: bool,
    /// `strip_trailing_host_dot` of the manager. All later filters and the service see the changed host.
    pub cuts_dot: bool,
    /// `ignore_port_in_host_matching` of the routes. It affects the choice of the virtual host only.
    ignores_port: bool,
}

/// One domain of a virtual host.
#[derive(Debug)]
pub struct Domain<'e> {
    /// The domain as it is written.
    pub text: &'e str,
    /// The path of the domain in the file.
    pub place: String,
    /// The virtual host: its name, and its number.
    pub host: (&'e str, usize),
}

impl<'e> VirtualHosts<'e> {
    /// The virtual hosts of `manager`.
    pub fn read(manager: &Node<'e>) -> Self {
        let routes = manager.get("route_config");
        let mut hosts = Vec::new();
        for (number, host) in routes.iter().flat_map(|routes| routes.items("virtual_hosts")).enumerate() {
            let name = host.text("name").unwrap_or_default();
            let domains =
                host.items("domains").into_iter().filter_map(|domain| Some((domain.value().as_str()?, domain.place)));
            hosts.extend(domains.map(|(text, place)| Domain { text, place, host: (name, number) }));
        }
        Self {
            hosts,
            cuts_port: manager.is_true("strip_any_host_port"),
            cuts_dot: manager.is_true("strip_trailing_host_dot"),
            ignores_port: routes.is_some_and(|routes| routes.is_true("ignore_port_in_host_matching")),
        }
    }

    /// Every domain.
    pub fn domains(&self) -> &[Domain<'e>] {
        &self.hosts
    }

    /// How many virtual hosts there are.
    pub fn count(&self) -> usize {
        self.hosts.iter().map(|domain| domain.host.1.saturating_add(1)).max().unwrap_or_default()
    }

    /// The value of `:authority` as the filters and the service see it.
    pub fn seen(&self, authority: &str) -> String {
        let host = if self.cuts_dot { without_dot(authority) } else { authority.to_owned() };
        if self.cuts_port { without_port(&host).to_owned() } else { host }
    }

    /// The virtual host for the value of `:authority`; `None` where Envoy answers 404.
    pub fn choose(&self, authority: &str) -> Option<&Domain<'e>> {
        let mut host = self.seen(authority).to_ascii_lowercase();
        if self.ignores_port {
            host = without_port(&host).to_owned();
        }
        let exact = self.hosts.iter().find(|domain| domain.text.eq_ignore_ascii_case(&host));
        exact
            .or_else(|| self.longest(|text| Some(host.ends_with(text.strip_prefix('*')?) && host.len() >= text.len())))
            .or_else(|| {
                self.longest(|text| Some(host.starts_with(text.strip_suffix('*')?) && host.len() >= text.len()))
            })
            .or_else(|| self.hosts.iter().find(|domain| domain.text == "*"))
    }

    /// The longest domain with a wildcard that `fits`.
    fn longest(&self, fits: impl Fn(&str) -> Option<bool>) -> Option<&Domain<'e>> {
        let wildcards = self.hosts.iter().filter(|domain| domain.text.len() > 1);
        let fitting = wildcards.filter(|domain| fits(&domain.text.to_ascii_lowercase()) == Some(true));
        fitting.max_by_key(|domain| domain.text.len())
    }
}

impl Domain<'_> {
    /// The port that it names.
    pub fn port(&self) -> Option<&str> {
        let (name, port) = self.text.rsplit_once(':')?;
        (!port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()) && !name.is_empty()).then_some(port)
    }

    /// Whether this domain cannot match a host after the manager removed its port or final dot.
    pub fn is_dead(&self, hosts: &VirtualHosts<'_>) -> bool {
        let has_port = self.port().is_some();
        let has_dot = self.text.ends_with('.') || self.text.contains(".:");
        has_port && (hosts.cuts_port || hosts.ignores_port) || has_dot && hosts.cuts_dot
    }
}

/// Removes one dot, at the end or before a port.
fn without_dot(host: &str) -> String {
    match (host.strip_suffix('.'), host.rsplit_once(".:")) {
        (Some(name), _) => name.to_owned(),
        (None, Some((name, port))) if !port.contains(['.', ':']) => format!("{name}:{port}"),
        (None, _) => host.to_owned(),
    }
}

/// Removes a port: a number of 32 bits. Any other text after the colon stays.
fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if !port.contains(']') && port.parse::<u32>().is_ok() => name,
        _ => host,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn manager(strip: bool) -> Value {
        json!({"strip_any_host_port": strip, "strip_trailing_host_dot": strip, "route_config": {"virtual_hosts": [
            {"name": "public", "domains": ["public.mesh", "[::1]"]},
            {"name": "ports", "domains": ["public.mesh:8080", "*:9"]},
            {"name": "suffix", "domains": ["*.mesh", "*.b.mesh"]},
            {"name": "prefix", "domains": ["public.*"]},
            {"name": "rest", "domains": ["*"]},
        ]}})
    }

    fn chosen(manager: &Value, host: &str) -> String {
        let hosts = VirtualHosts::read(&Node::root(manager));
        hosts.choose(host).map(|domain| domain.text.to_owned()).unwrap_or_default()
    }

    #[test]
    fn the_most_exact_domain_is_chosen() {
        let manager = manager(false);
        for (host, domain) in [
            ("public.mesh", "public.mesh"),
            ("PUBLIC.mesh", "public.mesh"),
            ("x.mesh", "*.mesh"),
            ("x.b.mesh", "*.b.mesh"),
            (".mesh", "*"),
            ("public.other", "public.*"),
            ("public.mesh:8080", "public.mesh:8080"),
            ("public.mesh:9", "*:9"),
            ("public.mesh:80", "public.*"),
            ("public.mesh.", "public.*"),
            ("other", "*"),
        ] {
            assert_eq!(chosen(&manager, host), domain, "{host}");
        }
    }

    #[test]
    fn what_is_cut_off_before() {
        let manager = manager(true);
        for host in ["public.mesh", "public.mesh:80", "public.mesh.", "public.mesh.:443", "public.mesh:8080"] {
            assert_eq!(chosen(&manager, host), "public.mesh", "{host}");
        }
        assert_eq!(chosen(&manager, "[::1]:80"), "[::1]");
        // The filter refuses these hosts.
        for host in ["public.mesh:", "public.mesh:99999999999"] {
            assert_eq!(chosen(&manager, host), "public.*", "{host}");
        }
        let hosts = VirtualHosts::read(&Node::root(&manager));
        let dead: Vec<_> = hosts.domains().iter().filter(|domain| domain.is_dead(&hosts)).collect();
        assert_eq!(dead.iter().map(|domain| domain.text).collect::<Vec<_>>(), ["public.mesh:8080", "*:9"]);
        assert_eq!(hosts.count(), 5);
    }
}

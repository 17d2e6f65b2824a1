//! An HTTP connection manager: the chain of filters that a request passes, and the routes behind it.

use super::{Node, Plugin, VirtualHosts};

/// `envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager`.
#[derive(Debug)]
pub struct Manager<'e> {
    /// The manager.
    pub node: Node<'e>,
    /// Its filters in the order in which a request passes them.
    pub filters: Vec<Filter<'e>>,
}

/// One filter of a chain.
#[derive(Debug)]
pub struct Filter<'e> {
    /// The filter.
    pub node: Node<'e>,
    /// Its configuration and the name of that message; `None` where it is not in the file.
    pub config: Option<(&'e str, Node<'e>)>,
}

impl<'e> Manager<'e> {
    /// Reads `node`. `None` if it is not the `Any` of a manager.
    pub fn read(node: &Node<'e>) -> Option<Self> {
        let (kind, node) = node.typed()?;
        if !kind.ends_with(".http_connection_manager.v3.HttpConnectionManager") {
            return None;
        }
        let filters = node.items("http_filters").into_iter();
        let filters = filters.map(|node| Filter { config: node.get("typed_config").and_then(|any| any.typed()), node });
        Some(Self { filters: filters.collect(), node })
    }

    /// The field that gets its routes, or some of its virtual hosts, from a discovery service.
    pub fn discovery(&self) -> Option<Node<'e>> {
        let all = ["rds", "scoped_routes"].iter().find_map(|name| self.node.get(name));
        all.or_else(|| self.routes_here()?.get("vhds"))
    }

    /// The routes that are in the file: a `RouteConfiguration`.
    pub fn routes_here(&self) -> Option<Node<'e>> {
        self.node.get("route_config")
    }

    /// The actions of its routes that send a request to a cluster, at any depth of the tree of matches.
    pub fn actions(&self) -> Vec<Node<'e>> {
        let to_cluster = |action: &Node<'_>| {
            [
                "cluster",
                "weighted_clusters",
                "cluster_header",
                "cluster_specifier_plugin",
                "inline_cluster_specifier_plugin",
            ]
            .iter()
            .any(|name| action.get(name).is_some())
        };
        let all = self.routes_here().map(|routes| routes.descendants()).unwrap_or_default();
        all.iter().filter_map(|node| node.get("route")).filter(to_cluster).collect()
    }

    /// Its virtual hosts.
    pub fn virtual_hosts(&self) -> VirtualHosts<'e> {
        VirtualHosts::read(&self.node)
    }
}

impl Filter<'_> {
    /// The name of the filter, which per-route configuration refers to.
    pub fn name(&self) -> &str {
        self.node.text("name").unwrap_or_default()
    }

    /// Whether it is of the kind whose configuration is a message of this name, such as `.router.v3.Router`.
    pub fn is(&self, kind: &str) -> bool {
        self.config.as_ref().is_some_and(|(name, _)| name.ends_with(kind))
    }

    /// Whether it runs `plugin`.
    pub(super) fn runs(&self, plugin: &Plugin<'_>) -> bool {
        let Some((kind, config)) = &self.config else { return false };
        kind.ends_with(".filters.http.wasm.v3.Wasm")
            && config.get("config").is_some_and(|config| config.place == plugin.node.place)
    }
}

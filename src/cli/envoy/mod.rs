//! The parts of a configuration of Envoy that decide whether the filter in it can do its work.

mod manager;
mod node;
mod plugin;
mod virtual_hosts;

use serde_json::Value;

pub use self::manager::{Filter, Manager};
pub use self::node::Node;
pub use self::plugin::{Plugin, Text};
pub use self::virtual_hosts::VirtualHosts;

/// A configuration of Envoy.
#[derive(Debug)]
pub struct Envoy<'e> {
    root: Node<'e>,
    /// Its connection managers, in the order of the file.
    pub managers: Vec<Manager<'e>>,
    /// The plugins in it that are ours.
    pub plugins: Vec<Plugin<'e>>,
}

impl<'e> Envoy<'e> {
    /// Reads `value`.
    pub fn read(value: &'e Value) -> Self {
        let root = Node::root(value);
        let all = root.descendants();
        let managers = all.iter().filter_map(Manager::read).collect();
        let plugins = all.iter().filter_map(Plugin::read).collect();
        Self { root, managers, plugins }
    }

    /// Whether `value` is a configuration of Envoy rather than one of the filter.
    pub fn is_one(value: &Value) -> bool {
        let root = Node::root(value);
        ["static_resources", "dynamic_resources", "resources", "admin", "node"]
            .iter()
            .any(|name| root.get(name).is_some())
    }

    /// The manager that has `plugin` among its filters, and the index of that filter.
    pub fn surroundings(&self, plugin: &Plugin<'_>) -> Option<(&Manager<'e>, usize)> {
        self.managers.iter().find_map(|manager| {
            let at = manager.filters.iter().position(|filter| filter.runs(plugin))?;
            Some((manager, at))
        })
    }

    /// Whether this file has all listeners. A file of resources, which Envoy reads from disk, may be one of several,
    /// and a discovery service may send more listeners.
    pub fn has_all_listeners(&self) -> bool {
        self.root.get("resources").is_none()
            && self
                .root
                .get("dynamic_resources")
                .is_none_or(|dynamic| dynamic.get("lds_config").is_none() && dynamic.get("ads_config").is_none())
    }

    /// The names of the clusters in this file.
    pub fn clusters(&self) -> Vec<&'e str> {
        let listed = self.root.get("static_resources").map(|all| all.items("clusters")).unwrap_or_default();
        let resources = self.root.items("resources").into_iter();
        let resources = resources.filter(|one| one.text("@type").is_some_and(|kind| kind.ends_with(".v3.Cluster")));
        listed.into_iter().chain(resources).filter_map(|cluster| cluster.text("name")).collect()
    }

    /// Whether clusters may come from a discovery service or another file.
    pub fn may_get_clusters(&self) -> bool {
        let dynamic = self.root.get("dynamic_resources");
        let discovered =
            |dynamic: &Node<'_>| dynamic.get("cds_config").is_some() || dynamic.get("ads_config").is_some();
        self.root.get("resources").is_some() || dynamic.as_ref().is_some_and(discovered)
    }
}

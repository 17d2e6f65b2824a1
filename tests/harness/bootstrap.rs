//! The configuration of the Envoy that the tests start: an app listener, a signals listener, one upstream cluster.

use std::{net::SocketAddr, path::Path};

use serde_json::{Value, json};

/// Where the filter chain of the app listener is in the bootstrap, as a JSON pointer.
pub const APP: &str = "/static_resources/listeners/0/filter_chains/0/filters/0/typed_config";
/// Where the filter chain of the signals listener is in the bootstrap, as a JSON pointer.
pub const SIGNALS: &str = "/static_resources/listeners/1/filter_chains/0/filters/0/typed_config";

/// The file of the access log, in the folder of the Envoy.
pub(crate) const ACCESS_LOG: &str = "access.log";

/// What a test may choose about its sidecar.
pub struct Settings {
    pub(crate) name: String,
    pub(crate) config: Value,
    pub(crate) workers: u32,
    paths: Paths,
    balanced: bool,
    roomy: bool,
    access_log: Option<String>,
    pub(crate) others: Vec<(String, Value)>,
    behind: Vec<(String, Value)>,
    patches: Vec<Patch>,
}

type Patch = Box<dyn FnOnce(&mut Value) + Send>;

/// What Envoy does to a path, and to a host, before the filter sees them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Paths {
    /// Nothing: the filter sees what the client wrote.
    Raw,
    /// `normalize_path`: RFC 3986 dot segments and unreserved escapes.
    Normalized,
    /// The above, `merge_slashes`, escaped slashes refused by Envoy, and ports and final dots cut off hosts: what we
    /// recommend.
    Strict,
}

impl Settings {
    /// Two workers, strict paths and this filter configuration; `name` names the folder of its logs.
    pub fn new(name: &str, config: Value) -> Self {
        Self {
            name: name.to_owned(),
            config,
            workers: 2,
            paths: Paths::Strict,
            balanced: false,
            roomy: false,
            access_log: None,
            others: Vec::new(),
            behind: Vec::new(),
            patches: Vec::new(),
        }
    }

    /// How many worker threads Envoy has.
    pub fn workers(mut self, count: u32) -> Self {
        self.workers = count;
        self
    }

    /// What Envoy does to paths.
    pub fn paths(mut self, paths: Paths) -> Self {
        self.paths = paths;
        self
    }

    /// A new connection goes to the worker with the fewest, so that few connections reach all workers.
    pub fn balanced(mut self) -> Self {
        self.balanced = true;
        self
    }

    /// One more listener for requests, with a configuration of its own: one Envoy then serves the tests of several.
    /// [`crate::sidecar::Sidecar::listener`] says where it is.
    pub fn also(mut self, listener: &str, config: Value) -> Self {
        self.others.push((listener.to_owned(), config));
        self
    }

    /// One more of our filters in the chain of this listener for requests, behind those that it has, with a configuration of
    /// its own.
    pub fn behind(mut self, listener: &str, config: Value) -> Self {
        self.behind.push((listener.to_owned(), config));
        self
    }

    /// Envoy's own limits on headers so wide that the filter gets to see what they would keep from it.
    pub fn roomy(mut self) -> Self {
        self.roomy = true;
        self
    }

    /// An access log of the listeners for requests, in this format; [`crate::sidecar::Sidecar::access_log`] reads it.
    pub fn access_log(mut self, format: &str) -> Self {
        self.access_log = Some(format!("{format}\n"));
        self
    }

    /// A last change to the whole bootstrap; [`APP`] and [`SIGNALS`] point to the interesting places.
    pub fn patch(mut self, patch: impl FnOnce(&mut Value) + Send + 'static) -> Self {
        self.patches.push(Box::new(patch));
        self
    }

    pub(crate) fn into_bootstrap(mut self, wasm: &Path, upstream: SocketAddr) -> Value {
        let patches = std::mem::take(&mut self.patches);
        let mut bootstrap = self.plain(wasm, upstream);
        for patch in patches {
            patch(&mut bootstrap);
        }
        bootstrap
    }

    fn plain(&self, wasm: &Path, upstream: SocketAddr) -> Value {
        let to_upstream =
            json!({"name": "everything", "match": {"prefix": "/"}, "route": {"cluster": "upstream", "timeout": "0s"}});
        let to_upstream = &to_upstream;
        let nowhere = json!({"name": "nothing", "match": {"prefix": "/"}, "direct_response": {"status": 404}});
        let mut listeners = vec![
            self.listener("app", "filter", &self.config, wasm, to_upstream),
            self.listener("signals", "receiver", &self.config, wasm, &nowhere),
        ];
        listeners
            .extend(self.others.iter().map(|(name, config)| self.listener(name, "filter", config, wasm, to_upstream)));
        json!({
            "admin": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": 0}}},
            "static_resources": {
                "listeners": listeners,
                "clusters": [{
                    "name": "upstream",
                    "type": "STATIC",
                    "connect_timeout": "2s",
                    "typed_extension_protocol_options": {
                        "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                            "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                            "use_downstream_protocol_config": {"http_protocol_options": {}, "http2_protocol_options": {}}
                        }
                    },
                    "load_assignment": {
                        "cluster_name": "upstream",
                        "endpoints": [{"lb_endpoints": [{"endpoint": {"address": {"socket_address": {
                            "address": upstream.ip().to_string(), "port_value": upstream.port()
                        }}}}]}]
                    }
                }]
            }
        })
    }

    fn listener(&self, name: &str, role: &str, config: &Value, wasm: &Path, route: &Value) -> Value {
        let mut listener = json!({
            "name": name,
            // Both listen on port 0, so that only this tells their statistics apart.
            "stat_prefix": name,
            "address": {"socket_address": {"address": "127.0.0.1", "port_value": 0}},
            "filter_chains": [{"filters": [{
                "name": "envoy.filters.network.http_connection_manager",
                "typed_config": self.connection_manager(name, role, config, wasm, route),
            }]}]
        });
        if self.balanced {
            listener["connection_balance_config"] = json!({"exact_balance": {}});
        }
        listener
    }

    fn connection_manager(&self, name: &str, role: &str, config: &Value, wasm: &Path, route: &Value) -> Value {
        let behind = self.behind.iter().filter(|(listener, _)| listener == name).map(|(_, config)| config);
        let ours = std::iter::once(config).chain(behind);
        let mut filters: Vec<_> = ours.map(|config| wasm_filter(role, config, wasm)).collect();
        filters.push(json!({
            "name": "envoy.filters.http.router",
            "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"}
        }));
        let mut manager = json!({
            "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
            "stat_prefix": name,
            "codec_type": "AUTO",
            "stream_idle_timeout": "0s",
            "upgrade_configs": [{"upgrade_type": "websocket"}],
            "normalize_path": self.paths != Paths::Raw,
            "http_filters": filters,
            "route_config": {"name": name, "virtual_hosts": [{"name": name, "domains": ["*"], "routes": [route]}]}
        });
        if self.paths == Paths::Strict {
            manager["merge_slashes"] = json!(true);
            manager["path_with_escaped_slashes_action"] = json!("REJECT_REQUEST");
            manager["strip_any_host_port"] = json!(true);
            manager["strip_trailing_host_dot"] = json!(true);
        }
        if self.roomy {
            manager["max_request_headers_kb"] = json!(1_024);
            manager["common_http_protocol_options"] = json!({"max_headers_count": 5_000});
        }
        if let Some(format) = self.access_log.as_ref().filter(|_| role == "filter") {
            manager["access_log"] = json!([{
                "name": "envoy.access_loggers.file",
                "typed_config": {
                    "@type": "type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog",
                    "path": ACCESS_LOG,
                    "log_format": {"text_format_source": {"inline_string": format}}
                }
            }]);
        }
        manager
    }
}

/// Whether the plugins are set up as Istio or Envoy Gateway does it: the test of that name is about a `vm_id` that the
/// operator chose, and is then skipped.
pub fn is_set_up_as_a_mesh_does(test: &str) -> bool {
    let is_so = !matches!(SetUpBy::chosen(), SetUpBy::Operator);
    if is_so {
        println!("skipped: {test} is about a `vm_id` that the operator chose");
    }
    is_so
}

/// Whether a module that died is not loaded anew, as in Envoy Gateway: the test of that name is about what is there after that,
/// and is then skipped.
pub fn is_never_loaded_anew(test: &str) -> bool {
    let is_so = SetUpBy::chosen().failure_policy() != "FAIL_RELOAD";
    if is_so {
        println!("skipped: {test} is about a module that is loaded anew");
    }
    is_so
}

/// Whose way to set the plugins up the tests use: the environment variable `TASKFENCE_TEST_AS` is `istio`, `gateway`, or not
/// set.
#[derive(Clone, Copy)]
enum SetUpBy {
    /// Plain Envoy, as the project recommends it.
    Operator,
    /// Istio: no `vm_id`.
    Istio,
    /// Envoy Gateway: a `vm_id` of the policy, and a module that dies is not loaded anew.
    Gateway,
}

impl SetUpBy {
    fn chosen() -> Self {
        match std::env::var("TASKFENCE_TEST_AS").as_deref() {
            Err(_) | Ok("") => Self::Operator,
            Ok("istio") => Self::Istio,
            Ok("gateway") => Self::Gateway,
            Ok(other) => panic!("TASKFENCE_TEST_AS is `{other}`: make it `istio` or `gateway`, or leave it out"),
        }
    }

    fn vm_id(self) -> &'static str {
        match self {
            Self::Operator => "taskfence.v1",
            Self::Istio => "",
            Self::Gateway => "orders/taskfence/0",
        }
    }

    fn failure_policy(self) -> &'static str {
        match self {
            Self::Operator | Self::Istio => "FAIL_RELOAD",
            Self::Gateway => "FAIL_CLOSED",
        }
    }
}

fn wasm_filter(role: &str, config: &Value, wasm: &Path) -> Value {
    let mut config = config.clone();
    config["role"] = json!(role);
    let by = SetUpBy::chosen();
    json!({
        "name": "taskfence",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm",
            "config": {
                "name": format!("taskfence-{role}"),
                "failure_policy": by.failure_policy(),
                // Without it a filter that stops at the headers never gets to see the body, and a signal is the
                // body.
                "allow_on_headers_stop_iteration": role == "receiver",
                "vm_config": {
                    // Shared data belongs to the vm_id: with another one a signal would not reach the filter.
                    "vm_id": by.vm_id(),
                    "runtime": "envoy.wasm.runtime.v8",
                    "code": {"local": {"filename": wasm.display().to_string()}}
                },
                "configuration": {
                    "@type": "type.googleapis.com/google.protobuf.StringValue",
                    "value": config.to_string()
                }
            }
        }
    })
}

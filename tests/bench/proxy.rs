//! One Envoy of the bench: a listener for each case, pinned to its core.

use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf, time::Duration};

use serde_json::{Value, json};
use taskfence_tests::{
    artefacts,
    client::{self, Answer, Http, Request},
    envoy::Envoy,
    mint::Jwt,
    orders,
};

use crate::{Error, Result, process};

/// What an Envoy of the bench shall be.
pub struct Plan {
    name: String,
    workers: u32,
    balanced: bool,
    releasing: bool,
    listeners: Vec<Value>,
    clusters: Vec<Value>,
}

/// A running one.
pub struct Proxy {
    envoy: Envoy,
    addresses: BTreeMap<String, SocketAddr>,
}

/// How the answers of one listener were spread over the classes of status codes, and what its token cache did.
#[derive(Clone, Copy, Debug, Default)]
pub struct Answers {
    /// 2xx.
    pub good: u64,
    /// 4xx.
    pub refused: u64,
    /// 5xx.
    pub failed: u64,
    /// Hits of the cache of jwt_authn.
    pub cache_hits: u64,
}

impl Plan {
    /// An Envoy with one worker; `name` names the folder of its logs.
    pub fn new(name: &str) -> Self {
        Self {
            name: format!("bench-{name}"),
            workers: 1,
            balanced: false,
            releasing: false,
            listeners: Vec::new(),
            clusters: Vec::new(),
        }
    }

    /// With so many workers, among which connections are spread evenly.
    pub fn workers(mut self, count: u32) -> Self {
        self.workers = count;
        self.balanced = true;
        self
    }

    /// Gives memory that was freed back to the system at once, so that resident memory is what is in use.
    pub fn releasing(mut self) -> Self {
        self.releasing = true;
        self
    }

    /// A listener with these filters before a fixed answer.
    pub fn listener(self, name: &str, filters: Vec<Value>) -> Self {
        let route = json!({
            "match": {"prefix": "/"},
            "direct_response": {"status": 200, "body": {"inline_string": "ok"}}
        });
        self.route(name, filters, json!([route]))
    }

    /// The same, but what begins with `/v1/live/` goes to the cluster `upstream`.
    pub fn live_listener(self, name: &str, filters: Vec<Value>) -> Self {
        let live = json!({"match": {"prefix": "/v1/live/"}, "route": {"cluster": "upstream", "timeout": "0s"}});
        let fixed = json!({
            "match": {"prefix": "/"},
            "direct_response": {"status": 200, "body": {"inline_string": "ok"}}
        });
        self.route(name, filters, json!([live, fixed]))
    }

    fn route(mut self, name: &str, mut filters: Vec<Value>, routes: Value) -> Self {
        filters.push(json!({
            "name": "envoy.filters.http.router",
            "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"}
        }));
        let mut listener = json!({
            "name": name,
            "stat_prefix": name,
            "address": {"socket_address": {"address": "127.0.0.1", "port_value": 0}},
            "filter_chains": [{"filters": [{
                "name": "envoy.filters.network.http_connection_manager",
                "typed_config": {
                    "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
                    "stat_prefix": name,
                    "codec_type": "AUTO",
                    "stream_idle_timeout": "0s",
                    "normalize_path": true,
                    "merge_slashes": true,
                    "path_with_escaped_slashes_action": "REJECT_REQUEST",
                    "http_filters": filters,
                    "route_config": {"name": name, "virtual_hosts": [{"name": name, "domains": ["*"], "routes": routes}]}
                }
            }]}]
        });
        if self.balanced {
            listener["connection_balance_config"] = json!({"exact_balance": {}});
        }
        self.listeners.push(listener);
        self
    }

    /// A server elsewhere on this machine.
    pub fn cluster(mut self, name: &str, at: SocketAddr, http2: bool) -> Self {
        let version = if http2 { "http2_protocol_options" } else { "http_protocol_options" };
        self.clusters.push(json!({
            "name": name,
            "type": "STATIC",
            "connect_timeout": "2s",
            // A bench opens more streams than a service should have.
            "circuit_breakers": {"thresholds": [{
                "max_connections": 100_000, "max_pending_requests": 100_000, "max_requests": 100_000
            }]},
            "typed_extension_protocol_options": {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                "explicit_http_config": {version: {}}
            }},
            "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": [{"endpoint": {
                "address": {"socket_address": {"address": at.ip().to_string(), "port_value": at.port()}}
            }}]}]}
        }));
        self
    }

    /// Starts it, on these cores, and waits until it is ready.
    pub async fn start(self, cores: &str) -> Result<Proxy> {
        let mut bootstrap = json!({
            "admin": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": 0}}},
            "static_resources": {"listeners": self.listeners, "clusters": self.clusters}
        });
        if self.releasing {
            bootstrap["memory_allocator_manager"] =
                json!({"bytes_to_release": 1_000_000_000, "memory_release_interval": "0.5s"});
        }
        let envoy = Envoy::start(&self.name, &bootstrap, self.workers).await?;
        process::pin(envoy.pid(), cores)?;
        let mut addresses = BTreeMap::new();
        for name in self.listeners.iter().filter_map(|listener| listener["name"].as_str()) {
            addresses.insert(name.to_owned(), envoy.listener(name).await?);
        }
        Ok(Proxy { envoy, addresses })
    }
}

impl Proxy {
    /// The process.
    pub fn envoy(&self) -> &Envoy {
        &self.envoy
    }

    /// Where this listener is.
    pub fn address(&self, listener: &str) -> Result<SocketAddr> {
        let found = self.addresses.get(listener).copied();
        found.ok_or_else(|| Error::new(format!("the bench has no listener `{listener}`")))
    }

    /// What this listener answered so far.
    pub async fn answers(&self, listener: &str) -> Result<Answers> {
        let path = format!("/stats?filter=^http\\.{}\\.", listener.replace('.', "\\."));
        let text = self.admin("GET", &path).await?;
        let value = |name: &str| {
            let line =
                text.lines().find_map(|line| line.strip_prefix(&format!("http.{listener}."))?.strip_prefix(name));
            line.and_then(|rest| rest.strip_prefix(": ")?.parse().ok()).unwrap_or(0)
        };
        Ok(Answers {
            good: value("downstream_rq_2xx"),
            refused: value("downstream_rq_4xx"),
            failed: value("downstream_rq_5xx"),
            cache_hits: value("jwt_authn.jwt_cache_hit"),
        })
    }

    /// Asks the admin port.
    pub async fn admin(&self, method: &str, path: &str) -> Result<String> {
        let answer = client::send(self.envoy.admin(), Http::One, &Request::new(method, path)).await?;
        if answer.status == 200 {
            return Ok(answer.text());
        }
        Err(Error::new(format!("admin {path}: {} {}", answer.status, answer.text())))
    }

    /// Sends one request to a listener.
    pub async fn ask(&self, listener: &str, request: &Request) -> Result<Answer> {
        client::send(self.address(listener)?, Http::One, request).await
    }

    /// Pushes a signal to a listener, which must take it.
    pub async fn push(&self, listener: &str, set: &Jwt) -> Result<()> {
        let answer = self.ask(listener, &Request::push(orders::SIGNALS_PATH, &set.sign())).await?;
        if answer.status == 202 {
            return Ok(());
        }
        Err(Error::new(format!("a signal was answered {}: {}", answer.status, answer.text())))
    }

    /// CPU used so far.
    pub fn cpu(&self) -> Result<Duration> {
        process::cpu(self.envoy.pid())
    }

    /// Resident memory, in bytes.
    pub fn memory(&self) -> Result<u64> {
        process::memory(self.envoy.pid())
    }
}

/// Taskfence as a filter of the chain. Plugins with one `vm` share a machine on each worker, and a state.
pub fn taskfence(vm: &str, role: &str, config: &Value) -> Result<Value> {
    let mut config = config.clone();
    config["role"] = json!(role);
    let mut filter = wasm_filter(vm, &artefacts::wasm()?, config.to_string());
    // A filter that stops at the headers otherwise never gets to see the body, and a signal is the body.
    filter["typed_config"]["config"]["allow_on_headers_stop_iteration"] = json!(role == "receiver");
    Ok(filter)
}

/// The filter that does nothing.
pub fn noop() -> Result<Value> {
    Ok(wasm_filter("noop", &module("wasm32-wasip1/wasm/noop.wasm")?, String::new()))
}

/// The filter that asks the proxy what Taskfence does, and decides nothing.
pub fn floor() -> Result<Value> {
    Ok(wasm_filter("floor", &module("wasm/floor.wasm")?, String::new()))
}

fn module(under_target: &str) -> Result<PathBuf> {
    let path = artefacts::target().join(under_target);
    if path.is_file() {
        return Ok(path);
    }
    Err(Error::new(format!("`{}` is not there; scripts/bench builds it", path.display())))
}

fn wasm_filter(vm: &str, module: &std::path::Path, configuration: String) -> Value {
    json!({
        "name": "envoy.filters.http.wasm",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm",
            "config": {
                "name": vm,
                "vm_config": {
                    "vm_id": vm,
                    "runtime": "envoy.wasm.runtime.v8",
                    "code": {"local": {"filename": module.display().to_string()}}
                },
                "configuration": {
                    "@type": "type.googleapis.com/google.protobuf.StringValue",
                    "value": configuration
                }
            }
        }
    })
}

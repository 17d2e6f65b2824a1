//! What the unit tests share: a store, and a hub that runs.

use crate::access::tokens;
use crate::config::compile::compile;
use crate::config::role::Role;
use crate::server::{self, Server};
use crate::store::sqlite::SqliteStore;
use serde_json::{Value, json};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;

/// A new store, in a folder that is removed when it is dropped.
pub fn store() -> (TempDir, Arc<SqliteStore>) {
    let folder = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(&folder.path().join("hub.sqlite")).unwrap();
    (folder, Arc::new(store))
}

/// The configuration of a hub with its data in `folder`: the feeds `main` and `other`, on a free port.
pub fn config(folder: &Path) -> Value {
    let key = |kid: &str| {
        json!({"keys": [{"kty": "EC", "crv": "P-256", "kid": kid, "alg": "ES256", "use": "sig",
            "x": "acixdce9SgUtZGV5ZvCzzOOwCiLpkjDHKDsNaaDRqQU", "y": "Ww_TjOUAefgX4bIBnB-Ip5EJg8jqXPbsy7w6e8yKpP0"}]})
    };
    let issuer = |name: &str| {
        json!({"issuer": name, "audiences": ["https://orders.mesh"], "algorithms": ["ES256"],
            "keys": {"inline": key("jit-1")}, "claims": {"device": "device_id"}})
    };
    let transmitter = json!({"issuer": "https://idp.example", "audience": "https://hub.example", "algorithms": ["ES256"],
        "keys": {"inline": key("idp-1")}, "subjects": ["https://jit.example"], "authorization": "Bearer agreed"});
    json!({
        "data": folder.join("data"), "listen": {"address": "127.0.0.1:0"},
        "feeds": [
            {"name": "main", "issuers": [issuer("https://jit.example"), issuer("https://two.example")],
                "signals": {"transmitters": [&transmitter]}},
            {"name": "other", "issuers": [issuer("https://jit.example")], "signals": {"transmitters": [transmitter]}}
        ]
    })
}

/// A hub that runs, and what to call it with.
pub struct Running {
    /// The server.
    pub server: Server,
    folder: TempDir,
    http: reqwest::Client,
}

/// An answer: its status and its JSON; null for no JSON.
pub type Answer = (u16, Value);

impl Running {
    /// Starts a hub.
    pub async fn start() -> Running {
        let folder = tempfile::tempdir().unwrap();
        Running::start_with(config(folder.path()), folder).await
    }

    /// Starts a hub, and says where its folder is.
    pub async fn start_in_folder() -> (Running, std::path::PathBuf) {
        let hub = Running::start().await;
        let path = hub.folder.path().to_owned();
        (hub, path)
    }

    /// Starts a hub with this configuration.
    pub async fn start_with(config: Value, folder: TempDir) -> Running {
        let hub = compile(config.to_string().as_bytes()).unwrap();
        let server = Server::start(hub, &crate::health::config_hash(&config)).await.unwrap();
        let http = reqwest::Client::builder().tls_certs_only([]).build().unwrap();
        Running { server, folder, http }
    }

    /// A token that was made on the host while the hub runs; the hub knows of it when this returns.
    pub async fn token(&self, name: &str, role: Role, feeds: &[&str]) -> String {
        let hub = compile(config(self.folder.path()).to_string().as_bytes()).unwrap();
        let feeds: Vec<_> = feeds.iter().map(|feed| (*feed).to_owned()).collect();
        let token = tokens::create(&*server::open_store(&hub).unwrap(), name, role, &feeds, 1).unwrap();
        // Asking more often would use up what an address may fail.
        for _ in 0..20 {
            tokio::time::sleep(Duration::from_millis(700)).await;
            if self.call("GET", "/nothing", Some(&token), None).await.0 == 404 {
                return token;
            }
        }
        panic!("the hub does not know of the token");
    }

    /// Calls the hub.
    pub async fn call(&self, method: &str, path: &str, token: Option<&str>, body: Option<Value>) -> Answer {
        let response = self.send(method, path, token, body).await;
        let status = response.status().as_u16();
        let bytes = response.bytes().await.unwrap();
        (status, serde_json::from_slice(&bytes).unwrap_or_default())
    }

    /// Calls the hub.
    pub async fn send(&self, method: &str, path: &str, token: Option<&str>, body: Option<Value>) -> reqwest::Response {
        let url = format!("http://{}{path}", self.server.address());
        let mut request = self.http.request(method.parse().unwrap(), url);
        if let Some(token) = token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        if let Some(body) = body {
            request = request.body(body.to_string());
        }
        request.send().await.unwrap()
    }

    /// Ends the hub, and gives back its folder.
    pub async fn stop(self) -> TempDir {
        self.server.stop(Duration::ZERO).await;
        self.folder
    }
}

//! A hub process with its store in a folder of its own, and what a filter needs to follow it.

use std::{
    fs::{self, File},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tokio::time;

use crate::{
    Error, Result, artefacts,
    bootstrap::{self, Settings},
    client::{self, Answer, Http, Request},
    jwks,
    mint::{self, Jwt, unique},
    orders,
    process::Process,
    sidecar::Sidecar,
    tls,
};

/// The name of the feed that all tests use.
pub const FEED: &str = "main";
/// The cluster that leads a proxy to the hub.
pub const CLUSTER: &str = "taskfence-hub";
/// How long a proxy may take until it has caught up, or a revocation until it is everywhere, on a busy machine.
pub const SOON: Duration = Duration::from_secs(20);

const LOG: &str = "hub.log";
const POLL_EVERY: Duration = Duration::from_millis(20);

/// A running hub; killed when dropped. Its folder stays.
pub struct Hub {
    process: Option<Process>,
    folder: PathBuf,
    address: SocketAddr,
    speaks_tls: bool,
    environment: Vec<(String, String)>,
    /// A token of the role `operator`.
    pub operator: String,
    /// A token of the role `transmitter`.
    pub transmitter: String,
    sidecar: String,
    jwks: Value,
}

impl Hub {
    /// Starts a hub whose feed covers the issuer of [`orders::config`] and takes signals of its transmitter.
    pub async fn start(name: &str) -> Result<Self> {
        Self::start_with(name, |_| ()).await
    }

    /// The same, after a last change to its configuration.
    pub async fn start_with(name: &str, change: impl FnOnce(&mut Value)) -> Result<Self> {
        let folder = artefacts::target().join("tests").join(unique(name));
        fs::create_dir_all(&folder).map_err(Error::doing(folder.display()))?;
        let address = jwks::down()?;
        let orders = orders::config();
        // The transmitter of the tests is heard of when a test wants it.
        let mut transmitters = orders["signals"]["transmitters"].clone();
        transmitters[0]["heartbeat"] = json!(false);
        let mut config = json!({
            "data": folder.join("data"),
            // Each test has a hub of its own on one disk.
            "reserve_mib": 1,
            "listen": {"address": address.to_string()},
            "feeds": [{
                "name": FEED,
                "issuers": orders["issuers"],
                "signals": {"transmitters": transmitters}
            }]
        });
        change(&mut config);
        let file = folder.join("hub.yaml");
        // JSON is YAML.
        fs::write(&file, format!("{config:#}")).map_err(Error::doing(file.display()))?;
        let mut hub = Self {
            process: None,
            folder,
            address,
            speaks_tls: config["listen"]["tls"].is_object(),
            environment: Vec::new(),
            operator: String::new(),
            transmitter: String::new(),
            sidecar: String::new(),
            jwks: Value::Null,
        };
        hub.operator = hub.new_token("ops", "operator")?;
        hub.transmitter = hub.new_token("idp", "transmitter")?;
        hub.sidecar = hub.new_token("mesh", "sidecar")?;
        let jwks = hub.command(&["hub", "keys", "--config", &hub.config_file()])?;
        hub.jwks = serde_json::from_str(&jwks).map_err(Error::doing(format!("the keys of the hub: {jwks}")))?;
        hub.run().await?;
        Ok(hub)
    }

    /// Another replica of this hub, with data of its own and the same signing keys, after a last change to its
    /// configuration. It does not run yet.
    pub fn replica(&self, name: &str, change: impl FnOnce(&mut Value)) -> Result<Self> {
        let folder = artefacts::target().join("tests").join(unique(name));
        let keys = folder.join("data/keys");
        fs::create_dir_all(&keys).map_err(Error::doing(keys.display()))?;
        for file in fs::read_dir(self.folder.join("data/keys")).map_err(Error::doing("data/keys"))?.flatten() {
            fs::copy(file.path(), keys.join(file.file_name())).map_err(Error::doing("copy a key"))?;
        }
        let text = fs::read_to_string(self.config_file()).map_err(Error::doing("hub.yaml"))?;
        let mut config: Value = serde_json::from_str(&text).map_err(Error::doing("hub.yaml"))?;
        let address = jwks::down()?;
        config["data"] = json!(folder.join("data"));
        config["listen"]["address"] = json!(address.to_string());
        change(&mut config);
        fs::write(folder.join("hub.yaml"), format!("{config:#}")).map_err(Error::doing("hub.yaml"))?;
        Ok(Self {
            process: None,
            folder,
            address,
            speaks_tls: self.speaks_tls,
            environment: Vec::new(),
            operator: self.operator.clone(),
            transmitter: self.transmitter.clone(),
            sidecar: self.sidecar.clone(),
            jwks: self.jwks.clone(),
        })
    }

    /// Starts the process again, after it was stopped or killed, and waits until it is ready.
    pub async fn run(&mut self) -> Result<()> {
        self.run_until(200).await.map(drop)
    }

    /// The same, until `/readyz` has this status; the answer.
    pub async fn run_until(&mut self, status: u16) -> Result<Answer> {
        let log = File::options().create(true).append(true).open(self.log_file()).map_err(Error::doing("hub.log"))?;
        let errors = log.try_clone().map_err(Error::doing("hub.log"))?;
        let mut command = Command::new(artefacts::command()?);
        command.args(["hub", "--config", &self.config_file()]).stdout(log).stderr(errors);
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        self.process = Some(Process::start(&mut command)?);
        let deadline = Instant::now() + SOON;
        loop {
            if let Ok(answer) = self.send(&Request::get("/readyz")).await
                && answer.status == status
            {
                return Ok(answer);
            }
            let ended = self.process.as_mut().and_then(Process::exited);
            if ended.is_some() || Instant::now() > deadline {
                return Err(Error::new(format!("/readyz has not become {status} ({ended:?}):\n{}", self.log())));
            }
            time::sleep(POLL_EVERY).await;
        }
    }

    /// Ends it at once, as a power cut would.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _ = process.signal("KILL");
            let _ = process.wait();
        }
    }

    /// Asks it to end, and waits until it has.
    pub fn stop(&mut self) -> Result<()> {
        let Some(mut process) = self.process.take() else { return Ok(()) };
        process.signal("TERM")?;
        process.wait().map(drop)
    }

    /// The process id; 0 when it does not run.
    pub fn pid(&self) -> u32 {
        self.process.as_ref().map_or(0, Process::id)
    }

    /// Runs it with this variable in its environment from the next start on.
    pub fn set_environment(&mut self, name: &str, value: &str) {
        self.environment.push((name.to_owned(), value.to_owned()));
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its folder, with `hub.yaml`, `data` and `hub.log`.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The path of its configuration.
    pub fn config_file(&self) -> String {
        self.folder.join("hub.yaml").display().to_string()
    }

    /// What it logged so far.
    pub fn log(&self) -> String {
        fs::read_to_string(self.log_file()).unwrap_or_default()
    }

    fn log_file(&self) -> PathBuf {
        self.folder.join(LOG)
    }

    /// A token of the role `sidecar`.
    pub fn sidecar(&self) -> &str {
        &self.sidecar
    }

    /// The keys that its statements are signed with.
    pub fn jwks(&self) -> &Value {
        &self.jwks
    }

    /// The configuration `base` of a filter, with this hub in place of transmitters.
    pub fn followed_by(&self, base: &Value) -> Value {
        let mut config = base.clone();
        config["signals"] = json!({
            "hub": {
                "cluster": CLUSTER,
                "feed": FEED,
                "keys": {"inline": self.jwks},
                "authorization": format!("Bearer {}", self.sidecar)
            },
            "stale": {"after": "30s"}
        });
        config
    }

    /// A sidecar that follows it as plain Envoy does: with a `vm_id`, and no receiver.
    pub fn plain(&self, name: &str, base: &Value) -> Settings {
        let settings = Settings::new(name, self.followed_by(base)).balanced();
        let node = json!({"id": name, "cluster": "tests"});
        let settings = settings.patch(jwks::with_clusters(vec![self.cluster()])).patch(without_receiver);
        settings.patch(move |bootstrap| bootstrap["node"] = node)
    }

    /// The same as Istio and Envoy Gateway set it up: one plugin, and no `vm_id`.
    pub fn lone(&self, name: &str, base: &Value) -> Settings {
        self.plain(name, base).patch(|bootstrap| {
            let pointer = format!("{}/http_filters/0/typed_config/config/vm_config", bootstrap::APP);
            if let Some(vm) = bootstrap.pointer_mut(&pointer).and_then(Value::as_object_mut) {
                vm.remove("vm_id");
            }
        })
    }

    /// The cluster that leads to it.
    pub fn cluster(&self) -> Value {
        jwks::cluster(CLUSTER, self.address)
    }

    /// The cluster that leads to these hubs, whichever answers: where one does not, the proxy asks another.
    pub fn cluster_of(replicas: &[&Self]) -> Value {
        let mut cluster = jwks::cluster(CLUSTER, replicas[0].address);
        let endpoint = cluster["load_assignment"]["endpoints"][0]["lb_endpoints"][0].clone();
        let endpoints = replicas.iter().map(|hub| {
            let mut endpoint = endpoint.clone();
            let address = &mut endpoint["endpoint"]["address"]["socket_address"];
            address["address"] = json!(hub.address.ip().to_string());
            address["port_value"] = json!(hub.address.port());
            endpoint
        });
        cluster["load_assignment"]["endpoints"][0]["lb_endpoints"] = endpoints.collect();
        cluster
    }

    /// A token of this role, made on the host of the hub.
    pub fn new_token(&self, name: &str, role: &str) -> Result<String> {
        let made =
            self.command(&["hub", "token", "new", "--config", &self.config_file(), "--name", name, "--role", role])?;
        let token = made.split_whitespace().last().unwrap_or_default().to_owned();
        if token.len() < 32 { Err(Error::new(format!("no token in {made:?}"))) } else { Ok(token) }
    }

    /// Runs the `taskfence` command; what it printed on standard output.
    pub fn command(&self, arguments: &[&str]) -> Result<String> {
        let ran = self.try_command(arguments)?;
        match ran.0 {
            0 => Ok(ran.1),
            code => Err(Error::new(format!("taskfence {}: exit code {code}\n{}", arguments.join(" "), ran.1))),
        }
    }

    /// Runs the `taskfence` command as an operator of this hub; its exit code, and what it printed.
    pub fn try_command(&self, arguments: &[&str]) -> Result<(i32, String)> {
        let output = Command::new(artefacts::command()?)
            .args(arguments)
            .env("TASKFENCE_HUB", format!("http://{}", self.address))
            .env("TASKFENCE_HUB_TOKEN", &self.operator)
            .output()
            .map_err(Error::doing("run taskfence"))?;
        let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
        if !output.status.success() {
            text.push_str(&String::from_utf8_lossy(&output.stderr));
        }
        Ok((output.status.code().unwrap_or(-1), text))
    }

    /// Pushes a signal, as a transmitter would.
    pub async fn push(&self, set: &Jwt) -> Result<Answer> {
        self.push_text(&set.sign()).await
    }

    /// Pushes a signed SET.
    pub async fn push_text(&self, set: &str) -> Result<Answer> {
        let path = format!("/v1/feeds/{FEED}/signals");
        self.send(&Request::push(&path, set).bearer(&self.transmitter)).await
    }

    /// Sends it a request on a connection of its own, over TLS where it speaks that, without a client certificate.
    pub async fn send(&self, request: &Request) -> Result<Answer> {
        match self.speaks_tls {
            true => tls::send(self.address, Http::One, None, request).await,
            false => client::send(self.address, Http::One, request).await,
        }
    }

    /// A call of the operator's API.
    pub async fn call(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Answer> {
        let mut request = Request::new(method, path).bearer(&self.operator);
        if let Some(body) = body {
            request = request.header("content-type", "application/json").body(body.to_string());
        }
        self.send(&request).await
    }

    /// The number of the last entry of the feed.
    pub async fn head(&self) -> Result<String> {
        let feeds = self.call("GET", "/v1/feeds", None).await?;
        let feeds = feeds.json();
        let all = feeds["feeds"].as_array().or_else(|| feeds.as_array()).cloned().unwrap_or_default();
        let feed = all.iter().find(|feed| feed["name"] == FEED);
        let head = feed.and_then(|feed| feed["head"].as_str().or_else(|| feed["revision"].as_str()));
        head.map(str::to_owned).ok_or_else(|| Error::new(format!("no feed {FEED} in {feeds}")))
    }

    /// Waits until every connected proxy has applied everything that the feed has now.
    pub async fn wait_everywhere(&self) -> Result<Value> {
        let head = self.head().await?;
        let path = format!("/v1/feeds/{FEED}/receipts/{head}?wait={}", SOON.as_secs());
        let answer = self.call("GET", &path, None).await?;
        let receipt = answer.json();
        match receipt["complete"].as_bool() {
            Some(true) => Ok(receipt),
            _ => Err(Error::new(format!("not everywhere: {} {receipt}\n{}", answer.status, self.log()))),
        }
    }
}

/// The listener for signals answers 404 to everything: there is no receiver in the proxy.
pub fn without_receiver(bootstrap: &mut Value) {
    if let Some(filters) = bootstrap.pointer_mut(&format!("{}/http_filters", bootstrap::SIGNALS)) {
        filters.as_array_mut().expect("our own bootstrap").remove(0);
    }
}

/// Waits until the filter says that it has caught up.
pub async fn wait_ready(sidecar: &Sidecar) -> Result<()> {
    let deadline = Instant::now() + SOON;
    loop {
        let answer = sidecar.send(Http::One, &Request::get("/.well-known/taskfence/ready")).await?;
        if answer.status == 200 {
            return Ok(());
        }
        if Instant::now() > deadline {
            let text = answer.text();
            return Err(Error::new(format!("not ready: {} {text}\n{}", answer.status, sidecar.envoy().log())));
        }
        time::sleep(POLL_EVERY).await;
    }
}

/// A token for [`orders::ORDER_PATH`] of a session, a task and a user of its own.
pub fn fresh() -> Jwt {
    mint::token().session(&unique("sess")).task(&unique("task")).user(&unique("user"))
}

/// Reads the order with this token.
pub async fn read_order(sidecar: &Sidecar, token: &str) -> Result<Answer> {
    sidecar.send(Http::One, &Request::get(orders::ORDER_PATH).bearer(token)).await
}

/// Asks until the answer is that this task has ended, and fails when the request passes before.
pub async fn refused_as_ended(sidecar: &Sidecar, task: &str) -> Result<()> {
    let token = fresh().task(task).sign();
    let deadline = Instant::now() + SOON;
    loop {
        let answer = read_order(sidecar, &token).await?;
        if answer.line() == "401 task_completed" {
            return Ok(());
        }
        if answer.status == 200 || Instant::now() > deadline {
            return Err(Error::new(format!("{} for task {task}\n{}", answer.line(), sidecar.envoy().log())));
        }
        time::sleep(POLL_EVERY).await;
    }
}

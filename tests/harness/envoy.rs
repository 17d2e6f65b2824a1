//! One Envoy process: started, waited for, asked through its admin port, and ended whatever happens to the test.

use std::{
    fs,
    fs::File,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use serde_json::Value;
use tokio::time;

use crate::{
    Error, Result, artefacts,
    client::{self, Http, Request},
};

/// Compiling the module in V8 for every worker is most of it; a busy machine may need much longer than an idle one.
const START_WITHIN: Duration = Duration::from_secs(60);
const POLL_EVERY: Duration = Duration::from_millis(20);
const LOG: &str = "envoy.log";

/// A running Envoy that has said it is ready; killed when dropped.
pub struct Envoy {
    // Order matters: nothing is asked of a process that is gone.
    process: Process,
    admin: SocketAddr,
    folder: PathBuf,
}

/// Counters and gauges by name, as `/stats` shows them.
pub struct Stats(std::collections::BTreeMap<String, u64>);

impl Envoy {
    /// Starts Envoy on `bootstrap` and waits until it is ready. Otherwise the error holds its whole log.
    pub async fn start(name: &str, bootstrap: &Value, workers: u32) -> Result<Self> {
        let folder = new_folder(name)?;
        let bootstrap_file = folder.join("bootstrap.json");
        fs::write(&bootstrap_file, format!("{bootstrap:#}")).map_err(Error::doing(bootstrap_file.display()))?;
        Self::start_from(&folder, &bootstrap_file, workers).await
    }

    /// Starts Envoy on a configuration file as an operator wrote it.
    pub async fn start_file(name: &str, file_name: &str, text: &str) -> Result<Self> {
        let folder = new_folder(name)?;
        let file = folder.join(file_name);
        fs::write(&file, text).map_err(Error::doing(file.display()))?;
        Self::start_from(&folder, &file, 1).await
    }

    async fn start_from(folder: &Path, bootstrap: &Path, workers: u32) -> Result<Self> {
        let log = folder.join(LOG);
        let admin_file = folder.join("admin.address");
        let mut process = Process::start(folder, bootstrap, &admin_file, &log, workers)?;
        match wait_until_ready(&mut process, &admin_file).await {
            Ok(admin) => Ok(Self { process, admin, folder: folder.to_owned() }),
            Err(cause) => {
                drop(process);
                let log = read(&log);
                Err(Error::new(format!("Envoy did not start: {cause}\n--- its log\n{log}--- end of its log")))
            }
        }
    }

    /// The admin port.
    pub fn admin(&self) -> SocketAddr {
        self.admin
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.process.envoy.id()
    }

    /// Sends it a signal, such as `STOP`.
    pub fn signal(&self, name: &str) -> Result<()> {
        let status = Command::new("kill").args([format!("-{name}"), self.pid().to_string()]).status();
        match status.map_err(Error::doing("run `kill`"))?.success() {
            true => Ok(()),
            false => Err(Error::new(format!("no signal {name} for Envoy"))),
        }
    }

    /// What Envoy and the filter logged so far.
    pub fn log(&self) -> String {
        read(&self.log_file())
    }

    /// The file the log goes to.
    pub fn log_file(&self) -> PathBuf {
        self.folder.join(LOG)
    }

    /// What is in this file of its folder, where a relative path of the bootstrap leads.
    pub fn file(&self, name: &str) -> String {
        read(&self.folder.join(name))
    }

    /// Logs the filter's debug lines too, from now on.
    pub async fn log_debug(&self) -> Result<()> {
        let answer = client::send(self.admin, Http::One, &Request::new("POST", "/logging?wasm=debug")).await?;
        if answer.status == 200 { Ok(()) } else { Err(Error::new(format!("admin /logging: {}", answer.text()))) }
    }

    /// Where the listener of this name was bound.
    pub async fn listener(&self, name: &str) -> Result<SocketAddr> {
        let listeners = admin_text(self.admin, "/listeners?format=json").await?;
        let listeners: Value = serde_json::from_str(&listeners).map_err(Error::doing("read /listeners"))?;
        let statuses = listeners["listener_statuses"].as_array().map_or(&[][..], Vec::as_slice);
        let address = statuses
            .iter()
            .find(|listener| listener["name"] == name)
            .map(|listener| &listener["local_address"]["socket_address"])
            .ok_or_else(|| Error::new(format!("no listener `{name}` in {listeners}")))?;
        format!("{}:{}", address["address"].as_str().unwrap_or_default(), address["port_value"])
            .parse()
            .map_err(Error::doing(format!("address of the listener `{name}` in {address}")))
    }

    /// All counters and gauges.
    pub async fn stats(&self) -> Result<Stats> {
        let text = admin_text(self.admin, "/stats").await?;
        let lines = text.lines().filter_map(|line| line.rsplit_once(": "));
        Ok(Stats(lines.filter_map(|(name, value)| Some((name.to_owned(), value.parse().ok()?))).collect()))
    }
}

impl Stats {
    /// The value of this name; an error if Envoy has none, so that a misspelt name is not a zero.
    pub fn value(&self, name: &str) -> Result<u64> {
        self.0.get(name).copied().ok_or_else(|| {
            let near: Vec<_> = self.names(name.split('.').next().unwrap_or_default()).collect();
            Error::new(format!("no statistic `{name}`; there are {near:#?}"))
        })
    }

    /// The names that begin with `prefix`.
    pub fn names(&self, prefix: &str) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str).filter(move |name| name.starts_with(prefix))
    }
}

/// Envoy and a watcher that ends it when this process does, even by a signal: what is shared by all tests of a file is
/// never dropped.
struct Process {
    envoy: Child,
    watcher: Child,
}

impl Process {
    fn start(folder: &Path, bootstrap: &Path, admin_file: &Path, log: &Path, workers: u32) -> Result<Self> {
        let binary = artefacts::envoy()?;
        let output = File::create(log).map_err(Error::doing(log.display()))?;
        let errors = output.try_clone().map_err(Error::doing(log.display()))?;
        let mut envoy = Command::new(&binary)
            .current_dir(folder)
            .arg("--config-path")
            .arg(bootstrap)
            .arg("--admin-address-path")
            .arg(admin_file)
            .args(["--concurrency", &workers.to_string()])
            // So that any number of them run beside each other.
            .arg("--disable-hot-restart")
            // Nobody waits ten seconds for a line of the access log.
            .args(["--file-flush-interval-msec", "20"])
            // Without the hundred lines about what is compiled in, a failed start fits on a screen.
            .args(["--log-level", "warning", "--component-log-level", "wasm:info,config:info"])
            .stdin(Stdio::null())
            .stdout(output)
            .stderr(errors)
            .spawn()
            .map_err(Error::doing(format!("run `{}`", binary.display())))?;
        // The pipe closes when this process ends or drops it; `read` returns, and Envoy goes.
        let watcher = Command::new("sh")
            .args(["-c", "read -r _; kill -9 \"$1\"", "watcher", &envoy.id().to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        match watcher {
            Ok(watcher) => Ok(Self { envoy, watcher }),
            Err(cause) => {
                let _ = envoy.kill();
                let _ = envoy.wait();
                Err(Error::new(format!("run `sh`: {cause}")))
            }
        }
    }

    fn exited(&mut self) -> Option<std::process::ExitStatus> {
        self.envoy.try_wait().ok().flatten()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Envoy is waited for last: until then its id is its own, and the watcher cannot hit a stranger.
        drop(self.watcher.stdin.take());
        let _ = self.watcher.wait();
        let _ = self.envoy.kill();
        let _ = self.envoy.wait();
    }
}

async fn wait_until_ready(process: &mut Process, admin_file: &Path) -> Result<SocketAddr> {
    let deadline = Instant::now() + START_WITHIN;
    loop {
        if let Some(status) = process.exited() {
            return Err(Error::new(format!("it ended with {status}")));
        }
        // The file may be there and not yet be written.
        let admin = fs::read_to_string(admin_file).ok().and_then(|text| text.trim().parse().ok());
        if let Some(admin) = admin
            && admin_text(admin, "/ready").await.is_ok()
        {
            return Ok(admin);
        }
        if Instant::now() > deadline {
            return Err(Error::new(format!("it was not ready within {START_WITHIN:?}")));
        }
        time::sleep(POLL_EVERY).await;
    }
}

async fn admin_text(admin: SocketAddr, path: &str) -> Result<String> {
    let answer = client::send(admin, Http::One, &Request::get(path)).await?;
    if answer.status == 200 {
        return Ok(answer.text());
    }
    Err(Error::new(format!("admin {path}: {} {}", answer.status, answer.text())))
}

/// A folder of its own for every Envoy of every test process.
fn new_folder(name: &str) -> Result<PathBuf> {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let folder = artefacts::target().join("tests").join(format!("{name}-{}-{count}", std::process::id()));
    // A process of long ago may have had the same id.
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).map_err(Error::doing(folder.display()))?;
    Ok(folder)
}

fn read(file: &Path) -> String {
    match fs::read(file) {
        Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(cause) => format!("({}: {cause})\n", file.display()),
    }
}

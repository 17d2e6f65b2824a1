//! A Prometheus that the tests start: it scrapes what it is told, and answers queries.

use std::{
    env,
    fs::{self, File},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use serde_json::Value;
use tokio::time;

use crate::{
    Error, Result, artefacts,
    client::{self, Http, Request},
    jwks,
    mint::unique,
    process::Process,
};

/// Where the distributions have the programs, after the folder that `scripts/setup` puts them in;
/// `TASKFENCE_PROMETHEUS_BIN` names another one.
const FOLDERS: [&str; 2] = ["/usr/bin", "/usr/local/bin"];
/// How long it may take to start.
const START: Duration = Duration::from_secs(30);

/// The program of that name, `prometheus` or `promtool`; `None`: it is not installed, and the tests that need it are
/// skipped, which this says by the name of the test.
pub fn program(name: &str, test: &str) -> Option<PathBuf> {
    let named = env::var_os("TASKFENCE_PROMETHEUS_BIN").map(PathBuf::from);
    let own = artefacts::target().join("prometheus/usr/bin");
    let mut folders = named.into_iter().chain([own]).chain(FOLDERS.map(PathBuf::from));
    let found = folders.find(|folder| folder.join("prometheus").exists() && folder.join("promtool").exists());
    if found.is_none() {
        eprintln!("skipped: {test}: Prometheus is not installed");
    }
    found.map(|folder| folder.join(name))
}

/// Runs `promtool` with these arguments; an error holds what it printed.
pub fn promtool(program: &Path, arguments: &[&str]) -> Result<String> {
    let output = Command::new(program).args(arguments).output().map_err(Error::doing("run promtool"))?;
    let text = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    match output.status.success() {
        true => Ok(text),
        false => Err(Error::new(format!("promtool {}:\n{text}", arguments.join(" ")))),
    }
}

/// A running server; killed when dropped. Its folder stays.
pub struct Prometheus {
    _process: Process,
    address: SocketAddr,
    folder: PathBuf,
}

impl Prometheus {
    /// Starts `program` with this configuration, and waits until it answers.
    pub async fn start(program: &Path, config: &Value) -> Result<Self> {
        let folder = artefacts::target().join("tests").join(unique("prometheus"));
        fs::create_dir_all(&folder).map_err(Error::doing(folder.display()))?;
        let file = folder.join("prometheus.yml");
        // JSON is YAML.
        fs::write(&file, format!("{config:#}")).map_err(Error::doing(file.display()))?;
        let log = File::create(folder.join("prometheus.log")).map_err(Error::doing("prometheus.log"))?;
        let address = jwks::down()?;
        let mut command = Command::new(program);
        command.arg(format!("--config.file={}", file.display()));
        command.arg(format!("--storage.tsdb.path={}", folder.join("data").display()));
        command.arg(format!("--web.listen-address={address}"));
        command.stdout(log.try_clone().map_err(Error::doing("prometheus.log"))?).stderr(log);
        let mut server = Self { _process: Process::start(&mut command)?, address, folder };
        let deadline = Instant::now() + START;
        loop {
            let answer = client::send(address, Http::One, &Request::get("/-/ready")).await;
            if answer.is_ok_and(|answer| answer.status == 200) {
                return Ok(server);
            }
            if server._process.exited().is_some() || Instant::now() > deadline {
                return Err(Error::new(format!("Prometheus does not start:\n{}", server.log())));
            }
            time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// What it logged so far.
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.join("prometheus.log")).unwrap_or_default()
    }

    /// The series that `query` gives now.
    pub async fn query(&self, query: &str) -> Result<Vec<Value>> {
        self.series(query, &format!("/api/v1/query?query={}", escaped(query))).await
    }

    /// The series that `query` gives from `start` to `end`, in seconds since 1970, each `step` seconds.
    pub async fn range(&self, query: &str, (start, end): (i64, i64), step: u32) -> Result<Vec<Value>> {
        let path = format!("/api/v1/query_range?query={}&start={start}&end={end}&step={step}", escaped(query));
        self.series(query, &path).await
    }

    /// The rules that it has loaded, and how each went.
    pub async fn rules(&self) -> Result<Vec<Value>> {
        let answer = self.get("/api/v1/rules").await?;
        let groups = answer["data"]["groups"].as_array().cloned().unwrap_or_default();
        Ok(groups.iter().flat_map(|group| group["rules"].as_array().cloned().unwrap_or_default()).collect())
    }

    async fn series(&self, query: &str, path: &str) -> Result<Vec<Value>> {
        let answer = self.get(path).await?;
        match (answer["status"].as_str(), answer["data"]["result"].as_array()) {
            (Some("success"), Some(series)) => Ok(series.clone()),
            _ => Err(Error::new(format!("{query}: {answer}"))),
        }
    }

    async fn get(&self, path: &str) -> Result<Value> {
        Ok(client::send(self.address, Http::One, &Request::get(path)).await?.json())
    }
}

/// Escapes all but letters and digits for a query string.
fn escaped(text: &str) -> String {
    let escape = |byte: u8| match byte.is_ascii_alphanumeric() {
        true => char::from(byte).to_string(),
        false => format!("%{byte:02X}"),
    };
    text.bytes().map(escape).collect()
}

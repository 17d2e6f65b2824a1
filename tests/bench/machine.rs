//! Where the figures come from: the machine, the versions, and the cores that each side has.

use std::{fs, process::Command};

use serde::Serialize;

use crate::{Error, Result};
use taskfence_tests::artefacts;

/// Which core is for whom.
#[derive(Clone, Debug, Serialize)]
pub struct Cores {
    /// The proxy's, and its authorization server's where it has one.
    pub proxy: String,
    /// The proxy's where it has two workers.
    pub two: String,
    /// The load generator's, and that of everything else here.
    pub load: String,
}

/// What a reader has to know to repeat it, or to doubt it.
#[derive(Clone, Debug, Serialize)]
pub struct Machine {
    /// The name of the processor.
    pub processor: String,
    /// How many cores this process may use.
    pub cores: usize,
    /// In GiB.
    pub memory_gib: u64,
    /// The kernel.
    pub kernel: String,
    /// Envoy, as it calls itself.
    pub envoy: String,
    /// wrk, as it calls itself.
    pub wrk: String,
    /// The compiler of filter and bench.
    pub rustc: String,
    /// The commit, with `+` when the tree had changes.
    pub commit: String,
    /// The day (UTC).
    pub date: String,
    /// Processes that wanted to run in the minute before, on average. Above half a core the figures are not to be
    /// trusted.
    pub load_before: f64,
    /// Who runs where.
    pub pinned: Cores,
}

impl Cores {
    /// Two of those that this process may use.
    pub fn choose() -> Result<Self> {
        let status = fs::read_to_string("/proc/self/status").map_err(Error::doing("/proc/self/status"))?;
        let list = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:")).unwrap_or_default();
        let cores = cores(list.trim());
        match cores.as_slice() {
            [proxy, load] => Ok(Self { proxy: proxy.clone(), two: format!("{proxy},{load}"), load: load.clone() }),
            [proxy, other, load, ..] => {
                Ok(Self { proxy: proxy.clone(), two: format!("{proxy},{other}"), load: load.clone() })
            }
            _ => Err(Error::new(format!(
                "the proxy and the load generator need a core each, and this process may only use `{}`",
                list.trim()
            ))),
        }
    }
}

/// `0-2,5` is 0, 1, 2 and 5.
fn cores(list: &str) -> Vec<String> {
    let range = |part: &str| {
        let (from, to) = part.split_once('-').unwrap_or((part, part));
        let bounds = from.parse::<usize>().ok().zip(to.parse::<usize>().ok());
        bounds.map_or(0..0, |(from, to)| from..to + 1)
    };
    list.split(',').flat_map(range).map(|core| core.to_string()).collect()
}

impl Machine {
    /// Looks.
    pub fn look(pinned: Cores) -> Result<Self> {
        let file = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let field = |text: String, name: &str| {
            let line = text.lines().find(|line| line.starts_with(name)).map(str::to_owned);
            line.and_then(|line| Some(line.split_once(':')?.1.trim().to_owned())).unwrap_or_default()
        };
        let processor = match field(file("/proc/cpuinfo"), "model name") {
            name if name.is_empty() => std::env::consts::ARCH.to_owned(),
            name => name,
        };
        let kilobytes: u64 =
            field(file("/proc/meminfo"), "MemTotal").split(' ').next().and_then(|kb| kb.parse().ok()).unwrap_or(0);
        let envoy = output(&artefacts::envoy()?.display().to_string(), &["--version"])?;
        Ok(Self {
            processor,
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            memory_gib: (kilobytes + (1 << 19)) >> 20,
            kernel: file("/proc/sys/kernel/osrelease").trim().to_owned(),
            envoy: envoy.trim().rsplit("version: ").next().unwrap_or_default().to_owned(),
            // It prints its name and how it is used, and ends as if that had been a mistake.
            wrk: first_line(&output("wrk", &["--version"])?),
            rustc: first_line(&output("rustc", &["--version"])?),
            commit: commit().unwrap_or_else(|_| "unknown".to_owned()),
            date: first_line(&output("date", &["--utc", "+%Y-%m-%d"])?),
            load_before: file("/proc/loadavg").split(' ').next().and_then(|load| load.parse().ok()).unwrap_or(0.0),
            pinned,
        })
    }

    /// What a reader of the figures should be warned of.
    pub fn warning(&self) -> Option<String> {
        (self.load_before > 0.5).then(|| {
            format!(
                "the machine was not quiet: {} processes wanted to run in the minute before, on average",
                self.load_before
            )
        })
    }
}

fn commit() -> Result<String> {
    let root = artefacts::in_repository("").display().to_string();
    let commit = output("git", &["-C", &root, "rev-parse", "--short=12", "HEAD"])?;
    let changes = output("git", &["-C", &root, "status", "--porcelain", "--untracked-files=no"])?;
    Ok(format!("{}{}", commit.trim(), if changes.trim().is_empty() { "" } else { "+" }))
}

fn output(program: &str, arguments: &[&str]) -> Result<String> {
    let output = Command::new(program).args(arguments).output().map_err(Error::doing(format!("run `{program}`")))?;
    Ok(String::from_utf8_lossy(if output.stdout.is_empty() { &output.stderr } else { &output.stdout }).into_owned())
}

fn first_line(text: &str) -> String {
    text.lines().find(|line| !line.trim().is_empty()).unwrap_or_default().trim().to_owned()
}

/// An error that says what is missing of what the bench starts.
pub fn check() -> Result<()> {
    for (program, package) in [("wrk", "wrk"), ("taskset", "util-linux"), ("prlimit", "util-linux")] {
        if Command::new(program).arg("--version").output().is_err() {
            return Err(Error::new(format!(
                "`{program}` is not there; `scripts/setup --bench` installs it (Debian, Ubuntu: apt install {package})"
            )));
        }
    }
    artefacts::envoy().and(artefacts::wasm()).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_cores() {
        assert_eq!(cores("0-2,5"), ["0", "1", "2", "5"]);
        assert_eq!(cores("3"), ["3"]);
        assert!(cores("").is_empty());
    }
}

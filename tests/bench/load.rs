//! The load generator: wrk, with its figures.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use crate::{Error, Result};
use std::net::SocketAddr;
use taskfence_tests::artefacts;

/// Enough to keep the proxy's core busy all the time, few enough that nobody waits long.
const CONNECTIONS: &str = "16";

/// More than are sent and not yet answered at any time.
const IN_FLIGHT: usize = 64;

/// What the requests of one case are.
#[derive(Clone, Debug)]
pub struct Traffic {
    /// The path, with a query if it has one.
    pub path: String,
    /// A file with one token on each line. They are sent in turns.
    pub tokens: PathBuf,
    /// How many tokens there are.
    pub count: usize,
    /// How many of them have been sent. The next run begins there, so that a token does not come back before all
    /// others have been sent.
    pub sent: usize,
}

/// What wrk says of one run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// Answers, whatever they said.
    pub answers: u64,
    /// How long it took, in microseconds.
    pub duration: u64,
    /// Those that were neither 2xx nor 3xx.
    pub refused: u64,
    /// Connections and requests that were not answered.
    pub lost: u64,
    /// Half of the answers came within these microseconds.
    pub p50: u64,
    /// 99 of 100 answers came within these microseconds.
    pub p99: u64,
}

impl Traffic {
    /// Requests for `path` with the tokens of a file.
    pub fn new(path: &str, (tokens, count): (PathBuf, usize)) -> Self {
        Self { path: path.to_owned(), tokens, count, sent: 0 }
    }

    /// Sends requests for `time`.
    pub fn run(&mut self, to: SocketAddr, time: Duration) -> Result<Run> {
        let run = self.wrk(to, time)?;
        // Some more were sent and not answered when the time was over, one was made to be looked at.
        self.sent = (self.sent + answers(&run) + IN_FLIGHT) % self.count.max(1);
        Ok(run)
    }

    /// Sends each token until it is answered, once and a few of them twice. Gives up at the first answer that is not
    /// 2xx.
    pub fn send_each(mut self, to: SocketAddr) -> Result<()> {
        while self.sent < self.count {
            let run = self.wrk(to, Duration::from_secs(if self.count > 10_000 { 5 } else { 1 }))?;
            if run.refused > 0 || run.lost > 0 || answers(&run) <= IN_FLIGHT {
                let Run { answers, refused, lost, .. } = run;
                return Err(Error::new(format!("of {answers} answers {refused} were not 2xx, {lost} were lost")));
            }
            // Which of the last ones were answered is not known, so they are sent again.
            self.sent += answers(&run) - IN_FLIGHT;
        }
        Ok(())
    }

    fn wrk(&self, to: SocketAddr, time: Duration) -> Result<Run> {
        // wrk takes whole seconds; what is asked of it here is never less than one.
        let seconds = time.as_secs().max(1);
        let output = Command::new("wrk")
            .args(["--threads", "1", "--connections", CONNECTIONS, "--timeout", "10s"])
            .arg(format!("--duration={seconds}s"))
            .arg("--script")
            .arg(artefacts::in_repository("tests/bench/load.lua"))
            .arg(format!("http://{to}"))
            .arg("--")
            .args([self.tokens.as_os_str(), Path::new(&self.path).as_os_str()])
            .arg(self.sent.to_string())
            .stdin(Stdio::null())
            .output()
            .map_err(Error::doing("run `wrk`"))?;
        let text = String::from_utf8_lossy(&output.stdout);
        read(&text).ok_or_else(|| {
            let errors = String::from_utf8_lossy(&output.stderr);
            Error::new(format!("wrk ended with {} and printed no figures:\n{text}{errors}", output.status))
        })
    }
}

fn answers(run: &Run) -> usize {
    usize::try_from(run.answers).unwrap_or(usize::MAX)
}

fn read(output: &str) -> Option<Run> {
    let line = output.lines().find_map(|line| line.strip_prefix("bench "))?;
    let mut numbers = line.split(' ').map(|number| number.parse().ok());
    let mut next = || numbers.next().flatten();
    Some(Run { answers: next()?, duration: next()?, refused: next()?, lost: next()?, p50: next()?, p99: next()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_of_the_script_is_read() {
        let output = "Running 1s test\nbench 30412 1000321 2 0 512 1803\n";
        let run = Run { answers: 30_412, duration: 1_000_321, refused: 2, lost: 0, p50: 512, p99: 1803 };
        assert_eq!(read(output), Some(run));
        assert_eq!(read("unable to connect\n"), None);
    }
}

//! A process that a test starts, which ends with the test whatever happens to it.

use std::process::{Child, Command, ExitStatus, Stdio};

use crate::{Error, Result};

/// A process, and a watcher that ends it when this one ends, even by a signal.
pub struct Process {
    child: Child,
    watcher: Child,
}

impl Process {
    /// Runs `command`.
    pub fn start(command: &mut Command) -> Result<Self> {
        let name = command.get_program().to_string_lossy().into_owned();
        let mut child = command.stdin(Stdio::null()).spawn().map_err(Error::doing(format!("run `{name}`")))?;
        // The pipe closes when this process ends or drops it; `read` returns, and the child goes.
        let watcher = Command::new("sh")
            .args(["-c", "read -r _; kill -9 \"$1\"", "watcher", &child.id().to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        match watcher {
            Ok(watcher) => Ok(Self { child, watcher }),
            Err(cause) => {
                let _ = child.kill();
                let _ = child.wait();
                Err(Error::new(format!("run `sh`: {cause}")))
            }
        }
    }

    /// The process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// How it ended, if it has.
    pub fn exited(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Sends it a signal, such as `TERM`.
    pub fn signal(&self, name: &str) -> Result<()> {
        let status = Command::new("kill").args([format!("-{name}"), self.child.id().to_string()]).status();
        match status.map_err(Error::doing("run `kill`"))?.success() {
            true => Ok(()),
            false => Err(Error::new(format!("no signal {name} for process {}", self.child.id()))),
        }
    }

    /// Waits until it has ended.
    pub fn wait(&mut self) -> Result<ExitStatus> {
        self.child.wait().map_err(Error::doing("wait for a process"))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // The child is waited for last: until then its id is its own, and the watcher cannot hit a stranger.
        drop(self.watcher.stdin.take());
        let _ = self.watcher.wait();
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

//! What a process has used, and where it may run.

use std::{
    fs,
    process::{Command, Stdio},
    time::Duration,
};

use crate::{Error, Result};

/// `sysconf(_SC_CLK_TCK)`, which is this on every Linux that we build for.
const TICKS_PER_SECOND: u64 = 100;

/// User and system time of all threads so far.
///
/// From `schedstat` of its threads where the kernel has it: the same sum as in `/proc/PID/stat`, in nanoseconds and not
/// in hundredths of a second.
pub fn cpu(pid: u32) -> Result<Duration> {
    match nanoseconds(pid) {
        Some(nanoseconds) => Ok(Duration::from_nanos(nanoseconds)),
        None => cpu_with_ended(pid),
    }
}

/// The same with that of threads that have ended, in hundredths of a second.
pub fn cpu_with_ended(pid: u32) -> Result<Duration> {
    let text = read(pid, "stat")?;
    let ticks = ticks(&text).ok_or_else(|| Error::new(format!("/proc/{pid}/stat: {text}")))?;
    Ok(Duration::from_millis(ticks * 1000 / TICKS_PER_SECOND))
}

fn nanoseconds(pid: u32) -> Option<u64> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).ok()?;
    let mut sum = 0u64;
    for task in tasks {
        let text = fs::read_to_string(task.ok()?.path().join("schedstat")).ok()?;
        sum += text.split(' ').next()?.parse::<u64>().ok()?;
    }
    Some(sum)
}

/// The 14th and 15th field, of which the second may hold anything in parentheses.
fn ticks(stat: &str) -> Option<u64> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_whitespace().skip(11).map(|field| field.parse::<u64>().ok());
    Some(fields.next()?? + fields.next()??)
}

/// Its resident memory, in bytes.
pub fn memory(pid: u32) -> Result<u64> {
    memory_line(pid, "VmRSS:")
}

/// The most resident memory that it has had, in bytes.
pub fn most_memory(pid: u32) -> Result<u64> {
    memory_line(pid, "VmHWM:")
}

fn memory_line(pid: u32, name: &str) -> Result<u64> {
    let text = read(pid, "status")?;
    let kilobytes = text.lines().find_map(|line| line.strip_prefix(name)?.split_whitespace().next()?.parse().ok());
    kilobytes.map(|kilobytes: u64| kilobytes * 1024).ok_or_else(|| Error::new(format!("no {name} of process {pid}")))
}

fn read(pid: u32, file: &str) -> Result<String> {
    let path = format!("/proc/{pid}/{file}");
    fs::read_to_string(&path).map_err(Error::doing(path))
}

/// Has all threads of a process, and those that they start, run on these cores only, such as `0` or `0,1`.
pub fn pin(pid: u32, cores: &str) -> Result<()> {
    let status = Command::new("taskset")
        .args(["--all-tasks", "--cpu-list", "--pid", cores, &pid.to_string()])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .status()
        .map_err(Error::doing("run `taskset`"))?;
    if status.success() { Ok(()) } else { Err(Error::new(format!("taskset cannot pin process {pid} to {cores}"))) }
}

/// Lets a process, and those that it starts, open so many files at a time.
pub fn allow_files(pid: u32, count: usize) -> Result<()> {
    let output = Command::new("prlimit")
        .args([format!("--pid={pid}"), format!("--nofile={count}:")])
        .stdin(Stdio::null())
        .output()
        .map_err(Error::doing("run `prlimit`"))?;
    match output.status.success() {
        true => Ok(()),
        false => {
            let why = String::from_utf8_lossy(&output.stderr);
            Err(Error::new(format!("process {pid} may not open {count} files: {}", why.trim())))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_times_stand_behind_a_name_that_may_hold_anything() {
        let stat = "17 (a) b) S 1 2 3 4 5 6 7 8 9 10 250 50 0 0 20 0";
        assert_eq!(ticks(stat), Some(300));
    }

    #[test]
    fn this_process_has_used_something() {
        assert!(cpu(std::process::id()).unwrap() > Duration::ZERO);
        assert!(memory(std::process::id()).unwrap() > 100_000);
    }
}

//! Checks of single values that several parts of the configuration use.

use crate::config::problem::Problem;
use crate::config::problem::Problems;
use crate::encoding::nearest::nearest;
use crate::http::host::Host;
use crate::jose::algorithm::Algorithm;

/// Whether `text` may be the value of a header that a configuration writes.
pub(super) fn is_header_value(text: &str) -> bool {
    !text.is_empty() && text.trim() == text && text.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ')
}

/// Checks that a configuration may use `name` for a header.
pub(crate) fn header_name(name: &str) -> Result<(), String> {
    let letters = name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'_'));
    let taken = ["authorization", "host", "connection", "transfer-encoding", "content-length", "content-type", "te"];
    if name.is_empty() || !letters {
        return Err(format!("`{name}` is not a lower-case header name"));
    }
    if taken.contains(&name) {
        return Err(format!("`{name}` is reserved"));
    }
    Ok(())
}

/// Whether `text` may be a quoted value of a challenge (RFC 6750 §3).
pub(crate) fn quotable(text: &str) -> bool {
    text.chars().all(|c| matches!(c, ' '..='~') && c != '"' && c != '\\')
}

/// The hosts of `texts`, in lower case.
pub(crate) fn hosts(texts: &[String], path: &str, problems: &mut Problems) -> Vec<String> {
    let mut hosts = Vec::new();
    for (index, text) in texts.iter().enumerate() {
        let place = format!("{path}[{index}]");
        match Host::parse(text.as_bytes()) {
            Ok(host) if host.as_str() == text => hosts.push(text.to_ascii_lowercase()),
            Ok(host) => {
                let message =
                    format!("must be written as `{}`: hosts are compared without port and final dot", host.as_str());
                problems.error(place, message);
            }
            Err(error) if text.contains('*') => {
                let problem = Problem::at(place, format!("`{text}` is {error}"));
                problems.errors.push(
                    problem.help("wildcards are not supported: name each host, or remove `hosts` to match every host"),
                );
            }
            Err(error) => problems.error(place, format!("`{text}` is {error}")),
        }
    }
    hosts
}

pub(crate) fn algorithms(names: &[String], path: &str, problems: &mut Problems) -> Vec<Algorithm> {
    if names.is_empty() {
        problems.error(path, "must name at least one algorithm");
    }
    let mut algorithms = Vec::new();
    for (at, name) in names.iter().enumerate() {
        match Algorithm::from_name(name) {
            Some(algorithm) => algorithms.push(algorithm),
            None => {
                let known = Algorithm::ALL.map(Algorithm::name);
                let help = match nearest(name, known) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => format!("known: {}", known.join(", ")),
                };
                let problem = Problem::at(format!("{path}[{at}]"), format!("`{name}` is not a supported algorithm"));
                problems.errors.push(problem.help(help));
            }
        }
    }
    algorithms
}

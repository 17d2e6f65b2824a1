//! The request for a page: its query, read strictly.

use std::time::Duration;
use taskfence_core::feed::entry::FORMAT;
use taskfence_core::feed::revision::Revision;

/// The hub holds no request for longer, whatever `wait` says.
pub const MAX_WAIT: Duration = Duration::from_secs(25);

const MAX_NONCE: usize = 64;

/// What a follower asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PageRequest {
    /// Its position: what comes after this is wanted.
    pub after: Revision,
    /// What it has applied. Only this acknowledges.
    pub applied: Revision,
    /// How long the answer may be held while there is nothing new.
    pub wait: Duration,
    /// To be repeated in the statement.
    pub nonce: Option<Box<str>>,
    /// The format of the entries: the highest that both sides know.
    pub format: u8,
    /// A part of a full state, from part 1 on.
    pub part: Option<(Revision, u32)>,
}

/// Why the query is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadRequest {
    /// A parameter is missing.
    #[error("the parameter `{0}` is missing")]
    Missing(&'static str),
    /// A parameter is unknown.
    #[error("there is no parameter `{0}`: the parameters are after, applied, wait, nonce, format, state and part")]
    Unknown(String),
    /// A parameter stands there twice.
    #[error("the parameter `{0}` stands there twice")]
    Twice(&'static str),
    /// A parameter has the wrong shape.
    #[error("`{name}` must be {shape}")]
    Shape {
        /// The parameter.
        name: &'static str,
        /// What it must be.
        shape: &'static str,
    },
    /// `state` or `part` stands alone.
    #[error("`state` and `part` belong together")]
    Half,
}

const REVISION: &str = "a revision: EPOCH.NUMBER.CHAIN, such as 4c1d9a5be0f32718.4821.09af3377c2d85b10";
const NAMES: [&str; 7] = ["after", "applied", "wait", "nonce", "format", "state", "part"];

impl PageRequest {
    /// Reads the query of the URI, without `?`.
    pub fn parse(query: &str) -> Result<PageRequest, BadRequest> {
        let mut values: [Option<&str>; 7] = [None; 7];
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let slot = NAMES.iter().zip(values.iter_mut()).find(|(known, _)| **known == name);
            let (name, slot) = slot.ok_or_else(|| BadRequest::Unknown(name.chars().take(40).collect()))?;
            if slot.replace(value).is_some() {
                return Err(BadRequest::Twice(name));
            }
        }
        let [after, applied, wait, nonce, format, state, part] = values;
        let wait = wait.map_or(Ok(0), |text| number("wait", text, "a number of seconds"))?;
        let format = match format.map_or(Ok(1), |text| number("format", text, "a number from 1"))? {
            0 => return Err(BadRequest::Shape { name: "format", shape: "a number from 1" }),
            asked => u8::try_from(asked).unwrap_or(u8::MAX).min(FORMAT),
        };
        let part = match (state, part) {
            (None, None) => None,
            (Some(state), Some(part)) => {
                let shape = "a number";
                let part = u32::try_from(number("part", part, shape)?);
                Some((revision("state", state)?, part.map_err(|_| BadRequest::Shape { name: "part", shape })?))
            }
            _ => return Err(BadRequest::Half),
        };
        Ok(PageRequest {
            after: revision("after", after.ok_or(BadRequest::Missing("after"))?)?,
            applied: revision("applied", applied.ok_or(BadRequest::Missing("applied"))?)?,
            wait: Duration::from_secs(wait).min(MAX_WAIT),
            nonce: nonce.map(read_nonce).transpose()?,
            format,
            part,
        })
    }
}

fn revision(name: &'static str, text: &str) -> Result<Revision, BadRequest> {
    text.parse().map_err(|_| BadRequest::Shape { name, shape: REVISION })
}

fn number(name: &'static str, text: &str, shape: &'static str) -> Result<u64, BadRequest> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten().ok_or(BadRequest::Shape { name, shape })
}

fn read_nonce(text: &str) -> Result<Box<str>, BadRequest> {
    let plain = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'));
    let shape = "1 to 64 letters, digits, `-` and `_`";
    let fits = plain && (1..=MAX_NONCE).contains(&text.len());
    fits.then(|| text.into()).ok_or(BadRequest::Shape { name: "nonce", shape })
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: &str = "0000000000000000.0.0000000000000000";

    #[test]
    fn a_query_is_read() {
        let query = format!("after={START}&applied={START}&wait=90&nonce=a-B_9&format=200&state={START}&part=3");
        let request = PageRequest::parse(&query).unwrap();
        assert_eq!((request.wait, request.format), (MAX_WAIT, FORMAT), "no more than the hub allows and knows");
        assert_eq!((request.nonce.as_deref(), request.part), (Some("a-B_9"), Some((Revision::START, 3))));
        let least = PageRequest::parse(&format!("after={START}&applied={START}")).unwrap();
        assert_eq!((least.wait, least.format, least.nonce, least.part), (Duration::ZERO, 1, None, None));
    }

    #[test]
    fn what_is_odd_is_refused_with_a_reason() {
        let base = format!("after={START}&applied={START}");
        let refused = |query: &str| PageRequest::parse(query).unwrap_err().to_string();
        assert_eq!(refused(""), "the parameter `after` is missing");
        assert_eq!(refused(&format!("after={START}")), "the parameter `applied` is missing");
        assert_eq!(refused(&format!("{base}&wait=1&wait=2")), "the parameter `wait` stands there twice");
        assert_eq!(refused(&format!("{base}&wait=-1")), "`wait` must be a number of seconds");
        assert_eq!(refused(&format!("{base}&wait=1.5")), "`wait` must be a number of seconds");
        assert_eq!(refused(&format!("{base}&wait")), "`wait` must be a number of seconds");
        assert_eq!(refused(&format!("{base}&format=0")), "`format` must be a number from 1");
        assert_eq!(refused(&format!("{base}&part=1")), "`state` and `part` belong together");
        assert_eq!(refused(&format!("{base}&nonce=")), "`nonce` must be 1 to 64 letters, digits, `-` and `_`");
        assert_eq!(refused(&format!("{base}&nonce=%00")), "`nonce` must be 1 to 64 letters, digits, `-` and `_`");
        assert!(refused("after=0&applied=0").starts_with("`after` must be a revision: EPOCH.NUMBER.CHAIN"));
        assert!(refused(&format!("{base}&x=1")).starts_with("there is no parameter `x`"));
    }
}

//! What a follower tells the hub about itself, in the header `taskfence-follower` of each request.

use crate::feed::position::Position;
use crate::policy::policy::Policy;
use crate::rules::mode::Mode;
use crate::signal::hub_source::HubSource;
use serde::Serialize;

/// The name of the header.
pub const HEADER: &str = "taskfence-follower";

/// What the proxy knows about itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Proxy {
    /// The name of the proxy: `node.id` of Envoy.
    pub node: String,
    /// `enforce` or `shadow`.
    pub mode: String,
    /// The version of the filter.
    pub version: String,
}

/// The clock and the room of a follower.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Condition {
    /// How far the clock of the proxy is ahead of the hub's, in milliseconds.
    pub skew_ms: i64,
    /// How many buckets had no room for an entry.
    pub saturated: u64,
}

/// What `mode` of the report is: `enforce` if some refusals are answered, `shadow` if all are only recorded.
pub fn mode(policy: &Policy) -> &'static str {
    match policy.mode_of_unreadable() {
        Mode::Enforce => "enforce",
        Mode::Shadow => "shadow",
    }
}

#[derive(Serialize)]
struct Report<'r> {
    id: String,
    node: &'r str,
    mode: &'r str,
    config: &'r str,
    stale_after: Option<u64>,
    skew_ms: i64,
    saturated: u64,
    version: &'r str,
    kids: Vec<&'r str>,
}

/// The value of the header: JSON, in ASCII.
pub fn report(source: &HubSource, proxy: &Proxy, position: &Position, condition: Condition) -> String {
    let report = Report {
        id: position.follower_text(),
        node: &proxy.node,
        mode: &proxy.mode,
        config: &source.config_hash,
        stale_after: source.closes_after.map(|span| span.0),
        skew_ms: condition.skew_ms,
        saturated: condition.saturated,
        version: &proxy.version,
        kids: source.keys.iter().filter_map(|key| key.kid()).collect(),
    };
    // A struct of strings and numbers always has a JSON form.
    ascii(&serde_json::to_string(&report).unwrap_or_default())
}

/// Writes what is not ASCII as escapes (RFC 8259 §7): a header holds nothing else.
fn ascii(json: &str) -> String {
    let mut text = String::with_capacity(json.len());
    for character in json.chars() {
        if character.is_ascii() {
            text.push(character);
        } else {
            let mut units = [0; 2];
            character.encode_utf16(&mut units).iter().for_each(|unit| text.push_str(&format!("\\u{unit:04x}")));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::ascii;

    #[test]
    fn a_header_is_ascii() {
        let json = serde_json::to_string("Grüße 𝄞 \n").unwrap();
        let text = ascii(&json);
        assert!(text.bytes().all(|byte| (b' '..0x7f).contains(&byte)), "{text}");
        assert_eq!(serde_json::from_str::<String>(&text).unwrap(), "Grüße 𝄞 \n");
    }
}

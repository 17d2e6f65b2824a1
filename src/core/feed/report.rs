//! What a follower tells the hub about itself, in the header `taskfence-follower` of each request.

use crate::feed::position::Position;
use crate::policy::policy::Policy;
use crate::rules::mode::Mode;
use crate::signal::hub_source::HubSource;
use crate::time::Span;
use serde::Serialize;

/// The name of the header.
pub const HEADER: &str = "taskfence-follower";

/// What the proxy knows about itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Proxy {
    /// The name of the proxy: `node.id` of Envoy.
    pub node: String,
    /// The version of the filter.
    pub version: String,
}

/// How soon a filter refuses requests that its state is too old for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Closing {
    /// Whether it only records its refusals.
    pub is_shadow: bool,
    /// `closes_after` of its [`HubSource`].
    pub after: Option<Span>,
}

impl Closing {
    /// Of a filter with that policy, if it follows a hub.
    pub fn of(policy: &Policy) -> Option<Closing> {
        let is_shadow = policy.mode_of_unreadable() == Mode::Shadow;
        policy.signals().hub().map(|hub| Closing { is_shadow, after: hub.closes_after })
    }

    /// When both have closed: the later of the two. Several filters of one proxy may follow one feed, with one position, and
    /// one of them reports for all.
    #[must_use]
    pub fn and(self, other: Closing) -> Closing {
        let after = self.after.zip(other.after).map(|(one, other)| one.max(other));
        Closing { is_shadow: self.is_shadow || other.is_shadow, after }
    }

    /// `mode` of the report: `shadow` if some filter only records its refusals.
    fn mode(self) -> &'static str {
        if self.is_shadow { "shadow" } else { "enforce" }
    }
}

/// The clock and the room of a follower.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Condition {
    /// How far the clock of the proxy is ahead of the hub's, in milliseconds.
    pub skew_ms: i64,
    /// How many buckets had no room for an entry.
    pub saturated: u64,
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

/// The value of the header: JSON, in ASCII. `closing` is that of all filters of the proxy that follow the feed.
pub fn report(
    source: &HubSource,
    proxy: &Proxy,
    closing: Closing,
    position: &Position,
    condition: Condition,
) -> String {
    let report = Report {
        id: position.follower_text(),
        node: &proxy.node,
        mode: closing.mode(),
        config: &source.config_hash,
        stale_after: closing.after.map(|span| span.0),
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
    use super::{Closing, ascii};
    use crate::time::Span;

    #[test]
    fn filters_of_one_proxy_have_closed_when_the_last_has() {
        let filter = |is_shadow, after: Option<u64>| Closing { is_shadow, after: after.map(Span) };
        let soon = filter(false, Some(10));
        assert_eq!(soon.and(filter(false, Some(3_600))), filter(false, Some(3_600)));
        assert_eq!(filter(false, None).and(soon), filter(false, None));
        assert_eq!(soon.and(filter(true, Some(5))), filter(true, Some(10)));
        assert_eq!((soon.mode(), filter(true, None).mode()), ("enforce", "shadow"));
    }

    #[test]
    fn a_header_is_ascii() {
        let json = serde_json::to_string("Grüße 𝄞 \n").unwrap();
        let text = ascii(&json);
        assert!(text.bytes().all(|byte| (b' '..0x7f).contains(&byte)), "{text}");
        assert_eq!(serde_json::from_str::<String>(&text).unwrap(), "Grüße 𝄞 \n");
    }
}

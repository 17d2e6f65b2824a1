//! What a follower says about itself: the header `taskfence-follower`.
//!
//! Only `id` must be right. A later filter may report more, or in another shape, and must still be served: a member that
//! cannot be read counts as absent, and what is long is cut.

use serde_json::{Map, Value, json};

/// The header.
pub const HEADER: &str = "taskfence-follower";

/// The header has at most this many bytes.
pub const MAX_REPORT: usize = 4096;

/// A follower that closes itself only after a longer time than this counts as one that never does, in seconds: what it
/// reports decides how long it is waited for.
pub const MAX_STALE: u64 = 24 * 3_600;

const MAX_TEXT: usize = 128;
const MAX_KIDS: usize = 8;

/// What a follower reports.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// Its random id: 8 to 64 letters, digits, `-` and `_`.
    pub id: Box<str>,
    /// The node of the proxy.
    pub node: Box<str>,
    /// `enforce` or `shadow`.
    pub mode: Box<str>,
    /// A hash of its configuration.
    pub config: Box<str>,
    /// The version of the module.
    pub version: Box<str>,
    /// After how many seconds without the hub it refuses requests. `None`: never, or later than after a day.
    pub stale_after: Option<u64>,
    /// How far its clock is ahead of that of the hub, in milliseconds.
    pub skew_ms: Option<i64>,
    /// How many of its buckets are saturated.
    pub saturated: u64,
    /// The keys that it knows.
    pub kids: Box<[Box<str>]>,
}

/// Why a header is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadReport {
    /// It is too long.
    #[error("the header `{HEADER}` has more than {MAX_REPORT} bytes")]
    Long,
    /// Not a JSON object.
    #[error("the header `{HEADER}` is not a JSON object")]
    Json,
    /// There is no usable id.
    #[error("`id` in the header `{HEADER}` must be 8 to 64 letters, digits, `-` and `_`")]
    Id,
}

impl Report {
    /// Reads the header.
    pub fn parse(header: &[u8]) -> Result<Report, BadReport> {
        if header.len() > MAX_REPORT {
            return Err(BadReport::Long);
        }
        Report::parse_stored(header)
    }

    /// Reads the stored form, which has every member and may be longer than the header was.
    pub fn parse_stored(json: &[u8]) -> Result<Report, BadReport> {
        let value: Value = serde_json::from_slice(json).map_err(|_| BadReport::Json)?;
        Report::read(value.as_object().ok_or(BadReport::Json)?)
    }

    fn read(members: &Map<String, Value>) -> Result<Report, BadReport> {
        let id = members.get("id").and_then(Value::as_str).filter(|id| is_id(id)).ok_or(BadReport::Id)?;
        let text = |name| short(members.get(name).and_then(Value::as_str).unwrap_or_default());
        let kids = members.get("kids").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        let saturated = match members.get("saturated") {
            Some(Value::Array(buckets)) => u64::try_from(buckets.len()).unwrap_or(u64::MAX),
            Some(Value::Bool(any)) => u64::from(*any),
            other => other.and_then(Value::as_u64).unwrap_or(0),
        };
        Ok(Report {
            id: id.into(),
            node: text("node"),
            mode: text("mode"),
            config: text("config"),
            version: text("version"),
            stale_after: members.get("stale_after").and_then(Value::as_u64).filter(|seconds| *seconds <= MAX_STALE),
            skew_ms: members.get("skew_ms").and_then(Value::as_i64),
            saturated,
            kids: kids.iter().filter_map(Value::as_str).take(MAX_KIDS).map(short).collect(),
        })
    }

    /// Whether it only watches: then nothing closes it.
    pub fn is_shadow(&self) -> bool {
        &*self.mode == "shadow"
    }

    /// The node, or the id of a follower that reports none.
    pub fn name(&self) -> &str {
        if self.node.is_empty() { &self.id } else { &self.node }
    }

    /// The report as JSON, for the store and for people.
    pub fn to_json(&self) -> Value {
        json!({
            "id": self.id, "node": self.node, "mode": self.mode, "config": self.config, "version": self.version,
            "stale_after": self.stale_after, "skew_ms": self.skew_ms, "saturated": self.saturated, "kids": self.kids,
        })
    }
}

pub(crate) fn is_id(id: &str) -> bool {
    (8..=64).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
}

fn short(text: &str) -> Box<str> {
    text.chars().filter(|c| !c.is_control()).take(MAX_TEXT).collect::<String>().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn only_the_id_must_be_right() {
        let full = r#"{"id":"abcdefgh","node":"n","mode":"shadow","config":"c","version":"1","stale_after":90,
            "skew_ms":-4,"saturated":[1,2],"kids":["k",7],"more":{}}"#;
        let report = Report::parse(full.as_bytes()).unwrap();
        assert!(report.is_shadow());
        assert_eq!((report.stale_after, report.skew_ms, report.saturated), (Some(90), Some(-4), 2));
        assert_eq!(&*report.kids, ["k".into()]);
        assert_eq!(Report::parse(report.to_json().to_string().as_bytes()), Ok(report), "the stored form is read again");
        let odd = r#"{"id":"abcdefgh","node":7,"stale_after":"soon","kids":"k"}"#;
        assert_eq!(Report::parse(odd.as_bytes()).unwrap(), Report { id: "abcdefgh".into(), ..Report::default() });
        for (bad, error) in [("", BadReport::Json), ("[]", BadReport::Json), ("{}", BadReport::Id)] {
            assert_eq!(Report::parse(bad.as_bytes()), Err(error));
        }
        assert_eq!(Report::parse(br#"{"id":"a b c d e f"}"#), Err(BadReport::Id));
        assert_eq!(Report::parse(&[b' '; MAX_REPORT + 1]), Err(BadReport::Long));
        let never = Report::parse(br#"{"id":"abcdefgh","stale_after":18446744073709551615}"#).unwrap();
        assert_eq!(never.stale_after, None, "it would be waited for for ever");
    }

    #[test]
    fn what_was_reported_at_full_length_is_known_after_a_restart() {
        let text = "\u{10348}".repeat(MAX_TEXT);
        let texts = json!({"id": "a".repeat(64), "node": text, "mode": text, "config": text, "version": text});
        let mut header = texts.to_string();
        header.pop();
        header.push_str(",\"kids\":[\"\"");
        while MAX_REPORT - header.len() > 10 {
            let count = ((MAX_REPORT - header.len() - 6) / 4).min(MAX_TEXT);
            header.push_str(&format!(",\"{}\"", "\u{10348}".repeat(count)));
        }
        header.push_str("]}");
        let report = Report::parse(header.as_bytes()).unwrap();
        let stored = report.to_json().to_string();
        assert!(stored.len() > MAX_REPORT);
        assert_eq!(Report::parse_stored(stored.as_bytes()), Ok(report));
    }

    proptest! {
        #[test]
        fn no_header_panics_and_what_is_kept_is_bounded(bytes in proptest::collection::vec(any::<u8>(), 0..200), node in ".{0,300}") {
            _ = Report::parse(&bytes);
            let header = json!({"id": "abcdefgh", "node": node}).to_string();
            prop_assert!(Report::parse(header.as_bytes()).unwrap().node.chars().count() <= MAX_TEXT);
        }
    }
}

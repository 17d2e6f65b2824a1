//! Makes texts from outside safe to print: one line, without control characters.

use std::fmt::Write as _;

use taskfence_core::time::Timestamp;

/// `text` with every character escaped that is not printable.
pub fn printable(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '"' | '\'' | '\\' => shown.push(c),
            other => shown.extend(other.escape_debug()),
        }
    }
    shown
}

/// JSON as one line in which every character is printable, and that means the same: another character is written as JSON
/// escapes it (RFC 8259 section 7), in UTF-16.
pub fn printable_json(json: &serde_json::Value) -> String {
    let mut shown = String::new();
    for c in json.to_string().chars() {
        if printable(c.encode_utf8(&mut [0; 4])).starts_with(c) {
            shown.push(c);
            continue;
        }
        for unit in c.encode_utf16(&mut [0; 2]) {
            // Writing to a string cannot fail.
            let _ = write!(shown, "\\u{unit:04x}");
        }
    }
    shown
}

/// The same for bytes that may not be UTF-8: invalid bytes are written as `\xE9`.
pub fn printable_bytes(bytes: &[u8]) -> String {
    let mut shown = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        shown.push_str(&printable(chunk.valid()));
        for byte in chunk.invalid() {
            // Writing to a string cannot fail.
            let _ = write!(shown, "\\x{byte:02X}");
        }
    }
    shown
}

/// A point in time, as RFC 3339 writes it.
pub fn time(at: Timestamp) -> String {
    let seconds = i64::try_from(at.0).ok().and_then(|seconds| jiff::Timestamp::from_second(seconds).ok());
    seconds.map_or_else(|| at.0.to_string(), |time| time.to_string())
}

/// A point in time in milliseconds since 1970, as RFC 3339 writes it, with its milliseconds.
pub fn time_ms(ms: u64) -> String {
    let at = i64::try_from(ms).ok().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
    at.map_or_else(|| ms.to_string(), |at| format!("{at:.3}"))
}

/// The same without its milliseconds.
pub fn time_s(ms: u64) -> String {
    time(Timestamp(ms / 1000))
}

/// A point in time and how far from `now` that is.
pub fn time_from(at: Timestamp, now: Timestamp) -> String {
    let distance = match at.cmp(&now) {
        std::cmp::Ordering::Less => format!("{} ago", now.since(at)),
        std::cmp::Ordering::Equal => "now".to_owned(),
        std::cmp::Ordering::Greater => format!("in {}", at.since(now)),
    };
    format!("{}, {distance}", time(at))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn printable_json_means_the_same() {
        let value = json!({"type": "a\"b\\", "identifier": "e\u{301}\u{202e}\u{1f511}\u{e0001}\n", "é": ["x y"]});
        let shown = printable_json(&value);
        assert_eq!(serde_json::from_str::<serde_json::Value>(&shown).unwrap(), value, "{shown}");
        assert_eq!(printable(&shown), shown);
        assert!(shown.contains("\\u202e") && shown.contains("\\udb40\\udc01") && shown.contains("é"), "{shown}");
    }

    #[test]
    fn nothing_steers_a_terminal() {
        assert_eq!(printable("a\u{1b}[31m\r\n\u{202e}é\"'\\"), "a\\u{1b}[31m\\r\\n\\u{202e}é\"'\\");
        assert_eq!(printable_bytes(b"caf\xe9/\xc3\xa9"), "caf\\xE9/é");
    }

    #[test]
    fn times_say_how_far_away_they_are() {
        let now = Timestamp(1_790_000_000);
        assert_eq!(time_from(Timestamp(1_790_000_090), now), "2026-09-21T14:14:50Z, in 1m 30s");
        assert_eq!(time_from(Timestamp(1_789_996_400), now), "2026-09-21T13:13:20Z, 1h ago");
        assert_eq!(time_from(now, now), "2026-09-21T14:13:20Z, now");
        assert_eq!(time(Timestamp(u64::MAX)), u64::MAX.to_string());
        assert_eq!(time_ms(1_790_000_000_007), "2026-09-21T14:13:20.007Z");
        assert_eq!(time_s(1_790_000_000_007), "2026-09-21T14:13:20Z");
        assert_eq!(time_ms(u64::MAX), u64::MAX.to_string());
    }
}

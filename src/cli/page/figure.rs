//! Figures as people read them.

use std::time::Duration;

use taskfence_core::time::Timestamp;

use crate::terminal::text::time;

/// What stands where nothing is known.
pub const NOTHING: &str = "–";

/// `1234567` -> `1,234,567`.
pub fn count(number: u64) -> String {
    let digits = number.to_string();
    let first = digits.len().checked_rem(3).unwrap_or_default();
    let mut shown = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && at.checked_rem(3) == Some(first) {
            shown.push(',');
        }
        shown.push(digit);
    }
    shown
}

/// `count` with the noun that fits: `1 grant`, `2 grants`.
pub fn counted(number: u64, one: &str, many: &str) -> String {
    format!("{} {}", count(number), if number == 1 { one } else { many })
}

/// A share from 0 to 1: `37%`, `0.4%`.
pub fn share(share: Option<f64>) -> String {
    let Some(share) = share.filter(|share| share.is_finite()) else { return NOTHING.to_owned() };
    let percent = share * 100.0;
    // A share that is not nothing is not shown as nothing, and one that is not all not as all.
    if percent > 0.0 && percent < 0.1 {
        "<0.1%".to_owned()
    } else if percent < 10.0 && percent.fract() != 0.0 || percent > 99.0 && percent < 100.0 {
        format!("{percent:.1}%")
    } else {
        format!("{percent:.0}%")
    }
}

/// `part` of `whole`, as a share.
pub fn share_of(part: u64, whole: u64) -> String {
    share((whole > 0).then(|| float(part) / float(whole)))
}

/// A span in seconds, with its two largest units: `0.35 s`, `12 s`, `2 h 5 min`, `3 d`.
pub fn span(seconds: Option<f64>) -> String {
    let Some(span) = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok()) else {
        return NOTHING.to_owned();
    };
    if span.is_zero() {
        return "0 s".to_owned();
    }
    if span < Duration::from_millis(9_950) {
        let seconds = format!("{:.2}", span.as_secs_f64());
        let seconds = seconds.trim_end_matches('0').trim_end_matches('.');
        return if seconds == "0" { "<0.01 s".to_owned() } else { format!("{seconds} s") };
    }
    let whole = span.as_secs().saturating_add(u64::from(span.subsec_millis() >= 500));
    let units = [(86_400, "d"), (3_600, "h"), (60, "min"), (1, "s")];
    let largest = units.iter().position(|(unit, _)| whole >= *unit).unwrap_or_default();
    let (mut left, mut shown) = (whole, Vec::new());
    for (unit, name) in units.iter().skip(largest).take(2) {
        let many = left.checked_div(*unit).unwrap_or_default();
        left = left.checked_rem(*unit).unwrap_or_default();
        if many > 0 {
            shown.push(format!("{} {name}", count(many)));
        }
    }
    shown.join(" ")
}

/// A time in milliseconds since 1970: `2026-11-28 18:25:41`, in UTC. 0 is no time.
pub fn moment(at: u64) -> String {
    if at == 0 {
        return NOTHING.to_owned();
    }
    let shown = time(Timestamp(at.checked_div(1_000).unwrap_or_default()));
    shown.replacen('T', " ", 1).trim_end_matches('Z').to_owned()
}

/// A count as a number that can be drawn; from 2^32 on it is 2^32 - 1.
pub fn float(count: u64) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_have_separators() {
        let shown = [0, 12, 123, 1_234, 123_456, 1_234_567].map(count);
        assert_eq!(shown, ["0", "12", "123", "1,234", "123,456", "1,234,567"]);
        assert_eq!(counted(1, "grant", "grants"), "1 grant");
        assert_eq!(counted(0, "grant", "grants"), "0 grants");
    }

    #[test]
    fn a_share_is_rounded_to_neither_nothing_nor_all() {
        let shown = [0.0, 0.0004, 0.004, 0.05, 0.37, 0.996, 1.0].map(|part| share(Some(part)));
        assert_eq!(shown, ["0%", "<0.1%", "0.4%", "5%", "37%", "99.6%", "100%"]);
        assert_eq!(share(None), NOTHING);
        assert_eq!(share_of(1, 4), "25%");
        assert_eq!(share_of(0, 0), NOTHING);
    }

    #[test]
    fn spans_have_two_units() {
        let shown = [0.0, 0.001, 0.35, 9.0, 12.4, 60.0, 3_725.0, 7_500.0, 259_200.0, 98_000_000.0];
        let shown = shown.map(|seconds| span(Some(seconds)));
        let expected =
            ["0 s", "<0.01 s", "0.35 s", "9 s", "12 s", "1 min", "1 h 2 min", "2 h 5 min", "3 d", "1,134 d 6 h"];
        assert_eq!(shown, expected);
        for odd in [None, Some(f64::NAN), Some(-1.0), Some(f64::INFINITY)] {
            assert_eq!(span(odd), NOTHING);
        }
    }

    #[test]
    fn times_are_in_utc() {
        assert_eq!(moment(1_790_000_000_999), "2026-09-21 14:13:20");
        assert_eq!(moment(0), NOTHING);
    }
}

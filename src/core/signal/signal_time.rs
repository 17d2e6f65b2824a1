//! Times in a SET: seconds with or without a fraction (`NumericDate`, RFC 7519 §2). Milliseconds and ISO 8601 are not
//! valid there but have only one meaning, so they are accepted.

use crate::time::Timestamp;
use serde_json::{Number, Value};
use std::time::SystemTime;

/// A number above this is in milliseconds: as seconds it would be after the year 5000.
const MILLISECONDS: f64 = 1e11;

/// A time as the SET states it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stated {
    /// The whole seconds, rounded down.
    pub floor: Timestamp,
    /// The whole seconds, rounded up.
    pub ceil: Timestamp,
    /// The form in which it is written.
    pub form: Form,
}

/// The form in which a time is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// A JSON number of seconds.
    Seconds,
    /// A JSON number of milliseconds, as drafts of CAEP had it.
    Milliseconds,
    /// A string.
    Text,
}

/// Reads a time. `None` when it is not a time after 1970 and up to [`Timestamp::MAX`]. Zero is not accepted: it is the
/// value of a field that was never set.
pub(crate) fn read(value: &Value) -> Option<Stated> {
    match value {
        Value::Number(number) => match number.as_u64() {
            Some(seconds) if seconds > 0 && Timestamp(seconds) <= Timestamp::MAX => {
                Some(Stated { floor: Timestamp(seconds), ceil: Timestamp(seconds), form: Form::Seconds })
            }
            _ => from_number(number.as_f64()?),
        },
        Value::String(text) => from_text(text.trim()),
        _ => None,
    }
}

fn from_number(number: f64) -> Option<Stated> {
    let (seconds, form) = match number > MILLISECONDS {
        true => (number / 1e3, Form::Milliseconds),
        false => (number, Form::Seconds),
    };
    let whole = |seconds: f64| {
        // Formatted and parsed again: a conversion with `as` would hide overflow.
        let time = format!("{seconds:.0}").parse().ok().map(Timestamp)?;
        (time <= Timestamp::MAX).then_some(time)
    };
    let (floor, ceil) = (whole(seconds.floor())?, whole(seconds.ceil())?);
    (seconds > 0.0).then_some(Stated { floor, ceil, form })
}

fn from_text(text: &str) -> Option<Stated> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    let stated = match is_number {
        // The JSON number parser is in the module anyway; that of the standard library would make the module larger.
        true => from_number(serde_json::from_str::<Number>(text).ok()?.as_f64()?)?,
        false => from_iso(text)?,
    };
    Some(Stated { form: Form::Text, ..stated })
}

/// ISO 8601 in the form of RFC 3339; a space instead of `T` and a missing zone (UTC) are accepted.
fn from_iso(text: &str) -> Option<Stated> {
    let (date, clock) = text.split_once(['T', 't', ' '])?;
    let zone = clock.find(['Z', 'z', '+', '-']).unwrap_or(clock.len());
    let (clock, zone) = clock.split_at_checked(zone)?;
    let (clock, fraction) = clock.split_once(['.', ',']).unwrap_or((clock, ""));
    if !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let time = humantime::parse_rfc3339_weak(&format!("{date} {clock}")).ok()?;
    let local = i64::try_from(time.duration_since(SystemTime::UNIX_EPOCH).ok()?.as_secs()).ok()?;
    let seconds = u64::try_from(local.checked_sub(offset(zone)?)?).ok()?;
    let part = u64::from(fraction.bytes().any(|byte| byte != b'0'));
    let (floor, ceil) = (Timestamp(seconds), Timestamp(seconds.checked_add(part)?));
    (seconds > 0 && ceil <= Timestamp::MAX).then_some(Stated { floor, ceil, form: Form::Text })
}

/// How many seconds a zone such as `Z`, `+02:00` or `-0730` lies ahead of UTC.
fn offset(zone: &str) -> Option<i64> {
    let (sign, digits) = match zone.split_at_checked(1) {
        None => return Some(0),
        Some(("Z" | "z", "")) => return Some(0),
        Some(("+", digits)) => (1, digits),
        Some(("-", digits)) => (-1, digits),
        Some(_) => return None,
    };
    let digits = digits.replacen(':', "", 1);
    if digits.len() != 4 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let number = digits.parse::<i64>().ok()?;
    let (hours, minutes) = (number.checked_div(100)?, number.checked_rem(100)?);
    let seconds = hours.checked_mul(3600)?.checked_add(minutes.checked_mul(60)?)?;
    (hours < 24 && minutes < 60).then_some(())?;
    seconds.checked_mul(sign)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn each_spelling_is_one_time() {
        let both = |floor: u64, ceil: u64, form| Some(Stated { floor: Timestamp(floor), ceil: Timestamp(ceil), form });
        for (value, stated) in [
            (json!(1_790_000_000), both(1_790_000_000, 1_790_000_000, Form::Seconds)),
            (json!(1_790_000_000.0), both(1_790_000_000, 1_790_000_000, Form::Seconds)),
            (json!(1_790_000_000.25), both(1_790_000_000, 1_790_000_001, Form::Seconds)),
            (json!(0.5), both(0, 1, Form::Seconds)),
            (json!(1_790_000_000_000u64), both(1_790_000_000, 1_790_000_000, Form::Milliseconds)),
            (json!(1_790_000_000_123u64), both(1_790_000_000, 1_790_000_001, Form::Milliseconds)),
            (json!(1_790_000_000_123.5), both(1_790_000_000, 1_790_000_001, Form::Milliseconds)),
            (json!("1790000000"), both(1_790_000_000, 1_790_000_000, Form::Text)),
            (json!("1790000000123"), both(1_790_000_000, 1_790_000_001, Form::Text)),
            (json!("2026-09-21T13:33:20Z"), both(1_789_997_600, 1_789_997_600, Form::Text)),
            (json!("2026-09-21t13:33:20z"), both(1_789_997_600, 1_789_997_600, Form::Text)),
            (json!("2026-09-21 13:33:20"), both(1_789_997_600, 1_789_997_600, Form::Text)),
            (json!("2026-09-21T13:33:20.5Z"), both(1_789_997_600, 1_789_997_601, Form::Text)),
            (json!("2026-09-21T13:33:20.000Z"), both(1_789_997_600, 1_789_997_600, Form::Text)),
            (json!("2026-09-21T15:33:20+02:00"), both(1_789_997_600, 1_789_997_600, Form::Text)),
            (json!("2026-09-21T06:03:20.123-0730"), both(1_789_997_600, 1_789_997_601, Form::Text)),
        ] {
            assert_eq!(read(&value), stated, "{value}");
        }
    }

    #[test]
    fn what_is_no_time_is_none() {
        for value in [
            json!(null),
            json!(0),
            json!(-1),
            json!(-0.5),
            json!(4_294_967_296u64),
            json!(99_999_999_999u64),
            json!(1e300),
            json!(true),
            json!([1_790_000_000]),
            json!({}),
            json!(""),
            json!("now"),
            json!("NaN"),
            json!("inf"),
            json!("1e9"),
            json!("2026-09-21"),
            json!("2026-13-21T13:33:20Z"),
            json!("2026-09-21T13:33:20+25:00"),
            json!("2026-09-21T13:33:20+02"),
            json!("2026-09-21T13:33:20.xZ"),
            json!("1969-12-31T23:59:59Z"),
        ] {
            assert_eq!(read(&value), None, "{value}");
        }
    }

    proptest! {
        #[test]
        fn never_panics(text in "\\PC{0,40}", number in any::<f64>()) {
            let _ = read(&json!(text));
            let _ = read(&json!(number));
        }

        #[test]
        fn near_times_never_panic(text in "[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9]{2}:[0-9]{2}:[0-9]{2}([.,][0-9]{0,9})?([Zz+-][0-9:]{0,5})?") {
            if let Some(stated) = read(&json!(text)) {
                prop_assert!(stated.floor <= stated.ceil && stated.ceil <= Timestamp::MAX);
            }
        }
    }
}

//! Points in time and lengths of time, in whole seconds. No code here reads a clock: the time is always an argument.

use serde::{Deserialize, Deserializer, de};
use serde_json::Value;
use std::fmt;

/// Seconds since 1970-01-01T00:00:00Z, leap seconds ignored (`NumericDate`, RFC 7519 §2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(pub u64);

impl Timestamp {
    /// The latest time that is accepted in a token or a signal: 2106-02-07. A higher number is in milliseconds, or an
    /// attack.
    pub const MAX: Timestamp = Timestamp(4_294_967_295);

    /// A time in whole seconds. `None` for a string, a fraction, a negative number, or a time above [`Timestamp::MAX`].
    pub fn from_claim(value: &Value) -> Option<Timestamp> {
        value.as_u64().map(Timestamp).filter(|time| *time <= Timestamp::MAX)
    }

    /// The time `span` after this one.
    pub fn plus(self, span: Span) -> Timestamp {
        Timestamp(self.0.saturating_add(span.0))
    }

    /// The time that has passed since `earlier`; zero if `earlier` is later.
    pub fn since(self, earlier: Timestamp) -> Span {
        Span(self.0.saturating_sub(earlier.0))
    }
}

/// A `NumericDate` (RFC 7519 §2): a JSON number of seconds, possibly with a fraction, rounded down. Use it where the
/// earlier second is stricter: when something ends (`exp`), and when something began (`iat`, `auth_time`, the age of a
/// proof).
///
/// `None` for anything but a number, for a negative number, and for one above [`Timestamp::MAX`].
pub fn numeric_date(value: &Value) -> Option<Timestamp> {
    whole_seconds(value, f64::floor)
}

/// A [`numeric_date`], rounded up. Use it where the later second is stricter: before this time something is not valid
/// yet (`nbf`, an `iat` in the future).
pub fn numeric_date_up(value: &Value) -> Option<Timestamp> {
    whole_seconds(value, f64::ceil)
}

fn whole_seconds(value: &Value, round: impl Fn(f64) -> f64) -> Option<Timestamp> {
    let whole = match value.as_u64() {
        Some(whole) => whole,
        // Negative numbers are refused before rounding: -0.5 must not become 0.
        None => {
            let number = value.as_f64().filter(|number| *number >= 0.0)?;
            std::time::Duration::try_from_secs_f64(round(number)).ok()?.as_secs()
        }
    };
    Some(Timestamp(whole)).filter(|time| *time <= Timestamp::MAX)
}

/// A length of time in seconds. The configuration writes it as a string such as `90s`, `15m`, `1h 30m`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Span(pub u64);

impl Span {
    /// `hours` hours.
    pub const fn hours(hours: u64) -> Span {
        Span(hours.saturating_mul(3600))
    }

    /// `minutes` minutes.
    pub const fn minutes(minutes: u64) -> Span {
        Span(minutes.saturating_mul(60))
    }

    /// The sum of both.
    pub fn plus(self, other: Span) -> Span {
        Span(self.0.saturating_add(other.0))
    }
}

#[cfg(feature = "schema")]
impl schemars::JsonSchema for Span {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Span".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "string",
            "description": "A length of time in whole seconds or longer units, such as `30s`, `15m` or `1h 30m`.",
            "pattern": r"^\s*\d+\s*[a-zA-Z]+(\s*\d+\s*[a-zA-Z]+)*\s*$"
        })
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", humantime::format_duration(std::time::Duration::from_secs(self.0)))
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;

        impl de::Visitor<'_> for Text {
            type Value = Span;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a length of time such as \"30s\", \"15m\" or \"1h\"")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Span, E> {
                let length = humantime::parse_duration(text).map_err(|_| {
                    E::custom(format_args!("`{text}` is not a length of time such as `30s`, `15m` or `1h`"))
                })?;
                if length.subsec_nanos() != 0 {
                    return Err(E::custom(format_args!("`{text}` is not a whole number of seconds")));
                }
                Ok(Span(length.as_secs()))
            }
        }

        deserializer.deserialize_str(Text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn claims_are_whole_seconds() {
        assert_eq!(Timestamp::from_claim(&json!(1_790_000_000)), Some(Timestamp(1_790_000_000)));
        for bad in [json!("1790000000"), json!(1.5), json!(1e9), json!(-1), json!(null), json!(1_790_000_000_000u64)] {
            assert_eq!(Timestamp::from_claim(&bad), None, "{bad}");
        }
    }

    #[test]
    fn numeric_dates_have_fractions() {
        for (value, down, up) in [
            (json!(1_790_000_000), 1_790_000_000, 1_790_000_000),
            (json!(1_790_000_000.0), 1_790_000_000, 1_790_000_000),
            (json!(1_790_000_000.000_001), 1_790_000_000, 1_790_000_001),
            (json!(1_789_999_999.999_999), 1_789_999_999, 1_790_000_000),
            (json!(0.5), 0, 1),
            (json!(4_294_967_294.5), 4_294_967_294, 4_294_967_295),
        ] {
            assert_eq!(numeric_date(&value), Some(Timestamp(down)), "{value}");
            assert_eq!(numeric_date_up(&value), Some(Timestamp(up)), "{value}");
        }
        for bad in
            [json!("1.5"), json!(-1), json!(-0.5), json!(null), json!([1]), json!(true), json!(1e300), json!(1.79e12)]
        {
            assert_eq!((numeric_date(&bad), numeric_date_up(&bad)), (None, None), "{bad}");
        }
    }

    #[test]
    fn spans_read_and_print() {
        let span: Span = serde_json::from_value(json!("1h 30m")).unwrap();
        assert_eq!(span, Span(5400));
        assert_eq!(span.to_string(), "1h 30m");
        for bad in [json!("soon"), json!(30), json!("30"), json!("1500ms")] {
            assert!(serde_json::from_value::<Span>(bad.clone()).is_err(), "{bad}");
        }
    }
}

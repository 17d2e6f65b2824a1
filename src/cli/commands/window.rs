//! The window of time of a question about evidence.

use crate::failure::Failure;
use crate::terminal::text;
use crate::terminal::time::{self, Moment};
use clap::Args;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use std::str::FromStr;
use std::time::Duration;
use taskfence_core::time::Timestamp;

/// From when to when.
#[derive(Debug, Args)]
pub struct WindowOptions {
    /// From when on: how long ago, like 7d, or a time, like 2026-09-21T14:13:20Z or 2026-09-21; without a zone it is UTC
    #[arg(long, value_name = "TIME", default_value = "7d", value_parser = ago, allow_hyphen_values = true)]
    since: Moment,

    /// Until when, written like --since, so 5d is five days ago [default: now]
    #[arg(long, value_name = "TIME", value_parser = ago, allow_hyphen_values = true)]
    until: Option<Moment>,
}

impl WindowOptions {
    /// `since` and `until` in a query of the hub, in milliseconds since 1970. Without `until` the hub uses its own clock.
    pub fn query(&self, now: u64) -> Result<Vec<(&'static str, String)>, Failure> {
        let since = self.since.resolve(now)?;
        let from = if self.since == DEFAULT { "--since, which is 7d unless it is given" } else { "--since" };
        let mut query = vec![("since", millis(since))];
        match self.until {
            Some(until) => {
                let until = until.resolve(now)?;
                in_order((from, since), ("--until", until))?;
                query.push(("until", millis(until)));
            }
            // Without `--until` it is now.
            None => in_order((from, since), ("now", now))?,
        }
        Ok(query)
    }
}

/// What `--since` is by default.
const DEFAULT: Moment = Moment::Before(Duration::from_hours(7 * 24));

/// Fails if a window has no length. Each end is a time in seconds since 1970 with the name of what gave it.
pub fn in_order((from, since): (&str, u64), (to, until): (&str, u64)) -> Result<(), Failure> {
    if since < until {
        return Ok(());
    }
    let (since, until) = (text::time(Timestamp(since)), text::time(Timestamp(until)));
    Err(Failure::Usage(format!(
        "a window from {since} ({from}) to {until} ({to}) has no length: write an earlier first time or a later second one"
    )))
}

/// Unix seconds as milliseconds, for a query.
pub fn millis(seconds: u64) -> String {
    seconds.saturating_mul(1000).to_string()
}

/// A length of time, such as `7d` or `-7d`, is so long ago; everything else is a point in time. A time without a zone is
/// UTC, as in everything that the hub and these commands print; a date is its beginning.
pub fn ago(text: &str) -> Result<Moment, Error> {
    // `0` is 1970, and no length.
    if let Some(ago) = time::duration(text).ok().filter(|_| text != "0") {
        return Ok(Moment::Before(ago));
    }
    match Moment::from_str(text) {
        // In the first years after 1970: a length without its unit.
        Ok(Moment::At(1..YEAR_1973)) => Err(Error::NoUnit),
        Ok(moment) => Ok(moment),
        Err(time::Error::OutOfRange) => Err(Error::OutOfRange),
        Err(time::Error::NotATime | time::Error::NotADuration) => in_utc(text).ok_or(Error::NotATime),
    }
}

/// In seconds since 1970.
const YEAR_1973: u64 = 100_000_000;

/// A date, or a date and a time, without a zone.
fn in_utc(text: &str) -> Option<Moment> {
    let (_, rest) = text.split_at_checked("2026-09-21".len())?;
    let is_plain = rest.bytes().all(|byte| byte.is_ascii_digit() || b"T t:.".contains(&byte));
    let at = text.parse::<DateTime>().ok().filter(|_| is_plain)?;
    let seconds = at.to_zoned(TimeZone::UTC).ok()?.timestamp().as_second();
    u64::try_from(seconds).ok().filter(|seconds| *seconds <= Timestamp::MAX.0).map(Moment::At)
}

/// Why a text is no end of a window. The caller names the option and the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error(
        "write how long ago (7d, 90m), a time (2026-09-21T14:13:20Z), a date (2026-09-21) or unix seconds (1790000000)"
    )]
    NotATime,
    #[error("write a number with its unit, like 90s, 5m or 7d")]
    NoUnit,
    #[error("{}", time::Error::OutOfRange)]
    OutOfRange,
}

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects, reason = "small numbers of a test")]
mod tests {
    use super::*;

    #[test]
    fn windows_as_people_write_them() {
        for (written, meant) in [
            ("7d", Moment::Before(Duration::from_secs(7 * 86_400))),
            ("-2h", Moment::Before(Duration::from_secs(7200))),
            ("2026-09-21T14:13:20Z", Moment::At(1_790_000_000)),
            ("2026-09-21T16:13:20+02:00", Moment::At(1_790_000_000)),
            ("2026-09-21T14:13:20", Moment::At(1_790_000_000)),
            ("2026-09-21 14:13:20", Moment::At(1_790_000_000)),
            ("2026-09-21T14:13", Moment::At(1_789_999_980)),
            ("2026-09-21", Moment::At(1_789_948_800)),
            ("1790000000", Moment::At(1_790_000_000)),
            ("0", Moment::At(0)),
            ("now", Moment::After(Duration::ZERO)),
        ] {
            assert_eq!(ago(written), Ok(meant), "{written}");
        }
    }

    #[test]
    fn what_is_no_end_of_a_window() {
        for (written, error) in [
            ("yesterday", Error::NotATime),
            ("", Error::NotATime),
            ("--until", Error::NotATime),
            ("-7", Error::NotATime),
            ("2026-13-01", Error::NotATime),
            ("2026-09-21T14:13:20+99:00", Error::NotATime),
            ("2026-09-21T14:13:20[Europe/Nowhere]", Error::NotATime),
            ("1969-12-31", Error::NotATime),
            ("7", Error::NoUnit),
            ("1790000000000", Error::OutOfRange),
        ] {
            assert_eq!(ago(written), Err(error), "{written}");
        }
    }

    #[test]
    fn a_window_has_a_length() {
        let now = 1_790_000_000;
        let query = |since: &str, until: Option<&str>| {
            WindowOptions { since: ago(since).unwrap(), until: until.map(|until| ago(until).unwrap()) }.query(now)
        };
        let all = [("7d", Some("5d")), ("-7d", Some("now")), ("2026-09-20", Some("2026-09-21")), ("1s", None)];
        for (since, until) in all {
            let ends = query(since, until).unwrap();
            assert_eq!(ends.len(), 1 + usize::from(until.is_some()), "{ends:?}");
        }
        assert_eq!(query("7d", Some("5d")).unwrap()[1], ("until", (now - 5 * 86_400).to_string() + "000"));
        let error = query("5d", Some("7d")).unwrap_err().to_string();
        for said in ["2026-09-16T14:13:20Z (--since)", "2026-09-14T14:13:20Z (--until)", "write an earlier first time"]
        {
            assert!(error.contains(said), "{error}");
        }
        assert!(query("7d", Some("8d")).unwrap_err().to_string().contains("7d unless it is given"));
        for (since, until) in [("5d", Some("5d")), ("+1h", None), ("now", None)] {
            assert!(matches!(query(since, until), Err(Failure::Usage(_))), "{since} {until:?}");
        }
    }
}

//! Points in time and lengths of time as an operator writes them.

use std::str::FromStr;
use std::time::{Duration, SystemTime};

use taskfence_core::time::Timestamp;

/// The clock, in seconds since 1970-01-01T00:00:00Z. A clock set before that reads as zero.
pub fn now() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// A point in time, perhaps relative to a `now` that is known only later.
///
/// Written as RFC 3339 (`2026-09-21T14:13:20Z`), as unix seconds (`1790000000`), as `now`, or as an offset from
/// now (`-10m`, `+1h30m`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    At(u64),
    Before(Duration),
    After(Duration),
}

impl Moment {
    /// This moment in unix seconds. A fraction of a second is dropped.
    pub fn resolve(self, now: u64) -> Result<u64, Error> {
        let seconds = match self {
            Self::At(seconds) => Some(seconds),
            Self::Before(offset) => now.checked_sub(offset.as_secs()),
            Self::After(offset) => now.checked_add(offset.as_secs()),
        };
        seconds.filter(|seconds| *seconds <= Timestamp::MAX.0).ok_or(Error::OutOfRange)
    }
}

impl FromStr for Moment {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        if text == "now" {
            return Ok(Self::After(Duration::ZERO));
        }
        if let Some(offset) = text.strip_prefix('-') {
            return duration(offset).map(Self::Before);
        }
        if let Some(offset) = text.strip_prefix('+') {
            return duration(offset).map(Self::After);
        }
        if text.bytes().all(|byte| byte.is_ascii_digit()) {
            let seconds = text.parse().map_err(|_| Error::NotATime)?;
            return if seconds <= Timestamp::MAX.0 { Ok(Self::At(seconds)) } else { Err(Error::OutOfRange) };
        }
        let timestamp: jiff::Timestamp = text.parse().map_err(|_| Error::NotATime)?;
        match u64::try_from(timestamp.as_second()) {
            Ok(seconds) if seconds <= Timestamp::MAX.0 => Ok(Self::At(seconds)),
            _ => Err(Error::OutOfRange),
        }
    }
}

/// A length of time with its unit, like `90s`, `5m` or `1h30m`.
pub fn duration(text: &str) -> Result<Duration, Error> {
    humantime::parse_duration(text).map_err(|_| Error::NotADuration)
}

/// Why a text is not a time. The caller names the option and the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("write RFC 3339 (2026-09-21T14:13:20Z), unix seconds (1790000000), or an offset from now (-10m, +30s)")]
    NotATime,
    #[error("write a number with its unit, like 90s, 5m or 1h30m")]
    NotADuration,
    #[error("a time lies between 1970 and 2106, and in seconds, not in milliseconds")]
    OutOfRange,
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_790_000_000;

    #[test]
    fn times_as_people_write_them() {
        let table = [
            ("1790000111", 1_790_000_111),
            ("0", 0),
            ("2026-09-21T14:13:20Z", NOW),
            ("2026-09-21T16:13:20+02:00", NOW),
            ("2026-09-21T14:13:20.999Z", NOW),
            ("now", NOW),
            ("-10m", NOW - 600),
            ("+30s", NOW + 30),
            ("-1h30m", NOW - 5400),
            ("+2d", NOW + 172_800),
        ];
        for (text, expected) in table {
            let moment: Moment = text.parse().unwrap();
            assert_eq!(moment.resolve(NOW), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_is_not_a_time() {
        let table = [
            ("", Error::NotATime),
            ("yesterday", Error::NotATime),
            ("99999999999999999999999", Error::NotATime),
            ("2026-09-21", Error::NotATime),
            ("2026-09-21T14:13:20", Error::NotATime),
            ("1790000111000", Error::OutOfRange),
            ("-10", Error::NotADuration),
            ("--jti", Error::NotADuration),
            ("2106-02-07T06:28:16Z", Error::OutOfRange),
            ("1969-12-31T23:59:59Z", Error::OutOfRange),
        ];
        for (text, expected) in table {
            assert_eq!(text.parse::<Moment>(), Err(expected), "{text}");
        }
    }

    #[test]
    fn an_offset_stays_between_1970_and_the_far_future() {
        let before: Moment = "-100y".parse().unwrap();
        assert_eq!(before.resolve(NOW), Err(Error::OutOfRange));
        let after: Moment = "+10000y".parse().unwrap();
        assert_eq!(after.resolve(NOW), Err(Error::OutOfRange));
        assert_eq!(Moment::After(Duration::MAX).resolve(NOW), Err(Error::OutOfRange));
    }
}

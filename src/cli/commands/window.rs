//! The window of time of a question about evidence.

use crate::failure::Failure;
use crate::terminal::time::{self, Moment};
use clap::Args;
use std::str::FromStr;

/// From when to when.
#[derive(Debug, Args)]
pub struct WindowOptions {
    /// From when on: how long ago, like 7d, or a time, like 2026-09-21T14:13:20Z
    #[arg(long, value_name = "TIME", default_value = "7d", value_parser = ago)]
    since: Moment,

    /// Until when, written like --since [default: now]
    #[arg(long, value_name = "TIME", value_parser = ago)]
    until: Option<Moment>,
}

impl WindowOptions {
    /// `since` and `until` in a query of the hub, in milliseconds since 1970. Without `until` the hub uses its own clock.
    pub fn query(&self, now: u64) -> Result<Vec<(&'static str, String)>, Failure> {
        let since = self.since.resolve(now)?;
        let mut query = vec![("since", millis(since))];
        if let Some(until) = self.until {
            let until = until.resolve(now)?;
            if until <= since {
                return Err(Failure::Usage("--until lies before --since; a window needs a length".to_owned()));
            }
            query.push(("until", millis(until)));
        }
        Ok(query)
    }
}

/// Unix seconds as milliseconds, for a query.
pub fn millis(seconds: u64) -> String {
    seconds.saturating_mul(1000).to_string()
}

/// A length of time is so long ago; everything else is a point in time.
pub fn ago(text: &str) -> Result<Moment, time::Error> {
    match time::duration(text) {
        Ok(ago) => Ok(Moment::Before(ago)),
        Err(_) => Moment::from_str(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn windows_as_people_write_them() {
        for (written, meant) in [
            ("7d", Moment::Before(Duration::from_secs(7 * 86_400))),
            ("-2h", Moment::Before(Duration::from_secs(7200))),
            ("2026-09-21T14:13:20Z", Moment::At(1_790_000_000)),
            ("now", Moment::After(Duration::ZERO)),
        ] {
            assert_eq!(ago(written), Ok(meant), "{written}");
        }
        assert_eq!(ago("yesterday"), Err(time::Error::NotATime));
    }
}

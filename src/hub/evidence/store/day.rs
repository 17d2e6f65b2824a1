//! Days in UTC, by which evidence is kept.

use std::fmt;

/// The milliseconds of a day.
pub const DAY: u64 = 86_400_000;

/// The milliseconds of an hour.
pub const HOUR: u64 = 3_600_000;

/// A day: so many since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Day(pub u64);

impl Day {
    /// The day in which `at` is, in milliseconds since 1970.
    pub fn of(at: u64) -> Day {
        Day(at / DAY)
    }

    /// Reads `2026-11-28`.
    pub fn parse(text: &str) -> Option<Day> {
        let mut parts = text.split('-').map(|part| part.bytes().all(|b| b.is_ascii_digit()).then_some(part));
        let (year, month, day) = (parts.next()??, parts.next()??, parts.next()??);
        if parts.next().is_some() || year.len() < 4 || year.len() > 9 || month.len() != 2 || day.len() != 2 {
            return None;
        }
        let day = from_civil(year.parse().ok()?, month.parse().ok()?, day.parse().ok()?)?;
        // 2026-02-31 is no day.
        (day.to_string() == text).then_some(day)
    }

    /// Its first millisecond.
    pub fn begin(self) -> u64 {
        self.0.saturating_mul(DAY)
    }

    /// The first millisecond after it.
    pub fn end(self) -> u64 {
        self.begin().saturating_add(DAY)
    }

    /// So many days later.
    pub fn after(self, days: u64) -> Day {
        Day(self.0.saturating_add(days))
    }

    /// So many days earlier, and not before 1970.
    pub fn before(self, days: u64) -> Day {
        Day(self.0.saturating_sub(days))
    }
}

impl fmt::Display for Day {
    /// As `2026-11-28`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (year, month, day) = to_civil(*self);
        write!(f, "{year:04}-{month:02}-{day:02}")
    }
}

/// Days of 400 years, after which the calendar repeats.
const CYCLE: u64 = 146_097;

/// From 0000-03-01 to 1970-01-01. A year that begins in March ends with its leap day.
const TO_1970: u64 = 719_468;

fn to_civil(Day(day): Day) -> (u64, u64, u64) {
    let day = day.saturating_add(TO_1970);
    let (cycle, of_cycle) = (day / CYCLE, day % CYCLE);
    // Without the leap days that are before it.
    let without = of_cycle.saturating_sub(of_cycle / 1_460).saturating_add(of_cycle / 36_524);
    let year = without.saturating_sub(of_cycle / (CYCLE - 1)) / 365;
    let of_year = of_cycle.saturating_sub(days_of_years(year));
    let month = of_year.saturating_mul(5).saturating_add(2) / 153;
    let day = of_year.saturating_sub(days_of_months(month)).saturating_add(1);
    let (month, next) = if month < 10 { (month.saturating_add(3), 0) } else { (month.saturating_sub(9), 1) };
    (cycle.saturating_mul(400).saturating_add(year).saturating_add(next), month, day)
}

fn from_civil(year: u64, month: u64, day: u64) -> Option<Day> {
    if !(1..=12).contains(&month) || day == 0 {
        return None;
    }
    let (year, month) =
        if month > 2 { (year, month.checked_sub(3)?) } else { (year.checked_sub(1)?, month.checked_add(9)?) };
    let of_cycle = days_of_years(year % 400).checked_add(days_of_months(month))?.checked_add(day)?.checked_sub(1)?;
    (year / 400).checked_mul(CYCLE)?.checked_add(of_cycle)?.checked_sub(TO_1970).map(Day)
}

/// The days of so many years of a cycle.
fn days_of_years(years: u64) -> u64 {
    years.saturating_mul(365).saturating_add(years / 4).saturating_sub(years / 100)
}

/// The days of so many months from March on.
fn days_of_months(months: u64) -> u64 {
    months.saturating_mul(153).saturating_add(2) / 5
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_have_the_names_of_the_calendar() {
        for (day, name) in [
            (0, "1970-01-01"),
            (58, "1970-02-28"),
            (59, "1970-03-01"),
            (11_016, "2000-02-29"),
            (11_017, "2000-03-01"),
            (11_322, "2000-12-31"),
            (19_782, "2024-02-29"),
            (20_785, "2026-11-28"),
            (47_540, "2100-02-28"),
            (47_541, "2100-03-01"),
        ] {
            assert_eq!((Day(day).to_string().as_str(), Day::parse(name)), (name, Some(Day(day))));
        }
        for day in (0..400_000).step_by(13) {
            assert_eq!(Day::parse(&Day(day).to_string()), Some(Day(day)));
        }
    }

    #[test]
    fn other_names_are_no_days() {
        for name in ["", "2026-11", "2026-11-31", "2026-02-29", "2026-13-01", "2026-1-01", "1969-12-31", "+026-11-28"] {
            assert_eq!(Day::parse(name), None, "{name}");
        }
    }

    #[test]
    fn a_day_begins_at_midnight() {
        let day = Day::of(20_785 * DAY);
        assert_eq!((day, day.before(1)), (Day(20_785), Day::of(20_785 * DAY - 1)));
        assert_eq!((day.begin(), day.end(), day.after(1).begin()), (20_785 * DAY, 20_786 * DAY, 20_786 * DAY));
    }
}

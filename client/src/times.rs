//! Times as people write them, and the difference between two clocks.

use jiff::civil::{Date, DateTime, Time};
use jiff::tz::TimeZone;
use jiff::{Span, Timestamp, Zoned};
use raspbox_protocol::Mtime;
use raspbox_protocol::special::Clock;

/// Clocks that are no further apart than this tell the same time: the rest is the way between them.
const SAME_NS: i64 = 5_000_000_000;

/// A time, as somebody asks for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum When {
    /// By this computer's clock.
    Here(Timestamp),
    /// By the appliance's clock.
    There(Mtime),
}

/// A text that is no time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "'{0}' is no time. Write it like '2026-11-20 18:00', '18:00' (today), '2 hours ago', '3d', or \
     2026-11-20T18:00:00Z"
)]
pub struct NoTime(String);

/// How the appliance's clock and this one differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Clocks {
    /// How far the appliance's is ahead, in whole seconds.
    ahead_ns: i64,
}

impl When {
    /// Parses a time; `now` tells the day, the time zone, and what "ago" is.
    ///
    /// # Errors
    /// Where it is no time.
    pub fn parse(text: &str, now: &Zoned) -> Result<When, NoTime> {
        let trimmed = text.trim();
        let found = parse_there(trimmed)
            .map(When::There)
            .or_else(|| parse_here(trimmed, now).map(When::Here));
        found.ok_or_else(|| NoTime(text.to_owned()))
    }
}

/// `@SECONDS[.FRACTION]` since 1970, as GNU's date has it: what is printed where a time must be exact.
fn parse_there(text: &str) -> Option<Mtime> {
    let (seconds, fraction) = match text.strip_prefix('@')?.split_once('.') {
        Some((seconds, fraction)) => (seconds, fraction),
        None => (text.strip_prefix('@')?, ""),
    };
    let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    if seconds.is_empty() || !digits(seconds) || !digits(fraction) || fraction.len() > 9 {
        return None;
    }
    let nanos = format!("{fraction:0<9}").parse().ok()?;
    Some(Mtime::from_parts(seconds.parse().ok()?, nanos))
}

fn parse_here(text: &str, now: &Zoned) -> Option<Timestamp> {
    if let Ok(time) = text.parse::<Timestamp>() {
        return Some(time);
    }
    let local = |civil: DateTime| Some(civil.to_zoned(now.time_zone().clone()).ok()?.timestamp());
    // "18:00" is a time, and to some parsers a date and time as well.
    if let Some(time) = parse_clock(text) {
        return local(now.date().to_datetime(time));
    }
    if let Ok(date) = Date::strptime("%Y-%m-%d", text) {
        return local(date.to_datetime(Time::midnight()));
    }
    for format in [
        "%Y-%m-%d %H:%M",
        "%Y-%m-%d %H:%M:%S",
        "%Y-%m-%dT%H:%M",
        "%Y-%m-%dT%H:%M:%S",
    ] {
        if let Ok(civil) = DateTime::strptime(format, text) {
            return local(civil);
        }
    }
    let span = parse_ago(text)?;
    Some(now.checked_sub(span).ok()?.timestamp())
}

fn parse_clock(text: &str) -> Option<Time> {
    let formats = ["%H:%M", "%H:%M:%S"];
    formats
        .iter()
        .find_map(|format| Time::strptime(format, text).ok())
}

/// `2 hours ago`, `2 hours`, `2h`.
fn parse_ago(text: &str) -> Option<Span> {
    let text = text.strip_suffix("ago").unwrap_or(text).trim();
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (count, unit) = text.split_at(digits);
    let count: i64 = count.parse().ok().filter(|count| *count < 1_000_000)?;
    let span = Span::new();
    match unit.trim() {
        "s" | "sec" | "second" | "seconds" => span.try_seconds(count),
        "m" | "min" | "minute" | "minutes" => span.try_minutes(count),
        "h" | "hour" | "hours" => span.try_hours(count),
        "d" | "day" | "days" => span.try_days(count),
        "w" | "week" | "weeks" => span.try_weeks(count),
        "month" | "months" => span.try_months(count),
        "y" | "year" | "years" => span.try_years(count),
        _ => return None,
    }
    .ok()
}

impl Clocks {
    /// From what both tell at the same moment.
    #[must_use]
    pub fn compare(there: &Clock, here: Timestamp) -> Clocks {
        let apart = there.now.0.saturating_sub(of_timestamp(here).0);
        let ahead_ns = if apart.abs() <= SAME_NS {
            0
        } else {
            apart / 1_000_000_000 * 1_000_000_000
        };
        Clocks { ahead_ns }
    }

    /// A time by the appliance's clock.
    #[must_use]
    pub fn there(self, when: &When) -> Mtime {
        match when {
            When::Here(time) => Mtime(of_timestamp(*time).0.saturating_add(self.ahead_ns)),
            When::There(time) => *time,
        }
    }

    /// A time of the appliance's by this computer's clock, in this time zone.
    #[must_use]
    pub fn here(self, time: Mtime, zone: &TimeZone) -> String {
        show(Mtime(time.0.saturating_sub(self.ahead_ns)), zone)
    }

    /// A time of the appliance's as it can be asked for again, to the nanosecond.
    #[must_use]
    pub fn exact(self, time: Mtime) -> String {
        let (secs, nanos) = time.parts();
        if self.ahead_ns == 0
            && let Ok(nanos) = i32::try_from(nanos)
            && let Ok(stamp) = Timestamp::new(secs, nanos)
        {
            return stamp.to_string();
        }
        format!("@{secs}.{nanos:09}")
    }

    /// What a person should know of it.
    #[must_use]
    pub fn note(self) -> Option<String> {
        let seconds = self.ahead_ns / 1_000_000_000;
        let how = match seconds {
            0 => return None,
            ahead if ahead > 0 => "ahead of",
            _ => "behind",
        };
        let seconds = seconds.unsigned_abs();
        let far = match seconds {
            0..120 => format!("{seconds} seconds"),
            120..7_200 => format!("{} minutes", seconds / 60),
            7_200..172_800 => format!("{} hours", seconds / 3_600),
            _ => format!("{} days", seconds / 86_400),
        };
        Some(format!(
            "the appliance's clock is {far} {how} this computer's; times are by this computer's"
        ))
    }
}

/// A time to the second, as it is here.
#[must_use]
pub fn show(time: Mtime, zone: &TimeZone) -> String {
    let (secs, _) = time.parts();
    match Timestamp::from_second(secs) {
        Ok(stamp) => {
            let zoned = stamp.to_zoned(zone.clone());
            zoned.strftime("%Y-%m-%d %H:%M:%S").to_string()
        }
        Err(_) => format!("@{secs}"),
    }
}

fn of_timestamp(time: Timestamp) -> Mtime {
    Mtime(i64::try_from(time.as_nanosecond()).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::{Clocks, When};
    use jiff::tz::{Offset, TimeZone};
    use jiff::{Timestamp, Zoned};
    use raspbox_protocol::Mtime;
    use raspbox_protocol::special::Clock;

    fn now() -> Zoned {
        let zone = TimeZone::fixed(Offset::constant(1));
        let stamp: Timestamp = "2026-11-20T17:03:11.5Z".parse().expect("good");
        stamp.to_zoned(zone)
    }

    fn check(text: &str, expected: Option<&str>) {
        let found = When::parse(text, &now()).ok();
        let expected = expected.map(|text| When::Here(text.parse().expect("good")));
        assert_eq!(found, expected, "{text:?}");
    }

    #[test]
    fn times_as_people_write_them() {
        check("2026-11-20T16:00:00Z", Some("2026-11-20T16:00:00Z"));
        check(
            "2026-11-20T16:00:00.25+02:00",
            Some("2026-11-20T14:00:00.25Z"),
        );
        check("2026-11-20 16:00", Some("2026-11-20T15:00:00Z"));
        check("2026-11-20 16:00:05", Some("2026-11-20T15:00:05Z"));
        check("2026-11-20T16:00", Some("2026-11-20T15:00:00Z"));
        check("2026-11-20", Some("2026-11-19T23:00:00Z"));
        check("18:00", Some("2026-11-20T17:00:00Z"));
        check("6:30:15", Some("2026-11-20T05:30:15Z"));
        check("2 hours ago", Some("2026-11-20T15:03:11.5Z"));
        check(" 2h ", Some("2026-11-20T15:03:11.5Z"));
        check("90 minutes", Some("2026-11-20T15:33:11.5Z"));
        check("5 min ago", Some("2026-11-20T16:58:11.5Z"));
        check("3d", Some("2026-11-17T17:03:11.5Z"));
        check("1 week ago", Some("2026-11-13T17:03:11.5Z"));
        check("1 month ago", Some("2026-10-20T17:03:11.5Z"));
        for wrong in [
            "",
            "yesterday",
            "25:00",
            "2026-13-01",
            "h",
            "-2h",
            "2 fortnights",
            "2026-11-20 16",
            "99999999h",
            "@",
            "@x",
            "@1.1234567890",
            "ago",
        ] {
            check(wrong, None);
        }
    }

    #[test]
    fn an_exact_time_is_by_the_appliances_clock() {
        let check = |text: &str, expected: i64| {
            assert_eq!(
                When::parse(text, &now()),
                Ok(When::There(Mtime(expected))),
                "{text}"
            );
        };
        check("@5", 5_000_000_000);
        check("@5.25", 5_250_000_000);
        check("@1795197791.123456789", 1_795_197_791_123_456_789);
    }

    #[test]
    fn clocks_are_compared() {
        let here: Timestamp = "2026-11-20T17:00:00Z".parse().expect("good");
        let zone = TimeZone::UTC;
        let ns = 1_795_194_000_000_000_000;
        let with = |apart: i64| {
            let clock = Clock {
                now: Mtime(ns + apart),
                begun: Mtime(0),
            };
            Clocks::compare(&clock, here)
        };
        let same = with(4_999_000_000);
        assert_eq!(same.note(), None);
        assert_eq!(same.there(&When::Here(here)), Mtime(ns));
        assert_eq!(same.exact(Mtime(ns + 1)), "2026-11-20T17:00:00.000000001Z");
        let behind = with(-3_600_400_000_000);
        assert_eq!(
            behind.there(&When::Here(here)),
            Mtime(ns - 3_600_000_000_000)
        );
        assert_eq!(behind.there(&When::There(Mtime(7))), Mtime(7));
        assert_eq!(behind.here(Mtime(ns), &zone), "2026-11-20 18:00:00");
        assert_eq!(behind.exact(Mtime(ns + 1)), "@1795194000.000000001");
        assert!(behind.note().expect("a note").contains("60 minutes behind"));
        assert!(
            with(i64::MAX / 4)
                .note()
                .expect("a note")
                .contains("ahead of")
        );
        let text = behind.exact(Mtime(ns + 1));
        assert_eq!(When::parse(&text, &now()), Ok(When::There(Mtime(ns + 1))));
    }
}

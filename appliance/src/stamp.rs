//! Times as FTP writes them: `YYYYMMDDhhmm[ss]`, in UTC.

use raspbox_protocol::Mtime;

/// Parses a time; `None` where it is no date of the calendar, or not between 1678 and 2261.
pub(crate) fn parse_stamp(text: &str) -> Option<Mtime> {
    if !matches!(text.len(), 12 | 14) || !text.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let field = |at: usize, len: usize| text.get(at..at + len)?.parse::<i64>().ok();
    let (year, month, day) = (field(0, 4)?, field(4, 2)?, field(6, 2)?);
    let (hour, minute, second) = (field(8, 2)?, field(10, 2)?, field(12, 2).unwrap_or(0));
    let good = (1678..=2261).contains(&year)
        && (1..=12).contains(&month)
        && (1..=days_of(year, month)).contains(&day)
        && hour < 24
        && minute < 60
        // A leap second is the first second of the next minute here.
        && second <= 60;
    let days = days_since_1970(year, month, day);
    good.then(|| Mtime::from_parts(((days * 24 + hour) * 60 + minute) * 60 + second, 0))
}

/// A time in UTC as part of a file's name, to the second: `2026-11-20T18.03.11Z`.
pub(crate) fn print_time(time: Mtime) -> String {
    let (secs, _) = time.parts();
    let (days, rest) = (secs.div_euclid(86_400), secs.rem_euclid(86_400));
    let (year, month, day) = date_of(days);
    let (hour, minute, second) = (rest / 3600, rest / 60 % 60, rest % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}.{minute:02}.{second:02}Z")
}

fn is_leap(year: i64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

fn days_of(year: i64, month: i64) -> i64 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if is_leap(year) => 29,
        2 => 28,
        _ => 31,
    }
}

/// Days from 1970-01-01 to a date of the Gregorian calendar. The year begins in March, so that the
/// leap day is its last (Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms").
fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

/// The date of a day, the reverse of [`days_since_1970`] (from the same source).
fn date_of(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 {
        shifted + 3
    } else {
        shifted - 9
    };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::{date_of, days_of, days_since_1970, parse_stamp, print_time};
    use raspbox_protocol::Mtime;

    #[test]
    fn stamps_are_parsed() {
        let check = |text, secs: i64| {
            assert_eq!(
                parse_stamp(text),
                Some(Mtime::from_parts(secs, 0)),
                "{text}"
            );
        };
        check("19700101000000", 0);
        check("20010909014640", 1_000_000_000);
        check("200109090146", 999_999_960);
        check("20000229235959", 951_868_799);
        check("19691231235959", -1);
        check("20380119031408", 1 << 31);
        for bad in [
            "",
            "20010909",
            "20010229000000",
            "20011301000000",
            "20010100000000",
            "20010101240000",
            "20010101006000",
            "20010101000061",
            "2001010100000x",
            "16770101000000",
            "22620101000000",
            "+0010101000000",
            "2001010100000\u{e9}",
        ] {
            assert_eq!(parse_stamp(bad), None, "{bad}");
        }
    }

    #[test]
    fn days_follow_each_other() {
        let mut expect = days_since_1970(1678, 1, 1);
        for year in 1678..=2261 {
            for month in 1..=12 {
                for day in 1..=days_of(year, month) {
                    assert_eq!(days_since_1970(year, month, day), expect);
                    expect += 1;
                }
            }
        }
    }

    #[test]
    fn times_are_printed() {
        let check = |secs, expected| assert_eq!(print_time(Mtime::from_parts(secs, 5)), expected);
        check(0, "1970-01-01T00.00.00Z");
        check(-1, "1969-12-31T23.59.59Z");
        check(1_000_000_000, "2001-09-09T01.46.40Z");
        check(951_782_399, "2000-02-28T23.59.59Z");
        check(951_782_400, "2000-02-29T00.00.00Z");
    }

    #[test]
    fn days_are_dates_and_back() {
        for days in -110_000..110_000 {
            let (year, month, day) = date_of(days);
            assert_eq!(days_since_1970(year, month, day), days);
        }
    }
}

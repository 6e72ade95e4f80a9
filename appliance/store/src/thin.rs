//! Which versions are kept as they grow older: a decision, made of times alone.
//!
//! All of the last day; then what stood there at the end of each day, for a month; then at the end of
//! each week, for a year (a [`Policy`] may say otherwise). "At the end of each day", and not "one a
//! day", for two reasons. The tree as it was at such a moment is whole: every path is kept as of the
//! same moment. And a program that writes every file twice, as malware may, leaves what was good
//! before it as what stood there at midnight, whatever it wrote last that day. Days end at midnight
//! UTC, weeks on Wednesday night (1970 began on a Thursday): fixed moments, so that it doesn't matter
//! when somebody looks.
//!
//! Besides, the newest version of a path is kept: for ever where a file stands there now, and where it
//! was deleted for as long as anything is.
//!
//! Ages are those of [`trusted`], not of the system's clock.

use std::time::Duration;

/// One day, in nanoseconds.
const DAY_NS: i64 = 86_400 * 1_000_000_000;

/// One week.
const WEEK_NS: i64 = 7 * DAY_NS;

/// How much faster than the daemon has been running the time may go that ages are measured by.
///
/// A Pi that is on for more than two hours and a half a day keeps up. A clock that was years ahead for
/// a day makes versions ten days older than they are, not years.
const PACE: i64 = 10;

/// For how long which versions are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// For so long, all.
    pub keep_all: Duration,
    /// For so long, what stood there at the end of each day.
    pub daily: Duration,
    /// For so long, what stood there at the end of each week.
    pub weekly: Duration,
}

impl Default for Policy {
    fn default() -> Policy {
        let days = |days: u64| Duration::from_secs(days * 86_400);
        Policy {
            keep_all: days(1),
            daily: days(30),
            weekly: days(365),
        }
    }
}

/// One version of a path, the oldest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Span {
    /// From when on it stood there.
    pub(crate) since_ns: i64,
    /// Until when.
    pub(crate) until_ns: i64,
    /// Whether it can be had.
    pub(crate) good: bool,
}

/// Which versions of a path are kept. `stands` is whether a file stands there now.
pub(crate) fn keep(versions: &[Span], stands: bool, now_ns: i64, policy: &Policy) -> Vec<bool> {
    let before = |age: Duration| {
        let age = i64::try_from(age.as_nanos()).unwrap_or(i64::MAX);
        now_ns.saturating_sub(age)
    };
    let (all, daily, weekly) = (
        before(policy.keep_all),
        before(policy.daily),
        before(policy.weekly),
    );
    let horizon = all.min(daily).min(weekly);
    let last = versions.iter().rposition(|version| version.good);
    let keep = |(n, version): (usize, &Span)| {
        version.until_ns > all
            || stood_at_an_end(version, DAY_NS, daily)
            || stood_at_an_end(version, WEEK_NS, weekly)
            || (last == Some(n) && (stands || version.until_ns > horizon))
    };
    versions.iter().enumerate().map(keep).collect()
}

/// Whether it stood there at the end of some day or week that isn't longer ago than `from_ns`.
fn stood_at_an_end(version: &Span, length_ns: i64, from_ns: i64) -> bool {
    let from = version.since_ns.max(from_ns);
    let next_end = match from.rem_euclid(length_ns) {
        0 => from,
        rest => from.saturating_add(length_ns - rest),
    };
    next_end < version.until_ns
}

/// The time that ages are measured by, after the daemon has been running for so long since the last
/// one.
///
/// It follows the system's clock but never leaps: a clock that is suddenly years ahead, by mistake or
/// since it was years behind, must not make everything old at once. It never goes back either; while
/// the clock is behind, nothing grows older.
pub(crate) fn trusted(last_ns: i64, wall_ns: i64, running: Duration) -> i64 {
    let running = i64::try_from(running.as_nanos()).unwrap_or(i64::MAX);
    let most = last_ns.saturating_add(running.saturating_mul(PACE));
    last_ns.max(wall_ns.min(most))
}

#[cfg(test)]
mod tests {
    use super::{DAY_NS, Policy, Span, WEEK_NS, keep, trusted};
    use std::time::Duration;

    const HOUR_NS: i64 = DAY_NS / 24;

    /// Hours before a Thursday, 00:00 UTC, long after 1970.
    fn ago(hours: i64) -> i64 {
        NOW - hours * HOUR_NS
    }

    const NOW: i64 = 2_900 * WEEK_NS;

    fn span(since_hours_ago: i64, until_hours_ago: i64) -> Span {
        Span {
            since_ns: ago(since_hours_ago),
            until_ns: ago(until_hours_ago),
            good: true,
        }
    }

    fn check(name: &str, versions: &[(i64, i64)], stands: bool, expected: &[bool]) {
        let versions: Vec<Span> = versions.iter().map(|(a, b)| span(*a, *b)).collect();
        let kept = keep(&versions, stands, NOW, &Policy::default());
        assert_eq!(kept, expected, "{name}");
    }

    #[test]
    fn what_is_kept_for_how_long() {
        let (all, none) = ([true; 4], [false; 4]);
        check("nothing", &[], true, &[]);
        check(
            "the last day",
            &[(40, 23), (23, 22), (22, 21), (21, 1)],
            true,
            &all,
        );
        check(
            "two days ago: what stood there at midnight, and the newest",
            &[(100, 47), (47, 46), (46, 45), (45, 44)],
            true,
            &[true, false, false, true],
        );
        check(
            "a day ago to the hour",
            &[(30, 25), (25, 24), (24, 23)],
            true,
            &[false, false, true],
        );
        check(
            "from midnight on, and until midnight",
            &[(72, 60), (60, 48), (48, 47), (40, 30)],
            true,
            &[true, false, true, true],
        );
        let month = 30 * 24;
        check(
            "a month ago: at the end of a week only",
            &[
                (month + 100, month + 50),
                (month + 50, month + 20),
                (5 * 168 + 1, 5 * 168 - 1),
                (20, 1),
            ],
            true,
            &[false, false, true, true],
        );
        let year = 365 * 24;
        check(
            "a year ago: nothing",
            &[(year + 3_000, year + 1_000), (year + 1_000, year + 1)],
            false,
            &none[..2],
        );
        check(
            "a year ago: the newest, if the file is there",
            &[(year + 3_000, year + 1_000), (year + 1_000, year + 1)],
            true,
            &[false, true],
        );
        check(
            "a deleted file's last content, for a year",
            &[(year, year - 1), (year - 1, year - 2)],
            false,
            &[false, true],
        );
        check(
            "it stood there for years",
            &[(10 * year, 400)],
            false,
            &[true],
        );
    }

    #[test]
    fn a_lost_version_protects_nothing_and_takes_no_place() {
        let year = 365 * 24;
        let mut versions = [span(year + 9, year + 8), span(year + 8, year + 7)];
        versions[1].good = false;
        let kept = keep(&versions, true, NOW, &Policy::default());
        assert_eq!(kept, [true, false]);
    }

    #[test]
    fn a_policy_of_nothing_keeps_the_newest() {
        let none = Policy {
            keep_all: Duration::ZERO,
            daily: Duration::ZERO,
            weekly: Duration::ZERO,
        };
        let versions = [span(900, 800), span(800, 1)];
        assert_eq!(keep(&versions, true, NOW, &none), [false, true]);
        assert_eq!(keep(&versions, false, NOW, &none), [false, false]);
        let ever = Policy {
            keep_all: Duration::MAX,
            ..none
        };
        assert_eq!(keep(&versions, false, NOW, &ever), [true, true]);
    }

    /// What holds for any versions at any time.
    #[test]
    fn the_rules_hold_for_any_history() {
        let mut state = 0x2545_f491_4f6c_dd1d_u64;
        let mut random = |n: u64| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            i64::try_from(state % n).expect("small")
        };
        let policy = Policy::default();
        let old = |age: Duration| NOW - i64::try_from(age.as_nanos()).expect("years");
        for case in 0..5_000 {
            let mut at = NOW - random(500 * 24) * HOUR_NS - random(60);
            let mut versions = Vec::new();
            for _ in 0..random(12) {
                let scale =
                    [60, HOUR_NS, DAY_NS, 20 * DAY_NS][usize::try_from(random(4)).expect("4")];
                let until = (at + random(40) * scale / 8).min(NOW);
                versions.push(Span {
                    since_ns: at,
                    until_ns: until,
                    good: random(5) > 0,
                });
                at = until;
            }
            let stands = random(2) == 0;
            let kept = keep(&versions, stands, NOW, &policy);
            assert_eq!(kept.len(), versions.len());
            let last = versions.iter().rposition(|version| version.good);
            for (n, (version, kept)) in versions.iter().zip(&kept).enumerate() {
                let day = (version.since_ns..version.until_ns)
                    .contains(&((version.until_ns - 1).div_euclid(DAY_NS) * DAY_NS));
                let young = version.until_ns > old(policy.keep_all);
                let month = version.until_ns - DAY_NS > old(policy.daily);
                assert!(!young || *kept, "case {case}: {version:?}");
                assert!(!(day && month) || *kept, "case {case}: {version:?}");
                let protected = last == Some(n) && stands;
                assert!(!protected || *kept, "case {case}: {version:?}");
                let week = version.until_ns - version.since_ns > WEEK_NS;
                let year = version.until_ns - WEEK_NS > old(policy.weekly);
                assert!(!(week && year) || *kept, "case {case}: {version:?}");
            }
            // What was let go once isn't missed later, and nothing is let go twice over.
            let left: Vec<Span> = versions
                .iter()
                .zip(&kept)
                .filter_map(|(version, kept)| kept.then_some(*version))
                .collect();
            assert!(
                keep(&left, stands, NOW, &policy).iter().all(|kept| *kept),
                "case {case}"
            );
            let later = NOW + random(300) * DAY_NS;
            let in_one_step = keep(&versions, stands, later, &policy);
            let in_two = keep(&left, stands, later, &policy);
            let mut in_two = in_two.into_iter();
            let in_two: Vec<bool> = kept
                .iter()
                .map(|kept| *kept && in_two.next().expect("one for each"))
                .collect();
            assert_eq!(in_one_step, in_two, "case {case}");
        }
    }

    #[test]
    fn a_file_that_is_saved_every_minute_for_a_year_leaves_few_versions() {
        let minute = HOUR_NS / 60;
        let versions: Vec<Span> = (0..365 * 24 * 60)
            .rev()
            .map(|n| Span {
                since_ns: NOW - (n + 1) * minute,
                until_ns: NOW - n * minute,
                good: true,
            })
            .collect();
        let kept = keep(&versions, true, NOW, &Policy::default());
        let count = kept.iter().filter(|kept| **kept).count();
        // A day of minutes, 30 midnights, and 52 ends of weeks of which 4 are among those.
        assert!((24 * 60 + 76..24 * 60 + 84).contains(&count), "{count}");
    }

    #[test]
    fn time_that_is_trusted_does_not_leap() {
        let hour = Duration::from_secs(3600);
        let check = |last: i64, wall: i64, running, expected: i64| {
            assert_eq!(trusted(last, wall, running), expected, "{last} {wall}");
        };
        let day = DAY_NS;
        check(0, HOUR_NS, hour, HOUR_NS);
        // The Pi was off for two hours; for a year.
        check(0, 3 * HOUR_NS, hour, 3 * HOUR_NS);
        check(0, 365 * day, hour, 10 * HOUR_NS);
        // Behind, by years too.
        check(365 * day, 0, hour, 365 * day);
        check(365 * day, i64::MIN, hour, 365 * day);
        // Years ahead.
        check(0, i64::MAX, hour, 10 * HOUR_NS);
        check(i64::MAX - 1, i64::MAX, Duration::MAX, i64::MAX);
        check(5, 5, Duration::ZERO, 5);
    }
}

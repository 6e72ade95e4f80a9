//! When everything on the drive is read again, and how fast: [`raspbox_store::Pass`] does it.
//!
//! Only while nobody is served, at a rate that leaves the drive to others, and without beginning anew
//! after a restart. By the appliance's clock, which may be wrong on a Pi; then a pass comes early or
//! late, and no worse.

use crate::idle::Leave;
use raspbox_protocol::Mtime;
use raspbox_store::{Pass, Step, Store, StoreError};
use std::time::{Duration, Instant, SystemTime};

/// How long to wait at most before the clock is looked at again: it may have been set meanwhile.
const LOOK_INTERVAL: Duration = Duration::from_secs(3600);

/// How soon a pass is gone on with after the drive failed.
const RETRY_INTERVAL: Duration = Duration::from_secs(600);

/// How to scrub.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Settings {
    /// How often everything is read; `None` for never.
    pub(crate) every: Option<Duration>,
    /// How much in a second, at most.
    pub(crate) bytes_per_second: u64,
}

/// Scrubs until the daemon stops.
pub(crate) fn run(leave: &Leave, store: &Store, settings: Settings) {
    let Some(every) = settings.every else { return };
    loop {
        let wait = match store.scrubbed_at() {
            Ok(ended) => due_in(ended, SystemTime::now().into(), every).min(LOOK_INTERVAL),
            Err(error) => failed(&error),
        };
        if !leave.pause(wait) {
            return;
        }
        if !wait.is_zero() {
            continue;
        }
        let mut pace = Pace {
            bytes_per_second: settings.bytes_per_second,
            free_at: None,
        };
        let mut go_on =
            |bytes: u64| leave.to_work() && leave.pause(pace.wait_for(bytes, Instant::now()));
        match store.scrub().and_then(|pass| to_end(pass, &mut go_on)) {
            Ok(true) => {}
            Ok(false) => return,
            Err(error) => {
                if !leave.pause(failed(&error)) {
                    return;
                }
            }
        }
    }
}

/// `false`: it was told to stop.
fn to_end(mut pass: Pass, go_on: &mut dyn FnMut(u64) -> bool) -> Result<bool, StoreError> {
    loop {
        match pass.next(go_on)? {
            Step::More => {}
            Step::Stopped => return Ok(false),
            Step::Over(tally) => {
                tracing::info!(
                    contents = tally.files,
                    bytes = tally.bytes,
                    damaged = tally.damaged,
                    "everything was read again"
                );
                return Ok(true);
            }
        }
    }
}

fn failed(error: &StoreError) -> Duration {
    tracing::warn!(%error, "reading everything again was interrupted, it goes on later");
    RETRY_INTERVAL
}

/// How long until the next pass. A clock that went back says nothing; but where it stands far from
/// the last pass in either direction, that was long ago.
fn due_in(ended: Option<Mtime>, now: Mtime, every: Duration) -> Duration {
    match ended {
        None => Duration::ZERO,
        Some(ended) => every.saturating_sub(Duration::from_nanos(now.0.abs_diff(ended.0))),
    }
}

/// Spreads reading over time. What wasn't read in time isn't made up for.
struct Pace {
    bytes_per_second: u64,
    free_at: Option<Instant>,
}

impl Pace {
    /// How long to wait before this much is read.
    fn wait_for(&mut self, bytes: u64, now: Instant) -> Duration {
        let begin = self.free_at.map_or(now, |free_at| free_at.max(now));
        let nanos = u128::from(bytes) * 1_000_000_000 / u128::from(self.bytes_per_second.max(1));
        let takes = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
        self.free_at = begin.checked_add(takes);
        begin.saturating_duration_since(now)
    }
}

#[cfg(test)]
mod tests {
    use super::{Pace, due_in};
    use raspbox_protocol::Mtime;
    use std::time::{Duration, Instant};

    #[test]
    fn the_rate_is_kept_and_lost_time_is_not_made_up_for() {
        let mut pace = Pace {
            bytes_per_second: 1_000,
            free_at: None,
        };
        let (now, ms) = (Instant::now(), Duration::from_millis);
        assert_eq!(pace.wait_for(500, now), ms(0));
        assert_eq!(pace.wait_for(500, now), ms(500));
        assert_eq!(pace.wait_for(500, now + ms(500)), ms(500));
        let later = now + ms(60_000);
        assert_eq!(pace.wait_for(2_000, later), ms(0));
        assert_eq!(pace.wait_for(1, later + ms(1_500)), ms(500));
    }

    #[test]
    fn a_pass_is_due_by_the_distance_of_the_clock() {
        let every = Duration::from_secs(30);
        let at = |secs: i64| Mtime(secs * 1_000_000_000);
        let check = |ended: Option<i64>, now: i64, due: u64| {
            let found = due_in(ended.map(at), at(now), every);
            assert_eq!(found, Duration::from_secs(due), "{ended:?} at {now}");
        };
        check(None, 0, 0);
        check(Some(100), 100, 30);
        check(Some(100), 120, 10);
        check(Some(100), 130, 0);
        check(Some(100), 5_000, 0);
        // Set back a little, or by years.
        check(Some(100), 95, 25);
        check(Some(5_000), 0, 0);
    }
}

//! The clock of a machine that has none of its own: a Pi starts in 1970, or where its last clean stop
//! was, until the network tells it better.
//!
//! The daemon writes down the time now and then ([`keep`]); at boot the clock is set to at least that
//! ([`at_boot`]). Time only has to go forwards for nothing to look as if it was in the future.

use crate::state::StateDir;
use crate::whole;
use std::io;
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The file's name in the state directory: seconds since 1970.
pub(crate) const CLOCK_FILE: &str = "clock";

/// How often the time is written down: an SD card bears that for decades.
const SAVE_INTERVAL: Duration = Duration::from_secs(3600);

/// A time so far after the program was made isn't one.
const LIFE_MAX: Duration = Duration::from_secs(40 * 365 * 86_400);

/// A number of seconds has at most 20 digits.
const FILE_MAX_BYTES: u64 = 32;

/// Writes the time down until it is dropped, and then once more.
#[derive(Debug)]
pub(crate) struct Kept {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// Begins to write the time down, now and every hour.
pub(crate) fn keep(dir: &StateDir) -> io::Result<Kept> {
    let (stop, stopped) = channel();
    let dir = dir.clone();
    let thread = std::thread::Builder::new()
        .name("clock".into())
        .spawn(move || run(&dir, &stopped))?;
    Ok(Kept {
        stop: Some(stop),
        thread: Some(thread),
    })
}

fn run(dir: &StateDir, stopped: &Receiver<()>) {
    save(dir);
    while stopped.recv_timeout(SAVE_INTERVAL) == Err(RecvTimeoutError::Timeout) {
        save(dir);
    }
    save(dir);
}

fn save(dir: &StateDir) {
    let seen = seen(&dir.path(CLOCK_FILE)).ok().flatten();
    let Some(time) = to_keep(SystemTime::now(), seen, built()) else {
        return;
    };
    let seconds = since_1970(time).as_secs();
    if let Err(error) = dir.write(CLOCK_FILE, format!("{seconds}\n").as_bytes()) {
        let error = format!("{error:#}");
        tracing::warn!(error, "cannot write down the time");
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// What is to be written down. A clock that was set back is believed, since the network knows better
/// than we did; but not one that was never set.
fn to_keep(now: SystemTime, seen: Option<SystemTime>, built: SystemTime) -> Option<SystemTime> {
    (seen != Some(now) && now >= built).then_some(now)
}

/// What the clock is to be set to at boot: never back, and to nothing that can't be.
pub(crate) fn at_boot(
    now: SystemTime,
    seen: Option<SystemTime>,
    built: SystemTime,
) -> Option<SystemTime> {
    let seen = seen.filter(|seen| *seen <= built + LIFE_MAX);
    let least = seen.unwrap_or(built).max(built);
    (now < least).then_some(least)
}

/// The time that was written down; `None` where none was, or it is none.
pub(crate) fn seen(path: &Path) -> io::Result<Option<SystemTime>> {
    let Some(content) = whole::read(path, FILE_MAX_BYTES)? else {
        return Ok(None);
    };
    let seconds = std::str::from_utf8(&content)
        .ok()
        .and_then(|text| text.trim().parse().ok());
    Ok(seconds.and_then(|seconds| UNIX_EPOCH.checked_add(Duration::from_secs(seconds))))
}

/// When this program was made: its own file can't be from the future.
pub(crate) fn built() -> SystemTime {
    std::env::current_exe()
        .and_then(|path| std::fs::metadata(path)?.modified())
        .unwrap_or(UNIX_EPOCH)
}

fn since_1970(time: SystemTime) -> Duration {
    time.duration_since(UNIX_EPOCH).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::{CLOCK_FILE, at_boot, built, keep, seen, to_keep};
    use crate::state::StateDir;
    use std::time::{Duration, SystemTime, UNIX_EPOCH};

    const YEAR: u64 = 365 * 86_400;

    fn year(year: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs((year - 1970) * YEAR)
    }

    #[test]
    fn at_boot_the_clock_goes_only_forwards() {
        let check = |now, seen: Option<u64>, built, expect: Option<u64>| {
            let set = at_boot(year(now), seen.map(year), year(built));
            assert_eq!(set, expect.map(year), "{now} {seen:?} {built}");
        };
        check(1970, Some(2027), 2026, Some(2027));
        check(1970, None, 2026, Some(2026));
        check(1970, Some(2020), 2026, Some(2026));
        check(2028, Some(2027), 2026, None);
        check(2027, Some(2027), 2026, None);
        check(2025, Some(2027), 2026, Some(2027));
        // Something wrote nonsense.
        check(1970, Some(2400), 2026, Some(2026));
    }

    #[test]
    fn a_clock_that_was_never_set_is_not_written_down() {
        let check = |now, seen: Option<u64>, expect: Option<u64>| {
            assert_eq!(
                to_keep(year(now), seen.map(year), year(2026)),
                expect.map(year)
            );
        };
        check(2027, None, Some(2027));
        check(2028, Some(2027), Some(2028));
        check(2027, Some(2028), Some(2027));
        check(1970, Some(2027), None);
        check(1970, None, None);
        check(2027, Some(2027), None);
    }

    #[test]
    fn the_time_is_written_down_at_start_and_stop() {
        let temp = tempfile::tempdir().unwrap();
        let dir = StateDir::open(temp.path().into()).unwrap();
        let path = dir.path(CLOCK_FILE);
        assert_eq!(seen(&path).unwrap(), None);
        drop(keep(&dir).unwrap());
        let first = seen(&path).unwrap().unwrap();
        assert!(first >= built() - Duration::from_secs(1));
        std::fs::write(&path, "12\n").unwrap();
        drop(keep(&dir).unwrap());
        assert!(seen(&path).unwrap().unwrap() >= first);
        for nonsense in ["", "x", "-1", "99999999999999999999", "\0\0\0\0"] {
            std::fs::write(&path, nonsense).unwrap();
            assert_eq!(seen(&path).unwrap(), None, "{nonsense:?}");
        }
    }
}

//! Staying in sync: what happens on either side wakes a round.
//!
//! One loop over one enum of events. Two threads feed it, one with what the kernel tells of the
//! folder, one with the remote's stream; the rounds run here, so that there is never more than one.

use crate::engine::{Engine, Options, Scope, SyncError};
use crate::remote::{Events, RemoteError};
use crate::report::{Report, Summary};
pub use crate::scan::QUIET;
use notify::event::{AccessKind, AccessMode};
use notify::{EventKind, RecursiveMode, Watcher};
use raspbox_core::plan::Trouble;
use raspbox_core::tree::Unknown;
use raspbox_protocol::{Cursor, RelPath};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

/// How often everything is scanned although nothing was told: the kernel drops events when its queue
/// is full, and network filesystems tell none.
const FULL_SCAN_INTERVAL: Duration = Duration::from_secs(15 * 60);

/// How often what could not be done is tried again.
const RETRY_INTERVAL: Duration = Duration::from_secs(60);

/// How soon a file that was being written is looked at again; twice as long each time that the same ones
/// are, up to [`RETRY_INTERVAL`].
const BUSY_INTERVAL: Duration = Duration::from_secs(1);

/// How soon a lost connection is tried again, doubling up to the most.
const BACKOFF_MIN: Duration = Duration::from_millis(500);
const BACKOFF_MAX: Duration = Duration::from_secs(60);

/// The most where somebody else answers at the appliance's address: in another network, and for as
/// long as one sits in that café.
const BACKOFF_STRANGER_MAX: Duration = Duration::from_secs(5 * 60);

/// How often a folder is scanned that the kernel can't watch.
const UNWATCHED_INTERVAL: Duration = Duration::from_secs(10);

/// What wakes the loop.
#[derive(Debug)]
pub enum Wake {
    /// Something happened at these paths.
    Local(Vec<RelPath>),
    /// Something happened, nobody knows where.
    LocalAnywhere,
    /// The remote's journal has come to this position.
    Remote(Cursor),
    /// The remote's stream of events broke.
    RemoteLost,
    /// Time to go.
    Stop,
}

/// What the loop tells whoever shows it.
#[derive(Debug)]
pub enum Notice<'a> {
    /// Watching has begun; why not, where the kernel can't do it.
    Watching(Option<String>),
    /// A round is over.
    Round(&'a Summary),
    /// A round did not go; it is tried again by itself.
    Failed(&'a SyncError),
}

/// How to watch.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// How often to look at a remote that has no stream of events.
    pub poll: Duration,
}

/// Keeps one folder in sync until told to stop.
///
/// # Errors
/// Only where going on is of no use: the login isn't accepted any more, or the state can't be used.
pub fn watch(
    engine: &mut Engine,
    folder: &Path,
    settings: Settings,
    (wakes, received): (&Sender<Wake>, &Receiver<Wake>),
    round_lock: &mut dyn FnMut() -> Result<std::fs::File, SyncError>,
    report: &mut Report<'_>,
    notice: &mut dyn FnMut(Notice<'_>),
) -> Result<(), SyncError> {
    // The watch begins before the first scan, so that nothing falls between them.
    let watcher = watch_folder(folder, wakes.clone());
    let unwatched = watcher.as_ref().err().map(ToString::to_string);
    let rescan = if unwatched.is_some() {
        UNWATCHED_INTERVAL
    } else {
        FULL_SCAN_INTERVAL
    };
    notice(Notice::Watching(unwatched));
    // At the first edit somebody waits.
    engine.stay();
    let mut agenda = Agenda::new(rescan, Instant::now());
    let mut stream = false;
    loop {
        let now = Instant::now();
        if let Some(scope) = agenda.due(now) {
            let lock = round_lock()?;
            let result = engine.round(&scope, Options::default(), report);
            drop(lock);
            let now = Instant::now();
            match result {
                Ok(summary) => {
                    notice(Notice::Round(&summary));
                    agenda.went(&scope, &summary, now);
                }
                Err(error) if is_final(&error) => return Err(error),
                Err(error) => {
                    notice(Notice::Failed(&error));
                    agenda.failed(now, backoff_max(&error));
                }
            }
            if !stream && agenda.connected() {
                stream = listen(engine, wakes)?;
                agenda.poll = (!stream).then_some(settings.poll);
            }
        }
        let wait = agenda.next(Instant::now());
        match received.recv_timeout(wait) {
            Ok(Wake::Stop) => return Ok(()),
            Ok(Wake::Local(paths)) => {
                let now = Instant::now();
                agenda.dirty.extend(
                    paths
                        .into_iter()
                        .filter(|path| !engine.ignores(path))
                        .map(|path| (path, now)),
                );
            }
            Ok(Wake::LocalAnywhere) => agenda.scan_at = Instant::now() + QUIET,
            Ok(Wake::Remote(cursor)) => {
                agenda.remote |= engine.cursor().is_none_or(|known| known != cursor);
            }
            Ok(Wake::RemoteLost) => {
                stream = false;
                agenda.failed(Instant::now(), BACKOFF_MAX);
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return Ok(()),
        }
    }
}

/// What is to be done when.
#[derive(Debug)]
struct Agenda {
    /// Paths where something happened, and when it did last.
    dirty: BTreeMap<RelPath, Instant>,
    /// Whether the remote has news.
    remote: bool,
    /// When everything is scanned next.
    scan_at: Instant,
    rescan: Duration,
    /// When to look at the remote without being told, and how often.
    poll_at: Instant,
    poll: Option<Duration>,
    /// What was busy in the last round, and how soon that is looked at again.
    busy: BTreeSet<RelPath>,
    busy_interval: Duration,
    /// After a failure: not before.
    not_before: Option<Instant>,
    backoff: Duration,
}

impl Agenda {
    fn new(rescan: Duration, now: Instant) -> Agenda {
        Agenda {
            dirty: BTreeMap::new(),
            remote: true,
            scan_at: now,
            rescan,
            poll_at: now,
            poll: None,
            busy: BTreeSet::new(),
            busy_interval: BUSY_INTERVAL,
            not_before: None,
            backoff: BACKOFF_MIN,
        }
    }

    /// What the next round looks at, where one is due now. What it is for is taken off.
    fn due(&mut self, now: Instant) -> Option<Scope> {
        if self.not_before.is_some_and(|time| now < time) {
            return None;
        }
        if now >= self.scan_at {
            self.dirty.clear();
            return Some(Scope::All);
        }
        let quiet: BTreeSet<RelPath> = self
            .dirty
            .iter()
            .filter(|(_, last)| now.duration_since(**last) >= QUIET)
            .map(|(path, _)| path.clone())
            .collect();
        self.dirty.retain(|path, _| !quiet.contains(path));
        let polled = self.poll.is_some() && now >= self.poll_at;
        let due = !quiet.is_empty() || self.remote || polled;
        due.then_some(Scope::Paths(quiet))
    }

    fn went(&mut self, scope: &Scope, summary: &Summary, now: Instant) {
        self.remote = false;
        self.not_before = None;
        self.backoff = BACKOFF_MIN;
        if let Some(poll) = self.poll {
            self.poll_at = now + poll;
        }
        if *scope == Scope::All {
            self.scan_at = now + self.rescan;
        }
        let busy = summary
            .problems
            .iter()
            .filter(|problem| problem.what == Trouble::Local(Unknown::Busy));
        let busy: BTreeSet<RelPath> = busy.map(|problem| problem.path.clone()).collect();
        // What never becomes quiet must not keep the computer, and the appliance, at it.
        self.busy_interval = match busy == self.busy {
            true => (self.busy_interval * 2).min(RETRY_INTERVAL),
            false => BUSY_INTERVAL,
        };
        self.busy = busy;
        // What is damaged stays so until somebody repairs it, and is not looked at every minute.
        let may_pass = summary.problems.iter().any(|problem| {
            !matches!(
                problem.what,
                Trouble::Local(Unknown::Damaged) | Trouble::Remote(Unknown::Damaged)
            )
        });
        if !self.busy.is_empty() {
            self.scan_at = self.scan_at.min(now + self.busy_interval);
        } else if may_pass {
            self.scan_at = self.scan_at.min(now + RETRY_INTERVAL);
        }
    }

    fn failed(&mut self, now: Instant, backoff_max: Duration) {
        self.backoff = self.backoff.min(backoff_max);
        self.not_before = Some(now + self.backoff);
        self.backoff = (self.backoff * 2).min(backoff_max);
        // What the failed round was for is found by a whole one.
        self.scan_at = now;
    }

    fn connected(&self) -> bool {
        self.not_before.is_none()
    }

    /// How long until something is due.
    fn next(&self, now: Instant) -> Duration {
        let quiet = self.dirty.values().min().map(|last| *last + QUIET);
        let poll = self.poll.map(|_| self.poll_at);
        let remote = self.remote.then_some(now);
        let times = [Some(self.scan_at), quiet, poll, remote];
        let next = times
            .into_iter()
            .flatten()
            .min()
            .unwrap_or(now + self.rescan);
        next.max(self.not_before.unwrap_or(now))
            .saturating_duration_since(now)
    }
}

/// Whether trying again is of no use until a person has done something.
///
/// Another certificate, or an answer that makes no sense, is not: a laptop moves, and in another
/// network another box answers at that address. Nothing is sent to it; back home all goes on.
fn is_final(error: &SyncError) -> bool {
    match error {
        SyncError::Remote(error) => match error {
            RemoteError::LoginRefused { .. } | RemoteError::NotProven { .. } => true,
            RemoteError::OtherCertificate { .. }
            | RemoteError::NotUnderstood { .. }
            | RemoteError::Unreachable { .. }
            | RemoteError::NoSuchHost(_)
            | RemoteError::NoDrive { .. }
            | RemoteError::Refused { .. }
            | RemoteError::Local(_) => false,
        },
        SyncError::State(_) | SyncError::Record(_) => true,
        // A brake is let go by a person, or by what it was for going away: looked at again later.
        SyncError::Halt(_) | SyncError::Local { .. } => false,
    }
}

/// How long to wait at most before trying again.
fn backoff_max(error: &SyncError) -> Duration {
    match error {
        SyncError::Remote(
            RemoteError::OtherCertificate { .. } | RemoteError::NotUnderstood { .. },
        ) => BACKOFF_STRANGER_MAX,
        SyncError::Remote(_)
        | SyncError::State(_)
        | SyncError::Record(_)
        | SyncError::Halt(_)
        | SyncError::Local { .. } => BACKOFF_MAX,
    }
}

/// Starts the thread that reads the remote's stream; `false` where the remote has none.
fn listen(engine: &Engine, wakes: &Sender<Wake>) -> Result<bool, SyncError> {
    let Some(since) = engine.cursor() else {
        return Ok(false);
    };
    let events = match engine.remote().events(since) {
        Ok(Some(events)) => events,
        Ok(None) => return Ok(false),
        Err(_) => {
            // The round that follows says what is wrong, if it still is.
            drop(wakes.send(Wake::RemoteLost));
            return Ok(true);
        }
    };
    let wakes = wakes.clone();
    std::thread::Builder::new()
        .name("events".into())
        .spawn(move || read_events(events, &wakes))
        .map_err(RemoteError::Local)?;
    Ok(true)
}

fn read_events(mut events: Box<dyn Events>, wakes: &Sender<Wake>) {
    loop {
        let wake = match events.next() {
            Ok(cursor) => Wake::Remote(cursor),
            Err(_) => Wake::RemoteLost,
        };
        let lost = matches!(wake, Wake::RemoteLost);
        // Nobody takes it any more once the loop has ended.
        if wakes.send(wake).is_err() || lost {
            return;
        }
    }
}

/// Has the kernel tell of everything in the folder, for as long as the watcher lives.
fn watch_folder(folder: &Path, wakes: Sender<Wake>) -> notify::Result<impl Watcher + use<>> {
    let root = folder.to_owned();
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        let wake = match event {
            Ok(event) if event.need_rescan() => Some(Wake::LocalAnywhere),
            Ok(event) => touched(&root, &event).map(Wake::Local),
            Err(_) => Some(Wake::LocalAnywhere),
        };
        if let Some(wake) = wake {
            drop(wakes.send(wake));
        }
    })?;
    watcher.watch(folder, RecursiveMode::Recursive)?;
    Ok(watcher)
}

/// The paths that an event is about; `None` where it changed nothing, or nothing of a user's.
fn touched(root: &Path, event: &notify::Event) -> Option<Vec<RelPath>> {
    match event.kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write))
        | EventKind::Any
        | EventKind::Create(_)
        | EventKind::Modify(_)
        | EventKind::Remove(_)
        | EventKind::Other => {}
        // Reading, ours above all.
        EventKind::Access(_) => return None,
    }
    let paths: Vec<RelPath> = event
        .paths
        .iter()
        .filter_map(|path| RelPath::parse(path.strip_prefix(root).ok()?.to_str()?).ok())
        .collect();
    (!paths.is_empty()).then_some(paths)
}

#[cfg(test)]
mod tests {
    use super::{
        Agenda, BACKOFF_MAX, BACKOFF_STRANGER_MAX, BUSY_INTERVAL, QUIET, RETRY_INTERVAL, Scope,
        backoff_max, is_final,
    };
    use crate::engine::SyncError;
    use crate::remote::{Digest256, RemoteError};
    use crate::report::Summary;
    use raspbox_core::plan::{Problem, Trouble};
    use raspbox_core::tree::Unknown;
    use raspbox_protocol::RelPath;
    use std::time::{Duration, Instant};

    fn path(text: &str) -> RelPath {
        RelPath::parse(text).expect("a good path")
    }

    /// An agenda after its first round.
    fn settled(now: Instant) -> Agenda {
        let mut agenda = Agenda::new(Duration::from_secs(900), now);
        assert_eq!(agenda.due(now), Some(Scope::All));
        agenda.went(&Scope::All, &Summary::default(), now);
        assert_eq!(agenda.due(now), None);
        agenda
    }

    #[test]
    fn a_file_is_looked_at_once_it_is_quiet() {
        let now = Instant::now();
        let mut agenda = settled(now);
        agenda.dirty.insert(path("a"), now);
        agenda.dirty.insert(path("b"), now + QUIET / 2);
        assert_eq!(agenda.due(now + QUIET / 2), None);
        assert_eq!(agenda.next(now + QUIET / 2), QUIET / 2);
        // The one that is still being written doesn't hold up the other.
        assert_eq!(
            agenda.due(now + QUIET),
            Some(Scope::Paths([path("a")].into()))
        );
        assert_eq!(agenda.due(now + QUIET), None);
        assert_eq!(
            agenda.due(now + QUIET * 2),
            Some(Scope::Paths([path("b")].into()))
        );
    }

    #[test]
    fn what_stays_busy_is_looked_at_more_and_more_rarely() {
        let mut now = Instant::now();
        let mut agenda = settled(now);
        let busy = |names: &[&str]| Summary {
            problems: names
                .iter()
                .map(|name| Problem {
                    path: path(name),
                    what: Trouble::Local(Unknown::Busy),
                })
                .collect(),
            ..Summary::default()
        };
        let mut wait = |names: &[&str]| {
            agenda.went(&Scope::All, &busy(names), now);
            let wait = agenda.next(now);
            now += wait;
            wait
        };
        assert_eq!(wait(&["log"]), BUSY_INTERVAL);
        assert_eq!(wait(&["log"]), BUSY_INTERVAL * 2);
        assert_eq!(wait(&["log"]), BUSY_INTERVAL * 4);
        assert_eq!(wait(&["log", "film"]), BUSY_INTERVAL);
        for _ in 0..20 {
            wait(&["log"]);
        }
        assert_eq!(wait(&["log"]), RETRY_INTERVAL);
        wait(&[]);
        assert_eq!(wait(&["log"]), BUSY_INTERVAL);
    }

    #[test]
    fn the_remotes_news_wait_for_nothing() {
        let now = Instant::now();
        let mut agenda = settled(now);
        agenda.remote = true;
        assert_eq!(agenda.next(now), Duration::ZERO);
        assert_eq!(agenda.due(now), Some(Scope::Paths([].into())));
    }

    #[test]
    fn a_failure_waits_longer_each_time_and_then_looks_at_everything() {
        let now = Instant::now();
        let mut agenda = settled(now);
        agenda.remote = true;
        agenda.failed(now, BACKOFF_MAX);
        let first = agenda.next(now);
        assert_eq!(agenda.due(now), None);
        assert_eq!(agenda.due(now + first), Some(Scope::All));
        agenda.failed(now, BACKOFF_MAX);
        assert_eq!(agenda.next(now), first * 2);
    }

    #[test]
    fn a_stranger_is_asked_ever_more_rarely_and_home_is_found_soon() {
        let now = Instant::now();
        let mut agenda = settled(now);
        let waits: Vec<Duration> = (0..12)
            .map(|_| {
                agenda.failed(now, BACKOFF_STRANGER_MAX);
                agenda.next(now)
            })
            .collect();
        assert!(waits[0] <= Duration::from_secs(1) && waits.is_sorted());
        assert_eq!(waits.last(), Some(&BACKOFF_STRANGER_MAX));
        // Where nobody answers at all, it isn't that long any more.
        agenda.failed(now, BACKOFF_MAX);
        assert_eq!(agenda.next(now), BACKOFF_MAX);
    }

    #[test]
    fn only_what_a_person_must_mend_ends_a_watch() {
        let address = || "10.0.0.1:21".to_owned();
        let digest = Digest256([0; 32]);
        let check = |error: RemoteError, ends: bool, most: Duration| {
            let error = SyncError::Remote(error);
            assert_eq!(
                (is_final(&error), backoff_max(&error)),
                (ends, most),
                "{error}"
            );
        };
        let (address, pinned, found) = (address(), digest, digest);
        let why = String::new();
        check(
            RemoteError::OtherCertificate {
                address: address.clone(),
                pinned,
                found,
            },
            false,
            BACKOFF_STRANGER_MAX,
        );
        check(
            RemoteError::NotUnderstood {
                address: address.clone(),
                why: why.clone(),
            },
            false,
            BACKOFF_STRANGER_MAX,
        );
        check(
            RemoteError::Unreachable {
                address: address.clone(),
                why: why.clone(),
            },
            false,
            BACKOFF_MAX,
        );
        let user = "ann".into();
        check(
            RemoteError::LoginRefused { address, user, why },
            true,
            BACKOFF_MAX,
        );
    }
}

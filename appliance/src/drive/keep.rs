//! Keeping what is served in line with what is mounted.

use crate::config::Settings;
use crate::drive::health::Health;
use crate::drive::mounts::Mount;
use crate::drive::report::{Attached, Check, Reports};
use crate::drive::slot::{Nothing, Serving};
use crate::idle::Idle;
use crate::registry::Registry;
use crate::shared::Shared;
use crate::{retention, scrub};
use anyhow::Context;
use raspbox_store::{OpenError, Options, Rescue, Store};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// How often the mounts are looked at. A drive is to be served within 3 s of its mount.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// How soon a drive that could not be opened is tried again.
const RETRY_INTERVAL: Duration = Duration::from_secs(10);

/// What was written so shortly before the last change is read again after the filesystem's check had to
/// repair something: a kernel writes back what is in memory within half a minute
/// (`vm.dirty_expire_centisecs`), a stick within a while of its own.
const RECHECK: Duration = Duration::from_secs(3600);

/// Looks after a mount point.
#[derive(Debug)]
struct Keeper {
    shared: Arc<Shared>,
    point: PathBuf,
    reports: Reports,
    known: Known,
    /// A mount through which something could not be written: it is only read.
    unwritten: Option<Mount>,
}

/// What was last done about a mount.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Known {
    /// There was none.
    None,
    /// It is served.
    Served(Mount),
    /// It could not be opened, at this time.
    Failed(Mount, Instant),
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Step {
    Stay,
    Close(Nothing),
    Open(Mount),
}

/// Opens a plain folder that is always there.
pub(crate) fn open_folder(
    folder: &Path,
    settings: &Settings,
    registry: &Arc<Registry>,
) -> anyhow::Result<Serving> {
    serve_all(folder, settings, registry, Health::unknown(), &Check::Clean)
}

/// Serves what is mounted at a mount point, for ever.
pub(crate) async fn keep(shared: &Arc<Shared>, point: &Path, reports: Reports) {
    let mut keeper = Keeper {
        shared: Arc::clone(shared),
        point: point.into(),
        reports,
        known: Known::None,
        unwritten: None,
    };
    let mut tick = tokio::time::interval(LOOK_INTERVAL);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        keeper.look().await;
    }
}

impl Keeper {
    async fn look(&mut self) {
        // Neither touches the drive, so neither can hang in it.
        let mount = match Mount::at(&self.point) {
            Ok(mount) => mount,
            Err(error) => {
                tracing::error!(%error, "cannot see what is mounted");
                return;
            }
        };
        let report = self.reports.attached();
        let leaving = report.as_ref().is_some_and(|report| report.leaving);
        let unwritten = self.is_unwritten();
        if unwritten && let Known::Served(served) = &self.known {
            self.unwritten = Some(served.clone());
        }
        let now = Instant::now();
        match decide(&self.known, mount.as_ref(), leaving, unwritten, now) {
            Step::Stay => {}
            Step::Close(why) => self.close(why),
            Step::Open(mount) => self.open(mount, report).await,
        }
    }

    /// Whether something could not be written to what is served.
    fn is_unwritten(&self) -> bool {
        match &*self.shared.slot.now() {
            Serving::All { store, .. } => store.unwritten().is_some(),
            Serving::Nothing(_) | Serving::Rescue { .. } => false,
        }
    }

    fn close(&mut self, why: Nothing) {
        let serving = self.shared.slot.now();
        if matches!(&*serving, Serving::Nothing(before) if *before == why) {
            return;
        }
        tracing::warn!(%why, "nothing is served");
        // First, so that nobody gets hold of it again.
        self.shared.slot.serve(Serving::Nothing(why));
        self.known = Known::None;
        // A session belongs to one drive: half a round with one and half with another must not be.
        for session in self.shared.registry.all() {
            session.close("the drive is gone");
        }
    }

    async fn open(&mut self, mount: Mount, report: Option<Attached>) {
        self.shared.slot.serve(Serving::Nothing(Nothing::Opening));
        let (shared, point, found) = (Arc::clone(&self.shared), self.point.clone(), mount.clone());
        let written = self.unwritten.as_ref() != Some(&mount);
        let opening = tokio::task::spawn_blocking(move || {
            let check = report.map_or(Check::Clean, |report| report.check);
            let serving = serve_mount(&shared, &point, &found, check, written)?;
            // What was opened may be what lies below the mount point, or another drive.
            let still = Mount::at(&point)?;
            anyhow::ensure!(still.as_ref() == Some(&found), "it was removed again");
            anyhow::Ok(serving)
        });
        let opened = opening.await.map_err(anyhow::Error::from).and_then(|r| r);
        match opened {
            Ok(serving) => {
                tracing::info!(filesystem = mount.filesystem, %serving, "the drive is served");
                self.shared.slot.serve(serving);
                self.known = Known::Served(mount);
            }
            Err(error) => {
                if let Some(OpenError::Unwritten { .. }) = error.downcast_ref() {
                    self.unwritten = Some(mount.clone());
                }
                let why = format!("{error:#}");
                if !matches!(&self.known, Known::Failed(before, _) if *before == mount) {
                    tracing::error!(error = why, "the drive can't be used");
                }
                let nothing = Nothing::Unusable(why);
                self.shared.slot.serve(Serving::Nothing(nothing));
                self.known = Known::Failed(mount, Instant::now());
            }
        }
    }
}

/// What there is to do, by what was done and what is there.
/// `unwritten` is whether something could not be written to what is served.
fn decide(
    known: &Known,
    mount: Option<&Mount>,
    leaving: bool,
    unwritten: bool,
    now: Instant,
) -> Step {
    match (known, mount) {
        (_, None) => Step::Close(Nothing::NoDrive),
        (_, Some(_)) if leaving => Step::Close(Nothing::Leaving),
        (Known::Served(served), Some(mount)) if served == mount && !unwritten => Step::Stay,
        // Another drive in its place, or it isn't written to any more. Opened with the next
        // look, when the sessions of the one before have ended.
        (Known::Served(_), Some(_)) => Step::Close(Nothing::Opening),
        (Known::Failed(failed, at), Some(mount))
            if failed == mount && now.saturating_duration_since(*at) < RETRY_INTERVAL =>
        {
            Step::Stay
        }
        (Known::None | Known::Failed(..), Some(mount)) => Step::Open(mount.clone()),
    }
}

fn serve_mount(
    shared: &Shared,
    point: &Path,
    mount: &Mount,
    check: Check,
    written: bool,
) -> anyhow::Result<Serving> {
    let why = match (check, mount.read_only || !written) {
        (check @ (Check::Clean | Check::Unclean | Check::Repaired), false) => {
            let health = Health::of(&mount.device);
            return serve_all(point, &shared.settings, &shared.registry, health, &check);
        }
        (Check::Failed(said), _) => format!(
            "its filesystem is broken and could not be repaired by itself ({said}); save what you \
             need, then check it on a computer"
        ),
        (Check::Clean | Check::Unclean | Check::Repaired, true) => {
            "nothing is written to it any more, after an error; unplug it and plug it in again, \
             and replace it if that comes again"
                .into()
        }
    };
    let files = Rescue::open(point)?;
    anyhow::ensure!(
        files.is_readable(),
        "nothing can be read or written any more, after an error; unplug it and plug it in again, which \
         checks it, and replace it if that comes again"
    );
    Ok(Serving::Rescue { files, why })
}

fn serve_all(
    folder: &Path,
    settings: &Settings,
    registry: &Arc<Registry>,
    health: Health,
    check: &Check,
) -> anyhow::Result<Serving> {
    let options = Options {
        floor_bytes: settings.floor_bytes,
    };
    let store = match check {
        Check::Repaired => Store::open_repaired(folder, options)?,
        Check::Clean | Check::Unclean | Check::Failed(_) => Store::open(folder, options)?,
    };
    if *check != Check::Clean {
        let found = store.recheck(RECHECK)?;
        tracing::info!(
            files = found.files,
            bytes = found.bytes,
            damaged = found.damaged,
            "read again what was written last, since the drive was not unmounted"
        );
    }
    let (newest, changes) = watch::channel(store.cursor());
    store.on_change(move |cursor| {
        newest.send_replace(cursor);
    });
    let idle = work_when_idle(&store, settings, registry).context("cannot start a thread")?;
    Ok(Serving::All {
        store,
        changes,
        health,
        _idle: idle,
    })
}

/// Begins what is done while nobody is served.
fn work_when_idle(
    store: &Store,
    settings: &Settings,
    registry: &Arc<Registry>,
) -> std::io::Result<Idle> {
    let idle = Idle::new(registry);
    let (here, how) = (store.clone(), settings.scrub);
    idle.begin("scrub", move |leave| scrub::run(leave, &here, how))?;
    let (here, policy) = (store.clone(), settings.versions);
    idle.begin("retention", move |leave| {
        retention::run(leave, &here, policy, retention::FIRST);
    })?;
    Ok(idle)
}

#[cfg(test)]
mod tests {
    use super::{Known, RETRY_INTERVAL, Step, decide};
    use crate::drive::mounts::Mount;
    use crate::drive::slot::Nothing;
    use std::time::Instant;

    #[test]
    fn what_is_served_follows_what_is_mounted() {
        let mount = |id, read_only| Mount {
            id,
            device: "8:1".into(),
            filesystem: "ext4".into(),
            read_only,
        };
        let (good, other, dying) = (mount(1, false), mount(2, false), mount(1, true));
        let now = Instant::now();
        let check = |known: Known, found: Option<&Mount>, leaving: bool, expect: Step| {
            assert_eq!(
                decide(&known, found, leaving, false, now),
                expect,
                "{known:?} {found:?} {leaving}"
            );
        };
        let served = || Known::Served(good.clone());
        let failed = |ago| Known::Failed(good.clone(), now.checked_sub(ago).unwrap());
        let gone = || Step::Close(Nothing::NoDrive);
        check(Known::None, None, false, gone());
        check(Known::None, Some(&good), false, Step::Open(good.clone()));
        check(
            Known::None,
            Some(&good),
            true,
            Step::Close(Nothing::Leaving),
        );
        check(served(), Some(&good), false, Step::Stay);
        check(served(), None, false, gone());
        check(served(), None, true, gone());
        check(served(), Some(&good), true, Step::Close(Nothing::Leaving));
        check(served(), Some(&other), false, Step::Close(Nothing::Opening));
        check(served(), Some(&dying), false, Step::Close(Nothing::Opening));
        check(failed(RETRY_INTERVAL / 2), Some(&good), false, Step::Stay);
        check(
            failed(RETRY_INTERVAL),
            Some(&good),
            false,
            Step::Open(good.clone()),
        );
        check(
            failed(RETRY_INTERVAL / 2),
            Some(&dying),
            false,
            Step::Open(dying.clone()),
        );
        check(failed(RETRY_INTERVAL), None, false, gone());
        let after_a_write_that_failed = |known: Known, found: Option<&Mount>, expect: Step| {
            assert_eq!(decide(&known, found, false, true, now), expect);
        };
        after_a_write_that_failed(served(), Some(&good), Step::Close(Nothing::Opening));
        after_a_write_that_failed(served(), None, gone());
        after_a_write_that_failed(Known::None, Some(&good), Step::Open(good.clone()));
    }
}

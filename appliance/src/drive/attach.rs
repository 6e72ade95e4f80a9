//! Attaching a drive and releasing it: root's part.
//!
//! What is wrong with a stick is said in a report, and is no failure of the command: nobody can mend it
//! by starting the unit again.

use crate::drive::checked::check;
use crate::drive::found::{Found, Served, Verdict};
use crate::drive::listed::Listed;
use crate::drive::mounts::Mount;
use crate::drive::own;
use crate::drive::report::{Attached, Check, Other, Reports};
use crate::programs::{SYSTEMCTL, SYSTEMD_ESCAPE, ask};
use anyhow::{Context, bail};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::unistd::User;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long the daemon may take to let go of the drive before it is unmounted all the same.
const RELEASE_DEADLINE: Duration = Duration::from_secs(10);

/// Where everything is.
#[derive(Debug, Clone)]
pub(crate) struct Places {
    /// The mount point.
    pub(crate) point: PathBuf,
    /// Where reports go.
    pub(crate) run: PathBuf,
    /// The list of adopted filesystems.
    pub(crate) adopted: PathBuf,
    /// The list of filesystems that may have been repaired, which is noted nowhere else yet.
    pub(crate) unsettled: PathBuf,
    /// The user that the daemon runs as.
    pub(crate) user: String,
}

impl Default for Places {
    fn default() -> Places {
        Places {
            point: "/srv/raspbox".into(),
            run: crate::drive::RUN_DIR.into(),
            adopted: "/var/lib/raspbox-drive/adopted".into(),
            unsettled: "/var/lib/raspbox-drive/unsettled".into(),
            user: "raspbox".into(),
        }
    }
}

/// Root's commands on drives, one at a time.
#[derive(Debug)]
pub(crate) struct Drives {
    places: Places,
    reports: Reports,
    _lock: nix::fcntl::Flock<fs::File>,
}

impl Drives {
    /// Waits for other commands like this one.
    pub(crate) fn open(places: Places) -> anyhow::Result<Drives> {
        fs::create_dir_all(&places.run)
            .with_context(|| format!("cannot make {}", places.run.display()))?;
        let lock = fs::File::create(places.run.join("drive.lock"))?;
        let lock = nix::fcntl::Flock::lock(lock, nix::fcntl::FlockArg::LockExclusive)
            .map_err(|(_, errno)| errno)
            .context("cannot wait for other commands")?;
        Ok(Drives {
            reports: Reports::in_folder(&places.run),
            places,
            _lock: lock,
        })
    }

    /// Attaches the drive where it is ours and can be; returns what it did, in words.
    pub(crate) fn attach(&self, device: &str) -> anyhow::Result<String> {
        self.let_go_of_the_vanished()?;
        let in_use = self.in_use()?;
        if in_use.as_deref() == Some(device) {
            return Ok(format!("{device} is attached already"));
        }
        let found = Found::on(device)?;
        let verdict = found.judge(device, &self.adopted().all()?, in_use.as_deref());
        tracing::info!(device, ?found, ?verdict, "a stick");
        let filesystem = match verdict {
            Verdict::Attach(filesystem) => filesystem,
            Verdict::Leave(why) => return self.leave(device, why, false),
            Verdict::Wait(in_use) => {
                let why = format!("{in_use} is in use; this one will be, once that is unplugged");
                return self.leave(device, why, true);
            }
            Verdict::Ignore => return Ok(format!("{device} has partitions, these count")),
        };
        if let Err(errno) = exclusively(device) {
            let why = format!("some program has it open ({errno}); unplug it and plug it in again");
            return self.leave(device, why, false);
        }
        let check = self.check(device, filesystem, &found.uuid);
        let mut drive = Attached {
            device: device.into(),
            label: match found.label.as_str() {
                "" => device.into(),
                label => label.into(),
            },
            filesystem: filesystem.to_string(),
            check: check.clone(),
            // Until all is done: the daemon sees a mount at once, and must not serve it before.
            leaving: true,
        };
        self.reports.attach(&drive)?;
        let attached = self.mount_and_own(device, filesystem, check);
        let check = match attached {
            Ok(Ok(check)) => check,
            Ok(Err(errno)) => {
                self.reports.detach()?;
                let why =
                    format!("its filesystem can't be mounted ({errno}); check it on a computer");
                return self.leave(device, why, false);
            }
            Err(error) => {
                self.unmount_now()?;
                self.reports.detach()?;
                return Err(error);
            }
        };
        self.adopt(&found)?;
        self.settle(&check, &found.uuid);
        self.reports.forget(device)?;
        drive.check = check.clone();
        drive.leaving = false;
        self.reports.attach(&drive)?;
        Ok(match check {
            Check::Clean | Check::Unclean => format!("{device} is attached"),
            Check::Repaired => format!("{device} was repaired and is attached"),
            Check::Failed(said) => format!("{device} is attached, but only to be read: {said}"),
        })
    }

    /// Checks it. That it may be repaired is noted before, since the next check would find nothing: the power
    /// may go before anybody has looked through what the repair has left.
    fn check(&self, device: &str, filesystem: Served, uuid: &str) -> Check {
        // A card that takes nothing any more is no reason to serve no files.
        let unsettled = self.unsettled().add(uuid).unwrap_or_else(|error| {
            tracing::warn!(error = format!("{error:#}"), "the check can't be noted");
            false
        });
        check(device, filesystem).since(unsettled)
    }

    /// Forgets that it may have been repaired, once that is noted on the drive or known not to be so.
    fn settle(&self, check: &Check, uuid: &str) {
        let settled = match check {
            Check::Clean | Check::Unclean => Ok(()),
            Check::Repaired => raspbox_store::note_repair(&self.places.point)
                .with_context(|| format!("cannot note it in {}", self.places.point.display())),
            // It is only read; the next check may find nothing.
            Check::Failed(_) => return,
        };
        if let Err(error) = settled.and_then(|()| self.unsettled().remove(uuid)) {
            tracing::warn!(
                error = format!("{error:#}"),
                "will be looked through again when it is plugged in the next time"
            );
        }
    }

    /// Mounts it as its check allows, and gives its files to the daemon; what the check means now, or why
    /// it can't be mounted at all.
    fn mount_and_own(
        &self,
        device: &str,
        filesystem: Served,
        check: Check,
    ) -> anyhow::Result<Result<Check, Errno>> {
        // The package and each boot make it, immutable; without it there is nowhere to mount.
        fs::create_dir_all(&self.places.point)
            .with_context(|| format!("cannot make {}", self.places.point.display()))?;
        let mounted = self.mount(device, filesystem, &check);
        let (check, errno) = match (mounted, check) {
            (Ok(()), check) => (check, None),
            // Checked and good, and yet the kernel can't write to it: it is at least read.
            (Err(errno), Check::Clean | Check::Unclean | Check::Repaired) => {
                let check = Check::Failed(format!("the kernel can't mount it: {errno}"));
                (check.clone(), self.mount(device, filesystem, &check).err())
            }
            (Err(errno), check @ Check::Failed(_)) => (check, Some(errno)),
        };
        if let Some(errno) = errno {
            return Ok(Err(errno));
        }
        if filesystem == Served::Ext4 && !matches!(check, Check::Failed(_)) {
            let user = self.user()?;
            let changed = own::give_to(&self.places.point, user.uid, user.gid)
                .with_context(|| format!("cannot give the files on {device} to {}", user.name))?;
            if changed > 0 {
                tracing::info!(changed, "files of other owners are the daemon's now");
            }
        }
        Ok(Ok(check))
    }

    /// Takes a drive for ours, whatever its label is, and attaches it.
    pub(crate) fn adopt_and_attach(&self, device: &str) -> anyhow::Result<String> {
        let found = Found::on(device)?;
        if found.filesystem.is_some() && found.uuid.is_empty() {
            bail!("the filesystem on {device} has no identity; give it the label RASPBOX instead");
        }
        self.adopt(&found)?;
        self.attach(device)
    }

    /// Releases a drive, so that it can be unplugged; or the mount of one that was.
    pub(crate) fn detach(&self, device: &str) -> anyhow::Result<String> {
        self.reports.forget(device)?;
        let said = match self.reports.attached() {
            Some(drive) if drive.device == device => self.release(drive)?,
            Some(_) | None => return Ok(format!("{device} isn't attached")),
        };
        // Whoever waited for its place has it now: by its own unit, whose time it has for its check. Not
        // where the system goes down.
        let mut others = self.reports.others().into_iter();
        let next = others.find(|other| other.waits && Path::new(&other.device).exists());
        if let Some(next) = next
            && !is_stopping()
        {
            attach_by_unit(&next.device);
        }
        Ok(said)
    }

    fn release(&self, drive: Attached) -> anyhow::Result<String> {
        let device = drive.device.clone();
        let gone = !Path::new(&device).exists();
        if !gone {
            // The daemon lets go of it when it sees this.
            self.reports.attach(&Attached {
                leaving: true,
                ..drive
            })?;
        }
        let deadline = Instant::now() + RELEASE_DEADLINE;
        let busy = loop {
            if gone || Instant::now() >= deadline {
                break !gone;
            }
            match umount2(&self.places.point, MntFlags::UMOUNT_NOFOLLOW) {
                Ok(()) | Err(Errno::EINVAL) => break false,
                // Somebody looks into it, and that is no reason to lose what is not yet written.
                Err(_) => std::thread::sleep(Duration::from_millis(50)),
            }
        };
        self.unmount_now()?;
        self.reports.detach()?;
        Ok(match (gone, busy) {
            (true, _) => format!("{device} was unplugged"),
            (false, false) => format!("{device} can be unplugged"),
            (false, true) => format!(
                "{device} is released, though some program still has it open; wait until its light \
                 is off"
            ),
        })
    }

    /// Unmounts what is left of a drive whose device is gone, so that another can take its place: its
    /// own unit may come to that later than the next drive's.
    fn let_go_of_the_vanished(&self) -> anyhow::Result<()> {
        let Some(mount) = Mount::at(&self.places.point)? else {
            return Ok(());
        };
        if Path::new("/sys/dev/block").join(&mount.device).exists() {
            return Ok(());
        }
        tracing::warn!(device = mount.device, "unmounting a drive that is gone");
        self.unmount_now()?;
        Ok(self.reports.detach()?)
    }

    /// Unmounts all that is mounted there, also what is in use: that ends with whoever uses it.
    fn unmount_now(&self) -> anyhow::Result<()> {
        while Mount::at(&self.places.point)?.is_some() {
            umount2(
                &self.places.point,
                MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW,
            )
            .with_context(|| format!("cannot unmount {}", self.places.point.display()))?;
        }
        Ok(())
    }

    fn mount(&self, device: &str, filesystem: Served, check: &Check) -> Result<(), Errno> {
        let user = self.user().map_err(|_| Errno::ENOENT)?;
        let options = options(filesystem, user.uid.as_raw(), user.gid.as_raw());
        let mut flags =
            MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC | MsFlags::MS_NOATIME;
        if matches!(check, Check::Failed(_)) {
            flags |= MsFlags::MS_RDONLY;
        }
        if filesystem != Served::Ext4 {
            // Else a rename between two folders may survive a power cut by half: neither name is there, or
            // both. ext4 has a journal.
            flags |= MsFlags::MS_DIRSYNC;
        }
        let kind = match filesystem {
            Served::Ext4 => "ext4",
            Served::Exfat => "exfat",
            Served::Fat => "vfat",
        };
        mount(
            Some(device),
            &self.places.point,
            Some(kind),
            flags,
            Some(options.as_str()),
        )
    }

    /// The device that is attached.
    fn in_use(&self) -> anyhow::Result<Option<String>> {
        let mounted = Mount::at(&self.places.point)?;
        Ok(mounted.map(|mount| match self.reports.attached() {
            Some(drive) => drive.device,
            // By hand, or by /etc/fstab.
            None => format!("another device ({})", mount.device),
        }))
    }

    fn leave(&self, device: &str, why: String, waits: bool) -> anyhow::Result<String> {
        let said = format!("{device}: {why}");
        self.reports.tell_of(&Other {
            device: device.into(),
            why,
            waits,
        })?;
        Ok(said)
    }

    fn adopted(&self) -> Listed {
        Listed::at(&self.places.adopted)
    }

    fn unsettled(&self) -> Listed {
        Listed::at(&self.places.unsettled)
    }

    /// Remembers a filesystem as ours.
    fn adopt(&self, found: &Found) -> anyhow::Result<()> {
        self.adopted().add(&found.uuid).map(drop)
    }

    pub(crate) fn user(&self) -> anyhow::Result<User> {
        let name = &self.places.user;
        User::from_name(name)
            .with_context(|| format!("cannot look for the user {name}"))?
            .with_context(|| format!("there is no user {name}; the package makes it"))
    }
}

/// Whether nobody has a device open: neither a filesystem that is mounted somewhere, perhaps where nobody
/// sees it any more, nor another program. fsck.fat doesn't look by itself.
fn exclusively(device: &str) -> Result<(), Errno> {
    // open(2): O_EXCL without O_CREAT, on a block device.
    let flags = OFlag::O_RDONLY | OFlag::O_EXCL | OFlag::O_CLOEXEC;
    nix::fcntl::open(device, flags, nix::sys::stat::Mode::empty()).map(drop)
}

/// Has systemd attach a stick, since it isn't up to this command how long its check may take.
fn attach_by_unit(device: &str) {
    let template = "--template=raspbox-drive@.service";
    let restarted = ask(SYSTEMD_ESCAPE, &["-p", template, device]).and_then(|unit| {
        ask(SYSTEMCTL, &["--no-block", "restart", unit.out.trim()]).map(|answer| answer.said)
    });
    match restarted {
        Ok(said) => tracing::info!(device, said, "the next one"),
        Err(error) => tracing::warn!(device, error = format!("{error:#}"), "the next one waits"),
    }
}

/// Whether the system is going down.
fn is_stopping() -> bool {
    ask(SYSTEMCTL, &["is-system-running"]).is_ok_and(|answer| answer.out.trim() == "stopping")
}

/// The filesystem's own mount options.
fn options(filesystem: Served, uid: u32, gid: u32) -> String {
    // After an error nothing more is written: what is there is left as it is, and can still be read.
    let errors = "errors=remount-ro";
    match filesystem {
        Served::Ext4 => errors.into(),
        // FAT keeps no owners and no modes: all is the daemon's alone. Its times are local ones without
        // saying of which zone; they are taken for UTC, so that a summer doesn't touch every file.
        Served::Exfat => {
            format!("uid={uid},gid={gid},umask=0077,iocharset=utf8,time_offset=0,{errors}")
        }
        Served::Fat => {
            format!("uid={uid},gid={gid},umask=0077,utf8=1,tz=UTC,shortname=mixed,{errors}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::options;
    use crate::drive::found::Served;

    #[test]
    fn no_filesystem_goes_on_after_an_error() {
        for filesystem in [Served::Ext4, Served::Exfat, Served::Fat] {
            let options = options(filesystem, 990, 991);
            assert!(options.contains("errors=remount-ro"), "{options}");
            let owned = options.contains("uid=990,gid=991,umask=0077");
            assert_eq!(owned, filesystem != Served::Ext4, "{options}");
        }
    }
}

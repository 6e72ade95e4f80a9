//! What the daemon is doing: the file `status.json`, systemd's status line, `raspboxd status`.

use crate::board;
use crate::drive::report::Check;
use crate::drive::slot::{Nothing, Serving};
use crate::network;
use crate::owner;
use crate::shared::Shared;

use crate::state::StateDir;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::path::Path;
use std::sync::Arc;

/// The file's name.
pub(crate) const STATUS_FILE: &str = "status.json";

/// The service's runtime directory (`RuntimeDirectory=` in `raspbox.service`).
pub(crate) const STATUS_DIR: &str = "/run/raspboxd";

/// Free space is told in steps of so many MiB: each change is a line for systemd and a file.
const FREE_STEP_MIB: u64 = 128;

/// What the daemon said of itself last.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Status {
    /// The daemon's process.
    pub(crate) pid: u32,
    /// Its version.
    pub(crate) version: String,
    /// Where it listens.
    pub(crate) address: String,
    /// The certificate's SHA-256.
    pub(crate) fingerprint: String,
    /// What it serves.
    pub(crate) drive: Drive,
    /// How this machine can be reached, where somebody looks after that.
    pub(crate) network: Option<String>,
    /// How many things are wrong in the owner's file.
    pub(crate) problems: usize,
    /// Whether there is neither a user nor a device that could come in.
    pub(crate) nobody_may_enter: bool,
    /// Whether the owner's file on the card sets this machine up.
    pub(crate) has_owners_file: bool,
    /// How many devices are paired.
    pub(crate) paired: usize,
    /// Which accounts are logged in, sorted, each once.
    pub(crate) online: Vec<String>,
    /// How many connections there are.
    pub(crate) sessions: usize,
    /// What is wrong with the board, where somebody looks after that.
    pub(crate) board: Vec<String>,
}

/// What is served, and what is to be done about it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "kebab-case")]
pub(crate) enum Drive {
    /// Everything is.
    Served {
        /// Label and filesystem, where it is a drive.
        name: Option<String>,
        /// Free space above the floor, in MiB.
        free_mib: u64,
        /// The filesystem's size in MiB.
        size_mib: u64,
        /// Whether nothing more can be saved.
        #[serde(default)]
        is_full: bool,
        /// Whether its filesystem had to be repaired when it was plugged in.
        repaired: bool,
        /// Reads and writes that have failed since.
        errors: u64,
        /// How many files are known to be damaged.
        damaged: u64,
        /// How many kept versions are.
        damaged_versions: u64,
    },
    /// It is only read.
    ReadOnly {
        /// Why, and what to do.
        why: String,
    },
    /// It doesn't answer.
    Silent,
    /// There is none.
    Missing {
        /// Sticks that are plugged in and not served, each with why and what to do.
        others: Vec<String>,
    },
    /// It is there, and isn't served for now.
    Waiting {
        /// Until what.
        why: String,
    },
    /// It can't be used.
    Unusable {
        /// Why.
        why: String,
    },
}

/// What was found by asking the drive, which may take its time.
#[derive(Debug)]
pub(crate) struct Look {
    serving: Arc<Serving>,
    space: Option<(u64, u64)>,
    is_full: bool,
    damages: (u64, u64),
}

impl Look {
    /// Asks the drive.
    pub(crate) fn now(shared: &Shared) -> Look {
        let serving = shared.slot.now();
        let (mut space, mut is_full, mut damages) = (None, false, (0, 0));
        if let Serving::All { store, .. } = &*serving {
            let info = store.info(std::time::SystemTime::now().into(), true);
            space = info.ok().map(|info| (info.free_bytes, info.size_bytes));
            // A drive that doesn't answer is said already.
            is_full = store.is_full().unwrap_or_default();
            damages = store.count_damages().unwrap_or_default();
        }
        Look {
            serving,
            space,
            is_full,
            damages,
        }
    }
}

impl Status {
    /// Puts together what is known; `None` is a drive that hasn't answered in time.
    pub(crate) fn now(shared: &Shared, address: &str, look: Option<Look>) -> Status {
        let sessions = shared.registry.all();
        let accounts = sessions.iter().filter_map(|session| session.account());
        let mut online: Vec<String> = accounts.map(|account| account.to_string()).collect();
        online.sort_unstable();
        online.dedup();
        let told = owner::told();
        Status {
            pid: std::process::id(),
            version: env!("CARGO_PKG_VERSION").into(),
            address: address.into(),
            fingerprint: shared.identity.fingerprint_text(),
            drive: look.map_or(Drive::Silent, |look| Drive::of(shared, &look)),
            network: network::report().map(|report| report.line),
            problems: told.problems.len(),
            nobody_may_enter: shared.accounts.devices().is_empty()
                && shared.accounts.users().is_empty(),
            has_owners_file: told.page.is_some(),
            paired: shared.accounts.devices().len(),
            online,
            sessions: sessions.len(),
            board: board::report()
                .map(|report| report.wrong)
                .unwrap_or_default(),
        }
    }

    /// What the daemon that uses this folder said last; `None` where none is running.
    pub(crate) fn read(dir: &StateDir) -> anyhow::Result<Option<Status>> {
        let Some(text) = dir.read(STATUS_FILE)? else {
            return Ok(None);
        };
        Status::of_running(text.as_bytes())
    }

    /// What such a file says, while the daemon runs that has written it.
    pub(crate) fn of_running(json: &[u8]) -> anyhow::Result<Option<Status>> {
        let status: Status = serde_json::from_slice(json)?;
        // A daemon that was killed leaves its file behind.
        let runs = Path::new("/proc").join(status.pid.to_string()).exists();
        Ok(runs.then_some(status))
    }

    /// What is too long for one line.
    pub(crate) fn details(&self) -> String {
        let mut text = format!("fingerprint {}\n", self.fingerprint);
        if let Drive::Missing { others } = &self.drive {
            for other in others {
                text += &format!("stick {other}\n");
            }
        }
        text
    }
}

impl Drive {
    fn of(shared: &Shared, look: &Look) -> Drive {
        let reports = &shared.settings.reports;
        match &*look.serving {
            Serving::Nothing(Nothing::NoDrive) => {
                let others = reports.others().into_iter();
                let others = others.map(|other| format!("{}: {}", other.device, other.why));
                Drive::Missing {
                    others: others.collect(),
                }
            }
            Serving::Nothing(why @ (Nothing::Opening | Nothing::Leaving)) => Drive::Waiting {
                why: why.to_string(),
            },
            Serving::Nothing(Nothing::Unusable(why)) => Drive::Unusable { why: why.clone() },
            Serving::Rescue { why, .. } => Drive::ReadOnly { why: why.clone() },
            // A plain folder; a drive is only read then.
            Serving::All { store, .. } if store.unwritten().is_some() => Drive::ReadOnly {
                why: store.unwritten().unwrap_or_default().to_owned(),
            },
            Serving::All { health, .. } => {
                let Some((free_bytes, size_bytes)) = look.space else {
                    return Drive::Silent;
                };
                let report = reports.attached();
                Drive::Served {
                    name: report
                        .as_ref()
                        .map(|r| format!("{} {}", r.label, r.filesystem)),
                    free_mib: (free_bytes >> 20) & !(FREE_STEP_MIB - 1),
                    size_mib: size_bytes >> 20,
                    is_full: look.is_full,
                    repaired: report.is_some_and(|report| report.check == Check::Repaired),
                    errors: health.errors(),
                    damaged: look.damages.0,
                    damaged_versions: look.damages.1,
                }
            }
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.nobody_may_enter {
            f.write_str(match self.has_owners_file {
                true => {
                    "NO PASSWORD: nobody can come in; write password = \"...\" into raspbox.toml on the \
                     card, and start again | "
                }
                false => {
                    "NO PASSWORD: nobody can come in; set one with 'sudo raspboxd user set raspbox \
                     --password-stdin --state /var/lib/raspbox' | "
                }
            })?;
        }
        for wrong in &self.board {
            write!(f, "{wrong} | ")?;
        }
        let (paired, online) = (count(self.paired as u64, "device"), self.online.len());
        let reached = self.network.as_ref().unwrap_or(&self.address);
        let drive = &self.drive;
        write!(f, "{drive} | {paired}, {online} online | {reached}")?;
        match self.problems {
            0 => Ok(()),
            some => write!(
                f,
                " | {} in raspbox.toml, see 'sudo raspboxd status'",
                count(some as u64, "problem")
            ),
        }
    }
}

impl fmt::Display for Drive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Drive::Served {
                name,
                free_mib,
                size_mib,
                is_full,
                repaired,
                errors,
                damaged,
                damaged_versions,
            } => {
                match (errors, damaged, damaged_versions) {
                    (0, 0, 0) if *is_full => f.write_str(
                        "FULL: nothing more can be saved, delete something you don't need | ",
                    )?,
                    (0, 0, 0) => f.write_str("OK: ")?,
                    (0, 0, versions) => write!(f, "DAMAGED: {} | ", count(*versions, "old version"))?,
                    (0, files, _) => write!(
                        f,
                        "DAMAGED: {}, run 'raspbox verify --repair' on a computer | ",
                        count(*files, "file")
                    )?,
                    (errors, ..) => write!(
                        f,
                        "DRIVE FAILING: {} since it was plugged in, replace it soon | ",
                        count(*errors, "error")
                    )?,
                }
                if let Some(name) = name {
                    write!(f, "drive {name}, ")?;
                }
                write!(f, "{} of {} free", gib(*free_mib), gib_unit(*size_mib))?;
                if *repaired {
                    f.write_str(" (repaired when it was plugged in)")?;
                }
                Ok(())
            }
            Drive::ReadOnly { why } => write!(f, "DEGRADED: the drive can only be read: {why}"),
            Drive::Silent => f.write_str("DEGRADED: the drive doesn't answer"),
            Drive::Missing { others } => match others.as_slice() {
                [] => f.write_str(
                    "DEGRADED: no drive. Plug in the stick labelled RASPBOX (until then uploads are \
                     answered with 450)",
                ),
                [other, ..] => write!(f, "DEGRADED: no drive, but {other}"),
            },
            Drive::Waiting { why } => write!(f, "WAIT: {why}"),
            Drive::Unusable { why } => write!(f, "DEGRADED: the drive can't be used: {why}"),
        }
    }
}

/// Where a daemon says what it does: as a service in memory, else with its state.
pub(crate) fn status_dir(state: &StateDir) -> anyhow::Result<StateDir> {
    match std::env::var_os("RUNTIME_DIRECTORY") {
        Some(dir) if !dir.is_empty() => StateDir::open(dir.into()),
        Some(_) | None => Ok(state.clone()),
    }
}

#[allow(clippy::cast_precision_loss, reason = "for people")]
fn gib(mib: u64) -> String {
    format!("{:.1}", mib as f64 / 1024.0)
}

fn gib_unit(mib: u64) -> String {
    format!("{} GiB", gib(mib))
}

fn count(number: u64, of: &str) -> String {
    let end = if number == 1 { "" } else { "s" };
    format!("{number} {of}{end}")
}

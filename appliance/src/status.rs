//! What the daemon is doing: the file `status.json`, systemd's status line, `raspboxd status`.

use crate::shared::Shared;
use crate::state::StateDir;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::path::Path;

/// The file's name in the state directory.
pub(crate) const STATUS_FILE: &str = "status.json";

/// Free space is told in steps of so many MiB: each change is a write to what may be an SD card.
const FREE_STEP_MIB: u64 = 128;

/// What the daemon said of itself last.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Status {
    /// The daemon's process.
    pub(crate) pid: u32,
    /// Its version.
    pub(crate) version: String,
    /// What it serves.
    pub(crate) folder: String,
    /// Where it listens.
    pub(crate) address: String,
    /// The certificate's SHA-256.
    pub(crate) fingerprint: String,
    /// Free space on the drive in MiB, above the floor; `None` where the drive doesn't answer.
    pub(crate) free_mib: Option<u64>,
    /// How many files are known to be damaged on the drive.
    pub(crate) damaged: u64,
    /// How many kept versions are.
    pub(crate) damaged_versions: u64,
    /// How many devices are paired.
    pub(crate) paired: usize,
    /// Which accounts are logged in, sorted, each once.
    pub(crate) online: Vec<String>,
    /// How many connections there are.
    pub(crate) sessions: usize,
}

impl Status {
    /// Looks around. Asks the drive, so it may block.
    pub(crate) fn now(shared: &Shared, address: &str) -> Status {
        let sessions = shared.registry.all();
        let accounts = sessions.iter().filter_map(|session| session.account());
        let mut online: Vec<String> = accounts.map(|account| account.to_string()).collect();
        online.sort_unstable();
        online.dedup();
        let info = shared.store.info(std::time::SystemTime::now().into(), true);
        // A drive that doesn't answer is said already.
        let (damaged, damaged_versions) = shared.store.count_damages().unwrap_or_default();
        Status {
            damaged,
            damaged_versions,
            pid: std::process::id(),
            version: env!("CARGO_PKG_VERSION").into(),
            folder: shared.settings.folder.display().to_string(),
            address: address.into(),
            fingerprint: shared.identity.fingerprint.clone(),
            free_mib: info
                .ok()
                .map(|info| (info.free_bytes >> 20) & !(FREE_STEP_MIB - 1)),
            paired: shared.accounts.devices().len(),
            online,
            sessions: sessions.len(),
        }
    }

    /// What the daemon of a state directory said last; `None` where none is running.
    pub(crate) fn read(dir: &StateDir) -> anyhow::Result<Option<Status>> {
        let Some(text) = dir.read(STATUS_FILE)? else {
            return Ok(None);
        };
        let status: Status = serde_json::from_str(&text)?;
        // A daemon that was killed leaves its file behind.
        let runs = Path::new("/proc").join(status.pid.to_string()).exists();
        Ok(runs.then_some(status))
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match (self.damaged, self.damaged_versions) {
            (0, 0) => "OK: ".to_owned(),
            (0, versions) => format!("DAMAGED: {} | ", count(versions, "old version")),
            (files, _) => format!(
                "DAMAGED: {}, run 'raspbox verify --repair' on a computer | ",
                count(files, "file")
            ),
        };
        match self.free_mib {
            #[allow(clippy::cast_precision_loss, reason = "for people")]
            Some(mib) => write!(f, "{state}{:.1} GiB free", mib as f64 / 1024.0)?,
            None => write!(f, "DEGRADED: the drive doesn't answer")?,
        }
        let (paired, online) = (self.paired, self.online.len());
        write!(f, " | {paired} paired, {online} online | {}", self.address)
    }
}

fn count(number: u64, of: &str) -> String {
    let end = if number == 1 { "" } else { "s" };
    format!("{number} {of}{end}")
}

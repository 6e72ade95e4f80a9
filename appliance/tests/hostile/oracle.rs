//! What must be so whatever a peer does.

use crate::harness::Daemon;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// How much memory nobody may cost.
const MEMORY_MAX_KIB: u64 = 64 << 10;

/// How it was before.
pub(crate) struct Oracle {
    peak_kib: u64,
    outside: BTreeMap<String, Vec<u8>>,
}

impl Oracle {
    /// Looks at a daemon, after it has served somebody: a password's hash takes its memory, and it reads
    /// its program as it goes.
    pub(crate) fn before(daemon: &Daemon) -> Oracle {
        let outside = daemon.folder().parent().unwrap().join("outside");
        fs::create_dir_all(&outside).unwrap();
        fs::write(outside.join("secret"), "secret").unwrap();
        served(daemon);
        Oracle {
            peak_kib: peak_kib(daemon),
            outside: contents(&outside),
        }
    }

    /// The daemon lives, serves, has never held more than its due, and outside of the drive nothing is
    /// otherwise than before.
    #[track_caller]
    pub(crate) fn after(self, daemon: &Daemon) {
        served(daemon);
        let grown = peak_kib(daemon).saturating_sub(self.peak_kib);
        assert!(grown < MEMORY_MAX_KIB, "{grown} KiB more at the worst");
        let outside = daemon.folder().parent().unwrap().join("outside");
        assert!(contents(&outside) == self.outside, "outside was changed");
    }
}

/// Somebody else comes and does some work.
#[track_caller]
fn served(daemon: &Daemon) {
    let mut client = daemon.client();
    client.store("/as usual", b"content").expect(226);
    assert_eq!(client.retrieve("/as usual").unwrap(), b"content");
    client.command("DELE /as usual").expect(250);
}

/// The most memory that the daemon has ever held.
fn peak_kib(daemon: &Daemon) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", daemon.pid())).unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

fn contents(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        (name, fs::read(entry.path()).unwrap())
    });
    entries.collect()
}

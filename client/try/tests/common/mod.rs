//! What the tests of the whole have in common: a home with workstations, and what to ask of it.
// Each test program uses a part of it.
#![allow(dead_code, unreachable_pub)]

use raspbox_protocol::Digest;
use raspbox_try::bed::{Appliance, DEADLINE, Workstation};
use raspbox_try::tree;
use rusqlite::{Connection, params};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant, SystemTime};

/// How often everybody may have to sync until nothing moves any more.
pub const ROUNDS_MAX: usize = 4;

/// The program that plays all parts.
pub fn program() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_raspbox-try"))
}

/// One appliance, and a folder for all that belongs to a test. It ends with the test.
pub struct Home {
    pub appliance: Appliance,
    dir: tempfile::TempDir,
}

/// A home with these workstations, all paired.
pub fn home<const N: usize>(names: [&str; N]) -> (Home, [Workstation; N]) {
    let home = Home::new();
    let stations = names.map(|name| home.paired(name));
    (home, stations)
}

impl Home {
    pub fn new() -> Home {
        let dir = temp_dir();
        let appliance = Appliance::start(program(), dir.path()).expect("an appliance");
        Home { appliance, dir }
    }

    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub fn drive(&self) -> PathBuf {
        self.appliance.drive()
    }

    pub fn unpaired(&self, name: &str) -> Workstation {
        Workstation::new(program(), self.dir(), name)
    }

    pub fn paired(&self, name: &str) -> Workstation {
        let station = self.unpaired(name);
        station.pair(&self.appliance).expect("paired");
        station
    }

    /// A folder in the appliance's own, on the drive.
    pub fn own(&self, name: &str) -> PathBuf {
        self.drive().join(".raspbox").join(name)
    }

    /// Everybody syncs in turn until nothing moves any more; all trees, the drive's too, are the
    /// same then, and nothing half-done is left anywhere.
    #[track_caller]
    pub fn settle(&self, stations: &[&Workstation]) {
        self.settle_but_for_times(stations);
        self.same_everywhere(stations);
    }

    /// The same, but for files' times: they travel with a content, and a content that was on both
    /// sides before doesn't travel.
    #[track_caller]
    pub fn settle_but_for_times(&self, stations: &[&Workstation]) {
        for _ in 0..ROUNDS_MAX {
            let rounds: Vec<Round> = stations.iter().map(|station| round(station)).collect();
            for (round, station) in rounds.iter().zip(stations) {
                assert!(round.code <= 1, "{}: {round:?}", station.name);
            }
            if rounds.iter().all(|round| round.code == 0 && !round.moved()) {
                let drive = without_times(&self.drive());
                let same = |station: &&&Workstation| without_times(&station.folder) == drive;
                assert!(
                    stations.iter().all(|station| same(&station)),
                    "the trees differ"
                );
                return;
            }
        }
        panic!("still not settled after {ROUNDS_MAX} rounds of all");
    }

    /// All trees are the same, and nothing half-done is left anywhere. A watch may still be
    /// clearing away what the last change displaced, after it is to be seen.
    #[track_caller]
    pub fn same_everywhere(&self, stations: &[&Workstation]) {
        for station in stations {
            if let Err(differences) = tree::compare(&station.folder, &self.drive()) {
                panic!("{differences}");
            }
            let staging = station.folder.join(".raspbox/staging");
            wait(&format!("{} to be empty", staging.display()), || {
                names(&staging).is_empty()
            });
        }
        wait("the appliance's staging to be empty", || {
            names(&self.own("staging")).is_empty()
        });
    }
}

/// What one `sync --json` came to.
#[derive(Debug)]
pub struct Round {
    pub code: i32,
    pub json: Value,
    pub stderr: String,
}

#[track_caller]
pub fn round(station: &Workstation) -> Round {
    round_with(station, &[])
}

#[track_caller]
pub fn round_with(station: &Workstation, more: &[&str]) -> Round {
    let mut command = station.command(&["sync", "--json"]);
    Round::of(&output(command.args(more)))
}

/// One round that must end in sync, and what it said.
#[track_caller]
pub fn synced(station: &Workstation) -> Round {
    let round = round(station);
    assert_eq!(round.code, 0, "{}: {round:#?}", station.name);
    round
}

impl Round {
    #[track_caller]
    pub fn of(output: &Output) -> Round {
        let stdout = String::from_utf8_lossy(&output.stdout);
        let all: Value = serde_json::from_str(&stdout).unwrap_or(Value::Null);
        Round {
            code: output.status.code().unwrap_or(-1),
            json: all[0].clone(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    pub fn count(&self, what: &str) -> u64 {
        self.json[what]
            .as_u64()
            .unwrap_or_else(|| panic!("no {what} in {self:#?}"))
    }

    /// Whether anything was changed on either side.
    pub fn moved(&self) -> bool {
        let counts = ["sent", "received", "moved", "deleted"];
        counts.iter().any(|what| self.count(what) > 0) || !self.list("conflicts").is_empty()
    }

    pub fn list(&self, what: &str) -> Vec<String> {
        let list = self.json[what].as_array().map_or(&[][..], Vec::as_slice);
        list.iter()
            .map(|v| v.as_str().unwrap_or_default().to_owned())
            .collect()
    }

    pub fn message(&self) -> &str {
        self.json["message"].as_str().unwrap_or_default()
    }

    /// The line that says all of these words.
    #[track_caller]
    pub fn says(&self, words: &[&str]) {
        let lines = self
            .list("problems")
            .into_iter()
            .chain([self.message().to_owned()]);
        let lines: Vec<String> = lines.chain(self.stderr.lines().map(Into::into)).collect();
        let found = lines
            .iter()
            .any(|line| words.iter().all(|word| line.contains(word)));
        assert!(found, "no line with {words:?} in {self:#?}");
    }
}

/// Runs a command to its end, without input.
#[track_caller]
pub fn output(command: &mut Command) -> Output {
    command
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"))
}

/// [`raspbox_try::bed::wait_for`] for a condition.
#[track_caller]
pub fn wait(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !holds() {
        assert!(
            Instant::now() < deadline,
            "waited {} s for {what}",
            DEADLINE.as_secs()
        );
        std::thread::sleep(Duration::from_millis(1));
    }
}

pub fn temp_dir() -> tempfile::TempDir {
    let dir = tempfile::Builder::new()
        .prefix("raspbox-test-")
        .tempdir()
        .expect("a temp dir");
    // Some tests run the client as somebody else.
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).expect("its mode");
    dir
}

/// Writes a file, making the folders above it.
#[track_caller]
pub fn put(root: &Path, path: &str, content: impl AsRef<[u8]>) {
    let path = root.join(path);
    fs::create_dir_all(path.parent().expect("below the root")).expect("its folder");
    fs::write(&path, content).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
}

/// A file's text, as far as it is text; `None` where there is none.
#[track_caller]
pub fn text(root: &Path, path: &str) -> Option<String> {
    match fs::read(root.join(path)) {
        Ok(bytes) => Some(String::from_utf8_lossy(&bytes).into_owned()),
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
            ) =>
        {
            None
        }
        Err(error) => panic!("{path}: {error}"),
    }
}

/// Whether anything stands there, be it a dangling symlink.
pub fn stands(root: &Path, path: &str) -> bool {
    root.join(path).symlink_metadata().is_ok()
}

/// The names in a folder, in order; none where there is no such folder.
pub fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten();
    let names = entries
        .flatten()
        .map(|e| e.file_name().to_string_lossy().into_owned());
    let mut names: Vec<String> = names.collect();
    names.sort_unstable();
    names
}

/// The users' names at the top of a folder, raspbox's own left out.
pub fn users_names(folder: &Path) -> Vec<String> {
    let mut names = names(folder);
    names.retain(|name| name != ".raspbox");
    names
}

/// Gives a file a time of its own, long ago.
pub fn set_time(path: &Path, seconds: u64) {
    let file = fs::File::options()
        .append(true)
        .open(path)
        .expect("the file");
    let time = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
    file.set_modified(time).expect("its time");
}

/// Gives a file of the same size other bytes and its old time. Only its ctime tells.
pub fn spoil(path: &Path, content: impl AsRef<[u8]>) -> i64 {
    let before = fs::metadata(path).expect("there");
    assert_eq!(before.len(), content.as_ref().len() as u64);
    fs::write(path, content).expect("spoilt");
    set_time(path, before.mtime().try_into().expect("after 1970"));
    let now = fs::metadata(path).expect("there");
    assert_eq!((now.mtime(), now.ino()), (before.mtime(), before.ino()));
    now.ctime() * 1_000_000_000 + now.ctime_nsec()
}

/// The appliance's journal.
pub fn journal(home: &Home) -> Connection {
    Connection::open(home.own("journal.db")).expect("the journal")
}

/// Lets a file rot on the drive.
pub fn rot_there(home: &Home, path: &str, content: impl AsRef<[u8]>) {
    let ctime = spoil(&home.drive().join(path), content);
    let sql = "UPDATE entry SET ctime_ns = ? WHERE path = ?";
    let key = path.replace('/', "\u{1}");
    let changed = journal(home).execute(sql, params![ctime, key]);
    assert_eq!(changed.expect("updated"), 1);
}

/// Content that doesn't compress and doesn't repeat, the same for the same seed.
pub fn noise(seed: u64, len_bytes: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(len_bytes + 8);
    while bytes.len() < len_bytes {
        // xorshift64*
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        bytes.extend(state.wrapping_mul(0x2545_f491_4f6c_dd1d).to_le_bytes());
    }
    bytes.truncate(len_bytes);
    bytes
}

fn without_times(root: &Path) -> BTreeMap<PathBuf, tree::Entry> {
    let mut tree = tree::read(root).expect("a tree");
    for entry in tree.values_mut() {
        if let tree::Entry::File(_, mtime, ..) = entry {
            *mtime = 0;
        }
    }
    tree
}

/// The hashes of all users' files below a folder; none where there is no such folder.
pub fn contents(root: &Path) -> BTreeSet<Digest> {
    if !root.exists() {
        return BTreeSet::new();
    }
    let tree = tree::read(root).expect("a tree");
    let digests = tree.into_values().filter_map(|entry| match entry {
        tree::Entry::File(_, _, _, digest) => Some(digest),
        tree::Entry::Folder | tree::Entry::Symlink(_) => None,
    });
    digests.collect()
}

//! One daemon, one folder of the client's own, and programs run between them.

use crate::harness::{Daemon, eventually};
use std::fs::{self, File, FileTimes, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tempfile::TempDir;

/// 2001-09-09 01:46:40 UTC, in seconds since 1970.
pub(crate) const THEN_SECS: u64 = 1_000_000_000;

/// The same as FTP writes it (RFC 3659, section 2.3).
pub(crate) const THEN: &str = "20010909014640";

/// Names that shells, URLs, listings or globs take for something else.
pub(crate) const ODD_NAMES: [&str; 9] = [
    "two words.txt",
    "grüße → 😀.txt",
    "-dash.txt",
    "[brackets]*?.txt",
    "50% #1 & more.txt",
    "a 'single' name",
    "a \"double\" name",
    "back\\slash",
    "x -> y",
];

/// How the client talks to the daemon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Channel {
    Plain,
    Tls12,
    Tls13,
}

pub(crate) const CHANNELS: [Channel; 3] = [Channel::Plain, Channel::Tls12, Channel::Tls13];

pub(crate) struct Bench {
    pub(crate) daemon: Daemon,
    pub(crate) channel: Channel,
    here: TempDir,
}

/// Runs a case over every channel, each with a daemon and folders of its own.
pub(crate) fn check(program: &str, case: impl Fn(&Bench)) {
    if find(program).is_none() {
        return missing(program);
    }
    for channel in CHANNELS {
        eprintln!("--- {program}, {channel:?}");
        case(&Bench::start(channel));
    }
}

impl Bench {
    fn start(channel: Channel) -> Bench {
        let config = match channel {
            Channel::Plain => "tls = 'optional'",
            // TLS is required by default.
            Channel::Tls12 | Channel::Tls13 => "",
        };
        Bench {
            daemon: Daemon::with(config),
            channel,
            here: TempDir::new().unwrap(),
        }
    }

    /// Where the client's own file of this name is.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.here.path().join(name)
    }

    /// Makes a file of the client's own, with its folders, and with the time [`THEN`].
    pub(crate) fn write(&self, name: &str, content: &[u8]) {
        make(&self.path(name), content);
    }

    pub(crate) fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    /// What stands in a file of the drive; it has to be there.
    #[track_caller]
    pub(crate) fn served(&self, name: &str) -> Vec<u8> {
        let content = self.daemon.content(name);
        content.unwrap_or_else(|| panic!("{name} is not on the drive"))
    }

    /// Makes a file on the drive through the daemon, with the time [`THEN`].
    pub(crate) fn serve(&self, name: &str, content: &[u8]) {
        let mut client = self.daemon.client();
        if let Some((folder, _)) = name.rsplit_once('/') {
            client.command(&format!("MKD {folder}")).expect(257);
        }
        client.store(name, content).expect(226);
        let utime = format!("SITE UTIME {THEN} /{name}");
        client.command(&utime).expect(200);
    }

    /// Seconds since 1970 of a file of the drive.
    pub(crate) fn mtime(&self, name: &str) -> u64 {
        mtime(&self.daemon.folder().join(name))
    }

    pub(crate) fn is_executable(&self, name: &str) -> bool {
        let metadata = fs::metadata(self.daemon.folder().join(name)).unwrap();
        metadata.permissions().mode() & 0o100 != 0
    }

    pub(crate) fn is_folder(&self, name: &str) -> bool {
        self.daemon.folder().join(name).is_dir()
    }

    /// All files of the drive with their contents, but for raspbox's own.
    pub(crate) fn drive(&self) -> Vec<(PathBuf, Vec<u8>)> {
        tree(&self.daemon.folder())
    }

    /// The daemon's certificate, for the client to trust it and nothing else.
    pub(crate) fn certificate(&self) -> PathBuf {
        self.daemon.state().join("tls/cert.pem")
    }

    /// A command that runs in the client's folder.
    pub(crate) fn command(&self, program: &str) -> Command {
        let mut command = Command::new(find(program).unwrap());
        command
            .current_dir(self.here.path())
            // No settings or caches of whoever runs the tests.
            .env("HOME", self.here.path())
            .env("XDG_CONFIG_HOME", self.here.path().join(".config"))
            .env("LC_ALL", "C.UTF-8")
            .env("NO_PROXY", "*");
        command
    }
}

/// What a program said.
#[derive(Debug)]
pub(crate) struct Said {
    status: ExitStatus,
    pub(crate) out: Vec<u8>,
    err: String,
}

impl Said {
    #[track_caller]
    pub(crate) fn ok(self) -> Said {
        let out = String::from_utf8_lossy(&self.out[..self.out.len().min(4096)]);
        assert!(
            self.status.success(),
            "{}\n{out}\n{}",
            self.status,
            self.err
        );
        self
    }

    /// It failed, and this is what it said.
    #[track_caller]
    pub(crate) fn failed(self) -> String {
        assert!(!self.status.success(), "{self:?}");
        self.err
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.out.clone()).unwrap()
    }

    /// Its lines, sorted.
    pub(crate) fn lines(&self) -> Vec<String> {
        let mut lines: Vec<String> = self.text().lines().map(str::to_owned).collect();
        lines.sort();
        lines
    }
}

/// Runs a program to its end, with the deadline of all tests.
pub(crate) fn run(mut command: Command) -> Said {
    let temp = TempDir::new().unwrap();
    let file = |name| File::create(temp.path().join(name)).unwrap();
    let mut child = command
        .stdin(Stdio::null())
        .stdout(file("out"))
        .stderr(file("err"))
        .spawn()
        .unwrap();
    let mut ended = None;
    let wait = std::panic::AssertUnwindSafe(|| {
        eventually(&format!("{command:?} ends"), || {
            ended = child.try_wait().unwrap();
            ended.is_some()
        });
    });
    let in_time = std::panic::catch_unwind(wait);
    let read = |name| fs::read(temp.path().join(name)).unwrap();
    let (out, err) = (read("out"), String::from_utf8_lossy(&read("err")).into());
    if let Err(panic) = in_time {
        child.kill().unwrap();
        child.wait().unwrap();
        eprintln!("{}\n{err}", String::from_utf8_lossy(&out));
        std::panic::resume_unwind(panic);
    }
    Said {
        status: ended.unwrap(),
        out,
        err,
    }
}

/// Bytes that don't repeat, and that no text conversion leaves alone.
pub(crate) fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(2).wrapping_add(1);
    let words = std::iter::repeat_with(|| {
        // Multiplication and shift of PCG (O'Neill 2014); only its look matters here.
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 29) ^ state
    });
    let mut bytes = Vec::with_capacity(len + 8);
    for word in words.take(len.div_ceil(8)) {
        bytes.extend(word.to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}

/// All files below a folder with their contents, sorted, but for raspbox's own.
pub(crate) fn tree(top: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    let mut folders = vec![top.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(top).unwrap().to_owned();
            if name == Path::new(".raspbox") {
                continue;
            }
            if path.is_dir() {
                folders.push(path);
            } else {
                found.push((name, fs::read(&path).unwrap()));
            }
        }
    }
    found.sort();
    found
}

/// Two hundred small files in folders, below a folder of the client's own.
pub(crate) fn write_many(bench: &Bench, folder: &str) {
    for i in 0..200_usize {
        let name = format!("{folder}/d{}/file {i}.txt", i % 7);
        bench.write(&name, &noise(i as u64, i * 13));
    }
}

pub(crate) fn mtime(path: &Path) -> u64 {
    let modified = fs::metadata(path).unwrap().modified().unwrap();
    modified.duration_since(UNIX_EPOCH).unwrap().as_secs()
}

fn make(path: &Path, content: &[u8]) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, content).unwrap();
    fs::set_permissions(path, Permissions::from_mode(0o644)).unwrap();
    let then = SystemTime::UNIX_EPOCH + Duration::from_secs(THEN_SECS);
    let file = File::options().write(true).open(path).unwrap();
    file.set_times(FileTimes::new().set_modified(then)).unwrap();
}

/// A program in the places where `.ci/install` and Debian put it.
fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let peers = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/peers/bin");
    std::env::split_paths(&path)
        .chain(["/usr/sbin".into(), peers])
        .map(|folder| folder.join(program))
        .find(|path| path.is_file())
}

/// Nobody overlooks that a test didn't take place; and where it must, it fails.
fn missing(program: &str) {
    let advice = format!("{program} is not installed: run .ci/install as root");
    assert!(
        std::env::var_os("CI").is_none_or(|ci| ci != "true"),
        "{advice}"
    );
    // Past the capture of cargo test.
    let line = format!("\nSKIPPED a test with another's FTP client: {advice}\n");
    drop(std::io::Write::write_all(
        &mut std::io::stderr(),
        line.as_bytes(),
    ));
}

//! Bad input and trouble: one clear line, the other files still go, nothing is lost, and the next
//! sync finishes the job.

mod common;

use common::{
    Home, Round, contents, home, names, noise, output, program, put, round, round_with, set_time,
    stands, synced, temp_dir, text, users_names, wait,
};
use raspbox_protocol::Digest;
use raspbox_try::bed::{Appliance, Workstation};
use raspbox_try::tree;
use std::ffi::OsStr;
use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::ops::Range;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

// ---- the other side can't be reached, or refuses ----

/// `raspbox pair` with this password.
fn pair(station: &Workstation, target: &str, password: &str) -> Output {
    let mut command = station.command(&[
        "pair",
        target,
        "--password-stdin",
        "--device",
        &station.name,
    ]);
    command.arg("--folder").arg(&station.folder);
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().expect("a client");
    // It may have ended without reading.
    drop(writeln!(child.stdin.take().expect("piped"), "{password}"));
    child.wait_with_output().expect("its output")
}

#[track_caller]
fn fails(output: &Output, code: i32, words: &[&str]) {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{stderr}");
    assert!(
        stderr
            .lines()
            .any(|line| words.iter().all(|word| line.contains(word))),
        "no line with {words:?}:\n{stderr}"
    );
}

fn address(home: &Home) -> String {
    format!("127.0.0.1:{}", home.appliance.port)
}

#[test]
fn a_wrong_password_is_refused_and_leaves_nothing() {
    let home = Home::new();
    let laptop = home.unpaired("laptop");
    let refused = pair(&laptop, &address(&home), "not the password");
    fails(
        &refused,
        4,
        &[&address(&home), "refused the login of raspbox", "password"],
    );
    assert!(!stands(&laptop.folder, ".raspbox"));
    assert_eq!(round(&laptop).code, 2, "it isn't paired");
    let password = home.appliance.password.clone();
    assert_eq!(
        pair(&laptop, &address(&home), &password).status.code(),
        Some(0)
    );
    synced(&laptop);
}

#[test]
fn a_host_that_is_not_there_is_named() {
    let home = Home::new();
    let laptop = home.unpaired("laptop");
    fails(
        &pair(&laptop, "no-such-host.invalid", "x"),
        3,
        &["no-such-host.invalid", "no such host", "Check the name"],
    );
    let closed = TcpListener::bind("127.0.0.1:0")
        .expect("a port")
        .local_addr()
        .expect("its address");
    fails(
        &pair(&laptop, &closed.to_string(), "x"),
        3,
        &[&closed.to_string(), "nobody listens there", "port right"],
    );
    assert_eq!(users_names(&laptop.folder), [""; 0]);
}

#[test]
fn an_appliance_that_is_off_costs_nothing_and_is_tried_again() {
    let (mut home, [laptop, desktop]) = home(["laptop", "desktop"]);
    put(&laptop.folder, "a", "a");
    home.appliance.stop().expect("stopped");
    let off = round(&laptop);
    assert_eq!(off.code, 3, "{off:#?}");
    off.says(&[&address(&home)]);
    assert_eq!(status(&laptop).json["result"], "failed");
    home.appliance.restart().expect("started");
    home.settle(&[&laptop, &desktop]);
    assert_eq!(status(&laptop).json["result"], "in-sync");
}

#[test]
fn a_changed_certificate_is_refused_until_the_right_one_is_back() {
    let (mut home, [laptop, desktop]) = home(["laptop", "desktop"]);
    put(&laptop.folder, "secret", "secret");
    let (state, away) = (
        home.dir().join("appliance"),
        home.dir().join("appliance.away"),
    );
    home.appliance.stop().expect("stopped");
    fs::rename(&state, &away).expect("rename");
    home.appliance.restart().expect("started");
    let refused = round(&laptop);
    assert_eq!(refused.code, 4, "{refused:#?}");
    let message = refused.message();
    for words in [
        "another certificate",
        "Nothing was sent",
        &home.appliance.fingerprint,
        "raspbox unpair",
    ] {
        assert!(message.contains(words), "{words} in {message}");
    }
    assert!(!stands(&home.drive(), "secret"));
    // A watch has nothing to wait for.
    let mut watch = laptop.command(&["watch"]);
    assert_eq!(output(&mut watch).status.code(), Some(4));
    // And pairing asks for the fingerprint that one knows.
    let phone = home.unpaired("phone");
    let wrong = phone
        .pair(&home.appliance)
        .expect_err("another certificate");
    assert!(wrong.to_string().contains("another certificate"), "{wrong}");

    home.appliance.stop().expect("stopped");
    fs::remove_dir_all(&state).expect("remove");
    fs::rename(&away, &state).expect("rename");
    home.appliance.restart().expect("started");
    home.settle(&[&laptop, &desktop]);
    assert!(stands(&desktop.folder, "secret"));
}

#[test]
fn a_revoked_device_is_told_so() {
    let (home, [laptop, desktop]) = home(["laptop", "desktop"]);
    put(&laptop.folder, "a", "a");
    home.settle(&[&laptop, &desktop]);
    let mut revoke = Command::new(program());
    revoke
        .args(["as-raspboxd", "device", "revoke", "laptop", "--state"])
        .arg(home.dir().join("appliance"));
    let revoked = output(&mut revoke);
    assert!(
        revoked.status.success(),
        "{}",
        String::from_utf8_lossy(&revoked.stderr)
    );
    // Within two seconds, `device revoke` says.
    wait("the device to be refused", || round(&laptop).code != 0);
    put(&laptop.folder, "a", "edited");
    let refused = round(&laptop);
    assert_eq!(refused.code, 4, "{refused:#?}");
    refused.says(&["revoked", "raspbox pair"]);
    // Paired again, it merges: nothing is deleted, the edit is there.
    output(laptop.command(&["unpair"]).arg(&laptop.folder));
    laptop.pair(&home.appliance).expect("paired again");
    let merged = round(&laptop);
    assert_eq!(merged.count("deleted"), 0, "{merged:#?}");
    assert!(contents(&home.drive()).contains(&Digest::of(b"edited")));
    assert!(contents(&home.drive()).contains(&Digest::of(b"a")));
}

// ---- a connection that is cut ----

/// Stands between client and appliance, for control and data connections alike, and cuts when a
/// number of bytes has passed.
struct Proxy {
    address: SocketAddr,
    control: Arc<Valve>,
    data: Arc<Valve>,
}

/// Lets so many bytes through; then every connection is cut, until it is opened.
struct Valve {
    left: AtomicI64,
    cuts: AtomicU64,
    /// What is left again after a cut.
    then: AtomicI64,
}

const OPEN: i64 = i64::MAX / 2;

impl Valve {
    fn open() -> Arc<Valve> {
        Arc::new(Valve {
            left: OPEN.into(),
            cuts: 0.into(),
            then: OPEN.into(),
        })
    }

    /// Cuts once after so many bytes.
    fn cut_once(&self, after: i64) {
        self.then.store(OPEN, Ordering::SeqCst);
        self.left.store(after, Ordering::SeqCst);
    }

    /// Cuts each time after so many bytes.
    fn cut_always(&self, after: i64) {
        self.then.store(after, Ordering::SeqCst);
        self.left.store(after, Ordering::SeqCst);
    }

    /// How many of these bytes may pass; fewer than all mean a cut.
    fn pass(&self, len: usize) -> usize {
        let len_bytes = i64::try_from(len).expect("a piece");
        let before = self.left.fetch_sub(len_bytes, Ordering::SeqCst);
        if before >= len_bytes {
            return len;
        }
        self.cuts.fetch_add(1, Ordering::SeqCst);
        self.left
            .store(self.then.load(Ordering::SeqCst), Ordering::SeqCst);
        usize::try_from(before.max(0)).expect("not negative")
    }

    fn cuts(&self) -> u64 {
        self.cuts.load(Ordering::SeqCst)
    }
}

impl Proxy {
    /// On this address, 127.x.y.z, and for these data connections, that no other test uses.
    fn start(own: &str, data_ports: Range<u16>, appliance: &Appliance) -> Proxy {
        let proxy = |port: u16, to: u16, valve: &Arc<Valve>| {
            let listener = TcpListener::bind((own, port)).expect("a port of the proxy");
            let (address, valve) = (listener.local_addr().expect("its address"), valve.clone());
            std::thread::spawn(move || {
                for client in listener.incoming().flatten() {
                    if let Ok(server) = TcpStream::connect(("127.0.0.1", to)) {
                        join(client, server, &valve);
                    }
                }
            });
            address
        };
        let (control, data) = (Valve::open(), Valve::open());
        let address = proxy(0, appliance.port, &control);
        for port in data_ports {
            proxy(port, port, &data);
        }
        Proxy {
            address,
            control,
            data,
        }
    }
}

fn join(client: TcpStream, server: TcpStream, valve: &Arc<Valve>) {
    for (mut from, mut to) in [
        (
            client.try_clone().expect("a socket"),
            server.try_clone().expect("a socket"),
        ),
        (server, client),
    ] {
        let valve = valve.clone();
        std::thread::spawn(move || {
            let mut piece = [0; 16 << 10];
            while let Ok(len @ 1..) = from.read(&mut piece) {
                let passed = valve.pass(len);
                if to.write_all(&piece[..passed]).is_err() || passed < len {
                    // Cut in both directions, as when somebody pulls the plug.
                    drop((from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both)));
                    return;
                }
            }
            drop(to.shutdown(Shutdown::Write));
        });
    }
}

/// A home whose laptop and desktop are behind a proxy.
fn behind_proxy(
    own: &str,
    data_ports: Range<u16>,
) -> (tempfile::TempDir, Appliance, Proxy, [Workstation; 2]) {
    let dir = temp_dir();
    let config = dir.path().join("config.toml");
    let (first, last) = (data_ports.start, data_ports.end - 1);
    fs::write(&config, format!("passive_ports = \"{first}-{last}\"\n")).expect("a config");
    let extra = ["--config", config.to_str().expect("UTF-8")];
    let appliance = Appliance::start_with(program(), dir.path(), &extra).expect("an appliance");
    let proxy = Proxy::start(own, data_ports, &appliance);
    let stations = ["laptop", "desktop"].map(|name| {
        let station = Workstation::new(program(), dir.path(), name);
        let extra = ["--fingerprint", &appliance.fingerprint];
        station
            .pair_with(&proxy.address.to_string(), &appliance.password, &extra)
            .expect("paired");
        station
    });
    (dir, appliance, proxy, stations)
}

/// Syncs until it goes, and nothing else than a lost connection may be in the way.
#[track_caller]
fn sync_through(station: &Workstation) {
    for _ in 0..4 {
        let round = round(station);
        match round.code {
            0 => return,
            3 => round.says(&["127."]),
            code => panic!("exit code {code}: {round:#?}"),
        }
    }
    panic!("{} never came through", station.name);
}

#[test]
fn a_connection_cut_anywhere_is_taken_up_again() {
    let (_dir, appliance, proxy, [laptop, desktop]) = behind_proxy("127.61.0.1", 62_400..62_440);
    let mut number = 0;
    // A whole session's control connection is some 3 KB, its data connections more than a MB.
    let control: &[i64] = &[0, 1, 40, 300, 700, 1_200, 1_600, 2_000];
    let data: &[i64] = &[0, 1, 700, 3_000, 5_000, 20_000, 700_000, 1_000_000];
    for (what, valve, afters) in [
        ("control", &proxy.control, control),
        ("data", &proxy.data, data),
    ] {
        for &after in afters {
            number += 1;
            put(&laptop.folder, "large", noise(number, 1 << 20));
            for n in 0..20 {
                put(
                    &laptop.folder,
                    &format!("{number}/{n}"),
                    format!("{number} {n}"),
                );
            }
            // Once on the way up, once on the way down.
            for station in [&laptop, &desktop] {
                valve.cut_once(after);
                sync_through(station);
                valve.cut_once(OPEN);
            }
            if let Err(differences) = tree::compare(&laptop.folder, &desktop.folder) {
                panic!("{what} cut after {after}: {differences}");
            }
            let expected = number + 1;
            assert_eq!(
                users_names(&desktop.folder).len() as u64,
                expected,
                "{what} {after}"
            );
        }
        assert!(valve.cuts() >= 8, "{what}: only {} cuts", valve.cuts());
    }
    assert_eq!(
        users_names(&appliance.drive()),
        users_names(&desktop.folder)
    );
    assert_eq!(names(&desktop.folder.join(".raspbox/staging")), [""; 0]);
}

#[test]
fn a_connection_that_is_always_cut_is_said_and_finished_later() {
    let (_dir, appliance, proxy, [laptop, desktop]) = behind_proxy("127.61.0.2", 62_440..62_480);
    put(&laptop.folder, "large", noise(1, 2 << 20));
    put(&laptop.folder, "small", "small");
    for (up, station) in [(true, &laptop), (false, &desktop)] {
        proxy.data.cut_always(500_000);
        let cut = round(station);
        assert_eq!(cut.code, 3, "{cut:#?}");
        cut.says(&[&proxy.address.to_string()]);
        assert!(
            !stands(&appliance.drive(), "large") || !up,
            "it isn't visible half"
        );
        assert!(!stands(&desktop.folder, "large"));
        proxy.data.cut_always(OPEN);
        synced(station);
    }
    tree::compare(&laptop.folder, &desktop.folder).expect("the same");
}

// ---- a side that can't take it ----

/// A filesystem in memory, gone again with the value.
struct Mount(PathBuf);

impl Mount {
    /// `None`, said loudly, where one may not mount.
    fn new(at: &Path, len_mib: u32) -> Option<Mount> {
        fs::create_dir_all(at).expect("a mount point");
        if !nix::unistd::geteuid().is_root() {
            eprintln!("SKIPPED: only root may mount a filesystem to fill up");
            return None;
        }
        mount(
            &[
                "-t",
                "tmpfs",
                "-o",
                &format!("size={len_mib}m,mode=755"),
                "tmpfs",
            ],
            at,
        );
        Some(Mount(at.to_owned()))
    }

    fn remount(&self, options: &str) {
        mount(&["-o", &format!("remount,{options}")], &self.0);
    }
}

#[track_caller]
fn mount(args: &[&str], at: &Path) {
    let done = output(Command::new("mount").args(args).arg(at));
    assert!(
        done.status.success(),
        "mount {args:?}: {}",
        String::from_utf8_lossy(&done.stderr)
    );
}

impl Drop for Mount {
    fn drop(&mut self) {
        drop(Command::new("umount").arg("--lazy").arg(&self.0).status());
    }
}

#[test]
fn a_full_disk_here_is_said_and_the_other_files_come() {
    let (home, [laptop]) = home(["laptop"]);
    let desktop = home.unpaired("desktop");
    let Some(disk) = Mount::new(&desktop.folder, 4) else {
        return;
    };
    desktop.pair(&home.appliance).expect("paired");
    put(&laptop.folder, "a small one", "small");
    put(&laptop.folder, "large", noise(1, 6 << 20));
    put(&laptop.folder, "z small one", "small");
    synced(&laptop);
    let full = round(&desktop);
    assert_eq!(full.code, 1, "{full:#?}");
    full.says(&["large", "the disk of this computer is full"]);
    assert_eq!(users_names(&desktop.folder), ["a small one", "z small one"]);
    assert_eq!(
        names(&desktop.folder.join(".raspbox/staging")),
        [""; 0],
        "it takes no room"
    );
    // What is made here in spite of it still goes up.
    put(&desktop.folder, "from the desktop", "small");
    assert_eq!(round(&desktop).code, 1);
    assert!(stands(&home.drive(), "from the desktop"));
    disk.remount("size=32m");
    home.settle(&[&desktop, &laptop]);
    assert_eq!(users_names(&desktop.folder).len(), 4);
}

#[test]
fn a_full_drive_is_said_and_the_other_files_go() {
    let dir = temp_dir();
    let Some(disk) = Mount::new(&dir.path().join("drive"), 4) else {
        return;
    };
    let config = dir.path().join("config.toml");
    fs::write(&config, "keep_free_mib = 0\n").expect("a config");
    let extra = ["--config", config.to_str().expect("UTF-8")];
    let appliance = Appliance::start_with(program(), dir.path(), &extra).expect("an appliance");
    let laptop = Workstation::new(program(), dir.path(), "laptop");
    laptop.pair(&appliance).expect("paired");
    put(&laptop.folder, "a small one", "small");
    put(&laptop.folder, "large", noise(1, 6 << 20));
    put(&laptop.folder, "z small one", "small");
    let full = round(&laptop);
    assert_eq!(full.code, 1, "{full:#?}");
    full.says(&["large", "full"]);
    assert_eq!(
        users_names(&appliance.drive()),
        ["a small one", "z small one"]
    );
    // Deleting makes room even then.
    fs::remove_file(laptop.folder.join("a small one")).expect("remove");
    assert_eq!(round(&laptop).code, 1);
    assert!(!stands(&appliance.drive(), "a small one"));
    disk.remount("size=32m");
    synced(&laptop);
    tree::compare(&laptop.folder, &appliance.drive()).expect("the same");
    drop(appliance);
}

#[test]
fn a_read_only_folder_is_said_and_what_is_in_it_still_goes_up() {
    let (home, [laptop]) = home(["laptop"]);
    let desktop = home.unpaired("desktop");
    let Some(disk) = Mount::new(&desktop.folder, 4) else {
        return;
    };
    desktop.pair(&home.appliance).expect("paired");
    synced(&desktop);
    put(&desktop.folder, "from the desktop", "here");
    put(&laptop.folder, "from the laptop", "there");
    synced(&laptop);
    disk.remount("ro");
    let read_only = round(&desktop);
    assert_eq!(read_only.code, 1, "{read_only:#?}");
    read_only.says(&["from the laptop", "read-only"]);
    assert!(stands(&home.drive(), "from the desktop"), "{read_only:#?}");
    disk.remount("rw");
    home.settle(&[&desktop, &laptop]);
    assert!(stands(&desktop.folder, "from the laptop"));
}

// ---- files that can't be read, or not be named ----

/// The client as somebody who isn't root, whom permissions hold for.
fn as_nobody(station: &Workstation, args: &[&str]) -> Round {
    const NOBODY: u32 = 65_534;
    let whose = output(
        Command::new("chown")
            .args(["-R", "65534:65534"])
            .args([&station.folder, &station.state_dir]),
    );
    assert!(
        whose.status.success(),
        "{}",
        String::from_utf8_lossy(&whose.stderr)
    );
    let mut command = station.command(&["sync", "--json"]);
    Round::of(&output(command.args(args).uid(NOBODY).gid(NOBODY)))
}

fn is_root() -> bool {
    let root = nix::unistd::geteuid().is_root();
    if !root {
        eprintln!("SKIPPED: only root may be somebody else");
    }
    root
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("chmod");
}

#[test]
fn what_may_not_be_read_is_said_and_deleted_nowhere() {
    if !is_root() {
        return;
    }
    let (home, [laptop, desktop]) = home(["laptop", "desktop"]);
    put(&laptop.folder, "secret", "secret");
    put(&laptop.folder, "closed/file", "in it");
    put(&laptop.folder, "open", "open");
    assert_eq!(as_nobody(&laptop, &[]).code, 0);
    synced(&desktop);
    set_mode(&laptop.folder.join("secret"), 0);
    set_mode(&laptop.folder.join("closed"), 0);
    put(&laptop.folder, "unreadable and new", "new");
    set_mode(&laptop.folder.join("unreadable and new"), 0);
    put(&laptop.folder, "open", "edited");
    let unread = as_nobody(&laptop, &[]);
    assert_eq!(unread.code, 1, "{unread:#?}");
    for name in ["closed", "unreadable and new"] {
        unread.says(&[name, "cannot be read", "ermission denied"]);
    }
    synced(&desktop);
    assert_eq!(text(&desktop.folder, "open").as_deref(), Some("edited"));
    assert_eq!(text(&desktop.folder, "secret").as_deref(), Some("secret"));
    assert_eq!(
        text(&desktop.folder, "closed/file").as_deref(),
        Some("in it")
    );
    // Edited elsewhere, it isn't overwritten blindly either.
    put(&desktop.folder, "closed/file", "edited");
    synced(&desktop);
    assert_eq!(as_nobody(&laptop, &[]).code, 1);
    set_mode(&laptop.folder.join("secret"), 0o600);
    set_mode(&laptop.folder.join("closed"), 0o700);
    set_mode(&laptop.folder.join("unreadable and new"), 0o600);
    assert_eq!(as_nobody(&laptop, &[]).code, 0);
    home.settle(&[&desktop]);
    tree::compare(&laptop.folder, &desktop.folder).expect("the same");
    assert_eq!(
        text(&laptop.folder, "closed/file").as_deref(),
        Some("edited")
    );
}

#[test]
fn what_may_not_be_written_is_said_and_the_rest_comes() {
    if !is_root() {
        return;
    }
    let (home, [laptop, desktop]) = home(["laptop", "desktop"]);
    put(&laptop.folder, "dir/a", "a");
    put(&laptop.folder, "dir/gone", "gone");
    synced(&laptop);
    assert_eq!(as_nobody(&desktop, &[]).code, 0);
    put(&laptop.folder, "dir/a", "edited");
    put(&laptop.folder, "dir/new", "new");
    put(&laptop.folder, "other/new", "new");
    fs::remove_file(laptop.folder.join("dir/gone")).expect("remove");
    synced(&laptop);
    set_mode(&desktop.folder.join("dir"), 0o555);
    let denied = as_nobody(&desktop, &[]);
    assert_eq!(denied.code, 1, "{denied:#?}");
    for name in ["dir/a", "dir/new", "dir/gone"] {
        denied.says(&[name, "ermission denied"]);
    }
    assert_eq!(text(&desktop.folder, "other/new").as_deref(), Some("new"));
    assert_eq!(text(&desktop.folder, "dir/a").as_deref(), Some("a"));
    set_mode(&desktop.folder.join("dir"), 0o755);
    assert_eq!(as_nobody(&desktop, &[]).code, 0);
    home.settle(&[&laptop]);
    tree::compare(&laptop.folder, &desktop.folder).expect("the same");
    assert_eq!(names(&desktop.folder.join(".raspbox/staging")), [""; 0]);
}

#[test]
fn pipes_and_sockets_stay_where_they_are() {
    let (home, [laptop, desktop]) = home(["laptop", "desktop"]);
    put(&laptop.folder, "a", "a");
    put(&laptop.folder, "was a file", "was a file");
    home.settle(&[&laptop, &desktop]);
    let fifo =
        |name: &str| nix::unistd::mkfifo(&laptop.folder.join(name), nix::sys::stat::Mode::S_IRWXU);
    fifo("pipe").expect("a pipe");
    fs::remove_file(laptop.folder.join("was a file")).expect("remove");
    fifo("was a file").expect("a pipe");
    let _socket = UnixListener::bind(laptop.folder.join("socket")).expect("a socket");
    put(&laptop.folder, "b", "b");
    let special = round(&laptop);
    assert_eq!(special.code, 1, "{special:#?}");
    for name in ["pipe", "socket", "was a file"] {
        special.says(&[name, "is a socket, pipe or device"]);
    }
    synced(&desktop);
    assert_eq!(users_names(&desktop.folder), ["a", "b", "was a file"]);
    for name in ["pipe", "socket", "was a file"] {
        fs::remove_file(laptop.folder.join(name)).expect("remove");
    }
    home.settle(&[&laptop, &desktop]);
    assert_eq!(users_names(&desktop.folder), ["a", "b"]);
}

#[test]
fn names_that_cannot_be_synced_are_said_and_the_rest_goes() {
    let (home, [laptop, desktop]) = home(["laptop", "desktop"]);
    let bad: [&[u8]; 3] = [b"latin1 \xfc", b"two\nlines", b"bell\x07"];
    put(&laptop.folder, "dir/good", "good");
    for name in bad {
        fs::write(
            laptop.folder.join("dir").join(OsStr::from_bytes(name)),
            "bad",
        )
        .expect("write");
    }
    fs::create_dir(laptop.folder.join(OsStr::from_bytes(b"folder \xff"))).expect("a folder");
    symlink(OsStr::from_bytes(b"to \xff"), laptop.folder.join("link")).expect("a symlink");
    let named = round(&laptop);
    assert_eq!(named.code, 1, "{named:#?}");
    for words in [
        "dir/latin1",
        "dir/two\\nlines",
        "dir/bell",
        "folder ",
        "link",
    ] {
        named.says(&[words, "can't be synced"]);
    }
    synced(&desktop);
    assert_eq!(names(&desktop.folder.join("dir")), ["good"]);
    // A folder that holds such things isn't removed with them.
    fs::remove_dir_all(desktop.folder.join("dir")).expect("remove");
    synced(&desktop);
    let kept = round(&laptop);
    assert_eq!(kept.code, 1, "{kept:#?}");
    assert!(bad.iter().all(|name| {
        laptop
            .folder
            .join("dir")
            .join(OsStr::from_bytes(name))
            .exists()
    }));
    for (n, name) in bad.iter().enumerate() {
        let old = laptop.folder.join("dir").join(OsStr::from_bytes(name));
        fs::rename(old, laptop.folder.join(format!("renamed {n}"))).expect("rename");
    }
    fs::remove_dir(laptop.folder.join(OsStr::from_bytes(b"folder \xff"))).expect("remove");
    fs::remove_file(laptop.folder.join("link")).expect("remove");
    home.settle(&[&laptop, &desktop]);
    assert_eq!(
        users_names(&desktop.folder)
            .iter()
            .filter(|name| name.starts_with("renamed"))
            .count(),
        3
    );
}

/// Whether a process has this file open.
fn has_open(pid: u32, path: &Path) -> bool {
    let open = fs::read_dir(format!("/proc/{pid}/fd"))
        .into_iter()
        .flatten()
        .flatten();
    open.filter_map(|fd| fs::read_link(fd.path()).ok())
        .any(|target| target == path)
}

/// Lets a sync begin, does something to a file that it has open when `reached` holds too, and waits
/// for its end.
fn sync_disturbed(
    station: &Workstation,
    file: &Path,
    reached: impl Fn() -> bool,
    disturb: impl FnOnce(),
) -> Round {
    let mut command = station.command(&["sync", "--json"]);
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("a client");
    wait("the file to be read", || {
        assert!(
            child.try_wait().expect("its state").is_none(),
            "it was over before"
        );
        has_open(child.id(), file) && reached()
    });
    disturb();
    Round::of(&child.wait_with_output().expect("its output"))
}

#[test]
fn a_file_that_vanishes_while_it_is_read_is_no_trouble() {
    let (home, [laptop, desktop]) = home(["laptop", "desktop"]);
    let large = laptop.folder.join("large");
    let make = || {
        let file = fs::File::create(&large).expect("create");
        file.set_len(400 << 20).expect("its length");
    };
    make();
    put(&laptop.folder, "another", "another");
    let begun = || {
        home.own("staging").read_dir().is_ok_and(|mut all| {
            all.any(|e| e.is_ok_and(|e| e.metadata().is_ok_and(|m| m.len() > 0)))
        })
    };
    // While it is hashed: it never was.
    let round = sync_disturbed(
        &laptop,
        &large,
        || true,
        || fs::remove_file(&large).expect("remove"),
    );
    assert_eq!(round.code, 0, "{round:#?}");
    assert_eq!(users_names(&home.drive()), ["another"]);
    // While it is sent: it comes whole or not, and goes with the next round.
    make();
    let round = sync_disturbed(&laptop, &large, begun, || {
        fs::remove_file(&large).expect("remove");
    });
    assert_eq!(round.code, 0, "{round:#?}");
    home.settle(&[&laptop, &desktop]);
    assert_eq!(users_names(&desktop.folder), ["another"]);
    // While it is sent, it becomes another.
    make();
    let round = sync_disturbed(&laptop, &large, begun, || {
        fs::write(&large, "short now").expect("write");
    });
    assert!(round.code <= 1, "{round:#?}");
    home.settle(&[&laptop, &desktop]);
    assert_eq!(text(&desktop.folder, "large").as_deref(), Some("short now"));
}

/// Lets a sync begin, does something once a part of a content has come down, and waits for its end.
fn sync_disturbed_while_receiving(station: &Workstation, disturb: impl FnOnce()) -> Round {
    let staging = station.folder.join(".raspbox/staging");
    let mut command = station.command(&["sync", "--json"]);
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    let mut child = command.stderr(Stdio::piped()).spawn().expect("a client");
    wait("content to come", || {
        assert!(
            child.try_wait().expect("its state").is_none(),
            "it was over before"
        );
        !names(&staging).is_empty()
    });
    disturb();
    Round::of(&child.wait_with_output().expect("its output"))
}

#[test]
fn what_is_edited_while_the_new_content_comes_down_is_kept_beside_it() {
    let (home, [laptop, desktop]) = home(["laptop", "desktop"]);
    for name in ["edited", "replaced", "deleted", "made a folder"] {
        put(&laptop.folder, name, "before");
    }
    // Old enough that their hashes are believed, by their looks alone.
    for name in ["edited", "replaced"] {
        set_time(&laptop.folder.join(name), 1_000_000_000);
    }
    home.settle(&[&laptop, &desktop]);
    for name in ["edited", "replaced", "deleted", "made a folder", "new"] {
        put(&laptop.folder, name, format!("{name} by the laptop"));
    }
    // While this one comes, the others are as they were looked at, and not placed yet.
    put(&laptop.folder, "a large one", noise(1, 60 << 20));
    synced(&laptop);
    let here = &desktop.folder;
    let round = sync_disturbed_while_receiving(&desktop, || {
        put(here, "edited", "edited by the desktop");
        put(here, "aside", "replaced by the desktop");
        fs::rename(here.join("aside"), here.join("replaced")).expect("rename");
        fs::remove_file(here.join("deleted")).expect("remove");
        fs::remove_file(here.join("made a folder")).expect("remove");
        put(here, "made a folder/in it", "in it");
        put(here, "new", "new by the desktop");
    });
    assert_eq!(round.code, 1, "{round:#?}");
    assert!(round.list("conflicts").len() >= 3, "{round:#?}");
    home.settle(&[&desktop, &laptop]);
    let all = contents(&laptop.folder);
    for content in [
        "edited by the laptop",
        "edited by the desktop",
        "replaced by the laptop",
        "replaced by the desktop",
        "deleted by the laptop",
        "made a folder by the laptop",
        "in it",
        "new by the laptop",
        "new by the desktop",
    ] {
        assert!(all.contains(&Digest::of(content.as_bytes())), "{content}");
    }
    assert_eq!(
        text(&laptop.folder, "edited").as_deref(),
        Some("edited by the laptop")
    );
}

// ---- brakes, and what is forgotten ----

fn fill(root: &Path, count: usize) {
    for n in 0..count {
        put(root, &format!("dir {}/{n}", n % 3), format!("file {n}"));
    }
}

fn count_files(root: &Path) -> usize {
    tree::read(root)
        .expect("a tree")
        .values()
        .filter(|e| matches!(e, tree::Entry::File(..)))
        .count()
}

#[track_caller]
fn halts(station: &Workstation, words: &[&str]) -> Round {
    let round = round(station);
    assert_eq!(round.code, 5, "{round:#?}");
    round.says(words);
    assert_eq!(status(station).code, 5);
    assert_eq!(status(station).json["result"], "halted");
    round
}

fn status(station: &Workstation) -> Round {
    Round::of(&output(&mut station.command(&["status", "--json"])))
}

#[test]
fn an_emptied_folder_deletes_nothing_until_it_is_confirmed() {
    let (home, [laptop, desktop]) = home(["laptop", "desktop"]);
    fill(&laptop.folder, 20);
    home.settle(&[&laptop, &desktop]);
    let empty = |station: &Workstation| {
        for name in users_names(&station.folder) {
            fs::remove_dir_all(station.folder.join(name)).expect("remove");
        }
    };
    empty(&laptop);
    halts(
        &laptop,
        &[
            "is empty",
            "Nothing was done",
            "raspbox sync --confirm-deletions",
        ],
    );
    halts(&laptop, &["is empty"]);
    assert_eq!(count_files(&home.drive()), 20);
    // The other one goes on.
    put(&desktop.folder, "new", "new");
    synced(&desktop);
    let confirmed = round_with(&laptop, &["--confirm-deletions"]);
    assert_eq!(confirmed.code, 0, "{confirmed:#?}");
    assert_eq!(users_names(&home.drive()), ["new"]);
    // The deletions are many for the other one as well: fewer than are asked about.
    assert_eq!(round_with(&desktop, &["--confirm-deletions"]).code, 0);
    home.settle(&[&laptop, &desktop]);
    assert_eq!(users_names(&desktop.folder), ["new"]);
}

#[test]
fn many_deletions_wait_for_a_yes_on_either_side() {
    let (home, [laptop, desktop]) = home(["laptop", "desktop"]);
    fill(&laptop.folder, 100);
    home.settle(&[&laptop, &desktop]);
    for n in 0..26 {
        fs::remove_file(laptop.folder.join(format!("dir {}/{n}", n % 3))).expect("remove");
    }
    put(&laptop.folder, "new", "new");
    let halt = halts(
        &laptop,
        &["26 of 100 files", "on the appliance", "--confirm-deletions"],
    );
    halt.says(&["dir 0/0"]);
    assert_eq!(count_files(&home.drive()), 100);
    assert_eq!(round_with(&laptop, &["--confirm-deletions"]).code, 0);
    assert_eq!(count_files(&home.drive()), 75);
    halts(
        &desktop,
        &["26 of 100 files", "on this computer", "--confirm-deletions"],
    );
    assert_eq!(count_files(&desktop.folder), 100);
    // A watch waits as well, and goes on when somebody has said yes.
    let _watch = desktop.watch().expect("a watch");
    wait("the watch to halt", || {
        status(&desktop).json["message"]
            .as_str()
            .is_some_and(|m| m.contains("26 of 100"))
    });
    assert_eq!(count_files(&desktop.folder), 100);
    assert_eq!(round_with(&desktop, &["--confirm-deletions"]).code, 0);
    assert_eq!(count_files(&desktop.folder), 75);
}

#[test]
fn a_folder_without_its_mark_is_another_one() {
    let (home, [laptop, desktop]) = home(["laptop", "desktop"]);
    fill(&laptop.folder, 20);
    home.settle(&[&laptop, &desktop]);
    let away = home.dir().join("away");
    // The disk isn't mounted: there is no folder, or an empty one.
    fs::rename(&laptop.folder, &away).expect("rename");
    halts(
        &laptop,
        &["the synced folder", "isn't there", "Nothing was done"],
    );
    fs::create_dir(&laptop.folder).expect("a folder");
    halts(&laptop, &["the synced folder", "mount"]);
    assert_eq!(
        round_with(&laptop, &["--confirm-deletions"]).code,
        5,
        "there is no yes to that"
    );
    // Or another one's.
    put(&laptop.folder, ".raspbox/pair", "somebody else's\n");
    halts(&laptop, &["the synced folder"]);
    assert_eq!(count_files(&home.drive()), 20);
    fs::remove_dir_all(&laptop.folder).expect("remove");
    fs::rename(&away, &laptop.folder).expect("rename");
    home.settle(&[&laptop, &desktop]);
}

#[test]
fn another_drive_is_not_taken_for_an_emptied_one() {
    let (mut home, [laptop, desktop]) = home(["laptop", "desktop"]);
    fill(&laptop.folder, 20);
    home.settle(&[&laptop, &desktop]);
    let (drive, away) = (home.drive(), home.dir().join("drive.away"));
    home.appliance.stop().expect("stopped");
    fs::rename(&drive, &away).expect("rename");
    fs::create_dir(&drive).expect("another drive");
    home.appliance.restart().expect("started");
    for station in [&laptop, &desktop] {
        halts(
            station,
            &[
                "another drive",
                "Nothing was done",
                "Plug the right drive back in",
                "raspbox unpair",
            ],
        );
        assert_eq!(round_with(station, &["--confirm-deletions"]).code, 5);
        assert_eq!(count_files(&station.folder), 20);
    }
    assert_eq!(users_names(&drive), [""; 0], "nothing is sent to it either");
    home.appliance.stop().expect("stopped");
    fs::remove_dir_all(&drive).expect("remove");
    fs::rename(&away, &drive).expect("rename");
    home.appliance.restart().expect("started");
    home.settle(&[&laptop, &desktop]);
}

#[test]
fn a_lost_client_database_merges_and_deletes_nothing() {
    let (home, [laptop, desktop]) = home(["laptop", "desktop"]);
    fill(&laptop.folder, 20);
    home.settle(&[&laptop, &desktop]);
    let mut removed = 0;
    for name in names(&laptop.state_dir) {
        for file in names(&laptop.state_dir.join(&name))
            .iter()
            .filter(|f| f.starts_with("sync.db"))
        {
            fs::remove_file(laptop.state_dir.join(&name).join(file)).expect("remove");
            removed += 1;
        }
    }
    assert!(removed > 0);
    fs::remove_file(laptop.folder.join("dir 0/0")).expect("remove");
    put(&laptop.folder, "dir 1/1", "edited here");
    put(&desktop.folder, "dir 2/2", "edited there");
    synced(&desktop);
    let merged = round(&laptop);
    assert_eq!(merged.code, 1, "{merged:#?}");
    assert_eq!(merged.count("deleted"), 0);
    home.settle(&[&laptop, &desktop]);
    let all = contents(&laptop.folder);
    for content in ["file 0", "file 1", "edited here", "file 2", "edited there"] {
        assert!(all.contains(&Digest::of(content.as_bytes())), "{content}");
    }
    assert_eq!(
        text(&laptop.folder, "dir 1/1").as_deref(),
        Some("file 1"),
        "the appliance's keeps the name"
    );
}

#[test]
fn a_lost_journal_merges_and_deletes_nothing() {
    let (mut home, [laptop, desktop]) = home(["laptop", "desktop"]);
    fill(&laptop.folder, 20);
    home.settle(&[&laptop, &desktop]);
    home.appliance.stop().expect("stopped");
    let own = home.drive().join(".raspbox");
    let journal: Vec<String> = names(&own)
        .into_iter()
        .filter(|name| name.starts_with("journal.db"))
        .collect();
    assert!(!journal.is_empty(), "{:?}", names(&own));
    for name in journal {
        fs::remove_file(own.join(name)).expect("remove");
    }
    home.appliance.restart().expect("started");
    let quiet = round(&desktop);
    assert_eq!(
        (quiet.code, quiet.moved()),
        (0, false),
        "nothing has changed: {quiet:#?}"
    );
    fs::remove_file(laptop.folder.join("dir 0/0")).expect("remove");
    put(&laptop.folder, "dir 1/1", "edited here");
    let merged = round(&laptop);
    assert!(merged.code <= 1, "{merged:#?}");
    assert_eq!(merged.count("deleted"), 0);
    home.settle(&[&laptop, &desktop]);
    let all = contents(&desktop.folder);
    for content in ["file 0", "edited here"] {
        assert!(all.contains(&Digest::of(content.as_bytes())), "{content}");
    }
}

#[test]
fn a_dry_run_says_everything_and_does_nothing() {
    let (home, [laptop, desktop]) = home(["laptop", "desktop"]);
    fill(&laptop.folder, 20);
    put(&laptop.folder, "moves", noise(1, 5000));
    put(&laptop.folder, "both", "base");
    home.settle(&[&laptop, &desktop]);
    put(&desktop.folder, "comes", "comes");
    put(&desktop.folder, "both", "theirs");
    fs::remove_file(desktop.folder.join("dir 0/0")).expect("remove");
    synced(&desktop);
    put(&laptop.folder, "goes", "goes");
    put(&laptop.folder, "both", "ours");
    fs::remove_file(laptop.folder.join("dir 1/1")).expect("remove");
    fs::rename(laptop.folder.join("moves"), laptop.folder.join("moved")).expect("rename");
    let before = [
        tree::read(&laptop.folder).expect("a tree"),
        tree::read(&home.drive()).expect("a tree"),
    ];
    for _ in 0..2 {
        let dry = output(laptop.command(&["sync", "--dry-run"]).arg(&laptop.folder));
        assert_eq!(dry.status.code(), Some(0), "{dry:?}");
        let said = String::from_utf8_lossy(&dry.stdout).into_owned();
        for (what, path) in [
            ("conflict", "both"),
            ("send", "goes"),
            ("delete there", "dir 1/1"),
            ("delete here", "dir 0/0"),
            ("receive", "comes"),
            ("move there", "moves -> moved"),
            ("nothing was done", ""),
        ] {
            let found = said
                .lines()
                .any(|line| line.contains(what) && line.contains(path));
            assert!(found, "{what} {path}:\n{said}");
        }
    }
    let after = [
        tree::read(&laptop.folder).expect("a tree"),
        tree::read(&home.drive()).expect("a tree"),
    ];
    assert!(before == after);
    assert_eq!(
        status(&laptop).json["result"],
        "in-sync",
        "a dry run isn't a round"
    );
    assert_eq!(round(&laptop).code, 1);
    home.settle(&[&laptop, &desktop]);
    assert!(stands(&desktop.folder, "goes") && stands(&desktop.folder, "moved"));
}

#[test]
fn status_tells_what_is_paired_and_how_it_stands() {
    let (home, [laptop]) = home(["laptop"]);
    let never = status(&laptop);
    assert_eq!(never.code, 0);
    assert_eq!(never.json["folder"], laptop.folder.to_str().expect("UTF-8"));
    assert_eq!(never.json["with"], address(&home));
    assert_eq!(never.json["device"], "laptop");
    assert!(never.json["at"].is_null(), "{never:#?}");
    put(&laptop.folder, "a", "a");
    put(&laptop.folder, "b\n", "b");
    assert_eq!(round(&laptop).code, 1);
    let stands = status(&laptop);
    assert_eq!(stands.code, 1);
    assert_eq!(stands.json["result"], "attention");
    assert_eq!((stands.count("sent"), stands.count("sent_bytes")), (1, 1));
    assert!(stands.count("at") > 1_000_000_000);
    assert!(stands.list("problems")[0].contains("b\\n"), "{stands:#?}");
    let plain = output(&mut laptop.command(&["status"]));
    let plain = String::from_utf8_lossy(&plain.stdout).into_owned();
    assert!(
        plain.contains("127.0.0.1") && plain.contains("b\\n can't be synced"),
        "{plain}"
    );
}

//! Two workstations, with other people's FTP servers between them.

mod common;
#[path = "../../tests/peers/mod.rs"]
mod peers;

use common::{
    ROUNDS_MAX, Round, names, noise, output, program, put, round, set_time, stands, synced,
    temp_dir, text, users_names, wait,
};
use peers::{Kind, Peer, start};
use raspbox::remote::connection::Tls;
use raspbox_protocol::Digest;
use raspbox_try::bed::Workstation;
use raspbox_try::tree::{self, Entry};
use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::UNIX_EPOCH;

/// 2001-09-09 01:46:40 UTC: whole seconds, as FTP has them.
const THEN_SECS: u64 = 1_000_000_000;

/// One server, and two workstations that are paired with a folder on it.
struct Bed {
    peer: Peer,
    laptop: Workstation,
    desktop: Workstation,
    _dir: tempfile::TempDir,
}

/// Runs a case with each of these servers.
fn check(kinds: &[Kind], case: impl Fn(&Bed)) {
    for &kind in kinds {
        eprintln!("--- {kind:?}");
        if let Some(peer) = start(kind) {
            case(&Bed::paired(peer));
        }
    }
}

/// Every server, in plain and with TLS, and one that can do no more than RFC 959.
const SERVERS: [Kind; 7] = [
    Kind::Pyftpdlib,
    Kind::PyftpdlibTls,
    Kind::PyftpdlibOld,
    Kind::Vsftpd,
    Kind::VsftpdTls,
    Kind::PureFtpd,
    Kind::PureFtpdTls,
];

/// Every server once.
const PLAIN: [Kind; 3] = [Kind::Pyftpdlib, Kind::Vsftpd, Kind::PureFtpd];

impl Bed {
    fn paired(peer: Peer) -> Bed {
        let dir = temp_dir();
        let [laptop, desktop] = ["laptop", "desktop"].map(|name| {
            let station = Workstation::new(program(), dir.path(), name);
            let paired = station.pair_with(&url(&peer), &peer.endpoint.secret, &["--poll", "1"]);
            paired.unwrap_or_else(|error| panic!("{name}: {error:#}"));
            station
        });
        Bed {
            peer,
            laptop,
            desktop,
            _dir: dir,
        }
    }

    fn stations(&self) -> [&Workstation; 2] {
        [&self.laptop, &self.desktop]
    }

    /// Both sync in turn until nothing moves any more; then both folders and the server's are the
    /// same, and nothing half-done is left anywhere.
    #[track_caller]
    fn settle(&self) {
        for _ in 0..ROUNDS_MAX {
            let rounds = self.stations().map(round);
            for round in &rounds {
                assert!(round.code <= 1, "{round:#?}");
            }
            if rounds.iter().all(|round| round.code == 0 && !round.moved()) {
                return self.same_everywhere();
            }
        }
        panic!("still not settled after {ROUNDS_MAX} rounds of both");
    }

    #[track_caller]
    fn same_everywhere(&self) {
        let served = files(&self.peer.folder);
        for station in self.stations() {
            assert_eq!(files(&station.folder), served, "{}", station.name);
            let staging = station.folder.join(".raspbox/staging");
            assert_eq!(names(&staging), [""; 0], "staging of {}", station.name);
        }
    }

    /// The next round of both moves nothing, and wants nothing.
    #[track_caller]
    fn is_quiet(&self) {
        for station in self.stations() {
            let round = synced(station);
            assert!(!round.moved(), "{}: {round:#?}", station.name);
        }
    }
}

fn url(peer: &Peer) -> String {
    let endpoint = &peer.endpoint;
    let scheme = match endpoint.tls {
        Tls::Off => "ftp",
        Tls::FirstUse | Tls::Pinned(_) => "ftps",
    };
    let (user, port) = (&endpoint.user, endpoint.port);
    format!("{scheme}://{user}@127.0.0.1:{port}/{}", peer.base)
}

/// All of a folder: files with their contents, and `None` for folders. Not the times: a file's
/// fraction of a second doesn't travel over FTP.
fn files(root: &Path) -> BTreeMap<PathBuf, Option<Digest>> {
    let tree = tree::read(root).expect("a tree");
    let content = |entry| match entry {
        Entry::File(_, _, _, digest) => Some(digest),
        Entry::Folder => None,
        Entry::Symlink(target) => panic!("a symlink to {target:?}"),
    };
    let files = tree.into_iter();
    files.map(|(path, entry)| (path, content(entry))).collect()
}

fn secs(path: &Path) -> u64 {
    let modified = fs::metadata(path).and_then(|meta| meta.modified());
    let modified = modified.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    modified
        .duration_since(UNIX_EPOCH)
        .expect("later")
        .as_secs()
}

/// Somebody else's client: Python's ftplib, in plain, in the folder that is synced.
fn by_ftplib(peer: &Peer, script: &str) {
    let begin = "
import ftplib, io, sys
ftp = ftplib.FTP(timeout=120)
ftp.connect('127.0.0.1', int(sys.argv[1]))
ftp.login(sys.argv[2], sys.argv[3])
ftp.cwd(sys.argv[4])

def put(name, content):
    ftp.storbinary('STOR ' + name, io.BytesIO(content))
";
    let endpoint = &peer.endpoint;
    let mut command = Command::new("python3");
    command
        .args(["-c", &format!("{begin}{script}\nftp.quit()\n")])
        .arg(endpoint.port.to_string())
        .args([&endpoint.user, &endpoint.secret, peer.base]);
    let output = output(&mut command);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
}

#[test]
fn what_one_creates_edits_and_deletes_the_other_gets() {
    check(&SERVERS, |bed| {
        let (laptop, desktop) = (&bed.laptop.folder, &bed.desktop.folder);
        put(laptop, "a.txt", "from the laptop");
        put(laptop, "docs/deep/b.txt", noise(1, 70_000));
        fs::create_dir(laptop.join("empty")).expect("made");
        put(desktop, "c.txt", "from the desktop");
        put(desktop, "docs/d.txt", "");
        bed.settle();
        assert_eq!(text(laptop, "c.txt").as_deref(), Some("from the desktop"));
        assert!(desktop.join("empty").is_dir() && bed.peer.path("empty").is_dir());

        put(laptop, "c.txt", "edited on the laptop");
        put(desktop, "docs/deep/b.txt", "edited on the desktop");
        bed.settle();
        assert_eq!(
            text(desktop, "c.txt").as_deref(),
            Some("edited on the laptop")
        );
        assert_eq!(
            text(laptop, "docs/deep/b.txt").as_deref(),
            Some("edited on the desktop")
        );

        fs::remove_file(laptop.join("a.txt")).expect("removed");
        fs::remove_dir(laptop.join("empty")).expect("removed");
        fs::remove_file(desktop.join("docs/d.txt")).expect("removed");
        bed.settle();
        assert_eq!(users_names(desktop), ["c.txt", "docs"]);
        assert_eq!(bed.peer.names(), ["c.txt", "docs"]);
        assert!(!stands(laptop, "docs/d.txt"));
    });
}

#[test]
fn a_hundred_files_go_once_and_the_next_sync_moves_nothing() {
    check(&SERVERS, |bed| {
        for n in 0..100_u16 {
            let path = format!("d{}/file {n}.txt", n % 5);
            put(
                &bed.laptop.folder,
                &path,
                noise(n.into(), 100 + 20 * usize::from(n)),
            );
        }
        assert_eq!(synced(&bed.laptop).count("sent"), 105);
        assert_eq!(synced(&bed.desktop).count("received"), 105);
        bed.same_everywhere();
        bed.is_quiet();
        let plan = common::round_with(&bed.laptop, &["--dry-run"]);
        assert_eq!(plan.code, 0, "{plan:#?}");
    });
}

#[test]
fn a_rename_arrives_and_nothing_is_sent_for_it() {
    check(&SERVERS, |bed| {
        let (laptop, desktop) = (&bed.laptop.folder, &bed.desktop.folder);
        put(laptop, "old/a.txt", noise(2, 50_000));
        put(laptop, "old/b.txt", noise(3, 60_000));
        put(laptop, "c.txt", noise(4, 70_000));
        bed.settle();
        fs::rename(laptop.join("old"), laptop.join("new")).expect("renamed");
        fs::rename(laptop.join("c.txt"), laptop.join("new/e.txt")).expect("renamed");
        let round = synced(&bed.laptop);
        let sent = (round.count("moved"), round.count("sent_bytes"));
        assert_eq!(sent, (3, 0), "{round:#?}");
        bed.settle();
        assert_eq!(users_names(desktop), ["new"]);
        assert_eq!(names(&desktop.join("new")), ["a.txt", "b.txt", "e.txt"]);
    });
}

#[test]
fn an_edit_of_the_same_length_arrives() {
    check(&SERVERS, |bed| {
        let edit = |root: &Path, content: &str, secs| {
            put(root, "a.txt", content);
            set_time(&root.join("a.txt"), secs);
        };
        edit(&bed.laptop.folder, "one", THEN_SECS);
        bed.settle();
        if bed.peer.kind == Kind::PyftpdlibOld {
            // It can't set times, and two uploads within a second look alike.
            set_time(&bed.peer.path("a.txt"), THEN_SECS);
            bed.settle();
        }
        edit(&bed.desktop.folder, "two", THEN_SECS + 1);
        bed.settle();
        assert_eq!(text(&bed.laptop.folder, "a.txt").as_deref(), Some("two"));
        edit(&bed.peer.folder, "six", THEN_SECS + 2);
        bed.settle();
        assert_eq!(text(&bed.laptop.folder, "a.txt").as_deref(), Some("six"));
    });
}

#[test]
fn of_two_edits_both_are_kept() {
    check(&SERVERS, |bed| {
        let (laptop, desktop) = (&bed.laptop.folder, &bed.desktop.folder);
        put(laptop, "plan.txt", "base");
        bed.settle();
        put(laptop, "plan.txt", "the laptop's");
        put(desktop, "plan.txt", "the desktop's own");
        synced(&bed.laptop);
        let second = round(&bed.desktop);
        assert_eq!(second.code, 1, "{second:#?}");
        assert_eq!(second.list("conflicts").len(), 1, "{second:#?}");
        bed.settle();
        for folder in [laptop, desktop, &bed.peer.folder] {
            assert_eq!(text(folder, "plan.txt").as_deref(), Some("the laptop's"));
            let names = users_names(folder);
            let [copy, _] = &names[..] else {
                panic!("{names:?}");
            };
            assert!(copy.starts_with("plan (conflict desktop "), "{copy}");
            assert_eq!(text(folder, copy).as_deref(), Some("the desktop's own"));
        }
    });
}

#[test]
fn an_edit_beats_a_delete_both_ways() {
    check(&PLAIN, |bed| {
        let (laptop, desktop) = (&bed.laptop.folder, &bed.desktop.folder);
        for name in ["a", "b", "d/c", "kept"] {
            put(laptop, name, "base");
        }
        bed.settle();
        fs::remove_file(laptop.join("a")).expect("removed");
        put(desktop, "a", "edited");
        put(laptop, "b", "edited");
        fs::remove_file(desktop.join("b")).expect("removed");
        fs::remove_dir_all(laptop.join("d")).expect("removed");
        put(desktop, "d/c", "edited");
        bed.settle();
        for name in ["a", "b", "d/c"] {
            assert_eq!(text(laptop, name).as_deref(), Some("edited"), "{name}");
        }
    });
}

#[test]
fn two_folders_with_content_of_their_own_become_one() {
    check(&PLAIN, |bed| {
        bed.peer.mkdir("served");
        bed.peer.write("served/before", b"there first");
        bed.peer.write("alike", b"the same everywhere");
        for station in bed.stations() {
            put(&station.folder, "alike", "the same everywhere");
            put(
                &station.folder,
                &station.name,
                format!("of {}", station.name),
            );
        }
        bed.settle();
        let all = ["alike", "desktop", "laptop", "served"];
        assert_eq!(users_names(&bed.laptop.folder), all);
    });
}

#[test]
fn what_somebody_else_does_on_the_server_arrives() {
    check(&PLAIN, |bed| {
        for name in ["replaced", "deleted", "renamed", "left"] {
            put(&bed.laptop.folder, name, format!("{name} at first"));
        }
        bed.settle();
        by_ftplib(
            &bed.peer,
            "
put('replaced', b'replaced by somebody else')
put('new', b'made by somebody else')
ftp.mkd('folder')
put('folder/below', b'below')
ftp.delete('deleted')
ftp.rename('renamed', 'renamed by somebody else')",
        );
        bed.settle();
        for station in bed.stations() {
            let text = |name| text(&station.folder, name).unwrap_or_default();
            assert_eq!(text("replaced"), "replaced by somebody else");
            assert_eq!(text("new"), "made by somebody else");
            assert_eq!(text("folder/below"), "below");
            assert_eq!(text("renamed by somebody else"), "renamed at first");
            assert!(!stands(&station.folder, "deleted"));
        }
    });
}

#[test]
fn an_edit_here_and_somebody_elses_there_are_both_kept() {
    check(&SERVERS, |bed| {
        put(&bed.laptop.folder, "a.txt", "base");
        bed.settle();
        // On the server's own machine: ftplib can't do the TLS that vsftpd wants.
        bed.peer.write("a.txt", b"by somebody else");
        put(&bed.laptop.folder, "a.txt", "the laptop's");
        let round = round(&bed.laptop);
        assert_eq!(round.list("conflicts").len(), 1, "{round:#?}");
        bed.settle();
        let kept: Vec<Option<String>> = users_names(&bed.desktop.folder)
            .iter()
            .map(|name| text(&bed.desktop.folder, name))
            .collect();
        let both = ["the laptop's", "by somebody else"].map(|text| Some(text.to_owned()));
        assert_eq!(kept, both);
    });
}

#[test]
fn odd_names_arrive_as_they_are() {
    check(&SERVERS, |bed| {
        let odd = [
            "-dash",
            ".hidden",
            "  two spaces",
            "[brackets]*?",
            "a \"quoted\" 'name'",
            "grüße → 😀",
            "100% #1;&",
            "x -> y",
        ];
        for name in odd {
            put(&bed.laptop.folder, &format!("{name}/{name}"), name);
        }
        bed.settle();
        for name in odd {
            let path = format!("{name}/{name}");
            assert_eq!(text(&bed.desktop.folder, &path).as_deref(), Some(name));
        }
        bed.is_quiet();
    });
}

#[test]
fn times_go_along_and_executable_bits_stay() {
    check(&SERVERS, |bed| {
        let script = bed.laptop.folder.join("run.sh");
        put(&bed.laptop.folder, "run.sh", "#!/bin/sh\n");
        fs::set_permissions(&script, Permissions::from_mode(0o755)).expect("own file");
        set_time(&script, THEN_SECS);
        bed.settle();
        if bed.peer.kind != Kind::PyftpdlibOld {
            // That one offers no way to set times.
            assert_eq!(secs(&bed.desktop.folder.join("run.sh")), THEN_SECS);
            assert_eq!(secs(&bed.peer.path("run.sh")), THEN_SECS);
        }
        put(&bed.desktop.folder, "run.sh", "#!/bin/sh\necho edited\n");
        bed.settle();
        let mode = fs::metadata(&script).expect("there").permissions().mode();
        assert_eq!(
            mode & 0o111,
            0o111,
            "FTP knows no such bit, so nobody takes it"
        );
        bed.is_quiet();
    });
}

#[test]
fn ten_megabytes_go_there_and_back() {
    check(&SERVERS, |bed| {
        let mut content = noise(5, 10 << 20);
        put(&bed.laptop.folder, "big", &content);
        bed.settle();
        content.truncate((10 << 20) - 7);
        put(&bed.desktop.folder, "big", &content);
        bed.settle();
        assert!(fs::read(bed.laptop.folder.join("big")).expect("there") == content);
    });
}

#[test]
fn watches_that_look_every_second_keep_both_in_sync() {
    check(&PLAIN, |bed| {
        let mut watches = bed
            .stations()
            .map(|station| station.watch().expect("starts"));
        for watch in &mut watches {
            watch.ready().expect("its first round");
        }
        let (laptop, desktop) = (&bed.laptop.folder, &bed.desktop.folder);
        let arrives = |folder: &Path, name: &str, content: &str| {
            wait(name, || text(folder, name).as_deref() == Some(content));
        };
        put(laptop, "a", "from the laptop");
        arrives(desktop, "a", "from the laptop");
        put(desktop, "a", "back from the desktop");
        arrives(laptop, "a", "back from the desktop");
        by_ftplib(&bed.peer, "put('b', b'by somebody else')");
        arrives(laptop, "b", "by somebody else");
        arrives(desktop, "b", "by somebody else");
        fs::remove_file(desktop.join("a")).expect("removed");
        wait("a to go", || !stands(laptop, "a"));
    });
}

#[test]
fn a_server_that_is_gone_or_refuses_is_said_so() {
    for kind in PLAIN {
        let Some(peer) = start(kind) else { continue };
        let mut bed = Bed::paired(peer);
        put(&bed.laptop.folder, "a", "kept");
        bed.settle();
        bed.peer.stop();
        let round = round(&bed.laptop);
        assert_eq!(round.code, 3, "{round:#?}");
        assert_eq!(text(&bed.laptop.folder, "a").as_deref(), Some("kept"));
    }
    for kind in [Kind::Pyftpdlib, Kind::PureFtpd] {
        let Some(peer) = start(kind) else { continue };
        let dir = temp_dir();
        let station = Workstation::new(program(), dir.path(), "stranger");
        let error = station.pair_with(&url(&peer), "wrong", &[]);
        let error = error.expect_err("a wrong password").to_string();
        assert!(error.contains("password"), "{error}");
    }
}

#[test]
fn a_folder_that_vanishes_on_the_server_deletes_nothing_here() {
    check(&PLAIN, |bed| {
        put(&bed.laptop.folder, "a", "kept");
        put(&bed.laptop.folder, "d/b", "kept");
        bed.settle();
        fs::remove_dir_all(&bed.peer.folder).expect("removed");
        for station in bed.stations() {
            let said: Round = round(station);
            assert!(said.code > 1, "{said:#?}");
            assert_eq!(text(&station.folder, "a").as_deref(), Some("kept"));
            assert_eq!(text(&station.folder, "d/b").as_deref(), Some("kept"));
        }
    });
}

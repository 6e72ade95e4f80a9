//! The remote side as an ordinary FTP server, with real ones.

mod peers;

use peers::{ALL, Kind, Peer, start, start_with};
use raspbox::remote::connection::{Connection, Tls};
use raspbox::remote::foreign::Foreign;
use raspbox::remote::{
    Digest256, Look, Progress, Remote, RemoteError, RemoteTree, Sink, made_up_digest, pairing,
};
use raspbox_beneath::File;
use raspbox_core::tree::Node;
use raspbox_protocol::commit::{Expect, Op, Outcome, Refusal};
use raspbox_protocol::want::Want;
use raspbox_protocol::{Digest, Entry, File as FileEntry, LinkTarget, Mtime, RelPath, Version};
use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Seek, Write};
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A time without a fraction, long ago.
const THEN: Mtime = Mtime(1_600_000_000_000_000_000);

/// So long that only what hangs reaches it.
const DEADLINE: Duration = Duration::from_secs(180);

fn path(text: &str) -> RelPath {
    RelPath::parse(text).expect("a good path")
}

fn described(content: &[u8]) -> FileEntry {
    FileEntry {
        digest: Digest::of(content),
        size: content.len() as u64,
        mtime: THEN,
        executable: false,
    }
}

fn put(name: &str, content: &[u8], expect: Expect) -> Op {
    Op::Put {
        path: path(name),
        expect,
        file: described(content),
    }
}

fn holding(content: &[u8]) -> io::Result<File> {
    let mut file = tempfile::tempfile()?;
    file.write_all(content)?;
    file.rewind()?;
    Ok(file.into())
}

/// Carries out one operation.
fn act(remote: &mut Foreign, op: Op, content: &[u8]) -> Outcome {
    let outcomes = remote.push(&[op], &mut |_| holding(content), &mut |_| {});
    let [outcome] = outcomes
        .expect("the server answers")
        .outcomes
        .try_into()
        .expect("one for one");
    outcome
}

fn done(remote: &mut Foreign, op: Op, content: &[u8]) -> Version {
    match act(remote, op.clone(), content) {
        Outcome::Done(version) => version,
        Outcome::Refused(refusal) => panic!("{op:?}: {refusal}"),
    }
}

fn refused(remote: &mut Foreign, op: Op, content: &[u8]) -> Refusal {
    match act(remote, op.clone(), content) {
        Outcome::Done(_) => panic!("{op:?} was done"),
        Outcome::Refused(refusal) => refusal,
    }
}

fn look(remote: &mut Foreign, known: &RemoteTree) -> Look {
    remote
        .look(None, known, &|_| None)
        .expect("the server answers")
}

fn seen(look: &Look) -> BTreeMap<String, (Entry, Version)> {
    let entry = |(path, entry, version): &(RelPath, Option<Entry>, Version)| {
        (
            path.to_string(),
            (entry.clone().expect("never gone"), *version),
        )
    };
    look.changes.iter().map(entry).collect()
}

fn tree(look: &Look) -> RemoteTree {
    let mut tree = RemoteTree::default();
    for (path, entry, version) in &look.changes {
        let entry = entry.clone().expect("never gone");
        let before = tree.insert(path, Node::new(entry, *version));
        before.expect("a folder comes before what is in it");
    }
    tree
}

/// Collects contents.
#[derive(Default)]
struct Basket {
    cannot: Option<usize>,
    pieces: BTreeMap<usize, Vec<u8>>,
    done: Vec<usize>,
    refused: Vec<(usize, Refusal)>,
}

impl Sink for Basket {
    fn begin(&mut self, index: usize, _offset: u64, _len_bytes: u64) -> io::Result<()> {
        if self.cannot == Some(index) {
            return Err(io::Error::other("full"));
        }
        self.pieces.insert(index, Vec::new());
        Ok(())
    }

    fn data(&mut self, index: usize, piece: &[u8]) -> io::Result<()> {
        self.pieces.get_mut(&index).expect("begun").extend(piece);
        Ok(())
    }

    fn done(&mut self, index: usize) {
        self.done.push(index);
    }

    fn refused(&mut self, index: usize, refusal: Refusal) {
        self.refused.push((index, refusal));
    }
}

/// Runs a test with each server, named in its output.
fn each(kinds: &[Kind], test: impl Fn(&Peer, &mut Foreign)) {
    for &kind in kinds {
        eprintln!("--- {kind:?}");
        if let Some(peer) = start(kind) {
            let from = std::time::Instant::now();
            test(&peer, &mut peer.foreign());
            eprintln!("    {:?}", from.elapsed());
        }
    }
}

#[test]
fn everything_that_can_be_done_is_done() {
    each(&ALL, |peer, remote| {
        let large = b"0123456789abcdef".repeat(40_000);
        assert_eq!(
            done(remote, Op::MakeFolder { path: path("d") }, b""),
            Version(1)
        );
        assert_eq!(
            done(remote, Op::MakeFolder { path: path("d") }, b""),
            Version(1)
        );
        let v1 = done(remote, put("d/large", &large, Expect::Absent), &large);
        done(remote, put("empty", b"", Expect::Absent), b"");
        assert_eq!(peer.read("d/large"), large);
        let mtime = fs::metadata(peer.path("d/large")).and_then(|meta| meta.modified());
        // Nothing sets a time there.
        let sets_times = peer.kind != Kind::PyftpdlibOld;
        let mtime = Mtime::from(mtime.expect("a time"));
        assert_eq!(mtime == THEN, sets_times);

        // What is on record keeps its hash and its executable bit.
        let first = look(remote, &RemoteTree::default());
        assert!(first.whole && first.unknown.is_empty(), "{first:?}");
        let seen_first = seen(&first);
        assert_eq!(
            seen_first.keys().collect::<Vec<_>>(),
            ["d", "d/large", "empty"]
        );
        assert_eq!(seen_first["d/large"].1, v1);
        let Entry::File(file) = seen_first["d/large"].0 else {
            panic!("a file");
        };
        assert_eq!(file.digest, made_up_digest(&path("d/large"), v1));
        assert_eq!(file.size, large.len() as u64);
        assert_eq!(file.mtime, Mtime::from_parts(mtime.parts().0, 0));
        let mut known = tree(&first);
        let recorded = FileEntry {
            executable: true,
            ..described(&large)
        };
        *known.get_mut(&path("d/large")).expect("there") = Node::File(recorded, v1);
        let second = look(remote, &known);
        assert_eq!(seen(&second)["d/large"].0, Entry::File(recorded));
        assert_eq!(
            second,
            Look {
                changes: second.changes.clone(),
                ..first
            }
        );

        // Replace, move, set the time, fetch.
        let v2 = done(
            remote,
            put("d/large", b"small", Expect::Version(v1)),
            b"small",
        );
        assert_eq!(peer.read("d/large"), b"small");
        let moved = Op::Move {
            from: path("d"),
            expect: Version(1),
            to: path("e"),
        };
        done(remote, moved, b"");
        assert_eq!(peer.read("e/large"), b"small");
        let touched = Op::SetMeta {
            path: path("e/large"),
            expect: v2,
            mtime: Mtime(THEN.0 + 5_000_000_000),
            executable: true,
        };
        let v3 = done(remote, touched, b"");
        assert_eq!(v2 != v3, sets_times);
        let third = look(remote, &RemoteTree::default());
        assert_eq!(seen(&third)["e/large"].1, v3);
        let want = |name: &str, version| Want {
            path: path(name),
            version,
            offset: 0,
        };
        let wants = [
            want("e/large", v3),
            want("empty", seen(&third)["empty"].1),
            want("e/large", v1),
            want("gone", v2),
            Want {
                offset: 2,
                ..want("e/large", v3)
            },
        ];
        let mut basket = Basket {
            cannot: Some(1),
            ..Basket::default()
        };
        remote
            .pull(&wants, &mut basket)
            .expect("the server answers");
        assert_eq!(basket.done, [0, 4]);
        assert_eq!(basket.pieces[&0], b"small");
        assert_eq!(basket.pieces[&4], b"all");
        let changed = |index| (index, Refusal::Changed);
        assert_eq!(basket.refused, [changed(2), changed(3)]);

        // And all of it goes again.
        let delete = |name: &str, expect| Op::Delete {
            path: path(name),
            expect,
        };
        assert_eq!(
            refused(remote, delete("e", Version(1)), b""),
            Refusal::NotEmpty
        );
        done(remote, delete("e/large", v3), b"");
        done(remote, delete("e/large", v3), b"");
        done(remote, delete("e", Version(1)), b"");
        done(remote, delete("empty", seen(&third)["empty"].1), b"");
        assert!(look(remote, &RemoteTree::default()).changes.is_empty());
        assert_eq!(peer.names(), [""; 0]);
    });
}

#[test]
fn nothing_is_replaced_on_the_strength_of_an_old_look() {
    each(&ALL, |peer, remote| {
        peer.write("theirs", b"their edit");
        let theirs = seen(&look(remote, &RemoteTree::default()))["theirs"].1;
        peer.write("theirs", b"their second edit");
        for op in [
            put("theirs", b"mine", Expect::Absent),
            put("theirs", b"mine", Expect::Version(theirs)),
            put("nothing", b"mine", Expect::Version(theirs)),
            Op::Delete {
                path: path("theirs"),
                expect: theirs,
            },
            Op::Move {
                from: path("theirs"),
                expect: theirs,
                to: path("x"),
            },
            Op::MakeFolder {
                path: path("theirs"),
            },
            Op::SetMeta {
                path: path("theirs"),
                expect: theirs,
                mtime: THEN,
                executable: true,
            },
        ] {
            assert_eq!(refused(remote, op, b"mine"), Refusal::Changed);
        }
        let theirs = seen(&look(remote, &RemoteTree::default()))["theirs"].1;
        peer.write("taken", b"x");
        let op = Op::Move {
            from: path("theirs"),
            expect: theirs,
            to: path("taken"),
        };
        assert_eq!(refused(remote, op, b""), Refusal::Changed);
        peer.mkdir("folder");
        let op = put("folder", b"mine", Expect::Absent);
        assert_eq!(refused(remote, op, b"mine"), Refusal::Changed);
        assert_eq!(peer.read("theirs"), b"their second edit");
        assert_eq!(peer.names(), ["folder", "taken", "theirs"]);
    });
}

#[test]
fn refusals_say_why_and_leave_nothing_behind() {
    each(&ALL, |peer, remote| {
        let op = put("no/such/folder", b"x", Expect::Absent);
        assert_eq!(refused(remote, op, b"x"), Refusal::NoParent);
        let op = Op::MakeFolder {
            path: path("no/such"),
        };
        assert_eq!(refused(remote, op, b""), Refusal::NoParent);
        for content in [&b"other"[..], b"it", b"stated and more"] {
            let op = put("a", b"stated", Expect::Absent);
            let expected = match content.starts_with(b"stated") {
                true => Outcome::Done(act_version(remote, peer)),
                false => Outcome::Refused(Refusal::BadContent),
            };
            if let Outcome::Refused(refusal) = expected {
                assert_eq!(refused(remote, op, content), refusal);
            }
        }
        let op = Op::Symlink {
            path: path("l"),
            expect: Expect::Absent,
            target: LinkTarget::parse("a").expect("good"),
        };
        assert!(matches!(refused(remote, op, b""), Refusal::Name(_)));
        let op = put("cut ", b"x", Expect::Absent);
        assert!(matches!(refused(remote, op, b"x"), Refusal::Name(_)));
        let ops = [
            put("gone", b"x", Expect::Absent),
            put("here", b"x", Expect::Absent),
        ];
        let mut open = |index| match index {
            0 => Err(io::Error::from(io::ErrorKind::NotFound)),
            _ => holding(b"x"),
        };
        let mut sent = 0;
        let outcomes = remote.push(&ops, &mut open, &mut |progress| match progress {
            Progress::Sent(more) => sent += more,
            Progress::Spared(bytes) => panic!("{bytes} bytes had come before"),
        });
        let outcomes = outcomes.expect("the server answers").outcomes;
        assert!(matches!(outcomes[0], Outcome::Refused(Refusal::Failed(_))));
        assert!(matches!(outcomes[1], Outcome::Done(_)));
        assert_eq!(sent, 1);
        assert_eq!(peer.names(), ["a", "here"]);
    });
}

/// A file that is longer than stated is sent as far as it was stated.
fn act_version(remote: &mut Foreign, peer: &Peer) -> Version {
    let op = put("a", b"stated", Expect::Absent);
    let version = done(remote, op, b"stated and more");
    assert_eq!(peer.read("a"), b"stated");
    version
}

#[test]
fn odd_names_go_there_and_back() {
    each(&ALL, |peer, remote| {
        let names = [
            ".hidden",
            "  lead",
            "-rf",
            "[x]*?",
            "a \"quoted\" name",
            "grüße → 😀",
            "x -> y",
        ];
        let mut sorted = names.map(str::to_owned).to_vec();
        sorted.sort();
        for name in names {
            done(remote, Op::MakeFolder { path: path(name) }, b"");
            let inside = format!("{name}/{name}");
            done(
                remote,
                put(&inside, name.as_bytes(), Expect::Absent),
                name.as_bytes(),
            );
        }
        assert_eq!(peer.names(), sorted);
        let found = look(remote, &RemoteTree::default());
        assert_eq!(found.unknown, []);
        let found = seen(&found);
        assert_eq!(found.len(), 2 * names.len());
        let wants: Vec<Want> = sorted
            .iter()
            .map(|name| format!("{name}/{name}"))
            .map(|name| Want {
                path: path(&name),
                version: found[&name].1,
                offset: 0,
            })
            .collect();
        let mut basket = Basket::default();
        remote
            .pull(&wants, &mut basket)
            .expect("the server answers");
        assert_eq!(basket.refused, []);
        for (index, name) in sorted.iter().enumerate() {
            assert_eq!(basket.pieces[&index], name.as_bytes());
        }
    });
}

#[test]
fn the_same_content_on_both_sides_is_found_to_be_the_same() {
    each(&ALL, |peer, remote| {
        peer.write("same", b"content");
        peer.write("other", b"CONTENT");
        peer.write("longer", b"more content");
        let sizes = |path: &RelPath| (path.as_str() != "nothing").then_some((7, false));
        let known = RemoteTree::default();
        let found = remote
            .look(None, &known, &sizes)
            .expect("the server answers");
        let found = seen(&found);
        let digest = |name: &str| match &found[name].0 {
            Entry::File(file) => file.digest,
            other => panic!("{other:?}"),
        };
        assert_eq!(digest("same"), Digest::of(b"content"));
        assert_eq!(digest("other"), Digest::of(b"CONTENT"));
        let longer = found["longer"].1;
        assert_eq!(digest("longer"), made_up_digest(&path("longer"), longer));
    });
}

#[test]
fn a_folder_that_cannot_be_listed_is_unknown_and_not_empty() {
    let locked = |peer: &Peer, remote: &mut Foreign| {
        peer.mkdir("locked");
        peer.write("locked/file", b"x");
        peer.write("open", b"x");
        if !matches!(peer.kind, Kind::Pyftpdlib | Kind::PyftpdlibOld) {
            // Searchable and not readable: CWD works and a listing doesn't.
            let mode = fs::Permissions::from_mode(0o311);
            fs::set_permissions(peer.path("locked"), mode).expect("own folder");
        }
        let found = look(remote, &RemoteTree::default());
        assert_eq!(
            seen(&found).keys().collect::<Vec<_>>(),
            ["open"],
            "{found:?}"
        );
        let unknown: Vec<&str> = found
            .unknown
            .iter()
            .map(|(path, _)| path.as_str())
            .collect();
        assert_eq!(unknown, ["locked"], "{found:?}");
    };
    each(
        &[
            Kind::Vsftpd,
            Kind::VsftpdTls,
            Kind::PureFtpd,
            Kind::PureFtpdTls,
        ],
        locked,
    );
    for kind in [Kind::Pyftpdlib, Kind::PyftpdlibOld] {
        if let Some(peer) = start_with(kind, &["locked=locked"]) {
            locked(&peer, &mut peer.foreign());
        }
        // The top itself.
        if let Some(peer) = start_with(kind, &["locked=data"]) {
            let found = peer.foreign().look(None, &RemoteTree::default(), &|_| None);
            assert!(
                matches!(found, Err(RemoteError::Refused { .. })),
                "{found:?}"
            );
        }
    }
}

#[test]
fn a_missing_top_is_an_error() {
    each(&ALL, |peer, remote| {
        fs::remove_dir(&peer.folder).expect("empty");
        let found = remote.look(None, &RemoteTree::default(), &|_| None);
        assert!(
            matches!(found, Err(RemoteError::Refused { .. })),
            "{found:?}"
        );
    });
}

#[test]
fn what_cut_uploads_left_is_invisible_and_goes_after_a_day() {
    let name = |at: SystemTime| {
        let secs = at.duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
        format!(".raspbox-upload-{secs:016x}0123456789abcdef")
    };
    let now = SystemTime::now();
    let old = name(now - Duration::from_secs(90_000));
    let fresh = name(now - Duration::from_secs(3_600));
    let not_ours = ".raspbox-upload-notours";
    each(&ALL, |peer, remote| {
        for name in [&old, &fresh, not_ours] {
            peer.write(name, b"half");
        }
        let found = look(remote, &RemoteTree::default());
        assert_eq!(seen(&found).keys().collect::<Vec<_>>(), [not_ours]);
        let mut left = vec![fresh.clone(), not_ours.to_owned()];
        left.sort();
        assert_eq!(peer.names(), left);
        // A folder with only such a leftover in it counts as empty.
        peer.mkdir("d");
        peer.write(&format!("d/{old}"), b"half");
        let op = Op::Delete {
            path: path("d"),
            expect: Version(1),
        };
        done(remote, op, b"");
        assert_eq!(peer.names(), left);
    });
}

#[test]
fn a_folder_with_something_in_it_stays_where_servers_take_all_of_it() {
    let Some(peer) = start_with(Kind::Pyftpdlib, &["takes-all"]) else {
        return;
    };
    let mut remote = peer.foreign();
    peer.mkdir("d");
    peer.write("d/theirs", b"another's edit");
    peer.mkdir("d/.raspbox-upload-00000000000003e80000000000000000");
    let op = Op::Delete {
        path: path("d"),
        expect: Version(1),
    };
    for left in [
        "d/theirs",
        "d/.raspbox-upload-00000000000003e80000000000000000",
    ] {
        assert_eq!(refused(&mut remote, op.clone(), b""), Refusal::NotEmpty);
        assert!(peer.path(left).exists());
        let removed = fs::remove_file(peer.path(left));
        removed
            .or_else(|_| fs::remove_dir(peer.path(left)))
            .expect("its last day");
    }
    done(&mut remote, op, b"");
    assert_eq!(peer.names(), [""; 0]);
}

#[test]
fn what_replaces_a_file_never_looks_like_it() {
    each(&ALL, |peer, remote| {
        let first = done(remote, put("a", b"first", Expect::Absent), b"first");
        let op = put("a", b"other", Expect::Version(first));
        let mut second = first;
        // Where no time can be set, it takes until the next second.
        peers::wait_for("another second", DEADLINE, || {
            match act(remote, op.clone(), b"other") {
                Outcome::Done(version) => second = version,
                Outcome::Refused(refusal) => assert_eq!(refusal, Refusal::Changed),
            }
            second != first || peer.read("a") == b"other"
        });
        assert_ne!(second, first);
        assert_eq!(seen(&look(remote, &RemoteTree::default()))["a"].1, second);
        assert_eq!(peer.read("a"), b"other");
        assert_eq!(peer.names(), ["a"]);
    });
}

#[test]
fn links_and_pipes_are_named_as_unknown() {
    each(&[Kind::Vsftpd, Kind::Pyftpdlib], |peer, remote| {
        peer.write("file", b"x");
        std::os::unix::fs::symlink(".", peer.path("loop")).expect("made");
        let found = look(remote, &RemoteTree::default());
        let seen = seen(&found);
        assert!(
            seen.keys().all(|path| !path.contains("loop/loop")),
            "{seen:?}"
        );
        assert!(!found.unknown.is_empty(), "{found:?}");
    });
}

#[test]
fn only_the_pinned_certificate_is_taken() {
    for kind in [Kind::PyftpdlibTls, Kind::VsftpdTls, Kind::PureFtpdTls] {
        eprintln!("--- {kind:?}");
        let Some(peer) = start(kind) else { continue };
        let shown = Connection::fingerprint_at(&peer.endpoint).expect("a certificate");
        let pinned = |digest| {
            let mut endpoint = peer.endpoint.clone();
            endpoint.tls = Tls::Pinned(digest);
            Foreign::new(endpoint, peer.base)
        };
        let mut good = pinned(shown);
        done(&mut good, put("a", b"x", Expect::Absent), b"x");
        assert_eq!(good.fingerprint(), Some(shown));
        let wrong = Digest256([7; 32]);
        match pinned(wrong).info() {
            Err(RemoteError::OtherCertificate { pinned, found, .. }) => {
                assert_eq!((pinned, found), (wrong, shown));
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn trouble_with_the_connection_says_what_to_do() {
    each(&ALL, |peer, _| {
        // vsftpd's anonymous takes every password.
        let mut endpoint = peer.endpoint.clone();
        endpoint.user = "nosuchuser".into();
        endpoint.secret = "wrong".into();
        let error = Foreign::new(endpoint, "")
            .info()
            .expect_err("a wrong password");
        assert!(
            matches!(error, RemoteError::LoginRefused { .. }),
            "{error:?}"
        );
        assert!(!error.to_string().contains("wrong"), "{error}");
    });
    let Some(mut peer) = start(Kind::Pyftpdlib) else {
        return;
    };
    let mut tls = peer.endpoint.clone();
    tls.tls = Tls::FirstUse;
    let error = Foreign::new(tls, "").info().expect_err("no TLS there");
    assert!(error.to_string().contains("no TLS"), "{error}");
    let kind = pairing::probe(&peer.endpoint).expect("it answers");
    assert!(
        matches!(kind, pairing::Kind::Foreign { features } if features.mlst),
        "{kind:?}"
    );
    let mut remote = peer.foreign();
    remote.info().expect("it answers");
    peer.stop();
    for _ in 0..2 {
        let error = remote.info().expect_err("nobody there");
        assert!(
            matches!(error, RemoteError::Unreachable { .. }),
            "{error:?}"
        );
    }
    let mut nowhere = peer.endpoint.clone();
    nowhere.host = "no-such-host.invalid".into();
    let error = Foreign::new(nowhere, "").info().expect_err("no such host");
    assert!(matches!(error, RemoteError::NoSuchHost(_)), "{error:?}");
}

//! What can't be done is told as what it is: a drive in trouble is no change by somebody else, and a name that is
//! taken in another spelling is no file that changed. What a client does about it depends on that.

use raspbox_beneath::sim::{Computer, Disk, Fault, Traits, enter};
use raspbox_protocol::commit::{CommitFrame, Expect, Op, Outcome, Refusal};
use raspbox_protocol::special::RequestId;
use raspbox_protocol::wire::to_bytes;
use raspbox_protocol::{Digest, File, LinkTarget, Mtime, RelPath, Version};
use raspbox_store::{By, Options, Store, StoreError};
use std::io::Write;
use std::path::Path;

const AT: &str = "/simulated";

/// 2026-01-31 12:00 in UTC.
const NOON: Mtime = Mtime(1_769_860_800_000_000_000);

/// One thing that an FTP program asks for.
type Ask = fn(&Store) -> Result<Version, StoreError>;

fn path(text: &str) -> RelPath {
    RelPath::parse(text).expect("a good path")
}

fn by() -> By {
    By("ann".into())
}

fn put(store: &Store, at: &str, content: &str) -> Result<Version, StoreError> {
    let mut staged = store.stage()?;
    let written = staged.write_all(content.as_bytes());
    written.map_err(|error| StoreError::Io {
        path: at.into(),
        source: error,
    })?;
    store.put(staged, &path(at), &by())
}

/// A store with the files "a" and "b", and the empty folder "d".
fn open(disk: &Disk) -> Store {
    disk.mount(Path::new(AT));
    let store = Store::open(Path::new(AT), Options { floor_bytes: 0 }).expect("opens");
    put(&store, "a", "one").expect("put");
    put(&store, "b", "two").expect("put");
    store.make_folder(&path("d"), &by()).expect("made");
    store
}

#[test]
fn a_drive_in_trouble_is_told_as_that() {
    let asks: [(&str, Ask); 9] = [
        ("put", |store| put(store, "new", "three")),
        ("replace", |store| put(store, "a", "three")),
        ("make", |store| store.make_folder(&path("e"), &by())),
        ("remove", |store| store.delete_folder(&path("d"), &by())),
        ("delete", |store| store.delete_file(&path("a"), &by())),
        ("move", |store| {
            store.rename(&path("a"), &path("d/a"), &by())
        }),
        ("move over", |store| {
            store.rename(&path("a"), &path("b"), &by())
        }),
        ("move a folder", |store| {
            store.rename(&path("d"), &path("e"), &by())
        }),
        ("set a time", |store| {
            store
                .set_mtime(&path("a"), Mtime(1), &by())
                .map(|()| Version(0))
        }),
    ];
    for traits in [Traits::ext4(), Traits::fat()] {
        for fault in [Fault::Io, Fault::NoSpace, Fault::Denied] {
            for (what, ask) in asks {
                for step in 0.. {
                    let computer = Computer::new(NOON, 1);
                    let _entered = enter(&computer);
                    let disk = Disk::new(traits);
                    let store = open(&disk);
                    disk.fail(disk.steps() + step, fault);
                    let done = ask(&store);
                    let over = !disk.forgive().is_empty();
                    let good = match &done {
                        Ok(_) => true,
                        Err(StoreError::NoSpace) => matches!(fault, Fault::NoSpace),
                        // What could not be made durable is trouble of the drive, whatever the reason.
                        Err(StoreError::NotNow(_) | StoreError::Io { .. }) => true,
                        Err(StoreError::Journal(_)) => !matches!(fault, Fault::NoSpace),
                        Err(_) => false,
                    };
                    assert!(good, "{what}, {fault:?} at step {step}: {done:?}");
                    if over {
                        break;
                    }
                }
            }
        }
    }
}

fn file(content: &str) -> File {
    File {
        digest: Digest::of(content.as_bytes()),
        size: content.len() as u64,
        mtime: NOON,
        executable: false,
    }
}

fn commit(store: &Store, n: u8, frames: &[CommitFrame]) -> Outcome {
    let id = RequestId([n; 16]);
    let frames = to_bytes(&[frames, &[CommitFrame::End { ops: 1 }]].concat());
    store
        .commit(id, &by(), &|_| true, &mut &frames[..])
        .expect("a commit");
    let outcomes = store.outcome(id).expect("an answer").expect("known");
    let [outcome] = &outcomes[..] else {
        panic!("one outcome: {outcomes:?}");
    };
    outcome.clone()
}

#[test]
fn a_name_that_is_taken_in_another_case_is_told_as_that() {
    for traits in [Traits::fat(), Traits::apfs()] {
        for taken in ["A", "D"] {
            let computer = Computer::new(NOON, 1);
            let _entered = enter(&computer);
            let disk = Disk::new(traits);
            let store = open(&disk);
            let at = path(taken);
            let is_said = |done: Result<Version, StoreError>| {
                let said = matches!(&done, Err(StoreError::CannotHold { path, .. }) if *path == at);
                assert!(said, "{taken}: {done:?}");
            };
            is_said(put(&store, taken, "three"));
            is_said(store.make_folder(&at, &by()));
            is_said(store.rename(&path("b"), &at, &by()));
            if taken == "D" {
                is_said(put(&store, "D/new", "three"));
            }
            let op = |op| vec![CommitFrame::Op(op)];
            let mut put = op(Op::Put {
                path: at.clone(),
                expect: Expect::Absent,
                file: file("three"),
            });
            put.push(CommitFrame::Data(b"three".to_vec()));
            let make = op(Op::MakeFolder { path: at.clone() });
            for (n, frames) in (0..).zip([put, make]) {
                let outcome = commit(&store, n, &frames);
                let said = matches!(outcome, Outcome::Refused(Refusal::Name(_)));
                assert!(said, "{taken}: {outcome:?}");
            }
        }
    }
}

/// The name is not the one that Linux would give it, or refuse.
#[test]
fn what_the_drive_can_not_hold_is_refused_before_it_is_touched() {
    let computer = Computer::new(NOON, 1);
    let _entered = enter(&computer);
    let disk = Disk::new(Traits::fat());
    let store = open(&disk);
    let at = path("what: this?");
    let before = disk.user().tree("").len();
    let link = Op::Symlink {
        path: path("l"),
        expect: Expect::Absent,
        target: LinkTarget::parse("a").expect("a good target"),
    };
    let outcome = commit(&store, 1, &[CommitFrame::Op(link)]);
    assert!(matches!(outcome, Outcome::Refused(Refusal::Name(_))));
    for done in [
        put(&store, at.as_str(), "three"),
        store.make_folder(&at, &by()),
        store.rename(&path("a"), &at, &by()),
    ] {
        let said = matches!(&done, Err(StoreError::CannotHold { path, .. }) if *path == at);
        assert!(said, "{done:?}");
    }
    assert_eq!(disk.user().tree("").len(), before, "nothing is left over");
}

//! Disks that fail: what could not be written, or read.

use super::{AT, Change, Files, NOON, commit, file, files, open, path, put_one};
use raspbox_beneath::Top;
use raspbox_beneath::sim::{Computer, Disk, Fault, Node, Traits, Unsynced, enter};
use raspbox_protocol::commit::{CommitFrame, Expect, Op};
use raspbox_protocol::special::{CommitSummary, RequestId};
use raspbox_protocol::wire::to_bytes;
use raspbox_store::{By, Faults, StoreError};
use std::io::{self, Read, Write};
use std::path::Path;

/// Comes in two pieces, between which something happens.
struct Interrupted<'a> {
    before: &'a [u8],
    happens: Option<Box<dyn FnOnce() + 'a>>,
    after: &'a [u8],
}

impl Read for Interrupted<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.before.read(buffer)? {
            0 => {
                self.happens.take().into_iter().for_each(|act| act());
                self.after.read(buffer)
            }
            count => Ok(count),
        }
    }
}

fn puts(names: &str, count: u32) -> Vec<CommitFrame> {
    let put = |n| {
        let content = format!("{names} {n}");
        let op = Op::Put {
            path: path(&format!("{names}{n}")),
            expect: Expect::Absent,
            file: file(&content),
        };
        [CommitFrame::Op(op), CommitFrame::Data(content.into_bytes())]
    };
    (0..count).flat_map(put).collect()
}

/// The kernel fails to write out what one session has staged, and another's sync is told of it.
#[test]
fn a_write_that_failed_is_told_to_whoever_wrote_it_whoever_heard_of_it_first() {
    for traits in [Traits::ext4(), Traits::fat()] {
        for count in [1, 8, 9, 20] {
            let computer = Computer::new(NOON, 1);
            let _entered = enter(&computer);
            let disk = Disk::new(traits);
            disk.mount(Path::new(AT));
            let store = open(&Faults::default()).expect("opens");
            let by = By("ann".into());
            let commit = |id, input: &mut dyn Read| {
                let done = store.commit(RequestId([id; 16]), &by, &|_| true, input);
                done.map(|summary| assert!(matches!(summary, CommitSummary::All { .. })))
            };
            let end = |ops| to_bytes(&[CommitFrame::End { ops }]);
            let another = [to_bytes(&puts("another", 9)), end(9)].concat();
            let heard = || {
                disk.lose_writes();
                let told = (2..4).filter(|&id| commit(id, &mut &another[..]).is_err());
                assert_eq!(told.count(), 1, "a failed write is told to each once");
            };
            let told = {
                let mut input = Interrupted {
                    before: &to_bytes(&puts("ours", count)),
                    happens: Some(Box::new(heard)),
                    after: &end(count),
                };
                commit(1, &mut input)
            };
            assert!(matches!(told, Err(StoreError::NotNow(_))), "{told:?}");
            drop(store);
            disk.crash(Unsynced::Dropped);
            drop(open(&Faults::default()).expect("opens"));
            let left = files(&disk);
            let ours = left.keys().filter(|name| name.starts_with("ours"));
            assert_eq!(ours.count(), 0, "what was not acknowledged has no name");
            assert_eq!(left.len(), 9);
        }
    }
}

/// A drive in trouble fails the whole commit, to be sent again: a part of it that was refused would be
/// taken for decided.
#[test]
fn a_commit_on_a_drive_in_trouble_is_done_or_is_not() {
    for step in 0.. {
        let computer = Computer::new(NOON, 1);
        let _entered = enter(&computer);
        let disk = Disk::new(Traits::ext4());
        disk.mount(Path::new(AT));
        let store = open(&Faults::default()).expect("opens");
        let by = By("ann".into());
        store.make_folder(&path("d"), &by).expect("made");
        let mut frames = puts("one", 2);
        frames.push(CommitFrame::Op(Op::MakeFolder { path: path("d/e") }));
        frames.push(CommitFrame::End { ops: 3 });
        disk.fail(disk.steps() + step, Fault::Io);
        let id = RequestId([1; 16]);
        let done = store.commit(id, &by, &|_| true, &mut &to_bytes(&frames)[..]);
        let over = !disk.forgive().is_empty();
        match done {
            Ok(CommitSummary::All { .. }) => {}
            Ok(mixed @ CommitSummary::Mixed { .. }) => panic!("step {step}: {mixed:?}"),
            // SQLite takes a page that can't be read for a broken one.
            Err(StoreError::NotNow(_) | StoreError::Journal(_)) => {}
            Err(error) => panic!("step {step}: {error}"),
        }
        if over {
            break;
        }
    }
}

/// To SQLite a page that can't be read is a broken one; but most such errors don't come twice, and the
/// journal is not given up for one.
#[test]
fn a_disk_error_while_it_is_opened_makes_no_new_journal() {
    for step in 0.. {
        let computer = Computer::new(NOON, 1);
        let _entered = enter(&computer);
        let disk = Disk::new(Traits::ext4());
        disk.mount(Path::new(AT));
        let store = open(&Faults::default()).expect("opens");
        Change::Put("a", "one").make(&store).expect("put");
        let known = store.cursor();
        drop(store);
        disk.fail(disk.steps() + step, Fault::Io);
        drop(open(&Faults::default()));
        let over = !disk.forgive().is_empty();
        let store = open(&Faults::default()).expect("opens");
        assert!(store.knows(known).expect("an answer"), "step {step}");
        if over {
            break;
        }
    }
}

/// Somebody copied a file onto the drive, the kernel could not write it out, and whoever sends the same
/// is told so. The kernel takes it for written from then on; we don't.
#[test]
fn after_a_write_that_failed_nothing_is_changed_until_the_next_mount() {
    for traits in [Traits::ext4(), Traits::fat()] {
        let computer = Computer::new(NOON, 1);
        let _entered = enter(&computer);
        let disk = Disk::new(traits);
        disk.mount(Path::new(AT));
        let store = open(&Faults::default()).expect("opens");
        let by = By("ann".into());
        Change::Put("before", "mine").make(&store).expect("put");
        let top = Top::open(Path::new(AT)).and_then(|top| top.folder(None));
        let made = top.and_then(|top| top.create_file("a", 0o644));
        made.expect("made").write_all(b"one").expect("written");
        disk.lose_writes();
        assert_eq!(store.unwritten(), None);
        for _ in 0..3 {
            let told = commit(&store, "one", &put_one(false));
            assert!(matches!(told, Err(StoreError::NotNow(_))), "{told:?}");
        }
        let why = store.unwritten().expect("it is known").to_owned();
        assert!(why.contains("unplugged"), "{why}");
        for refused in [
            store.stage().map(drop),
            store.delete_file(&path("before"), &by).map(drop),
            store.make_folder(&path("d"), &by).map(drop),
        ] {
            assert!(matches!(refused, Err(StoreError::NotNow(said)) if said == why));
        }
        // It is read as before.
        assert!(store.stat(Some(&path("before"))).is_ok());
        drop(store);
        disk.crash(Unsynced::Dropped);
        let store = open(&Faults::default()).expect("opens");
        assert_ne!(files(&disk).get("a").map(String::as_str), Some("one"));
        assert_eq!(store.unwritten(), None);
        let mut staged = store.stage().expect("staged");
        staged.write_all(b"one").expect("written");
        store.put(staged, &path("a"), &by).expect("put");
        drop(store);
        disk.crash(Unsynced::Dropped);
        drop(open(&Faults::default()).expect("opens"));
        let both = [("a", "one"), ("before", "mine")];
        let both = both.map(|(name, content)| (name.to_owned(), content.to_owned()));
        assert_eq!(files(&disk), Files::from(both));
    }
}

/// The same where it is a name that could not be made durable.
#[test]
fn after_a_name_that_could_not_be_written_nothing_is_changed_until_the_next_mount() {
    for traits in [Traits::ext4(), Traits::fat()] {
        let mut told = 0;
        for step in 0.. {
            let computer = Computer::new(NOON, 1);
            let _entered = enter(&computer);
            let disk = Disk::new(traits);
            disk.mount(Path::new(AT));
            let store = open(&Faults::default()).expect("opens");
            Change::Put("a", "one").make(&store).expect("put");
            disk.fail(disk.steps() + step, Fault::Io);
            let done = Change::Put("a", "two").make(&store).is_ok();
            let over = !disk.forgive().is_empty();
            assert!(!(done && store.unwritten().is_some()), "step {step}");
            if store.unwritten().is_some() {
                told += 1;
                let again = Change::Put("b", "three").make(&store);
                assert!(matches!(again, Err(StoreError::NotNow(_))), "step {step}");
                drop(store);
                disk.crash(Unsynced::Dropped);
            } else {
                drop(store);
            }
            let store = open(&Faults::default()).expect("opens");
            Change::Put("a", "two").make(&store).expect("put");
            drop(store);
            disk.crash(Unsynced::Dropped);
            drop(open(&Faults::default()).expect("opens"));
            assert_eq!(files(&disk), Files::from([("a".into(), "two".into())]));
            if over {
                break;
            }
        }
        assert!(told > 0);
    }
}

/// Where the disk fails to set the executable bit, nobody is told that it is set.
#[test]
fn what_could_not_be_made_executable_is_not_said_to_be() {
    for step in 0.. {
        let computer = Computer::new(NOON, 1);
        let _entered = enter(&computer);
        let disk = Disk::new(Traits::ext4());
        disk.mount(Path::new(AT));
        let store = open(&Faults::default()).expect("opens");
        disk.fail(disk.steps() + step, Fault::Io);
        let done = commit(&store, "one", &put_one(true));
        let over = !disk.forgive().is_empty();
        if done.is_ok() {
            let tree = disk.user().tree("");
            let runs = matches!(tree["a"], Node::File { executable, .. } if executable);
            assert!(runs, "step {step}");
        }
        if over {
            assert!(done.is_ok());
            break;
        }
    }
}

//! Disks that fail: what could not be written, or read.

use super::{
    AT, Change, Files, NOON, commit, file, files, files_below, mounted, open, path, put_one,
};
use raspbox_beneath::Top;
use raspbox_beneath::sim::{Computer, Disk, Fault, Node, Traits, Unsynced, enter};
use raspbox_protocol::commit::{CommitFrame, Expect, Op};
use raspbox_protocol::feed::FeedFrame;
use raspbox_protocol::special::{CommitSummary, RequestId};
use raspbox_protocol::wire::to_bytes;
use raspbox_protocol::{Cursor, Digest};
use raspbox_store::{By, Faults, OpenError, Options, Store, StoreError, note_repair};
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
            let (_entered, disk) = mounted(traits);
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
        let (_entered, disk) = mounted(Traits::ext4());
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
        let (_entered, disk) = mounted(Traits::ext4());
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

/// Where what opening has changed may not be on the disk, only another mount shows what is; after any other error it
/// can be tried again.
#[test]
fn what_may_not_be_on_the_disk_is_told_from_what_can_not_be_opened_now() {
    let unwritten = |fault| {
        let mut found = Vec::new();
        for step in 0.. {
            let (_entered, disk) = mounted(Traits::ext4());
            let store = open(&Faults::default()).expect("opens");
            Change::Put("a", "one").make(&store).expect("put");
            drop(store);
            disk.fail(disk.steps() + step, fault);
            let opened = Store::open(Path::new(AT), Options { floor_bytes: 0 });
            if !disk.forgive().is_empty() {
                return found;
            }
            if let Err(error) = opened {
                found.push(matches!(error, OpenError::Unwritten { .. }));
            }
        }
        unreachable!("it ends")
    };
    let lost = unwritten(Fault::Io);
    assert!(lost.contains(&true) && lost.contains(&false), "{lost:?}");
    let crowded = unwritten(Fault::TooManyFiles);
    assert!(!crowded.is_empty() && !crowded.contains(&true));
}

/// Too many files are open, from some moment on. That says nothing of the journal, however often it is tried.
#[test]
fn a_journal_that_can_not_be_opened_now_is_not_taken_for_broken() {
    const LONG: u64 = 100;
    for step in 0.. {
        let (_entered, disk) = mounted(Traits::ext4());
        let store = open(&Faults::default()).expect("opens");
        Change::Put("a", "one").make(&store).expect("put");
        let known = store.cursor();
        drop(store);
        let begin = disk.steps() + step;
        (begin..begin + LONG).for_each(|step| disk.fail(step, Fault::TooManyFiles));
        drop(open(&Faults::default()));
        let over = disk.forgive().len() as u64 == LONG;
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
        let (_entered, disk) = mounted(traits);
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
            let (_entered, disk) = mounted(traits);
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
        let (_entered, disk) = mounted(Traits::ext4());
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

/// What the journal says that has changed after a position.
fn changes(store: &Store, since: Cursor) -> Vec<FeedFrame> {
    let mut changes = Vec::new();
    let fed = store.feed(Some(since), &mut |frame| {
        match frame {
            FeedFrame::Head { .. } | FeedFrame::Mark(_) => {}
            frame => changes.push(frame),
        }
        Ok(())
    });
    fed.expect("it is known");
    changes
}

/// A folder that can't be opened just now is no empty one, and a file no deleted one.
#[test]
fn an_error_while_it_is_opened_takes_nothing_for_gone() {
    for traits in [Traits::ext4(), Traits::fat()] {
        for fault in [Fault::Io, Fault::Denied, Fault::TooManyFiles] {
            for step in 0.. {
                let (_entered, disk) = mounted(traits);
                let store = open(&Faults::default()).expect("opens");
                for folder in ["d", "d/e"] {
                    let made = store.make_folder(&path(folder), &By("ann".into()));
                    made.expect("made");
                }
                for at in ["a", "d/b", "d/e/c", "f"] {
                    Change::Put(at, "mine").make(&store).expect("put");
                }
                let known = store.cursor();
                drop(store);
                disk.fail(disk.steps() + step, fault);
                drop(open(&Faults::default()));
                let over = !disk.forgive().is_empty();
                let store = open(&Faults::default()).expect("opens");
                assert_eq!(changes(&store, known), [], "{fault:?} at step {step}");
                if over {
                    break;
                }
            }
        }
    }
}

/// A disk on which "a" is "one" and "b" is "three", whose power is cut at this step of a change. Returns whether
/// that came to its end before.
fn cut_in(disk: &Disk, change: &Change, step: u64) -> bool {
    disk.mount(Path::new(AT));
    let store = open(&Faults::default()).expect("opens");
    let made = store.make_folder(&path("d"), &By("ann".into()));
    made.expect("made");
    Change::Put("a", "one").make(&store).expect("put");
    Change::Put("b", "three").make(&store).expect("put");
    disk.fail(disk.steps() + step, Fault::Die);
    let done = change.make(&store).is_ok();
    let whole = !disk.is_dead();
    assert!(done || !whole);
    drop(store);
    disk.crash(Unsynced::Kept);
    disk.forgive();
    whole
}

/// Opens it with an error at this step, and then without; the drive was unplugged in between. Returns whether that
/// is beyond its last step.
fn open_in_trouble(disk: &Disk, step: u64) -> bool {
    disk.fail(disk.steps() + step, Fault::Io);
    drop(open(&Faults::default()));
    let over = !disk.forgive().is_empty();
    disk.crash(Unsynced::Kept);
    drop(open(&Faults::default()).expect("opens"));
    over
}

/// Root notes that the filesystem was repaired, and the stick fails once.
#[test]
fn a_repair_is_noted_or_it_is_said_that_it_is_not() {
    for step in 0.. {
        let (_entered, disk) = mounted(Traits::ext4());
        drop(open(&Faults::default()).expect("opens"));
        disk.fail(disk.steps() + step, Fault::Io);
        let noted = note_repair(Path::new(AT));
        let over = !disk.forgive().is_empty();
        let is_there = disk.user().exists(".raspbox/repaired");
        assert!(noted.is_err() || is_there, "step {step}");
        if over {
            assert!(step > 1 && noted.is_ok());
            break;
        }
    }
}

/// The power was cut, and at the next start the stick fails once. What can't be looked at is not taken for absent,
/// nor what can't be given its name for something that has one.
#[test]
fn an_error_while_it_recovers_loses_nothing() {
    let changes = [
        Change::Put("a", "two"),
        Change::Put("d/n", "new"),
        Change::Move("b", "a"),
        Change::Delete("a"),
    ];
    for traits in [Traits::ext4(), Traits::fat()] {
        for change in &changes {
            for cut in different_cuts(traits, change) {
                for step in 0.. {
                    let _entered = enter(&Computer::new(NOON, 1));
                    let disk = Disk::new(traits);
                    let whole = cut_in(&disk, change, cut);
                    let over = open_in_trouble(&disk, step);
                    let before = [("a", "one"), ("b", "three")];
                    let before = before.map(|(at, content)| (at.to_owned(), content.to_owned()));
                    let before = Files::from(before);
                    let mut after = before.clone();
                    let displaced = change.on(&mut after);
                    let found = files_below(&disk);
                    assert!(
                        (!whole && found == before) || found == after,
                        "cut at {cut}, step {step}: {found:?}"
                    );
                    if let (Some(content), true) = (displaced, found == after) {
                        let kept = kept_at(&content);
                        assert!(disk.user().exists(&kept), "cut at {cut}, step {step}");
                    }
                    if over {
                        break;
                    }
                }
            }
        }
    }
}

/// The last of the steps of a change between which the disk is the same, but for the journal.
fn different_cuts(traits: Traits, change: &Change) -> Vec<u64> {
    let mut cuts: Vec<u64> = Vec::new();
    let mut last = None;
    for cut in 0.. {
        let _entered = enter(&Computer::new(NOON, 1));
        let disk = Disk::new(traits);
        let whole = cut_in(&disk, change, cut);
        let names = disk
            .user()
            .tree("")
            .into_iter()
            .map(|(at, node)| match node {
                Node::File { content, .. } if !at.contains("journal") => (at, content),
                Node::File { .. } | Node::Folder | Node::Symlink(_) => (at, Vec::new()),
            });
        let now: Vec<_> = names.collect();
        if last.replace(now.clone()) == Some(now) {
            cuts.pop();
        }
        cuts.push(cut);
        if whole {
            return cuts;
        }
    }
    unreachable!("a change ends")
}

/// Where a version with this content is.
fn kept_at(content: &str) -> String {
    let digest = Digest::of(content.as_bytes()).to_string();
    format!(".raspbox/versions/{}/{digest}", &digest[..2])
}

/// The same where the name had come without its content, on FAT: it is removed all the same, and what stood there
/// is put back though it was a version already.
#[test]
fn an_error_while_it_recovers_leaves_no_name_without_its_content() {
    for (at, content, is_cut_off) in [
        (
            "a",
            "two",
            (|disk| disk.user().exists(&kept_at("one"))) as fn(&Disk) -> bool,
        ),
        ("d/n", "new", |_| true),
    ] {
        let change = Change::Put(at, content);
        let there = |disk: &Disk| {
            disk.user()
                .read(at)
                .is_ok_and(|found| found == content.as_bytes())
        };
        // The first step at which it stands there.
        let cut = (0..).find(|cut| {
            let _entered = enter(&Computer::new(NOON, 1));
            let disk = Disk::new(Traits::fat());
            assert!(!cut_in(&disk, &change, *cut), "it is before the end");
            there(&disk) && is_cut_off(&disk)
        });
        for step in 0.. {
            let _entered = enter(&Computer::new(NOON, 1));
            let disk = Disk::new(Traits::fat());
            cut_in(&disk, &change, cut.expect("it comes to stand there"));
            disk.user().write(at, b"").expect("cut off");
            let over = open_in_trouble(&disk, step);
            let before = [("a", "one"), ("b", "three")];
            let before = before.map(|(at, content)| (at.to_owned(), content.to_owned()));
            assert_eq!(files_below(&disk), Files::from(before), "{at}, step {step}");
            if over {
                break;
            }
        }
    }
}

/// A block of the stick has gone bad: whoever brings what was there has it back, and only an error that says so is
/// taken for that.
#[test]
fn what_can_not_be_read_is_mended_by_whoever_brings_it() {
    for traits in [Traits::ext4(), Traits::fat()] {
        let (_entered, disk) = mounted(traits);
        let store = open(&Faults::default()).expect("opens");
        Change::Put("a", "one").make(&store).expect("put");
        disk.user().spoil("a").expect("spoilt");
        commit(&store, "again", &put_one(false)).expect("done");
        assert_eq!(store.damages().expect("a list"), []);
        let top = Top::open(Path::new(AT)).and_then(|top| top.folder(None));
        let mut read = String::new();
        let file = top.and_then(|top| top.open_file("a"));
        let file = file.and_then(|mut file| file.read_to_string(&mut read));
        file.expect("it can be read");
        assert_eq!(read, "one");
        // Nobody knows what it was, and it is there still.
        let aside = disk.user().tree(".raspbox/versions/unreadable");
        assert_eq!(aside.len(), 1, "{aside:?}");
    }
    for step in 0.. {
        let (_entered, disk) = mounted(Traits::ext4());
        let store = open(&Faults::default()).expect("opens");
        Change::Put("a", "one").make(&store).expect("put");
        disk.fail(disk.steps() + step, Fault::TooManyFiles);
        let done = commit(&store, "again", &put_one(false));
        let over = !disk.forgive().is_empty();
        assert_eq!(store.damages().expect("a list"), [], "step {step}");
        if over {
            done.expect("done");
            break;
        }
    }
}

/// A version that can't be read is none: what is displaced with the same content takes its place, no computer gives up
/// its copy for it, and it is not restored.
#[test]
fn a_version_that_can_not_be_read_is_none() {
    let (_entered, disk) = mounted(Traits::ext4());
    let store = open(&Faults::default()).expect("opens");
    Change::Put("a", "one").make(&store).expect("put");
    Change::Delete("a").make(&store).expect("gone");
    let kept = kept_at("one");
    disk.user().spoil(&kept).expect("spoilt");
    let held = |store: &Store| {
        let held = store.holds(&[Digest::of(b"one")]).expect("an answer");
        held.0
    };
    assert!(
        Change::Restore("b", "one").make(&store).is_err(),
        "it can't be had"
    );
    assert_eq!(held(&store), [false]);
    Change::Put("a", "one").make(&store).expect("put");
    Change::Delete("a").make(&store).expect("gone");
    assert_eq!(held(&store), [true]);
    Change::Put("b", "one").make(&store).expect("put");
    // The same where nobody had asked before: it is read when it is asked for.
    let store = {
        drop(store);
        disk.user().spoil(&kept).expect("spoilt");
        open(&Faults::default()).expect("opens")
    };
    assert_eq!(held(&store), [false]);
    assert_eq!(store.count_damages().expect("a count"), (0, 1));
}

#[test]
fn where_a_version_can_not_be_read_a_file_of_the_same_content_will_do() {
    let (_entered, disk) = mounted(Traits::ext4());
    let store = open(&Faults::default()).expect("opens");
    Change::Put("a", "one").make(&store).expect("put");
    Change::Delete("a").make(&store).expect("gone");
    Change::Put("b", "one").make(&store).expect("put");
    disk.user().spoil(&kept_at("one")).expect("spoilt");
    let restored = Change::Restore("c", "one").make(&store);
    restored.expect("from the other file");
    assert_eq!(files(&disk).get("c").map(String::as_str), Some("one"));
    assert_eq!(store.count_damages().expect("a count"), (0, 1));
}

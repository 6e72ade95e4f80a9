//! A store on a simulated disk: the power is cut at every step of everything that it does.

use raspbox_beneath::Top;
use raspbox_beneath::sim::{Computer, Disk, Fault, Node, Traits, Unsynced, enter};
use raspbox_protocol::commit::{CommitFrame, Expect, Op};
use raspbox_protocol::feed::FeedFrame;
use raspbox_protocol::special::{CommitSummary, RequestId};
use raspbox_protocol::wire::to_bytes;
use raspbox_protocol::{Digest, File, Mtime, RelPath, Version};
use raspbox_store::{By, Faults, Options, Store, StoreError};
use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::path::Path;

const AT: &str = "/simulated";

/// 2026-01-31 12:00 in UTC.
const NOON: Mtime = Mtime(1_769_860_800_000_000_000);

/// What users' files are.
type Files = BTreeMap<String, String>;

enum Change {
    Put(&'static str, &'static str),
    Delete(&'static str),
    Move(&'static str, &'static str),
    /// A content that was displaced comes back there.
    Restore(&'static str, &'static str),
    /// Somebody brings a content that once stood there.
    Keep(&'static str, &'static str),
}

const CHANGES: [Change; 10] = [
    Change::Put("a", "one"),
    Change::Put("a", "two"),
    Change::Put("b", "three"),
    Change::Move("a", "c"),
    Change::Move("c", "b"),
    Change::Delete("b"),
    Change::Restore("b", "three"),
    Change::Restore("c", "one"),
    Change::Keep("b", "four"),
    Change::Keep("d", "five"),
];

fn open(faults: &Faults) -> Option<Store> {
    Store::open_with(Path::new(AT), Options { floor_bytes: 0 }, faults.clone()).ok()
}

fn path(text: &str) -> RelPath {
    RelPath::parse(text).expect("a good path")
}

fn file(content: &str) -> File {
    File {
        digest: Digest::of(content.as_bytes()),
        size: content.len() as u64,
        mtime: NOON,
        executable: false,
    }
}

/// A commit of the new file "a".
fn put_one(executable: bool) -> [CommitFrame; 2] {
    let op = Op::Put {
        path: path("a"),
        expect: Expect::Absent,
        file: File {
            executable,
            ..file("one")
        },
    };
    [CommitFrame::Op(op), CommitFrame::Data(b"one".to_vec())]
}

/// Commits one operation, under an id made of its content.
fn commit(store: &Store, content: &str, op: &[CommitFrame]) -> Result<(), StoreError> {
    let frames = to_bytes(&[op, &[CommitFrame::End { ops: 1 }]].concat());
    let id = RequestId(
        *Digest::of(content.as_bytes())
            .as_bytes()
            .first_chunk()
            .expect("32"),
    );
    match store.commit(id, &By("ann".into()), &|_| true, &mut &frames[..])? {
        CommitSummary::All { .. } => Ok(()),
        CommitSummary::Mixed { .. } => Err(StoreError::NotNow("refused".into())),
    }
}

impl Change {
    fn make(&self, store: &Store) -> Result<(), StoreError> {
        let by = By("ann".into());
        match self {
            Change::Put(at, content) => {
                let mut staged = store.stage()?;
                let wrote = staged.write_all(content.as_bytes());
                wrote.map_err(|error| StoreError::NotNow(error.to_string()))?;
                store.put(staged, &path(at), &by)?;
            }
            Change::Delete(at) => drop(store.delete_file(&path(at), &by)?),
            Change::Move(from, to) => drop(store.rename(&path(from), &path(to), &by)?),
            Change::Restore(at, content) => {
                let op = Op::Restore {
                    path: path(at),
                    expect: Expect::Absent,
                    file: file(content),
                };
                commit(store, content, &[CommitFrame::Op(op)])?;
            }
            Change::Keep(at, content) => {
                let op = Op::Keep {
                    path: path(at),
                    file: file(content),
                };
                let data = CommitFrame::Data(content.as_bytes().to_vec());
                commit(store, content, &[CommitFrame::Op(op), data])?;
            }
        }
        Ok(())
    }

    /// What becomes of the files, and the content that is displaced.
    fn on(&self, files: &mut Files) -> Option<String> {
        match self {
            Change::Put(at, content) | Change::Restore(at, content) => {
                files.insert((*at).into(), (*content).into())
            }
            Change::Delete(at) => files.remove(*at),
            Change::Keep(_, content) => Some((*content).into()),
            Change::Move(from, to) => {
                let moved = files.remove(*from).expect("it is there");
                files.insert((*to).into(), moved)
            }
        }
    }
}

fn files(disk: &Disk) -> Files {
    let tree = disk.user().tree("").into_iter();
    let users = tree.filter(|(path, _)| !path.starts_with(".raspbox"));
    users
        .map(|(path, node)| match node {
            Node::File { content, .. } => (path, String::from_utf8(content).expect("text")),
            other => panic!("{path} is {other:?}"),
        })
        .collect()
}

/// The same where there are folders.
fn files_below(disk: &Disk) -> Files {
    let tree = disk.user().tree("").into_iter();
    let users = tree.filter(|(path, _)| !path.starts_with(".raspbox"));
    let files = users.filter_map(|(path, node)| match node {
        Node::File { content, .. } => Some((path, String::from_utf8(content).expect("text"))),
        Node::Folder | Node::Symlink(_) => None,
    });
    files.collect()
}

/// Makes the changes until one fails. Returns how many were acknowledged.
fn work(faults: &Faults) -> usize {
    let Some(store) = open(faults) else { return 0 };
    let acknowledged = |change: &&Change| change.make(&store).is_ok();
    CHANGES.iter().take_while(acknowledged).count()
}

/// Cuts the power at each step, and once more at a step of the recovery.
fn check(traits: Traits, unsynced: impl Fn(u64) -> Unsynced) {
    check_with(&Faults::default(), traits, unsynced);
}

fn check_with(faults: &Faults, traits: Traits, unsynced: impl Fn(u64) -> Unsynced) {
    let computer = Computer::new(NOON, 1);
    let _entered = enter(&computer);
    let whole = Disk::new(traits);
    whole.mount(Path::new(AT));
    assert_eq!(work(faults), CHANGES.len());
    assert!(whole.steps() > 200, "{}", whole.steps());
    for step in 0..whole.steps() {
        let disk = Disk::new(traits);
        disk.mount(Path::new(AT));
        disk.fail(step, Fault::Die);
        let acknowledged = work(faults);
        disk.crash(unsynced(step));
        disk.fail(disk.steps() + step % 97, Fault::Die);
        drop(open(faults));
        disk.forgive();
        disk.crash(unsynced(step + 1));

        let store = open(faults).expect("opens after a crash");
        let mut expected = Files::new();
        let mut displaced = Vec::new();
        for change in &CHANGES[..acknowledged] {
            displaced.extend(change.on(&mut expected));
        }
        let mut next = expected.clone();
        if let Some(change) = CHANGES.get(acknowledged) {
            change.on(&mut next);
        }
        let found = files(&disk);
        let kept = |content: &str| {
            let digest = Digest::of(content.as_bytes()).to_string();
            let at = format!(".raspbox/versions/{}/{digest}", &digest[..2]);
            let there = disk
                .user()
                .read(&at)
                .is_ok_and(|found| found == content.as_bytes());
            // Without room for a copy, what is restored is where its version was.
            there || (faults.no_copies && found.values().any(|found| found == content))
        };
        for content in displaced {
            assert!(kept(&content), "step {step}: {content:?} was displaced");
        }
        let whole = found == expected || found == next;
        // Without a journal a later rename may be durable and an earlier one not, so a name may be
        // gone whose content was displaced already. Then it is a version.
        let all_there = || {
            let mut expected = expected.values();
            expected.all(|content| found.values().any(|found| found == content) || kept(content))
        };
        assert!(
            whole || (!traits.exchange && all_there()),
            "step {step}: {found:?}, neither {expected:?} nor {next:?}"
        );
        drop(store);
    }
}

#[test]
fn nothing_that_was_acknowledged_is_lost_with_what_was_not_synced() {
    check(Traits::ext4(), |_| Unsynced::Dropped);
}

#[test]
fn nor_where_the_program_alone_dies() {
    check(Traits::ext4(), |_| Unsynced::Kept);
}

#[test]
fn nor_where_chance_decides() {
    for seed in 0..10 {
        check(Traits::ext4(), |step| {
            Unsynced::Random(seed * 10_000 + step)
        });
    }
}

#[test]
fn nor_on_a_stick_as_it_is_bought() {
    check(Traits::fat(), |_| Unsynced::Dropped);
    for seed in 0..10 {
        check(Traits::fat(), |step| Unsynced::Random(seed * 10_000 + step));
    }
}

#[test]
fn nor_where_a_version_is_restored_without_room_for_a_copy() {
    let tight = Faults {
        no_copies: true,
        ..Faults::default()
    };
    for traits in [Traits::ext4(), Traits::fat()] {
        check_with(&tight, traits, |_| Unsynced::Dropped);
        check_with(&tight, traits, |_| Unsynced::Kept);
        for seed in 0..3 {
            check_with(&tight, traits, |step| {
                Unsynced::Random(seed * 10_000 + step)
            });
        }
    }
}

/// Somebody copies files onto the drive, and a client sends the same before they are durable.
#[test]
fn what_is_found_done_is_durable_before_it_is_acknowledged() {
    for traits in [Traits::ext4(), Traits::fat()] {
        for count in [1, 8, 9, 20] {
            let computer = Computer::new(NOON, 1);
            let _entered = enter(&computer);
            let disk = Disk::new(traits);
            disk.mount(Path::new(AT));
            let store = open(&Faults::default()).expect("opens");
            let top = Top::open(Path::new(AT)).and_then(|top| top.folder(None));
            let top = top.expect("the top");
            let mut frames = Vec::new();
            for n in 0..count {
                let (name, content) = (format!("f{n}"), format!("content {n}"));
                let mut file = top.create_file(&name, 0o644).expect("made");
                file.write_all(content.as_bytes()).expect("written");
                frames.push(CommitFrame::Op(Op::Put {
                    path: path(&name),
                    expect: Expect::Absent,
                    file: File {
                        digest: Digest::of(content.as_bytes()),
                        size: content.len() as u64,
                        mtime: NOON,
                        executable: false,
                    },
                }));
                frames.push(CommitFrame::Data(content.into_bytes()));
            }
            frames.push(CommitFrame::End { ops: count });
            let frames = to_bytes(&frames);
            let (id, by) = (RequestId([1; 16]), By("ann".into()));
            let summary = store.commit(id, &by, &|_| true, &mut &frames[..]);
            let first = Version(1);
            let done = CommitSummary::All { ops: count, first };
            assert_eq!(summary.expect("done"), done);
            let before = files(&disk);
            drop(store);
            disk.crash(Unsynced::Dropped);
            assert_eq!(files(&disk), before, "{count} files");
        }
    }
}

/// As drivers that know no exchange do it: the kernel says so, and what is replaced goes aside first.
#[test]
fn a_disk_that_exchanges_no_names_takes_what_replaces_something() {
    let computer = Computer::new(NOON, 1);
    let _entered = enter(&computer);
    let disk = Disk::new(Traits {
        exchange: false,
        ..Traits::ext4()
    });
    disk.mount(Path::new(AT));
    let store = open(&Faults::default()).expect("opens");
    let mut expected = Files::new();
    let changes = [
        Change::Put("a", "one"),
        Change::Put("a", "two"),
        Change::Put("b", "three"),
        Change::Move("a", "b"),
    ];
    for change in changes {
        change.make(&store).expect("done");
        change.on(&mut expected);
        assert_eq!(files(&disk), expected);
    }
}

/// To Linux a rename between two spellings of one entry is done already, so it goes by way of another name;
/// the power is cut at each step of that.
#[test]
fn a_name_gets_another_case_where_both_are_one() {
    for (traits, from, to) in [
        (Traits::fat(), "a", "A"),
        (Traits::exfat(), "é", "É"),
        (Traits::apfs(), "é", "É"),
    ] {
        for folder in [false, true] {
            // An empty file is one as well.
            for content in ["mine", ""] {
                let steps =
                    (0..).take_while(|step| !respell(traits, (from, to), folder, content, *step));
                assert!(steps.count() > 1);
            }
        }
    }
}

/// Cuts the power at this step of a change of case; whether that was after its end.
fn respell(
    traits: Traits,
    (from, to): (&str, &str),
    folder: bool,
    content: &str,
    step: u64,
) -> bool {
    let inside = |at: &str| if folder { format!("{at}/f") } else { at.into() };
    let computer = Computer::new(NOON, 1);
    let _entered = enter(&computer);
    let disk = Disk::new(traits);
    disk.mount(Path::new(AT));
    let by = By("ann".into());
    let store = open(&Faults::default()).expect("opens");
    if folder {
        store.make_folder(&path(from), &by).expect("made");
    }
    let mut staged = store.stage().expect("staged");
    staged.write_all(content.as_bytes()).expect("written");
    store.put(staged, &path(&inside(from)), &by).expect("put");
    disk.fail(disk.steps() + step, Fault::Die);
    let moved = store.rename(&path(from), &path(to), &by).is_ok();
    let whole = !disk.is_dead();
    drop(store);
    disk.crash(match step % 3 {
        0 => Unsynced::Dropped,
        1 => Unsynced::Kept,
        _ => Unsynced::Random(step),
    });
    disk.forgive();
    drop(open(&Faults::default()).expect("opens"));
    let expected = |at| Files::from([(inside(at), content.into())]);
    let found = files_below(&disk);
    let good = found == expected(to) || (!moved && found == expected(from));
    assert!(
        good,
        "{from}, folder: {folder}, {content:?}, step {step}: {found:?}"
    );
    assert!(moved || !whole);
    whole
}

/// Linux's FAT minds the case of accented letters, and somebody has put a file there: a client of ours is
/// refused, for any other it becomes a version.
#[test]
fn what_differs_in_the_case_of_an_accent_is_not_lost() {
    for ours in [true, false] {
        let computer = Computer::new(NOON, 1);
        let _entered = enter(&computer);
        let disk = Disk::new(Traits::fat());
        disk.mount(Path::new(AT));
        let store = open(&Faults::default()).expect("opens");
        let by = By("ann".into());
        let mut staged = store.stage().expect("staged");
        staged.write_all(b"mine").expect("written");
        let version = store.put(staged, &path("é"), &by).expect("put");
        disk.user().write("É", b"somebody's").expect("written");
        if ours {
            let op = Op::Move {
                from: path("é"),
                expect: version,
                to: path("É"),
            };
            assert!(commit(&store, "move", &[CommitFrame::Op(op)]).is_err());
            let both = [("é", "mine"), ("É", "somebody's")];
            let both = both.map(|(name, content)| (name.to_owned(), content.to_owned()));
            assert_eq!(files(&disk), Files::from(both));
        } else {
            store.rename(&path("é"), &path("É"), &by).expect("renamed");
            assert_eq!(files(&disk), Files::from([("É".into(), "mine".into())]));
            let digest = Digest::of(b"somebody's").to_string();
            let kept = format!(".raspbox/versions/{}/{digest}", &digest[..2]);
            assert_eq!(disk.user().read(&kept).expect("kept"), b"somebody's");
        }
    }
}

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

/// A disk that keeps no such bits refuses them, and that is no trouble: the journal has it.
#[test]
fn a_disk_without_executable_bits_takes_what_is_executable() {
    let computer = Computer::new(NOON, 1);
    let _entered = enter(&computer);
    let disk = Disk::new(Traits::fat());
    disk.mount(Path::new(AT));
    let store = open(&Faults::default()).expect("opens");
    commit(&store, "one", &put_one(true)).expect("done");
    assert_eq!(files(&disk), Files::from([("a".into(), "one".into())]));
}

/// What stands there in another case is known already, and is not taken for somebody's new file.
#[test]
fn what_is_spelled_otherwise_is_journalled_once() {
    for traits in [Traits::fat(), Traits::apfs()] {
        let computer = Computer::new(NOON, 1);
        let _entered = enter(&computer);
        let disk = Disk::new(traits);
        disk.mount(Path::new(AT));
        let store = open(&Faults::default()).expect("opens");
        for (at, expect) in [("a", true), ("A", false)] {
            let op = Op::Put {
                path: path(at),
                expect: Expect::Absent,
                file: file(at),
            };
            let frames = [CommitFrame::Op(op), CommitFrame::Data(at.into())];
            assert_eq!(commit(&store, at, &frames).is_ok(), expect);
        }
        let mut told = Vec::new();
        let mut note = |frame| {
            if let FeedFrame::Entry { path, .. } = frame {
                told.push(path);
            }
            Ok(())
        };
        store.feed(None, &mut note).expect("fed");
        assert_eq!(told, [path("a")]);
        assert_eq!(files(&disk), Files::from([("a".into(), "a".into())]));
    }
}

#[test]
fn the_same_seed_does_the_same() {
    let run = || {
        let computer = Computer::new(NOON, 7);
        let _entered = enter(&computer);
        let disk = Disk::new(Traits::ext4());
        disk.mount(Path::new(AT));
        work(&Faults::default());
        let staging = disk.user().tree(".raspbox").into_keys();
        (disk.steps(), computer.now(), staging.collect::<Vec<_>>())
    };
    assert_eq!(run(), run());
}

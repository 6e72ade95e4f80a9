//! The synced folder on disks that take two names for one, or write them in their own way.

use raspbox::local::{Done, Expected, Signature, Workspace, today};
use raspbox::scan::{Doubt, LocalTree, Scanner, Seen, read_file};
use raspbox::state::{Print, State};
use raspbox_beneath::now;
use raspbox_beneath::sim::{Computer, Disk, Entered, Fault, Node, Traits, Unsynced, User, enter};
use raspbox_core::names::Accents;
use raspbox_protocol::{Entry, File, Mtime, RelPath};
use std::ffi::OsStr;
use std::io::Write;
use std::path::Path;

const AT: &str = "/simulated";

/// 2026-01-31 12:00 in UTC.
const NOON: Mtime = Mtime(1_769_860_800_000_000_000);

/// A paired folder on a disk of its own.
struct Bed {
    disk: Disk,
    _entered: Entered,
}

fn path(text: &str) -> RelPath {
    RelPath::parse(text).expect("a good path")
}

fn state() -> Option<State> {
    State::open(&Path::new(AT).join("state.db")).ok()
}

impl Bed {
    fn on(traits: Traits) -> Bed {
        let entered = enter(&Computer::new(NOON, 1));
        let disk = Disk::new(traits);
        disk.mount(Path::new(AT));
        Workspace::mark(&Path::new(AT).join("box"), "pair1").expect("marked");
        Bed {
            disk,
            _entered: entered,
        }
    }

    fn user(&self) -> User {
        self.disk.user()
    }

    /// An old file.
    fn write(&self, at: &str) {
        let at = format!("box/{at}");
        self.user().write(&at, b"content").expect("written");
        let old = Mtime(NOON.0 - 7_200_000_000_000);
        self.user().set_mtime(&at, old).expect("set");
    }

    fn open(&self) -> Workspace {
        Self::try_open().expect("reads")
    }

    fn try_open() -> std::io::Result<Workspace> {
        let signature = Signature {
            device: "laptop".into(),
            date: today(),
        };
        let found = Workspace::open(&Path::new(AT).join("box"), "pair1", signature)?;
        Ok(found.expect("it was marked"))
    }

    /// What people see, but for what is ours.
    fn shown(&self) -> Vec<String> {
        let tree = self.user().tree("box");
        let shown = tree.into_keys().filter(|at| !at.starts_with(".raspbox"));
        shown.collect()
    }
}

fn scan<T>(workspace: &Workspace, look: impl FnOnce(&mut Scanner<'_>) -> T) -> T {
    look(&mut Scanner {
        top: workspace.top(),
        disk: workspace.disk(),
        rules: &raspbox::ignores::Rules::parse(""),
        known: &|_| Ok(None),
        moved: &|_| Ok(None),
        executable: None,
        doubt: &|_| Doubt::No,
        now: Mtime(now().0 + 3_600_000_000_000),
        reading: &mut |_, _| (),
        fresh: Vec::new(),
        chunks: None,
        damaged: Vec::new(),
        unsyncable: Vec::new(),
        young: Vec::new(),
    })
}

fn paths(tree: &LocalTree) -> Vec<String> {
    let mut paths = Vec::new();
    tree.walk(&mut |path, _| paths.push(path.to_string()));
    paths
}

/// What a move of a file or folder expects.
fn look(workspace: &Workspace, at: &str) -> (Entry, Seen) {
    let stat = workspace.top().stat(&path(at)).expect("known");
    let print = Print::from(&stat.expect("it is there"));
    let seen = Seen {
        print,
        settled: true,
    };
    let parent = workspace.top().folder(None).expect("opens");
    match read_file(&parent, OsStr::new(at)) {
        Ok(Some((stat, digest))) => {
            let file = File {
                digest,
                size: stat.size,
                mtime: stat.mtime,
                executable: false,
            };
            (Entry::File(file), seen)
        }
        _ => (Entry::Folder, seen),
    }
}

#[test]
fn a_disk_is_known_by_what_it_does() {
    let check = |traits: Traits, case_sensitive: bool, accents: Accents| {
        let bed = Bed::on(traits);
        for _ in 0..2 {
            let found = *bed.open().disk();
            assert_eq!(found.holds.case_sensitive, case_sensitive, "{traits:?}");
            assert_eq!(found.accents, accents, "{traits:?}");
            assert_eq!(found.holds.symlinks, traits.symlinks);
        }
        assert!(bed.shown().is_empty());
    };
    let casefold = Traits {
        case_sensitive: false,
        ..Traits::ext4()
    };
    check(Traits::ext4(), true, Accents::Apart);
    check(casefold, false, Accents::Apart);
    check(Traits::fat(), false, Accents::Apart);
    check(Traits::hfs_plus(), false, Accents::Rewritten);
}

#[test]
fn names_are_known_composed_where_the_disk_decomposes_them() {
    let bed = Bed::on(Traits::hfs_plus());
    bed.user().mkdir("box/\u{e9}").expect("made");
    bed.write("\u{e9}/\u{f6}");
    assert_eq!(bed.shown(), ["e\u{301}", "e\u{301}/o\u{308}"]);
    let workspace = bed.open();
    let tree = scan(&workspace, |scanner| scanner.all().expect("read"));
    assert_eq!(paths(&tree), ["\u{e9}", "\u{e9}/\u{f6}"]);
    let node = scan(&workspace, |scanner| scanner.at(&path("\u{e9}/\u{f6}")));
    assert!(node.is_some());
    // Where they are kept, they are two.
    let bed = Bed::on(Traits::ext4());
    bed.write("\u{e9}");
    bed.write("e\u{301}");
    let workspace = bed.open();
    let tree = scan(&workspace, |scanner| scanner.all().expect("read"));
    assert_eq!(paths(&tree), ["e\u{301}", "\u{e9}"]);
}

#[test]
fn what_has_another_spelling_is_not_there() {
    let bed = Bed::on(Traits::fat());
    bed.user().mkdir("box/X").expect("made");
    bed.write("X/a");
    let workspace = bed.open();
    let found = |at: &str| scan(&workspace, |scanner| scanner.at(&path(at)).is_some());
    assert!(found("X") && found("X/a"));
    assert!(!found("x") && !found("X/A"));
}

/// Not in the plan, since it is ignored or came after the look: nothing is put into it, or in its
/// place.
#[test]
fn nothing_takes_another_for_itself() {
    let bed = Bed::on(Traits::fat());
    bed.user().mkdir("box/X").expect("made");
    bed.write("Y");
    bed.write("z");
    let workspace = bed.open();
    let check = |done: std::io::Result<Done>| {
        let error = done.expect_err("another is there").to_string();
        assert!(error.contains("same name as another one"), "{error}");
    };
    check(workspace.make_folder(&path("x")));
    let (entry, seen) = look(&workspace, "z");
    let expected = Expected {
        entry: &entry,
        seen,
    };
    check(workspace.rename(&path("z"), &path("y"), expected));
    let Entry::File(file) = &entry else {
        panic!("{entry:?}")
    };
    let mut staged = workspace.stage().expect("staged");
    staged.write_all(b"content").expect("written");
    staged.finish(&workspace).expect("whole");
    check(workspace.place_file(&staged, &path("y"), file, None));
    assert_eq!(bed.shown(), ["X", "Y", "z"]);
    // The same spelling is the old story.
    let same = workspace.make_folder(&path("X")).expect("made");
    assert!(matches!(same, Done::AsPlanned(_)), "{same:?}");
    let same = workspace.rename(&path("z"), &path("Y"), expected);
    assert_eq!(same.expect("looks"), Done::Changed);
}

/// Gives `f` or `d` another spelling, as a pull does. Whether it came to its end.
fn respell(from: &str, to: &str) -> anyhow::Result<()> {
    let workspace = Bed::try_open()?;
    let mut state = state().ok_or_else(|| anyhow::anyhow!("no state"))?;
    let (entry, seen) = look(&workspace, from);
    let expected = Expected {
        entry: &entry,
        seen,
    };
    let (from, to) = (path(from), path(to));
    anyhow::ensure!(workspace.is_respelling(&from, &to)?);
    assert!(!workspace.is_respelling(&to, &from)?);
    state.write(|w| w.set_placing("1.old", &to))?;
    let done = workspace.respell(&from, &to, "1.old", expected)?;
    assert!(matches!(done, Done::AsPlanned(_)), "{done:?}");
    workspace.sync_names(&[&from, &to])?;
    Ok(())
}

#[test]
fn another_spelling_is_really_written() {
    for traits in [Traits::fat(), Traits::hfs_plus()] {
        let bed = Bed::on(traits);
        bed.write("f");
        bed.user().mkdir("box/d").expect("made");
        bed.write("d/a");
        respell("f", "F").expect("respelled");
        respell("d", "D").expect("respelled");
        assert_eq!(bed.shown(), ["D", "D/a", "F"]);
    }
    // Two names of two files are none.
    let bed = Bed::on(Traits::ext4());
    bed.write("f");
    bed.write("F");
    let (f, big) = (path("f"), path("F"));
    assert!(!bed.open().is_respelling(&f, &big).expect("looks"));
}

#[test]
fn another_spelling_survives_a_crash() {
    let prepared = || {
        let bed = Bed::on(Traits::fat());
        bed.user().mkdir("box/d").expect("made");
        bed.write("d/a");
        drop(state().expect("opens"));
        let top = raspbox_beneath::Top::open(Path::new(AT)).expect("opens");
        let top = top.folder(None).expect("opens");
        top.sync_filesystem().expect("synced");
        bed
    };
    let bed = prepared();
    let before = bed.disk.steps();
    respell("d", "D").expect("no fault");
    let steps = bed.disk.steps() - before;
    drop(bed);
    for step in 0..steps {
        for unsynced in [Unsynced::Dropped, Unsynced::Kept, Unsynced::Random(step)] {
            let bed = prepared();
            bed.disk.fail(bed.disk.steps() + step, Fault::Die);
            let done = std::panic::catch_unwind(|| respell("d", "D").is_ok());
            bed.disk.crash(unsynced);
            let state = state().expect("opens");
            bed.open().recover(&state).expect("recovers");
            let shown = bed.shown();
            let kept = shown.iter().filter(|at| at.ends_with("/a")).count();
            assert_eq!(kept, 1, "step {step}: {shown:?}");
            if done.is_ok_and(|done| done) {
                assert_eq!(shown, ["D", "D/a"], "step {step}");
            }
            let tree = bed.user().tree("box");
            let content = tree.iter().find(|(at, _)| at.ends_with("/a"));
            let good =
                matches!(content, Some((_, Node::File { content, .. })) if content == b"content");
            assert!(good, "step {step}: {content:?}");
        }
    }
}

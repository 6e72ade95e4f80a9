//! The workstation's side on a simulated disk: the power is cut at every step of placing a file.

use raspbox::local::{Done, Expected, Signature, Workspace};
use raspbox::scan::{Doubt, Scanner, read_file};
use raspbox::state::{Print, State};
use raspbox_beneath::sim::{Computer, Disk, Fault, Traits, Unsynced, enter};
use raspbox_beneath::{Folder, Kind, now};
use raspbox_core::tree::Node;
use raspbox_protocol::{Digest, Entry, File, Mtime, RelPath, Version};
use std::ffi::OsStr;
use std::io::Write;
use std::path::{Path, PathBuf};

const AT: &str = "/simulated";

/// 2026-01-31 12:00 in UTC.
const NOON: Mtime = Mtime(1_769_860_800_000_000_000);

const OLD: &str = "what was there";
const NEW: &str = "what comes";

fn path(text: &str) -> RelPath {
    RelPath::parse(text).expect("a good path")
}

fn described(content: &str) -> File {
    File {
        digest: Digest::of(content.as_bytes()),
        size: content.len() as u64,
        mtime: Mtime(NOON.0 - 3_600_000_000_000),
        executable: true,
    }
}

fn folder() -> PathBuf {
    Path::new(AT).join("box")
}

fn workspace() -> std::io::Result<Option<Workspace>> {
    let signature = Signature {
        device: "laptop".into(),
        date: raspbox::local::today(),
    };
    Workspace::open(&folder(), "pair1", signature)
}

fn state() -> Option<State> {
    State::open(&Path::new(AT).join("state.db")).ok()
}

/// Replaces the old content by the new one, as a pull does. Whether it came to its end.
fn work() -> anyhow::Result<()> {
    let workspace = workspace()?.expect("it was marked");
    let mut state = state().ok_or_else(|| anyhow::anyhow!("no state"))?;
    workspace.recover(&state)?;
    let at = path("f");
    let file = described(NEW);
    let top: Folder = workspace.top().folder(None)?;
    let (stat, digest) = read_file(&top, OsStr::new("f"))?.expect("it is at rest");
    let old = Entry::File(File {
        digest,
        ..described(OLD)
    });
    let seen = raspbox::scan::Seen {
        print: Print::from(&stat),
        settled: true,
    };
    let expected = Expected { entry: &old, seen };
    let mut staged = workspace.stage()?;
    staged.write_all(NEW.as_bytes())?;
    assert_eq!(staged.digest(), file.digest);
    staged.sync()?;
    staged.finish(&workspace)?;
    state.write(|w| {
        w.set_remote(&at, Some((&Entry::File(file), Version(1))))?;
        w.set_placing(&staged.new_name(), &at)?;
        w.set_placing(&staged.old_name(), &at)
    })?;
    let done = workspace.place_file(&staged, &at, &file, Some(expected))?;
    assert!(matches!(done, Done::AsPlanned(_)), "{done:?}");
    workspace.sync_names(&[&at])?;
    state.write(|w| w.set_baseline(&at, Some(&Entry::File(file))))?;
    Ok(())
}

fn prepared(traits: Traits) -> Disk {
    let disk = Disk::new(traits);
    disk.mount(Path::new(AT));
    Workspace::mark(&folder(), "pair1").expect("marked");
    let user = disk.user();
    user.write("box/f", OLD.as_bytes()).expect("written");
    let old = Mtime(NOON.0 - 7_200_000_000_000);
    user.set_mtime("box/f", old).expect("set");
    let mut state = state().expect("opens");
    let before = Entry::File(described(OLD));
    state
        .write(|w| w.set_baseline(&path("f"), Some(&before)))
        .expect("written");
    drop(state);
    let top = raspbox_beneath::Top::open(Path::new(AT)).expect("opens");
    let top = top.folder(None).expect("opens");
    top.sync_filesystem().expect("synced");
    disk
}

fn check(traits: Traits, unsynced: impl Fn(u64) -> Unsynced) {
    let computer = Computer::new(NOON, 1);
    let _entered = enter(&computer);
    let disk = prepared(traits);
    let before = disk.steps();
    work().expect("no fault");
    let steps = disk.steps() - before;
    assert!(steps > 40, "{steps}");
    for step in 0..steps {
        let disk = prepared(traits);
        disk.fail(disk.steps() + step, Fault::Die);
        let done = work().is_ok();
        disk.crash(unsynced(step));
        let workspace = workspace().expect("reads").expect("it is marked");
        let state = state().expect("opens");
        let kept = workspace.recover(&state).expect("recovers");
        // The state isn't synced with every commit, nor the staging folder before the record, so a
        // content may come back of which nothing is known any more. It is kept, as it should be.
        for copy in kept {
            let copy = disk.user().read(&format!("box/{copy}"));
            let copy = String::from_utf8(copy.expect("it is there")).expect("text");
            assert!(copy == OLD || copy == NEW, "step {step}: {copy:?}");
        }
        let found = disk.user().read("box/f").ok();
        let found = found.map(|found| String::from_utf8(found).expect("text"));
        match found.as_deref() {
            Some(NEW) => {}
            Some(OLD) => assert!(!done, "step {step}: it isn't durable"),
            // Between the two renames; both contents are the remote's too, so it comes again.
            None => assert!(!done && !traits.exchange, "step {step}: it is gone"),
            Some(other) => panic!("step {step}: {other:?}"),
        }
        let baseline = state.baseline(&|_, _| false).expect("reads");
        let recorded = baseline.get(&path("f")).and_then(Node::entry);
        if recorded == Some(Entry::File(described(NEW))) {
            assert_eq!(
                found.as_deref(),
                Some(NEW),
                "step {step}: recorded too early"
            );
        }
    }
}

#[test]
fn a_file_is_replaced_or_it_isnt() {
    for traits in [Traits::ext4(), Traits::network(), Traits::fat()] {
        check(traits, |_| Unsynced::Dropped);
        check(traits, |_| Unsynced::Kept);
        for seed in 0..10 {
            check(traits, |step| Unsynced::Random(seed * 10_000 + step));
        }
    }
}

#[test]
fn a_disk_that_fails_is_no_reason_to_look_for_a_name_for_ever() {
    let computer = Computer::new(NOON, 1);
    let _entered = enter(&computer);
    let mut step = 0;
    loop {
        let disk = prepared(Traits::ext4());
        let workspace = workspace().expect("reads").expect("it is marked");
        disk.fail(disk.steps() + step, Fault::Die);
        // That it returns is what is tested.
        if workspace.move_aside(&path("f")).is_ok() {
            break;
        }
        step += 1;
    }
    assert!(step > 2, "{step}");
}

#[test]
fn a_scan_sees_what_is_there() {
    let computer = Computer::new(NOON, 1);
    let _entered = enter(&computer);
    let disk = prepared(Traits::ext4());
    disk.user().symlink("f", "box/link").expect("made");
    disk.user().mkdir("box/d").expect("made");
    let workspace = workspace().expect("reads").expect("it is marked");
    let mut scanner = Scanner {
        top: workspace.top(),
        disk: workspace.disk(),
        rules: &raspbox::ignores::Rules::parse(""),
        known: &|_| Ok(None),
        moved: &|_| Ok(None),
        executable: None,
        doubt: &|_| Doubt::No,
        now: now(),
        reading: &mut |_, _| (),
        fresh: Vec::new(),
        chunks: None,
        damaged: Vec::new(),
        unsyncable: Vec::new(),
        young: Vec::new(),
    };
    let tree = scanner.all().expect("read");
    assert_eq!(tree.count(), 3);
    let stat = workspace.top().stat(&path("d")).expect("known");
    assert_eq!(stat.map(|stat| stat.kind), Some(Kind::Folder));
    assert_eq!(Workspace::owner(&folder()).as_deref(), Some("pair1"));
    Workspace::unmark(&folder()).expect("unmarked");
    assert_eq!(Workspace::owner(&folder()), None);
}

//! Rounds that find all as it was when nothing was to be done, and read nothing of what is remembered.

use super::{AT, EDIT, OLD, Shelved, Station, path};
use raspbox::engine::{Options, Scope, SyncError};
use raspbox::report::{Event, Summary};
use raspbox::state::State;
use raspbox_beneath::sim::User;
use raspbox_core::guard::Allowances;
use raspbox_protocol::Mtime;
use std::path::Path;
use std::time::Duration;

const LONG_AGO: Mtime = Mtime(super::NOON.0 - 1);

/// A station with a bit of everything that has been in sync for long, and nothing to do.
fn at_rest() -> Station {
    let mut station = Station::new();
    let user = station.disk.user();
    for folder in ["box/a", "box/a/b", "box/empty", "box/even"] {
        user.mkdir(folder).expect("made");
    }
    // Before and behind what is in `a`, as names and as paths.
    for file in ["box/a/b/f", "box/a/g", "box/a-b", "box/a.txt", "box/z"] {
        user.write(file, &[OLD, file.as_bytes()].concat())
            .expect("written");
        user.set_mtime(file, LONG_AGO).expect("set");
    }
    user.symlink("a/g", "box/link").expect("made");
    station.sync();
    station.sync();
    station.engine = None;
    station
}

/// What a round of a program that was just started comes to, and whether it looked at what the remote has.
fn round(station: &mut Station) -> (Summary, bool) {
    station.engine = None;
    station.open();
    let before = station.shelf.open().looks;
    let engine = station.engine.as_mut().expect("opens");
    let summary = engine.round(&Scope::All, Options::default(), &mut |_| {});
    let looked = station.shelf.open().looks > before;
    (summary.expect("nothing is in its way"), looked)
}

#[test]
fn where_nothing_changed_nothing_is_looked_for() {
    let mut station = at_rest();
    for _ in 0..3 {
        let (summary, looked) = round(&mut station);
        assert_eq!((summary, looked), (Summary::default(), false));
        station.computer.advance(Duration::from_secs(600));
    }
}

/// Whatever somebody does here is seen by the next round of a program that is started then.
#[test]
fn each_change_here_is_seen() {
    let as_before = |user: &User, name: &str| {
        // The size and the mtime are as they were.
        user.write(
            name,
            &[EDIT, OLD, name.as_bytes()].concat()[..OLD.len() + name.len()],
        )
        .expect("written");
        user.set_mtime(name, LONG_AGO).expect("set");
    };
    type Change<'a> = (&'a str, &'a dyn Fn(&User));
    let changes: [Change<'_>; 12] = [
        ("an edit", &|user| as_before(user, "box/a/b/f")),
        ("of the last", &|user| as_before(user, "box/z")),
        ("a new one", &|user| {
            user.write("box/a/new", EDIT).expect("written");
        }),
        ("a deletion", &|user| {
            user.remove("box/a/g").expect("removed");
        }),
        ("a file renamed", &|user| {
            user.rename("box/z", "box/y").expect("moved");
        }),
        ("a folder renamed", &|user| {
            user.rename("box/a", "box/c").expect("moved");
        }),
        ("a level down", &|user| {
            user.rename("box/a.txt", "box/empty/a.txt").expect("moved");
        }),
        ("a folder, too", &|user| {
            user.rename("box/even", "box/empty/even").expect("moved");
        }),
        ("a bit", &|user| {
            user.set_executable("box/a-b", true).expect("set");
        }),
        ("a new folder", &|user| {
            user.mkdir("box/empty/too").expect("made");
        }),
        ("a folder less", &|user| {
            user.remove("box/empty").expect("removed");
        }),
        ("another link", &|user| {
            user.remove("box/link").expect("removed");
            user.symlink("a/b", "box/link").expect("made");
        }),
    ];
    for (what, change) in changes {
        let mut station = at_rest();
        change(&station.disk.user());
        station.computer.advance(Duration::from_secs(600));
        let (summary, looked) = round(&mut station);
        assert!(looked && summary.changed_anything(), "{what}");
        assert_eq!(station.files(), station.shelf.contents(), "{what}");
        let (summary, _) = round(&mut station);
        assert_eq!(summary, Summary::default(), "{what}");
    }
}

#[test]
fn each_change_there_is_seen() {
    let changes: [fn(&mut Shelved); 3] = [
        |shelf| shelf.put_file("a/b/f", EDIT),
        |shelf| shelf.put_file("new", EDIT),
        |shelf| shelf.remove("z"),
    ];
    for change in changes {
        let mut station = at_rest();
        change(&mut station.shelf.open());
        let (summary, _) = round(&mut station);
        assert!(summary.changed_anything());
        assert_eq!(station.files(), station.shelf.contents());
    }
}

#[test]
fn a_remote_whose_cursor_says_nothing_is_looked_at() {
    let mut station = at_rest();
    station.shelf.open().silent = true;
    station.sync();
    station.sync();
    let (summary, looked) = round(&mut station);
    assert_eq!((summary, looked), (Summary::default(), true));
    station.shelf.open().put_file("new", EDIT);
    round(&mut station);
    assert_eq!(station.files(), station.shelf.contents());
}

#[test]
fn other_patterns_are_other_trees() {
    let mut station = at_rest();
    let user = station.disk.user();
    // Itself it isn't synced, and nothing else is.
    user.write("box/.raspboxignore", b".raspboxignore\n")
        .expect("written");
    station.sync();
    station.sync();
    user.write("box/.raspboxignore", b"/a\n.raspboxignore\n")
        .expect("written");
    station.computer.advance(Duration::from_secs(600));
    assert!(round(&mut station).1, "a folder is ignored now");
    assert!(!round(&mut station).1);
    // Nobody minds what is in it.
    user.write("box/a/g", EDIT).expect("written");
    user.remove("box/a/b/f").expect("removed");
    assert_eq!(round(&mut station), (Summary::default(), false));
    user.remove("box/.raspboxignore").expect("removed");
    station.computer.advance(Duration::from_secs(600));
    round(&mut station);
    assert_eq!(station.files(), station.shelf.contents());
}

/// A program may go on writing to it unseen (`scan::WRITEBACK_MAX`).
#[test]
fn what_was_just_written_is_read_again() {
    for young in [false, true] {
        let mut station = at_rest();
        let user = station.disk.user();
        user.write("box/z", EDIT).expect("written");
        let age = if young { 50 } else { 70 };
        station.computer.advance(Duration::from_secs(age));
        round(&mut station);
        round(&mut station);
        assert_eq!(round(&mut station).1, young, "{age} s");
    }
    let mut station = at_rest();
    let user = station.disk.user();
    user.remove("box/link").expect("removed");
    user.symlink("z", "box/link").expect("made");
    station.computer.advance(Duration::from_secs(50));
    round(&mut station);
    round(&mut station);
    assert!(round(&mut station).1, "a link is as young as a file");
}

#[test]
fn what_is_wrong_is_said_by_each_round() {
    let mut station = at_rest();
    station
        .disk
        .user()
        .write("box/bad\u{1}name", EDIT)
        .expect("written");
    station.computer.advance(Duration::from_secs(600));
    for _ in 0..3 {
        assert_eq!(round(&mut station).0.unsyncable.len(), 1);
    }
    let mut station = at_rest();
    mark_as_damaged(&station, "a/g");
    for _ in 0..3 {
        assert_eq!(round(&mut station).0.problems.len(), 1);
    }
    // Deleted there, and here it can't go, for what isn't synced.
    let mut station = at_rest();
    let user = station.disk.user();
    user.write("box/even/f~", EDIT).expect("written");
    station.shelf.open().remove("even");
    for _ in 0..3 {
        assert_eq!(round(&mut station).0.problems.len(), 1);
    }
}

/// What was ignored and isn't any more may be there and not here, where nothing shows that.
#[test]
fn what_is_ignored_no_longer_comes_from_there() {
    let mut station = at_rest();
    let rules = "box/.raspboxignore";
    station
        .disk
        .user()
        .write(rules, b"/hidden\n.raspboxignore\n")
        .expect("written");
    station.sync();
    station.shelf.open().put_file("hidden", EDIT);
    station.sync();
    station.sync();
    assert_eq!(round(&mut station), (Summary::default(), false));
    station
        .disk
        .user()
        .write(rules, b".raspboxignore\n")
        .expect("written");
    station.computer.advance(Duration::from_secs(600));
    assert_eq!(round(&mut station).0.pulled, 1);
}

/// As `raspbox verify` does.
fn mark_as_damaged(station: &Station, name: &str) {
    assert!(station.engine.is_none(), "one at a time");
    let mut state = State::open(&Path::new(AT).join("state.db")).expect("opens");
    let print = state.all_hashed().expect("read")[&path(name)].print;
    let marked = state.write(|w| w.set_damaged(&path(name), &print));
    marked.expect("written");
}

#[test]
fn a_dry_run_says_the_same() {
    let mut station = at_rest();
    station.open();
    let options = Options {
        dry_run: true,
        ..Options::default()
    };
    let engine = station.engine.as_mut().expect("opens");
    let mut planned = 0;
    let summary = engine.round(&Scope::All, options, &mut |event| {
        if let Event::Planned(plan) = event {
            assert!(plan.is_empty());
            planned += 1;
        }
    });
    assert_eq!((summary.expect("works"), planned), (Summary::default(), 1));
}

/// What changed while somebody else synced the same folder is known to a program that goes on.
#[test]
fn a_seal_that_another_program_made_is_about_its_trees() {
    let mut station = at_rest();
    station.open();
    let mut goes_on = station.engine.take().expect("opens");
    goes_on.stay();
    let mut again = |station: &Station| {
        let summary = goes_on.round(&Scope::All, Options::default(), &mut |_| {});
        assert!(summary.is_ok());
        assert_eq!(station.files(), station.shelf.contents());
    };
    again(&station);
    station.disk.user().write("box/z", EDIT).expect("written");
    station.sync();
    station.sync();
    station.disk.user().remove("box/z").expect("removed");
    station.computer.advance(Duration::from_secs(600));
    again(&station);
    assert!(!station.shelf.holds(EDIT));
}

/// That a round finds nothing to ask about any more is an answer as well, and a yes is heard in any case.
#[test]
fn what_a_brake_asked_is_answered() {
    let mut station = at_rest();
    station.open();
    let before = station.shelf.open().looks;
    let options = Options {
        allow: Allowances {
            deletions: 1,
            ..Allowances::default()
        },
        ..Options::default()
    };
    let engine = station.engine.as_mut().expect("opens");
    let summary = engine.round(&Scope::All, options, &mut |_| {});
    assert_eq!(summary.expect("works"), Summary::default());
    assert!(station.shelf.open().looks > before);
    assert!(!round(&mut station).1);
    station.engine = None;
    let mut state = State::open(&Path::new(AT).join("state.db")).expect("opens");
    assert!(state.seal().expect("read").is_some());
    state.keep_lately(super::NOON).expect("written");
    assert!(state.seal().expect("read").is_none());
    drop(state);
    assert!(round(&mut station).1);
}

/// A state that can't be read is no reason to read all files.
#[test]
fn a_cache_that_is_broken_is_said_and_nothing_is_read() {
    let mut station = at_rest();
    station.disk.user().write("box/z", EDIT).expect("written");
    station.computer.advance(Duration::from_secs(600));
    station.open();
    let database = raspbox_beneath::vfs_of(Path::new(AT)).expect("a simulated disk");
    let db = rusqlite::Connection::open_with_flags_and_vfs(
        Path::new(AT).join("state.db"),
        rusqlite::OpenFlags::default(),
        database,
    );
    db.and_then(|db| db.execute_batch("DROP TABLE print"))
        .expect("dropped");
    let engine = station.engine.as_mut().expect("opens");
    let mut read = 0;
    let result = engine.round(&Scope::All, Options::default(), &mut |event| {
        read += u32::from(matches!(event, Event::Reading(..)));
    });
    assert!(matches!(result, Err(SyncError::Record(_))), "{result:?}");
    assert_eq!(read, 0);
}

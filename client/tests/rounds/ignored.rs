//! What is ignored and in the way of what comes.

use super::{EDIT, OLD, Station, path};
use raspbox::engine::{Options, Scope};
use raspbox::report::Event;
use raspbox_core::plan::Trouble;
use raspbox_protocol::Entry;
use std::time::Duration;

/// What a round says, and that it was the only lap.
fn troubles(station: &mut Station) -> Vec<(String, Trouble)> {
    let engine = station.engine.as_mut().expect("opened before");
    let mut plans = 0;
    let round = engine.round(&Scope::All, Options::default(), &mut |event| {
        plans += usize::from(matches!(event, Event::Planned(_)));
    });
    let problems = round.expect("a round").problems;
    assert_eq!(plans, 1, "{problems:?}");
    let said = problems
        .into_iter()
        .map(|problem| (problem.path.to_string(), problem.what));
    said.collect()
}

/// A station whose rules ignore folders called `build`.
fn ignoring() -> Station {
    let mut station = Station::new();
    let user = station.disk.user();
    user.write("box/.raspboxignore", b"build/\n")
        .expect("written");
    station.sync();
    station
}

#[test]
fn a_folder_in_which_something_ignored_stands_there_is_said_and_not_tried_for_ever() {
    let mut station = Station::new();
    let user = station.disk.user();
    user.mkdir("box/p/build").expect("made");
    user.write("box/p/build/x", OLD).expect("written");
    station.sync();
    user.write("box/.raspboxignore", b"build/\n")
        .expect("written");
    station.sync();
    user.remove_all("box/p").expect("removed");
    station.computer.advance(Duration::from_secs(600));
    let said = [("p".to_owned(), Trouble::HoldsUnsynced)];
    assert_eq!(troubles(&mut station), said);
    // It goes as soon as nothing is in it.
    for gone in ["p/build/x", "p/build"] {
        station.shelf.open().entries.remove(&path(gone));
    }
    station.sync();
    assert!(!station.shelf.open().entries.contains_key(&path("p")));
}

#[test]
fn what_is_ignored_and_in_the_way_is_said_and_not_tried_for_ever() {
    let in_the_way = |said: &[(String, Trouble)]| {
        let [(path, Trouble::Failed(why))] = said else {
            panic!("{said:?}")
        };
        assert!(path == "build" && why.contains("not synced"), "{said:?}");
    };
    let mut here = ignoring();
    here.disk.user().mkdir("box/build").expect("made");
    here.shelf.open().put_file("build", EDIT);
    in_the_way(&troubles(&mut here));
    let mut there = ignoring();
    there
        .shelf
        .open()
        .put(&path("build"), Entry::Folder, Vec::new());
    there.disk.user().write("box/build", EDIT).expect("written");
    there.computer.advance(Duration::from_secs(600));
    in_the_way(&troubles(&mut there));
}

#[test]
fn a_line_that_is_no_pattern_is_said_and_the_others_hold() {
    let mut station = Station::new();
    let user = station.disk.user();
    user.write("box/.raspboxignore", b"a\nbad\\\nz\n")
        .expect("written");
    for name in ["box/a", "box/b", "box/z"] {
        user.write(name, OLD).expect("written");
    }
    for _ in 0..3 {
        station.computer.advance(Duration::from_secs(600));
        station.engine = None;
        station.open();
        let said = troubles(&mut station);
        let [(path, Trouble::Failed(why))] = &said[..] else {
            panic!("{said:?}");
        };
        assert_eq!(path, ".raspboxignore");
        assert!(why.contains("'bad\\'"), "{why}");
    }
    let there: Vec<String> = station.shelf.contents().into_keys().collect();
    assert_eq!(there, [".raspboxignore", "b"]);
    let user = station.disk.user();
    user.write("box/.raspboxignore", b"a\nz\n")
        .expect("written");
    station.computer.advance(Duration::from_secs(600));
    assert!(troubles(&mut station).is_empty());
}

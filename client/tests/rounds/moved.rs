//! Folders that were moved on this computer: what is read again.

use super::{EDIT, OLD, Station, path};
use raspbox::engine::{Options, Scope};
use raspbox::report::Event;
use raspbox::state::State;
use raspbox_beneath::sim::Traits;
use raspbox_protocol::Mtime;
use std::time::Duration;

/// A step of the kernel's clock, after which a time is no multiple of FAT's hundredths.
const TICK: Duration = Duration::from_millis(4);

/// A station with a folder `a` of three files that have been in sync for long.
fn with_folder(traits: Traits) -> Station {
    let mut station = Station::on(traits);
    let user = station.disk.user();
    user.mkdir("box/a").expect("made");
    for name in ["f", "g", "h"] {
        station.computer.advance(TICK);
        let content = [OLD, name.as_bytes()].concat();
        user.write(&format!("box/a/{name}"), &content)
            .expect("written");
    }
    station.sync();
    station.sync();
    assert!(station.shelf.holds(&[OLD, b"h"].concat()));
    station.computer.advance(Duration::from_secs(600));
    station
}

/// The files that are read by a round, and the paths at which there are some then on the remote.
fn read_by_round(station: &mut Station) -> (Vec<String>, Vec<String>) {
    let mut read = Vec::new();
    station.open();
    let engine = station.engine.as_mut().expect("opens");
    engine
        .round(&Scope::All, Options::default(), &mut |event| {
            if let Event::Reading(path, _) = event {
                read.push(path.to_string());
            }
        })
        .expect("nothing is in its way");
    read.sort();
    (read, station.shelf.contents().into_keys().collect())
}

#[test]
fn what_is_in_a_folder_that_was_moved_is_not_read_again() {
    for restarted in [false, true] {
        let mut station = with_folder(Traits::ext4());
        if restarted {
            station.engine = None;
        }
        station.disk.user().rename("box/a", "box/b").expect("moved");
        let (read, there) = read_by_round(&mut station);
        assert_eq!(read, Vec::<String>::new(), "restarted: {restarted}");
        assert_eq!(there, ["b/f", "b/g", "b/h"]);
        // Nor is it then.
        station.engine = None;
        assert_eq!(read_by_round(&mut station).0, Vec::<String>::new());
    }
}

#[test]
fn what_was_written_in_a_folder_that_was_moved_is_read_and_sent() {
    for restarted in [false, true] {
        let mut station = with_folder(Traits::ext4());
        let user = station.disk.user();
        user.rename("box/a", "box/b").expect("moved");
        // Of the same size, and as old as before.
        let edit = [&EDIT[..OLD.len()], b"g"].concat();
        let before = Mtime(super::NOON.0 - 1);
        user.set_mtime("box/b/g", before).expect("set");
        user.write("box/b/g", &edit).expect("written");
        user.set_mtime("box/b/g", before).expect("set");
        if restarted {
            station.engine = None;
        }
        station.computer.advance(Duration::from_secs(600));
        let (read, there) = read_by_round(&mut station);
        assert_eq!(read, ["b/g"]);
        assert_eq!(there, ["b/f", "b/g", "b/h"]);
        assert!(station.shelf.holds(&edit));
    }
}

#[test]
fn a_folder_that_takes_the_place_of_another_brings_its_own_files() {
    let mut station = with_folder(Traits::ext4());
    let user = station.disk.user();
    user.mkdir("box/c").expect("made");
    station.computer.advance(TICK);
    user.write("box/c/f", EDIT).expect("written");
    station.sync();
    station.sync();
    user.rename("box/a", "box/b").expect("moved");
    user.rename("box/c", "box/a").expect("moved");
    assert_eq!(read_by_round(&mut station).0, Vec::<String>::new());
    assert_eq!(station.shelf.contents()["a/f"], EDIT);
    assert_eq!(station.shelf.contents()["b/f"], [OLD, b"f"].concat());
}

#[test]
fn where_times_are_coarse_all_of_it_is_read() {
    let mut station = with_folder(Traits::fat());
    station.disk.user().rename("box/a", "box/b").expect("moved");
    let (read, there) = read_by_round(&mut station);
    assert_eq!(read, ["b/f", "b/g", "b/h"]);
    assert_eq!(there, ["b/f", "b/g", "b/h"]);
    assert!(station.shelf.contents().contains_key(path("b/f").as_str()));
}

#[test]
fn what_was_damaged_is_so_where_its_folder_went_and_the_good_content_goes_there_too() {
    let mut station = with_folder(Traits::ext4());
    station.engine = None;
    let database = std::path::Path::new(super::AT).join("state.db");
    let at = |state: &State| -> Vec<String> {
        let damaged = state.damaged().expect("read");
        damaged.into_keys().map(|path| path.to_string()).collect()
    };
    let mut state = State::open(&database).expect("opens");
    let print = state.all_hashed().expect("read")[&path("a/g")].print;
    let marked = state.write(|w| w.set_damaged(&path("a/g"), &print));
    marked.expect("written");
    drop(state);
    station.disk.rot("box/a/g");
    station.disk.user().rename("box/a", "box/b").expect("moved");
    let (read, there) = read_by_round(&mut station);
    assert_eq!((read.len(), there.len()), (0, 3));
    assert_eq!(station.shelf.contents()["b/g"], [OLD, b"g"].concat());
    station.engine = None;
    let (read, there) = read_by_round(&mut station);
    assert_eq!((read.len(), there.len()), (0, 3));
    assert_eq!(station.shelf.contents()["b/g"], [OLD, b"g"].concat());
    let state = State::open(&database).expect("opens");
    assert!(at(&state).contains(&"b/g".to_owned()));
}

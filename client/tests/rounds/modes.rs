//! Executable bits on a disk that keeps none.

use super::{EDIT, NOON, OLD, Station, path};
use raspbox::engine::{Options, Scope};
use raspbox_beneath::sim::Traits;
use raspbox_protocol::{Digest, Entry, File, Mtime};
use std::time::Duration;

/// A station on FAT with a file that somebody else has made executable.
fn with_executable() -> Station {
    let mut station = Station::on(Traits::fat());
    station.disk.user().write("box/f", OLD).expect("written");
    station.sync();
    station.sync();
    let file = File {
        digest: Digest::of(OLD),
        size: OLD.len() as u64,
        mtime: Mtime(NOON.0 - 3_600_000_000_000),
        executable: true,
    };
    let entry = Entry::File(file);
    station.shelf.open().put(&path("f"), entry, OLD.to_vec());
    station
}

/// A round in which nothing goes wrong.
fn round(station: &mut Station) {
    station.computer.advance(Duration::from_secs(600));
    station.open();
    let engine = station.engine.as_mut().expect("opens");
    let summary = engine.round(&Scope::All, Options::default(), &mut |_| {});
    let summary = summary.expect("nothing is in its way");
    assert!(summary.problems.is_empty(), "{:?}", summary.problems);
}

/// What the remote has at `f`: whether it is executable.
fn there(station: &Station) -> Option<bool> {
    match station.shelf.open().entries.get(&path("f")) {
        Some((Entry::File(file), ..)) => Some(file.executable),
        _ => None,
    }
}

#[test]
fn a_bit_that_the_disk_does_not_keep_is_no_trouble_and_is_not_taken_back() {
    let mut station = with_executable();
    for restarted in [false, true] {
        if restarted {
            station.engine = None;
        }
        round(&mut station);
        round(&mut station);
        assert_eq!(there(&station), Some(true), "restarted: {restarted}");
    }
}

#[test]
fn an_edit_where_bits_are_not_kept_leaves_the_bit_as_it_was() {
    let mut station = with_executable();
    round(&mut station);
    station.disk.user().write("box/f", EDIT).expect("written");
    round(&mut station);
    assert!(station.shelf.holds(EDIT));
    assert_eq!(there(&station), Some(true));
}

#[test]
fn what_is_deleted_where_bits_are_not_kept_stays_deleted() {
    let mut station = with_executable();
    round(&mut station);
    station.disk.user().remove("box/f").expect("removed");
    round(&mut station);
    round(&mut station);
    assert_eq!(there(&station), None);
}

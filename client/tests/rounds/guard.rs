//! What is asked about where a mishap takes several rounds.

use super::{EDIT, Station};
use raspbox::engine::{Options, Scope, SyncError};
use raspbox_core::guard::{Allowances, Halt, LATELY};

/// What the brakes ask in a round in which somebody has said yes to so many deletions.
fn halts(station: &mut Station, deletions: usize) -> Option<Halt> {
    let options = Options {
        allow: Allowances {
            deletions,
            changes: 0,
        },
        ..Options::default()
    };
    let engine = station.engine.as_mut().expect("opened");
    match engine.round(&Scope::All, options, &mut |_| {}) {
        Ok(_) => None,
        Err(SyncError::Halt(halt)) => Some(halt),
        Err(other) => panic!("{other}"),
    }
}

fn remove(station: &Station, n: u32) {
    let name = format!("box/f{n}");
    station.disk.user().remove(&name).expect("removed");
}

/// A workstation that had 60 files and deleted 24 of them, one in each round: one more is asked about.
fn slowly_emptied() -> Station {
    let mut station = Station::new();
    for n in 0..60 {
        let name = format!("box/f{n}");
        station.disk.user().write(&name, EDIT).expect("written");
    }
    station.sync();
    station.computer.advance(2 * LATELY);
    for n in 0..24 {
        remove(&station, n);
        station.computer.advance(LATELY / 30);
        assert_eq!(halts(&mut station, 0), None, "{n}");
    }
    station
}

fn asks(halt: Option<&Halt>, now: usize, before: usize) -> bool {
    matches!(halt, Some(Halt::Deletions { deletions, lately, .. }) if (*deletions, *lately) == (now, before))
}

/// One file goes in each round, as `watch` sees a slow `rm -r`: the brakes judge the sum, and wait for an
/// answer for as long as it takes.
#[test]
fn a_slow_mishap_is_asked_about_like_a_fast_one() {
    let mut station = slowly_emptied();
    remove(&station, 24);
    for wait in [0, 1, 2] {
        station.computer.advance(wait * LATELY);
        station.engine = None;
        station.open();
        let halt = halts(&mut station, 0);
        assert!(asks(halt.as_ref(), 1, 24), "{wait}: {halt:?}");
    }
    assert_eq!(halts(&mut station, 1), None, "somebody said yes");
    remove(&station, 25);
    assert_eq!(
        halts(&mut station, 0),
        None,
        "and has looked at those before"
    );
    // What is long past is no part of anything.
    for n in 26..35 {
        remove(&station, n);
        station.computer.advance(LATELY / 4);
        assert_eq!(halts(&mut station, 0), None, "{n}");
    }
    assert_eq!(station.shelf.contents().len(), 25);
}

/// Somebody said yes to what was shown, and meanwhile it became more: nobody has looked at all of it.
#[test]
fn a_yes_to_less_than_was_asked_forgets_nothing() {
    let mut station = slowly_emptied();
    remove(&station, 24);
    remove(&station, 25);
    for yes in [0, 1, 1, 0] {
        let halt = halts(&mut station, yes);
        assert!(asks(halt.as_ref(), 2, 24), "{yes}: {halt:?}");
    }
    assert_eq!(station.shelf.contents().len(), 60 - 24);
    assert_eq!(halts(&mut station, 2), None, "somebody said yes to all");
    assert_eq!(station.shelf.contents().len(), 60 - 26);
}

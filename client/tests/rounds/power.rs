//! The power goes, the disk loses what it was given, or the client is killed, at each step of a round.

use super::{EDIT, LATER, Station, in_sync};
use raspbox_beneath::sim::{Fault, Unsynced, User};
use std::time::Duration;

/// So many files come, and the power is cut at each step.
fn cut_while_they_come(count: usize) {
    let content: Vec<u8> = (0..30_000_u32).map(|n| n.to_le_bytes()[1]).collect();
    let prepared = || {
        let station = Station::new();
        for number in 0..count {
            let name = format!("f{number}");
            station.shelf.open().put_file(&name, &content);
        }
        station.computer.advance(Duration::from_secs(600));
        station
    };
    let mut station = prepared();
    let before = station.disk.steps();
    assert!(station.round());
    let steps = station.disk.steps() - before;
    for (step, seed) in (0..steps).flat_map(|step| (0..12).map(move |seed| (step, seed))) {
        let mut station = prepared();
        station.disk.fail(station.disk.steps() + step, Fault::Die);
        station.round();
        station.crash(Unsynced::Random(seed * 10_000 + step));
        station.sync();
        let files = station.files();
        assert!(files.len() >= count, "step {step}, seed {seed}");
        let torn = files.iter().find(|(_, found)| **found != content);
        let torn = torn.map(|(name, found)| (name, found.len()));
        assert!(torn.is_none(), "step {step}, seed {seed}: {torn:?}");
    }
}

#[test]
fn what_comes_is_seen_whole_or_not_at_all() {
    cut_while_they_come(1);
    // More than are synced one by one.
    cut_while_they_come(9);
}

/// At each step of a round the kernel fails to write out what has come, and another program is told of
/// it first. What the round takes for done is whole after a power cut all the same.
fn lost_while_they_come(count: usize) {
    let prepared = || {
        in_sync(match count {
            1 => |shelved| shelved.put_file("new0", EDIT),
            _ => |shelved| {
                for n in 0..12 {
                    shelved.put_file(&format!("new{n}"), EDIT);
                }
            },
        })
    };
    let mut station = prepared();
    let before = station.disk.steps();
    assert!(station.round());
    let steps = station.disk.steps() - before;
    let mut told = 0;
    for step in 0..steps {
        let mut station = prepared();
        let disk = station.disk.clone();
        station
            .disk
            .meanwhile(station.disk.steps() + step, move || {
                disk.lose_writes();
                disk.tell_another();
            });
        let had = station.shelf.contents();
        told += u32::from(!station.round());
        station.crash(Unsynced::Dropped);
        station.sync();
        station.sync();
        assert_eq!(station.shelf.contents(), had, "step {step}");
        assert_eq!(station.files(), had, "step {step}");
    }
    assert!(told > 0, "some rounds are told of it");
}

#[test]
fn a_write_that_failed_is_told_to_the_round_whoever_heard_of_it_first() {
    lost_while_they_come(1);
    // More than are synced one by one.
    lost_while_they_come(12);
}

/// Somebody saves and syncs nothing, a round is cut short at each step and after its last, and the
/// power goes. What the remote had by then it still has, at the same place.
fn cut_at_each_step(save: fn(&User)) {
    let prepared = || {
        let station = in_sync(|_| ());
        save(&station.disk.user().careless());
        station.computer.advance(Duration::from_secs(600));
        station
    };
    let mut station = prepared();
    let before = station.disk.steps();
    assert!(station.round());
    let steps = station.disk.steps() - before;
    for (step, seed) in (0..=steps).flat_map(|step| (0..4).map(move |seed| (step, seed))) {
        let mut station = prepared();
        station.disk.fail(station.disk.steps() + step, Fault::Die);
        station.round();
        let had = station.shelf.contents();
        station.crash(match seed {
            0 => Unsynced::Dropped,
            _ => Unsynced::Random(seed * 10_000 + step),
        });
        station.sync();
        station.sync();
        let has = station.shelf.contents();
        for (path, content) in had.iter().filter(|(_, content)| *content == EDIT) {
            let now = has.get(path);
            assert_eq!(now, Some(content), "step {step}, seed {seed}: {path}");
        }
    }
}

#[test]
fn what_was_pushed_outlives_a_power_cut_here() {
    cut_at_each_step(|user| user.write("box/new", EDIT).expect("written"));
    cut_at_each_step(|user| user.write("box/f", EDIT).expect("written"));
    cut_at_each_step(|user| user.write_new_and_rename("box/f", EDIT).expect("written"));
    cut_at_each_step(|user| {
        user.mkdir("box/d/e").expect("made");
        user.write("box/d/e/f", EDIT).expect("written");
    });
    cut_at_each_step(|user| {
        user.mkdir("box/d").expect("made");
        for number in 0..12 {
            let name = format!("box/d/{number}");
            user.write(&name, EDIT).expect("written");
        }
    });
}

#[test]
fn what_both_have_outlives_a_power_cut_here() {
    let prepared = || {
        let mut station = in_sync(|shelved| shelved.put_file("g", EDIT));
        station
            .disk
            .user()
            .careless()
            .write("box/g", EDIT)
            .expect("written");
        station.computer.advance(Duration::from_secs(600));
        assert!(station.round());
        station
    };
    for unsynced in [Unsynced::Dropped, Unsynced::Random(1), Unsynced::Random(2)] {
        let mut station = prepared();
        station.crash(unsynced);
        station.sync();
        station.sync();
        let has = station.shelf.contents();
        assert_eq!(has.get("g").map(Vec::as_slice), Some(EDIT), "{unsynced:?}");
        assert_eq!(station.files().get("g").map(Vec::as_slice), Some(EDIT));
    }
}

/// Somebody does this, the client is killed at each step of the round that sends it, and then somebody saves
/// at a path of it again.
fn killed_at_each_step(act: fn(&User), again: &str) {
    let prepared = || {
        let station = in_sync(|_| ());
        act(&station.disk.user());
        station.computer.advance(Duration::from_secs(600));
        station
    };
    let mut station = prepared();
    let before = station.disk.steps();
    assert!(station.round());
    let steps = station.disk.steps() - before;
    let mut unheard = 0;
    // Nothing is sent before the last of them.
    for step in (0..=steps).rev().take(60) {
        let mut station = prepared();
        let before = station.shelf.contents();
        station.disk.fail(station.disk.steps() + step, Fault::Die);
        let whole = station.round();
        unheard += u32::from(!whole && station.shelf.contents() != before);
        station.crash(Unsynced::Kept);
        let saved = station.disk.user().write(&format!("box/{again}"), LATER);
        saved.expect("written");
        station.sync();
        station.sync();
        let files = station.files();
        let found = files.get(again).map(Vec::as_slice);
        assert_eq!(found, Some(LATER), "step {step}: {files:?}");
        assert_eq!(files, station.shelf.contents(), "step {step}");
        let copies = files.keys().filter(|name| name.contains("conflict"));
        assert_eq!(copies.count(), 0, "step {step}: {files:?}");
    }
    assert!(
        unheard > 0,
        "some were killed before they heard that it arrived"
    );
}

#[test]
fn what_arrived_unheard_of_is_no_conflict_with_what_is_saved_next() {
    killed_at_each_step(|user| user.write("box/f", EDIT).expect("written"), "f");
    killed_at_each_step(|user| user.write("box/new", EDIT).expect("written"), "new");
    killed_at_each_step(|user| user.rename("box/f", "box/g").expect("renamed"), "g");
    let in_folders = |user: &User| {
        user.mkdir("box/d/e").expect("made");
        user.write("box/d/e/f", EDIT).expect("written");
    };
    killed_at_each_step(in_folders, "d/e/f");
}

/// What somebody else saved on top of what arrived was not seen here.
#[test]
fn what_was_changed_there_since_it_arrived_is_a_conflict_all_the_same() {
    let mut station = (0..)
        .find_map(|step| {
            let mut station = in_sync(|_| ());
            station.disk.user().write("box/f", EDIT).expect("written");
            station.computer.advance(Duration::from_secs(600));
            station.disk.fail(station.disk.steps() + step, Fault::Die);
            station.round();
            station.crash(Unsynced::Kept);
            station.shelf.holds(EDIT).then_some(station)
        })
        .expect("it arrives at some step");
    station.shelf.open().put_file("f", b"somebody else's");
    station.disk.user().write("box/f", LATER).expect("written");
    station.sync();
    station.sync();
    let files = station.files();
    assert_eq!(files.len(), 2, "{files:?}");
    assert_eq!(files["f"], b"somebody else's");
    assert!(station.shelf.holds(LATER));
}

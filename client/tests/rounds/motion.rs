//! Files, and rules, that are written while a round is under way.

use super::{EDIT, Shelved, Station, in_sync, path};
use raspbox_beneath::sim::User;
use raspbox_protocol::{Entry, Mtime};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Somebody writes to the file, whatever it is called, at each step of the round that pulls this.
fn edit_at_each_step(remotely: fn(&mut Shelved)) {
    let mut station = in_sync(remotely);
    let before = station.disk.steps();
    assert!(station.round());
    let steps = station.disk.steps() - before;
    assert!(steps > 20, "{steps}");
    for step in 0..steps {
        let mut station = in_sync(remotely);
        let user = station.disk.user();
        station
            .disk
            .meanwhile(station.disk.steps() + step, move || {
                let at = ["box/f", "box/g"].into_iter().find(|at| user.exists(at));
                if let Some(at) = at {
                    user.write(at, EDIT).expect("written");
                }
            });
        assert!(station.round());
        station.sync();
        let there = station.shelf.holds(EDIT);
        assert!(there, "step {step}: {:?}", station.files());
    }
}

#[test]
fn what_is_written_while_a_file_is_moved_for_the_remote_is_an_edit() {
    edit_at_each_step(|shelved| {
        let (entry, bytes, _) = shelved.entries.remove(&path("f")).expect("there");
        shelved.put(&path("g"), entry, bytes);
    });
}

#[test]
fn what_is_written_while_a_file_gets_its_bits_is_an_edit() {
    edit_at_each_step(|shelved| {
        let (entry, bytes, _) = shelved.entries.remove(&path("f")).expect("there");
        let Entry::File(file) = entry else {
            panic!("a file")
        };
        let file = raspbox_protocol::File {
            executable: true,
            ..file
        };
        shelved.put(&path("f"), Entry::File(file), bytes);
    });
}

/// Somebody saves `.raspboxignore` in two steps, of which the second comes at each step of a round, if
/// soon enough.
fn save_rules_at_each_step(first: fn(&User)) {
    const RULES: &[u8] = b"secret\n";
    let prepared = || {
        let mut station = Station::new();
        let user = station.disk.user();
        user.write("box/.raspboxignore", RULES).expect("written");
        station.sync();
        user.write("box/secret", EDIT).expect("written");
        station.sync();
        station.computer.advance(Duration::from_secs(600));
        first(&user);
        station
    };
    let mut station = prepared();
    let before = station.disk.steps();
    assert!(station.round());
    let steps = station.disk.steps() - before;
    assert!(station.shelf.holds(EDIT), "it was meant so");
    let mut soon = 0;
    for step in 0..steps {
        let mut station = prepared();
        let (user, computer) = (station.disk.user(), station.computer.clone());
        let saved = Arc::new(Mutex::new(None));
        let (began, when) = (computer.now(), saved.clone());
        station
            .disk
            .meanwhile(station.disk.steps() + step, move || {
                user.write("box/.raspboxignore", RULES).expect("written");
                *when.lock().expect("nobody panicked") = Some(computer.now());
            });
        assert!(station.round());
        let saved: Option<Mtime> = *saved.lock().expect("nobody panicked");
        // There may be fewer steps where it never comes to be sent.
        if saved.is_some_and(|saved| saved.0 - began.0 < 90_000_000) {
            soon += 1;
            assert!(!station.shelf.holds(EDIT), "step {step}");
        }
    }
    assert!(soon > 5, "{soon} of {steps}");
}

#[test]
fn rules_that_are_being_saved_are_waited_for() {
    save_rules_at_each_step(|user| user.write("box/.raspboxignore", b"").expect("written"));
    save_rules_at_each_step(|user| user.remove("box/.raspboxignore").expect("removed"));
}

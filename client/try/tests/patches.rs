//! Large files that change a little, with real processes.

mod common;

use common::{home, names, noise, put, rot_there, set_time, synced, wait};
use raspbox_try::bed::Workstation;
use std::fs;
use std::path::PathBuf;
use std::process::Stdio;

/// Large enough to be cut, and for what stays the same to be most of it.
const LARGE_BYTES: usize = 24 << 20;

/// What is new in it.
const EDIT_BYTES: usize = 1 << 20;

/// What may travel for that: the edit, and what is cut off with it on either side.
const TRAVELS_MAX_BYTES: u64 = 4 << 20;

fn edited(content: &[u8], at: usize, seed: u64) -> Vec<u8> {
    let new = noise(seed, EDIT_BYTES);
    [&content[..at], &new, &content[at + EDIT_BYTES..]].concat()
}

/// One round; how much of what was sent travelled.
#[track_caller]
fn sent(station: &Workstation) -> u64 {
    let round = synced(station);
    assert_eq!(round.count("sent"), 1);
    round.count("sent_bytes")
}

#[test]
fn of_a_large_file_only_what_changed_travels() {
    let (home, [laptop, desktop]) = home(["laptop", "desktop"]);
    let first = noise(1, LARGE_BYTES);
    put(&laptop.folder, "disk.img", &first);
    assert_eq!(sent(&laptop), LARGE_BYTES as u64, "nothing to build on");
    synced(&desktop);
    // By who has it from the other one.
    let second = edited(&first, 7_000_000, 2);
    put(&desktop.folder, "disk.img", &second);
    let travelled = sent(&desktop);
    assert!(travelled < TRAVELS_MAX_BYTES, "{travelled} bytes");
    // By who had it first, with something put in before what stays.
    let third = [&noise(3, 4_321), &second[..], b"and an end"].concat();
    synced(&laptop);
    put(&laptop.folder, "disk.img", &third);
    let travelled = sent(&laptop);
    assert!(travelled < TRAVELS_MAX_BYTES, "{travelled} bytes");
    home.settle(&[&laptop, &desktop]);
    assert!(fs::read(desktop.folder.join("disk.img")).expect("read") == third);
    // What each replaced is a version, as ever.
    let kept = common::contents(&home.own("versions"));
    for content in [&first, &second] {
        assert!(kept.contains(&raspbox_protocol::Digest::of(content)));
    }
}

#[test]
fn where_the_base_is_spoilt_the_whole_is_sent() {
    let (home, [laptop]) = home(["laptop"]);
    let first = noise(1, LARGE_BYTES);
    put(&laptop.folder, "disk.img", &first);
    // So long ago that the journal believes what it knows of it.
    set_time(&laptop.folder.join("disk.img"), 1_000_000_000);
    sent(&laptop);
    let there = home.drive().join("disk.img");
    let mut rotten = first.clone();
    rotten[1_000_000] ^= 1;
    rot_there(&home, "disk.img", &rotten);
    let second = edited(&first, 12_000_000, 2);
    put(&laptop.folder, "disk.img", &second);
    let round = synced(&laptop);
    assert_eq!(round.count("sent"), 1);
    assert!(round.count("sent_bytes") >= LARGE_BYTES as u64);
    assert!(fs::read(there).expect("read") == second);
}

#[test]
fn a_patch_that_is_cut_leaves_the_old_content_and_goes_again() {
    let (mut home, [laptop]) = home(["laptop"]);
    let first = noise(1, LARGE_BYTES);
    put(&laptop.folder, "disk.img", &first);
    sent(&laptop);
    let second = edited(&first, 12_000_000, 2);
    put(&laptop.folder, "disk.img", &second);
    let mut command = laptop.command(&["sync"]);
    let mut child = command.stdout(Stdio::null()).spawn().expect("started");
    let staging = home.own("staging");
    wait("something to be staged", || !names(&staging).is_empty());
    home.appliance.kill().expect("killed");
    drop(child.wait());
    let there: PathBuf = home.drive().join("disk.img");
    let stands = fs::read(&there).expect("read");
    assert!(stands == first || stands == second);
    home.appliance.restart().expect("started");
    let round = synced(&laptop);
    assert!(round.count("sent_bytes") < TRAVELS_MAX_BYTES);
    assert!(fs::read(&there).expect("read") == second);
    home.settle(&[&laptop]);
}

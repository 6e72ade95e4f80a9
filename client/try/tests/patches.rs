//! Large files, with real processes: those that change a little, and those that are cut on their way.

mod common;

use common::{Home, home, names, noise, put, rot_there, set_time, synced, wait};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use raspbox_try::bed::Workstation;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

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

/// What is cut has to be longer than [`raspbox_protocol::commit::PART_MIN_BYTES`], and to take a while.
const CUT_BYTES: u64 = 192 << 20;

/// Enough of it to be worth keeping.
const COME_BYTES: u64 = 24 << 20;

/// How often something is to be cut in its middle, until it isn't over before anybody looks.
const ATTEMPTS: u64 = 20;

fn film(seed: u64) -> (String, Vec<u8>) {
    let content = noise(seed, CUT_BYTES.try_into().expect("64 bits"));
    (format!("film-{seed}.mkv"), content)
}

/// The first attempt that comes to something.
fn attempt<T>(attempt: impl FnMut(u64) -> Option<T>) -> T {
    (0..ATTEMPTS).find_map(attempt).expect("one of all")
}

/// How long the longest file in a folder is by now.
fn longest(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let lens = entries.filter_map(|entry| Some(entry.metadata().ok()?.len()));
    lens.max().unwrap_or(0)
}

/// A round in its middle: once more than so much has come into this folder. `None` where it was over before.
fn midway(station: &Workstation, folder: &Path, bytes: u64) -> Option<Child> {
    let mut command = station.command(&["sync"]);
    let mut child = command.stdout(Stdio::null()).spawn().expect("started");
    let mut over = false;
    wait("enough to have come", || {
        over = child.try_wait().expect("asked").is_some();
        over || longest(folder) > bytes
    });
    (!over).then_some(child)
}

fn end(child: &mut Child) {
    child.kill().expect("killed");
    child.wait().expect("gone");
}

/// Has a computer sent half of a film and go away. Where it will be, what it is, and how much has come.
fn half_up(home: &Home, from: &Workstation, seed: u64) -> Option<(PathBuf, Vec<u8>, u64)> {
    let (name, content) = film(seed);
    put(&from.folder, &name, &content);
    end(&mut midway(from, &home.own("staging"), COME_BYTES)?);
    let (there, parts) = (home.drive().join(&name), home.own("parts"));
    wait("it to be kept", || longest(&parts) > 0 || there.exists());
    let come = Some(longest(&parts)).filter(|come| *come > 0)?;
    assert!(!there.exists(), "it has no name yet");
    Some((there, content, come))
}

/// Has a computer fetched half of another's film when the appliance goes away. The same of that.
fn half_down(
    home: &mut Home,
    [from, to]: [&Workstation; 2],
    seed: u64,
) -> Option<(PathBuf, Vec<u8>, u64)> {
    let (name, content) = film(seed);
    put(&from.folder, &name, &content);
    synced(from);
    let staging = staging(to);
    let mut child = midway(to, &staging, COME_BYTES)?;
    home.appliance.kill().expect("killed");
    child.wait().expect("gone");
    home.appliance.restart().expect("started");
    let come = Some(longest(&staging)).filter(|come| *come > 0)?;
    Some((to.folder.join(name), content, come))
}

fn staging(station: &Workstation) -> PathBuf {
    station.folder.join(".raspbox/staging")
}

#[test]
fn a_computer_that_goes_away_goes_on_sending_where_it_was() {
    let (home, [laptop, desktop]) = home(["laptop", "desktop"]);
    attempt(|seed| {
        let (there, content, come) = half_up(&home, &laptop, seed)?;
        assert_eq!(sent(&laptop), CUT_BYTES - come);
        assert!(fs::read(there).expect("read") == content);
        assert!(names(&home.own("parts")).is_empty());
        Some(())
    });
    home.settle(&[&laptop, &desktop]);
}

#[test]
fn an_appliance_that_goes_away_goes_on_receiving_where_it_was() {
    let (mut home, [laptop]) = home(["laptop"]);
    let (staging, parts) = (home.own("staging"), home.own("parts"));
    attempt(|seed| {
        let (name, content) = film(seed);
        put(&laptop.folder, &name, &content);
        let mut child = midway(&laptop, &staging, COME_BYTES)?;
        // For longer than the appliance waits.
        let pid = Pid::from_raw(child.id().try_into().expect("a pid"));
        kill(pid, Signal::SIGSTOP).expect("stopped");
        home.appliance.stop().expect("stopped");
        end(&mut child);
        home.appliance.restart().expect("started");
        let come = Some(longest(&parts)).filter(|come| *come > 0)?;
        assert_eq!(sent(&laptop), CUT_BYTES - come);
        Some(())
    });
    home.settle(&[&laptop]);
}

#[test]
fn what_is_fetched_is_gone_on_with_whoever_goes_away() {
    let (mut home, [laptop, desktop]) = home(["laptop", "desktop"]);
    let staging = staging(&desktop);
    attempt(|seed| {
        let (there, content, first) = half_down(&mut home, [&laptop, &desktop], seed)?;
        end(&mut midway(&desktop, &staging, first)?);
        let second = Some(longest(&staging)).filter(|come| *come > 0)?;
        let round = synced(&desktop);
        assert_eq!(round.count("received_bytes"), CUT_BYTES - second);
        assert!(fs::read(there).expect("read") == content);
        assert!(names(&staging).is_empty());
        Some(())
    });
    home.settle(&[&laptop, &desktop]);
}

fn spoil(folder: &Path) {
    let name = names(folder).pop().expect("a part");
    let file = fs::File::options().write(true).open(folder.join(name));
    let mut file = file.expect("opened");
    file.write_all(b"spoilt").expect("written");
}

#[test]
fn what_somebody_did_to_it_in_between_is_noticed_and_all_comes_again() {
    let (mut home, [laptop, desktop]) = home(["laptop", "desktop"]);
    attempt(|seed| {
        let (there, content, _) = half_up(&home, &laptop, seed)?;
        spoil(&home.own("parts"));
        assert!(sent(&laptop) >= CUT_BYTES);
        assert!(fs::read(there).expect("read") == content);
        Some(())
    });
    synced(&desktop);
    attempt(|seed| {
        let stations = [&laptop, &desktop];
        let (there, content, _) = half_down(&mut home, stations, ATTEMPTS + seed)?;
        spoil(&staging(&desktop));
        assert!(synced(&desktop).count("received_bytes") >= CUT_BYTES);
        assert!(fs::read(there).expect("read") == content);
        Some(())
    });
    home.settle(&[&laptop, &desktop]);
}

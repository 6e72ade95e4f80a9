//! What is let go as it grows old, and where the drive is full; and what never is.

mod common;

use common::{Box, Faults, LONG_AGO, by, op, path};
use raspbox_protocol::commit::{Expect, Op, Outcome, Refusal};
use raspbox_protocol::{Digest, Entry, File, Mtime, RelPath};
use raspbox_store::{Options, Policy, Store, Thinned};
use std::collections::BTreeMap;
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

const HOUR_NS: i64 = 3_600_000_000_000;
const DAY_NS: i64 = 24 * HOUR_NS;

/// A week's end, after any test runs.
const START: i64 = 5_000 * 7 * DAY_NS;

/// Long enough that the clock is believed.
const LONG: Duration = Duration::from_secs(100 * 366 * 86_400);

/// A box with a clock that stands still.
struct Timed {
    my: Box,
    clock: Arc<AtomicI64>,
}

impl Timed {
    fn new() -> Timed {
        let clock = Arc::new(AtomicI64::new(START));
        let my = Box::with(faults(&clock));
        Timed { my, clock }
    }

    fn wait(&self, ns: i64) {
        self.clock.fetch_add(ns, Ordering::Relaxed);
    }

    fn now(&self) -> i64 {
        self.clock.load(Ordering::Relaxed)
    }

    fn put(&self, at: &str, content: &str) {
        self.my.put(at, content).expect("put");
    }

    fn delete(&self, at: &str) {
        self.my
            .store()
            .delete_file(&path(at), &by())
            .expect("delete");
    }

    fn thin(&self) -> Thinned {
        self.thin_after(LONG)
    }

    fn thin_after(&self, running: Duration) -> Thinned {
        let store = self.my.store();
        let thinned = store.thin(&Policy::default(), running, &mut || true);
        let thinned = thinned.expect("thinned");
        self.my.check_history();
        self.my.check_tree();
        thinned
    }

    /// The contents of a path's versions, the oldest first.
    fn versions(&self, at: &str) -> Vec<String> {
        let history = self.my.store().history(&path(at)).expect("a history");
        let text = |file: &File| {
            let open = self.my.store().read_kept(file).expect("an answer");
            open.map_or("lost".into(), |open| {
                std::io::read_to_string(open.into_std()).expect("read")
            })
        };
        let past = history.iter().filter(|past| past.ended.is_some());
        let mut versions: Vec<String> = past
            .map(|past| match &past.entry {
                Entry::File(file) => text(file),
                Entry::Folder => "folder".into(),
                Entry::Symlink(_) => "link".into(),
            })
            .collect();
        versions.reverse();
        versions
    }
}

fn faults(clock: &Arc<AtomicI64>) -> Faults {
    Faults {
        clock: Some(Arc::clone(clock)),
        ..Faults::default()
    }
}

#[test]
fn versions_are_thinned_as_they_grow_old() {
    let timed = Timed::new();
    for hour in 0..48 {
        timed.put("a", &format!("{hour}"));
        timed.wait(HOUR_NS);
    }
    timed.put("a", "now");
    timed.thin();
    let kept = timed.versions("a");
    // What stood there at both midnights, and all of the last day.
    assert_eq!(kept[..2], ["0", "24"], "{kept:?}");
    assert_eq!(kept.len(), 2 + 23, "{kept:?}");
    timed.wait(2 * DAY_NS);
    timed.thin();
    assert_eq!(timed.versions("a"), ["0", "24", "47"]);
    timed.wait(400 * DAY_NS);
    timed.thin();
    assert_eq!(timed.versions("a"), ["47"], "the last one stays");
    assert_eq!(timed.my.kept().len(), 1);
    timed.delete("a");
    timed.wait(300 * DAY_NS);
    timed.thin();
    assert_eq!(timed.versions("a"), ["now"]);
    timed.wait(100 * DAY_NS);
    let thinned = timed.thin();
    assert_eq!(timed.versions("a"), [""; 0]);
    assert_eq!((thinned.versions, thinned.bytes), (1, 3));
    assert!(timed.my.kept().is_empty());
    assert_eq!(timed.thin(), Thinned::default());
}

#[test]
fn a_time_that_was_thinned_shows_what_was_before_it() {
    let timed = Timed::new();
    let mut times = Vec::new();
    // Just before what happens next.
    let mut at = |timed: &Timed| times.push(Mtime(timed.now() - 1));
    timed.wait(HOUR_NS);
    timed.put("a", "morning");
    timed.wait(HOUR_NS);
    at(&timed);
    timed.put("a", "noon");
    timed.wait(DAY_NS);
    timed.put("a", "next day");
    timed.wait(HOUR_NS);
    timed.put("a", "next day, later");
    timed.wait(HOUR_NS);
    at(&timed);
    timed.put("a", "next day, still later");
    timed.wait(HOUR_NS);
    at(&timed);
    timed.delete("a");
    timed.wait(HOUR_NS);
    at(&timed);
    timed.put("a", "again");
    timed.wait(3 * DAY_NS);
    timed.put("a", "now");
    timed.wait(3 * DAY_NS);
    timed.thin();
    assert_eq!(timed.versions("a"), ["noon", "again"]);
    let was = |time: Mtime| match timed.my.tree_at(time).get(&path("a")) {
        Some(Entry::File(file)) => {
            let open = timed.my.store().read_kept(file).expect("an answer");
            std::io::read_to_string(open.expect("kept").into_std()).expect("read")
        }
        _ => "absent".to_owned(),
    };
    let was: Vec<String> = times.into_iter().map(was).collect();
    // It was there from the morning on: that it isn't known as what doesn't make it absent.
    assert_eq!(was, ["noon", "noon", "noon", "absent"]);
}

#[test]
fn a_clock_that_leaps_costs_nothing() {
    let timed = Timed::new();
    for hour in 0..100 {
        timed.put("a", &format!("{hour}"));
        timed.put("gone", &format!("gone {hour}"));
        timed.wait(HOUR_NS);
    }
    timed.delete("gone");
    let hour = Duration::from_secs(3600);
    timed.thin();
    let before = timed.versions("a");
    let now = timed.now();
    for leap in [now + 80 * 365 * DAY_NS, 0, -DAY_NS, i64::MAX] {
        timed.clock.store(leap, Ordering::Relaxed);
        // Ten hours at most for each.
        timed.thin_after(hour);
    }
    let after = timed.versions("a");
    assert!(after.len() + 40 >= before.len(), "{before:?}, {after:?}");
    assert_eq!(after[..3], before[..3]);
    assert!(timed.versions("gone").contains(&"gone 99".to_owned()));
    // The clock is right again, and the history goes on.
    timed.clock.store(now + HOUR_NS, Ordering::Relaxed);
    timed.put("a", "after");
    timed.my.check_history();
}

#[test]
fn a_content_stays_as_long_as_one_needs_it() {
    let timed = Timed::new();
    timed.put("a", "same");
    timed.put("b", "same");
    timed.wait(HOUR_NS);
    timed.delete("a");
    timed.wait(500 * DAY_NS);
    timed.delete("b");
    timed.thin();
    assert_eq!(timed.versions("a"), [""; 0]);
    assert_eq!(timed.versions("b"), ["same"]);
    // A move needs no copy, and what it leaves behind must not cost the file.
    timed.put("c", "moved");
    timed
        .my
        .store()
        .rename(&path("c"), &path("d"), &by())
        .expect("rename");
    assert_eq!(timed.versions("c"), ["moved"]);
    timed.wait(500 * DAY_NS);
    timed.thin();
    assert_eq!(timed.versions("c"), [""; 0]);
    assert_eq!(timed.my.on_disk("d").as_deref(), Some("moved"));
}

/// A small generator, so that a seed says it all.
struct Dice(u64);

impl Dice {
    fn up_to(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % n
    }

    fn one_of<T: Copy>(&mut self, all: &[T]) -> T {
        all[usize::try_from(self.up_to(all.len() as u64)).expect("small")]
    }
}

/// Without times of modification, which are not part of the history.
fn timeless(mut tree: BTreeMap<RelPath, Entry>) -> BTreeMap<RelPath, Entry> {
    for entry in tree.values_mut() {
        if let Entry::File(file) = entry {
            file.mtime = LONG_AGO;
        }
    }
    tree
}

#[test]
fn what_was_at_midnight_stays_whatever_happened() {
    let names = ["a", "b", "d", "d/a", "d/e", "d/e/f"];
    for seed in 1..=4_u64 {
        let mut dice = Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let timed = Timed::new();
        let store = timed.my.store();
        let mut midnights = BTreeMap::new();
        let mut last_contents = BTreeMap::new();
        // Nothing happens at midnight itself.
        timed.wait(60_000_000_000);
        for n in 0..400 {
            let wait = i64::try_from(dice.up_to(12)).expect("small") * HOUR_NS / 2;
            let midnight = (timed.now() / DAY_NS + 1) * DAY_NS;
            if timed.now() + wait >= midnight {
                midnights.insert(midnight, timeless(timed.my.entries()));
            }
            timed.wait(wait);
            let (at, to) = (path(dice.one_of(&names)), path(dice.one_of(&names)));
            match dice.up_to(10) {
                0..=4 => drop(timed.my.put(at.as_str(), &format!("{}", n % 7))),
                5 => drop(store.delete_file(&at, &by())),
                6 => drop(store.delete_folder(&at, &by())),
                7 => drop(store.make_folder(&at, &by())),
                _ => drop(store.rename(&at, &to, &by())),
            }
            if n % 100 == 99 {
                timed.thin();
            }
            for (at, entry) in timed.my.entries() {
                if let Entry::File(file) = entry {
                    last_contents.insert(at, file.digest);
                }
            }
        }
        timed.thin();
        let month_ago = timed.now() - 30 * DAY_NS;
        for (midnight, tree) in &midnights {
            if *midnight >= month_ago {
                let then = timeless(timed.my.tree_at(Mtime(*midnight)));
                assert_eq!(&then, tree, "seed {seed}, {midnight}");
                for file in then.values() {
                    if let Entry::File(file) = file {
                        let open = store.read_kept(file).expect("an answer");
                        assert!(open.is_some(), "it can be had");
                    }
                }
            }
        }
        // Nothing that was there last is gone.
        let now = timed.my.entries();
        for (at, digest) in last_contents {
            let stands = matches!(now.get(&at), Some(Entry::File(f)) if f.digest == digest);
            let history = store.history(&at).expect("a history");
            let kept = history.iter().any(|past| {
                past.kept && matches!(past.entry, Entry::File(f) if f.digest == digest)
            });
            assert!(stands || kept, "seed {seed}, {at}");
        }
    }
}

/// However many write at a time, and in however small pieces.
#[test]
fn the_floor_is_kept_however_many_write_at_once() {
    const FLOOR: u64 = 1 << 20;
    const DRIVE: u64 = 3 << 20;
    let dir = tempfile::tempdir().expect("a folder");
    let faults = Faults {
        drive_bytes: Some(DRIVE),
        ..Faults::default()
    };
    let options = Options { floor_bytes: FLOOR };
    let store = Store::open_with(dir.path(), options, faults).expect("opens");
    let mut sessions: Vec<_> = (0..4).map(|_| store.stage().expect("staged")).collect();
    let piece = [0; 10_000];
    let mut full = 0;
    while full < sessions.len() {
        full = 0;
        for staged in &mut sessions {
            full += usize::from(staged.write_all(&piece).is_err());
        }
    }
    let written: u64 = sessions.iter().map(raspbox_store::Staged::len_bytes).sum();
    let most = DRIVE - FLOOR;
    assert!(written <= most, "{written} of {most}");
    assert!(most - written < 10_000, "all but the last piece is used");
}

#[test]
fn a_drive_is_full_once_no_version_is_left_that_could_make_way() {
    let dir = tempfile::tempdir().expect("a folder");
    let faults = Faults {
        drive_bytes: Some(8 << 20),
        ..Faults::default()
    };
    let options = Options {
        floor_bytes: 2 << 20,
    };
    let store = Store::open_with(dir.path(), options, faults).expect("opens");
    let put = |at: &str, byte: u8| {
        let mut staged = store.stage().expect("staged");
        staged
            .write_all(&vec![byte; (3 << 20) - 100_000])
            .expect("there is room");
        store.put(staged, &path(at), &by()).expect("put");
    };
    put("a", 1);
    assert!(!store.is_full().expect("known"));
    put("a", 2);
    assert!(
        !store.is_full().expect("known"),
        "what was replaced makes way"
    );
    put("b", 3);
    assert!(store.is_full().expect("known"));
    store.delete_file(&path("b"), &by()).expect("deleted");
    assert!(
        !store.is_full().expect("known"),
        "what was deleted makes way"
    );
}

/// A box on a small drive, with 100 bytes in each of these files, replaced once.
fn small_drive(names: &[&str], drive_bytes: u64) -> Box {
    let mut my = Box::new();
    for (n, name) in names.iter().enumerate() {
        my.put(name, &format!("{n:0>100}")).expect("put");
    }
    for name in names {
        my.put(name, "now").expect("put");
    }
    my.open_with(Faults {
        drive_bytes: Some(drive_bytes),
        ..Faults::default()
    })
    .expect("opens");
    my
}

fn has_version(my: &Box, at: &str) -> bool {
    let history = my.store().history(&path(at)).expect("a history");
    history.iter().any(|past| past.ended.is_some() && past.kept)
}

/// Uploads so much, where a floor of nothing is free.
fn upload(my: &Box, at: &str, bytes: usize) -> bool {
    let Ok(mut staged) = my.store().stage() else {
        return false;
    };
    staged.write_all(&vec![b'x'; bytes]).is_ok() && my.store().put(staged, &path(at), &by()).is_ok()
}

#[test]
fn where_the_drive_is_full_the_oldest_go_first_and_the_last_good_ones_last() {
    // 12 bytes of files, 400 of versions.
    let my = small_drive(&["a", "b", "c", "d"], 512);
    my.store().delete_file(&path("c"), &by()).expect("delete");
    my.store().delete_file(&path("d"), &by()).expect("delete");
    assert!(upload(&my, "new", 150));
    // The oldest was that of a; but that is the last of a file that is there.
    assert!(has_version(&my, "a") && has_version(&my, "b"));
    let first = |at: &str| {
        let history = my.store().history(&path(at)).expect("a history");
        history
            .iter()
            .any(|past| matches!(past.entry, Entry::File(f) if f.size == 100))
    };
    assert!(!first("c"), "the oldest of those that may go");
    assert!(first("d"), "no more than is needed");
    my.check_history();
    assert!(upload(&my, "newer", 100));
    assert!(!first("d") && has_version(&my, "a"));
    assert!(upload(&my, "newest", 100), "room is made as a last resort");
    assert!(!has_version(&my, "a") && has_version(&my, "b"));
    assert!(!upload(&my, "too large", 10_000));
    assert!(has_version(&my, "b"), "what can't be helped costs nothing");
    my.check_history();
    my.check_tree();
}

/// Lets a kept content rot, and has that found.
fn rot_version(my: &Box, content: &str) {
    let name = Digest::of(content.as_bytes()).to_string();
    let kept = my.at(&format!(".raspbox/versions/{}/{name}", &name[..2]));
    std::fs::write(kept, content.replace('2', "?")).expect("rots");
    assert_eq!(common::scrub(my).damaged, 1);
}

#[test]
fn a_version_that_rotted_is_not_the_last_good_one() {
    let (first, second) = ("1".repeat(100), "2".repeat(100));
    let mut my = Box::new();
    for content in [&*first, &*second, "now"] {
        my.put("a", content).expect("put");
    }
    rot_version(&my, &second);
    my.open_with(Faults {
        drive_bytes: Some(303),
        ..Faults::default()
    })
    .expect("opens");
    assert!(upload(&my, "new", 120));
    assert!(my.keeps("a", &first), "the good one stays");
    let kept = my.versions();
    let second = Digest::of(second.as_bytes());
    assert!(
        !kept.contains(&(Some("a".into()), Some(second))),
        "{kept:?}"
    );
}

#[test]
fn nor_does_it_let_the_good_one_grow_too_old() {
    let timed = Timed::new();
    let second = "2".repeat(100);
    for content in ["first", &second, "now"] {
        timed.put("a", content);
        timed.wait(HOUR_NS);
    }
    rot_version(&timed.my, &second);
    timed.wait(400 * DAY_NS);
    let store = timed.my.store();
    let thinned = store.thin(&Policy::default(), LONG, &mut || true);
    assert_eq!(thinned.expect("thinned").versions, 1);
    assert_eq!(timed.versions("a"), ["first"]);
}

#[test]
fn a_file_that_rotted_is_no_good_copy_of_a_version() {
    let (first, second) = ("1".repeat(100), "2".repeat(100));
    let mut my = Box::new();
    my.put("a", &first).expect("put");
    // It is a version of `a`, and where it went it rots.
    my.put("b", &second).expect("put");
    my.store()
        .rename(&path("b"), &path("a"), &by())
        .expect("mv");
    my.store()
        .rename(&path("a"), &path("c"), &by())
        .expect("mv");
    my.put("a", "now").expect("put");
    my.store()
        .set_mtime(&path("c"), LONG_AGO, &by())
        .expect("its time");
    common::rot(&my, "c", &"?".repeat(100));
    assert_eq!(common::scrub(&my).damaged, 1);
    my.open_with(Faults {
        drive_bytes: Some(310),
        ..Faults::default()
    })
    .expect("opens");
    my.put("d", &"3".repeat(50)).expect("put");
    my.store().delete_file(&path("d"), &by()).expect("delete");
    assert!(upload(&my, "new", 100));
    assert!(my.keeps("a", &first), "there is no other good one");
}

#[test]
fn a_content_goes_with_the_last_that_needs_it() {
    let mut my = Box::new();
    for (name, content) in [("a", "1"), ("b", "2"), ("c", "1")] {
        my.put(name, &content.repeat(100)).expect("put");
    }
    for name in ["a", "b", "c"] {
        my.store().delete_file(&path(name), &by()).expect("delete");
    }
    my.open_with(Faults {
        drive_bytes: Some(220),
        ..Faults::default()
    })
    .expect("opens");
    assert!(upload(&my, "new", 50));
    let kept = |content: &str| {
        my.kept()
            .contains(&Digest::of(content.repeat(100).as_bytes()))
    };
    assert!(kept("1") && !kept("2"), "the one of c needs it");
    my.check_history();
}

fn restore(my: &Box, request: u8, at: &str, content: &str) -> Outcome {
    let version = my.tree().get(&path(at)).map(|(_, version)| *version);
    my.one(
        request,
        op(Op::Restore {
            path: path(at),
            expect: version.map_or(Expect::Absent, Expect::Version),
            file: common::file(content),
        }),
    )
}

#[test]
fn a_full_drive_is_no_trap() {
    // No room for a copy, and nothing is let go for one.
    let my = small_drive(&["a", "b"], 250);
    let (first, second) = (format!("{:0>100}", 0), format!("{:0>100}", 1));
    assert!(matches!(restore(&my, 1, "b", &second), Outcome::Done(_)));
    assert_eq!(my.on_disk("b").as_deref(), Some(&*second));
    assert!(has_version(&my, "a") && my.keeps("a", &first));
    assert!(my.keeps("b", "now"), "what it replaced");
    assert!(has_version(&my, "b"));
    my.check_history();
    my.check_tree();
    // Its version is where it stands, and is kept again when it goes.
    my.store().delete_file(&path("b"), &by()).expect("delete");
    assert!(my.keeps("b", &second));
    assert!(matches!(restore(&my, 2, "b", &second), Outcome::Done(_)));
    // A second copy needs room.
    assert_eq!(
        restore(&my, 3, "c", &second),
        Outcome::Refused(Refusal::NoSpace)
    );
    assert_eq!(
        restore(&my, 4, "a", &second),
        Outcome::Refused(Refusal::NoSpace)
    );
    assert_eq!(my.on_disk("a").as_deref(), Some("now"));
    assert_eq!(my.staged(), 0);
    my.check_history();
    // What rotted is no more restored than else.
    let name = Digest::of(first.as_bytes()).to_string();
    let kept = my.at(&format!(".raspbox/versions/{}/{name}", &name[..2]));
    std::fs::write(kept, second.as_bytes()).expect("rots");
    let refused = restore(&my, 5, "a", &first);
    assert!(
        matches!(&refused, Outcome::Refused(Refusal::Failed(why)) if why.contains("damaged")),
        "{refused:?}"
    );
    assert_eq!(my.on_disk("a").as_deref(), Some("now"));
}

#[test]
fn stopped_anywhere_thinning_loses_nothing_that_is_kept() {
    for step in 0.. {
        let clock = Arc::new(AtomicI64::new(START));
        let mut my = Box::with(faults(&clock));
        for n in 0..5 {
            my.put("a", &format!("a{n}")).expect("put");
            my.put("b", &format!("b{n}")).expect("put");
            clock.fetch_add(DAY_NS, Ordering::Relaxed);
        }
        my.store().delete_file(&path("b"), &by()).expect("delete");
        clock.fetch_add(90 * DAY_NS, Ordering::Relaxed);
        my.put("a", "now").expect("put");
        clock.fetch_add(200 * DAY_NS, Ordering::Relaxed);
        my.open_with(Faults {
            stop_at: Some(step),
            ..faults(&clock)
        })
        .expect("opens");
        let thin = |store: &Store| store.thin(&Policy::default(), LONG, &mut || true);
        let stopped =
            catch_unwind(AssertUnwindSafe(|| thin(my.store()).expect("thinned"))).is_err();
        my.open_with(faults(&clock)).expect("opens again");
        my.check_history();
        my.check_tree();
        let kept = my.kept();
        for content in ["a4", "b4"] {
            assert!(
                kept.contains(&Digest::of(content.as_bytes())),
                "step {step}"
            );
            assert!(has_version(&my, &content[..1]), "step {step}");
        }
        thin(my.store()).expect("thinned");
        my.check_history();
        if !stopped {
            assert!(step > 8, "there were steps to stop at: {step}");
            return;
        }
    }
}

#[test]
fn thinning_stops_when_it_is_told_and_goes_on() {
    let timed = Timed::new();
    for n in 0..=300 {
        timed.put("a", &format!("{n}"));
        timed.wait(HOUR_NS / 100);
    }
    timed.wait(30 * DAY_NS);
    let mut left = 3;
    let mut go_on = || {
        left -= 1;
        left > 0
    };
    let thinned = timed.my.store().thin(&Policy::default(), LONG, &mut go_on);
    let thinned = thinned.expect("thinned");
    assert!((1..200).contains(&thinned.versions), "{thinned:?}");
    timed.my.check_history();
    timed.thin();
    assert_eq!(timed.versions("a"), ["0", "299"]);
}

#[test]
fn a_box_on_a_small_drive_says_no_before_it_is_over_full() {
    let mut my = Box::new();
    my.store = None;
    let faults = Faults {
        drive_bytes: Some(1_000),
        ..Faults::default()
    };
    let store = Store::open_with(my.dir.path(), Options { floor_bytes: 100 }, faults);
    my.store = Some(store.expect("opens"));
    assert!(upload(&my, "a", 800));
    assert!(!upload(&my, "b", 200));
}

//! The power is cut at every step of everything that a store can be asked for, and again while it
//! recovers, and once more afterwards. What was acknowledged is all there then, with its time, its
//! executable bit, its row, its history and its outcome; of what was not, each path is as it was or as
//! it should be.

mod common;

use common::{by, delete, file, link, mkdir, mv, op, path, put, stream};
use raspbox_beneath::sim::{Computer, Disk, Entered, Fault, Node, Traits, Unsynced, enter};
use raspbox_protocol::commit::{CommitFrame, Expect, Op, Outcome};
use raspbox_protocol::feed::FeedFrame;
use raspbox_protocol::history::Past;
use raspbox_protocol::{Digest, Entry, Mtime, RelPath, Version};
use raspbox_store::{Faults, Options, Store, StoreError};
use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::io::Write;
use std::path::Path;

const AT: &str = "/simulated";

/// 2026-01-31 12:00 in UTC.
const NOON: Mtime = Mtime(1_769_860_800_000_000_000);

type Act = fn(&Store) -> Result<(), StoreError>;

/// Each kind of change by an ordinary client and in a commit, in small batches and large ones.
const STORY: [Act; 16] = [
    // Was there before the store was, in a folder that nothing else is changed in.
    |store| upload(store, "was/there", "mine"),
    |store| drop_ok(store.make_folder(&path("d"), &by())),
    |store| upload(store, "a", "one"),
    |store| {
        let ops = [
            put("d/b", Expect::Absent, "two"),
            link("l", Expect::Absent, "a"),
            mkdir("e"),
            put("e/c", Expect::Absent, "three"),
        ];
        commit(store, 1, &ops)
    },
    |store| upload(store, "a", "four"),
    |store| store.set_executable(&path("a"), true, &by()),
    // What it replaces is executable, and so is this one.
    |store| upload(store, "a", "five"),
    |store| store.set_mtime(&path("d/b"), common::LONG_AGO, &by()),
    |store| drop_ok(store.rename(&path("d/b"), &path("e/b"), &by())),
    |store| drop_ok(store.rename(&path("e/b"), &path("a"), &by())),
    // Enough to be made durable all at once.
    |store| {
        let at = versions(store)?;
        let ops = [
            put("a", Expect::Version(at("a")), "six"),
            delete("e/c", at("e/c")),
            mv("d", at("d"), "n"),
            link("l", Expect::Version(at("l")), "n"),
            put("n/1", Expect::Absent, "1"),
            put("n/2", Expect::Absent, "2"),
            put("n/3", Expect::Absent, "3"),
            put("n/4", Expect::Absent, "4"),
            put("n/5", Expect::Absent, "5"),
            put("n/6", Expect::Absent, "6"),
            put("n/7", Expect::Absent, "7"),
            put("n/8", Expect::Absent, "8"),
            put("n/9", Expect::Absent, "9"),
        ];
        commit(store, 2, &ops)
    },
    |store| drop_ok(store.delete_folder(&path("e"), &by())),
    |store| {
        let at = versions(store)?;
        let executable = Op::SetMeta {
            path: path("n/1"),
            expect: at("n/1"),
            mtime: common::LONG_AGO,
            executable: true,
        };
        let ops = [
            op(executable),
            delete("l", at("l")),
            mv("n/2", at("n/2"), "top"),
            put("n/3", Expect::Version(at("n/3")), "seven"),
        ];
        commit(store, 3, &ops)
    },
    |store| drop_ok(store.rename(&path("n"), &path("m"), &by())),
    |store| {
        let at = versions(store)?;
        let restore = |to: &str, expect, content: &str| {
            op(Op::Restore {
                path: path(to),
                expect,
                file: file(content),
            })
        };
        let ops = [
            restore("back", Expect::Absent, "one"),
            restore("m/4", Expect::Version(at("m/4")), "3"),
            common::patch("m/6", Expect::Version(at("m/6")), "one", "on another day"),
        ];
        commit(store, 4, &ops)
    },
    |store| drop_ok(store.delete_file(&path("m/5"), &by())),
];

/// All that somebody can see of a store and its disk.
struct Seen {
    disk: BTreeMap<String, Node>,
    rows: BTreeMap<RelPath, (Entry, Version)>,
    past: BTreeMap<RelPath, Vec<Past>>,
    kept: BTreeSet<String>,
    outcomes: Vec<Option<Vec<Outcome>>>,
}

fn drop_ok<T>(result: Result<T, StoreError>) -> Result<(), StoreError> {
    result.map(drop)
}

fn upload(store: &Store, at: &str, content: &str) -> Result<(), StoreError> {
    let mut staged = store.stage()?;
    let wrote = staged.write_all(content.as_bytes());
    wrote.map_err(|error| StoreError::NotNow(error.to_string()))?;
    drop_ok(store.put(staged, &path(at), &by()))
}

fn commit(store: &Store, n: u8, ops: &[Vec<CommitFrame>]) -> Result<(), StoreError> {
    let frames = stream(ops);
    drop_ok(store.commit(common::id(n), &by(), &|_| true, &mut &frames[..]))
}

fn rows(store: &Store) -> Result<BTreeMap<RelPath, (Entry, Version)>, StoreError> {
    let mut rows = BTreeMap::new();
    let fed = store.feed(None, &mut |frame| {
        if let FeedFrame::Entry {
            path,
            entry,
            version,
        } = frame
        {
            rows.insert(path, (entry, version));
        }
        Ok(())
    });
    fed.map_err(|error| StoreError::NotNow(format!("{error:?}")))?;
    Ok(rows)
}

/// The version of each path; one that no path has where nothing stands (a stick has no symlinks).
fn versions(store: &Store) -> Result<impl Fn(&str) -> Version + use<>, StoreError> {
    let rows = rows(store)?;
    Ok(move |at: &str| rows.get(&path(at)).map_or(Version(0), |row| row.1))
}

fn open(faults: &Faults) -> Option<Store> {
    Store::open_with(Path::new(AT), Options { floor_bytes: 0 }, faults.clone()).ok()
}

/// Tells the story until it fails, or `go_on` says so. Returns how much of it was acknowledged.
fn tell(faults: &Faults, story: &[Act], go_on: impl Fn() -> bool) -> usize {
    let Some(store) = open(faults) else { return 0 };
    let acknowledged = |act: &&Act| go_on() && act(&store).is_ok();
    story.iter().take_while(acknowledged).count()
}

/// A disk in a computer of its own: the same steps, the same times.
fn start(traits: Traits) -> (Entered, Disk) {
    let entered = enter(&Computer::new(NOON, 1));
    let disk = Disk::new(traits);
    let user = disk.user();
    let wrote = user
        .mkdir("was")
        .and_then(|()| user.write("was/there", b"yours"));
    wrote.expect("a person may write there");
    disk.mount(Path::new(AT));
    (entered, disk)
}

impl Seen {
    fn of(disk: &Disk, faults: &Faults) -> Seen {
        let store = open(faults).expect("opens");
        let rows = rows(&store).expect("a tree");
        let mut tree = disk.user().tree("");
        let own = tree.split_off(".raspbox");
        tree.extend(
            own.into_iter()
                .filter(|(at, _)| !at.starts_with(".raspbox")),
        );
        let ours = disk.user().tree(".raspbox/versions");
        let kept = ours.into_iter().filter_map(|(at, node)| match node {
            Node::File { content, .. } => {
                let (_, name) = at.split_once('/').expect("on a shelf");
                assert_eq!(name, Digest::of(&content).to_string(), "under its own hash");
                Some(name.to_owned())
            }
            Node::Folder | Node::Symlink(_) => None,
        });
        let ever = [
            "was/there",
            "a",
            "back",
            "d/b",
            "e/b",
            "e/c",
            "l",
            "m/4",
            "n/2",
            "n/3",
            "m/3",
            "m/5",
        ];
        let past = ever.map(|at| (path(at), store.history(&path(at)).expect("a history")));
        let outcome = |n| store.outcome(common::id(n)).expect("an answer");
        Seen {
            disk: tree,
            rows,
            past: past.into(),
            kept: kept.collect(),
            outcomes: (1..5).map(outcome).collect(),
        }
    }

    /// Every content that somebody could get.
    fn contents(&self) -> BTreeSet<String> {
        let files = self.disk.values().filter_map(|node| match node {
            Node::File { content, .. } => Some(Digest::of(content).to_string()),
            Node::Folder | Node::Symlink(_) => None,
        });
        self.kept.iter().cloned().chain(files).collect()
    }
}

/// What was found must be, for each key, what was there before or what comes of the next change.
fn check_each<K: Ord + Debug, V: PartialEq + Debug>(
    [before, after, found]: [&BTreeMap<K, V>; 3],
    or_else: impl Fn(&K) -> bool,
    when: &str,
) {
    let keys: BTreeSet<&K> = before
        .keys()
        .chain(after.keys())
        .chain(found.keys())
        .collect();
    for key in keys {
        let [old, new, now] = [before, after, found].map(|map| map.get(key));
        assert!(
            now == old || now == new || (old != new && or_else(key)),
            "{when}: {key:?} is {now:#?}, neither {old:#?} nor {new:#?}"
        );
    }
}

fn check_found(seen: [&Seen; 3], traits: Traits, exchanges: bool, when: &str) {
    let [before, _, found] = seen;
    let contents = found.contents();
    // Where names aren't exchanged, and renames become durable in any order, one may be gone whose
    // content was displaced already.
    let gone = |at: &String| !exchanges && !found.disk.contains_key(at);
    check_each(seen.map(|seen| &seen.disk), gone, when);
    // In a change that was cut off, what was done is journalled anew.
    check_each(seen.map(|seen| &seen.rows), |_| true, when);
    check_each(seen.map(|seen| &seen.past), |_| true, when);
    let before_all = before.contents();
    let lost: Vec<_> = before_all.difference(&contents).collect();
    assert!(lost.is_empty(), "{when}: {lost:?} is lost");
    for (n, (was, is)) in before.outcomes.iter().zip(&found.outcomes).enumerate() {
        assert!(was.is_none() || was == is, "{when}: the outcome of {n}");
    }
    for (at, node) in &found.disk {
        let row = found.rows.get(&path(at)).map(|row| &row.0);
        let fits = match (node, row) {
            (Node::Folder, Some(Entry::Folder)) => true,
            (Node::Symlink(target), Some(Entry::Symlink(there))) => target == there.as_str(),
            (
                Node::File {
                    content,
                    mtime,
                    executable,
                },
                Some(Entry::File(there)),
            ) => {
                // A stick rounds times and has no bits; the journal knows better.
                Digest::of(content) == there.digest
                    && (!traits.modes || (*mtime, *executable) == (there.mtime, there.executable))
            }
            _ => false,
        };
        assert!(fits, "{when}: {at} is {node:?}, and by its row {row:?}");
    }
    assert_eq!(found.disk.len(), found.rows.len(), "{when}");
}

fn check(faults: &Faults, traits: Traits, unsynced: impl Fn(u64) -> Unsynced) {
    check_after(Fault::Die, faults, traits, unsynced);
}

/// The same, where the power is only cut once the story has come to its end for another reason.
fn check_after(fault: Fault, faults: &Faults, traits: Traits, unsynced: impl Fn(u64) -> Unsynced) {
    let chapters: Vec<Seen> = (0..=STORY.len())
        .map(|count| {
            let (_entered, disk) = start(traits);
            assert_eq!(tell(faults, &STORY[..count], || true), count);
            Seen::of(&disk, faults)
        })
        .collect();
    let steps = {
        let (_entered, disk) = start(traits);
        tell(faults, &STORY, || true);
        disk.steps()
    };
    assert!(steps > 400, "{steps}");
    // What is kept takes its place by two renames.
    let exchanges = traits.exchange && !faults.no_copies;
    for step in 0..steps {
        let (_entered, disk) = start(traits);
        disk.fail(step, fault);
        // A call may fail and nothing come of it, but other times; then that change is compared again.
        let for_nothing = Cell::new(false);
        let go_on = || {
            let left = disk.forgive();
            left.iter().for_each(|&fault| disk.fail(step, fault));
            for_nothing.set(fault != Fault::Die && left.is_empty());
            !for_nothing.get()
        };
        let acknowledged = tell(faults, &STORY, go_on);
        let acknowledged = acknowledged.saturating_sub(for_nothing.get().into());
        disk.forgive();
        disk.crash(unsynced(step));
        disk.fail(disk.steps() + step % 97, Fault::Die);
        drop(open(faults));
        disk.forgive();
        disk.crash(unsynced(step + 1));
        let before = &chapters[acknowledged];
        let after = chapters.get(acknowledged + 1).unwrap_or(before);
        let look = |when: &str| {
            let seen = [before, after, &Seen::of(&disk, faults)];
            let when = format!("step {step}, {acknowledged} done, {when}");
            check_found(seen, traits, exchanges, &when);
        };
        look("recovered");
        // What recovery made of it stays so.
        disk.crash(unsynced(step + 2));
        look("cut once more");
    }
}

fn check_by_chance(faults: &Faults, traits: Traits, seeds: u64) {
    for seed in 0..seeds {
        check(faults, traits, |step| {
            Unsynced::Random(seed * 100_000 + step)
        });
    }
}

#[test]
fn what_was_not_synced_is_dropped() {
    check(&Faults::default(), Traits::ext4(), |_| Unsynced::Dropped);
}

#[test]
fn the_program_alone_dies() {
    check(&Faults::default(), Traits::ext4(), |_| Unsynced::Kept);
}

#[test]
fn chance_decides() {
    check_by_chance(&Faults::default(), Traits::ext4(), 2);
}

#[test]
fn on_a_stick_as_it_is_bought() {
    check(&Faults::default(), Traits::fat(), |_| Unsynced::Dropped);
    check_by_chance(&Faults::default(), Traits::fat(), 1);
}

#[test]
fn there_is_no_room_for_copies() {
    let tight = Faults {
        no_copies: true,
        ..Faults::default()
    };
    for traits in [Traits::ext4(), Traits::fat()] {
        check_by_chance(&tight, traits, 1);
    }
}

#[test]
fn a_call_fails_and_then_the_power() {
    let faults = Faults::default();
    check_after(Fault::Io, &faults, Traits::ext4(), |_| Unsynced::Dropped);
}

//! The power is cut at every step of everything that it does.

use super::{AT, Change, Files, NOON, files, mounted, open, path};
use raspbox_beneath::Top;
use raspbox_beneath::sim::{Computer, Disk, Fault, Traits, Unsynced, enter};
use raspbox_protocol::commit::{CommitFrame, Expect, Op};
use raspbox_protocol::special::{CommitSummary, RequestId};
use raspbox_protocol::wire::to_bytes;
use raspbox_protocol::{Digest, File, Version};
use raspbox_store::{By, Faults};
use std::io::Write;
use std::path::Path;

const CHANGES: [Change; 11] = [
    Change::Put("a", "one"),
    Change::Put("a", "two"),
    Change::Put("b", "three"),
    Change::Move("a", "c"),
    Change::Move("c", "b"),
    Change::Delete("b"),
    Change::Restore("b", "three"),
    Change::Restore("c", "one"),
    Change::Keep("b", "four"),
    Change::Keep("d", "five"),
    Change::Resume("e", "sixth"),
];

/// Makes the changes until one fails. Returns how many were acknowledged.
fn work(faults: &Faults) -> usize {
    let Some(store) = open(faults) else { return 0 };
    let acknowledged = |change: &&Change| change.make(&store).is_ok();
    CHANGES.iter().take_while(acknowledged).count()
}

/// Cuts the power at each step, and once more at a step of the recovery.
fn check(traits: Traits, unsynced: impl Fn(u64) -> Unsynced) {
    check_with(&Faults::default(), traits, unsynced);
}

fn check_with(faults: &Faults, traits: Traits, unsynced: impl Fn(u64) -> Unsynced) {
    let faults = &Faults {
        part_min_bytes: Some(1),
        ..faults.clone()
    };
    let _entered = enter(&Computer::new(NOON, 1));
    let whole = Disk::new(traits);
    whole.mount(Path::new(AT));
    assert_eq!(work(faults), CHANGES.len());
    assert!(whole.steps() > 200, "{}", whole.steps());
    for step in 0..whole.steps() {
        let disk = Disk::new(traits);
        disk.mount(Path::new(AT));
        disk.fail(step, Fault::Die);
        let acknowledged = work(faults);
        disk.crash(unsynced(step));
        disk.fail(disk.steps() + step % 97, Fault::Die);
        drop(open(faults));
        disk.forgive();
        disk.crash(unsynced(step + 1));

        let store = open(faults).expect("opens after a crash");
        let mut expected = Files::new();
        let mut displaced = Vec::new();
        for change in &CHANGES[..acknowledged] {
            displaced.extend(change.on(&mut expected));
        }
        let mut next = expected.clone();
        if let Some(change) = CHANGES.get(acknowledged) {
            change.on(&mut next);
        }
        let found = files(&disk);
        let kept = |content: &str| {
            let digest = Digest::of(content.as_bytes()).to_string();
            let at = format!(".raspbox/versions/{}/{digest}", &digest[..2]);
            let there = disk
                .user()
                .read(&at)
                .is_ok_and(|found| found == content.as_bytes());
            // Without room for a copy, what is restored is where its version was.
            there || (faults.no_copies && found.values().any(|found| found == content))
        };
        for content in displaced {
            assert!(kept(&content), "step {step}: {content:?} was displaced");
        }
        let whole = found == expected || found == next;
        // Without a journal a later rename may be durable and an earlier one not, so a name may be
        // gone whose content was displaced already. Then it is a version.
        let all_there = || {
            let mut expected = expected.values();
            expected.all(|content| found.values().any(|found| found == content) || kept(content))
        };
        assert!(
            whole || (!traits.exchange && all_there()),
            "step {step}: {found:?}, neither {expected:?} nor {next:?}"
        );
        drop(store);
    }
}

#[test]
fn nothing_that_was_acknowledged_is_lost_with_what_was_not_synced() {
    check(Traits::ext4(), |_| Unsynced::Dropped);
}

#[test]
fn nor_where_the_program_alone_dies() {
    check(Traits::ext4(), |_| Unsynced::Kept);
}

#[test]
fn nor_where_chance_decides() {
    for seed in 0..10 {
        check(Traits::ext4(), |step| {
            Unsynced::Random(seed * 10_000 + step)
        });
    }
}

#[test]
fn nor_on_a_stick_as_it_is_bought() {
    check(Traits::fat(), |_| Unsynced::Dropped);
    for seed in 0..10 {
        check(Traits::fat(), |step| Unsynced::Random(seed * 10_000 + step));
    }
}

#[test]
fn nor_where_a_version_is_restored_without_room_for_a_copy() {
    let tight = Faults {
        no_copies: true,
        ..Faults::default()
    };
    for traits in [Traits::ext4(), Traits::fat()] {
        check_with(&tight, traits, |_| Unsynced::Dropped);
        check_with(&tight, traits, |_| Unsynced::Kept);
        for seed in 0..3 {
            check_with(&tight, traits, |step| {
                Unsynced::Random(seed * 10_000 + step)
            });
        }
    }
}

/// Somebody copies files onto the drive, and a client sends the same before they are durable.
#[test]
fn what_is_found_done_is_durable_before_it_is_acknowledged() {
    for traits in [Traits::ext4(), Traits::fat()] {
        for count in [1, 8, 9, 20] {
            let (_entered, disk) = mounted(traits);
            let store = open(&Faults::default()).expect("opens");
            let top = Top::open(Path::new(AT)).and_then(|top| top.folder(None));
            let top = top.expect("the top");
            let mut frames = Vec::new();
            for n in 0..count {
                let (name, content) = (format!("f{n}"), format!("content {n}"));
                let mut file = top.create_file(&name, 0o644).expect("made");
                file.write_all(content.as_bytes()).expect("written");
                frames.push(CommitFrame::Op(Op::Put {
                    path: path(&name),
                    expect: Expect::Absent,
                    file: File {
                        digest: Digest::of(content.as_bytes()),
                        size: content.len() as u64,
                        mtime: NOON,
                        executable: false,
                    },
                }));
                frames.push(CommitFrame::Data(content.into_bytes()));
            }
            frames.push(CommitFrame::End { ops: count });
            let frames = to_bytes(&frames);
            let (id, by) = (RequestId([1; 16]), By("ann".into()));
            let summary = store.commit(id, &by, &|_| true, &mut &frames[..]);
            let first = Version(1);
            let done = CommitSummary::All { ops: count, first };
            assert_eq!(summary.expect("done"), done);
            let before = files(&disk);
            drop(store);
            disk.crash(Unsynced::Dropped);
            assert_eq!(files(&disk), before, "{count} files");
        }
    }
}

#[test]
fn the_same_seed_does_the_same() {
    let run = || {
        let computer = Computer::new(NOON, 7);
        let _entered = enter(&computer);
        let disk = Disk::new(Traits::ext4());
        disk.mount(Path::new(AT));
        work(&Faults::default());
        let staging = disk.user().tree(".raspbox").into_keys();
        (disk.steps(), computer.now(), staging.collect::<Vec<_>>())
    };
    assert_eq!(run(), run());
}

//! What a power cut leaves.

use crate::{AT, Bed, Numbers, write};
use raspbox_beneath::sim::{Traits, Unsynced};
use raspbox_beneath::{Rename, Top};
use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::path::Path;

fn names(bed: &Bed) -> Vec<String> {
    bed.disk.user().tree("").into_keys().collect()
}

#[test]
fn a_name_is_durable_with_its_folder_and_a_content_with_its_file() {
    let bed = Bed::new(Traits::ext4());
    let top = bed.top();
    let synced = write(&top, "synced", b"content");
    synced.sync_all().unwrap();
    write(&top, "unsynced", b"content");
    top.sync().unwrap();
    write(&top, "nameless", b"content").sync_all().unwrap();
    bed.disk.crash(Unsynced::Dropped);
    assert_eq!(names(&bed), ["synced", "unsynced"]);
    assert_eq!(bed.disk.user().read("synced").unwrap(), b"content");
    assert_eq!(bed.disk.user().read("unsynced").unwrap(), b"");
}

#[test]
fn what_was_open_before_a_crash_is_dead_after_it() {
    let bed = Bed::new(Traits::ext4());
    let top = bed.top();
    let mut file = write(&top, "a", b"content");
    bed.disk.crash(Unsynced::Kept);
    assert!(file.write(b"more").is_err());
    assert!(top.names().is_err());
    assert_eq!(bed.disk.user().read("a").unwrap(), b"content");
    assert_eq!(bed.top().names().unwrap(), ["a"]);
}

#[test]
fn a_kill_makes_nothing_durable() {
    let bed = Bed::new(Traits::ext4());
    write(&bed.top(), "a", b"content");
    bed.disk.crash(Unsynced::Kept);
    bed.disk.crash(Unsynced::Dropped);
    assert_eq!(names(&bed), [""; 0]);
}

#[test]
fn a_rename_between_folders_is_one_unit_whichever_is_synced() {
    for which in 0..2 {
        let bed = Bed::new(Traits::ext4());
        let top = bed.top();
        for folder in ["from", "to"] {
            top.make_folder(folder, 0o755).unwrap();
        }
        let folders = ["from", "to"].map(|name| top.folder_at(Path::new(name)).unwrap());
        write(&folders[0], "a", b"content");
        top.sync_filesystem().unwrap();
        folders[0]
            .rename("a", &folders[1], "b", Rename::Replace)
            .unwrap();
        folders[which].sync().unwrap();
        bed.disk.crash(Unsynced::Dropped);
        assert_eq!(names(&bed), ["from", "to", "to/b"]);
    }
}

#[test]
fn what_isnt_below_the_top_durably_is_gone() {
    let bed = Bed::new(Traits::ext4());
    let top = bed.top();
    top.make_folder("new", 0o755).unwrap();
    let new = top.folder_at(Path::new("new")).unwrap();
    write(&new, "a", b"content").sync_all().unwrap();
    new.sync().unwrap();
    bed.disk.crash(Unsynced::Dropped);
    assert_eq!(names(&bed), [""; 0]);
}

#[test]
fn an_unlinked_file_lives_while_it_is_open_and_its_inode_is_used_again() {
    let bed = Bed::new(Traits::ext4());
    let top = bed.top();
    let free = bed.disk.free();
    write(&top, "a", &[1; 10_000]);
    let inode = top.stat("a").unwrap().unwrap().inode;
    let mut open = top.open_file("a").unwrap();
    top.remove_file("a").unwrap();
    assert!(bed.disk.free() < free);
    let mut content = Vec::new();
    open.read_to_end(&mut content).unwrap();
    assert_eq!(content, [1; 10_000]);
    drop(open);
    assert_eq!(bed.disk.free(), free);
    write(&top, "b", b"");
    assert_eq!(top.stat("b").unwrap().unwrap().inode, inode);
}

/// What chance keeps of a few unsynced changes: several outcomes, each of them one that can be.
#[test]
fn chance_keeps_any_of_it_and_never_half_a_rename() {
    let mut outcomes = BTreeSet::new();
    let mut contents = BTreeSet::new();
    for seed in 0..200 {
        let bed = Bed::new(Traits::ext4());
        let top = bed.top();
        for folder in ["x", "y"] {
            top.make_folder(folder, 0o755).unwrap();
        }
        let [x, y] = ["x", "y"].map(|name| top.folder_at(Path::new(name)).unwrap());
        write(&x, "moved", b"old");
        write(&top, "kept", &[1; 9_000]);
        top.sync_filesystem().unwrap();
        x.rename("moved", &y, "moved", Rename::Replace).unwrap();
        write(&top, "new", b"");
        write(&top, "kept", &[2; 9_000]);
        bed.disk.crash(Unsynced::Random(seed));
        let found = names(&bed);
        let moved: Vec<_> = found
            .iter()
            .filter(|name| name.ends_with("moved"))
            .collect();
        assert_eq!(moved.len(), 1, "seed {seed}: {found:?}");
        let kept = bed.disk.user().read("kept").unwrap();
        assert_eq!(kept.len(), 9_000, "seed {seed}");
        contents.insert([kept[0], kept[5_000], kept[8_999]]);
        outcomes.insert(found);
    }
    assert_eq!(outcomes.len(), 4, "{outcomes:?}");
    assert_eq!(contents.len(), 8, "{contents:?}");
}

/// Many changes, syncs and crashes at random: a file that was durable once is moved about, but never
/// lost or in two places.
#[test]
fn what_was_durable_is_never_lost_or_doubled() {
    for seed in 0..3_000 {
        let bed = Bed::new(Traits::ext4());
        let mut numbers = Numbers::new(seed);
        for folder in ["p/r", "q/s"] {
            bed.disk.user().mkdir(folder).unwrap();
        }
        for file in ["file0", "p/file1"] {
            bed.disk.user().write(file, b"x").unwrap();
        }
        move_about(&mut numbers);
        bed.disk.crash(Unsynced::Random(seed));
        let found = names(&bed);
        let last = found.iter().filter_map(|path| path.rsplit('/').next());
        let mut files: Vec<&str> = last.filter(|name| name.starts_with("file")).collect();
        files.sort_unstable();
        assert_eq!(files, ["file0", "file1"], "seed {seed}: {found:?}");
    }
}

/// Makes, moves, removes and syncs folders, by handles that stay with them.
fn move_about(numbers: &mut Numbers) {
    let top = Top::open(Path::new(AT)).unwrap();
    let folders = [".", "p", "q", "p/r", "q/s"];
    let mut folders = Vec::from(folders.map(|path| top.folder_at(Path::new(path)).unwrap()));
    for number in 0..20 {
        let from = numbers.below(folders.len());
        let (from, to) = (&folders[from], numbers.one_of(&folders));
        let have = from.names().unwrap();
        let name = (!have.is_empty()).then(|| numbers.one_of(&have));
        match (numbers.below(8), name) {
            (0, _) => drop(from.sync()),
            (1, _) => {
                let name = format!("new{number}");
                if from.make_folder(&name, 0o755).is_ok() {
                    let made = from.folder_at(Path::new(&name)).unwrap();
                    folders.push(made);
                }
            }
            // Only where it is an empty folder.
            (2, Some(name)) => drop(from.remove_folder(name)),
            // Names are unique, so nothing is replaced; a folder can't go into itself.
            (_, Some(name)) => drop(from.rename(name, to, name, Rename::NoReplace)),
            (_, None) => {}
        }
    }
}

#[test]
fn the_same_seed_leaves_the_same() {
    let run = |seed| {
        let bed = Bed::new(Traits::ext4());
        let top = bed.top();
        for n in 0..20 {
            write(&top, &format!("{n}"), &[1; 10_000]);
        }
        bed.disk.crash(Unsynced::Random(seed));
        bed.disk.user().tree("")
    };
    assert_eq!(run(5), run(5));
    assert_ne!(run(5), run(6));
}

#[test]
fn what_is_put_back_from_a_backup_is_as_it_was_and_durable() {
    let bed = Bed::new(Traits::ext4());
    let user = bed.disk.user();
    user.mkdir("a/b").unwrap();
    user.write("a/b/c", b"old").unwrap();
    user.set_executable("a/b/c", true).unwrap();
    let before = user.tree("a");
    let saved = bed.disk.save("a");
    user.write("a/b/c", b"new").unwrap();
    user.remove_all("a/b").unwrap();
    bed.disk.restore("a", &saved).unwrap();
    bed.disk.crash(Unsynced::Dropped);
    assert_eq!(user.tree("a"), before);
    bed.disk.restore("a", &bed.disk.save("nothing")).unwrap();
    assert!(!user.exists("a"));
}

#[test]
fn a_copy_of_a_disk_goes_its_own_way() {
    let bed = Bed::new(Traits::ext4());
    write(&bed.top(), "a", b"old");
    let copy = bed.disk.copy();
    write(&bed.top(), "a", b"new");
    assert_eq!(copy.user().read("a").unwrap(), b"old");
    copy.crash(Unsynced::Dropped);
    assert!(!copy.user().exists("a"));
    assert_eq!(bed.disk.user().read("a").unwrap(), b"new");
}

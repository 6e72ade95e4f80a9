//! Faults, rights, space, kinds of filesystems, and the computer.

use crate::{AT, Bed, NOON, write};
use raspbox_beneath::sim::{Disk, Fault, Traits, Unsynced};
use raspbox_beneath::{Rename, Top, now, pause, random, uptime};
use raspbox_protocol::Mtime;
use std::io::{ErrorKind, Write};
use std::path::Path;
use std::time::Duration;

#[test]
fn a_fault_hits_once_and_only_what_can_have_it() {
    let bed = Bed::new(Traits::ext4());
    let top = bed.top();
    bed.disk.fail(bed.disk.steps(), Fault::NoSpace);
    assert!(top.names().is_ok());
    let error = top.create_file("a", 0o644).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::StorageFull);
    let mut file = top.create_file("a", 0o644).unwrap();
    bed.disk.fail(bed.disk.steps() + 1, Fault::Io);
    file.write_all(b"x").unwrap();
    assert!(file.sync_all().is_err());
    file.sync_all().unwrap();
    bed.disk.fail(0, Fault::TooManyFiles);
    file.write_all(b"x").unwrap();
    let error = top.open_file("a").unwrap_err();
    assert_eq!(error.raw_os_error(), Some(24));
}

#[test]
fn the_dead_answer_nothing_until_they_are_started_again() {
    let bed = Bed::new(Traits::ext4());
    let top = bed.top();
    let mut file = write(&top, "a", &[1; 100]);
    file.sync_all().unwrap();
    top.sync().unwrap();
    bed.disk.fail(bed.disk.steps(), Fault::Torn);
    assert!(file.write_all(&[2; 100]).is_err());
    assert!(bed.disk.is_dead());
    assert!(top.stat("a").is_err() && Top::open(Path::new(AT)).is_err());
    bed.disk.crash(Unsynced::Kept);
    let found = bed.disk.user().read("a").unwrap();
    assert_eq!(found, [[1; 100].as_slice(), &[2; 50]].concat());
}

#[test]
fn a_disk_that_is_pulled_out_answers_again_when_it_is_back() {
    let bed = Bed::new(Traits::ext4());
    let top = bed.top();
    bed.disk.detach(true);
    assert!(top.names().is_err());
    let error = Top::open(Path::new(AT)).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(19));
    bed.disk.user().write("a", b"elsewhere").unwrap();
    bed.disk.detach(false);
    assert_eq!(bed.top().names().unwrap(), ["a"]);
}

#[test]
fn what_may_not_be_read_is_denied_to_the_program_and_not_to_the_user() {
    let bed = Bed::new(Traits::ext4());
    let user = bed.disk.user();
    user.mkdir("secret").unwrap();
    user.write("secret/a", b"x").unwrap();
    user.write("b", b"x").unwrap();
    bed.disk.deny("secret", true);
    bed.disk.deny("b", true);
    let top = bed.top();
    let secret = top.folder_at(Path::new("secret")).unwrap();
    for error in [
        secret.names().unwrap_err(),
        secret.stat("a").unwrap_err(),
        top.open_file("b").unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::PermissionDenied);
    }
    assert!(top.stat("b").unwrap().is_some());
    assert_eq!(user.read("secret/a").unwrap(), b"x");
    bed.disk.deny("b", false);
    assert!(top.open_file("b").is_ok());
}

#[test]
fn a_full_disk_takes_what_fits() {
    let bed = Bed::new(Traits {
        size_bytes: 10 * 4096,
        ..Traits::ext4()
    });
    let top = bed.top();
    let mut file = top.create_file("a", 0o644).unwrap();
    let error = file.write_all(&[0; 100_000]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::StorageFull);
    assert_eq!(bed.disk.free(), 0);
    assert_eq!(top.filesystem().unwrap().free_bytes, 0);
    drop(file);
    top.remove_file("a").unwrap();
    assert_eq!(bed.disk.free(), 9 * 4096);
}

#[test]
fn fat_is_fat() {
    let bed = Bed::new(Traits::fat());
    let top = bed.top();
    write(&top, "Name", b"x");
    assert!(top.stat("nAME").unwrap().is_some());
    assert_eq!(top.names().unwrap(), ["Name"]);
    let refused = |result: std::io::Result<()>| result.unwrap_err().kind();
    assert_eq!(
        refused(top.make_folder("a:b", 0o755)),
        ErrorKind::InvalidInput
    );
    assert_eq!(
        refused(top.make_symlink("x".as_ref(), "link")),
        ErrorKind::PermissionDenied
    );
    assert_eq!(
        refused(top.set_mode("Name", 0o755)),
        ErrorKind::PermissionDenied
    );
    for how in [Rename::NoReplace, Rename::Exchange] {
        write(&top, "other", b"");
        let to = if how == Rename::Exchange {
            "other"
        } else {
            "free"
        };
        assert_eq!(
            refused(top.rename("Name", &top, to, how)),
            ErrorKind::InvalidInput
        );
    }
    top.set_mtime("Name", Mtime(5_999_999_999)).unwrap();
    let stat = top.stat("name").unwrap().unwrap();
    assert_eq!(stat.mtime, Mtime(4_000_000_000));
    assert_eq!(stat.ctime.0 % 2_000_000_000, 0);
    bed.disk.crash(Unsynced::Kept);
    bed.disk.mount(Path::new(AT));
    let again = bed.top().stat("name").unwrap().unwrap();
    assert_ne!(again.inode, stat.inode);
}

#[test]
fn a_name_is_found_by_either_form_where_it_is_kept_decomposed() {
    let bed = Bed::new(Traits::hfs_plus());
    let top = bed.top();
    write(&top, "\u{e4}", b"x");
    assert_eq!(top.names().unwrap(), ["a\u{308}"]);
    assert!(top.stat("\u{e4}").unwrap().is_some());
    assert!(top.stat("a\u{308}").unwrap().is_some());
}

#[test]
fn time_passes_as_it_is_told() {
    let bed = Bed::new(Traits::ext4());
    bed.computer.set_step(Duration::ZERO);
    assert_eq!(now(), NOON);
    pause(Duration::from_secs(1));
    assert_eq!(now(), Mtime(NOON.0 + 1_000_000_000));
    write(&bed.top(), "a", b"");
    assert_eq!(bed.top().stat("a").unwrap().unwrap().mtime, now());
    bed.computer.set_now(Mtime(0));
    assert_eq!((now(), uptime()), (Mtime(0), Duration::from_secs(1)));
    let (first, second) = (random(), random());
    assert_ne!(first, second);
    drop(bed);
    let _bed = Bed::new(Traits::ext4());
    assert_eq!(random(), first);
}

#[test]
fn disks_are_found_by_the_longest_path() {
    let bed = Bed::new(Traits::ext4());
    let inner = Disk::new(Traits::ext4());
    let at = Path::new(AT).join("inner");
    inner.mount(&at);
    inner.user().write("a", b"").unwrap();
    assert_eq!(
        Top::open(&at)
            .unwrap()
            .folder(None)
            .unwrap()
            .names()
            .unwrap(),
        ["a"]
    );
    assert_eq!(bed.top().names().unwrap(), [""; 0]);
    let [here, there] = [bed.top(), Top::open(&at).unwrap().folder(None).unwrap()];
    let error = there.rename("a", &here, "a", Rename::Replace).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::CrossesDevices);
    raspbox_beneath::sim::unmount(&at);
    assert!(Top::open(&at).is_err());
}

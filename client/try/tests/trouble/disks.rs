//! A side that can't take it: a disk that is full, or read-only.

use crate::common::{
    home, names, noise, output, program, put, round, stands, synced, temp_dir, users_names,
};
use raspbox_try::bed::{Appliance, Workstation};
use raspbox_try::tree;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A filesystem in memory, gone again with the value.
struct Mount(PathBuf);

impl Mount {
    /// `None`, said loudly, where one may not mount.
    fn new(at: &Path, len_mib: u32) -> Option<Mount> {
        fs::create_dir_all(at).expect("a mount point");
        if !nix::unistd::geteuid().is_root() {
            eprintln!("SKIPPED: only root may mount a filesystem to fill up");
            return None;
        }
        mount(
            &[
                "-t",
                "tmpfs",
                "-o",
                &format!("size={len_mib}m,mode=755"),
                "tmpfs",
            ],
            at,
        );
        Some(Mount(at.to_owned()))
    }

    fn remount(&self, options: &str) {
        mount(&["-o", &format!("remount,{options}")], &self.0);
    }
}

#[track_caller]
fn mount(args: &[&str], at: &Path) {
    let done = output(Command::new("mount").args(args).arg(at));
    assert!(
        done.status.success(),
        "mount {args:?}: {}",
        String::from_utf8_lossy(&done.stderr)
    );
}

impl Drop for Mount {
    fn drop(&mut self) {
        drop(Command::new("umount").arg("--lazy").arg(&self.0).status());
    }
}

#[test]
fn a_full_disk_here_is_said_and_the_other_files_come() {
    let (home, [laptop]) = home(["laptop"]);
    let desktop = home.unpaired("desktop");
    let Some(disk) = Mount::new(&desktop.folder, 4) else {
        return;
    };
    desktop.pair(&home.appliance).expect("paired");
    put(&laptop.folder, "a small one", "small");
    put(&laptop.folder, "large", noise(1, 6 << 20));
    put(&laptop.folder, "z small one", "small");
    synced(&laptop);
    let full = round(&desktop);
    assert_eq!(full.code, 1, "{full:#?}");
    full.says(&["large", "the disk of this computer is full"]);
    assert_eq!(users_names(&desktop.folder), ["a small one", "z small one"]);
    assert_eq!(
        names(&desktop.folder.join(".raspbox/staging")),
        [""; 0],
        "it takes no room"
    );
    // What is made here in spite of it still goes up.
    put(&desktop.folder, "from the desktop", "small");
    assert_eq!(round(&desktop).code, 1);
    assert!(stands(&home.drive(), "from the desktop"));
    disk.remount("size=32m");
    home.settle(&[&desktop, &laptop]);
    assert_eq!(users_names(&desktop.folder).len(), 4);
}

#[test]
fn a_full_drive_is_said_and_the_other_files_go() {
    let dir = temp_dir();
    let Some(disk) = Mount::new(&dir.path().join("drive"), 4) else {
        return;
    };
    let config = dir.path().join("config.toml");
    fs::write(&config, "keep_free_mib = 0\n").expect("a config");
    let extra = ["--config", config.to_str().expect("UTF-8")];
    let appliance = Appliance::start_with(program(), dir.path(), &extra).expect("an appliance");
    let laptop = Workstation::new(program(), dir.path(), "laptop");
    laptop.pair(&appliance).expect("paired");
    put(&laptop.folder, "a small one", "small");
    put(&laptop.folder, "large", noise(1, 6 << 20));
    put(&laptop.folder, "z small one", "small");
    let full = round(&laptop);
    assert_eq!(full.code, 1, "{full:#?}");
    full.says(&["large", "full"]);
    assert_eq!(
        users_names(&appliance.drive()),
        ["a small one", "z small one"]
    );
    // Deleting makes room even then.
    fs::remove_file(laptop.folder.join("a small one")).expect("remove");
    assert_eq!(round(&laptop).code, 1);
    assert!(!stands(&appliance.drive(), "a small one"));
    disk.remount("size=32m");
    synced(&laptop);
    tree::compare(&laptop.folder, &appliance.drive()).expect("the same");
    drop(appliance);
}

#[test]
fn a_read_only_folder_is_said_and_what_is_in_it_still_goes_up() {
    let (home, [laptop]) = home(["laptop"]);
    let desktop = home.unpaired("desktop");
    let Some(disk) = Mount::new(&desktop.folder, 4) else {
        return;
    };
    desktop.pair(&home.appliance).expect("paired");
    synced(&desktop);
    put(&desktop.folder, "from the desktop", "here");
    put(&laptop.folder, "from the laptop", "there");
    synced(&laptop);
    disk.remount("ro");
    let read_only = round(&desktop);
    assert_eq!(read_only.code, 1, "{read_only:#?}");
    read_only.says(&["from the laptop", "read-only"]);
    assert!(stands(&home.drive(), "from the desktop"), "{read_only:#?}");
    disk.remount("rw");
    home.settle(&[&desktop, &laptop]);
    assert!(stands(&desktop.folder, "from the laptop"));
}

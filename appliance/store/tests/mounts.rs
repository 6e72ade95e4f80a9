//! On filesystems of their own. Needs root and loop devices, so not run by itself:
//! `cargo test --test mounts -- --ignored --test-threads=1`.

mod common;

use common::{Box, by, mv, path, put};
use raspbox_protocol::commit::{Expect, Outcome, Refusal};
use raspbox_store::{Store, StoreError};
use std::io::Write;
use std::path::Path;
use std::process::Command;
use tempfile::TempDir;

/// A filesystem in a file, mounted as long as this lives.
struct Mounted {
    image: TempDir,
    at: TempDir,
}

impl Mounted {
    fn ext4(options: &[&str], size: &str) -> Mounted {
        let mounted = Mounted {
            image: tempfile::tempdir().expect("temp dir"),
            at: tempfile::tempdir().expect("temp dir"),
        };
        let image = mounted.image.path().join("image");
        run("truncate", &["-s", size, text(&image)]);
        run("mkfs.ext4", &[options, &["-q", text(&image)]].concat());
        run(
            "mount",
            &["-o", "loop", text(&image), text(mounted.at.path())],
        );
        mounted
    }

    fn open(&self) -> Box {
        let mut my = Box::new();
        my.close();
        my.dir = tempfile::Builder::new()
            .tempdir_in(self.at.path())
            .expect("a folder");
        my
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount")
            .arg("-l")
            .arg(self.at.path())
            .status();
    }
}

fn run(program: &str, arguments: &[&str]) {
    let status = Command::new(program)
        .args(arguments)
        .status()
        .expect("runs");
    assert!(status.success(), "{program} {arguments:?}");
}

fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

#[test]
#[ignore = "needs root"]
fn a_drive_that_fails_is_not_now_and_loses_nothing() {
    let mounted = Mounted::ext4(&[], "64M");
    let mut my = mounted.open();
    my.reopen();
    my.put("a", "one").expect("put");
    let mut staged = my.store().stage().expect("stage");
    staged.write_all(b"two").expect("write");
    // What pulling the drive does to ext4: EXT4_IOC_SHUTDOWN without writing anything more.
    let shutdown = "import fcntl,os,struct,sys; \
                    fcntl.ioctl(os.open(sys.argv[1], 0), 0x8004587d, struct.pack('I', 2))";
    run("python3", &["-c", shutdown, text(mounted.at.path())]);
    let put = my.store().put(staged, &path("a"), &by());
    assert!(matches!(put, Err(StoreError::NotNow(_))), "{put:?}");
    assert!(matches!(my.store().stage(), Err(StoreError::NotNow(_))));
    let made = my.store().make_folder(&path("d"), &by());
    assert!(matches!(made, Err(StoreError::NotNow(_))), "{made:?}");
    my.close();
    run("umount", &[text(mounted.at.path())]);
    let image = mounted.image.path().join("image");
    run(
        "mount",
        &["-o", "loop", text(&image), text(mounted.at.path())],
    );
    my.reopen();
    assert_eq!(my.on_disk("a").as_deref(), Some("one"));
    my.check_tree();
    my.close();
}

#[test]
#[ignore = "needs root"]
fn a_drive_that_is_full_says_so_and_lets_go_of_versions() {
    let mounted = Mounted::ext4(&[], "64M");
    let mut my = mounted.open();
    let floor_bytes = 8 << 20;
    let options = raspbox_store::Options { floor_bytes };
    my.store = Some(Store::open(my.dir.path(), options).expect("opens"));
    let half = |n: char| n.to_string().repeat(15 << 20);
    my.put("a", &half('1')).expect("put");
    my.put("a", &half('2')).expect("put");
    assert!(my.keeps("a", &half('1')));
    // The first one has to go for this; it is the oldest version.
    my.put("b", &half('3')).expect("put");
    assert!(my.versions().is_empty());
    let mut staged = my.store().stage().expect("stage");
    let written = (0..40).try_for_each(|_| staged.write_all(&vec![0; 1 << 20]));
    let error = written.expect_err("it is full");
    assert_eq!(error.kind(), std::io::ErrorKind::StorageFull);
    drop(staged);
    assert_eq!(my.on_disk("a"), Some(half('2')));
    my.check_tree();
    my.close();
}

#[test]
#[ignore = "needs root and a kernel with casefold"]
fn a_name_that_differs_in_case_only_is_refused_where_it_would_be_the_same() {
    let mounted = Mounted::ext4(&["-O", "casefold"], "64M");
    let folder = mounted.at.path().join("folder");
    std::fs::create_dir(&folder).expect("mkdir");
    run("chattr", &["+F", text(&folder)]);
    let mut my = Box::new();
    my.close();
    my.dir = tempfile::Builder::new()
        .tempdir_in(&folder)
        .expect("a folder");
    my.reopen();
    assert!(
        !my.store()
            .info(common::LONG_AGO, true)
            .expect("info")
            .holds
            .case_sensitive
    );
    let a = my.put("name", "one").expect("put");
    let clash = my.one(1, put("NAME", Expect::Absent, "two"));
    assert!(
        matches!(clash, Outcome::Refused(Refusal::Name(_))),
        "{clash:?}"
    );
    assert!(matches!(
        my.put("Name", "two"),
        Err(StoreError::CannotHold { .. })
    ));
    my.store().make_folder(&path("d"), &by()).expect("mkdir");
    let clash = my.one(2, put("D/x", Expect::Absent, "two"));
    assert!(
        matches!(clash, Outcome::Refused(Refusal::Name(_))),
        "{clash:?}"
    );
    assert!(matches!(
        my.store().make_folder(&path("D"), &by()),
        Err(StoreError::CannotHold { .. })
    ));
    let spelled = my.one(3, mv("name", a, "NAME"));
    assert!(matches!(spelled, Outcome::Done(_)), "{spelled:?}");
    my.check_tree();
    assert_eq!(my.on_disk("NAME").as_deref(), Some("one"));
    let old = my.one(4, put("name", Expect::Absent, "x"));
    assert!(matches!(old, Outcome::Refused(Refusal::Name(_))), "{old:?}");
    my.close();
}

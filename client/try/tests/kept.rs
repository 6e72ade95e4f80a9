//! Somebody writes on the drive itself: what was there before comes from whoever still has it.

mod common;

use common::{Home, contents, home, output, put, round, stands, synced, text};
use raspbox_protocol::Digest;
use raspbox_try::bed::Workstation;
use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

/// Somebody has the drive in another computer.
fn on_the_drive(home: &mut Home, act: impl FnOnce(&Path)) {
    home.appliance.stop().expect("stopped");
    act(&home.drive());
    home.appliance.restart().expect("started again");
}

#[track_caller]
fn said(station: &Workstation, args: &[&str]) -> String {
    let output = output(station.command(args).current_dir(&station.folder));
    let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success(), "{args:?}: {text}");
    text
}

#[test]
fn what_was_overwritten_and_deleted_on_the_drive_comes_back() {
    let (mut home, [laptop, desktop]) = home(["laptop", "desktop"]);
    put(&laptop.folder, "letter.txt", "Dear Ann");
    put(&laptop.folder, "notes/a.txt", "buy bread");
    put(&laptop.folder, "notes/deep/b.txt", "buy milk");
    put(&laptop.folder, "photo", "light");
    put(&laptop.folder, "stays", "as it is");
    home.settle(&[&laptop, &desktop]);
    let before = contents(&home.drive());
    on_the_drive(&mut home, |drive| {
        fs::write(drive.join("letter.txt"), "ruined").expect("written");
        fs::remove_dir_all(drive.join("notes")).expect("removed");
        fs::remove_file(drive.join("photo")).expect("removed");
        put(drive, "photo/of a day", "more light");
    });
    let kept = home.own("versions");
    assert!(!contents(&kept).contains(&Digest::of(b"Dear Ann")));

    // The first one brings what the appliance doesn't have, the second one has nothing to bring.
    let first = synced(&laptop);
    let lost = ["Dear Ann", "buy bread", "buy milk", "light"];
    let bytes: usize = lost.iter().map(|content| content.len()).sum();
    assert_eq!(first.count("sent_bytes"), bytes as u64, "{first:#?}");
    assert_eq!(synced(&desktop).count("sent_bytes"), 0);
    home.settle(&[&laptop, &desktop]);
    assert_eq!(
        text(&desktop.folder, "letter.txt").as_deref(),
        Some("ruined")
    );
    assert!(!stands(&desktop.folder, "notes"));
    for content in lost {
        let digest = Digest::of(content.as_bytes());
        assert!(contents(&kept).contains(&digest), "{content}");
    }

    // Whose it was is still known.
    let history = said(&desktop, &["history", "letter.txt"]);
    assert!(history.contains("laptop"), "{history}");
    said(&desktop, &["restore", "letter.txt"]);
    said(&desktop, &["restore", "notes/a.txt"]);
    said(&desktop, &["restore", "notes/deep/b.txt"]);
    home.settle(&[&laptop, &desktop]);
    for folder in [&laptop.folder, &desktop.folder] {
        assert_eq!(text(folder, "letter.txt").as_deref(), Some("Dear Ann"));
        assert_eq!(text(folder, "notes/a.txt").as_deref(), Some("buy bread"));
        assert_eq!(
            text(folder, "notes/deep/b.txt").as_deref(),
            Some("buy milk")
        );
    }
    let mut everything = contents(&home.drive());
    everything.extend(contents(&kept));
    assert!(everything.is_superset(&before));
}

#[test]
fn many_at_once_are_asked_for_in_one_list() {
    const FILES: usize = 500;
    let (mut home, [laptop, desktop]) = home(["laptop", "desktop"]);
    let (name, content) = (
        |n: usize| format!("d{}/{n}", n % 7),
        |n| format!("content {n}"),
    );
    for n in 0..FILES {
        put(&laptop.folder, &name(n), content(n));
    }
    home.settle(&[&laptop, &desktop]);
    // All of it together is less than what the brakes would ask about, and more than goes into one line.
    let (deleted, replaced) = (0..60, 60..130);
    on_the_drive(&mut home, |drive| {
        for n in deleted.clone() {
            fs::remove_file(drive.join(name(n))).expect("removed");
        }
        for n in replaced.clone() {
            fs::write(drive.join(name(n)), "noise").expect("written");
        }
    });
    home.settle(&[&desktop, &laptop]);
    let kept = contents(&home.own("versions"));
    for n in deleted.chain(replaced) {
        assert!(kept.contains(&Digest::of(content(n).as_bytes())), "{n}");
    }
    // What is displaced through the appliance is kept by it, and needn't come again.
    for n in 200..300 {
        put(&laptop.folder, &name(n), "again");
    }
    synced(&laptop);
    assert_eq!(synced(&desktop).count("sent_bytes"), 0);
    home.settle(&[&desktop, &laptop]);
}

#[test]
fn an_account_that_only_reads_follows() {
    let (mut home, [laptop]) = home(["laptop"]);
    put(&laptop.folder, "a", "one");
    synced(&laptop);
    let mut child = Command::new(common::program())
        .args(["as-raspboxd", "user", "set", "reader", "--password-stdin"])
        .args(["--permissions", "elr", "--state"])
        .arg(home.dir().join("appliance"))
        .stdin(Stdio::piped())
        .spawn()
        .expect("started");
    let mut stdin = child.stdin.take().expect("it is piped");
    writeln!(stdin, "secret").expect("told");
    drop(stdin);
    assert!(child.wait().expect("ended").success());
    let reader = home.unpaired("reader");
    let target = format!("127.0.0.1:{}", home.appliance.port);
    let print = home.appliance.fingerprint.clone();
    // The daemon looks for new accounts once a second.
    common::wait("the account to be known", || {
        let more = ["--user", "reader", "--fingerprint", &print];
        reader.pair_with(&target, "secret", &more).is_ok()
    });
    synced(&reader);
    on_the_drive(&mut home, |drive| {
        fs::write(drive.join("a"), "two").expect("written");
    });
    let followed = round(&reader);
    assert_eq!((followed.code, followed.count("sent_bytes")), (0, 0));
    assert_eq!(text(&reader.folder, "a").as_deref(), Some("two"));
    // Who may write still has it, and brings it.
    synced(&laptop);
    assert!(contents(&home.own("versions")).contains(&Digest::of(b"one")));
}

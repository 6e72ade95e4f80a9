//! Going back: what a file was, and a whole folder as it was before the mishap, with real processes.

mod common;

use common::{
    Home, Round, contents, home, names, noise, output, put, round, round_with, set_time, stands,
    synced, text, users_names,
};
use raspbox_try::bed::{Appliance, Workstation};
use raspbox_try::tree;
use std::fs;
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{SystemTime, UNIX_EPOCH};

/// This moment, exactly: between two changes there is always more than a nanosecond.
fn moment() -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("now");
    format!("@{}.{:09}", now.as_secs(), now.subsec_nanos())
}

/// Runs a command in the synced folder; its output and its exit code.
fn said(station: &Workstation, args: &[&str]) -> (String, i32) {
    let mut command = station.command(args);
    let Output {
        status,
        stdout,
        stderr,
    } = output(command.current_dir(&station.folder));
    let text = String::from_utf8_lossy(&[stdout, stderr].concat()).into_owned();
    (text, status.code().unwrap_or(-1))
}

#[track_caller]
fn good(station: &Workstation, args: &[&str]) -> String {
    let (text, code) = said(station, args);
    assert_eq!(code, 0, "{args:?}: {text}");
    text
}

#[track_caller]
fn refused(station: &Workstation, args: &[&str], code: i32, words: &[&str]) {
    let (text, found) = said(station, args);
    assert_eq!(found, code, "{args:?}: {text}");
    for word in words {
        assert!(text.contains(word), "{args:?}: no {word:?} in {text}");
    }
}

/// Adds an account to the appliance; its password is "secret".
fn add_user(home: &Home, name: &str, permissions: &str) {
    let mut child = Command::new(common::program())
        .args(["as-raspboxd", "user", "set", name, "--password-stdin"])
        .args(["--permissions", permissions, "--state"])
        .arg(home.dir().join("appliance"))
        .stdin(Stdio::piped())
        .spawn()
        .expect("started");
    let mut stdin = child.stdin.take().expect("it is piped");
    writeln!(stdin, "secret").expect("told");
    drop(stdin);
    assert!(child.wait().expect("ended").success());
}

/// The command that a restore says to undo it with.
fn undo(text: &str) -> Vec<String> {
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("undo with: raspbox "));
    let line = line.unwrap_or_else(|| panic!("nothing to undo in {text}"));
    let line = line.split("  (").next().expect("the command");
    // Paths in tests have no quotes in them, but may have blanks.
    let mut words = Vec::new();
    for (n, part) in line.split('\'').enumerate() {
        if n % 2 == 1 {
            words.push(part.to_owned());
        } else {
            words.extend(part.split_whitespace().map(Into::into));
        }
    }
    words
}

/// What malware does: every file's content becomes noise, and its name another.
fn ransom(folder: &Path) -> usize {
    let files: Vec<_> = tree::read(folder).expect("a tree").into_iter().collect();
    let mut count = 0;
    for (n, (path, entry)) in files.into_iter().enumerate() {
        let tree::Entry::File(len, ..) = entry else {
            continue;
        };
        if path.starts_with(".raspbox") {
            continue;
        }
        let path = folder.join(path);
        let len = usize::try_from(len).expect("small") + 16;
        fs::write(&path, noise(n as u64 + 1_000_000, len)).expect("encrypted");
        let mut locked = path.clone().into_os_string();
        locked.push(".locked");
        fs::rename(&path, locked).expect("renamed");
        count += 1;
    }
    put(folder, "READ_ME.txt", "Pay!");
    count
}

#[test]
fn everything_comes_back_after_a_ransom() {
    const FILES: usize = 5_000;
    let (home, [laptop, desktop]) = home(["laptop", "desktop"]);
    for n in 0..FILES {
        let folder = format!("d{}/e {}", n % 50, n % 7);
        let content = noise(n as u64, 40 + n * 37 % 9_000);
        put(&laptop.folder, &format!("{folder}/file {n}.bin"), content);
    }
    fs::create_dir_all(laptop.folder.join("empty/in empty")).expect("folders");
    put(&laptop.folder, "run.sh", "#!/bin/sh\n");
    let mode = fs::Permissions::from_mode(0o755);
    fs::set_permissions(laptop.folder.join("run.sh"), mode).expect("chmod");
    set_time(&laptop.folder.join("run.sh"), 1_000_000_007);
    symlink("run.sh", laptop.folder.join("link")).expect("a symlink");
    // One file's content twice, one without content, and one that was edited before.
    put(&laptop.folder, "twice/a", "the same");
    put(&laptop.folder, "twice/b", "the same");
    put(&laptop.folder, "twice/nothing", "");
    put(&laptop.folder, "draft", "first");
    synced(&laptop);
    put(&laptop.folder, "draft", "second");
    synced(&laptop);
    synced(&desktop);
    home.same_everywhere(&[&laptop, &desktop]);
    let before = tree::read(&laptop.folder).expect("a tree");
    let then = moment();

    let locked = ransom(&laptop.folder);
    assert_eq!(locked, FILES + 5);
    // The brake holds, and somebody lets it through all the same.
    let halted = round(&laptop);
    assert_eq!(halted.code, 5, "{halted:?}");
    assert!(stands(&home.drive(), "d0/e 0/file 0.bin"));
    refused(
        &laptop,
        &["restore", "--all", "--at", &then],
        5,
        &["isn't on the appliance yet", "Nothing was restored"],
    );
    let confirmed = round_with(&laptop, &["--confirm-deletions", "--confirm-changes"]);
    assert_eq!(confirmed.code, 0, "{confirmed:?}");
    assert!(!stands(&home.drive(), "d0/e 0/file 0.bin"));
    assert!(stands(&home.drive(), "d0/e 0/file 0.bin.locked"));
    let noise = contents(&laptop.folder);

    let dry = good(&laptop, &["restore", "--all", "--at", &then, "--dry-run"]);
    assert!(dry.contains("5005 restored, 5006 deleted"), "{dry}");
    assert!(dry.contains("nothing was done"), "{dry}");
    assert!(stands(&home.drive(), "READ_ME.txt"));
    let begin = std::time::Instant::now();
    let text = good(&laptop, &["restore", "--all", "--at", &then]);
    eprintln!("restored in {:.1} s", begin.elapsed().as_secs_f64());
    assert!(text.contains("5005 restored, 5006 deleted"), "{text}");

    let after = tree::read(&laptop.folder).expect("a tree");
    assert_eq!(after.len(), before.len());
    for (path, entry) in &before {
        assert_eq!(after.get(path), Some(entry), "{}", path.display());
    }
    // The other one was away. Nothing has changed for it, so nothing travels and no brake asks.
    let other = synced(&desktop);
    assert_eq!(other.count("received_bytes"), 0, "{other:?}");
    home.same_everywhere(&[&laptop, &desktop]);
    assert!(!synced(&laptop).moved());

    // It was a change like any other.
    let undo = undo(&text);
    let undo: Vec<&str> = undo.iter().map(String::as_str).collect();
    good(&laptop, &undo);
    assert_eq!(contents(&laptop.folder), noise);
    assert!(stands(&home.drive(), "d0/e 0/file 0.bin.locked"));
}

#[test]
fn a_drive_that_a_ransom_has_filled_is_no_trap() {
    let dir = common::temp_dir();
    let config = dir.path().join("raspbox.toml");
    fs::write(&config, "keep_free_mib = 0\n").expect("written");
    let with = ["--config", config.to_str().expect("UTF-8")];
    let appliance = Appliance::start_with(common::program(), dir.path(), &with);
    let mut appliance = appliance.expect("an appliance");
    let laptop = Workstation::new(common::program(), dir.path(), "laptop");
    laptop.pair(&appliance).expect("paired");
    for n in 0..120_usize {
        put(
            &laptop.folder,
            &format!("d/{n}"),
            noise(n as u64, 5_000 + n),
        );
    }
    synced(&laptop);
    let before = tree::read(&laptop.folder).expect("a tree");
    let then = moment();
    ransom(&laptop.folder);
    let confirmed = round_with(&laptop, &["--confirm-deletions", "--confirm-changes"]);
    assert_eq!(confirmed.code, 0, "{confirmed:?}");
    let locked = contents(&laptop.folder);

    // From now on not a byte may be written.
    appliance.stop().expect("stopped");
    fs::write(&config, "keep_free_mib = 4000000000\n").expect("written");
    appliance.restart().expect("started again");
    good(&laptop, &["restore", "--all", "--at", &then]);
    assert_eq!(tree::read(&laptop.folder).expect("a tree"), before);
    let versions = appliance.drive().join(".raspbox/versions");
    let shelves = names(&versions).into_iter();
    let kept: Vec<String> = shelves
        .flat_map(|shelf| names(&versions.join(shelf)))
        .collect();
    for digest in locked {
        assert!(kept.contains(&digest.to_string()), "the noise is a version");
    }
    put(&laptop.folder, "more", "more");
    round(&laptop).says(&["more", "the drive is full"]);
}

#[test]
fn a_file_gets_back_what_it_was() {
    let (home, [laptop, desktop]) = home(["laptop", "desktop"]);
    for (station, content) in [(&laptop, "one"), (&desktop, "two"), (&laptop, "three")] {
        synced(station);
        put(&station.folder, "docs/a b.txt", content);
        synced(station);
    }
    synced(&desktop);
    let history = good(&desktop, &["history", "docs/a b.txt"]);
    let lines: Vec<&str> = history.lines().collect();
    assert!(
        lines[2].contains("now") && lines[2].ends_with("laptop"),
        "{history}"
    );
    assert!(
        lines[3].ends_with("desktop, replaced by laptop"),
        "{history}"
    );
    assert!(
        lines[4].ends_with("laptop, replaced by desktop"),
        "{history}"
    );
    assert_eq!(lines.len(), 6, "{history}");
    let oldest = lines[4].split_whitespace().next().expect("a number");

    // Without a word more, what it was before.
    good(&desktop, &["restore", "docs/a b.txt"]);
    assert_eq!(
        text(&desktop.folder, "docs/a b.txt").as_deref(),
        Some("two")
    );
    home.settle(&[&laptop, &desktop]);
    assert_eq!(text(&laptop.folder, "docs/a b.txt").as_deref(), Some("two"));
    let said = good(&laptop, &["restore", "docs/a b.txt", "--version", oldest]);
    assert_eq!(text(&laptop.folder, "docs/a b.txt").as_deref(), Some("one"));
    let undo = undo(&said);
    good(
        &laptop,
        &undo.iter().map(String::as_str).collect::<Vec<_>>(),
    );
    assert_eq!(text(&laptop.folder, "docs/a b.txt").as_deref(), Some("two"));
    refused(
        &laptop,
        &["restore", "docs/a b.txt", "--version", "99999"],
        2,
        &["has no version 99999"],
    );
}

#[test]
fn what_is_gone_comes_back_also_with_its_folder() {
    let (home, [laptop, desktop]) = home(["laptop", "desktop"]);
    put(&laptop.folder, "docs/deep/a.txt", "a");
    put(&laptop.folder, "docs/b.txt", "b");
    put(&laptop.folder, "other", "other");
    symlink("b.txt", laptop.folder.join("docs/link")).expect("a symlink");
    home.settle(&[&laptop, &desktop]);
    let before = tree::read(&laptop.folder).expect("a tree");
    let then = moment();
    fs::remove_dir_all(desktop.folder.join("docs")).expect("removed");
    synced(&desktop);
    put(&desktop.folder, "other", "other, edited");
    home.settle(&[&laptop, &desktop]);
    assert!(!stands(&laptop.folder, "docs"));

    // One file, as an absolute path.
    let path = laptop.folder.join("docs/deep/a.txt");
    good(&laptop, &["restore", path.to_str().expect("UTF-8")]);
    assert_eq!(
        text(&laptop.folder, "docs/deep/a.txt").as_deref(),
        Some("a")
    );
    assert!(!stands(&laptop.folder, "docs/b.txt"));
    good(&laptop, &["restore", "docs/link"]);
    let target = fs::read_link(laptop.folder.join("docs/link")).expect("a symlink");
    assert_eq!(target, Path::new("b.txt"));
    // The rest of the folder; what is elsewhere stays.
    good(&laptop, &["restore", "docs", "--at", &then]);
    assert_eq!(text(&laptop.folder, "docs/b.txt").as_deref(), Some("b"));
    assert_eq!(
        text(&laptop.folder, "other").as_deref(),
        Some("other, edited")
    );
    home.settle(&[&laptop, &desktop]);
    good(&desktop, &["restore", ".", "--at", &then]);
    assert_eq!(tree::read(&desktop.folder).expect("a tree"), before);
    home.settle(&[&desktop, &laptop]);

    // A folder that is gone, and no time.
    fs::remove_dir_all(laptop.folder.join("docs")).expect("removed");
    synced(&laptop);
    let (text, code) = said(&laptop, &["restore", "docs"]);
    assert_eq!(code, 2, "{text}");
    let at = text.split("--at ").nth(1).expect("a time").trim();
    good(&laptop, &["restore", "docs", "--at", at]);
    assert!(stands(&laptop.folder, "docs/deep/a.txt") && stands(&laptop.folder, "docs/b.txt"));
}

#[test]
fn an_edit_that_was_not_synced_yet_is_safe() {
    let (home, [laptop]) = home(["laptop"]);
    put(&laptop.folder, "a", "one");
    synced(&laptop);
    let then = moment();
    put(&laptop.folder, "a", "two");
    put(&laptop.folder, "new", "new");
    good(&laptop, &["restore", "--all", "--at", &then]);
    assert_eq!(text(&laptop.folder, "a").as_deref(), Some("one"));
    assert_eq!(users_names(&laptop.folder), ["a"]);
    good(&laptop, &["restore", "a"]);
    assert_eq!(text(&laptop.folder, "a").as_deref(), Some("two"));
    good(&laptop, &["restore", "new"]);
    assert_eq!(text(&laptop.folder, "new").as_deref(), Some("new"));
    home.settle(&[&laptop]);
}

#[test]
fn what_cannot_be_done_is_said() {
    let (home, [laptop]) = home(["laptop"]);
    put(&laptop.folder, "a", "one");
    synced(&laptop);
    refused(
        &laptop,
        &["restore", "--all", "--at", "2020-01-01"],
        2,
        &["knows nothing of that time", "begins at"],
    );
    refused(
        &laptop,
        &["restore", "--all", "--at", "@99999999999"],
        2,
        &["in the future"],
    );
    refused(
        &laptop,
        &["restore", "--all", "--at", "soon"],
        2,
        &["'soon' is no time"],
    );
    refused(&laptop, &["restore", "--all"], 2, &["--at"]);
    refused(&laptop, &["restore", "."], 2, &["--at TIME"]);
    refused(
        &laptop,
        &["restore", "a"],
        2,
        &["no other version of a is kept"],
    );
    refused(
        &laptop,
        &["restore", "never"],
        2,
        &["no other version of never"],
    );
    let now = moment();
    refused(
        &laptop,
        &["restore", "never", "--at", &now],
        2,
        &["nothing is known of it"],
    );
    refused(&laptop, &["restore", "/etc/passwd"], 2, &["isn't paired"]);
    refused(&laptop, &["history", "/etc/passwd"], 2, &["isn't paired"]);
    refused(&laptop, &["history", "."], 2, &["the whole folder"]);
    assert!(good(&laptop, &["history", "never"]).contains("nothing is known"));
    assert!(good(&laptop, &["restore", "--all", "--at", &now]).contains("nothing to do"));
    let begun = moment();
    put(&laptop.folder, "later", "x");
    synced(&laptop);
    refused(
        &laptop,
        &["restore", "later", "--at", &begun],
        2,
        &["wasn't there at that time", "until now"],
    );
    assert_eq!(text(&home.drive(), "later").as_deref(), Some("x"));
    let json = good(&laptop, &["history", "a", "--json"]);
    let json: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(json[0]["by"], "laptop");
    assert_eq!(json[0]["number"], serde_json::Value::Null);
}

#[test]
fn a_version_that_rotted_is_not_restored_and_the_others_are() {
    let (home, [laptop]) = home(["laptop"]);
    put(&laptop.folder, "a", "good a");
    put(&laptop.folder, "b", "good b");
    synced(&laptop);
    let then = moment();
    put(&laptop.folder, "a", "new");
    put(&laptop.folder, "b", "new");
    synced(&laptop);
    let name = raspbox_protocol::Digest::of(b"good a").to_string();
    fs::write(home.own("versions").join(&name[..2]).join(&name), "rot! a").expect("rots");
    refused(
        &laptop,
        &["restore", "--all", "--at", &then],
        1,
        &["1 restored", "a stays as it is", "damaged"],
    );
    assert_eq!(text(&laptop.folder, "a").as_deref(), Some("new"));
    assert_eq!(text(&laptop.folder, "b").as_deref(), Some("good b"));
}

#[test]
fn an_account_that_only_reads_restores_nothing() {
    let home = Home::new();
    let laptop = home.paired("laptop");
    put(&laptop.folder, "a", "one");
    synced(&laptop);
    put(&laptop.folder, "a", "two");
    synced(&laptop);
    let reader = home.unpaired("reader");
    add_user(&home, "reader", "elr");
    let target = format!("127.0.0.1:{}", home.appliance.port);
    let print = home.appliance.fingerprint.clone();
    // The daemon looks for new accounts once a second.
    common::wait("the account to be known", || {
        reader
            .pair_with(
                &target,
                "secret",
                &["--user", "reader", "--fingerprint", &print],
            )
            .is_ok()
    });
    synced(&reader);
    refused(
        &reader,
        &["restore", "a"],
        1,
        &["nothing was restored", "may not do that"],
    );
    assert!(good(&reader, &["history", "a"]).contains("replaced by laptop"));
    assert_eq!(text(&home.drive(), "a").as_deref(), Some("two"));
}

#[test]
fn an_ordinary_server_keeps_no_versions_and_that_is_said() {
    let home = Home::new();
    let laptop = home.unpaired("laptop");
    let url = format!("ftps://raspbox@127.0.0.1:{}/", home.appliance.port);
    let print = home.appliance.fingerprint.clone();
    laptop
        .pair_with(&url, &home.appliance.password, &["--fingerprint", &print])
        .expect("paired");
    for args in [
        &["history", "a"][..],
        &["restore", "a"],
        &["restore", "--all", "--at", "1h"],
    ] {
        refused(
            &laptop,
            args,
            2,
            &["ordinary FTP server", "keeps no versions"],
        );
    }
}

#[test]
fn conflict_copies_are_listed_with_what_to_do() {
    let (home, [laptop, desktop]) = home(["laptop", "desktop"]);
    assert!(good(&laptop, &["conflicts"]).contains("no conflict copies"));
    put(&laptop.folder, "docs/a.txt", "one");
    home.settle(&[&laptop, &desktop]);
    put(&laptop.folder, "docs/a.txt", "from the laptop");
    put(&desktop.folder, "docs/a.txt", "desktop");
    synced(&laptop);
    let conflict: Round = round(&desktop);
    assert_eq!(conflict.code, 1, "{conflict:?}");
    put(&desktop.folder, "law (conflict of interest).txt", "no copy");
    let (text, code) = said(&desktop, &["conflicts"]);
    assert_eq!(code, 1, "{text}");
    let copy = names(&desktop.folder.join("docs"));
    let copy = copy
        .iter()
        .find(|name| name.contains("(conflict"))
        .expect("a copy");
    assert!(text.contains(&format!("docs/{copy}")), "{text}");
    assert!(
        text.contains("the copy: 7 B") && text.contains("a.txt: 15 B"),
        "{text}"
    );
    assert!(
        text.contains("Compare the two") && !text.contains("interest"),
        "{text}"
    );
    let (json, _) = said(&desktop, &["conflicts", "--json"]);
    let json: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(json[0]["original"], "docs/a.txt");
    fs::remove_file(desktop.folder.join("docs").join(copy)).expect("removed");
    good(&desktop, &["conflicts"]);
}

#[test]
fn the_appliance_dies_in_the_middle_of_a_restore() {
    let (mut home, [laptop]) = home(["laptop"]);
    for n in 0..300_usize {
        put(
            &laptop.folder,
            &format!("d/file {n}"),
            noise(n as u64, 20_000 + n),
        );
    }
    synced(&laptop);
    let before = tree::read(&laptop.folder).expect("a tree");
    let then = moment();
    ransom(&laptop.folder);
    let confirmed = round_with(&laptop, &["--confirm-deletions", "--confirm-changes"]);
    assert_eq!(confirmed.code, 0, "{confirmed:?}");
    let all = contents(&laptop.folder);
    for step in 0..3 {
        let mut command = laptop.command(&["restore", "--all", "--at", &then]);
        let mut restoring = command
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("started");
        // Some way into the copying, whenever that is.
        let staging = home.own("staging");
        common::wait("something to be copied", || {
            names(&staging).len() > step * 60 || restoring.try_wait().expect("asked").is_some()
        });
        home.appliance.kill().expect("killed");
        home.appliance.restart().expect("started again");
        restoring.wait().expect("ended");
        // Nothing that was there before is lost: it stands somewhere or is kept.
        let mut there = contents(&home.drive());
        for shelf in names(&home.own("versions")) {
            for name in names(&home.own("versions").join(shelf)) {
                there.insert(name.parse().expect("a hash"));
            }
        }
        assert!(all.is_subset(&there), "round {step}");
    }
    good(&laptop, &["sync"]);
    good(&laptop, &["restore", "--all", "--at", &then]);
    assert_eq!(tree::read(&laptop.folder).expect("a tree"), before);
    home.settle(&[&laptop]);
}

//! Contents that change though nobody writes to them, on either side: said, never sent over a good
//! copy, and repaired from it.

mod common;

use common::{
    Home, Round, contents, home, journal, names, put, rot_there, round, set_time, spoil, stands,
    synced, text, wait,
};
use raspbox_protocol::Digest;
use raspbox_try::bed::{Appliance, Workstation};
use rusqlite::{Connection, params};
use serde_json::Value;
use std::fs;

/// When the tests' files were last written, so long ago that hashes are believed.
const LONG_AGO: u64 = 1_000_000_000;

const GOOD: &str = "the good content";
const EVIL: &str = "the evil content";

/// Lets a file rot on a computer: its client knows the ctime that it has then.
fn rot_here(station: &Workstation, path: &str, content: &str) {
    let ctime = spoil(&station.folder.join(path), content);
    let mut changed = 0;
    for pair in names(&station.state_dir) {
        let db = station.state_dir.join(pair).join("sync.db");
        if db.exists() {
            let db = Connection::open(db).expect("its state");
            let sql = "UPDATE print SET ctime = ? WHERE path = ? AND settled";
            changed += db.execute(sql, params![ctime, path]).expect("updated");
        }
    }
    assert_eq!(changed, 1, "{path} was known");
}

/// As if a month went by: everything on the drive is read again.
fn a_month_later(home: &mut Home) {
    home.appliance.stop().expect("stopped");
    let sql = "DELETE FROM meta WHERE key = 'scrub_ended_ns'";
    journal(home).execute(sql, []).expect("forgotten");
    home.appliance.restart().expect("started");
    wait("everything to be read", || {
        let sql = "SELECT count(*) FROM meta WHERE key = 'scrub_ended_ns'";
        let count: i64 = journal(home)
            .query_row(sql, [], |row| row.get(0))
            .expect("a count");
        count == 1
    });
}

/// A home with two computers that have these files in sync.
fn in_sync(files: &[&str]) -> (Home, [Workstation; 2]) {
    let (home, [laptop, desktop]) = home(["laptop", "desktop"]);
    for path in files {
        put(&laptop.folder, path, GOOD);
        set_time(&laptop.folder.join(path), LONG_AGO);
    }
    home.settle(&[&laptop, &desktop]);
    (home, [laptop, desktop])
}

/// `raspbox verify --json`.
fn verify(station: &Workstation, more: &[&str]) -> Round {
    let mut command = station.command(&["verify", "--json"]);
    Round::of(&common::output(command.args(more)))
}

/// What is damaged: path, side, where it is good, whether it was repaired.
fn damaged(round: &Round) -> Vec<(String, String, String, bool)> {
    let all = round.json["damaged"].as_array().cloned();
    let word = |v: &Value, key: &str| v[key].as_str().unwrap_or_default().to_owned();
    let found = all.unwrap_or_default();
    let found = found.iter().map(|v| {
        let repaired = v["repaired"].as_bool().unwrap_or_default();
        (word(v, "path"), word(v, "side"), word(v, "good"), repaired)
    });
    found.collect()
}

fn found(path: &str, side: &str, good: &str, repaired: bool) -> (String, String, String, bool) {
    (path.into(), side.into(), good.into(), repaired)
}

fn said(station: &Workstation, args: &[&str]) -> (Option<i32>, String) {
    let output = common::output(&mut station.command(args));
    let both = [output.stdout, output.stderr].concat();
    (
        output.status.code(),
        String::from_utf8_lossy(&both).into_owned(),
    )
}

#[test]
fn where_nothing_is_damaged_it_says_so() {
    let (_home, [laptop, _]) = in_sync(&["a", "d/b"]);
    let (code, said) = said(&laptop, &["verify"]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("2 files read (32 B), all good"), "{said}");
    let quiet = verify(&laptop, &["--repair"]);
    assert_eq!((quiet.code, damaged(&quiet)), (0, vec![]));
    assert_eq!((quiet.count("files"), quiet.count("bytes")), (2, 32));
}

#[test]
fn what_rotted_here_is_said_sent_nowhere_and_repaired() {
    let (home, [laptop, desktop]) = in_sync(&["d/a", "b"]);
    rot_here(&laptop, "d/a", EVIL);
    // A sync reads only what looks changed.
    let blind = round(&laptop);
    assert_eq!((blind.code, blind.moved()), (0, false), "{blind:#?}");
    let first = verify(&laptop, &[]);
    assert_eq!(first.code, 1, "{first:#?}");
    assert_eq!(damaged(&first), [found("d/a", "here", "other-side", false)]);
    let (_, words) = said(&laptop, &["verify"]);
    for word in [
        "d/a is damaged on this computer; the other side has the good content",
        "2 files read",
        "1 damaged",
        "repair with: raspbox verify --repair",
    ] {
        assert!(words.contains(word), "{word} in {words}");
    }
    // Now syncs know, too; the others go on.
    put(&laptop.folder, "new", "new");
    let known = round(&laptop);
    assert_eq!(known.code, 1, "{known:#?}");
    known.says(&["d/a", "is damaged", "raspbox verify --repair"]);
    synced(&desktop);
    assert!(stands(&desktop.folder, "new"));
    assert_eq!(text(&home.drive(), "d/a").as_deref(), Some(GOOD));
    assert_eq!(text(&laptop.folder, "d/a").as_deref(), Some(EVIL));
    let repaired = verify(&laptop, &["--repair"]);
    assert_eq!(repaired.code, 0, "{repaired:#?}");
    assert_eq!(
        damaged(&repaired),
        [found("d/a", "here", "other-side", true)]
    );
    assert_eq!(text(&laptop.folder, "d/a").as_deref(), Some(GOOD));
    let quiet = synced(&laptop);
    assert!(!quiet.moved(), "{quiet:#?}");
    home.settle(&[&laptop, &desktop]);
    assert_eq!(names(&laptop.folder.join("d")), ["a"], "no copy beside it");
    assert_eq!(verify(&laptop, &[]).code, 0);
}

#[test]
fn an_edit_of_a_damaged_file_is_an_edit() {
    let (home, [laptop, desktop]) = in_sync(&["a"]);
    rot_here(&laptop, "a", EVIL);
    assert_eq!(verify(&laptop, &[]).code, 1);
    assert_eq!(round(&laptop).code, 1);
    put(&laptop.folder, "a", "written anew");
    home.settle(&[&laptop, &desktop]);
    assert_eq!(text(&desktop.folder, "a").as_deref(), Some("written anew"));
    assert_eq!(verify(&laptop, &[]).code, 0);
}

#[test]
fn what_was_edited_elsewhere_since_comes_with_the_repair() {
    let (home, [laptop, desktop]) = in_sync(&["a"]);
    rot_here(&laptop, "a", EVIL);
    assert_eq!(verify(&laptop, &[]).code, 1);
    put(&desktop.folder, "a", "a newer content");
    synced(&desktop);
    // Nothing is decided about it unasked.
    let waits = round(&laptop);
    assert_eq!((waits.code, waits.moved()), (1, false), "{waits:#?}");
    assert_eq!(text(&laptop.folder, "a").as_deref(), Some(EVIL));
    let repaired = verify(&laptop, &["--repair"]);
    assert_eq!(repaired.code, 0, "{repaired:#?}");
    assert_eq!(
        damaged(&repaired),
        [found("a", "here", "newer-on-other-side", true)]
    );
    let quiet = synced(&laptop);
    assert!(!quiet.moved(), "{quiet:#?}");
    home.settle(&[&laptop, &desktop]);
    assert_eq!(
        text(&laptop.folder, "a").as_deref(),
        Some("a newer content")
    );
    assert_eq!(names(&laptop.folder), [".raspbox", "a"]);
}

#[test]
fn a_good_content_under_another_name_will_do() {
    let (home, [laptop, desktop]) = in_sync(&["a", "b"]);
    rot_here(&laptop, "a", EVIL);
    assert_eq!(verify(&laptop, &[]).code, 1);
    fs::remove_file(desktop.folder.join("a")).expect("remove");
    synced(&desktop);
    // Deleted there, damaged here: nothing is decided.
    assert_eq!(round(&laptop).code, 1);
    assert_eq!(text(&laptop.folder, "a").as_deref(), Some(EVIL));
    let repaired = verify(&laptop, &["--repair"]);
    assert_eq!(
        damaged(&repaired),
        [found("a", "here", "other-side", true)],
        "{repaired:#?}"
    );
    // Good again, it is what was deleted.
    home.settle(&[&laptop, &desktop]);
    assert_eq!(names(&laptop.folder), [".raspbox", "b"]);
}

#[test]
fn what_rotted_unnoticed_is_not_sent_for_what_it_was() {
    let (mut home, [laptop, desktop]) = in_sync(&["a", "b"]);
    rot_here(&laptop, "a", EVIL);
    // The appliance has lost the file, and its journal: everything that is here is sent there.
    home.appliance.stop().expect("stopped");
    for name in names(&home.drive().join(".raspbox")) {
        if name.starts_with("journal.db") {
            fs::remove_file(home.own(&name)).expect("remove");
        }
    }
    fs::remove_file(home.drive().join("a")).expect("remove");
    fs::remove_file(desktop.folder.join("a")).expect("remove");
    home.appliance.restart().expect("started");
    let merged = round(&laptop);
    assert_eq!(merged.code, 1, "{merged:#?}");
    merged.says(&["a", "is damaged"]);
    assert_eq!(
        merged.list("problems").len(),
        1,
        "it isn't said to be written to: {merged:#?}"
    );
    assert!(!stands(&home.drive(), "a"));
    assert_eq!(text(&laptop.folder, "a").as_deref(), Some(EVIL));
    // That is remembered, and doesn't have to be found out again.
    let again = round(&laptop);
    assert_eq!((again.code, again.count("sent_bytes")), (1, 0));
    // "b" has the same good content there.
    assert_eq!(verify(&laptop, &["--repair"]).code, 0);
    home.settle(&[&laptop, &desktop]);
    assert_eq!(text(&desktop.folder, "a").as_deref(), Some(GOOD));
}

#[test]
fn what_nobody_has_good_can_be_kept_as_it_is() {
    let (home, [laptop, desktop]) = in_sync(&["a"]);
    rot_here(&laptop, "a", EVIL);
    fs::remove_file(desktop.folder.join("a")).expect("remove");
    synced(&desktop);
    let left = verify(&laptop, &["--repair"]);
    assert_eq!(left.code, 1, "{left:#?}");
    assert_eq!(damaged(&left), [found("a", "here", "nowhere", false)]);
    let (_, words) = said(&laptop, &["verify"]);
    assert!(words.contains("touch it, and it is synced"), "{words}");
    assert!(!words.contains("repair with"), "{words}");
    assert_eq!(text(&laptop.folder, "a").as_deref(), Some(EVIL));
    set_time(&laptop.folder.join("a"), LONG_AGO + 5);
    home.settle(&[&laptop, &desktop]);
    assert_eq!(text(&desktop.folder, "a").as_deref(), Some(EVIL));
}

#[test]
fn what_rotted_on_the_drive_is_found_and_repaired_from_a_computer() {
    let (mut home, [laptop, desktop]) = in_sync(&["d/a"]);
    put(&laptop.folder, "b", "another");
    home.settle(&[&laptop, &desktop]);
    rot_there(&home, "d/a", EVIL);
    a_month_later(&mut home);
    let first = verify(&laptop, &[]);
    assert_eq!(first.code, 1, "{first:#?}");
    assert_eq!(
        damaged(&first),
        [found("d/a", "there", "other-side", false)]
    );
    // Who has it good is in sync, since nobody edited it.
    for station in [&laptop, &desktop] {
        let quiet = synced(station);
        assert!(!quiet.moved(), "{quiet:#?}");
    }
    // Who hasn't, doesn't get the damaged one.
    let phone = home.paired("phone");
    let refused = round(&phone);
    assert_eq!(refused.code, 1, "{refused:#?}");
    refused.says(&[
        "d/a",
        "on the other side is damaged",
        "raspbox verify --repair",
    ]);
    assert!(!stands(&phone.folder, "d/a") && stands(&phone.folder, "b"));
    let helpless = verify(&phone, &["--repair"]);
    assert_eq!(damaged(&helpless).len(), 1, "{helpless:#?}");
    assert_eq!(helpless.code, 1, "{helpless:#?}");
    let repaired = verify(&desktop, &["--repair"]);
    assert_eq!(
        damaged(&repaired)[0],
        found("d/a", "there", "other-side", true),
        "{repaired:#?}"
    );
    assert_eq!(text(&home.drive(), "d/a").as_deref(), Some(GOOD));
    home.settle(&[&laptop, &desktop, &phone]);
    assert_eq!(text(&phone.folder, "d/a").as_deref(), Some(GOOD));
    // What it had become is kept, and not as the good one.
    let kept = contents(&home.own("versions"));
    assert!(kept.contains(&Digest::of(EVIL.as_bytes())));
    assert!(!kept.contains(&Digest::of(GOOD.as_bytes())));
}

#[test]
fn what_rotted_since_it_was_read_last_is_found_when_it_is_fetched() {
    let dir = common::temp_dir();
    let config = dir.path().join("config.toml");
    fs::write(&config, "[scrub]\nevery_days = 0\n").expect("a config");
    let extra = ["--config", config.to_str().expect("UTF-8")];
    let appliance =
        Appliance::start_with(common::program(), dir.path(), &extra).expect("an appliance");
    let station = |name: &str| {
        let station = Workstation::new(common::program(), dir.path(), name);
        station.pair(&appliance).expect("paired");
        station
    };
    let (laptop, phone) = (station("laptop"), station("phone"));
    put(&laptop.folder, "a", GOOD);
    put(&laptop.folder, "b", GOOD);
    set_time(&laptop.folder.join("a"), LONG_AGO);
    synced(&laptop);
    let db = Connection::open(appliance.drive().join(".raspbox/journal.db")).expect("the journal");
    let ctime = spoil(&appliance.drive().join("a"), EVIL);
    let sql = "UPDATE entry SET ctime_ns = ? WHERE path = 'a'";
    assert_eq!(db.execute(sql, [ctime]).expect("updated"), 1);
    let refused = round(&phone);
    assert_eq!(refused.code, 1, "{refused:#?}");
    refused.says(&["a", "on the other side is damaged"]);
    assert_eq!(names(&phone.folder), [".raspbox", "b"]);
    let repaired = verify(&laptop, &["--repair"]);
    assert_eq!(
        damaged(&repaired),
        [found("a", "there", "other-side", true)],
        "{repaired:#?}"
    );
    synced(&phone);
    assert_eq!(text(&phone.folder, "a").as_deref(), Some(GOOD));
}

#[test]
fn an_appliance_that_is_off_is_said_and_what_rotted_here_as_well() {
    let (mut home, [laptop, desktop]) = in_sync(&["a"]);
    rot_here(&laptop, "a", EVIL);
    home.appliance.stop().expect("stopped");
    let off = verify(&laptop, &["--repair"]);
    assert_eq!(off.code, 3, "{off:#?}");
    assert_eq!(damaged(&off), [found("a", "here", "nowhere", false)]);
    let (code, words) = said(&laptop, &["verify"]);
    assert_eq!(code, Some(3));
    assert!(
        words.contains("who has the good content isn't known"),
        "{words}"
    );
    home.appliance.restart().expect("started");
    let known = round(&laptop);
    assert_eq!(known.code, 1, "it is remembered: {known:#?}");
    assert_eq!(verify(&laptop, &["--repair"]).code, 0);
    home.settle(&[&laptop, &desktop]);
}

//! The other side can't be reached, or refuses.

use crate::brakes::status;
use crate::common::{
    Home, Round, contents, home, output, program, put, round, stands, synced, users_names, wait,
};
use raspbox_protocol::Digest;
use raspbox_try::bed::Workstation;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::process::{Command, Output, Stdio};
use std::sync::mpsc;

/// `raspbox pair` with this password.
pub(crate) fn pair(station: &Workstation, target: &str, password: &str) -> Output {
    let mut command = station.command(&[
        "pair",
        target,
        "--password-stdin",
        "--device",
        &station.name,
    ]);
    command.arg("--folder").arg(&station.folder);
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().expect("a client");
    // It may have ended without reading.
    drop(writeln!(child.stdin.take().expect("piped"), "{password}"));
    child.wait_with_output().expect("its output")
}

#[track_caller]
pub(crate) fn fails(output: &Output, code: i32, words: &[&str]) {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{stderr}");
    assert!(
        stderr
            .lines()
            .any(|line| words.iter().all(|word| line.contains(word))),
        "no line with {words:?}:\n{stderr}"
    );
}

pub(crate) fn address(home: &Home) -> String {
    format!("127.0.0.1:{}", home.appliance.port)
}

#[test]
fn a_wrong_password_is_refused_and_leaves_nothing() {
    let home = Home::new();
    let laptop = home.unpaired("laptop");
    let refused = pair(&laptop, &address(&home), "not the password");
    fails(
        &refused,
        4,
        &[&address(&home), "the same password of raspbox", "mistyped"],
    );
    assert!(!stands(&laptop.folder, ".raspbox"));
    assert_eq!(round(&laptop).code, 2, "it isn't paired");
    let password = home.appliance.password.clone();
    assert_eq!(
        pair(&laptop, &address(&home), &password).status.code(),
        Some(0)
    );
    synced(&laptop);
}

#[test]
fn a_host_that_is_not_there_is_named() {
    let home = Home::new();
    let laptop = home.unpaired("laptop");
    fails(
        &pair(&laptop, "no-such-host.invalid", "x"),
        3,
        &["no-such-host.invalid", "no such host", "Check the name"],
    );
    let closed = TcpListener::bind("127.0.0.1:0")
        .expect("a port")
        .local_addr()
        .expect("its address");
    fails(
        &pair(&laptop, &closed.to_string(), "x"),
        3,
        &[&closed.to_string(), "nobody listens there", "port right"],
    );
    assert_eq!(users_names(&laptop.folder), [""; 0]);
}

#[test]
fn an_appliance_that_is_off_costs_nothing_and_is_tried_again() {
    let (mut home, [laptop, desktop]) = home(["laptop", "desktop"]);
    put(&laptop.folder, "a", "a");
    home.appliance.stop().expect("stopped");
    let off = round(&laptop);
    assert_eq!(off.code, 3, "{off:#?}");
    off.says(&[&address(&home)]);
    assert_eq!(status(&laptop).json["result"], "failed");
    home.appliance.restart().expect("started");
    home.settle(&[&laptop, &desktop]);
    assert_eq!(status(&laptop).json["result"], "in-sync");
}

#[test]
fn a_changed_certificate_is_refused_until_the_right_one_is_back() {
    let (mut home, [laptop, desktop]) = home(["laptop", "desktop"]);
    put(&laptop.folder, "secret", "secret");
    let (state, away) = (
        home.dir().join("appliance"),
        home.dir().join("appliance.away"),
    );
    home.appliance.stop().expect("stopped");
    fs::rename(&state, &away).expect("rename");
    home.appliance.restart().expect("started");
    let refused = round(&laptop);
    assert_eq!(refused.code, 4, "{refused:#?}");
    let message = refused.message();
    for words in [
        "another certificate",
        "Nothing was sent",
        &home.appliance.fingerprint,
        "raspbox unpair",
    ] {
        assert!(message.contains(words), "{words} in {message}");
    }
    assert!(!stands(&home.drive(), "secret"));
    // A watch may just be in another network: it says so, and waits until it is home again.
    let mut watch = laptop.watch().expect("a watch");
    let (say, said) = mpsc::channel();
    let stdout = BufReader::new(watch.stdout.take().expect("its output"));
    let reader = std::thread::spawn(move || {
        stdout
            .lines()
            .map_while(Result::ok)
            .for_each(|line| drop(say.send(line)));
    });
    // Its own word: the status may still be that of the round before.
    let mut lines = Vec::new();
    wait("the watch to be refused", || {
        lines.extend(said.try_iter());
        lines
            .iter()
            .any(|line: &String| line.contains("another certificate"))
    });
    wait("the status to say so", || {
        let status = Round::of(&output(&mut laptop.command(&["status", "--json"])));
        status.json["result"] == "failed" && status.message().contains("another certificate")
    });
    // And pairing asks for the fingerprint that one knows.
    let phone = home.unpaired("phone");
    let wrong = phone
        .pair(&home.appliance)
        .expect_err("another certificate");
    assert!(wrong.to_string().contains("another certificate"), "{wrong}");

    home.appliance.stop().expect("stopped");
    fs::remove_dir_all(&state).expect("remove");
    fs::rename(&away, &state).expect("rename");
    home.appliance.restart().expect("started");
    wait("the watch to go on", || stands(&home.drive(), "secret"));
    watch.kill().expect("killed");
    reader.join().expect("it read to the end");
    lines.extend(said.try_iter());
    let told = lines
        .iter()
        .filter(|line| line.contains("another certificate"));
    assert_eq!(told.count(), 1, "{lines:#?}");
    home.settle(&[&laptop, &desktop]);
    assert!(stands(&desktop.folder, "secret"));
}

#[test]
fn a_revoked_device_is_told_so() {
    let (home, [laptop, desktop]) = home(["laptop", "desktop"]);
    put(&laptop.folder, "a", "a");
    home.settle(&[&laptop, &desktop]);
    let mut revoke = Command::new(program());
    revoke
        .args(["as-raspboxd", "device", "revoke", "laptop", "--state"])
        .arg(home.dir().join("appliance"));
    let revoked = output(&mut revoke);
    assert!(
        revoked.status.success(),
        "{}",
        String::from_utf8_lossy(&revoked.stderr)
    );
    // Within two seconds, `device revoke` says.
    wait("the device to be refused", || round(&laptop).code != 0);
    put(&laptop.folder, "a", "edited");
    let refused = round(&laptop);
    assert_eq!(refused.code, 4, "{refused:#?}");
    refused.says(&["revoked", "raspbox pair"]);
    // Paired again, it merges: nothing is deleted, the edit is there.
    output(laptop.command(&["unpair"]).arg(&laptop.folder));
    laptop.pair(&home.appliance).expect("paired again");
    let merged = round(&laptop);
    assert_eq!(merged.count("deleted"), 0, "{merged:#?}");
    assert!(contents(&home.drive()).contains(&Digest::of(b"edited")));
    assert!(contents(&home.drive()).contains(&Digest::of(b"a")));
}

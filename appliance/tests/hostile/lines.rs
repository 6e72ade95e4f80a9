//! Control connections that don't behave.

use crate::client::{Client, Wire};
use crate::harness::Daemon;
use crate::oracle::Oracle;
use std::io::Read;

/// Sends without end, until the other side has had enough; returns how much that was.
fn pour(client: &mut Client, piece: &[u8]) -> usize {
    // A gibibyte would be without limit.
    (1..=(1 << 30) / piece.len())
        .find(|_| client.raw(piece).is_err())
        .map_or(usize::MAX, |pieces| pieces * piece.len())
}

#[test]
fn a_line_without_end_ends_the_session_before_a_login() {
    let daemon = Daemon::with("[limits]\nlogin_deadline_s = 600");
    let oracle = Oracle::before(&daemon);
    let mut plain = Client::connect(daemon.address);
    assert_ne!(pour(&mut plain, &[b'a'; 64 << 10]), usize::MAX);
    let mut secure = daemon.secure();
    assert_ne!(pour(&mut secure, &[b'a'; 16 << 10]), usize::MAX);
    oracle.after(&daemon);
}

#[test]
fn so_do_many_short_ones() {
    let daemon = Daemon::with("[limits]\nlogin_deadline_s = 600");
    let oracle = Oracle::before(&daemon);
    let mut client = Client::connect(daemon.address);
    let mut count = 0;
    // One after the other, each answered, so that nothing is ever ahead.
    while client.try_command("NOOP").is_ok() {
        count += 1;
        assert!(count < 1 << 20, "no budget");
    }
    assert!(count > 1000, "a login takes less");
    oracle.after(&daemon);
}

#[test]
fn a_line_without_end_ends_the_session_of_whoever_is_logged_in() {
    let daemon = Daemon::start();
    let oracle = Oracle::before(&daemon);
    let mut client = daemon.client();
    assert_ne!(pour(&mut client, &[b'a'; 16 << 10]), usize::MAX);
    oracle.after(&daemon);
}

#[test]
fn whoever_is_logged_in_may_send_as_many_commands_as_he_likes() {
    let daemon = Daemon::start();
    let mut client = daemon.client();
    let longest = format!("SIZE /{}", "x".repeat(250));
    for _ in 0..1000 {
        client.command(&longest).expect(550);
    }
}

#[test]
fn what_is_no_name_makes_nothing() {
    let daemon = Daemon::start();
    let oracle = Oracle::before(&daemon);
    daemon.client().store("/file", b"x").expect(226);
    for name in [
        &b"/a\0b"[..],
        b"/a\rb",
        b"/a\x01b",
        b"/a\x1b[2Jb",
        b"/a\x7fb",
        b"/a\xffb",
        b"/a\xc3",
        b"/\xed\xa0\x80",
        b"/\xc0\xae\xc0\xae/x",
    ] {
        for verb in ["MKD", "RNFR /file\r\nRNTO"] {
            let mut client = daemon.client();
            let _ = client.raw(&[verb.as_bytes(), b" ", name, b"\r\n"].concat());
            // Some end the session; what counts is that nothing came of it.
            for _ in 0..verb.lines().count() {
                let _ = client.reply();
            }
        }
        let mut client = daemon.client();
        let data = client.open();
        let _ = client.raw(&[b"STOR ", name, b"\r\n"].concat());
        data.end();
        while client.reply().is_ok_and(|reply| reply.code < 200) {}
        client.vanish();
    }
    let names: Vec<_> = std::fs::read_dir(daemon.folder())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .filter(|name| name != ".raspbox")
        .collect();
    assert_eq!(names, ["file"]);
    oracle.after(&daemon);
}

#[test]
fn whoever_reads_slowly_holds_up_nobody() {
    let daemon = Daemon::start();
    let oracle = Oracle::before(&daemon);
    let big = vec![7; 96 << 20];
    std::fs::write(daemon.folder().join("big"), &big).unwrap();
    let slow: Vec<(Client, Wire)> = (0..8)
        .map(|_| {
            let mut client = daemon.client();
            let mut data = client.open();
            client.command("RETR /big").expect(150);
            data.read_exact(&mut [0]).unwrap();
            (client, data)
        })
        .collect();
    oracle.after(&daemon);
    drop(slow);
}

#[test]
fn whoever_takes_no_replies_holds_up_nobody() {
    let daemon = Daemon::with("[limits]\nlogin_deadline_s = 5");
    let oracle = Oracle::before(&daemon);
    let mut client = daemon.client();
    // Each is answered with more than it takes; nobody reads that.
    for _ in 0..200 {
        client.send("FEAT");
    }
    oracle.after(&daemon);
}

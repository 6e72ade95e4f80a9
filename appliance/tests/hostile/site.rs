//! SITE commands, of which one session sends many at once.

use crate::harness::{Daemon, eventually};
use crate::oracle::Oracle;
use crate::transfers::sessions;
use std::fs::File;
use std::io::Write;
use std::net::Shutdown;

/// Commands that all fit into what may be sent ahead, in one piece.
fn many(command: &str) -> Vec<u8> {
    format!("{command}\r\n")
        .repeat(60_000 / (command.len() + 2))
        .into_bytes()
}

#[test]
fn many_at_once_are_answered_one_after_the_other() {
    let daemon = Daemon::start();
    let oracle = Oracle::before(&daemon);
    let mut client = daemon.client();
    client.store("/a", b"x").expect(226);
    let pairs = many("SITE HASH /a\r\nSITE RBX CLOCK\r\nSITE CHMOD 755 /a\r\nSITE NONSENSE");
    let lines = pairs.iter().filter(|byte| **byte == b'\n').count();
    client.raw(&pairs).unwrap();
    for n in 0..lines {
        let expected = [213, 200, 200, 502][n % 4];
        client.reply().unwrap().expect(expected);
    }
    assert!(client.is_served(), "none is answered twice");
    oracle.after(&daemon);
}

#[test]
fn what_was_sent_ahead_ends_with_its_sender() {
    let daemon = Daemon::start();
    let oracle = Oracle::before(&daemon);
    // So large that all of them would take half an hour; it takes no room.
    let big = File::create(daemon.folder().join("big")).unwrap();
    big.set_len(512 << 20).unwrap();
    let mut client = daemon.client();
    client.raw(&many("SITE HASH /big")).unwrap();
    client.reply().unwrap().expect(213);
    // Not a word more, and no error for who still answers.
    client.socket().shutdown(Shutdown::Write).unwrap();
    eventually("its place is free", || sessions(&daemon) == 0);
    oracle.after(&daemon);
}

#[test]
fn in_the_middle_of_an_upload_they_do_it_no_harm() {
    let daemon = Daemon::start();
    let oracle = Oracle::before(&daemon);
    let mut client = daemon.client();
    client.store("/a", b"before").expect(226);
    let content = vec![7; 1 << 20];
    let mut data = client.open();
    client.command("STOR /a").expect(150);
    let (half, rest) = content.split_at(content.len() / 2);
    data.write_all(half).unwrap();
    let commands = [
        "SITE HASH /a",
        "SITE CHMOD 755 /a",
        "SITE UTIME 20010909014640 /a",
        "SITE RBX CLOCK",
    ];
    for command in commands {
        client.send(command);
    }
    data.write_all(rest).unwrap();
    data.flush().unwrap();
    data.end();
    // They wait for the upload, or the upload for them.
    let mut codes = Vec::new();
    for _ in 0..=commands.len() {
        codes.push(client.reply().unwrap().code);
    }
    codes.sort_unstable();
    assert_eq!(codes, [200, 200, 200, 213, 226]);
    assert_eq!(daemon.content("a").unwrap(), content);
    oracle.after(&daemon);
}

//! TLS, and what is said around it.

use crate::client::Client;
use crate::harness::{Daemon, eventually};
use crate::oracle::Oracle;
use std::io::Write;

#[test]
fn what_is_said_before_the_handshake_is_not_taken_for_said_within_it() {
    let daemon = Daemon::start();
    let oracle = Oracle::before(&daemon);
    let mut client = Client::connect(daemon.address);
    let password = &daemon.password;
    let ahead = format!("AUTH TLS\r\nUSER raspbox\r\nPASS {password}\r\nDELE /a\r\n");
    client.raw(ahead.as_bytes()).unwrap();
    // Either it shakes hands with what was sent, and fails, or has thrown it away.
    let _ = client.shake_hands();
    let within = client.try_command("PWD");
    assert!(within.is_ok_and(|reply| reply.code == 530) || client.is_gone());
    oracle.after(&daemon);
}

#[test]
fn plain_commands_after_the_handshake_end_the_session() {
    let daemon = Daemon::start();
    let oracle = Oracle::before(&daemon);
    let mut client = daemon.client();
    client
        .socket()
        .write_all(b"DELE /a\r\nSTOR /b\r\n")
        .unwrap();
    assert!(client.is_gone());
    oracle.after(&daemon);
}

#[test]
fn nobody_gets_back_to_plain() {
    let daemon = Daemon::start();
    let oracle = Oracle::before(&daemon);
    let mut client = daemon.client();
    // Clear Command Channel.
    let reply = client.try_command("CCC");
    if reply.is_ok_and(|reply| reply.code == 200) {
        let after = client.try_command("PWD");
        assert!(after.is_err() || after.unwrap().code >= 500);
    }
    let mut again = daemon.client();
    let _ = again.try_command("AUTH TLS");
    let _ = again.try_command("PWD");
    oracle.after(&daemon);
}

#[test]
fn a_handshake_that_never_ends_is_ended() {
    let daemon = Daemon::with("[limits]\nlogin_deadline_s = 2");
    let oracle = Oracle::before(&daemon);
    let mut clients: Vec<Client> = (0..8).map(|_| Client::connect(daemon.address)).collect();
    for client in &mut clients {
        client.command("AUTH TLS").expect(234);
        // A ClientHello of 16 KiB, of which one byte comes.
        client.raw(&[0x16, 0x03, 0x01, 0x3f, 0xff, 0x01]).unwrap();
    }
    for mut client in clients {
        assert!(client.is_gone());
    }
    oracle.after(&daemon);
}

#[test]
fn whoever_sends_a_byte_a_moment_is_shown_out_in_time() {
    let daemon = Daemon::with("[limits]\nlogin_deadline_s = 2");
    let oracle = Oracle::before(&daemon);
    let mut client = Client::connect(daemon.address);
    eventually("it is shown out", || client.raw(b"a").is_err());
    oracle.after(&daemon);
}

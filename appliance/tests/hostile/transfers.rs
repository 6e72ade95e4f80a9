//! Commands at the wrong time.

use crate::harness::{Daemon, eventually};
use crate::oracle::Oracle;
use std::io::{Read, Write};

pub(crate) fn sessions(daemon: &Daemon) -> u64 {
    let status = daemon.control(&["status", "--json"]).stdout;
    let status: serde_json::Value = serde_json::from_slice(&status).unwrap();
    status["sessions"].as_u64().unwrap()
}

#[test]
fn a_storm_of_aborts_in_the_middle_of_a_transfer() {
    let daemon = Daemon::start();
    let oracle = Oracle::before(&daemon);
    std::fs::write(daemon.folder().join("big"), vec![1; 32 << 20]).unwrap();
    let mut client = daemon.client();
    let mut data = client.open();
    client.command("RETR /big").expect(150);
    data.read_exact(&mut [0; 1000]).unwrap();
    let storm = b"\xff\xf4\xff\xf2ABOR\r\n".repeat(64);
    // It ends by itself once too much is ahead.
    while client.raw(&storm).is_ok() {}
    assert!(client.is_gone());
    eventually("its place is free", || sessions(&daemon) == 0);
    oracle.after(&daemon);
}

#[test]
fn every_command_in_the_middle_of_an_upload() {
    let daemon = Daemon::start();
    let oracle = Oracle::before(&daemon);
    for command in [
        "ABOR",
        "QUIT",
        "STAT",
        "CWD /",
        "EPSV",
        "PROT C",
        "REST 7",
        "USER x",
        "AUTH TLS",
        "CCC",
        "RNFR /a",
        "STOR /b",
        "RETR /b",
        "SITE RBX CLOCK",
        "PASS x",
        "TYPE I",
    ] {
        let mut client = daemon.client();
        let mut data = client.open();
        client.command("STOR /half").expect(150);
        data.write_all(&[1; 1000]).unwrap();
        data.flush().unwrap();
        client.send(command);
        client.vanish();
        // What comes after the control connection has gone is a cut.
        data.cut();
    }
    eventually("nobody is left", || sessions(&daemon) == 0);
    assert_eq!(daemon.content("half"), None, "a cut stores nothing");
    oracle.after(&daemon);
}

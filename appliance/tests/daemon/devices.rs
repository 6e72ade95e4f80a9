//! Pairing and its end.

use crate::client::Client;
use crate::harness::{Daemon, eventually};

fn pair(daemon: &Daemon, name: &str) -> (String, String) {
    daemon.pair("raspbox", &daemon.password, name)
}

#[test]
fn a_device_is_paired_and_comes_in_with_its_token_alone() {
    let daemon = Daemon::start();
    let mut owner = daemon.client();
    let (login, token) = pair(&daemon, "Ann's laptop");
    let mut device = daemon.client_as(&login, &token);
    device.store("/a", b"x").expect(226);
    device.command("SITE RBX INVITE raspbox").expect(550);
    daemon.secure().log_in(&login, &daemon.password).expect(530);
    daemon.secure().log_in(&login, &"0".repeat(64)).expect(530);
    daemon
        .secure()
        .log_in("device:00000000", &token)
        .expect(530);
    let (_, _) = pair(&daemon, "Ann's laptop");
    let list = daemon.control(&["device", "list"]).stdout;
    let list = String::from_utf8(list).unwrap();
    assert!(
        list.contains("  Ann's laptop  ") && list.contains("  Ann's laptop 2  "),
        "{list}"
    );
    let json = daemon.control(&["device", "list", "--json"]).stdout;
    let json: serde_json::Value = serde_json::from_slice(&json).unwrap();
    assert_eq!(json[1]["name"], "Ann's laptop 2");
    assert_eq!(json[0]["user"], "raspbox");
    owner.command("SITE RBX PAIR").expect(501);
    daemon
        .try_to_pair("raspbox", &daemon.password, &"x".repeat(65))
        .expect(550);
    assert_eq!(
        owner.command("SITE RBX VERSION").expect(200).text,
        "200 raspbox 1\r\n"
    );
    let daemon = daemon.restart();
    daemon.client_as(&login, &token).command("PWD").expect(257);
}

#[test]
fn a_device_may_what_its_user_may() {
    let daemon = Daemon::start();
    daemon.add_user("reader", "elr");
    let (login, token) = daemon.pair("reader", "secret", "tv");
    let mut device = daemon.client_as(&login, &token);
    device.store("/a", b"x").expect(550);
    device.take("NLST").unwrap();
}

#[test]
fn a_revoked_device_is_out_at_once() {
    let daemon = Daemon::start();
    let mut owner = daemon.client();
    let (login, token) = pair(&daemon, "phone");
    let mut device = daemon.client_as(&login, &token);
    assert!(device.is_served());
    let revoked = daemon.control(&["device", "revoke", "phone"]);
    assert!(revoked.status.success());
    assert!(device.is_gone());
    daemon.secure().log_in(&login, &token).expect(530);
    assert!(owner.is_served(), "nobody else is touched");
    let again = daemon.control(&["device", "revoke", "phone"]);
    assert!(!again.status.success());
    assert!(
        String::from_utf8(again.stderr)
            .unwrap()
            .contains("\"phone\"")
    );
}

#[test]
fn a_revoked_device_loses_its_transfer_too() {
    let daemon = Daemon::start();
    let (login, token) = pair(&daemon, "phone");
    let mut device = daemon.client_as(&login, &token);
    let cursor = cursor(&mut device);
    let mut data = device.open();
    device
        .command(&format!("RETR /.raspbox/events/{cursor}"))
        .expect(150);
    std::io::Read::read_exact(&mut data, &mut [0; 3]).unwrap();
    daemon.control(&["device", "revoke", "phone"]);
    assert!(device.is_gone());
    let _ = std::io::Read::read_to_end(&mut data, &mut Vec::new());
}

#[test]
fn a_device_unpairs_itself() {
    let daemon = Daemon::start();
    let mut owner = daemon.client();
    let (login, token) = pair(&daemon, "phone");
    let mut device = daemon.client_as(&login, &token);
    device.command("SITE RBX UNPAIR").expect(200);
    eventually("it is out", || device.is_gone());
    daemon.secure().log_in(&login, &token).expect(530);
    owner.command("SITE RBX UNPAIR").expect(550);
}

fn cursor(client: &mut Client) -> String {
    let info = client.take_text("RETR /.raspbox/info");
    let line = info.lines().find_map(|line| line.strip_prefix("cursor "));
    line.unwrap().to_owned()
}

//! Who comes in.

use crate::client::Client;
use crate::harness::{Daemon, eventually};

const TLS12: &[&rustls::SupportedProtocolVersion] = &[&rustls::version::TLS12];
const TLS13: &[&rustls::SupportedProtocolVersion] = &[&rustls::version::TLS13];

#[test]
fn only_the_right_password_comes_in_and_three_wrong_ones_end_the_session() {
    let daemon = Daemon::with("[limits]\nlogin_deadline_s = 600");
    daemon.client().command("PWD").expect(257);

    let mut client = daemon.secure();
    client.command("PWD").expect(530);
    client.log_in("raspbox", "wrong").expect(530);
    client.log_in("nobody", &daemon.password).expect(530);
    client.log_in("raspbox", &daemon.password).expect(230);

    let mut client = daemon.secure();
    for _ in 0..3 {
        client.log_in("raspbox", "wrong").expect(530);
    }
    assert!(client.is_gone());
}

#[test]
fn passwords_are_not_taken_in_plain() {
    let daemon = Daemon::start();
    let mut client = Client::connect(daemon.address);
    client.command("USER raspbox").expect(534);
    client
        .command(&format!("PASS {}", daemon.password))
        .expect(534);
    client.command("PWD").expect(530);
}

#[test]
fn plain_has_to_be_asked_for() {
    let daemon = Daemon::with("tls = 'optional'");
    let mut client = Client::connect(daemon.address);
    client.log_in("raspbox", &daemon.password).expect(230);
    client.store("/a", b"plain").expect(226);
    assert_eq!(client.retrieve("/a").unwrap(), b"plain");
    assert_eq!(
        daemon.client().retrieve("/a").unwrap(),
        b"plain",
        "TLS works as well"
    );
}

#[test]
fn the_certificate_is_the_one_that_was_printed_and_stays() {
    let daemon = Daemon::start();
    for versions in [TLS12, TLS13] {
        let mut client = Client::connect(daemon.address);
        client.speak(versions);
        client.auth_tls();
        client.log_in("raspbox", &daemon.password).expect(230);
        client.protect();
        client.store("/a", b"secret").expect(226);
        assert_eq!(client.retrieve("/a").unwrap(), b"secret");
    }
    let certificate = daemon.secure().certificate();
    let before = daemon.fingerprint.clone();
    let daemon = daemon.restart();
    assert_eq!(daemon.fingerprint, before);
    assert_eq!(daemon.secure().certificate(), certificate);
    assert_eq!(daemon.client().retrieve("/a").unwrap(), b"secret");
}

#[test]
fn users_come_and_go_while_it_runs() {
    let daemon = Daemon::start();
    daemon.add_user("ann", "elr");
    let mut ann = daemon.client_as("ann", "secret");
    ann.command("PWD").expect(257);
    assert!(daemon.control(&["user", "remove", "ann"]).status.success());
    assert!(ann.is_gone(), "her session ends");
    eventually("she can't come back", || {
        daemon.secure().log_in("ann", "secret").code == 530
    });
    let again = daemon.control(&["user", "remove", "ann"]);
    assert!(
        String::from_utf8(again.stderr)
            .unwrap()
            .contains("there is no user \"ann\"")
    );
}

#[test]
fn no_credential_is_ever_logged() {
    let daemon = Daemon::start();
    let mut client = daemon.client();
    let (_, token) = daemon.pair("raspbox", &daemon.password, "laptop");
    daemon
        .secure()
        .log_in("raspbox", "a-wrong-guess")
        .expect(530);
    client.store("/a", b"x").expect(226);
    let log = daemon.log();
    assert!(log.contains("logged in") && log.contains("login failed"));
    for secret in [daemon.password.as_str(), &token, "a-wrong-guess"] {
        assert!(!log.contains(secret), "{log}");
    }
    for name in ["users.toml", "devices.toml"] {
        let text = std::fs::read_to_string(daemon.state().join(name)).unwrap();
        assert!(
            !text.contains(&token) && !text.contains(&daemon.password),
            "{text}"
        );
    }
}

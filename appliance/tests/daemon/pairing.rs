//! Pairing by a key exchange: who has the password gets a login, and nobody learns anything else.

use crate::client::{Client, Reply};
use crate::harness::Daemon;
use raspbox_protocol::Digest;
use raspbox_protocol::pairing::{Accepted, Invitation, LOGIN, Terms, Waiting};

/// Somebody who wants to pair: logged in for that and nothing else.
pub(crate) fn stranger(daemon: &Daemon) -> Client {
    let mut client = daemon.secure();
    client.log_in(LOGIN, "anything").expect(230);
    client
}

fn fingerprint(daemon: &Daemon) -> [u8; 32] {
    let digest: Digest = daemon.fingerprint.parse().unwrap();
    *digest.as_bytes()
}

fn invite(client: &mut Client, user: &str) -> Invitation {
    let reply = client
        .command(&format!("SITE RBX INVITE {user}"))
        .expect(200);
    reply.text[4..].trim_end().parse().unwrap()
}

/// The first answer to an invitation, as a line to send.
fn answer(daemon: &Daemon, client: &mut Client, user: &str, password: &str) -> (Waiting, String) {
    let invitation = invite(client, user);
    let secret = invitation.recipe.hash(password).unwrap();
    let fingerprint = fingerprint(daemon);
    let terms = Terms {
        user,
        fingerprint: &fingerprint,
    };
    let (waiting, answer) = invitation.answer(terms, &secret, "laptop").unwrap();
    (waiting, format!("SITE RBX PAIR {answer} laptop"))
}

fn guess(daemon: &Daemon, user: &str, password: &str) -> (Client, Reply) {
    let mut client = stranger(daemon);
    let (_, line) = answer(daemon, &mut client, user, password);
    let reply = client.command(&line);
    (client, reply)
}

#[test]
fn the_password_pairs_and_the_appliance_proves_that_it_has_it() {
    let daemon = Daemon::start();
    let mut client = stranger(&daemon);
    let (waiting, line) = answer(&daemon, &mut client, "raspbox", &daemon.password);
    let reply = client.command(&line).expect(200);
    let accepted: Accepted = reply.text[4..].trim_end().parse().unwrap();
    waiting.check(&accepted).unwrap();
    let login = format!("device:{}", accepted.device_id);
    let mut device = daemon.client_as(&login, &accepted.token);
    device.store("/a", b"x").expect(226);
    client.command(&line).expect(550);
    assert!(!daemon.log().contains(&accepted.token));
}

#[test]
fn a_wrong_guess_learns_nothing_and_ends_the_session() {
    let daemon = Daemon::start();
    for (user, password) in [
        ("raspbox", "wrong"),
        ("raspbox", ""),
        ("nobody", daemon.password.as_str()),
    ] {
        let (mut client, reply) = guess(&daemon, user, password);
        assert_eq!(reply.expect(530).text, "530 not this user's password\r\n");
        assert!(client.is_gone(), "{user} {password}");
    }
    let list = daemon.control(&["device", "list"]).stdout;
    assert_eq!(list, b"no device is paired\n");
    assert_eq!(daemon.log().matches("pairing failed").count(), 3);
}

#[test]
fn an_answer_is_good_once() {
    let daemon = Daemon::start();
    let mut first = stranger(&daemon);
    let (_, line) = answer(&daemon, &mut first, "raspbox", &daemon.password);
    let mut second = stranger(&daemon);
    invite(&mut second, "raspbox");
    second.command(&line).expect(530);
    assert!(second.is_gone());
    first.command("SITE RBX INVITE raspbox").expect(550);
    let mut third = stranger(&daemon);
    third.command(&line).expect(550);
    assert_eq!(
        daemon.control(&["device", "list"]).stdout,
        b"no device is paired\n"
    );
}

#[test]
fn an_unknown_user_cannot_be_told_from_a_known_one() {
    let daemon = Daemon::start();
    let shape = |user: &str| {
        let text = invite(&mut stranger(&daemon), user).recipe.to_string();
        let (cost, salt) = text.split_once(' ').unwrap();
        (cost.to_owned(), salt.len())
    };
    assert_eq!(shape("raspbox"), shape("nobody"));
    let recipe = |user: &str| invite(&mut stranger(&daemon), user).recipe;
    assert_eq!(recipe("nobody"), recipe("nobody"));
    assert_ne!(recipe("nobody"), recipe("somebody"));
}

#[test]
fn who_only_pairs_may_do_nothing_else() {
    let daemon = Daemon::with("[limits]\nlogin_deadline_s = 2");
    std::fs::write(daemon.folder().join("a"), b"secret").unwrap();
    let mut client = stranger(&daemon);
    for command in [
        "MLST /a",
        "SIZE /a",
        "MDTM /a",
        "CWD /",
        "DELE /a",
        "RMD /a",
        "MKD /b",
        "RNFR /a",
        "SITE HASH /a",
        "SITE UTIME 20010909014640 /a",
        "SITE CHMOD 755 /a",
        "SITE RBX VERSION",
        "SITE RBX UNPAIR",
        "SITE RBX CLOCK",
        "PASV",
        "EPSV",
    ] {
        let reply = client.command(command);
        assert!(reply.code >= 400, "{command}: {}", reply.text);
    }
    assert!(!client.command("STAT /").text.contains(" a\r\n"));
    assert_eq!(daemon.content("a").unwrap(), b"secret");
    assert!(client.is_gone(), "nor stay for longer than its deadline");
}

#[test]
fn pairing_needs_tls() {
    let daemon = Daemon::with("tls = 'optional'");
    let mut client = Client::connect(daemon.address);
    client.log_in(LOGIN, "anything").expect(530);
    let mut client = daemon.client();
    client.command("SITE RBX INVITE raspbox").expect(550);
}

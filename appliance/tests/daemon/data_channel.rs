//! What goes over data connections is encrypted, whatever the order of commands.

use crate::client::{Client, Wire};
use crate::harness::Daemon;
use rustls::version::{TLS12, TLS13};
use std::io::{Read, Write};

#[test]
fn no_order_of_commands_gets_a_byte_in_plain() {
    let daemon = Daemon::start();
    daemon.client().store("/a", b"secret").expect(226);

    // PASV needs PROT P.
    let mut client = daemon.client();
    client.command("PROT C").expect(200);
    assert!(client.command("PASV").code >= 500);

    // EPSV isn't looked at by libunftp, nor PROT C after PASV.
    let orders: [&[&str]; 4] = [
        &["PROT C", "EPSV"],
        &["EPSV", "PROT C"],
        &["PASV", "PROT C"],
        &["EPSV", "PROT C", "PROT P", "PROT C"],
    ];
    for order in orders {
        for command in ["RETR /a", "LIST", "NLST", "MLSD", "RETR /.raspbox/info"] {
            let mut client = daemon.client();
            let mut data = None;
            client.unprotect();
            for step in order {
                match *step {
                    "EPSV" => data = Some(client.open()),
                    "PASV" => data = Some(client.open_passive()),
                    prot => drop(client.command(prot).expect(200)),
                }
            }
            // libunftp takes the protection of a data connection when it comes in.
            let mut data = data.unwrap();
            client.command(command).expect(150);
            // Where libunftp waits for a handshake, this ends it, and so the connection.
            data.half_close();
            let mut content = Vec::new();
            let _ = data.read_to_end(&mut content);
            let text = String::from_utf8_lossy(&content).into_owned();
            assert!(
                !text.contains("secret") && !text.contains('a'),
                "{order:?} {command}: {text}"
            );
        }
    }
}

/// One upload; whether its data connection resumed a session.
fn resumes(client: &mut Client) -> bool {
    let mut data = client.open();
    client.command("STOR /a").expect(150);
    data.write_all(b"secret").unwrap();
    data.flush().unwrap();
    let resumed = data.is_resumed();
    data.end();
    client.reply().unwrap().expect(226);
    resumed
}

#[test]
fn a_data_connection_resumes_its_own_control_connection_and_no_other() {
    for version in [&TLS12, &TLS13] {
        let daemon = Daemon::start();
        let log_in = |client: &mut Client| {
            client.auth_tls();
            client.log_in("raspbox", &daemon.password).expect(230);
            client.protect();
        };
        let mut client = Client::connect(daemon.address);
        client.speak(&[version]);
        log_in(&mut client);
        for _ in 0..3 {
            assert!(resumes(&mut client), "{version:?}");
        }
        let mut other = Client::connect(daemon.address);
        other.know_what(&client);
        other.auth_tls();
        assert!(!other.is_resumed(), "{version:?}: with another's ticket");
        // It counts as a handshake like any other, and what comes after it needs its own.
        client.unprotect();
        client.command("PROT C").expect(200);
        client.take("RETR /a").unwrap_err();
    }
}

/// On a data connection a ticket of TLS 1.3 would stay unread by whoever uploads, and closing it then is a reset.
#[test]
fn tickets_come_over_the_control_connection_alone() {
    let daemon = Daemon::start();
    let mut client = Client::connect(daemon.address);
    client.speak(&[&TLS13]);
    client.auth_tls();
    client.log_in("raspbox", &daemon.password).expect(230);
    client.protect();
    assert!(resumes(&mut client), "an upload");
    let resumed = (0..5).map(|_| {
        let mut data = client.open();
        client.command("RETR /a").expect(150);
        // All that comes is read, tickets as well.
        data.read_to_end(&mut Vec::new()).unwrap();
        client.reply().unwrap().expect(226);
        data.is_resumed()
    });
    // Each is used once, and the control connection was given four.
    let resumed: Vec<bool> = resumed.collect();
    assert_eq!(resumed, [true, true, true, false, false]);
}

#[test]
fn a_plain_upload_is_refused_before_it_is_stored() {
    let daemon = Daemon::start();
    let mut client = daemon.client();
    client.command("PROT C").expect(200);
    client.unprotect();
    let reply = client.store("/a", b"plain");
    assert_eq!(reply.code, 450, "{reply:?}");
    assert_eq!(daemon.content("a"), None);
    client.take("LIST").unwrap_err();
    client.protect();
    client.store("/a", b"encrypted").expect(226);
}

#[test]
fn a_handshake_of_before_does_not_count() {
    let daemon = Daemon::start();
    let mut client = daemon.client();
    client.store("/a", b"secret").expect(226);
    // A data connection that shakes hands, and breaks before the transfer.
    let mut data = client.open();
    client.command("RETR /a").expect(150);
    if let Wire::Tls(tls) = &mut data {
        // Only the client's first message, and then nonsense.
        tls.conn.write_tls(&mut tls.sock).unwrap();
        tls.sock.write_all(&[0; 64]).unwrap();
    }
    data.cut();
    client.command("PROT C").expect(200);
    client.unprotect();
    let mut data = client.open();
    client.command("RETR /a").expect(150);
    client.reply().unwrap().expect(450);
    let mut content = Vec::new();
    data.read_to_end(&mut content).unwrap();
    assert_eq!(content, b"");
}

#[test]
fn nonsense_on_a_data_connection_harms_nobody_else() {
    let daemon = Daemon::start();
    let mut other = daemon.client();
    other.store("/a", b"secret").expect(226);
    for _ in 0..10 {
        let mut client = daemon.client();
        client.unprotect();
        let mut data = client.open();
        client.command("RETR /a").expect(150);
        data.write_all(&[0x55; 4096]).unwrap();
        data.cut();
    }
    assert_eq!(other.retrieve("/a").unwrap(), b"secret");
    assert_eq!(daemon.client().retrieve("/a").unwrap(), b"secret");
}

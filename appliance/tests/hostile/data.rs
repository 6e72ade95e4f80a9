//! Data connections: too many, in plain, and of others.

use crate::client::{Client, Wire};
use crate::harness::Daemon;
use crate::oracle::Oracle;
use std::io::{Read, Write};

#[test]
fn asking_for_ports_without_end_takes_none_away() {
    // As few ports as are left where somebody has taken the others.
    let daemon = Daemon::with("passive_ports = '61100-61149'");
    let oracle = Oracle::before(&daemon);
    let mut greedy: Vec<Client> = (0..4).map(|_| daemon.client()).collect();
    for _ in 0..30 {
        for client in &mut greedy {
            for verb in ["EPSV", "PASV"] {
                let _ = client.try_command(verb);
            }
        }
    }
    oracle.after(&daemon);
}

#[test]
fn no_byte_goes_in_plain_whatever_is_said_before() {
    let daemon = Daemon::start();
    let oracle = Oracle::before(&daemon);
    daemon.client().store("/a", b"secret").expect(226);
    for orders in [
        &["PROT C", "EPSV"][..],
        &["EPSV", "PROT C"],
        &["EPSV ALL", "PROT C", "EPSV"],
        &["PROT C", "PROT P", "EPSV", "PROT C"],
        &["PBSZ 1024", "PROT S", "PROT E", "PROT C", "EPSV"],
        &["CCC", "EPSV", "PROT C"],
    ] {
        let mut client = daemon.client();
        client.unprotect();
        let mut data = None;
        for order in orders {
            let Ok(reply) = client.try_command(order) else {
                break;
            };
            if reply.code == 229 {
                data = Some(client.open_answered(&reply));
            }
        }
        let Some(mut data) = data else { continue };
        if client.try_command("RETR /a").is_err() {
            continue;
        }
        data.half_close();
        let mut content = Vec::new();
        let _ = data.read_to_end(&mut content);
        assert!(
            !content.windows(6).any(|window| window == b"secret"),
            "{orders:?}"
        );
    }
    oracle.after(&daemon);
}

#[test]
fn garbage_instead_of_a_handshake_costs_the_session_at_most() {
    let daemon = Daemon::start();
    let oracle = Oracle::before(&daemon);
    let sessions: Vec<(Client, Wire)> = (0..8)
        .map(|_| {
            let mut client = daemon.client();
            client.unprotect();
            let mut data = client.open();
            let _ = data.write_all(&[0x16; 4096]);
            client.send("LIST");
            (client, data)
        })
        .collect();
    oracle.after(&daemon);
    drop(sessions);
}

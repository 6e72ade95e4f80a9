//! Very many at once.

use crate::client::Client;
use crate::harness::{Daemon, eventually};
use crate::oracle::Oracle;
use std::net::TcpStream;

#[test]
fn thousands_that_only_connect_lock_nobody_else_out() {
    let daemon = Daemon::with("[limits]\nlogin_deadline_s = 5");
    let oracle = Oracle::before(&daemon);
    // From one address; a crowd from many is what max_sessions is for.
    let mut crowd = Vec::new();
    for _ in 0..3000 {
        crowd.push(TcpStream::connect(daemon.address).unwrap());
        if crowd.len() == 500 {
            crowd.clear();
        }
    }
    let mut other = Client::connect_from([127, 0, 0, 2].into(), daemon.address);
    other.reply().unwrap().expect(220);
    other.auth_tls();
    other.log_in("raspbox", &daemon.password).expect(230);
    drop(crowd);
    eventually("there is room again", || {
        Client::connect_silently(daemon.address)
            .reply()
            .is_ok_and(|reply| reply.code == 220)
    });
    eventually("for some more as well", || {
        let several: Vec<_> = (0..4)
            .map(|_| Client::connect_silently(daemon.address).reply())
            .collect();
        several
            .iter()
            .all(|reply| reply.as_ref().is_ok_and(|reply| reply.code == 220))
    });
    oracle.after(&daemon);
}

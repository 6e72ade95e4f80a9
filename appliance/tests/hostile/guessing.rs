//! Guesses at passwords.

use crate::harness::Daemon;
use crate::oracle::Oracle;

/// So many wrong passwords an address may have; the daemon's own number.
const WRONG_MAX: usize = 10;

#[test]
fn after_ten_wrong_ones_an_address_may_not_guess_but_paired_computers_come_in() {
    let daemon = Daemon::start();
    let oracle = Oracle::before(&daemon);
    let (login, token) = daemon.pair("raspbox", &daemon.password, "laptop");
    std::thread::scope(|scope| {
        for n in 0..WRONG_MAX {
            let daemon = &daemon;
            // Users that are there and users that aren't.
            let user = if n % 2 == 0 { "raspbox" } else { "nobody" };
            scope.spawn(move || daemon.secure().log_in(user, "wrong").expect(530));
        }
    });
    daemon
        .secure()
        .log_in("raspbox", &daemon.password)
        .expect(530);
    daemon
        .try_to_pair("raspbox", &daemon.password, "phone")
        .expect(530);
    assert!(daemon.log().contains("too many wrong passwords"));
    let mut device = daemon.client_as(&login, &token);
    device.store("/a", b"x").expect(226);
    // Another address is another matter, and all that is left of the oracle.
    let mut other = crate::client::Client::connect_from([127, 0, 0, 2].into(), daemon.address);
    other.reply().unwrap().expect(220);
    other.auth_tls();
    other.log_in("raspbox", &daemon.password).expect(230);
    drop(oracle);
}

#[test]
fn a_crowd_of_guesses_leaves_memory_and_others_alone() {
    let daemon = Daemon::start();
    let oracle = Oracle::before(&daemon);
    std::thread::scope(|scope| {
        for n in 0..9 {
            let daemon = &daemon;
            scope.spawn(move || daemon.secure().log_in(&format!("user{n}"), "x").expect(530));
        }
    });
    oracle.after(&daemon);
}

//! How it ends, and what it tells systemd.

use crate::harness::{Daemon, eventually};
use nix::sys::signal::Signal;
use std::io::{Read, Write};
use std::os::unix::net::UnixDatagram;
use std::time::{Duration, Instant};

#[test]
fn it_ends_when_asked_to_and_tells_its_clients() {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let mut daemon = Daemon::start();
        let mut client = daemon.client();
        daemon.signal(signal);
        assert!(client.is_gone());
        assert!(daemon.wait().success());
        assert!(!daemon.state().join("status.json").exists());
    }
}

#[test]
fn a_transfer_in_flight_is_finished() {
    let mut daemon = Daemon::start();
    let mut client = daemon.client();
    let mut data = client.open();
    client.command("STOR /a").expect(150);
    data.write_all(&[1; 100_000]).unwrap();
    data.flush().unwrap();
    let mut idle = daemon.client();
    daemon.signal(Signal::SIGTERM);
    assert!(idle.is_gone(), "who does nothing is not waited for");
    data.write_all(&[2; 1_000_000]).unwrap();
    data.end();
    client.reply().unwrap().expect(226);
    assert!(daemon.wait().success());
    assert_eq!(daemon.content("a").unwrap().len(), 1_100_000);
}

#[test]
fn a_transfer_that_hangs_is_not_waited_for_forever() {
    let mut daemon = Daemon::start();
    let mut client = daemon.client();
    let mut data = client.open();
    client.command("STOR /a").expect(150);
    data.write_all(&[1; 100_000]).unwrap();
    data.flush().unwrap();
    let begin = Instant::now();
    daemon.signal(Signal::SIGTERM);
    eventually("it is stopping", || daemon.log().contains("stopping"));
    daemon.signal(Signal::SIGTERM);
    assert!(daemon.wait().success());
    assert!(
        begin.elapsed() < Duration::from_secs(8),
        "a second signal doesn't wait"
    );
    assert_eq!(daemon.content("a"), None);
}

#[test]
fn streams_of_events_end_at_once() {
    let mut daemon = Daemon::start();
    let mut client = daemon.client();
    let info = client.take_text("RETR /.raspbox/info");
    let cursor = info
        .lines()
        .find_map(|line| line.strip_prefix("cursor "))
        .unwrap();
    let mut data = client.open();
    client
        .command(&format!("RETR /.raspbox/events/{cursor}"))
        .expect(150);
    data.read_exact(&mut [0; 3]).unwrap();
    let begin = Instant::now();
    daemon.signal(Signal::SIGTERM);
    data.read_to_end(&mut Vec::new()).unwrap();
    client.reply().unwrap().expect(226);
    assert!(daemon.wait().success());
    assert!(begin.elapsed() < Duration::from_secs(5));
}

#[test]
fn systemd_hears_when_it_is_ready_and_that_it_lives() {
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("notify");
    let systemd = UnixDatagram::bind(&path).unwrap();
    systemd
        .set_read_timeout(Some(Duration::from_secs(120)))
        .unwrap();
    // One session is allowed, and taken: the probe comes in all the same.
    let mut daemon = Daemon::spawn("[limits]\nmax_sessions = 1", |command, _| {
        command
            .env("NOTIFY_SOCKET", &path)
            .env("WATCHDOG_USEC", "300000");
    });
    let next = |wanted: &str| {
        let mut buffer = [0; 1024];
        loop {
            let len = systemd.recv(&mut buffer).unwrap();
            let message = String::from_utf8_lossy(&buffer[..len]).into_owned();
            if message.contains(wanted) {
                return message;
            }
        }
    };
    next("READY=1");
    let mut client = daemon.client();
    for _ in 0..5 {
        next("WATCHDOG=1");
    }
    assert!(client.is_served());
    let status = next("STATUS=OK: ");
    assert!(
        status.contains("1 online") || status.contains("0 online"),
        "{status}"
    );
    daemon.signal(Signal::SIGTERM);
    next("STOPPING=1");
    assert!(daemon.wait().success());
}

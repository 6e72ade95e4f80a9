//! Deadlines and caps.

use crate::client::Client;
use crate::harness::{Daemon, eventually};
use std::time::{Duration, Instant};

#[test]
fn who_does_not_log_in_is_shown_out() {
    let daemon = Daemon::with("[limits]\nlogin_deadline_s = 10");
    let begin = Instant::now();
    let mut silent = Client::connect(daemon.address);
    let mut halfway = daemon.secure();
    halfway.command("USER raspbox").expect(331);
    let mut inside = daemon.client();
    assert!(silent.is_gone());
    assert!(halfway.is_gone());
    assert!(begin.elapsed() >= Duration::from_secs(10));
    assert!(inside.is_served(), "who has logged in stays");
}

#[test]
fn who_shakes_no_hands_is_shown_out() {
    let daemon = Daemon::with("[limits]\nlogin_deadline_s = 1");
    let mut client = Client::connect(daemon.address);
    client.command("AUTH TLS").expect(234);
    assert!(client.is_gone());
}

#[test]
fn there_are_only_so_many_sessions() {
    for limits in ["max_sessions = 3", "max_sessions_per_address = 3"] {
        let daemon = Daemon::with(&format!("[limits]\n{limits}"));
        let mut sessions: Vec<Client> = (0..3).map(|_| daemon.client()).collect();
        let mut refused = Client::connect_silently(daemon.address);
        assert_eq!(refused.reply().unwrap().code, 421, "{limits}");
        assert!(refused.is_gone());
        assert!(sessions[0].is_served());
        sessions.pop().unwrap().vanish();
        eventually("there is room again", || {
            let mut next = Client::connect_silently(daemon.address);
            next.reply().is_ok_and(|reply| reply.code == 220)
        });
    }
}

#[test]
fn an_idle_session_is_ended() {
    let daemon = Daemon::with("[limits]\nidle_timeout_s = 1");
    assert!(daemon.client().is_gone());
}

#[test]
fn an_upload_that_stands_still_is_ended_and_leaves_nothing() {
    let daemon = Daemon::with("[limits]\nidle_timeout_s = 5");
    let mut client = daemon.client();
    let mut data = client.open();
    client.command("STOR /a").expect(150);
    std::io::Write::write_all(&mut data, b"begin").unwrap();
    client.reply().unwrap().expect(426);
    assert_eq!(daemon.content("a"), None);
}

#[test]
fn many_sessions_have_their_data_connections_at_the_same_time() {
    let daemon = Daemon::start();
    std::thread::scope(|scope| {
        for n in 0..8 {
            let daemon = &daemon;
            scope.spawn(move || {
                let mut client = daemon.client();
                for i in 0..25 {
                    let content = format!("{n} {i}").into_bytes();
                    client.store(&format!("/{n}-{i}"), &content).expect(226);
                    assert_eq!(client.retrieve(&format!("/{n}-{i}")).unwrap(), content);
                }
            });
        }
    });
    assert_eq!(daemon.client().take_text("NLST").lines().count(), 200);
}

#[test]
fn a_command_in_the_middle_of_a_transfer_wedges_at_most_its_session() {
    let daemon = Daemon::start();
    let mut other = daemon.client();
    other.store("/a", &vec![1; 8 << 20]).expect(226);
    let mut client = daemon.client();
    let mut data = client.open();
    client.command("RETR /a").expect(150);
    std::io::Read::read_exact(&mut data, &mut [0; 1000]).unwrap();
    for command in ["CWD /", "ABOR", "NOOP", "SIZE /a", "CWD /", "PWD"] {
        client.send(command);
    }
    drop(data);
    client.vanish();
    assert!(other.is_served());
    eventually("its place is free again", || daemon.sessions() == 1);
}

#[test]
fn where_descriptors_run_out_it_waits_and_goes_on() {
    const CROWD: usize = 40;
    let daemon = Daemon::with("[limits]\nmax_sessions_per_address = 64");
    let descriptors = || {
        let all = std::fs::read_dir(format!("/proc/{}/fd", daemon.pid())).unwrap();
        all.count()
    };
    daemon.client().store("/before", b"x").expect(226);
    eventually("nobody is there", || daemon.sessions() == 0);
    let before = descriptors();
    // util-linux, on every Debian.
    let pid = daemon.pid().to_string();
    let limited = std::process::Command::new("prlimit")
        .args(["--pid", &pid, "--nofile=40:40"])
        .status()
        .unwrap();
    assert!(limited.success());
    let crowd: Vec<_> = (0..CROWD)
        .map(|_| Client::connect_silently(daemon.address))
        .collect();
    eventually("they have run out", || {
        let log = daemon.log();
        ["cannot accept", "no runtime", "connection refused"]
            .iter()
            .any(|said| log.contains(said))
    });
    let (begin, lines) = (Instant::now(), daemon.log().lines().count());
    eventually("a second has passed", || {
        begin.elapsed() > Duration::from_secs(1)
    });
    let lines = daemon.log().lines().count() - lines;
    // Of each connection at most that it couldn't be watched, had no runtime and ended, and five
    // times a second that none can be accepted.
    let elapsed = begin.elapsed();
    let bound = 3 * CROWD as u128 + elapsed.as_millis() / 100;
    assert!((lines as u128) < bound, "{lines} lines in {elapsed:?}");
    drop(crowd);
    // Who is greeted has queued behind all of the crowd.
    eventually("it greets again", || {
        let mut client = Client::connect_silently(daemon.address);
        client.reply().is_ok_and(|reply| reply.code == 220)
    });
    eventually("each of the crowd is let go", || descriptors() <= before);
    daemon.client().store("/a", b"x").expect(226);
}

#[test]
fn what_a_password_took_is_free_again_once_it_was_looked_at() {
    let daemon = Daemon::start();
    for _ in 0..3 {
        let client = daemon.client();
        // A hash takes 19 MiB; all else is less than half as much.
        let kib = own_kib(&daemon);
        assert!(kib < 12 << 10, "{kib} KiB");
        client.vanish();
    }
}

#[test]
fn a_session_that_waits_keeps_little_of_its_stack() {
    const SESSIONS: u64 = 4;
    let daemon = Daemon::start();
    let mut clients: Vec<Client> = (0..SESSIONS).map(|_| daemon.client()).collect();
    for round in 0..2 {
        for (at, client) in clients.iter_mut().enumerate() {
            client.store(&format!("/{round}-{at}"), b"deep").expect(226);
        }
        // A login and an upload reach down to 70 KiB, and more where nothing is optimised.
        eventually("what stacks reached is given back", || {
            let (count, kib) = stacks(&daemon);
            assert!(count >= SESSIONS, "{count} stacks");
            kib <= count * 20
        });
    }
}

/// How many stacks the daemon has for sessions, and how many KiB of them are in memory.
fn stacks(daemon: &Daemon) -> (u64, u64) {
    let smaps = std::fs::read_to_string(format!("/proc/{}/smaps", daemon.pid())).unwrap();
    let number = |line: &str, name| {
        let value = line.strip_prefix(name)?.trim().strip_suffix(" kB")?;
        value.parse::<u64>().ok()
    };
    let (mut count, mut kib, mut is_stack) = (0, 0, false);
    for line in smaps.lines() {
        if let Some(size) = number(line, "Size:") {
            // As door.rs has it.
            is_stack = size == 1 << 10;
        } else if let Some(rss) = number(line, "Rss:").filter(|rss| is_stack && *rss > 0) {
            count += 1;
            kib += rss;
        }
    }
    (count, kib)
}

/// What the daemon has allocated and not given back.
fn own_kib(daemon: &Daemon) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", daemon.pid())).unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("RssAnon:"));
    let number = line.unwrap().trim().trim_end_matches(" kB");
    number.parse().unwrap()
}

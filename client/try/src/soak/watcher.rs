//! Somebody who behaves, and must be served whatever the others do.

use crate::session::Door;
use anyhow::{Context, ensure};
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// From where.
const FROM: Ipv4Addr = Ipv4Addr::new(127, 0, 1, 1);

/// How long between two visits.
const BETWEEN: Duration = Duration::from_secs(1);

/// Comes again and again, until it is told to stop or isn't served; returns how long the slowest visit took.
pub(crate) fn watch(door: &Arc<Door>, stop: &AtomicBool) -> anyhow::Result<Duration> {
    let mut slowest = Duration::ZERO;
    let mut number = 0_u64;
    while !stop.load(Ordering::Relaxed) {
        let begin = Instant::now();
        visit(door, number).with_context(|| {
            let after = begin.elapsed();
            format!("somebody who behaves was not served, after {after:.1?}")
        })?;
        slowest = slowest.max(begin.elapsed());
        number += 1;
        thread::sleep(BETWEEN);
    }
    Ok(slowest)
}

fn visit(door: &Door, number: u64) -> anyhow::Result<()> {
    // With a password now and then: that takes the appliance's memory for hashes.
    let login = usize::from(!number.is_multiple_of(5));
    let (user, secret) = &door.logins[login];
    let (mut session, reply) = door.enter(FROM, (user, secret))?;
    ensure!(reply.code == 230, "login: {}", reply.text);
    let content = format!("visit {number}\n");
    let reply = session.store("/watched.txt", content.as_bytes())?;
    ensure!(reply.code == 226, "upload: {}", reply.text);
    let found = session.take("RETR /watched.txt")?;
    let found = found.map_err(|reply| anyhow::anyhow!("download: {}", reply.text))?;
    ensure!(found == content.as_bytes(), "another content came back");
    session.command("QUIT")?;
    Ok(())
}

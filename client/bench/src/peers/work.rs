//! What the servers are asked to do.

use crate::server::Server;
use crate::table::Row;
use anyhow::{Context, ensure};
use raspbox::remote::connection::Connection;
use raspbox::remote::control::{Control, Data};
use std::io::{Read, Write};
use std::time::Instant;

/// How much of everything.
#[derive(Debug)]
pub(crate) struct Sizes {
    large_mib: usize,
    small_files: usize,
    listed: usize,
    /// How many are logged in at once.
    pub(crate) sessions: usize,
}

/// Measured once, at the start.
pub(crate) const IDLE: Row = Row::cost("memory idle", "MiB");
/// Measured once, at the end.
pub(crate) const MANY_SESSIONS: Row = Row::cost("memory with many sessions", "MiB");

const LARGE_UP: Row = Row::speed("one large file up", "MiB/s");
const LARGE_UP_CPU: Row = Row::cost("processor time for one up", "s/GiB");
const LARGE_DOWN: Row = Row::speed("one large file down", "MiB/s");
const LARGE_DOWN_CPU: Row = Row::cost("processor time for one down", "s/GiB");
const SMALL_UP: Row = Row::speed("small files up, one connection", "files/s");
const SMALL_DOWN: Row = Row::speed("small files down, one connection", "files/s");
const SMALL_UP_CPU: Row = Row::cost("processor time for one of them up", "µs");
const SMALL_DOWN_CPU: Row = Row::cost("processor time for one of them down", "µs");
const SMALL_UP_FOUR: Row = Row::speed("small files up, four connections", "files/s");
const SMALL_DOWN_FOUR: Row = Row::speed("small files down, four connections", "files/s");
const LISTED: Row = Row::cost("LIST of a full folder", "ms");

/// What a small file has, in bytes.
const SMALL_BYTES: usize = 4 << 10;

/// What is given to the system at once, in bytes.
const PIECE_BYTES: usize = 256 << 10;

impl Sizes {
    /// For tables.
    pub(crate) const WHOLE: Sizes = Sizes {
        large_mib: 1 << 10,
        small_files: 5_000,
        listed: 10_000,
        sessions: 200,
    };

    /// To see that it works.
    pub(crate) const QUICK: Sizes = Sizes {
        large_mib: 128,
        small_files: 500,
        listed: 1_000,
        sessions: 50,
    };
}

/// Makes folders on the server, and in one of them what is listed.
pub(crate) fn prepare(server: &Server, sizes: &Sizes) -> anyhow::Result<()> {
    let mut session = server.open()?;
    for folder in ["small", "listed"] {
        // By the server itself, so that they belong to whoever it runs as.
        let reply = session.command(&format!("MKD {}", server.path(folder)))?;
        ensure!(reply.is_done(), "MKD: {reply:?}");
    }
    (0..sizes.listed).try_for_each(|n| {
        let path = server.path(&format!("listed/a file with the number {n}"));
        put(&mut session, &path, &[b""])
    })
}

/// Does everything once.
pub(crate) fn round(server: &Server, sizes: &Sizes) -> anyhow::Result<Vec<(Row, f64)>> {
    let piece = random_piece()?;
    let mut measured = large(server, sizes, &piece)?;
    let one = [SMALL_UP, SMALL_DOWN];
    let [up, down] = small(server, sizes, &piece, (1, one))?;
    measured.extend([up.0, (SMALL_UP_CPU, up.1), down.0, (SMALL_DOWN_CPU, down.1)]);
    let four = [SMALL_UP_FOUR, SMALL_DOWN_FOUR];
    let [up, down] = small(server, sizes, &piece, (4, four))?;
    measured.extend([up.0, down.0]);
    let mut session = server.open()?;
    let (seconds, _) = timed(server, || {
        let len = get(&mut session, &format!("LIST {}", server.path("listed")))?;
        let shortest = "a file with the number 0\r\n".len() * sizes.listed;
        ensure!(len > shortest, "{len} bytes of a list came");
        Ok(())
    })?;
    measured.push((LISTED, seconds * 1000.0));
    Ok(measured)
}

/// One file there and back.
fn large(server: &Server, sizes: &Sizes, piece: &[u8]) -> anyhow::Result<Vec<(Row, f64)>> {
    #[expect(clippy::cast_precision_loss, reason = "thousands")]
    let (mib, gib) = (sizes.large_mib as f64, sizes.large_mib as f64 / 1024.0);
    let path = server.path("large");
    let pieces = vec![piece; (sizes.large_mib << 20) / PIECE_BYTES];
    let mut session = server.open()?;
    let (up_s, up_cpu_s) = timed(server, || put(&mut session, &path, &pieces))?;
    let (down_s, down_cpu_s) = timed(server, || {
        let len = get(&mut session, &format!("RETR {path}"))?;
        ensure!(len == sizes.large_mib << 20, "{len} bytes of it came");
        Ok(())
    })?;
    Ok(vec![
        (LARGE_UP, mib / up_s),
        (LARGE_UP_CPU, up_cpu_s / gib),
        (LARGE_DOWN, mib / down_s),
        (LARGE_DOWN_CPU, down_cpu_s / gib),
    ])
}

/// Many files there and back, over so many connections at once: how fast, and the server's processor time for
/// each of them in microseconds.
fn small(
    server: &Server,
    sizes: &Sizes,
    piece: &[u8],
    (connections, [up, down]): (usize, [Row; 2]),
) -> anyhow::Result<[((Row, f64), f64); 2]> {
    #[expect(clippy::cast_precision_loss, reason = "thousands")]
    let files = sizes.small_files as f64;
    let mut sessions: Vec<Connection> = (0..connections)
        .map(|_| server.open())
        .collect::<Result<_, _>>()?;
    let (up_s, up_cpu_s) = timed(server, || {
        shared(&mut sessions, sizes.small_files, |session, n| {
            let content = piece.get(n..n + SMALL_BYTES).context("a larger piece")?;
            put(session, &server.path(&format!("small/{n}")), &[content])
        })
    })?;
    let (down_s, down_cpu_s) = timed(server, || {
        shared(&mut sessions, sizes.small_files, |session, n| {
            let path = server.path(&format!("small/{n}"));
            let len = get(session, &format!("RETR {path}"))?;
            ensure!(len == SMALL_BYTES, "{len} bytes of {path} came");
            Ok(())
        })
    })?;
    Ok([
        ((up, files / up_s), up_cpu_s * 1e6 / files),
        ((down, files / down_s), down_cpu_s * 1e6 / files),
    ])
}

/// Uploads these bytes.
fn put(session: &mut Connection, path: &str, pieces: &[&[u8]]) -> anyhow::Result<()> {
    let opened = session.transfer(&format!("STOR {path}"), 0)?;
    let mut transfer = opened.map_err(|reply| anyhow::anyhow!("STOR {path}: {reply:?}"))?;
    for piece in pieces {
        transfer.write_all(piece)?;
    }
    let reply = transfer.finish_upload()?;
    ensure!(reply.is_done(), "STOR {path}: {reply:?}");
    Ok(())
}

/// Takes what the server sends, and counts its bytes.
fn get(session: &mut Connection, command: &str) -> anyhow::Result<usize> {
    let opened = session.transfer(command, 0)?;
    let mut transfer = opened.map_err(|reply| anyhow::anyhow!("{command}: {reply:?}"))?;
    let (mut piece, mut len) = (vec![0; PIECE_BYTES], 0);
    loop {
        match transfer.read(&mut piece)? {
            0 => break,
            read => len += read,
        }
    }
    let reply = transfer.finish_download()?;
    ensure!(reply.is_done(), "{command}: {reply:?}");
    Ok(len)
}

/// Does something for each number below `count`, the sessions side by side.
fn shared(
    sessions: &mut [Connection],
    count: usize,
    what: impl Fn(&mut Connection, usize) -> anyhow::Result<()> + Sync,
) -> anyhow::Result<()> {
    let parts = sessions.len();
    std::thread::scope(|scope| {
        let running: Vec<_> = sessions
            .iter_mut()
            .enumerate()
            .map(|(part, session)| {
                let what = &what;
                scope.spawn(move || {
                    (part..count)
                        .step_by(parts)
                        .try_for_each(|n| what(session, n))
                })
            })
            .collect();
        running
            .into_iter()
            .try_for_each(|part| part.join().expect("no panic"))
    })
}

/// Bytes that don't compress.
fn random_piece() -> anyhow::Result<Vec<u8>> {
    let mut random = vec![0; PIECE_BYTES];
    std::fs::File::open("/dev/urandom")?.read_exact(&mut random)?;
    Ok(random)
}

/// How long something takes, and how much processor time of the server's, both in seconds.
fn timed(server: &Server, work: impl FnOnce() -> anyhow::Result<()>) -> anyhow::Result<(f64, f64)> {
    let (cpu_s, begin) = (server.cpu_s()?, Instant::now());
    work().with_context(|| server.name)?;
    let seconds = begin.elapsed().as_secs_f64();
    Ok((seconds, server.cpu_s()? - cpu_s))
}

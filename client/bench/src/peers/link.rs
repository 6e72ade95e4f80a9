//! Two networks and a link between them like that of a home: slow, with a delay, and some of it lost.
//!
//! Not every kernel that this runs on has netem. So each network has a TUN device whose packets socat hands
//! out as datagrams, and what stands between the two sockets is here.

use crate::wire::Network;
use anyhow::{Context, ensure};
use raspbox_try::bed::{DEADLINE, wait_for};
use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// How a link is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shape {
    /// There and back.
    pub(crate) round_trip: Duration,
    /// In each direction.
    pub(crate) bits_per_second: u64,
    /// Of each thousand packets, in each direction.
    pub(crate) lost_per_mille: u64,
}

/// How long a packet waits for those before it at most; what would wait longer is dropped. As much as a
/// cheap access point keeps.
const QUEUE_MAX: Duration = Duration::from_millis(60);

/// More than a packet can have.
const PACKET_MAX_BYTES: usize = 64 << 10;

/// How soon a thread sees that the link goes.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);

/// Where the workstation's end of it is, and where the server's.
const ADDRESSES: [&str; 2] = ["10.77.0.1", "10.77.0.2"];

/// A link with a network at each end. Everything goes with it.
pub(crate) struct Link {
    /// Where the workstation is.
    pub(crate) near: Network,
    /// Where the server is.
    pub(crate) far: Network,
    ends: Vec<Child>,
    over: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
    _dir: TempDir,
}

impl Link {
    /// Makes one.
    ///
    /// # Errors
    /// Where the user isn't root, or socat isn't installed.
    pub(crate) fn new(shape: Shape) -> anyhow::Result<Link> {
        let dir = tempfile::tempdir()?;
        let (near, far) = (Network::new()?, Network::new()?);
        let ours = ["near", "far"].map(|name| dir.path().join(name));
        let theirs = ["near end", "far end"].map(|name| dir.path().join(name));
        let [near_socket, far_socket] = [socket(&ours[0])?, socket(&ours[1])?];
        let mut link = Link {
            near,
            far,
            ends: Vec::new(),
            over: Arc::new(AtomicBool::new(false)),
            threads: Vec::new(),
            _dir: dir,
        };
        for (n, network) in [&link.near, &link.far].into_iter().enumerate() {
            let end = network.within(|| end(ADDRESSES[n], &ours[n], &theirs[n]))?;
            link.ends.push(end);
        }
        for path in &theirs {
            wait_for("socat", || path.exists().then_some(()))?;
        }
        let [near_too, far_too] = [near_socket.try_clone()?, far_socket.try_clone()?];
        link.direction(near_socket, far_too, theirs[1].clone(), (shape, 1));
        link.direction(far_socket, near_too, theirs[0].clone(), (shape, 2));
        Ok(link)
    }

    /// Where the server is, as the workstation calls it.
    pub(crate) fn host() -> &'static str {
        ADDRESSES[1]
    }

    /// The median of the round trips of a byte, and what one TCP stream gets through in MiB/s: of the
    /// link itself, for comparison and to see that it is as it should be.
    pub(crate) fn measured(&self) -> anyhow::Result<(Duration, f64)> {
        const TRIPS: usize = 51;
        const STREAM_BYTES: usize = 16 << 20;
        let listener = self.far.within(|| {
            // Its address may not be there yet.
            wait_for("an address", || TcpListener::bind((ADDRESSES[1], 0)).ok())
        })?;
        let port = listener.local_addr()?.port();
        let echo = std::thread::spawn(move || -> std::io::Result<()> {
            let (mut stream, _) = listener.accept()?;
            stream.set_nodelay(true)?;
            let mut byte = [0];
            for _ in 0..TRIPS {
                stream.read_exact(&mut byte)?;
                stream.write_all(&byte)?;
            }
            std::io::copy(
                &mut Read::by_ref(&mut stream).take(STREAM_BYTES as u64),
                &mut std::io::sink(),
            )?;
            stream.write_all(&byte)
        });
        let mut stream = self
            .near
            .within(|| wait_for("the link", || TcpStream::connect((ADDRESSES[1], port)).ok()))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(DEADLINE))?;
        let mut trips = Vec::new();
        for _ in 0..TRIPS {
            let begin = Instant::now();
            stream.write_all(&[1])?;
            stream.read_exact(&mut [0])?;
            trips.push(begin.elapsed());
        }
        trips.sort();
        let begin = Instant::now();
        stream.write_all(&vec![7; STREAM_BYTES])?;
        stream.read_exact(&mut [0])?;
        let seconds = begin.elapsed().as_secs_f64();
        echo.join().expect("it doesn't panic")?;
        #[expect(clippy::cast_precision_loss, reason = "16 MiB")]
        Ok((trips[TRIPS / 2], (STREAM_BYTES >> 20) as f64 / seconds))
    }

    fn direction(&mut self, from: UnixDatagram, out: UnixDatagram, to: PathBuf, how: (Shape, u64)) {
        let (sender, receiver) = channel();
        let over = Arc::clone(&self.over);
        let ((shape, seed), taker) = (how, Arc::clone(&over));
        let takes = move || take(&from, shape, seed, &sender, &taker);
        self.threads.push(std::thread::spawn(takes));
        let gives = move || give(&receiver, &out, &to, &over);
        self.threads.push(std::thread::spawn(gives));
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        for end in &mut self.ends {
            // It may have ended already.
            drop(end.kill());
            drop(end.wait());
        }
        for thread in self.threads.drain(..) {
            drop(thread.join());
        }
    }
}

/// A packet, and when it is at the other side.
type Due = (Instant, Vec<u8>);

/// Takes packets in, as fast as the link does, and loses some.
fn take(from: &UnixDatagram, shape: Shape, seed: u64, sender: &Sender<Due>, over: &AtomicBool) {
    let mut packet = vec![0; PACKET_MAX_BYTES];
    let mut free = Instant::now();
    let mut chance = seed;
    while !over.load(Ordering::Relaxed) {
        let len = match from.recv(&mut packet) {
            Ok(len) => len,
            Err(error) if is_later(&error) => continue,
            Err(_) => return,
        };
        let now = Instant::now();
        let begin = free.max(now);
        if begin - now > QUEUE_MAX || is_lost(&mut chance, shape.lost_per_mille) {
            continue;
        }
        let nanos = len as u64 * 8 * 1_000_000_000 / shape.bits_per_second;
        free = begin + Duration::from_nanos(nanos);
        let due = free + shape.round_trip / 2;
        if sender.send((due, packet[..len].to_vec())).is_err() {
            return;
        }
    }
}

/// Gives them out when they are due.
fn give(receiver: &Receiver<Due>, out: &UnixDatagram, to: &Path, over: &AtomicBool) {
    while let Ok((due, packet)) = receiver.recv() {
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        while let Err(error) = out.send_to(&packet, to) {
            // On a busy machine socat may be late; where it is gone, so is the link.
            if !is_later(&error) || over.load(Ordering::Relaxed) {
                return;
            }
        }
    }
}

/// Whether a socket's time was over, and nothing else is wrong.
fn is_later(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}

/// The same each time (xorshift64).
fn is_lost(chance: &mut u64, per_mille: u64) -> bool {
    *chance ^= *chance << 13;
    *chance ^= *chance >> 7;
    *chance ^= *chance << 17;
    *chance % 1000 < per_mille
}

fn socket(path: &Path) -> anyhow::Result<UnixDatagram> {
    let socket = UnixDatagram::bind(path)?;
    socket.set_read_timeout(Some(LOOK_INTERVAL))?;
    socket.set_write_timeout(Some(LOOK_INTERVAL))?;
    Ok(socket)
}

/// A TUN device of this network, whose packets come to one socket, and go out where they are sent to another.
fn end(address: &str, ours: &Path, theirs: &Path) -> anyhow::Result<Child> {
    let asked = Command::new("socat")
        .arg("-V")
        .stdout(Stdio::null())
        .status();
    let is_there = asked.is_ok_and(|status| status.success());
    ensure!(
        is_there,
        "socat is not installed: run client/bench/install as root"
    );
    Command::new("socat")
        .args(["-b", "65536"])
        .arg(format!("TUN:{address}/24,up"))
        .arg(format!(
            "UNIX-SENDTO:{},bind={}",
            ours.display(),
            theirs.display()
        ))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .context("socat")
}

//! What the kernel has counted on a connection.

use nix::sys::socket::getsockopt;
use nix::{getsockopt_impl, libc, sockopt_impl};
use std::net::TcpStream;
use std::panic::catch_unwind;
use std::sync::atomic::{AtomicBool, Ordering};

/// How many bytes have come in on a connection: `tcpi_bytes_received` of linux/tcp.h. `None` where it can't be had.
///
/// QEMU, where it emulates a processor and no kernel, doesn't know that field: nothing is counted there, and 0 said. No
/// kernel is like that: before 4.1 it didn't know it either, but nothing could be opened on such a one, since
/// openat2(2) came with 5.6.
pub(crate) fn received_bytes(socket: &TcpStream) -> Option<u64> {
    static TELLS: AtomicBool = AtomicBool::new(true);
    if !TELLS.load(Ordering::Relaxed) {
        return Some(0);
    }
    // nix panics at less than it has asked for.
    let Ok(info) = catch_unwind(|| getsockopt(socket, TcpInfo)) else {
        TELLS.store(false, Ordering::Relaxed);
        tracing::warn!(
            "the kernel doesn't tell how much has come in: who sends lines without end isn't noticed"
        );
        return Some(0);
    };
    let info = info.ok()?;
    let (_, received) = info.split_at(TCP_INFO_BYTES - size_of::<u64>());
    Some(u64::from_ne_bytes(
        received.try_into().expect("the last eight"),
    ))
}

/// `struct tcp_info` up to and with `tcpi_bytes_received`. It only ever grows at its end.
const TCP_INFO_BYTES: usize = 136;

sockopt_impl!(
    /// What the kernel knows of a connection.
    TcpInfo, GetOnly, libc::IPPROTO_TCP, libc::TCP_INFO, [u8; TCP_INFO_BYTES]
);

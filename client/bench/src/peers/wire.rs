//! Networks that nobody else is in, and what went over them, counted by the kernel.

use anyhow::{Context, ensure};
use nix::sched::{CloneFlags, setns, unshare};
use std::fs::{self, File};
use std::process::Command;

/// A network namespace: with a loopback, and no way out but what is added. It goes when nobody is in it and
/// this is dropped.
#[derive(Debug)]
pub(crate) struct Network {
    namespace: File,
}

impl Network {
    /// Makes one.
    ///
    /// # Errors
    /// Where the user isn't root.
    pub(crate) fn new() -> anyhow::Result<Network> {
        let made = std::thread::spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET)
                .context("cannot make a network namespace: run it as root")?;
            let up = Command::new("ip")
                .args(["link", "set", "lo", "up"])
                .status()?;
            ensure!(up.success(), "ip link set lo up: {up}");
            let namespace = File::open("/proc/thread-self/ns/net")?;
            Ok(Network { namespace })
        });
        made.join().expect("it doesn't panic")
    }

    /// Does something in it, on a thread of its own; whatever that starts stays in it.
    pub(crate) fn within<T: Send>(
        &self,
        work: impl FnOnce() -> anyhow::Result<T> + Send,
    ) -> anyhow::Result<T> {
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                setns(&self.namespace, CloneFlags::CLONE_NEWNET)?;
                work()
            });
            thread.join().expect("it doesn't panic")
        })
    }
}

/// How much had gone over all interfaces of this thread's namespace at some time.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wire {
    bytes: u64,
}

impl Wire {
    /// Up to now.
    pub(crate) fn now() -> anyhow::Result<Wire> {
        let table = fs::read_to_string("/proc/thread-self/net/dev")?;
        let bytes = counted(&table).context("cannot read /proc/net/dev")?;
        Ok(Wire { bytes })
    }

    /// How much it was since, in bytes.
    pub(crate) fn since(self) -> anyhow::Result<u64> {
        Ok(Wire::now()?.bytes - self.bytes)
    }
}

/// Received and sent bytes of all interfaces (proc_pid_net(5)). On loopback whatever is sent is received;
/// it counts once.
fn counted(table: &str) -> Option<u64> {
    let mut bytes = 0;
    for line in table.lines().skip(2) {
        let (name, fields) = line.split_once(':')?;
        let mut fields = fields.split_whitespace();
        bytes += fields.next()?.parse::<u64>().ok()?;
        if name.trim() != "lo" {
            bytes += fields.nth(7)?.parse::<u64>().ok()?;
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::counted;

    #[test]
    fn what_is_sent_to_oneself_counts_once() {
        let table = "Inter-|   Receive   |  Transmit\n face |bytes packets\n\
            \x20   lo:  1000 1 0 0 0 0 0 0  1000 1 0 0 0 0 0 0\n\
            \x20 tun0:   200 1 0 0 0 0 0 0    30 1 0 0 0 0 0 0\n";
        assert_eq!(counted(table), Some(1230));
    }
}

//! Stops processes at a certain call, to kill them there or to have somebody change something.
//!
//! By `ptrace(2)`: counted are the calls by which a process opens or changes files, in all its threads,
//! from the beginning of a round. One client makes the same calls each time; the appliance's threads
//! run as the kernel lets them, so there the n-th call is not quite the same one each time. All that is
//! done to a traced process comes from the thread that started it.

use anyhow::Context;
use nix::errno::Errno;
use nix::libc;
use nix::sys::ptrace::{self, Options};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use std::collections::BTreeMap;
use std::fs;

/// Which of the two processes of a round.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Whose {
    Client,
    Daemon,
}

/// The processes of a round.
#[derive(Debug, Default)]
pub(super) struct Tracer {
    processes: BTreeMap<Whose, Process>,
    threads: BTreeMap<Pid, Thread>,
}

#[derive(Debug)]
struct Process {
    leader: Pid,
    calls: u32,
}

#[derive(Debug)]
struct Thread {
    whose: Whose,
    in_call: bool,
}

/// What comes next.
#[derive(Debug)]
pub(super) enum Next {
    /// A process stands before its n-th call that has to do with files, and goes on by itself.
    Call(Whose, u32, Pid),
    /// A process has ended, with this code unless a signal ended it.
    Ended(Whose, Option<i32>),
}

impl Tracer {
    /// Begins with a process that its own thread started, which it stops. `false` where that isn't
    /// allowed here.
    pub(super) fn begin(&mut self, whose: Whose, id: u32) -> anyhow::Result<bool> {
        let leader = Pid::from_raw(i32::try_from(id)?);
        for task in fs::read_dir(format!("/proc/{id}/task")).context("its threads")? {
            let thread = task?.file_name().to_string_lossy().parse()?;
            let thread = Pid::from_raw(thread);
            let options = Options::PTRACE_O_TRACESYSGOOD | Options::PTRACE_O_TRACECLONE;
            match ptrace::seize(thread, options) {
                // It is gone again, or is one that was begun by the one that began it.
                Err(Errno::ESRCH) => continue,
                Err(Errno::EPERM) if thread == leader => return Ok(false),
                Err(Errno::EPERM) => {}
                seized => seized?,
            }
            ignore_gone(ptrace::interrupt(thread))?;
            let in_call = false;
            self.threads.insert(thread, Thread { whose, in_call });
        }
        self.processes.insert(whose, Process { leader, calls: 0 });
        Ok(true)
    }

    /// Waits for what comes next.
    pub(super) fn next(&mut self) -> anyhow::Result<Next> {
        loop {
            let status = wait()?;
            let Some(pid) = status.pid() else { continue };
            match status {
                WaitStatus::Exited(_, code) => {
                    if let Some(whose) = self.gone(pid) {
                        return Ok(Next::Ended(whose, Some(code)));
                    }
                }
                WaitStatus::Signaled(..) => {
                    if let Some(whose) = self.gone(pid) {
                        return Ok(Next::Ended(whose, None));
                    }
                }
                WaitStatus::PtraceSyscall(_) => {
                    if let Some((whose, call)) = self.call(pid) {
                        return Ok(Next::Call(whose, call, pid));
                    }
                    go_on(pid, None)?;
                }
                WaitStatus::Stopped(_, signal) => go_on(pid, Some(signal))?,
                _ => {
                    self.known(pid);
                    go_on(pid, None)?;
                }
            }
        }
    }

    /// Lets a process that stands before a call make it.
    pub(super) fn go_on(&self, pid: Pid) -> anyhow::Result<()> {
        go_on(pid, None)
    }

    /// Ends a process where it stands.
    pub(super) fn kill(&self, whose: Whose) -> anyhow::Result<()> {
        let process = self.processes.get(&whose).context("it is traced")?;
        Ok(kill(process.leader, Signal::SIGKILL)?)
    }

    /// Lets everything that is left run by itself again. Returns which processes ended just now.
    pub(super) fn end(mut self) -> anyhow::Result<Vec<Whose>> {
        let mut ended = Vec::new();
        for thread in self.threads.keys() {
            ignore_gone(ptrace::interrupt(*thread))?;
        }
        while !self.threads.is_empty() {
            let status = wait()?;
            let Some(pid) = status.pid() else { continue };
            match status {
                WaitStatus::Exited(..) | WaitStatus::Signaled(..) => ended.extend(self.gone(pid)),
                WaitStatus::Stopped(_, signal) => {
                    ignore_gone(ptrace::detach(pid, signal))?;
                    self.threads.remove(&pid);
                }
                // A thread that has just begun is let go, too.
                _ => {
                    ignore_gone(ptrace::detach(pid, None))?;
                    self.threads.remove(&pid);
                }
            }
        }
        Ok(ended)
    }

    /// Which process ended with this thread, if it was its last.
    fn gone(&mut self, pid: Pid) -> Option<Whose> {
        self.threads.remove(&pid);
        let mut processes = self.processes.iter();
        let whose =
            processes.find_map(|(whose, process)| (process.leader == pid).then_some(*whose))?;
        self.processes.remove(&whose);
        self.threads.retain(|_, thread| thread.whose != whose);
        Some(whose)
    }

    /// A thread, which may have begun a moment ago.
    fn known(&mut self, pid: Pid) -> &mut Thread {
        let processes = &self.processes;
        self.threads.entry(pid).or_insert_with(|| {
            let of = |process: &Process| {
                let task = format!("/proc/{}/task/{pid}", process.leader);
                fs::exists(task).unwrap_or(false)
            };
            let whose = processes.iter().find(|(_, process)| of(process));
            Thread {
                whose: whose.map_or(Whose::Daemon, |(whose, _)| *whose),
                in_call: false,
            }
        })
    }

    /// The number of the call that a thread stands before, if it is one of those that are counted.
    fn call(&mut self, pid: Pid) -> Option<(Whose, u32)> {
        let thread = self.known(pid);
        thread.in_call = !thread.in_call;
        let (whose, begins) = (thread.whose, thread.in_call);
        if !begins || !about_files(number(pid)?) {
            return None;
        }
        let process = self.processes.get_mut(&whose)?;
        let call = process.calls;
        process.calls += 1;
        Some((whose, call))
    }
}

fn wait() -> anyhow::Result<WaitStatus> {
    // Others in this program have children, too.
    let flags = WaitPidFlag::__WALL | WaitPidFlag::__WNOTHREAD;
    loop {
        match waitpid(None, Some(flags)) {
            Err(Errno::EINTR) => {}
            status => return Ok(status?),
        }
    }
}

fn go_on(pid: Pid, signal: Option<Signal>) -> anyhow::Result<()> {
    ignore_gone(ptrace::syscall(pid, signal))
}

/// It may have been killed a moment ago.
fn ignore_gone(done: nix::Result<()>) -> anyhow::Result<()> {
    match done {
        Err(Errno::ESRCH) => Ok(()),
        done => Ok(done?),
    }
}

/// The number of the call that a thread stands before.
#[cfg(all(target_arch = "x86_64", target_env = "gnu"))]
fn number(pid: Pid) -> Option<i64> {
    Some(ptrace::getregs(pid).ok()?.orig_rax.cast_signed())
}

/// The number of the call that a thread stands before.
#[cfg(all(target_arch = "aarch64", target_env = "gnu"))]
fn number(pid: Pid) -> Option<i64> {
    Some(ptrace::getregs(pid).ok()?.regs[8].cast_signed())
}

/// Elsewhere nothing is known of registers, and no call is the n-th.
#[cfg(not(all(
    any(target_arch = "x86_64", target_arch = "aarch64"),
    target_env = "gnu"
)))]
fn number(_pid: Pid) -> Option<i64> {
    None
}

/// Whether a call opens or changes files.
fn about_files(number: i64) -> bool {
    #[cfg(target_arch = "x86_64")]
    if [
        libc::SYS_open,
        libc::SYS_rename,
        libc::SYS_unlink,
        libc::SYS_mkdir,
    ]
    .contains(&number)
    {
        return true;
    }
    [
        libc::SYS_openat,
        libc::SYS_openat2,
        libc::SYS_write,
        libc::SYS_pwrite64,
        libc::SYS_renameat,
        libc::SYS_renameat2,
        libc::SYS_unlinkat,
        libc::SYS_mkdirat,
        libc::SYS_symlinkat,
        libc::SYS_linkat,
        libc::SYS_fsync,
        libc::SYS_fdatasync,
        libc::SYS_utimensat,
        libc::SYS_ftruncate,
        libc::SYS_fchmod,
        libc::SYS_fchmodat,
    ]
    .contains(&number)
}

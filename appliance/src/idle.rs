//! Work for when nobody is served: threads of the lowest priority that stand back for transfers.
//!
//! A job asks for leave before each small piece of its work, and ends when it gets none: the daemon
//! stops.

use crate::registry::Registry;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long nobody must have asked for anything before idle work goes on: a client that works through
/// a folder pauses for less.
const QUIET: Duration = Duration::from_secs(2);

/// How often it is looked whether it is quiet.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);

/// The idle jobs of a daemon; dropped, it tells them to end. Nobody waits for them: one that hangs in
/// the drive must not keep the process.
#[derive(Debug)]
pub(crate) struct Idle {
    stop: Arc<Stop>,
    registry: Arc<Registry>,
}

/// What a job asks before it goes on.
#[derive(Debug)]
pub(crate) struct Leave {
    stop: Arc<Stop>,
    registry: Arc<Registry>,
}

#[derive(Debug, Default)]
struct Stop {
    now: Mutex<bool>,
    changed: Condvar,
}

impl Idle {
    /// No jobs yet. They stand back for the sessions of this registry.
    pub(crate) fn new(registry: &Arc<Registry>) -> Idle {
        Idle {
            stop: Arc::default(),
            registry: Arc::clone(registry),
        }
    }

    /// Begins a job on a thread of its own.
    pub(crate) fn begin(
        &self,
        name: &str,
        job: impl FnOnce(&Leave) + Send + 'static,
    ) -> std::io::Result<()> {
        let leave = Leave {
            stop: Arc::clone(&self.stop),
            registry: Arc::clone(&self.registry),
        };
        let thread = std::thread::Builder::new().name(name.into());
        thread.spawn(move || {
            step_back();
            job(&leave);
        })?;
        Ok(())
    }
}

impl Drop for Idle {
    fn drop(&mut self) {
        *self.stop.now.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.stop.changed.notify_all();
    }
}

impl Leave {
    /// Waits until it is quiet. `false`: the daemon stops, and so must the job.
    pub(crate) fn to_work(&self) -> bool {
        loop {
            let now = Instant::now();
            let quiet = self.registry.idle(now) >= QUIET;
            if quiet {
                return self.pause(Duration::ZERO);
            }
            if !self.pause(LOOK_INTERVAL) {
                return false;
            }
        }
    }

    /// Waits for a while. `false`: the daemon stops.
    pub(crate) fn pause(&self, time: Duration) -> bool {
        let now = self.stop.now.lock().unwrap_or_else(PoisonError::into_inner);
        if time.is_zero() {
            return !*now;
        }
        let waited = self.stop.changed.wait_timeout_while(now, time, |now| !*now);
        let (now, _) = waited.unwrap_or_else(PoisonError::into_inner);
        !*now
    }
}

/// Gives this thread the lowest priority. The kernel derives that of its reading from it as well
/// (`ioprio_set(2)`: a nice thread of the best-effort class gets level 7 of 7); the idle class could
/// only be had with `unsafe`.
fn step_back() {
    // setpriority(2): on Linux, of the calling thread alone.
    if let Err(error) = rustix::process::setpriority_process(None, 19) {
        tracing::debug!(%error, "the priority of idle work could not be lowered");
    }
}

#[cfg(test)]
mod tests {
    use super::Idle;
    use crate::registry::{Caps, Registry};
    use crate::session::Session;
    use std::net::{TcpListener, TcpStream};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::sync::mpsc::channel;
    use std::time::{Duration, Instant};

    /// Only a hang takes so long.
    const DEADLINE: Duration = Duration::from_secs(180);

    fn registry() -> Arc<Registry> {
        Arc::new(Registry::new(Caps {
            sessions_max: 2,
            sessions_per_address_max: 2,
        }))
    }

    #[test]
    fn a_job_ends_when_the_daemon_does() {
        let idle = Idle::new(&registry());
        let (says, said) = channel();
        idle.begin("job", move |leave| {
            let begun = leave.to_work();
            says.send(begun).unwrap();
            let on = leave.pause(DEADLINE * 2);
            says.send(on).unwrap();
        })
        .unwrap();
        assert_eq!(said.recv_timeout(DEADLINE), Ok(true));
        drop(idle);
        assert_eq!(said.recv_timeout(DEADLINE), Ok(false));
    }

    #[test]
    fn nothing_is_done_while_a_transfer_runs() {
        let registry = registry();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let _client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (control, peer) = listener.accept().unwrap();
        let make = |id| Ok(Session::new(id, peer, control, false, Duration::MAX));
        let session = registry.admit(peer, make).unwrap().unwrap();
        session.log_in(Arc::new(crate::accounts::Account::stranger()));
        let transfer = session.begin(0).unwrap();
        let idle = Idle::new(&registry);
        let (says, said) = channel();
        let over = Arc::new(AtomicBool::new(false));
        let is_over = Arc::clone(&over);
        idle.begin("job", move |leave| {
            says.send(false).unwrap();
            leave.to_work();
            says.send(is_over.load(Ordering::SeqCst)).unwrap();
        })
        .unwrap();
        assert_eq!(said.recv_timeout(DEADLINE), Ok(false));
        for _ in 0..1_000 {
            assert_eq!(registry.idle(Instant::now()), Duration::ZERO);
            std::thread::yield_now();
        }
        // An open stream of events is no work.
        over.store(true, Ordering::SeqCst);
        transfer.stands();
        assert_eq!(said.recv_timeout(DEADLINE), Ok(true), "not before");
        transfer.succeeded();
    }
}

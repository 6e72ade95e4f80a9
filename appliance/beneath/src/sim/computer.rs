//! A computer's clock and randomness, for as long as a thread is in it.

use super::chance::Chance;
use raspbox_protocol::Mtime;
use std::cell::RefCell;
use std::marker::PhantomData;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// What a step on a disk takes where nothing else is said.
const STEP: Duration = Duration::from_micros(10);

thread_local! {
    static ENTERED: RefCell<Vec<Computer>> = const { RefCell::new(Vec::new()) };
}

/// A computer without its disks; a clone is the same one.
#[derive(Debug, Clone)]
pub struct Computer(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    now_ns: i64,
    /// What a clock shows that nobody sets.
    up_ns: i64,
    step_ns: i64,
    boots: u64,
    chance: Chance,
}

/// The thread is in a computer until this is dropped.
#[derive(Debug)]
pub struct Entered(PhantomData<*const ()>);

/// Enters a computer: its clock and randomness are this thread's. Where the thread is in one
/// already, it comes back to that one afterwards.
#[must_use]
pub fn enter(computer: &Computer) -> Entered {
    ENTERED.with_borrow_mut(|entered| entered.push(computer.clone()));
    Entered(PhantomData)
}

impl Drop for Entered {
    fn drop(&mut self) {
        ENTERED.with_borrow_mut(Vec::pop);
    }
}

impl Computer {
    /// A computer whose clock shows this, and whose random numbers follow from the seed.
    #[must_use]
    pub fn new(now: Mtime, seed: u64) -> Computer {
        Computer(Arc::new(Mutex::new(State {
            now_ns: now.0,
            up_ns: 0,
            step_ns: nanos(STEP),
            boots: 1,
            chance: Chance::new(seed),
        })))
    }

    /// What its clock shows.
    #[must_use]
    pub fn now(&self) -> Mtime {
        Mtime(self.with(|state| state.now_ns))
    }

    /// Sets the clock, also back.
    pub fn set_now(&self, now: Mtime) {
        self.with(|state| state.now_ns = now.0);
    }

    /// Lets time pass.
    pub fn advance(&self, by: Duration) {
        self.with(|state| state.pass(nanos(by)));
    }

    /// How much time one step on a disk takes; 10 microseconds unless told.
    pub fn set_step(&self, step: Duration) {
        self.with(|state| state.step_ns = nanos(step));
    }

    /// The power was cut and came back. The clock and the disks don't mind by themselves.
    pub fn reboot(&self) {
        self.with(|state| state.boots += 1);
    }

    fn with<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl State {
    fn pass(&mut self, ns: i64) {
        self.now_ns = self.now_ns.saturating_add(ns);
        self.up_ns = self.up_ns.saturating_add(ns);
    }
}

/// The clock of the computer that the thread is in.
pub(crate) fn now() -> Option<Mtime> {
    inside(|state| Mtime(state.now_ns))
}

/// How long it has been running.
pub(crate) fn uptime() -> Option<Duration> {
    inside(|state| Duration::from_nanos(state.up_ns.unsigned_abs()))
}

/// Which of its boots this is.
pub(crate) fn boot() -> Option<String> {
    inside(|state| state.boots.to_string())
}

/// Lets time pass in it; `false` where the thread is in none.
pub(crate) fn pause(duration: Duration) -> bool {
    inside(|state| state.pass(nanos(duration))).is_some()
}

/// Its random bytes.
pub(crate) fn random() -> Option<[u8; 16]> {
    inside(|state| {
        let (high, low) = (state.chance.next(), state.chance.next());
        (u128::from(high) << 64 | u128::from(low)).to_be_bytes()
    })
}

/// Lets the time of one step pass, and tells the clock.
pub(super) fn step() -> Option<i64> {
    inside(|state| {
        state.pass(state.step_ns);
        state.now_ns
    })
}

fn inside<T>(act: impl FnOnce(&mut State) -> T) -> Option<T> {
    ENTERED.with_borrow(|entered| entered.last().map(|computer| computer.with(act)))
}

fn nanos(duration: Duration) -> i64 {
    i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)
}

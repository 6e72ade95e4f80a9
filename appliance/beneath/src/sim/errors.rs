//! Who is told of a write that failed, as the kernel's `errseq_t` has it (`lib/errseq.c`).

use rustix::io::Errno;
use std::sync::atomic::{AtomicU64, Ordering};

/// The failed writes of a file, or of a whole filesystem.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Errors {
    count: u64,
    /// Up to which somebody was told.
    told: u64,
}

/// Up to which whoever has something open was told.
#[derive(Debug, Default)]
pub(super) struct Told(AtomicU64);

impl Errors {
    /// One more.
    pub(super) fn add(&mut self) {
        self.count += 1;
    }

    /// Whether there were any.
    pub(super) fn any(&self) -> bool {
        self.count > 0
    }

    /// For what is opened now: it will be told of what nobody was told yet, and of nothing else that is
    /// past.
    pub(super) fn sample(&self) -> Told {
        Told(AtomicU64::new(self.told))
    }

    /// Tells of what came since.
    pub(super) fn tell(&mut self, told: &Told) -> Result<(), Errno> {
        if told.0.swap(self.count, Ordering::Relaxed) == self.count {
            return Ok(());
        }
        self.told = self.count;
        Err(Errno::IO)
    }
}

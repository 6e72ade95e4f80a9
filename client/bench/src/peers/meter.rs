//! What it costs to have something done.

use crate::usage;
use crate::wire::Wire;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// What one run cost.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cost {
    /// From its start to its end.
    pub(crate) seconds: f64,
    /// What went over the network, both ways, headers included.
    pub(crate) wire_bytes: u64,
    /// The most memory that the program had: its first process at any time, all of them when looked at.
    pub(crate) here_mib: f64,
    /// The most that its server had, looked at now and then.
    pub(crate) there_mib: f64,
}

impl Cost {
    /// What went over the network.
    #[expect(clippy::cast_precision_loss, reason = "less than a PiB")]
    pub(crate) fn wire_kib(&self) -> f64 {
        self.wire_bytes as f64 / 1024.0
    }
}

/// How often memory is looked at: a program that has nothing to do is gone in hundredths of a second.
const LOOK_INTERVAL: Duration = Duration::from_millis(2);

/// At how many of these looks it is looked at what all processes have, which costs more.
const WHOLE_LOOKS: usize = 16;

/// Counts from its start on, in the network that it is started in.
#[derive(Debug)]
pub(crate) struct Meter {
    wire: Wire,
    begin: Instant,
}

impl Meter {
    /// From now on.
    pub(crate) fn start() -> anyhow::Result<Meter> {
        let (wire, begin) = (Wire::now()?, Instant::now());
        Ok(Meter { wire, begin })
    }

    /// Until this work is done; meanwhile it looks at the processes here and there.
    pub(crate) fn until<T>(
        self,
        [here, there]: [u32; 2],
        work: impl FnOnce() -> anyhow::Result<T>,
    ) -> anyhow::Result<(T, Cost)> {
        let ended = AtomicBool::new(false);
        let (done, seconds, (here_mib, there_mib)) = std::thread::scope(|scope| {
            let looks = scope.spawn(|| {
                let (mut here_mib, mut there_mib) = (0.0_f64, 0.0_f64);
                for look in 0.. {
                    if ended.load(Ordering::Relaxed) {
                        break;
                    }
                    // Whoever has ended meanwhile has no memory.
                    here_mib = here_mib.max(usage::peak_mib(here).unwrap_or_default());
                    if look % WHOLE_LOOKS == 0 {
                        here_mib = here_mib.max(usage::memory_mib(here).unwrap_or_default());
                        there_mib = there_mib.max(usage::memory_mib(there).unwrap_or_default());
                    }
                    std::thread::park_timeout(LOOK_INTERVAL);
                }
                (here_mib, there_mib)
            });
            let done = work();
            let seconds = self.begin.elapsed().as_secs_f64();
            ended.store(true, Ordering::Relaxed);
            looks.thread().unpark();
            (done, seconds, looks.join().expect("it doesn't panic"))
        });
        let cost = Cost {
            seconds,
            wire_bytes: self.wire.since()?,
            here_mib,
            there_mib,
        };
        Ok((done?, cost))
    }
}

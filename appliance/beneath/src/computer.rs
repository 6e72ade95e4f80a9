//! The clock, randomness and the boot: the computer's, or those of a simulated one.

use raspbox_protocol::Mtime;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

/// The clock.
#[must_use]
pub fn now() -> Mtime {
    #[cfg(feature = "sim")]
    if let Some(now) = crate::sim::computer::now() {
        return now;
    }
    Mtime::from(std::time::SystemTime::now())
}

/// How long it is since some moment of this run, by a clock that nobody sets.
#[must_use]
pub fn uptime() -> Duration {
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    #[cfg(feature = "sim")]
    if let Some(uptime) = crate::sim::computer::uptime() {
        return uptime;
    }
    START.elapsed()
}

/// Which run of the operating system this is: the same for all programs until the next boot, and then another
/// one. `None` where the kernel doesn't tell.
#[must_use]
pub fn boot() -> Option<String> {
    #[cfg(feature = "sim")]
    if let Some(boot) = crate::sim::computer::boot() {
        return Some(boot);
    }
    // random(4).
    let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    Some(id.trim().to_owned())
}

/// Waits.
pub fn pause(duration: Duration) {
    #[cfg(feature = "sim")]
    if crate::sim::computer::pause(duration) {
        return;
    }
    std::thread::sleep(duration);
}

/// 16 random bytes.
///
/// # Panics
/// Where the kernel has none to give, which it always has once it is up.
#[must_use]
pub fn random() -> [u8; 16] {
    #[cfg(feature = "sim")]
    if let Some(bytes) = crate::sim::computer::random() {
        return bytes;
    }
    let mut bytes = [0; 16];
    let got = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty());
    // getrandom(2): up to 256 bytes come whole.
    assert_eq!(got, Ok(bytes.len()), "the kernel has randomness");
    bytes
}

/// A name that nobody else uses: 32 hex digits.
#[must_use]
pub fn random_name() -> String {
    format!("{:032x}", u128::from_be_bytes(random()))
}

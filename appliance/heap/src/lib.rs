//! Memory that was freed, given back to the system.
//!
//! glibc gives back what is free at the end of its heaps, and keeps what is free in between: after a crowd of
//! sessions tens of MiB, for as long as a few small things that are still in use lie among them. It has one
//! call that gives that back as well, and one by which it keeps less in the first place, and these are they. This
//! crate does nothing else, but for saying how much is in use, so that all others can forbid unsafe code.

/// From this size on a block is the kernel's, and its again when it is freed: glibc's own first choice, which it gives
/// up once it has freed something larger. A password's hash takes 19 MiB.
#[cfg(target_env = "gnu")]
const BLOCK_BYTES: i32 = 128 << 10;

/// How many heaps there are, instead of eight for each processor, each of which keeps what was once allocated there:
/// after 200 clients it held three times as much (`cargo soak`).
#[cfg(target_env = "gnu")]
const HEAPS_MAX: i32 = 2;

/// Has the C library keep little of what is freed; for the beginning of a program, before there are threads.
///
/// What the environment says of it (mallopt(3)) counts no more. musl needs no telling.
pub fn keep_little() {
    #[cfg(target_env = "gnu")]
    for (what, value) in [
        (libc::M_MMAP_THRESHOLD, BLOCK_BYTES),
        (libc::M_ARENA_MAX, HEAPS_MAX),
    ] {
        #[expect(unsafe_code, reason = "any call of C is; see below")]
        // SAFETY: mallopt(3) takes two numbers, no pointer, and changes nothing that is in use. It is MT-Unsafe for
        // the numbers that it sets and others may read just then: each is one word, and either value of it is good.
        let done = unsafe { libc::mallopt(what, value) };
        debug_assert_eq!(done, 1, "both are numbers that it takes");
    }
}

/// Gives back what is free in whole pages, wherever it lies; returns whether there was any.
///
/// It takes the lock of one heap after another, for milliseconds: for when nobody is served. musl, which the static
/// program for the first Pi has, gives back by itself what it frees, and keeps little.
#[cfg(target_env = "gnu")]
pub fn give_back() -> bool {
    #[expect(unsafe_code, reason = "any call of C is; see below")]
    // SAFETY: malloc_trim(3) takes a number, no pointer, may be called by any thread at any time (MT-Safe), and
    // moves or changes nothing that is in use.
    let given = unsafe { libc::malloc_trim(0) };
    given == 1
}

/// Gives nothing back: this C library has no call for it.
#[cfg(not(target_env = "gnu"))]
pub fn give_back() -> bool {
    false
}

/// How much is in use of what was asked for, in bytes: what is freed and not given back isn't in it. `None` where
/// the C library doesn't tell.
#[cfg(target_env = "gnu")]
#[must_use]
pub fn in_use_bytes() -> Option<u64> {
    #[expect(unsafe_code, reason = "any call of C is; see below")]
    // SAFETY: mallinfo2(3) takes nothing and returns numbers, and may be called by any thread at any time; it takes
    // the lock of one heap after another.
    let info = unsafe { libc::mallinfo2() };
    Some((info.uordblks + info.hblkhd) as u64)
}

/// Nothing is told: this C library has no call for it.
#[cfg(not(target_env = "gnu"))]
#[must_use]
pub fn in_use_bytes() -> Option<u64> {
    None
}

#[cfg(all(test, target_env = "gnu"))]
mod tests {
    use super::{give_back, in_use_bytes, keep_little};
    use std::hint::black_box;
    use std::sync::{Mutex, PoisonError};

    /// What this process has allocated and not given back.
    fn own_kib() -> u64 {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("RssAnon:"));
        let number = line.unwrap().trim().trim_end_matches(" kB");
        number.parse().unwrap()
    }

    /// They look at the memory of the process, so one at a time.
    static ALONE: Mutex<()> = Mutex::new(());

    #[test]
    fn what_is_large_is_given_back_when_it_is_freed() {
        let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        keep_little();
        // Once something was freed, glibc by itself would take what isn't larger from a heap, and leave it there.
        for mib in (2..16).rev() {
            let before_kib = own_kib();
            drop(black_box(vec![7_u8; mib << 20]));
            let more_kib = own_kib().saturating_sub(before_kib);
            assert!(more_kib < 1 << 10, "{more_kib} KiB of {mib} MiB");
        }
    }

    #[test]
    fn what_is_free_between_what_is_in_use_is_given_back() {
        const COUNT: usize = 64 << 10;
        let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let mut pieces: Vec<Option<Box<[u8; 1024]>>> =
            (0..COUNT).map(|_| Some(Box::new([7; 1024]))).collect();
        for (at, piece) in pieces.iter_mut().enumerate() {
            // One in 64 stays in use: nothing is free at the end.
            if at % 64 != 63 {
                *piece = None;
            }
        }
        let before_kib = own_kib();
        let used_bytes = in_use_bytes().unwrap();
        assert!(give_back());
        let after_kib = own_kib();
        // What is in use stays, and is told apart from what is free: a sixty-fourth of 64 MiB, and what else a test has.
        assert!(in_use_bytes().unwrap().abs_diff(used_bytes) < 1 << 20);
        assert!((1 << 20..16 << 20).contains(&used_bytes), "{used_bytes}");
        assert!(
            after_kib + (32 << 10) < before_kib,
            "{before_kib} KiB, and then {after_kib} KiB"
        );
        assert_eq!(pieces.iter().flatten().count(), COUNT / 64);
    }
}

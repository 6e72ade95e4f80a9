//! Memory that was freed, or is left over on a thread's stack, given back to the system.
//!
//! glibc gives back what is free at the end of its heaps, and keeps what is free in between: after a crowd of
//! sessions tens of MiB, for as long as a few small things that are still in use lie among them. It has one
//! call that gives that back as well, and one by which it keeps less in the first place, and these are they. This
//! crate does nothing else, but for the stacks, of which the kernel keeps what was ever touched, and for saying how much
//! is in use, so that all others can forbid unsafe code.

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

/// How much of the stack below a local variable of [`give_back_stack`] it may still need for itself and for its calls
/// of C, each of which has a few words there.
const FRAME_BYTES: usize = 1 << 10;

/// Gives back what this thread's stack once reached down to, below where it is now; for a thread that waits long after
/// it went deep. Returns how much that can have been at most, in bytes; nothing on the main thread, and where the C library doesn't say
/// where the stack is.
///
/// What it reaches again is zeroed by the kernel, a page fault for each 4 KiB. A few microseconds.
#[inline(never)]
pub fn give_back_stack() -> usize {
    let local = 0_u8;
    let here = std::hint::black_box(&raw const local).addr();
    let (Some(stack), Some(page_bytes)) = (own_stack(), page_bytes()) else {
        return 0;
    };
    // The kernel would round it up, to what is in use.
    let end = (here - FRAME_BYTES) / page_bytes * page_bytes;
    // Not so where a sanitizer keeps variables elsewhere.
    if !stack.contains(&here) || end <= stack.start {
        return 0;
    }
    let len = end - stack.start;
    #[expect(unsafe_code, reason = "any call of C is; see below")]
    // SAFETY: All of it is this thread's own stack, and more than this function's frame below the place where the
    // stack is now, so nothing lies there: no caller's variable, all of which are above, and no callee's. A signal's
    // handler, which would use it, has returned before the call begins, or begins after it. (Rust's for an overflow
    // has a stack of its own.)
    let result = unsafe {
        let start = std::ptr::without_provenance_mut(stack.start);
        libc::madvise(start, len, libc::MADV_DONTNEED)
    };
    if result == 0 { len } else { 0 }
}

fn page_bytes() -> Option<usize> {
    #[expect(unsafe_code, reason = "any call of C is; see below")]
    // SAFETY: sysconf(3) takes a number, no pointer, and may be called by any thread at any time (MT-Safe env).
    let bytes = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    usize::try_from(bytes).ok().filter(|bytes| *bytes > 0)
}

/// Where this thread's stack is; not the main thread's, which the kernel makes longer as it is needed: what the C library
/// says of that may be anybody's by now.
fn own_stack() -> Option<std::ops::Range<usize>> {
    #[expect(unsafe_code, reason = "any call of C is; see below")]
    // SAFETY: Both take nothing and only return a number.
    let is_main = unsafe { libc::gettid() == libc::getpid() };
    if is_main {
        return None;
    }
    let mut attributes = std::mem::MaybeUninit::uninit();
    let (mut start, mut len) = (std::ptr::null_mut(), 0);
    #[expect(unsafe_code, reason = "any call of C is; see below")]
    // SAFETY: pthread_getattr_np(3) fills in what it is given, unless it fails; then nothing reads it. All three
    // pointers are to variables of the right type that outlive the calls, and what was made is destroyed once.
    let found = unsafe {
        if libc::pthread_getattr_np(libc::pthread_self(), attributes.as_mut_ptr()) != 0 {
            return None;
        }
        let found = libc::pthread_attr_getstack(attributes.as_ptr(), &raw mut start, &raw mut len);
        libc::pthread_attr_destroy(attributes.as_mut_ptr());
        found
    };
    (found == 0).then(|| start.addr()..start.addr() + len)
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
    use super::{give_back, give_back_stack, in_use_bytes, keep_little};
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

    /// Goes so deep that 64 KiB of stack are in memory for each level.
    #[inline(never)]
    fn deep(levels: usize) -> usize {
        let touched = black_box([levels; (64 << 10) / size_of::<usize>()]);
        let below = if levels > 1 { deep(levels - 1) } else { 0 };
        touched[levels] + below
    }

    #[test]
    fn what_a_stack_once_reached_is_given_back_and_what_it_holds_is_not() {
        let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let deepest = || {
            let here = black_box([7_u8; 32 << 10]);
            let sum = deep(16);
            let before_kib = own_kib();
            assert!(give_back_stack() > 1 << 20);
            let after_kib = own_kib();
            assert!(
                after_kib + 900 < before_kib,
                "{before_kib} KiB, and then {after_kib} KiB"
            );
            // What is above stays, and what is below is there when it is needed again.
            assert!(here.iter().all(|byte| *byte == 7));
            assert_eq!(deep(16), sum);
            give_back_stack();
            assert!(here.iter().all(|byte| *byte == 7));
        };
        let thread = std::thread::Builder::new().stack_size(4 << 20);
        std::thread::scope(|scope| thread.spawn_scoped(scope, deepest).unwrap().join().unwrap());
    }
}

//! The program that libFuzzer drives: one for all targets, since what takes time is building it.
//!
//! `RASPBOX_FUZZ` names the target.
#![no_main]

use cap::Cap;
use libfuzzer_sys::fuzz_target;
use raspbox_fuzz::Target;
use std::alloc::System;
use std::sync::LazyLock;

/// Whoever wants more than the limit gets nothing, which ends the program, and libFuzzer keeps the bytes.
#[global_allocator]
static ALLOCATOR: Cap<System> = Cap::new(System, usize::MAX);

static TARGET: LazyLock<Target> = LazyLock::new(|| {
    let name = std::env::var("RASPBOX_FUZZ").expect("RASPBOX_FUZZ names a target");
    Target::named(&name).expect("RASPBOX_FUZZ names a target")
});

fuzz_target!(|bytes: &[u8]| {
    let target = *TARGET;
    // What is set up once and for all isn't the bytes' doing.
    let limit = ALLOCATOR.allocated() + target.memory_max_bytes;
    ALLOCATOR.set_limit(limit).expect("more than there is");
    (target.run)(bytes);
    ALLOCATOR.set_limit(usize::MAX).expect("more than there is");
});

//! The client as a program of its own, for the tests: `raspbox_try::bed::Workstation` runs it.

use std::process::ExitCode;

fn main() -> ExitCode {
    raspbox_try::bed::play().unwrap_or(ExitCode::FAILURE)
}

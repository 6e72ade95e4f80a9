//! The appliance's daemon.

use std::process::ExitCode;

fn main() -> ExitCode {
    raspboxd::cli::run(std::env::args_os())
}

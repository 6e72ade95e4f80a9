//! The workstation's program; everything is in the library.

fn main() -> std::process::ExitCode {
    raspbox::cli::run(std::env::args_os())
}

//! The command line: what it takes, and what the exit code says.

use crate::commands;
use crate::engine::SyncError;
use crate::pairs::PairsError;
use crate::remote::RemoteError;
use clap::{Args, CommandFactory, Parser, Subcommand};
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

/// Keeps folders the same on all your computers, through your own raspbox or any FTP server.
///
/// Exit codes: 0 in sync, 1 done but conflicts or problems remain, 2 wrong usage, 3 the other side
/// can't be reached, 4 it refused (login, certificate, permission), 5 halted by a brake.
#[derive(Debug, Parser)]
#[command(name = "raspbox", version, max_term_width = 100)]
struct Cli {
    /// Where pairings are kept [default: $XDG_STATE_HOME/raspbox]
    #[arg(long, global = true, value_name = "DIR")]
    state_dir: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Find appliances in the local network
    Discover(Discover),
    /// Pair a folder with an appliance (HOST) or an FTP server (ftp:// or ftps:// URL)
    Pair(Pair),
    /// End a pairing; the files stay on both sides
    Unpair {
        /// The folder
        folder: PathBuf,
    },
    /// One round of sync, then exit
    Sync(Sync),
    /// Stay in sync until stopped
    Watch {
        /// Only this folder
        folder: Option<PathBuf>,
    },
    /// Show what is paired and how the last round went
    Status {
        /// As JSON, for scripts
        #[arg(long)]
        json: bool,
    },
    /// Read every file again, and say what is damaged on either side
    ///
    /// Disks and pendrives let contents change without anybody writing to them. A sync doesn't
    /// see that, since it reads only what looks changed. This reads every file here, compares it
    /// with what it was, and asks the appliance what it has found on its drive. A damaged file
    /// stays where it is, and is not synced until it is repaired, or edited.
    ///
    /// Exits with 0 where all is good or was repaired, and with 1 where something damaged is left.
    Verify(Verify),
    /// Show what a file was before: which versions the appliance keeps, and who made them
    History(History),
    /// Bring back what was replaced, deleted or moved
    ///
    /// PATH is a file or folder in a synced folder; one that is gone works as well. Without --at or
    /// --version, a file gets the content that it had before the present one, or last had.
    ///
    /// A restore is a change like any other: it is synced to all computers, what it replaces or
    /// deletes is kept as a version, and it can be undone in the same way.
    Restore(Restore),
    /// List conflict copies, and what to do about them
    Conflicts {
        /// Only in this folder
        folder: Option<PathBuf>,
        /// As JSON, for scripts
        #[arg(long)]
        json: bool,
    },
    /// Keep in sync whenever you are logged in (a systemd user unit)
    #[command(subcommand)]
    Service(Service),
}

#[derive(Debug, Args)]
pub(crate) struct Discover {
    /// How long to listen
    #[arg(long, value_name = "SECONDS", default_value_t = 3)]
    pub(crate) seconds: u64,
    /// Listen on this computer only
    #[arg(long)]
    pub(crate) loopback: bool,
    /// As JSON, for scripts
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Pair {
    /// HOST, HOST:PORT, ftp://user@host:port/path or ftps://user@host:port/path
    pub(crate) target: String,
    /// The folder to sync; made where it isn't there [default: ~/raspbox]
    #[arg(long, value_name = "DIR")]
    pub(crate) folder: Option<PathBuf>,
    /// This computer's name, as conflict copies say it [default: the host name]
    #[arg(long, value_name = "NAME")]
    pub(crate) device: Option<String>,
    /// The account on the appliance
    #[arg(long, value_name = "NAME", default_value = "raspbox")]
    pub(crate) user: String,
    /// Read the password from the first line of standard input
    #[arg(long)]
    pub(crate) password_stdin: bool,
    /// Accept only this certificate (SHA-256, as the appliance prints it)
    #[arg(long, value_name = "SHA256")]
    pub(crate) fingerprint: Option<crate::remote::Digest256>,
    /// How often `watch` looks at an FTP server, which can't tell of changes
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    pub(crate) poll: u64,
}

#[derive(Debug, Args)]
pub(crate) struct Sync {
    /// Only this folder
    pub(crate) folder: Option<PathBuf>,
    /// Show what would be done, and do nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Let this one round delete up to COUNT files on each side, as a halt has shown [COUNT: any]
    #[arg(long, value_name = "COUNT", require_equals = true)]
    pub(crate) confirm_deletions: Option<Option<usize>>,
    /// Let this one round replace up to COUNT files on each side, as a halt has shown [COUNT: any]
    #[arg(long, value_name = "COUNT", require_equals = true)]
    pub(crate) confirm_changes: Option<Option<usize>>,
    /// As JSON, for scripts
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Verify {
    /// Only this folder
    pub(crate) folder: Option<PathBuf>,
    /// Replace what is damaged by the good content, where the other side has it
    #[arg(long)]
    pub(crate) repair: bool,
    /// As JSON, for scripts
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct History {
    /// The file or folder; it may be gone
    pub(crate) path: PathBuf,
    /// As JSON, for scripts
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Restore {
    /// The file, or the folder with everything below it
    #[arg(required_unless_present = "all")]
    pub(crate) path: Option<PathBuf>,
    /// As it was at this time: '2026-11-20 18:00', '18:00' (today), '2 hours ago', 3d, or
    /// 2026-11-20T18:00:00Z
    #[arg(long, value_name = "TIME", conflicts_with = "version")]
    pub(crate) at: Option<String>,
    /// This version, by its number in 'raspbox history'
    #[arg(long, value_name = "N")]
    pub(crate) version: Option<u64>,
    /// The whole folder that is paired (the one that PATH is in, where there are several)
    #[arg(long, requires = "at", conflicts_with = "version")]
    pub(crate) all: bool,
    /// Show what would be done, and do nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Service {
    /// Write and start the unit
    Install,
    /// Stop and remove it
    Remove,
}

/// What the exit code says; of several folders the worst.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Exit {
    InSync = 0,
    Attention = 1,
    Usage = 2,
    Unreachable = 3,
    Refused = 4,
    Halted = 5,
}

/// Its commands and their help, for man pages and completions.
#[must_use]
pub fn command() -> clap::Command {
    Cli::command()
}

/// The whole program.
pub fn run(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(error) => {
            // To standard output or error, as it has to; there is nobody to tell if that fails.
            drop(error.print());
            return if error.use_stderr() {
                Exit::Usage.into()
            } else {
                Exit::InSync.into()
            };
        }
    };
    let filter = tracing_subscriber::EnvFilter::try_from_env("RASPBOX_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("error"));
    // Several programs in one process (as in the tests) share the first one's.
    drop(
        tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_writer(std::io::stderr)
            .try_init(),
    );
    match dispatch(&cli) {
        Ok(exit) => exit.into(),
        Err(error) => {
            eprintln!("raspbox: {error:#}");
            exit_of(&error).into()
        }
    }
}

fn dispatch(cli: &Cli) -> anyhow::Result<Exit> {
    let state_dir = cli.state_dir.as_deref();
    let pairs = crate::pairs::Pairs::at(state_dir)?;
    match &cli.command {
        Command::Discover(args) => commands::discover::run(args),
        Command::Pair(args) => commands::pair::run(&pairs, args),
        Command::Unpair { folder } => commands::pair::unpair(&pairs, folder),
        Command::Sync(args) => commands::sync::run(&pairs, args),
        Command::Watch { folder } => commands::watch::run(&pairs, folder.as_deref()),
        Command::Status { json } => commands::status::run(&pairs, *json),
        Command::Verify(args) => commands::verify::run(&pairs, args),
        Command::History(args) => commands::history::run(&pairs, args),
        Command::Restore(args) => commands::restore::run(&pairs, args),
        Command::Conflicts { folder, json } => {
            commands::conflicts::run(&pairs, folder.as_deref(), *json)
        }
        Command::Service(what) => commands::service(what, state_dir),
    }
}

/// The exit code for an error that ended the program.
fn exit_of(error: &anyhow::Error) -> Exit {
    if let Some(error) = error.downcast_ref::<SyncError>() {
        return exit_of_sync(error);
    }
    if let Some(error) = error.downcast_ref::<RemoteError>() {
        return exit_of_remote(error);
    }
    if error.is::<PairsError>() || error.is::<commands::Unusable>() {
        Exit::Usage
    } else {
        Exit::Attention
    }
}

/// The exit code for a round that stopped.
pub(crate) fn exit_of_sync(error: &SyncError) -> Exit {
    match error {
        SyncError::Remote(error) => exit_of_remote(error),
        SyncError::Halt(_) => Exit::Halted,
        SyncError::State(_) | SyncError::Record(_) | SyncError::Local { .. } => Exit::Attention,
    }
}

fn exit_of_remote(error: &RemoteError) -> Exit {
    match error {
        RemoteError::Unreachable { .. }
        | RemoteError::NoSuchHost(_)
        | RemoteError::NoDrive { .. } => Exit::Unreachable,
        RemoteError::LoginRefused { .. }
        | RemoteError::NotProven { .. }
        | RemoteError::OtherCertificate { .. }
        | RemoteError::NotUnderstood { .. }
        | RemoteError::Refused { .. } => Exit::Refused,
        RemoteError::Local(_) => Exit::Attention,
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit as u8)
    }
}

#[cfg(test)]
mod tests {
    use super::Cli;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }
}

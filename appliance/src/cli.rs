//! The command line.

use crate::accounts::Accounts;
use crate::board;
use crate::boot;
use crate::config::{Fragment, load, state_default};
use crate::drive::attach::{Drives, Places};
use crate::drive::found::Served;
use crate::drive::report::Reports;
use crate::drive::{RUN_DIR, format};
use crate::maintenance;
use crate::network;
use crate::owner::{self, Checked};
use crate::permissions::Permissions;
use crate::root::Root;
use crate::state::StateDir;
use crate::status::{STATUS_DIR, STATUS_FILE, Status};
use crate::users::User;
use crate::verbs;
use anyhow::{Context, bail};
use clap::{CommandFactory, Parser, Subcommand, ValueEnum};
use std::ffi::OsString;
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer};
use zeroize::Zeroizing;

/// The longest password that is read, in bytes.
const PASSWORD_MAX_BYTES: u64 = 1024;

/// Serves a folder to your own devices, over FTP with TLS.
#[derive(Debug, Parser)]
#[command(name = "raspboxd", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs the daemon.
    ///
    /// Prints "listening on ADDRESS:PORT", "fingerprint SHA256" and, where there was no user yet,
    /// "user NAME password PASSWORD", and then logs to standard error (RUST_LOG sets how much).
    Serve {
        /// The configuration; what the command line says counts more.
        #[arg(long)]
        config: Option<PathBuf>,
        /// The folder to serve, which is always there.
        #[arg(long, conflicts_with = "drive")]
        folder: Option<PathBuf>,
        /// The mount point to serve whatever is mounted at; while nothing is, every request for files
        /// is answered with 450.
        #[arg(long)]
        drive: Option<PathBuf>,
        /// Makes no user and no password where there are none: then nobody can come in, and the status
        /// says so.
        #[arg(long)]
        no_first_user: bool,
        /// Where root's commands tell what they did with the drive.
        #[arg(long, default_value = RUN_DIR, hide = true)]
        run: PathBuf,
        /// The address and port to listen on; port 0 takes any free one.
        #[arg(long)]
        listen: Option<SocketAddr>,
        /// Where certificate, users and devices are kept.
        ///
        /// Default: $STATE_DIRECTORY, else raspboxd in $XDG_STATE_HOME or ~/.local/state.
        #[arg(long)]
        state: Option<PathBuf>,
    },
    /// Shows or removes paired devices.
    Device {
        #[command(flatten)]
        at: At,
        #[command(subcommand)]
        command: DeviceCommand,
    },
    /// Makes, shows or removes people who log in with a password.
    User {
        #[command(flatten)]
        at: At,
        #[command(subcommand)]
        command: UserCommand,
    },
    /// Attaches, releases and makes drives. For root.
    Drive {
        #[command(subcommand)]
        command: DriveCommand,
    },
    /// Looks at configurations.
    Config {
        #[command(subcommand)]
        command: ConfigCommand,
    },
    /// Takes what the owner's file says to whom it concerns. For the system, at each start.
    ///
    /// Never fails: what is wrong is in raspbox-status.txt beside that file, and in 'raspboxd status'.
    Boot {
        #[command(flatten)]
        system: System,
    },
    /// Says what is wrong with the board, here and in /run/raspbox. For the system.
    Board {
        /// Again and again, and has the board's light tell how things are, until it is ended: steady where
        /// all is well; 2 blinks: no drive, 3: trouble with it, 4: the network isn't as it was wanted,
        /// 5: the power supply is too weak; dark: raspboxd doesn't run.
        #[arg(long)]
        watch: bool,
    },
    /// Looks at the network. For the system.
    Network {
        #[command(subcommand)]
        command: NetworkCommand,
    },
    /// Says whether the SD card can be written to, or has that changed from the next start on. For root.
    ///
    /// raspbox's card is only read, so that the power may go at any time: what is written is in memory. To
    /// install something or to change a setting of the system: 'maintenance on', restart, change it,
    /// 'maintenance off', restart.
    Maintenance {
        /// Without it, what is now.
        #[arg(value_enum)]
        switch: Option<Switch>,
    },
    /// Says what the daemon is doing. Exits with 3 where it isn't running.
    Status {
        #[command(flatten)]
        at: At,
        /// For scripts.
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Switch {
    /// From the next start on it can be written to.
    On,
    /// From the next start on it is only read.
    Off,
}

#[derive(Debug, clap::Args)]
struct At {
    /// The daemon's state directory.
    ///
    /// Default: $STATE_DIRECTORY, else raspboxd in $XDG_STATE_HOME or ~/.local/state.
    #[arg(long, global = true)]
    state: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
struct System {
    /// A folder that stands for the system; what isn't a file is printed.
    #[arg(long, hide = true, default_value = "/")]
    root: PathBuf,
}

#[derive(Debug, Subcommand)]
enum NetworkCommand {
    /// Says how this machine can be reached, here and in /run/raspbox and raspbox-status.txt.
    Report {
        #[command(flatten)]
        system: System,
        /// Again whenever that changes, until it is ended.
        #[arg(long)]
        watch: bool,
    },
}

#[derive(Debug, Subcommand)]
enum DeviceCommand {
    /// Lists the devices that are paired.
    List {
        /// For scripts.
        #[arg(long)]
        json: bool,
    },
    /// Removes a device. Its connections end within two seconds.
    Revoke {
        /// Its name or its id.
        device: String,
    },
}

#[derive(Debug, Subcommand)]
enum UserCommand {
    /// Makes a user, or gives one a new password.
    Set {
        /// The name to log in with.
        name: String,
        /// Reads the password from standard input, up to the first line break.
        #[arg(long, required = true)]
        password_stdin: bool,
        /// What the user may do: e enter folders, l list, r read, a append, d delete, f rename,
        /// m make folders, w write, M change the executable bit, T set times. "elr" only reads.
        #[arg(long, default_value = "elradfmwMT")]
        permissions: Permissions,
    },
    /// Lists the users of the state directory.
    List,
    /// Removes a user. Devices that it has paired stay; see 'device revoke'.
    Remove {
        /// Which.
        name: String,
    },
}

#[derive(Debug, Subcommand)]
enum DriveCommand {
    /// Checks a stick and mounts it where the daemon serves it, if it is labelled RASPBOX or was adopted.
    ///
    /// udev does this for every stick that is plugged in.
    Attach {
        /// Its device file.
        device: String,
    },
    /// Unmounts a drive, so that it can be unplugged.
    Detach {
        /// Its device file.
        device: String,
    },
    /// Takes a stick for raspbox's, with everything that is on it, and attaches it.
    Adopt {
        /// Its device file.
        device: String,
    },
    /// Says what is on a stick; and, when told to, erases it and makes a drive of it.
    Format {
        /// The stick to look at.
        #[arg(required_unless_present = "erase", conflicts_with = "erase")]
        device: Option<String>,
        /// Erases everything on this device.
        #[arg(long = "i-understand-this-erases", value_name = "DEVICE", id = "erase")]
        erase: Option<String>,
        /// The filesystem to make.
        #[arg(long, value_enum, default_value = "ext4")]
        filesystem: Served,
    },
}

#[derive(Debug, Subcommand)]
enum ConfigCommand {
    /// Checks a configuration and says what is wrong, with its line.
    ///
    /// It may be the file of the daemon (which says 'folder'), or that of an appliance's owner.
    Check {
        /// The file.
        file: PathBuf,
    },
}

/// How the program ends.
enum Exit {
    Ok = 0,
    Failed = 1,
    NotRunning = 3,
}

/// Its commands and their help, for man pages and completions.
#[must_use]
pub fn command() -> clap::Command {
    Cli::command()
}

/// The whole program. The arguments begin with the program's name.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are no failure; clap's code for wrong usage is 2.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    match execute(cli.command) {
        Ok(exit) => ExitCode::from(exit as u8),
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "raspboxd: {error:#}");
            ExitCode::from(Exit::Failed as u8)
        }
    }
}

fn execute(command: Command) -> anyhow::Result<Exit> {
    match command {
        Command::Serve {
            config,
            folder,
            drive,
            no_first_user,
            run,
            listen,
            state,
        } => {
            raspbox_heap::keep_little();
            log();
            let over = Fragment {
                folder,
                drive,
                listen,
                state,
            };
            let mut settings = load(config.as_deref(), over)?;
            settings.reports = Reports::in_folder(run);
            settings.makes_first_user = !no_first_user;
            crate::serve::serve(settings)?;
            Ok(Exit::Ok)
        }
        Command::Device { at, command } => device(&at, command),
        Command::User { at, command } => user(&at, command),
        Command::Config {
            command: ConfigCommand::Check { file },
        } => check_config(&file),
        Command::Boot { system } => {
            log();
            for problem in boot::boot(&Root::new(system.root)).problems {
                tracing::warn!(problem);
            }
            Ok(Exit::Ok)
        }
        Command::Board { watch } => {
            log();
            let root = Root::new("/".into());
            if watch {
                board::blink::forever(&root)
            }
            for what in board::blink::once(&root).wrong {
                print(&format!("{what}\n"));
            }
            Ok(Exit::Ok)
        }
        Command::Drive { command } => {
            log();
            drive(command)
        }
        Command::Network {
            command: NetworkCommand::Report { system, watch },
        } => {
            log();
            let root = Root::new(system.root);
            if watch {
                match network::watch::forever(&root)? {}
            }
            print(&format!("{}\n", network::watch::once(&root)?.line));
            Ok(Exit::Ok)
        }
        Command::Maintenance { switch } => {
            let root = Root::new("/".into());
            let said = match switch {
                Some(switch) => maintenance::switch(&root, switch == Switch::On)?.to_owned(),
                None => maintenance::said(&root)?,
            };
            print(&format!("{said}\n"));
            Ok(Exit::Ok)
        }
        Command::Status { at, json } => status(&at, json),
    }
}

/// Logs to standard error, and listens to libunftp's spans ([`crate::verbs`]), which are never shown,
/// whatever RUST_LOG says: formatting them prints whole sessions for every command.
fn log() {
    let shown = EnvFilter::builder()
        .with_default_directive(tracing::level_filters::LevelFilter::INFO.into())
        .from_env_lossy()
        .add_directive("libunftp=off".parse().expect("a directive"));
    let shown = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .with_filter(shown);
    // Fails where the process has a subscriber already.
    let _ = verbs::Verbs(tracing_subscriber::registry().with(shown)).try_init();
}

impl At {
    fn open(&self) -> anyhow::Result<StateDir> {
        let path = self.state.clone().or_else(state_default);
        let path = path.context("no state directory: give --state DIR")?;
        if !path.is_dir() {
            bail!(
                "{}: no such state directory; give the daemon's with --state DIR",
                path.display()
            );
        }
        StateDir::open_as_its_owner(path)
    }

    /// Where a daemon says what it does: a service does so in memory.
    fn open_status(&self) -> anyhow::Result<StateDir> {
        let volatile = Path::new(STATUS_DIR);
        if self.state.is_none() && volatile.join(STATUS_FILE).exists() {
            return StateDir::open_as_its_owner(volatile.into());
        }
        self.open()
    }

    fn accounts(&self) -> anyhow::Result<Accounts> {
        Accounts::open(self.open()?, Vec::new())
    }
}

fn drive(command: DriveCommand) -> anyhow::Result<Exit> {
    if !nix::unistd::Uid::effective().is_root() {
        bail!("only root can do that: sudo raspboxd drive ...");
    }
    let drives = || Drives::open(Places::default());
    let said = match command {
        DriveCommand::Attach { device } => drives()?.attach(&device)?,
        DriveCommand::Detach { device } => drives()?.detach(&device)?,
        DriveCommand::Adopt { device } => drives()?.adopt_and_attach(&device)?,
        DriveCommand::Format {
            device: Some(device),
            ..
        } => {
            print(&format::describe(&device)?);
            format!(
                "to erase all of that: raspboxd drive format --i-understand-this-erases {device}"
            )
        }
        DriveCommand::Format {
            erase, filesystem, ..
        } => {
            let device = erase.context("which device?")?;
            print(&format::describe(&device)?);
            let drives = drives()?;
            let made = format::format(&drives, &device, filesystem)?;
            drives.attach(&made)?
        }
    };
    print(&format!("{said}\n"));
    Ok(Exit::Ok)
}

fn device(at: &At, command: DeviceCommand) -> anyhow::Result<Exit> {
    let accounts = at.accounts()?;
    match command {
        DeviceCommand::List { json } => {
            let devices = accounts.devices();
            if json {
                let shown = devices.iter().map(|device| {
                    serde_json::json!({
                        "id": device.id, "name": device.name, "user": device.user,
                        "permissions": device.permissions, "created": device.created,
                    })
                });
                let shown: Vec<_> = shown.collect();
                print(&format!("{}\n", serde_json::to_string_pretty(&shown)?));
            } else if devices.is_empty() {
                print("no device is paired\n");
            } else {
                for device in devices {
                    print(&format!(
                        "{}  {}  (paired by {}, may {})\n",
                        device.id, device.name, device.user, device.permissions
                    ));
                }
            }
        }
        DeviceCommand::Revoke { device } => {
            let Some(revoked) = accounts.revoke(&device)? else {
                bail!("no device has the name or id {device:?}; see 'raspboxd device list'");
            };
            print(&format!("revoked {} ({})\n", revoked.name, revoked.id));
        }
    }
    Ok(Exit::Ok)
}

fn user(at: &At, command: UserCommand) -> anyhow::Result<Exit> {
    match command {
        UserCommand::Set {
            name,
            password_stdin: _,
            permissions,
        } => {
            // Users may be made before the daemon's first start.
            let path = at.state.clone().or_else(state_default);
            let dir =
                StateDir::open_as_its_owner(path.context("no state directory: give --state DIR")?)?;
            let mut password = Zeroizing::new(String::new());
            std::io::stdin()
                .take(PASSWORD_MAX_BYTES)
                .read_to_string(&mut password)
                .context("cannot read the password")?;
            let password = password.lines().next().unwrap_or_default();
            if password.is_empty() {
                bail!("the password on standard input is empty");
            }
            let user = User::new(&name, password, permissions)?;
            Accounts::open(dir, Vec::new())?.set_user(user)?;
            print(&format!("user {name} may {permissions}\n"));
        }
        UserCommand::List => {
            for user in at.accounts()?.users() {
                print(&format!("{}  (may {})\n", user.name, user.permissions));
            }
        }
        UserCommand::Remove { name } => {
            if !at.accounts()?.remove_user(&name)? {
                bail!("there is no user {name:?}; see 'raspboxd user list'");
            }
            print(&format!("removed {name}\n"));
        }
    }
    Ok(Exit::Ok)
}

fn check_config(file: &Path) -> anyhow::Result<Exit> {
    match owner::check(file)? {
        Checked::Owners(problems) if problems.is_empty() => {
            print(&format!(
                "{}: good, for an appliance's owner\n",
                file.display()
            ));
        }
        Checked::Owners(problems) => {
            for problem in problems {
                let _ = writeln!(std::io::stderr(), "{problem}");
            }
            return Ok(Exit::Failed);
        }
        Checked::Daemons => {
            let over = Fragment {
                state: Some("/".into()),
                ..Fragment::default()
            };
            load(Some(file), over)?;
            print(&format!("{}: good, for the daemon\n", file.display()));
        }
    }
    Ok(Exit::Ok)
}

fn status(at: &At, json: bool) -> anyhow::Result<Exit> {
    let Some(status) = Status::read(&at.open_status()?)? else {
        print(if json {
            "null\n"
        } else {
            "raspboxd isn't running here\n"
        });
        return Ok(Exit::NotRunning);
    };
    if json {
        print(&format!("{}\n", serde_json::to_string_pretty(&status)?));
    } else {
        print(&format!("{status}\n"));
        print(&status.details());
        for name in &status.online {
            print(&format!("online {name}\n"));
        }
        if let Some(report) = network::report() {
            print(&format!("network {}\n", report.line));
        }
        if let Some(celsius) = board::report().and_then(|report| report.celsius) {
            print(&format!("temperature {celsius} °C\n"));
        }
        for problem in owner::told().problems {
            print(&format!("problem {problem}\n"));
        }
    }
    Ok(Exit::Ok)
}

/// Prints to standard output; whoever reads it may have gone.
fn print(text: &str) {
    let _ = std::io::stdout().write_all(text.as_bytes());
}

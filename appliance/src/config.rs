//! Settings: what the file says and what the command line says, merged and checked.

use crate::drive::RUN_DIR;
use crate::drive::report::Reports;
use crate::origins::Origins;
use crate::registry::Caps;
use crate::scrub;
use crate::users::User;
use raspbox_store::Policy;
use serde::Deserialize;
use std::net::{Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;
use toml::Spanned;

/// Where FTP clients look, on every IPv4 address.
///
/// Not `[::]`: an IPv4 client would then be an IPv6 one to libunftp, and PASV ends such a session.
const LISTEN_DEFAULT: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::UNSPECIFIED), 21);

/// Above the ports that Linux gives to outgoing connections (32768–60999 in
/// `net.ipv4.ip_local_port_range`), so that these can't be in the way.
const PASSIVE_PORTS_DEFAULT: RangeInclusive<u16> = 61000..=61999;
const EPHEMERAL_PORTS: RangeInclusive<u16> = 32768..=60999;

/// How often everything is read again: flash that isn't read for months is what rots.
const SCRUB_EVERY_DAYS: u16 = 30;

/// Slow enough to leave even a pendrive to others: 64 GB take some four hours of idle time.
const SCRUB_BYTES_PER_SECOND: u64 = 4 << 20;

/// Everything that `serve` needs to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Settings {
    /// What is served.
    pub(crate) source: Source,
    /// Where root's commands tell what they did.
    pub(crate) reports: Reports,
    /// The address of the control connection.
    pub(crate) listen: SocketAddr,
    /// Where certificate, users and devices are kept.
    pub(crate) state: PathBuf,
    /// From where somebody may connect.
    pub(crate) allow_from: Origins,
    /// Whether both channels must be encrypted.
    pub(crate) tls: TlsPolicy,
    /// The ports of data connections.
    pub(crate) passive_ports: RangeInclusive<u16>,
    /// Whether the first start makes a user with a password of its own, and prints it.
    pub(crate) makes_first_user: bool,
    /// Users of the config.
    pub(crate) users: Vec<User>,
    /// How many sessions there may be.
    pub(crate) caps: Caps,
    /// How long a connection may take to log in.
    pub(crate) login_deadline: Duration,
    /// How long a session, and a transfer, may stand still.
    pub(crate) idle_timeout: Duration,
    /// What always stays free on the drive.
    pub(crate) floor_bytes: u64,
    /// Whether it is announced in the network.
    pub(crate) announce: Announce,
    /// How everything on the drive is read again.
    pub(crate) scrub: scrub::Settings,
    /// For how long which versions are kept.
    pub(crate) versions: Policy,
}

/// What is served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Source {
    /// A folder that is always there.
    Folder(PathBuf),
    /// Whatever is mounted here, while it is.
    Mount(PathBuf),
}

/// Whether TLS must be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum TlsPolicy {
    /// On both channels.
    Required,
    /// For clients that can't: passwords and files go over the network for all to read.
    Optional,
}

/// Where mDNS announces the appliance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Announce {
    /// In every network that it listens on.
    On,
    /// Nowhere.
    Off,
    /// To this machine only, for tests.
    Loopback,
}

/// What a source of settings says; the command line is one, too.
#[derive(Debug, Default)]
pub(crate) struct Fragment {
    /// `--folder`
    pub(crate) folder: Option<PathBuf>,
    /// `--drive`
    pub(crate) drive: Option<PathBuf>,
    /// `--listen`
    pub(crate) listen: Option<SocketAddr>,
    /// `--state`
    pub(crate) state: Option<PathBuf>,
}

/// The file as it is written. Every key is optional; one that isn't known is an error.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    folder: Option<PathBuf>,
    drive: Option<Spanned<PathBuf>>,
    listen: Option<Spanned<SocketAddr>>,
    state: Option<PathBuf>,
    allow_from: Option<Spanned<Vec<String>>>,
    tls: Option<TlsPolicy>,
    passive_ports: Option<Spanned<String>>,
    announce: Option<Announce>,
    keep_free_mib: Option<u32>,
    #[serde(default)]
    limits: Limits,
    #[serde(default)]
    scrub: Scrub,
    #[serde(default)]
    versions: Versions,
    #[serde(default)]
    user: Vec<Spanned<User>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Limits {
    max_sessions: Option<Spanned<usize>>,
    max_sessions_per_address: Option<Spanned<usize>>,
    login_deadline_s: Option<Spanned<u64>>,
    idle_timeout_s: Option<Spanned<u64>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Scrub {
    every_days: Option<u16>,
    mib_per_second: Option<Spanned<u16>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Versions {
    all_days: Option<Spanned<u16>>,
    daily_days: Option<u16>,
    weekly_days: Option<u16>,
}

/// Settings that can't be used; says where and what to do.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigError {
    /// The file can't be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A line of the file isn't right.
    #[error("{} line {line}: {what}", path.display())]
    Line {
        /// Which file.
        path: PathBuf,
        /// Which line, from 1.
        line: usize,
        /// What is wrong with it.
        what: String,
    },
    /// Every address of both kinds.
    #[error(
        "listening on \"[::]\" breaks PASV for IPv4 clients; use \"0.0.0.0:21\", or one IPv6 \
         address of this machine"
    )]
    DualStack,
    /// Nothing says which folder to serve.
    #[error(
        "nothing to serve: give --folder DIR for a folder, --drive DIR for whatever is mounted there, \
         or 'drive = \"/srv/raspbox\"' in the config"
    )]
    NoSource,
    /// Both a folder and a drive.
    #[error("either a folder or a drive can be served")]
    TwoSources,
    /// Nothing says where to keep the state, and there is no home directory either.
    #[error(
        "no state directory: give --state DIR, or 'state = \"/var/lib/raspbox\"' in the config"
    )]
    NoState,
}

/// Merges the command line over the file, where there is one, and checks the result.
pub(crate) fn load(file: Option<&Path>, over: Fragment) -> Result<Settings, ConfigError> {
    let Some(path) = file else {
        return settle(File::default(), over, &|_, what| {
            unreachable!("an empty file is right: {what}")
        });
    };
    let read = |source| ConfigError::Read {
        path: path.into(),
        source,
    };
    settle_text(&std::fs::read_to_string(path).map_err(read)?, path, over)
}

/// Reads a text that is in no file; says what is wrong, without its line.
pub(crate) fn parse(text: &str) -> Result<Settings, String> {
    settle_text(text, Path::new(""), Fragment::default()).map_err(|error| match error {
        ConfigError::Line { what, .. } => what,
        other => other.to_string(),
    })
}

fn settle_text(text: &str, path: &Path, over: Fragment) -> Result<Settings, ConfigError> {
    // Editors of other systems put a byte order mark there.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let at = |offset: usize, what: String| ConfigError::Line {
        path: path.into(),
        line: text[..offset.min(text.len())].matches('\n').count() + 1,
        what,
    };
    let file = toml::from_str(text).map_err(|error: toml::de::Error| {
        let offset = error.span().map_or(0, |span| span.start);
        at(offset, error.message().replace('\n', " "))
    })?;
    settle(file, over, &at)
}

fn settle(
    file: File,
    over: Fragment,
    at: &dyn Fn(usize, String) -> ConfigError,
) -> Result<Settings, ConfigError> {
    let listen = match (over.listen, &file.listen) {
        (Some(listen), _) if is_dual_stack(listen) => return Err(ConfigError::DualStack),
        (Some(listen), _) => listen,
        (None, Some(listen)) if is_dual_stack(*listen.get_ref()) => {
            return Err(at(listen.span().start, ConfigError::DualStack.to_string()));
        }
        (None, Some(listen)) => *listen.get_ref(),
        (None, None) => LISTEN_DEFAULT,
    };
    // The command line says one thing, and then that counts.
    let source = match (over.folder, over.drive, file.folder, file.drive) {
        (Some(_), Some(_), _, _) => return Err(ConfigError::TwoSources),
        (None, None, Some(_), Some(drive)) => {
            return Err(at(drive.span().start, ConfigError::TwoSources.to_string()));
        }
        (Some(folder), None, _, _) | (None, None, Some(folder), None) => Source::Folder(folder),
        (None, Some(drive), _, _) => Source::Mount(drive),
        (None, None, None, Some(drive)) => Source::Mount(drive.into_inner()),
        (None, None, None, None) => return Err(ConfigError::NoSource),
    };
    let passive_ports = match &file.passive_ports {
        None => PASSIVE_PORTS_DEFAULT,
        Some(text) => ports(text.get_ref()).map_err(|what| at(text.span().start, what))?,
    };
    let allow_from = match &file.allow_from {
        None => Origins::lan(),
        Some(words) => Origins::parse(words.get_ref())
            .map_err(|what| at(words.span().start, format!("allow_from: {what}")))?,
    };
    let mut users = Vec::new();
    for user in file.user {
        let start = user.span().start;
        user.get_ref().check().map_err(|what| at(start, what))?;
        users.push(user.into_inner());
    }
    let limit = |limit: Option<Spanned<usize>>, name: &str, default| match limit {
        Some(limit) if *limit.get_ref() == 0 => {
            Err(at(limit.span().start, format!("{name} must be at least 1")))
        }
        Some(limit) => Ok(limit.into_inner()),
        None => Ok(default),
    };
    let seconds = |limit: Option<Spanned<u64>>, name: &str, default| match limit {
        Some(limit) if !(1..=86_400).contains(limit.get_ref()) => Err(at(
            limit.span().start,
            format!("{name} must be 1 to 86400 seconds"),
        )),
        Some(limit) => Ok(Duration::from_secs(limit.into_inner())),
        None => Ok(Duration::from_secs(default)),
    };
    let limits = file.limits;
    Ok(Settings {
        source,
        reports: Reports::in_folder(RUN_DIR),
        makes_first_user: true,
        listen,
        state: over
            .state
            .or(file.state)
            .or_else(state_default)
            .ok_or(ConfigError::NoState)?,
        allow_from,
        tls: file.tls.unwrap_or(TlsPolicy::Required),
        passive_ports,
        users,
        caps: Caps {
            sessions_max: limit(limits.max_sessions, "max_sessions", 64)?,
            sessions_per_address_max: limit(
                limits.max_sessions_per_address,
                "max_sessions_per_address",
                16,
            )?,
        },
        login_deadline: seconds(limits.login_deadline_s, "login_deadline_s", 20)?,
        idle_timeout: seconds(limits.idle_timeout_s, "idle_timeout_s", 300)?,
        floor_bytes: u64::from(file.keep_free_mib.unwrap_or(64)) << 20,
        announce: file.announce.unwrap_or(if listen.ip().is_loopback() {
            Announce::Off
        } else {
            Announce::On
        }),
        versions: policy(&file.versions, at)?,
        scrub: scrub::Settings {
            every: match file.scrub.every_days.unwrap_or(SCRUB_EVERY_DAYS) {
                0 => None,
                days => Some(Duration::from_secs(u64::from(days) * 86_400)),
            },
            bytes_per_second: match file.scrub.mib_per_second {
                Some(rate) if *rate.get_ref() == 0 => {
                    return Err(at(
                        rate.span().start,
                        "mib_per_second must be at least 1 (every_days = 0 switches it off)".into(),
                    ));
                }
                Some(rate) => u64::from(rate.into_inner()) << 20,
                None => SCRUB_BYTES_PER_SECOND,
            },
        },
    })
}

fn policy(
    versions: &Versions,
    at: &dyn Fn(usize, String) -> ConfigError,
) -> Result<Policy, ConfigError> {
    let days = |days: u16| Duration::from_secs(u64::from(days) * 86_400);
    let default = Policy::default();
    let keep_all = match &versions.all_days {
        // A slip of the finger must not cost what was saved an hour ago.
        Some(all) if *all.get_ref() == 0 => {
            let what = "all_days must be at least 1: what was saved today is always kept";
            return Err(at(all.span().start, what.into()));
        }
        Some(all) => days(*all.get_ref()),
        None => default.keep_all,
    };
    Ok(Policy {
        keep_all,
        daily: versions.daily_days.map_or(default.daily, days),
        weekly: versions.weekly_days.map_or(default.weekly, days),
    })
}

fn is_dual_stack(listen: SocketAddr) -> bool {
    listen.is_ipv6() && listen.ip().is_unspecified()
}

fn ports(text: &str) -> Result<RangeInclusive<u16>, String> {
    let parsed = text.split_once('-').and_then(|(first, last)| {
        let ports = first.trim().parse().ok()?..=last.trim().parse().ok()?;
        (*ports.start() >= 1024 && ports.start() <= ports.end()).then_some(ports)
    });
    let ports = parsed.ok_or_else(|| {
        format!("passive_ports = {text:?}: write a range above 1023, like \"61000-61999\"")
    })?;
    let apart = ports.end() < EPHEMERAL_PORTS.start() || ports.start() > EPHEMERAL_PORTS.end();
    if apart {
        Ok(ports)
    } else {
        Err(format!(
            "passive_ports = {text:?}: the system gives 32768-60999 to outgoing connections; \
             choose a range outside, like \"61000-61999\""
        ))
    }
}

/// systemd's state directory of the unit, else the user's own by the XDG base directory
/// specification.
pub(crate) fn state_default() -> Option<PathBuf> {
    let var = |name| std::env::var_os(name).filter(|value| !value.is_empty());
    if let Some(paths) = var("STATE_DIRECTORY") {
        // Several are separated by colons (systemd.exec(5)); ours has one.
        return paths.to_str()?.split(':').next().map(PathBuf::from);
    }
    let base = match var("XDG_STATE_HOME") {
        Some(base) => PathBuf::from(base),
        None => PathBuf::from(var("HOME")?).join(".local/state"),
    };
    Some(base.join("raspboxd"))
}

#[cfg(test)]
mod tests {
    use super::{Announce, Fragment, Settings, Source, TlsPolicy, load};
    use crate::origins::Origins;
    use raspbox_store::Policy;
    use std::time::Duration;

    fn read(text: &str) -> Result<Settings, String> {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("raspbox.toml");
        std::fs::write(&path, text).unwrap();
        let over = Fragment {
            state: Some("/state".into()),
            ..Fragment::default()
        };
        load(Some(&path), over).map_err(|error| {
            let error = error.to_string();
            let (_, error) = error.split_once("raspbox.toml ").unwrap_or(("", &error));
            error.to_owned()
        })
    }

    #[test]
    fn a_folder_is_enough() {
        let settings = read("folder = '/srv/raspbox'").unwrap();
        assert_eq!(settings.source, Source::Folder("/srv/raspbox".into()));
        assert_eq!(settings.listen.to_string(), "0.0.0.0:21");
        assert_eq!(settings.tls, TlsPolicy::Required);
        assert_eq!(settings.announce, Announce::On);
        assert_eq!(
            (
                settings.caps.sessions_max,
                settings.caps.sessions_per_address_max
            ),
            (64, 16)
        );
        assert_eq!(settings.login_deadline, Duration::from_secs(20));
        assert_eq!(settings.scrub.every, Some(Duration::from_secs(2_592_000)));
        assert_eq!(settings.scrub.bytes_per_second, 4 << 20);
    }

    #[test]
    fn a_drive_may_come_and_go() {
        let settings = read("drive = '/srv/raspbox'").unwrap();
        assert_eq!(settings.source, Source::Mount("/srv/raspbox".into()));
    }

    #[test]
    fn how_long_versions_are_kept_can_be_set() {
        let days = |days: u64| Duration::from_secs(days * 86_400);
        let check = |text: &str, all, daily, weekly| {
            let settings = read(&format!("folder = '/s'\n[versions]\n{text}")).unwrap();
            let expected = Policy {
                keep_all: days(all),
                daily: days(daily),
                weekly: days(weekly),
            };
            assert_eq!(settings.versions, expected, "{text}");
        };
        check("", 1, 30, 365);
        check("all_days = 7\nweekly_days = 0", 7, 30, 0);
        check("daily_days = 90\nweekly_days = 65535", 1, 90, 65_535);
    }

    #[test]
    fn the_scrub_can_be_set_and_switched_off() {
        let check = |text: &str| {
            read(&format!("folder = '/s'\n[scrub]\n{text}"))
                .unwrap()
                .scrub
        };
        let set = check("every_days = 7\nmib_per_second = 20");
        assert_eq!(set.every, Some(Duration::from_secs(7 * 86_400)));
        assert_eq!(set.bytes_per_second, 20 << 20);
        assert_eq!(check("every_days = 0").every, None);
    }

    #[test]
    fn everything_can_be_said_also_on_windows() {
        let settings = read(
            "\u{feff}folder = '/srv'\r\nlisten = '127.0.0.1:2121'\r\ntls = 'optional'\r\n\
             passive_ports = '20000-20099'\r\nkeep_free_mib = 0\r\n[limits]\r\nmax_sessions = 3\r\n\
             max_sessions_per_address = 2\r\nlogin_deadline_s = 1\r\nidle_timeout_s = 9\r\n",
        )
        .unwrap();
        assert_eq!(settings.listen.port(), 2121);
        assert_eq!(settings.tls, TlsPolicy::Optional);
        assert_eq!(settings.announce, Announce::Off, "nobody else can reach it");
        assert_eq!(settings.passive_ports, 20000..=20099);
        assert_eq!(settings.floor_bytes, 0);
        assert_eq!(
            (
                settings.caps.sessions_max,
                settings.caps.sessions_per_address_max
            ),
            (3, 2)
        );
        assert_eq!(settings.idle_timeout, Duration::from_secs(9));
        assert_eq!(settings.allow_from, Origins::lan());
    }

    #[test]
    fn mistakes_are_shown_with_their_line() {
        let check = |text: &str, expect: &str| {
            let error = read(text).unwrap_err();
            assert!(error.starts_with(expect), "{text:?}: {error}");
        };
        check(
            "folder = '/srv'\nlissten = '0.0.0.0:21'",
            "line 2: unknown field `lissten`",
        );
        check(
            "folder = '/srv'\n\ntls = 'no'",
            "line 3: unknown variant `no`",
        );
        check(
            "folder = '/srv'\nlisten = 'here'",
            "line 2: invalid socket address",
        );
        check(
            "folder = '/srv'\nlisten = '[::]:21'",
            "line 2: listening on \"[::]\" breaks PASV",
        );
        check(
            "folder = '/s'\npassive_ports = '40000-40100'",
            "line 2: passive_ports = ",
        );
        check(
            "folder = '/s'\npassive_ports = '60000-61100'",
            "line 2: passive_ports = ",
        );
        check(
            "folder = '/s'\npassive_ports = 'x'",
            "line 2: passive_ports = ",
        );
        check(
            "folder = '/s'\nallow_from = ['lan', '10.0.0.0/99']",
            "line 2: allow_from: \"10.0.0.0/99\" is neither",
        );
        check(
            "folder = '/s'\n[limits]\nmax_sessions = 0",
            "line 3: max_sessions must be",
        );
        check(
            "folder = '/s'\n[limits]\nidle_timeout_s = 0",
            "line 3: idle_timeout_s must be",
        );
        check(
            "folder = '/s'\n[[user]]\nname = 'a'\npassword_hash = 'secret'",
            "line 2: user \"a\": password_hash is no argon2",
        );
        check(
            "folder = '/s'\n[[user]]\nname = 'a'\npassword_hash = 'x'\npermissions = 'elx'",
            "line 5: 'x' is no permission",
        );
        check(
            "folder = '/s'\n[versions]\ndaily_days = 7\nall_days = 0",
            "line 4: all_days must be at least 1",
        );
        check(
            "folder = '/s'\n[versions]\nweekly = '1 year'",
            "line 3: unknown field `weekly`",
        );
        check(
            "folder = '/s'\n[scrub]\nmib_per_second = 0",
            "line 3: mib_per_second must be at least 1",
        );
        check(
            "folder = '/s'\n[scrub]\nevery = '30 days'",
            "line 3: unknown field `every`",
        );
        check("folder = '/s\n", "line 1: ");
        check("", "nothing to serve");
        check(
            "folder = '/s'\ndrive = '/d'",
            "line 2: either a folder or a drive",
        );
    }
}

//! What the running system is told. In a folder that only stands for a system it is printed instead.

use crate::network::wanted::Country;
use crate::owner::ZONES;
use crate::programs::{self, IW, SYSTEMCTL};
use crate::root::Root;
use anyhow::Context;
use nix::sys::time::TimeSpec;
use nix::time::{ClockId, clock_settime};
use std::fmt;
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// Where the system looks for its time zone (localtime(5)), and where a system that can't be written to
/// links that to.
const LOCALTIME: &str = "/etc/localtime";
const LOCALTIME_RUN: &str = "/run/raspbox/localtime";

/// Read by modprobe(8) when the radio's module is loaded.
const MODPROBE: &str = "/run/modprobe.d/raspbox.conf";

/// The module, once it is loaded; then iw has to tell it.
const RADIO_MODULE: &str = "/sys/module/cfg80211";

/// What is added to the daemon's socket, which systemd opens.
const SOCKET: &str = "/run/systemd/system/raspbox.socket.d/port.conf";

/// The switches of radios, and an order to all of the kind Wi-Fi to be on: `struct rfkill_event` of
/// linux/rfkill.h with type RFKILL_TYPE_WLAN (1) and op RFKILL_OP_CHANGE_ALL (3).
const RFKILL: &str = "/dev/rfkill";
const RFKILL_WIFI_ON: [u8; 8] = [0, 0, 0, 0, 1, 3, 0, 0];

/// One thing to be told.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Effect {
    /// What time it is.
    Clock(SystemTime),
    /// What the machine is called.
    Name(String),
    /// Where it is, for its logs.
    TimeZone(String),
    /// Where it is, for its radio.
    Country(Country),
    /// Where FTP listens, other than at its own port.
    Port(u16),
    /// That its radio is to be used: Raspberry Pi OS has it off until a country is known.
    RadioOn,
}

impl Effect {
    /// Tells it.
    pub(super) fn perform(&self, root: &Root) -> anyhow::Result<()> {
        // A file in any system.
        match self {
            Effect::TimeZone(zone) => set_time_zone(root, zone)?,
            Effect::Country(country) => {
                let line = format!("options cfg80211 ieee80211_regdom={country}\n");
                super::write(root, MODPROBE, &line, 0o644)?;
            }
            Effect::Port(port) => {
                // The empty one takes away what the unit itself says (systemd.socket(5)).
                let text = format!("[Socket]\nListenStream=\nListenStream=0.0.0.0:{port}\n");
                super::write(root, SOCKET, &text, 0o644)?;
            }
            Effect::Clock(_) | Effect::Name(_) | Effect::RadioOn => {}
        }
        if !root.is_real() {
            let _ = writeln!(io::stdout(), "{self}");
            return Ok(());
        }
        match self {
            Effect::Clock(time) => {
                let since = time.duration_since(UNIX_EPOCH)?;
                clock_settime(ClockId::CLOCK_REALTIME, TimeSpec::from_duration(since))
                    .context("cannot set the clock")
            }
            Effect::Name(name) => {
                nix::unistd::sethostname(name).context("cannot set the machine's name")
            }
            Effect::TimeZone(_) => Ok(()),
            Effect::Country(country) => {
                let is_there = |path: &str| Path::new(path).exists();
                // Debian has iw in a package of its own.
                if is_there(RADIO_MODULE) && is_there(IW) {
                    programs::run(IW, &["reg", "set", &country.to_string()], "")?;
                }
                Ok(())
            }
            Effect::Port(_) => programs::run(SYSTEMCTL, &["daemon-reload"], ""),
            // No such device where there is no radio.
            Effect::RadioOn => match fs::write(RFKILL, RFKILL_WIFI_ON) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    Err(error).context("cannot switch on the Wi-Fi")
                }
                Ok(()) | Err(_) => Ok(()),
            },
        }
    }
}

impl fmt::Display for Effect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Effect::Clock(time) => {
                let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
                write!(f, "clock {}", since.as_secs())
            }
            Effect::Name(name) => write!(f, "name {name}"),
            Effect::TimeZone(zone) => write!(f, "timezone {zone}"),
            Effect::Country(country) => write!(f, "country {country}"),
            Effect::Port(port) => write!(f, "port {port}"),
            Effect::RadioOn => f.write_str("radio on"),
        }
    }
}

fn set_time_zone(root: &Root, zone: &str) -> anyhow::Result<()> {
    let target = Path::new(ZONES).join(zone);
    if !root.at(&target.to_string_lossy()).exists() {
        // Then it is UTC, or was said to be none.
        return Ok(());
    }
    let link = root.at(LOCALTIME);
    let now = fs::read_link(&link).ok();
    // Debian's own is "/usr/share/…", some write "../usr/share/…".
    let is_there = now
        .as_ref()
        .is_some_and(|now| now.ends_with(target.strip_prefix("/").unwrap_or(&target)));
    if is_there || (now.is_none() && !link.exists() && zone == "UTC") {
        return Ok(());
    }
    let link = match now {
        Some(now) if now == Path::new(LOCALTIME_RUN) => root.at(LOCALTIME_RUN),
        Some(_) | None => link,
    };
    let fresh = PathBuf::from(format!("{}.new", link.display()));
    let replace = || {
        if let Some(folder) = link.parent() {
            fs::create_dir_all(folder)?;
        }
        match fs::remove_file(&fresh) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
        symlink(&target, &fresh)?;
        fs::rename(&fresh, &link)
    };
    replace().with_context(|| format!("cannot set the time zone {zone}"))
}

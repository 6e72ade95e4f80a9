//! What the owner's file means: keys → [`Settings`], each key by itself.
//!
//! The file may say whatever the daemon's own configuration may ([`crate::config`], by whose rules that is
//! checked), but for what the appliance decides: what is served, where its state is, who its users are, and on which address it
//! listens. So there is one vocabulary, and a file is the daemon's if it says one of these
//! ([`is_the_daemons`]).

use super::file::{File, Problem, Value};
use crate::config;
use crate::network::address::{Fixed, name_server};
use crate::network::wanted::{Country, Key, Passphrase, Ssid};
use std::fmt;
use std::fmt::Write;
use std::net::Ipv4Addr;
use std::ops::Range;
use std::path::Path;
use toml::de::{DeTable, DeValue};

/// Where the drive is mounted.
const DRIVE: &str = "/srv/raspbox";

/// The daemon's state directory.
const STATE: &str = "/var/lib/raspbox";

/// What the appliance is called where nothing is said.
const NAME_DEFAULT: &str = "raspbox";

const TIMEZONE_DEFAULT: &str = "UTC";

/// FTP's own.
pub(crate) const PORT_DEFAULT: u16 = 21;

/// The password that keeps strangers in the same network out, in characters.
const PASSWORD_MIN_CHARS: usize = 8;
const PASSWORD_MAX_CHARS: usize = 128;

/// The longest name of a machine (RFC 1123, section 2.1, and RFC 1035, section 2.3.4).
const NAME_MAX_BYTES: usize = 63;

/// As many as resolv.conf(5) takes.
const NAME_SERVERS_MAX: usize = 3;

/// Keys of the daemon's that stand here as they stand there.
const DAEMON_KEYS: &[&str] = &["tls", "announce", "passive_ports", "keep_free_mib"];
const DAEMON_TABLES: &[&str] = &["versions", "scrub", "limits"];

/// Keys that only the daemon's own file has.
const DAEMON_ONLY: &[&str] = &["folder", "drive", "state", "listen", "allow_from", "user"];

const KEYS: &[&str] = &[
    "name", "password", "address", "gateway", "dns", "timezone", "port", "reset", "wifi",
];
const WIFI_KEYS: &[&str] = &["ssid", "password", "psk", "country", "hidden", "open"];

/// What the file says, with defaults for the rest.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Settings {
    /// The machine's name, by which it is found in the network.
    pub(crate) name: String,
    /// A password to be taken in.
    pub(crate) password: Option<Taken<Password>>,
    /// A name of the time zone database.
    pub(crate) timezone: String,
    /// A fixed address.
    pub(crate) fixed: Option<Fixed>,
    /// Name servers.
    pub(crate) dns: Vec<Ipv4Addr>,
    /// A wireless network.
    pub(crate) wifi: Option<Wifi>,
    /// Where FTP listens.
    pub(crate) port: u16,
    /// Whether what the appliance has learned shall be forgotten.
    pub(crate) reset: Option<Taken<()>>,
    /// What goes on to the daemon, in its own words.
    pub(crate) daemon: Daemon,
}

/// Something that is taken out of the file once it is kept elsewhere.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Taken<T> {
    /// What it is.
    pub(crate) value: T,
    /// Where it stands.
    pub(crate) at: Range<usize>,
}

/// A password to log in with.
#[derive(PartialEq, Eq)]
pub(crate) struct Password(String);

/// A wireless network as the file has it: its password may be known already.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Wifi {
    /// Its name.
    pub(crate) ssid: Ssid,
    /// What the file says of its key; `None`: as it was before.
    pub(crate) key: Option<Key>,
    /// Where the password stands, if it is one.
    pub(crate) at: Option<Range<usize>>,
    /// Whether it was told already that it is none.
    pub(crate) is_wrong: bool,
    /// The line of its name.
    pub(crate) line: usize,
    /// Where the radio is.
    pub(crate) country: Option<Country>,
    /// Whether it doesn't tell its name.
    pub(crate) hidden: bool,
}

/// Lines of the daemon's configuration.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Daemon {
    /// `key = value`.
    keys: Vec<String>,
    /// A table's name and its lines.
    tables: Vec<(&'static str, Vec<String>)>,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            name: NAME_DEFAULT.into(),
            password: None,
            timezone: TIMEZONE_DEFAULT.into(),
            fixed: None,
            dns: Vec::new(),
            wifi: None,
            port: PORT_DEFAULT,
            reset: None,
            daemon: Daemon::default(),
        }
    }
}

impl Settings {
    /// The configuration for `raspboxd serve --config`.
    pub(crate) fn for_daemon(&self) -> String {
        let mut text = format!(
            "# Made by 'raspboxd boot' at each start.\ndrive = \"{DRIVE}\"\nstate = \"{STATE}\"\n\
             listen = \"0.0.0.0:{}\"\n",
            self.port
        );
        self.daemon.write(&mut text);
        text
    }
}

impl Daemon {
    fn write(&self, text: &mut String) {
        for line in &self.keys {
            let _ = writeln!(text, "{line}");
        }
        for (name, lines) in &self.tables {
            let _ = writeln!(text, "[{name}]\n{}", lines.join("\n"));
        }
    }
}

impl Password {
    fn parse(text: &str) -> Result<Password, String> {
        let chars = text.chars().count();
        if !(PASSWORD_MIN_CHARS..=PASSWORD_MAX_CHARS).contains(&chars) {
            return Err(format!(
                "the password has {PASSWORD_MIN_CHARS} to {PASSWORD_MAX_CHARS} characters, this one \
                 has {chars}; it isn't used"
            ));
        }
        if text.chars().any(char::is_control) {
            return Err("a password is one line without tabs; it isn't used".into());
        }
        if text.trim() != text {
            return Err("the password begins or ends with a blank; it isn't used".into());
        }
        Ok(Password(text.into()))
    }

    /// The password itself.
    pub(crate) fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(…)")
    }
}

/// Whether a file is the daemon's own configuration.
pub(crate) fn is_the_daemons(file: &File) -> bool {
    let table = file.table();
    DAEMON_ONLY.iter().any(|key| table.contains_key(*key))
}

/// What a file says, and what is wrong with it, by lines. `zones` is the time zone database of this
/// machine, if it has one.
pub(crate) fn read(file: &File, zones: Option<&Path>) -> (Settings, Vec<Problem>) {
    let mut reading = Reading {
        file,
        problems: file.problems().to_vec(),
    };
    let settings = reading.settings(zones);
    let mut problems = reading.problems;
    problems.sort_by_key(|problem| problem.line);
    (settings, problems)
}

struct Reading<'a> {
    file: &'a File,
    problems: Vec<Problem>,
}

impl Reading<'_> {
    fn settings(&mut self, zones: Option<&Path>) -> Settings {
        let mut table = self.file.table();
        let mut settings = Settings::default();
        if let Some(name) = self.read(&mut table, "name", host_name) {
            settings.name = name.value;
        }
        settings.password = self.read(&mut table, "password", Password::parse);
        if let Some(zone) = self.read(&mut table, "timezone", |text| time_zone(text, zones)) {
            settings.timezone = zone.value;
        }
        self.addresses(&mut table, &mut settings);
        settings.wifi = self.wifi(&mut table);
        settings.reset = self.flag(&mut table, "reset");
        self.daemon(&mut table, &mut settings);
        for (key, value) in table {
            let (name, at) = (key.get_ref(), key.span());
            if DAEMON_ONLY.contains(&name.as_ref()) {
                let what = format!("{name} is decided by the appliance; leave it out");
                self.problem(&at, what);
            } else {
                let known = [KEYS, DAEMON_KEYS, DAEMON_TABLES].concat();
                // A header's own place is its brackets.
                let at = if value.get_ref().is_table() {
                    value.span()
                } else {
                    at
                };
                self.unknown(name, &at, &known);
            }
        }
        settings
    }

    fn addresses(&mut self, table: &mut DeTable<'_>, settings: &mut Settings) {
        let had_address = table.contains_key("address");
        settings.fixed = self
            .read(table, "address", Fixed::parse)
            .map(|fixed| fixed.value);
        match &mut settings.fixed {
            Some(fixed) => {
                let gateway = self.read(table, "gateway", |text| fixed.gateway(text));
                fixed.gateway = gateway.map(|gateway| gateway.value);
            }
            None => {
                // Where the address is wrong, that is said already.
                let gateway = self.read(table, "gateway", |text| Ok(text.to_owned()));
                if let Some(gateway) = gateway.filter(|_| !had_address) {
                    let what = "gateway counts only together with address; without one, the router \
                                says both";
                    self.problem(&gateway.at, what.into());
                }
            }
        }
        let Some(value) = table.remove("dns") else {
            return;
        };
        let at = value.span();
        let items = match value.into_inner() {
            DeValue::Array(items) => items.into_iter().collect(),
            single => vec![toml::Spanned::new(at.clone(), single)],
        };
        for item in items {
            if let Some(server) = self.text("dns", &item, name_server) {
                settings.dns.push(server.value);
            }
        }
        if settings.dns.len() > NAME_SERVERS_MAX {
            self.problem(
                &at,
                format!("only the first {NAME_SERVERS_MAX} name servers count"),
            );
            settings.dns.truncate(NAME_SERVERS_MAX);
        }
    }

    fn wifi(&mut self, table: &mut DeTable<'_>) -> Option<Wifi> {
        let mut table = self.table(table, "wifi")?;
        let ssid = self.read(&mut table, "ssid", Ssid::parse);
        let country = self.read(&mut table, "country", Country::parse);
        let hidden = self.flag(&mut table, "hidden").is_some();
        let open = self.flag(&mut table, "open");
        let told = self.problems.len();
        let password = self.read(&mut table, "password", Passphrase::parse);
        // The name that other programs have for it.
        let psk = self.read(&mut table, "psk", Passphrase::parse);
        let is_wrong = self.problems.len() > told;
        if let (Some(_), Some(psk)) = (&password, &psk) {
            let what = "psk is another word for password: say only one of them";
            self.problem(&psk.at, what.into());
        }
        let password = password.or(psk);
        for key in table.keys() {
            self.unknown(key.get_ref(), &key.span(), WIFI_KEYS);
        }
        if let (Some(open), Some(_)) = (&open, &password) {
            let what = "a Wi-Fi that is open has no password: say only one of them";
            self.problem(&open.at, what.into());
        }
        let ssid = match (ssid, &password) {
            (Some(ssid), _) => ssid,
            (None, Some(password)) => {
                let what = "the Wi-Fi's name is missing: write it like ssid = \"Our Wi-Fi\"";
                self.problem(&password.at, what.into());
                return None;
            }
            (None, None) => return None,
        };
        let at = password.as_ref().map(|password| password.at.clone());
        let key = match (password, open) {
            (Some(password), _) => Some(Key::Password(password.value)),
            (None, Some(_)) => Some(Key::Open),
            (None, None) => None,
        };
        Some(Wifi {
            line: self.file.line(&ssid.at),
            ssid: ssid.value,
            key,
            at,
            is_wrong,
            country: country.map(|country| country.value),
            hidden,
        })
    }

    fn daemon(&mut self, table: &mut DeTable<'_>, settings: &mut Settings) {
        for key in DAEMON_KEYS {
            if let Some(value) = table.remove(*key) {
                let line = format!("{key} = {}", self.file.source(&value.span()));
                if self.suits_daemon(&line, key, &value.span()) {
                    settings.daemon.keys.push(line);
                }
            }
        }
        for name in DAEMON_TABLES {
            let Some(table) = self.table(table, name) else {
                continue;
            };
            let mut lines = Vec::new();
            for (key, value) in table {
                let line = format!("{} = {}", key.get_ref(), self.file.source(&value.span()));
                if self.suits_daemon(&format!("[{name}]\n{line}"), key.get_ref(), &key.span()) {
                    lines.push(line);
                }
            }
            if !lines.is_empty() {
                settings.daemon.tables.push((name, lines));
            }
        }
        let Some(value) = table.remove("port") else {
            return;
        };
        match self.port(&value, settings) {
            Ok(port) => settings.port = port,
            Err(what) => self.problem(&value.span(), what),
        }
    }

    fn port(&self, value: &Value<'_>, settings: &Settings) -> Result<u16, String> {
        let number = value.get_ref().as_integer();
        let port = number.and_then(|number| number.as_str().parse().ok());
        let port: u16 = port
            .filter(|port| *port == PORT_DEFAULT || *port >= 1024)
            .ok_or_else(|| {
                format!(
                    "port is {PORT_DEFAULT}, or a number from 1024 to 65535 without quotation marks"
                )
            })?;
        let passive = config::parse(&settings.for_daemon()).map(|daemon| daemon.passive_ports);
        match passive {
            Ok(passive) if passive.contains(&port) => Err(format!(
                "{} to {} are for the transfers; choose another port",
                passive.start(),
                passive.end()
            )),
            _ => Ok(port),
        }
    }

    /// Whether the daemon would take a line.
    fn suits_daemon(&mut self, line: &str, key: &str, at: &Range<usize>) -> bool {
        match config::parse(&format!("folder = \"/\"\nstate = \"/\"\n{line}\n")) {
            Ok(_) => true,
            Err(what) => {
                let what = for_people(&what);
                let what = if what.contains(key) {
                    what
                } else {
                    format!("{key}: {what}")
                };
                self.problem(at, what);
                false
            }
        }
    }

    /// Takes a text out of a table; an empty one says nothing.
    fn read<T>(
        &mut self,
        table: &mut DeTable<'_>,
        key: &str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<Taken<T>> {
        let value = table.remove(key)?;
        self.text(key, &value, parse)
    }

    fn text<T>(
        &mut self,
        key: &str,
        value: &Value<'_>,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<Taken<T>> {
        let at = value.span();
        let Some(text) = value.get_ref().as_str() else {
            self.problem(&at, format!("put the value of {key} in quotation marks"));
            return None;
        };
        if text.is_empty() {
            return None;
        }
        match parse(text) {
            Ok(value) => Some(Taken { value, at }),
            Err(what) => {
                self.problem(&at, what);
                None
            }
        }
    }

    /// Takes `true` out of a table.
    fn flag(&mut self, table: &mut DeTable<'_>, key: &str) -> Option<Taken<()>> {
        let value = table.remove(key)?;
        let at = value.span();
        let Some(flag) = value.get_ref().as_bool() else {
            self.problem(
                &at,
                format!("{key} is true or false, without quotation marks"),
            );
            return None;
        };
        flag.then_some(Taken { value: (), at })
    }

    fn table<'t>(&mut self, table: &mut DeTable<'t>, key: &str) -> Option<DeTable<'t>> {
        let value = table.remove(key)?;
        let at = value.span();
        match value.into_inner() {
            DeValue::Table(table) => Some(table),
            _ => {
                self.problem(
                    &at,
                    format!("{key} is a part of its own: write [{key}] on a line"),
                );
                None
            }
        }
    }

    fn unknown(&mut self, name: &str, at: &Range<usize>, known: &[&str]) {
        let near = known
            .iter()
            .map(|known| {
                (
                    strsim::damerau_levenshtein(known, &name.to_lowercase()),
                    known,
                )
            })
            .min()
            .filter(|(distance, _)| *distance <= 2);
        let hint = match near {
            Some((_, near)) => format!("; did you mean {near}?"),
            None if known == WIFI_KEYS && KEYS.contains(&name) => {
                "; it has to stand above the line [wifi]".into()
            }
            None => String::new(),
        };
        self.problem(at, format!("there is no setting {name:?} here{hint}"));
    }

    fn problem(&mut self, at: &Range<usize>, what: String) {
        let line = Some(self.file.line(at));
        self.problems.push(Problem { line, what });
    }
}

/// A name by RFC 1123, section 2.1; of one part, since the network adds the rest.
fn host_name(text: &str) -> Result<String, String> {
    let good = text.len() <= NAME_MAX_BYTES
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        && !text.starts_with('-')
        && !text.ends_with('-')
        // Else it could be a number of an address.
        && text.bytes().any(|byte| byte.is_ascii_alphabetic());
    if !good {
        return Err(format!(
            "{text:?} is no name for a machine: use up to {NAME_MAX_BYTES} letters from a to z, digits \
             and hyphens, with a letter among them and no hyphen at the ends"
        ));
    }
    let name = text.to_ascii_lowercase();
    if name == "localhost" {
        return Err("localhost is what every machine calls itself; choose another name".into());
    }
    Ok(name)
}

fn time_zone(text: &str, zones: Option<&Path>) -> Result<String, String> {
    let good = !text.starts_with('/')
        && text.split('/').all(|part| {
            !part.is_empty()
                && part
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || b"_+-".contains(&byte))
        })
        && zones.is_none_or(|zones| zones.join(text).is_file());
    if good {
        Ok(text.into())
    } else {
        Err(format!(
            "{text:?} is no time zone; write it like Europe/Berlin, America/New_York or UTC"
        ))
    }
}

/// What serde says, for people.
fn for_people(what: &str) -> String {
    let mut what = what.to_owned();
    for number in ["u16", "u32", "u64", "usize"] {
        what = what.replace(
            &format!("expected {number}"),
            "expected a whole number without quotation marks",
        );
    }
    what
}

/// Every key of the owner's own, in the words of TOML, but for second words. The daemon's are in its
/// [`config`].
#[cfg(test)]
pub(super) fn all_keys() -> Vec<String> {
    let wifi = WIFI_KEYS.iter().filter(|key| **key != "psk");
    let own = KEYS.iter().chain(DAEMON_KEYS).filter(|key| **key != "wifi");
    let tables = [
        "versions.all_days",
        "scrub.every_days",
        "limits.max_sessions",
    ];
    own.map(ToString::to_string)
        .chain(wifi.map(|key| format!("wifi.{key}")))
        .chain(tables.map(ToString::to_string))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::{Settings, read};
    use crate::owner::file::File;

    fn settings(text: &str) -> (Settings, Vec<String>) {
        let zones = tempfile::tempdir().unwrap();
        std::fs::create_dir(zones.path().join("Europe")).unwrap();
        std::fs::write(zones.path().join("Europe/Berlin"), "").unwrap();
        std::fs::write(zones.path().join("UTC"), "").unwrap();
        let (settings, problems) = read(&File::parse(text.into()), Some(zones.path()));
        (settings, problems.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn everything_is_understood() {
        let (read, problems) = settings(
            "\u{feff}name = 'Attic-Pi2'\r\npassword = 'correct horse'\r\naddress = '192.168.1.50/24'\r\n\
             gateway = '192.168.1.1'\r\ndns = ['9.9.9.9', '192.168.1.1']\r\ntimezone = 'Europe/Berlin'\r\n\
             port = 2121\r\nreset = true\r\ntls = 'optional'\r\nkeep_free_mib = 1_000\r\n[wifi]\r\n\
             ssid = 'Our \u{1f4e1}'\r\npsk = '12345678'\r\ncountry = 'de'\r\nhidden = true\r\n\
             [versions]\r\nall_days = 7\r\n[scrub]\r\nevery_days = 0\r\n",
        );
        assert_eq!(problems, [""; 0]);
        assert_eq!(read.name, "attic-pi2");
        assert_eq!(
            read.password.as_ref().unwrap().value.reveal(),
            "correct horse"
        );
        assert_eq!(
            read.fixed.unwrap().gateway.unwrap().to_string(),
            "192.168.1.1"
        );
        assert_eq!(read.dns.len(), 2);
        assert_eq!(read.timezone, "Europe/Berlin");
        assert!(read.reset.is_some());
        let wifi = read.wifi.as_ref().unwrap();
        assert_eq!(
            (wifi.ssid.as_str(), wifi.line, wifi.hidden),
            ("Our \u{1f4e1}", 12, true)
        );
        assert!(wifi.key.is_some() && wifi.at.is_some());
        assert_eq!(
            read.for_daemon(),
            "# Made by 'raspboxd boot' at each start.\ndrive = \"/srv/raspbox\"\n\
             state = \"/var/lib/raspbox\"\nlisten = \"0.0.0.0:2121\"\ntls = 'optional'\n\
             keep_free_mib = 1_000\n[versions]\nall_days = 7\n[scrub]\nevery_days = 0\n"
        );
    }

    #[test]
    fn one_wrong_value_takes_no_other_with_it() {
        let (read, problems) = settings(
            "name = 'my box'\npassword = 'short'\naddress = '192.168.1.0/24'\ngateway = '192.168.1.1'\n\
             dns = ['9.9.9.9', '127.0.0.1', 5, '1.1.1.1']\ntimezone = 'Europe/Berlln'\nport = '21'\n\
             keep_free_mib = 'a'\ntls = 'required'\npasword = 'x'\n[wifi]\nssid = 'x'\npassword = 'y'\n\
             country = 'Germany'\nname = 'z'\n[versions]\nall_days = 0\ndaily_days = 3\nhourly = 1\n",
        );
        let expect = [
            "line 1: \"my box\" is no name for a machine",
            "line 2: the password has 8 to 128 characters, this one has 5",
            "line 3: 192.168.1.0 is the network's own address; choose one from 192.168.1.1 to 192.168.1.254",
            "line 5: 127.0.0.1 always means the machine itself",
            "line 5: put the value of dns in quotation marks",
            "line 6: \"Europe/Berlln\" is no time zone",
            "line 7: port is 21, or a number from 1024 to 65535 without quotation marks",
            "line 8: keep_free_mib: invalid type: string \"a\", expected a whole number",
            "line 10: there is no setting \"pasword\" here; did you mean password?",
            "line 13: the password of a Wi-Fi has 8 to 63 characters; this one has 1",
            "line 14: \"Germany\" is no country",
            "line 15: there is no setting \"name\" here; it has to stand above the line [wifi]",
            "line 17: all_days must be at least 1",
            "line 19: unknown field `hourly`",
        ];
        assert_eq!(problems.len(), expect.len(), "{problems:#?}");
        for (said, expect) in problems.iter().zip(expect) {
            assert!(
                said.starts_with(expect),
                "expected {expect:?}, said {said:?}"
            );
        }
        assert_eq!((read.name.as_str(), read.port), ("raspbox", 21));
        assert_eq!((read.password.as_ref(), read.fixed), (None, None));
        let dns: Vec<String> = read.dns.iter().map(ToString::to_string).collect();
        assert_eq!(dns, ["9.9.9.9", "1.1.1.1"]);
        // Nobody gets into a Wi-Fi by a password that can't be one, but its name is known.
        assert_eq!(read.wifi.as_ref().unwrap().key, None);
        assert!(
            read.for_daemon()
                .ends_with("tls = 'required'\n[versions]\ndaily_days = 3\n")
        );
    }

    #[test]
    fn what_is_wrong_is_said_with_its_line() {
        let check = |text: &str, expect: &str| {
            let (_, problems) = settings(text);
            assert_eq!(problems.len(), 1, "{text}: {problems:?}");
            assert!(problems[0].starts_with(expect), "{text}: {problems:?}");
        };
        for name in ["-a", "a-", "a.b", "a_b", "b\u{f6}x", "123", &"x".repeat(64)] {
            check(&format!("\nname = '{name}'"), "line 2: \"");
        }
        check(
            "name = 'localhost'",
            "line 1: localhost is what every machine",
        );
        check(
            "name = 5",
            "line 1: put the value of name in quotation marks",
        );
        check(
            "password = ' 12345678'",
            "line 1: the password begins or ends with a blank",
        );
        check(
            "password = \"1234\\t5678\"",
            "line 1: a password is one line without tabs",
        );
        check(
            "gateway = '192.168.1.1'",
            "line 1: gateway counts only together with address",
        );
        check(
            "address = '1.2.3.4'\ngateway = 'x'",
            "line 1: 1.2.3.4 lacks the size",
        );
        check(
            "address = '10.0.0.2/24'\ngateway = '10.0.1.1'",
            "line 2: 10.0.1.1 is in another network",
        );
        check(
            "dns = ['1.1.1.1', '1.1.1.2', '1.1.1.3', '1.1.1.4']",
            "line 1: only the first 3",
        );
        check(
            "timezone = '../etc/passwd'",
            "line 1: \"../etc/passwd\" is no time zone",
        );
        check(
            "timezone = '/etc/passwd'",
            "line 1: \"/etc/passwd\" is no time zone",
        );
        check("timezone = 'Europe'", "line 1: \"Europe\" is no time zone");
        check("port = 22", "line 1: port is 21, or");
        check("port = 65536", "line 1: port is 21, or");
        check(
            "port = 61500",
            "line 1: 61000 to 61999 are for the transfers",
        );
        check(
            "passive_ports = '2000-2100'\nport = 2100",
            "line 2: 2000 to 2100 are for",
        );
        check("reset = 'true'", "line 1: reset is true or false");
        check("wifi = 'x'", "line 1: wifi is a part of its own");
        check(
            "[wifi]\npassword = '12345678'",
            "line 2: the Wi-Fi's name is missing",
        );
        check(
            "[wifi]\nssid = 'x'\npassword = '12345678'\nopen = true",
            "line 4: a Wi-Fi that is open",
        );
        check(
            "[wifi]\nssid = 'x'\npassword = '12345678'\npsk = '12345679'",
            "line 4: psk is another",
        );
        check(
            "[wfi]\nssid = 'x'",
            "line 1: there is no setting \"wfi\" here; did you mean wifi?",
        );
        check(
            "folder = '/srv'",
            "line 1: folder is decided by the appliance",
        );
        check(
            "[[user]]\nname = 'x'",
            "line 1: user is decided by the appliance",
        );
        check("passive_ports = '40000-40010'", "line 1: passive_ports = ");
        check("tls = 'no'", "line 1: tls: unknown variant `no`");
    }
}

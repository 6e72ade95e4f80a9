//! What is told of a boot: `/run/raspbox/boot.json` for the other parts, and the page
//! `raspbox-status.txt` beside the owner's file for people.

use super::remembered::Remembered;
use super::{CARD, RUN};
use crate::network::Report;
use crate::network::address::Fixed;
use crate::network::wanted::{Key, Wanted};
use crate::owner::settings::Settings;
use crate::root::Root;
use crate::whole;
use anyhow::Context;
use serde::{Deserialize, Serialize};
use std::fmt::Write;

/// The file for the other parts.
const FILE: &str = "boot.json";
const FILE_MAX_BYTES: u64 = 256 << 10;

/// The page's name.
pub(super) const PAGE: &str = "raspbox-status.txt";

/// What came of a boot.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Told {
    /// What is wrong, each with its file and line where it has one.
    pub(crate) problems: Vec<String>,
    /// The address that was wanted.
    #[serde(default)]
    pub(crate) fixed: Option<Fixed>,
    /// What goes on the page; `None` where there is no card to put it on.
    pub(crate) page: Option<Page>,
}

/// What was understood.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Page {
    /// The file's name.
    file: String,
    /// The machine's name.
    name: String,
    /// FTP's port.
    port: u16,
    /// Names and values, as they are shown.
    settings: Vec<(String, String)>,
    /// Whether anybody can log in by a password of the owner's.
    has_password: bool,
}

impl Told {
    /// What is told of settings.
    pub(super) fn of(
        file: &str,
        settings: &Settings,
        wanted: &Wanted,
        remembered: &Remembered,
    ) -> Told {
        let address = match wanted.fixed {
            None => "from the router (DHCP)".to_owned(),
            Some(fixed) => {
                let router = match fixed.gateway {
                    Some(gateway) => format!(", router {gateway}"),
                    None => String::new(),
                };
                format!("{}/{}{router}", fixed.address, fixed.prefix)
            }
        };
        let password = if remembered.has_password {
            "taken in"
        } else {
            "none yet"
        };
        let wifi = match (&wanted.wifi, &settings.wifi) {
            (None, None) => "none".to_owned(),
            (None, Some(said)) => format!("{:?}, not used: no password", said.ssid.as_str()),
            (Some(wifi), _) => {
                let key = match wifi.key {
                    Key::Open => "open",
                    Key::Password(_) => "password taken in",
                };
                format!("{:?}, {key}", wifi.ssid.as_str())
            }
        };
        let shown = [
            ("name", settings.name.clone()),
            ("password", password.to_owned()),
            ("address", address),
            ("Wi-Fi", wifi),
            ("port", settings.port.to_string()),
            ("time zone", settings.timezone.clone()),
        ];
        Told {
            problems: Vec::new(),
            fixed: wanted.fixed,
            page: Some(Page {
                file: file.into(),
                name: settings.name.clone(),
                port: settings.port,
                settings: shown.map(|(name, value)| (name.to_owned(), value)).into(),
                has_password: remembered.has_password,
            }),
        }
    }

    /// Tells it, before the network is there.
    pub(super) fn write(&self, root: &Root) -> anyhow::Result<()> {
        root.say(FILE, self)
            .with_context(|| format!("cannot write {RUN}/{FILE}"))?;
        self.write_page(root, None)
    }

    /// What was told at the last boot; `None` where there was none.
    pub(crate) fn read(root: &Root) -> Option<Told> {
        root.said(FILE)
    }

    /// Writes the page, where it isn't the same already.
    pub(crate) fn write_page(&self, root: &Root, network: Option<&Report>) -> anyhow::Result<()> {
        let path = root.at(CARD).join(PAGE);
        let now = whole::read(&path, FILE_MAX_BYTES).ok().flatten();
        let now = now.and_then(|now| String::from_utf8(now).ok());
        let text = match &self.page {
            // Where all else is the same, what it said of the network last may stand until that is there.
            Some(page)
                if network.is_none() && now.is_some_and(|now| page.is_on(&now, &self.problems)) =>
            {
                return Ok(());
            }
            Some(page) => page.text(&self.problems, network),
            None => return Ok(()),
        };
        // As the editors of all systems show it.
        let text = text.replace('\n', "\r\n");
        whole::write_changed(&path, text.as_bytes(), 0o644)
            .with_context(|| format!("cannot write {PAGE}"))
    }
}

/// Headings of the page.
const NETWORK: &str = "NETWORK";
const HOW: &str = "HOW TO GO ON";

impl Page {
    /// Whether a page says the same, whatever it says of the network.
    fn is_on(&self, now: &str, problems: &[String]) -> bool {
        let but_network = |text: &str| -> Vec<String> {
            let lines = text.lines().map(|line| line.trim_end().to_owned());
            let (mut kept, mut skip) = (Vec::new(), false);
            for line in lines {
                skip = (skip || line == NETWORK) && line != HOW;
                if !skip {
                    kept.push(line);
                }
            }
            kept
        };
        but_network(now) == but_network(&self.text(problems, None))
    }

    fn text(&self, problems: &[String], network: Option<&Report>) -> String {
        let mut text = format!(
            "raspbox: what came of {} at the last start\n\n\
             (raspbox writes this file; what you write into it has no effect.)\n\n",
            self.file
        );
        if problems.is_empty() {
            text.push_str("No problems.\n");
        } else {
            text.push_str("PROBLEMS (everything else counts)\n\n");
            for problem in problems {
                let _ = writeln!(text, "  {problem}");
            }
        }
        text.push_str("\nSETTINGS\n\n");
        for (name, value) in &self.settings {
            let _ = writeln!(text, "  {name:<10} {value}");
        }
        let network = match network {
            Some(report) => report.line.as_str(),
            None => "not known yet: it was just starting",
        };
        let _ = write!(text, "\n{NETWORK}\n\n  {network}\n\n{HOW}\n\n");
        let (name, file) = (&self.name, &self.file);
        let port = match self.port {
            21 => String::new(),
            port => format!(":{port}"),
        };
        if !self.has_password {
            let _ = writeln!(
                text,
                "  Write a password into {file}, put the card back, and start it again:\n\
                 \x20     password = \"...\"\n"
            );
        }
        let _ = writeln!(
            text,
            "  On each computer:          raspbox pair {name}.local{port}\n\
             \x20 With any FTP program:      {name}.local, port {}, explicit TLS, user raspbox",
            self.port
        );
        text
    }
}

#[cfg(test)]
mod tests {
    use super::{Page, Told};
    use crate::network::Report;
    use crate::root::Root;

    fn told() -> Told {
        Told {
            problems: vec!["raspbox.toml line 7: no".into()],
            fixed: None,
            page: Some(Page {
                file: "raspbox.toml".into(),
                name: "attic".into(),
                port: 2121,
                settings: vec![("name".into(), "attic".into())],
                has_password: false,
            }),
        }
    }

    #[test]
    fn the_page_is_for_people_on_any_system() {
        let temp = tempfile::tempdir().unwrap();
        let root = Root::new(temp.path().into());
        let path = root.at("/boot/firmware/raspbox-status.txt");
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let report = Report {
            line: "192.168.1.50 static".into(),
            ok: true,
        };
        told().write_page(&root, Some(&report)).unwrap();
        let page = std::fs::read_to_string(&path).unwrap();
        assert!(page.lines().all(|line| line.chars().count() <= 100));
        assert_eq!(page.matches('\n').count(), page.matches("\r\n").count());
        for expect in [
            "\r\n  raspbox.toml line 7: no\r\n",
            "\r\n  192.168.1.50 static\r\n",
            "raspbox pair attic.local:2121\r\n",
            "password = \"...\"\r\n",
        ] {
            assert!(page.contains(expect), "{page}");
        }
        // The card is spared.
        let written = || std::fs::metadata(&path).unwrap().modified().unwrap();
        let before = written();
        told().write_page(&root, Some(&report)).unwrap();
        assert_eq!(written(), before);
    }

    #[test]
    fn a_machine_without_an_owners_file_gets_no_page() {
        let temp = tempfile::tempdir().unwrap();
        let root = Root::new(temp.path().into());
        Told::default().write_page(&root, None).unwrap();
        assert_eq!(std::fs::read_dir(temp.path()).unwrap().count(), 0);
    }
}

//! What was taken out of the owner's file and is needed at each start: root's, since the daemon needs none
//! of it.

use crate::network::wanted::{Passphrase, Ssid};
use crate::root::Root;
use crate::whole;
use anyhow::Context;
use serde::{Deserialize, Serialize};
use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;

/// Where it is; nobody else gets into it.
pub(super) const FOLDER: &str = "/var/lib/raspbox-boot";
const FILE: &str = "/var/lib/raspbox-boot/remembered.toml";

const FILE_MAX_BYTES: u64 = 4 << 10;

/// All of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Remembered {
    /// Whether the owner has given a password to log in with.
    #[serde(default)]
    pub(super) has_password: bool,
    /// The hash of a file whose `reset` was done, but could not be made false in it.
    pub(super) reset_of: Option<String>,
    wifi: Option<Wifi>,
}

#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Wifi {
    ssid: String,
    password: String,
}

impl std::fmt::Debug for Wifi {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Wifi({:?})", self.ssid)
    }
}

impl Remembered {
    /// What was remembered last; nothing where nothing was yet.
    pub(super) fn read(root: &Root) -> anyhow::Result<Remembered> {
        let read = || -> anyhow::Result<Remembered> {
            match whole::read(&root.at(FILE), FILE_MAX_BYTES)? {
                Some(content) => Ok(toml::from_str(std::str::from_utf8(&content)?)?),
                None => Ok(Remembered::default()),
            }
        };
        read().with_context(|| format!("cannot read {FILE}"))
    }

    /// Remembers durably.
    pub(super) fn write(&self, root: &Root) -> anyhow::Result<()> {
        let write = || -> anyhow::Result<()> {
            DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(root.at(FOLDER))?;
            let text = toml::to_string(self).expect("it is plain data");
            whole::write(&root.at(FILE), text.as_bytes(), 0o600)?;
            Ok(())
        };
        write().with_context(|| format!("cannot write {FILE}"))
    }

    /// The password of a Wi-Fi, if it is the one that is known.
    pub(super) fn password_of(&self, ssid: &Ssid) -> Option<Passphrase> {
        let wifi = self.wifi.as_ref()?;
        (wifi.ssid == ssid.as_str()).then(|| Passphrase::parse(&wifi.password).ok())?
    }

    /// Remembers the password of a Wi-Fi, instead of any other.
    pub(super) fn set_password_of(&mut self, ssid: &Ssid, password: &Passphrase) {
        self.wifi = Some(Wifi {
            ssid: ssid.as_str().into(),
            password: password.reveal().into(),
        });
    }
}

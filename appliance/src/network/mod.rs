//! The network: what the owner wants of it, as files for NetworkManager, and what came of it.
//!
//! NetworkManager does the work (duplicate addresses, DHCP, routes, Wi-Fi); nothing here talks to the
//! network. `wanted` and `address` are the wish, `files` what it becomes; `look` is what is there,
//! `describe` the two in one line for people, `watch` says it again whenever it changes.

pub(crate) mod address;
mod describe;
pub(crate) mod files;
mod look;
pub(crate) mod wanted;
pub(crate) mod watch;

use crate::boot::RUN;
use crate::root::Root;
use crate::whole;
use serde::{Deserialize, Serialize};

/// The file's name, beside the other reports.
const FILE: &str = "network.json";
const FILE_MAX_BYTES: u64 = 4 << 10;

/// How the machine can be reached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Report {
    /// In words.
    pub(crate) line: String,
    /// Whether it is as it was wanted.
    pub(crate) ok: bool,
}

/// How the machine can be reached, as it was said last; `None` where nobody says it.
pub(crate) fn report() -> Option<Report> {
    Report::read(&Root::new("/".into()))
}

impl Report {
    fn read(root: &Root) -> Option<Report> {
        let content = whole::read(&root.at(RUN).join(FILE), FILE_MAX_BYTES).ok()??;
        serde_json::from_slice(&content).ok()
    }

    fn write(&self, root: &Root) -> std::io::Result<()> {
        let json = serde_json::to_vec_pretty(self).expect("it is plain data");
        whole::write(&root.at(RUN).join(FILE), &json, 0o644)
    }
}

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

use crate::root::Root;
use serde::{Deserialize, Serialize};

/// The file's name, beside the other reports.
const FILE: &str = "network.json";

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
    Root::new("/".into()).said(FILE)
}

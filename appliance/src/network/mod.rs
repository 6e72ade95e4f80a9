//! The network: what the owner wants of it, as files for NetworkManager, and what came of it.
//!
//! NetworkManager does the work (duplicate addresses, DHCP, routes, Wi-Fi); nothing here talks to the
//! network. `wanted` and `address` are the wish, `files` what it becomes.

pub(crate) mod address;
pub(crate) mod files;
pub(crate) mod wanted;

use serde::{Deserialize, Serialize};

/// How the machine can be reached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Report {
    /// In words.
    pub(crate) line: String,
    /// Whether it is as it was wanted.
    pub(crate) ok: bool,
}

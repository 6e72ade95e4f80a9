//! What all sessions have in common.

use crate::accounts::Accounts;
use crate::config::Settings;
use crate::drive::slot::Slot;
use crate::registry::Registry;
use crate::tls::Identity;
use std::sync::Arc;
use tokio::runtime::Handle;

/// The daemon, as its sessions see it.
#[derive(Debug)]
pub(crate) struct Shared {
    /// How it was told to behave.
    pub(crate) settings: Settings,
    /// The drive, while there is one.
    pub(crate) slot: Slot,
    /// Who may come in.
    pub(crate) accounts: Arc<Accounts>,
    /// The certificate.
    pub(crate) identity: Identity,
    /// All sessions.
    pub(crate) registry: Arc<Registry>,
    /// The main runtime, whose blocking threads have a limit for all sessions together.
    pub(crate) main: Handle,
}

//! What all sessions have in common.

use crate::accounts::Accounts;
use crate::config::Settings;
use crate::registry::Registry;
use crate::tls::Identity;
use raspbox_protocol::Cursor;
use raspbox_store::Store;
use std::sync::Arc;
use tokio::runtime::Handle;
use tokio::sync::watch;

/// The daemon, as its sessions see it.
#[derive(Debug)]
pub(crate) struct Shared {
    /// How it was told to behave.
    pub(crate) settings: Settings,
    /// The files.
    pub(crate) store: Store,
    /// Who may come in.
    pub(crate) accounts: Arc<Accounts>,
    /// The certificate.
    pub(crate) identity: Identity,
    /// All sessions.
    pub(crate) registry: Arc<Registry>,
    /// The journal's newest position, as it moves.
    pub(crate) changes: watch::Receiver<Cursor>,
    /// The main runtime, whose blocking threads have a limit for all sessions together.
    pub(crate) main: Handle,
}

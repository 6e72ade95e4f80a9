//! The drive: what is served of it, and the commands that attach, release and make one.
//!
//! Two programs meet here, and share only files in `/run/raspbox`. The daemon (`slot`, `keep`) has no
//! rights: it looks what is mounted and serves that. `raspboxd drive …` (`attach`, `format`) runs as
//! root for a moment, started by udev and systemd or by a person, and is the only one to check, mount
//! and unmount. Neither ever makes a filesystem unasked.

pub(crate) mod attach;
pub(crate) mod checked;
pub(crate) mod format;
pub(crate) mod found;
pub(crate) mod health;
pub(crate) mod keep;
pub(crate) mod listed;
pub(crate) mod mounts;
pub(crate) mod own;
pub(crate) mod report;
pub(crate) mod slot;

/// Where root's commands tell the daemon what they did.
pub(crate) const RUN_DIR: &str = "/run/raspbox";

//! The workstation's agent: keeps folders in sync with an appliance or an ordinary FTP server.
//!
//! See `ARCHITECTURE.md` for the map. The decisions are in `raspbox-core`; here is what looks and
//! what does.

pub mod remote;

//! The workstation's agent: keeps folders in sync with an appliance or an ordinary FTP server.
//!
//! See `ARCHITECTURE.md` for the map. The decisions are in `raspbox-core`; here is what looks and
//! what does.

mod arrived;
pub mod chunks;
pub mod cli;
mod commands;
mod disk;
pub mod display;
pub mod engine;
pub mod ignores;
mod keep;
pub mod local;
mod look;
pub mod pairs;
mod pull;
mod push;
pub mod remote;
pub mod report;
pub mod scan;
mod seal;
pub mod service;
pub mod state;
pub mod times;
pub mod verify;
pub mod watch;

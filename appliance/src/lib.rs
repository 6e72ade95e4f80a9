//! The daemon `raspboxd`: accounts, TLS and FTP over the store of `raspbox-store`.
//!
//! [`cli::run`] is the whole program. See `ARCHITECTURE.md` for the code map and the invariants.

pub mod cli;
#[cfg(feature = "fuzz")]
pub mod fuzz;

mod accounts;
mod announce;
mod backend;
mod board;
mod boot;
mod clock;
mod config;
mod datachan;
mod devices;
mod door;
mod download;
mod drive;
mod feeds;
mod guesses;
mod idle;
mod listing;
mod maintenance;
mod network;
mod origins;
mod owner;
mod pairing;
mod permissions;
mod pipe;
mod place;
mod ports;
mod programs;
mod received;
mod registry;
mod reply;
mod rest;
mod retention;
mod root;
mod scrub;
mod serve;
mod session;
mod shared;
mod site;
mod stamp;
mod state;
mod status;
mod tls;
mod upload;
mod users;
mod verbs;
mod versions;
mod whole;

//! The daemon as a process, talked to over real sockets on loopback.

// tests/hostile uses the rest of it.
#[allow(dead_code)]
mod client;
mod harness;

mod announce;
mod boot;
mod command_line;
mod data_channel;
mod devices;
mod drive;
mod files;
mod limits;
mod login;
mod pairing;
mod permissions;
mod scrub;
mod special;
mod stop;
mod versions;

//! Workstations and an appliance in one thread, on simulated disks, clocks and networks.
//!
//! A [`scenario::Scenario`] is a list of what people do and what goes wrong. [`world::run`] plays it
//! on the real engine and the real store and judges what comes of it; the same scenario always
//! gives the same trace. [`generate::scenario`] makes one of a seed, [`shrink::shrink`] a small one
//! of one that failed.

pub mod agree;
pub mod generate;
pub mod outcome;
pub mod real;
pub mod scenario;
pub mod shrink;
pub mod world;

mod alike;
mod disks;
mod kept;
mod oracle;
mod place;
mod server;
